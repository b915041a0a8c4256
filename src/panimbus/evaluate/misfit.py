"""Annotations that seem to belong to other cells: ids off by one, swapped FOVs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.errors import format_list
from panimbus.core.stats import auc
from panimbus.core.table import CELL, MEAN

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

NEAR_CHANCE, CHANCE, GAIN, ERRORS = 0.85, 0.6, 0.15, 3.0
"""Annotations are doubted if the area under the ROC curve is below the first, and another reading
gains the third and as many standard errors as the last; or if it is below the second. Real
annotations had areas of 0.96 to 0.99 per FOV, and 0.50 to 0.79 with ids off by one or FOVs
swapped."""
_CANDIDATES = 50


@dataclass(frozen=True)
class _Fit:
    """Areas under the ROC curve of scores and intensities, and size of the rarer class."""

    model: float
    intensity: float
    cells: int

    @property
    def area(self) -> float:
        """The larger of the two areas."""
        return max(self.model, self.intensity)

    def much_better(self, other: _Fit) -> bool:
        """Whether this gains more than chance would."""
        error = 0.5 / np.sqrt(max(1, min(self.cells, other.cells)))
        gain = min(self.model - other.model, self.intensity - other.intensity)
        return other.area < NEAR_CHANCE and gain > max(GAIN, ERRORS * error)


def doubts(calls: pd.DataFrame, tables: Mapping[str, AnnData]) -> list[str]:
    """Doubts about the ids or FOVs of annotations, one sentence each.

    Both the model and the mean intensity must separate the cells better under another reading: a
    model that fails on a marker is no reason to doubt the annotations.

    Parameters
    ----------
    calls
        Of one dataset, from `panimbus.annotations.table.with_truth`.
    tables
        FOV -> its cells, scored.
    """
    groups = {
        str(fov): rows
        for fov, rows in calls[calls["truth"] >= 0].groupby("fov", sort=False)
        if str(fov) in tables
    }
    as_given = {fov: _fit([(rows, tables[fov])]) for fov, rows in groups.items()}
    together = [(rows, tables[fov]) for fov, rows in groups.items()]
    whole = _fit(together)
    shifted = (
        {shift: _fit(together, shift) for shift in (-1, 1)} if whole.area < NEAR_CHANCE else {}
    )
    if better := [shift for shift, fit in shifted.items() if fit.much_better(whole)]:
        best = max(better, key=lambda shift: shifted[shift].area)
        return [
            (
                f"the calls fit better if {_off(best)} ({_areas(shifted[best], whole)}): their ids"
                " may be off by one"
            )
        ]
    out, swapped = [], []
    for fov, rows in groups.items():
        given = as_given[fov]
        if given.area >= NEAR_CHANCE:
            continue
        fits = {_off(shift): _fit([(rows, tables[fov])], shift) for shift in (-1, 1)}
        others = [other for other in tables if other != fov][:_CANDIDATES]
        fits |= {other: _fit([(rows, tables[other])]) for other in others}
        best_of = max(fits, key=lambda name: fits[name].area)
        if not fits[best_of].much_better(given):
            continue
        if best_of in others:
            swapped.append(
                f"those of {fov!r} fit the cells of {best_of!r} ({_areas(fits[best_of], given)})"
            )
        else:
            out.append(
                f"the calls of FOV {fov!r} fit better if {best_of} ({_areas(fits[best_of], given)})"
            )
    if swapped:
        out.append(
            "the calls of some FOVs fit another FOV better, so FOVs may be swapped:"
            f" {format_list(swapped, 6)}"
        )
    if not out and whole.area < CHANCE and whole.cells >= 30:
        out.append(_strangers(whole))
    return out


def _strangers(whole: _Fit) -> str:
    problem = "positive and negative calls cannot be told apart by score or by intensity"
    return (
        f"{problem} (area under the ROC curve {whole.area:.2f}): they may have been made on other"
        " label images"
    )


def _off(shift: int) -> str:
    return "every cell_id is one lower" if shift < 0 else "every cell_id is one higher"


def _areas(better: _Fit, given: _Fit) -> str:
    return f"area under the ROC curve {better.area:.2f} instead of {given.area:.2f}"


def _fit(parts: Sequence[tuple[pd.DataFrame, AnnData]], shift: int = 0) -> _Fit:
    """Mean over FOVs and channels, weighted by the number of the rarer kind."""
    areas, weights = [], []
    for rows, table in parts:
        ids = table.obs[CELL].to_numpy(np.int64)
        order = np.argsort(ids)
        wanted = rows["cell_id"].to_numpy(np.int64) + shift
        place = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
        at = order[place]
        exists = ids[at] == wanted
        if exists.mean() < 0.8:  # other cells, whatever they look like
            continue
        names = [str(c) for c in table.var_names]
        for channel in dict.fromkeys(rows["channel"]):
            use = exists & (rows["channel"] == channel).to_numpy()
            truth = rows["truth"].to_numpy()[use] == 1
            rarer = int(min(truth.sum(), (~truth).sum()))
            if channel not in names or not rarer:
                continue
            k = names.index(str(channel))
            values = [np.asarray(x[at[use], k], np.float64) for x in (table.X, table.layers[MEAN])]
            areas.append([auc(np.nan_to_num(v), truth) for v in values])
            weights.append(rarer)
    if not weights:
        return _Fit(0.0, 0.0, 0)
    model, intensity = np.average(areas, axis=0, weights=weights).tolist()
    return _Fit(model, intensity, int(np.sum(weights)))
