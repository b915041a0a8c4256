"""How well scores rank positive cells above negative ones."""

from __future__ import annotations

import math

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.stats.classification import aligned
from panimbus.core.types import Array, Float64Array


def auc(scores: Array, truth: Array, weights: Array | None = None) -> float:
    """Area under the ROC curve.

    The probability that a positive cell scores above a negative one; ties count one half.

    Parameters
    ----------
    scores : (n,) number
    truth : (n,) integer or bool
        1 positive, 0 negative, anything else not judged.
    weights : (n,) number, optional

    Returns
    -------
    float
        NaN with one class only.

    Examples
    --------
    >>> import numpy as np
    >>> auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]))
    0.875
    """
    _, plus, minus = _by_value(scores, truth, weights)
    if plus.sum() <= 0 or minus.sum() <= 0:
        return float("nan")
    below = np.cumsum(minus) - minus
    return float((plus * (below + minus / 2)).sum() / (plus.sum() * minus.sum()))


def auc_interval(
    positive: Float64Array, negative: Float64Array, level: float = 0.95
) -> tuple[float, float, float]:
    """Area under the ROC curve with its interval after DeLong et al. (1988).

    Parameters
    ----------
    positive : (p,) float64
        Values of the positive cells.
    negative : (q,) float64
    level
        Of the interval.

    Returns
    -------
    auc, low, high
        NaN where a class is empty; the interval is NaN where a class has one value.

    Examples
    --------
    >>> import numpy as np
    >>> auc_interval(np.array([2.0, 3.0]), np.array([1.0, 2.0]))[0]
    0.875
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    p, q = len(positive), len(negative)
    if not p or not q:
        return math.nan, math.nan, math.nan
    together = rankdata(np.concatenate([positive, negative]))
    above = (together[:p] - rankdata(positive)) / q  # share of the negatives below each positive
    below = 1 - (together[p:] - rankdata(negative)) / p  # share of the positives above
    value = float(above.mean())
    if p < 2 or q < 2:
        return value, math.nan, math.nan
    half = float(ndtri(0.5 + level / 2)) * math.sqrt(
        float(above.var(ddof=1)) / p + float(below.var(ddof=1)) / q
    )
    return value, max(value - half, 0.0), min(value + half, 1.0)


def best_threshold(
    scores: Array, truth: Array, weights: Array | None = None
) -> tuple[float, float]:
    """Find the threshold with the highest F1 by looking at the truth: an oracle, not a method.

    Parameters
    ----------
    scores : (n,) number
    truth : (n,) integer or bool
        1 positive, 0 negative, anything else not judged.
    weights : (n,) number, optional

    Returns
    -------
    threshold, f1 : float
        The threshold lies halfway between two scores. Where nothing is positive it is infinite,
        and F1 NaN.

    Examples
    --------
    >>> import numpy as np
    >>> best_threshold(np.array([0.9, 0.4, 0.2, 0.1]), np.array([1, 1, 0, 0]))[1]
    1.0
    """
    values, plus, minus = _by_value(scores, truth, weights)
    total = plus.sum()
    if not total > 0:
        return float("inf"), float("nan")
    tp, fp = np.cumsum(plus[::-1])[::-1], np.cumsum(minus[::-1])[::-1]
    f1 = 2 * tp / (tp + fp + total)
    at = int(np.argmax(f1))
    cut = values[at] if at == 0 else (values[at] + values[at - 1]) / 2
    return float(cut if cut > values[at - 1] or at == 0 else values[at]), float(f1[at])


def _by_value(scores: Array, truth: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Distinct scores in order, with the weight of positive and of negative cells at each."""
    scores, truth, w = aligned(np.asarray(scores, np.float64), truth, weights)
    if np.isnan(scores).any():
        raise InputError(
            "There are cells without a score.",
            got=f"{int(np.isnan(scores).sum()):,} NaN of {scores.size:,}",
        )
    values, at = np.unique(scores, return_inverse=True)
    plus, minus = (np.bincount(at, w * (truth == t), len(values)) for t in (1, 0))
    return values, plus, minus
