"""Bootstrap of weighted, stratified cells: the spread over other cells of the same strata.

Cells are often drawn by stratum (so many dim ones, so many bright ones) and carry the weight of
their stratum. Each draw takes n - 1 cells of a stratum of n, with replacement, and scales their
weight by n / (n - 1) (Rao and Wu, 1988), so that the strata keep their share and the variance is
not too small. Only the counts of equal cells matter, so a draw is a multinomial number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.stats.classification import TN
from panimbus.core.types import Array

_CHUNK = 4_000_000


def strata(weights: Array) -> npt.NDArray[np.intp]:
    """Strata of one marker's cells: cells of equal weight were drawn together.

    A stratum of one cell joins that of the next higher weight. All cells are one stratum where
    weights hardly repeat (more than a third as many weights as cells).

    Examples
    --------
    >>> import numpy as np
    >>> strata(np.array([2.0, 8.0, 2.0, 8.0, 2.0, 8.0, 2.0]))
    array([0, 1, 0, 1, 0, 1, 0])
    """
    values, at, count = np.unique(
        np.asarray(weights, np.float64), return_inverse=True, return_counts=True
    )
    if len(values) * 3 > len(at):
        return np.zeros(len(at), np.intp)
    group = np.arange(len(values))
    for k in range(len(values) - 1):
        if count[group == group[k]].sum() < 2:
            group[group == group[k]] = group[k + 1]
    if len(group) > 1 and count[group == group[-1]].sum() < 2:
        group[-1] = group[-2]
    return np.unique(group, return_inverse=True)[1][at].astype(np.intp)


def bootstrap_confusion(
    codes: npt.NDArray[np.int8],
    weights: Array,
    groups: Array,
    *,
    draws: int = 1000,
    seed: int | list[int] = 0,
) -> npt.NDArray[np.float64]:
    """Confusion tables of each draw.

    Parameters
    ----------
    codes : (n, M) int8
        `outcomes` of M methods on the same cells. Cells are drawn, so differences between methods
        are paired.
    weights : (n,) number
    groups : (n,) integer
        Stratum of each cell.
    draws
    seed

    Returns
    -------
    (draws, M, 4) float64
    """
    if codes.ndim != 2 or len(codes) != len(weights) or len(codes) != len(groups):
        raise InputError(
            "Outcomes, weights and strata are not aligned.",
            got=f"{codes.shape}, {len(weights)}, {len(groups)}",
        )
    rng = np.random.default_rng(seed)
    methods = codes.shape[1]
    out = np.zeros((draws, methods, 4))
    key = np.column_stack([np.asarray(weights, np.float64), codes])
    for group in np.unique(groups):
        kinds, count = np.unique(key[groups == group], axis=0, return_counts=True)
        n = int(count.sum())
        take, scale = (n - 1, n / (n - 1)) if n > 1 else (1, 1.0)
        step = max(1, _CHUNK // len(kinds))
        for start in range(0, draws, step):
            drawn = rng.multinomial(take, count / n, size=min(step, draws - start)) * (
                kinds[:, 0] * scale
            )
            for m in range(methods):
                for outcome in range(TN + 1):
                    out[start : start + step, m, outcome] += drawn[
                        :, kinds[:, m + 1] == outcome
                    ].sum(1)
    return out


def interval(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of draws, NaN left out; (NaN, NaN) if none is left."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
