"""Batches: FOVs that were stained or imaged together, compared with the other FOVs.

What differs is reported and never corrected: tissue may differ as a staining day does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import t as student_t

from panimbus.core.errors import InputError, format_list
from panimbus.core.naming import did_you_mean
from panimbus.core.table import BATCH, FOV, MEAN, POSITIVE
from panimbus.core.types import Float64Array

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

SURE, RATIO = 0.05, 1.3
"""A marker of a batch stands out below this p-value, times the number of all comparisons, and
beyond this ratio of intensities."""
_QUANTILES = (10, 25, 50, 75, 90, 95)
_LEAST_SPREAD = 0.05  # of log intensity: FOVs of one batch are hardly ever closer
_LISTED = 6


class Difference(NamedTuple):
    """How a batch differs from the others in one marker.

    Attributes
    ----------
    batch, marker, fovs
        Which, and the number of FOVs of the batch.
    ratio
        Intensity of its cells by that of the other batches'.
    p_value
        Two-sided, of a t-test, times the number of comparisons; NaN if the spread within batches is
        unknown.
    positive, positive_others
        Share of positive cells.
    stands_out
        Whether that is more than FOVs of one batch differ among themselves.
    """

    batch: str
    marker: str
    fovs: int
    ratio: float
    p_value: float
    positive: float
    positive_others: float
    stands_out: bool


def check_batches(batches: Mapping[str, str], fov_ids: Sequence[str]) -> dict[str, str]:
    """The batch of each FOV, in the order of the FOVs.

    Raises
    ------
    InputError
        If a FOV has no batch, a batch names a FOV that is not there, or all FOVs are of one batch.

    Examples
    --------
    >>> check_batches({"b": "day 2", "a": "day 1"}, ["a", "b"])
    {'a': 'day 1', 'b': 'day 2'}
    """
    lacking = [fov for fov in fov_ids if not str(batches.get(fov, "")).strip()]
    unknown = [f"{fov!r}{did_you_mean(fov, fov_ids)}" for fov in batches if fov not in fov_ids]
    if lacking or unknown:
        got = [f"no batch of {format_list(lacking)}"] if lacking else []
        got += [f"there is no FOV {format_list(unknown)}"] if unknown else []
        raise InputError(
            "The batches do not fit the FOVs.",
            expected="one batch per FOV",
            got="; ".join(got),
            available=fov_ids,
        )
    out = {fov: str(batches[fov]).strip() for fov in fov_ids}
    if len(set(out.values())) < 2:
        raise InputError(
            "There is only one batch.",
            expected="at least two batches, to be compared",
            got=f"all {len(out)} FOVs are of {next(iter(out.values()), '')!r}",
        )
    return out


def add_batches(table: AnnData, batch_of: Mapping[str, str]) -> None:
    """Add obs ``batch``, in place."""
    table.obs[BATCH] = table.obs[FOV].astype(str).map(dict(batch_of)).astype("category")


def compare_batches(table: AnnData) -> pd.DataFrame:
    """Compare the cells' intensities of each batch with those of the others, marker by marker.

    The shift of a FOV is the median, over the quantiles of its cells' mean intensities, of their
    log ratio to the same quantile of all FOVs: a stronger stain moves all quantiles, another
    mixture of cells only some. The difference of a batch is the mean shift of its FOVs less the
    median of all batches, or less the other one where there are two. It is tested against the
    spread of FOVs within batches: Student's t with the pooled variance, and Bonferroni's correction
    for all batches and channels.

    Parameters
    ----------
    table
        Cell table of `panimbus.predict` with obs ``batch``.

    Returns
    -------
    DataFrame
        One row per batch and channel with the fields of `Difference`; blank and unreadable
        channels are left out.

    Raises
    ------
    InputError
        If the table does not say which batch a cell is of.

    Examples
    --------
    >>> import panimbus
    >>> fovs = []
    >>> for seed, name in enumerate(("mon_1", "tue_1")):
    ...     tissue = panimbus.simulate_tissue((64, 64), panel=1, seed=seed)
    ...     image, labels = tissue.image * (1 + 2 * seed), tissue.labels
    ...     fovs.append(panimbus.from_array(image, labels, channels=["CD3"], mpp=0.5, fov_id=name))
    >>> days = {"mon_1": "mon", "tue_1": "tue"}
    >>> table = panimbus.predict(fovs, batches=days, settings=panimbus.PredictSettings("none"))
    >>> compare_batches(table)[["batch", "fovs", "stands_out"]].to_numpy().tolist()
    [['mon', 1, False], ['tue', 1, False]]
    """
    import pandas as pd

    if BATCH not in table.obs:
        raise InputError(
            "The table does not say which batch a cell is of.",
            expected=f"obs[{BATCH!r}]",
            available=table.obs.columns,
            fix="pass --batches (Python: batches=) when you predict",
        )
    fov = table.obs[FOV].astype(str)
    batch_of = dict(zip(fov, table.obs[BATCH].astype(str), strict=True))
    fovs = list(batch_of)
    batch = np.array([batch_of[f] for f in fovs])
    rows: list[Difference] = [
        difference
        for k, marker in enumerate(map(str, table.var_names))
        for difference in _differences(
            marker,
            fov_shifts(np.asarray(table.layers[MEAN][:, k]), fov.to_numpy(), fovs),
            np.asarray(table.layers[POSITIVE][:, k], np.float64),
            np.array([batch_of[f] for f in fov]),
            batch,
        )
    ]
    corrected = [min(r.p_value * len(rows), 1.0) for r in rows]  # NaN stays NaN
    rows = [
        r._replace(p_value=p, stands_out=p < SURE and abs(np.log(r.ratio)) > np.log(RATIO))
        for r, p in zip(rows, corrected, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(Difference._fields))


def fov_shifts(mean: Float64Array, fov: Float64Array, fovs: Sequence[str]) -> Float64Array:
    """Log ratio of each FOV's intensities to those of all FOVs; NaN where nothing is valid.

    Parameters
    ----------
    mean : (n,) float
        Mean intensity of each cell; NaN = missing.
    fov : (n,) str
    fovs
        F names.

    Returns
    -------
    (F,) float64

    Examples
    --------
    >>> mean, fov = np.array([1.0, 2, 3, 10, 20, 30]), np.array(["a"] * 3 + ["b"] * 3)
    >>> np.exp(np.diff(fov_shifts(mean, fov, ["a", "b"])))
    array([10.])
    """
    valid = ~np.isnan(mean)
    values = np.array(
        [
            np.percentile(mean[cells], _QUANTILES)
            if (cells := valid & (fov == f)).any()
            else [np.nan] * len(_QUANTILES)
            for f in fovs
        ]
    )
    values[~(values[:, -1] > 0)] = np.nan  # one FOV without signal must not hide the others
    seen = ~np.isnan(values).all(1)
    usable = (values[seen] > 0).all(0) if seen.any() else np.zeros(len(_QUANTILES), bool)
    if not usable.any():
        return np.full(len(values), np.nan)
    logs = np.log(values[:, usable])
    return np.asarray(np.median(logs - np.nanmedian(logs, axis=0), axis=1))


def describe_batches(differences: pd.DataFrame) -> list[str]:
    """A warning per batch that stands out, its markers by the size of the difference."""
    lines = []
    outlying = differences[differences["stands_out"]]
    for batch, rows in outlying.groupby("batch", sort=True):
        largest = rows.iloc[np.argsort(-np.abs(np.log(rows["ratio"].to_numpy())))]
        parts = [
            f"{r.marker} {r.ratio:.2g} times as bright ({r.positive:.1%} positive, others"
            f" {r.positive_others:.1%})"
            for r in largest.itertuples()
        ]
        count = differences["marker"].nunique()
        one = ", which is one FOV," if rows["fovs"].iloc[0] == 1 else ""
        lines.append(
            f"batch {batch}{one} differs in {len(rows)} of {count} channels:"
            f" {format_list(parts, _LISTED)}"
        )
    return lines


def _differences(
    marker: str,
    shift: Float64Array,
    positive: Float64Array,
    batch_of_cell: Float64Array,
    batch: Float64Array,
) -> Iterator[Difference]:
    """Each batch of one marker; ``shift`` and ``batch`` are per FOV."""
    valid = ~np.isnan(shift)
    sizes = Counter(batch[valid].tolist())
    if len(sizes) < 2:
        return
    middle = {b: float(shift[valid & (batch == b)].mean()) for b in sizes}
    rest = np.array([s - middle[b] for s, b in zip(shift[valid], batch[valid], strict=True)])
    free = len(rest) - len(sizes)
    spread = max(float(np.sqrt((rest**2).sum() / free)), _LEAST_SPREAD) if free > 0 else np.nan
    two = len(sizes) == 2  # each is compared with the other
    for name, n in sizes.items():
        compared = [m for b, m in middle.items() if not two or b != name]
        log_ratio = middle[name] - float(np.median(compared))
        t = log_ratio / (spread * np.sqrt(1 / n + 1 / (len(rest) - n)))
        inside = batch_of_cell == name
        yield Difference(
            str(name),
            marker,
            n,
            float(np.exp(log_ratio)),
            float(2 * student_t.sf(abs(t), free)) if free > 0 else np.nan,
            _mean(positive[inside]),
            _mean(positive[~inside]),
            stands_out=False,
        )


def _mean(values: Float64Array) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else np.nan


def changed_calls(before: AnnData, after: AnnData) -> pd.DataFrame:
    """Calls that differ between two tables of the same cells, by batch and marker.

    Parameters
    ----------
    before, after
        Cell tables of `panimbus.predict`; ``after`` has obs ``batch``.

    Returns
    -------
    DataFrame
        batch, marker, cells, changed (share of the cells), positive_before, positive_after. Cells
        without a call in one of the tables do not count.

    Raises
    ------
    InputError
        If the tables do not hold the same cells.
    """
    import pandas as pd

    markers = [c for c in after.var_names if c in set(before.var_names)]
    if set(before.obs_names) != set(after.obs_names) or not markers:
        same = len(set(before.obs_names) & set(after.obs_names))
        raise InputError(
            "The two results do not hold the same cells and markers.",
            expected="results of the same FOVs, label images and channels",
            got=f"{before.n_obs:,} and {after.n_obs:,} cells, {same:,} in both;"
            f" {len(markers)} markers in both",
        )
    was = np.asarray(before[after.obs_names, markers].layers[POSITIVE], np.float64)
    now = np.asarray(after[:, markers].layers[POSITIVE], np.float64)
    batch, rows = after.obs[BATCH].astype(str).to_numpy(), []
    for name in sorted(set(batch)):
        for k, marker in enumerate(markers):
            valid = (batch == name) & ~np.isnan(was[:, k]) & ~np.isnan(now[:, k])
            a, b = was[valid, k], now[valid, k]
            if valid.any():
                rows.append((name, marker, len(a), (a != b).mean(), a.mean(), b.mean()))
    columns = ["batch", "marker", "cells", "changed", "positive_before", "positive_after"]
    return pd.DataFrame(rows, columns=columns)
