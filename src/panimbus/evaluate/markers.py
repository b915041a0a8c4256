"""The markers of a result without annotations: what their scores look like, the worst first.

Nothing here tells right from wrong calls: it orders the markers by how much there is to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.channel_types import COUNTERSTAIN_TYPE, MARKER, resolve_channel_types
from panimbus.core.doubts import Concern, Signs, doubts, harm, percent, signs_of
from panimbus.core.errors import format_list
from panimbus.core.fov_shift import compare_fovs
from panimbus.core.table import FOV, NORMALISER, POSITIVE
from panimbus.core.thresholds import calls
from panimbus.core.types import Array, Float64Array, Int64Array
from panimbus.io.scores import scale_of
from panimbus.phenotype.assign import exclusive_pairs_of
from panimbus.phenotype.inputs import channel_types_of, thresholds_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

BINS = 50
"""Bins of a score histogram; every threshold of two digits that is even lies between two."""
_MOST_CELLS = 0.9


@dataclass(frozen=True, eq=False)
class MarkerSummary:
    """One marker of a result.

    Parameters
    ----------
    marker, channel_type
        Name, and one of `panimbus.core.channel_types.CHANNEL_TYPES`.
    threshold
        Score from which a cell is positive.
    cells, positive
        Number of cells that have a score, and of positive ones.
    share_by_fov : (F,) float64
        Share of positive cells in each FOV; NaN where no cell has a score.
    histogram : (BINS,) int64
        Number of cells by score, in equal bins from 0 to 1.
    near, doubtful, spread
        As in `panimbus.core.doubts.Signs`.
    concerns
        The heaviest first.
    """

    marker: str
    channel_type: str
    threshold: float
    cells: int
    positive: int
    share_by_fov: Float64Array
    histogram: Int64Array
    near: float
    doubtful: float
    spread: float
    concerns: tuple[Concern, ...]

    @property
    def share(self) -> float:
        """Share of positive cells; NaN without cells."""
        return self.positive / self.cells if self.cells else float("nan")

    @property
    def worry(self) -> float:
        """From 0 (nothing to see) to 1: all concerns together, as if independent."""
        return 1 - float(np.prod([1 - c.weight for c in self.concerns]))


@dataclass(frozen=True, eq=False)
class ResultSummary:
    """Result of `summarise_markers`.

    Parameters
    ----------
    fovs
        F names, in the order of the table.
    fov_cells : (F,) int64
    markers
        The worst first; counterstains last.
    """

    fovs: tuple[str, ...]
    fov_cells: Int64Array
    markers: tuple[MarkerSummary, ...]

    def frame(self) -> pd.DataFrame:
        """A row per marker, the worst first, with a column ``positive FOV`` for each FOV."""
        import pandas as pd

        rows = [
            {
                "marker": m.marker,
                "worry": m.worry,
                "threshold": m.threshold,
                "positive": m.share,
                "near": m.near,
                "spread": m.spread,
                "concerns": "; ".join(c.text for c in m.concerns),
                **{f"positive {f}": s for f, s in zip(self.fovs, m.share_by_fov, strict=True)},
            }
            for m in self.markers
        ]
        return pd.DataFrame(rows)


def fov_codes(table: AnnData) -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    """The FOVs of a table in its order, and (n,) the position of each cell's FOV among them."""
    column = table.obs[FOV].astype("category").cat
    order = column.codes.drop_duplicates().to_numpy()  # as they first appear
    position = np.zeros(len(column.categories), np.intp)
    position[order] = np.arange(len(order))
    return tuple(str(column.categories[k]) for k in order), position[column.codes]


def share_by_fov(positive: Array, fov: npt.NDArray[np.integer], fovs: int) -> Float64Array:
    """Share of positive cells in each FOV.

    Parameters
    ----------
    positive : (n,) number
        1 positive, 0 negative, NaN missing.
    fov : (n,) integer
        Position of each cell's FOV.
    fovs
        Number of FOVs.

    Returns
    -------
    (fovs,) float64
        NaN for a FOV without scores.

    Examples
    --------
    >>> share_by_fov(np.array([1, 0, 1, np.nan]), np.array([0, 0, 1, 1]), 3)
    array([0.5, 1. , nan])
    """
    scored = ~np.isnan(positive)
    cells = np.bincount(fov[scored], minlength=fovs).astype(np.float64)
    count = np.bincount(fov[scored], positive[scored], fovs)
    out = np.full(fovs, np.nan)
    np.divide(count, cells, out=out, where=cells > 0)
    return out


def score_histogram(scores: Array, bins: int = BINS) -> Int64Array:
    """(bins,) number of scores in equal bins from 0 to 1; missing ones are not counted.

    Examples
    --------
    >>> score_histogram(np.array([0.0, 0.24, 0.25, 1.0, np.nan]), 4)
    array([2, 1, 0, 1])
    """
    scored = scores[~np.isnan(scores)]
    at = np.clip((scored * scored.dtype.type(bins)).astype(np.int64), 0, bins - 1)
    return np.bincount(at, minlength=bins).astype(np.int64)


def positive_calls(table: AnnData) -> Array:
    """(n, C) calls of a table: its layer ``positive``, else its scores at its thresholds."""
    if POSITIVE in table.layers:
        return np.asarray(table.layers[POSITIVE])
    limits = thresholds_of(table, {})
    return calls(np.asarray(table.X), [limits[c] for c in map(str, table.var_names)])


def summarise_markers(table: AnnData) -> ResultSummary:
    """Summarise the markers of a cell table, the worst first.

    Parameters
    ----------
    table
        Of `panimbus.predict`, or another one with scores in X and obs ``fov_id``. Its calls are
        taken as they are (`positive_calls`).

    Returns
    -------
    ResultSummary
    """
    fovs, fov = fov_codes(table)
    channels = [str(c) for c in table.var_names]
    limits, positive = thresholds_of(table, {}), positive_calls(table)
    types = resolve_channel_types(channels, channel_types_of(table))
    concerns = _of_dataset(table, channels, types, positive)
    signs = signs_of(
        table,
        positive,
        thresholds=[limits[c] for c in channels],
        types=types,
        scale=scale_of(table),
    )
    out = []
    for k, (name, of) in enumerate(zip(channels, signs, strict=True)):
        blank = _blank(table, k)
        own = [*doubts(of), *_of_calls(of, table.n_obs), *concerns[name]] if not blank else [blank]
        out.append(
            MarkerSummary(
                name,
                of.channel_type,
                limits[name],
                of.cells,
                of.positive,
                share_by_fov(positive[:, k], fov, len(fovs)),
                score_histogram(np.asarray(table.X[:, k])),
                of.near,
                of.doubtful,
                of.spread,
                tuple(sorted(own, key=lambda c: -c.weight)),
            )
        )
    cells = np.bincount(fov, minlength=len(fovs)).astype(np.int64)
    return ResultSummary(fovs, cells, tuple(sorted(out, key=_order)))


def _order(one: MarkerSummary) -> tuple[bool, float, float]:
    return one.channel_type == COUNTERSTAIN_TYPE, -round(one.worry, 2), -one.doubtful


def _blank(table: AnnData, k: int) -> Concern | None:
    """A channel without a normaliser has nothing to score."""
    if NORMALISER not in table.var or not np.isnan(table.var[NORMALISER].to_numpy(float)[k]):
        return None
    return Concern(0.0, "blank: nothing to score")


def _of_calls(signs: Signs, rows: int) -> list[Concern]:
    """Concerns that the number of a marker's positive cells raises.

    Parameters
    ----------
    signs
    rows
        Number of cells, with and without a score.
    """
    out = []
    if signs.cells < rows:
        out.append(Concern(0.3, f"{rows - signs.cells:,} cells have no score"))
    if signs.channel_type == COUNTERSTAIN_TYPE or not signs.cells:
        return out
    if not signs.positive and signs.channel_type == MARKER:
        out.append(Concern(0.2, "no cell is positive: not in this tissue, too dim, or missed"))
    if signs.share > _MOST_CELLS:
        out.append(Concern(0.5, f"{percent(signs.share)} of the cells are positive"))
    return out


def _of_dataset(
    table: AnnData, channels: Sequence[str], types: Sequence[str], positive: Array
) -> dict[str, list[Concern]]:
    """Concerns that come from other markers, from the pixels and from other FOVs."""
    out: dict[str, list[Concern]] = {c: [] for c in channels}
    scale, called = scale_of(table), np.nan_to_num(positive) > 0
    pairs = exclusive_pairs_of(table)
    pairs = pairs[pairs["many"]]
    fovs, codes = fov_codes(table)
    compared = compare_fovs(called, np.array(fovs, object)[codes], tuple(channels))
    for k, (name, kind) in enumerate(zip(channels, types, strict=True)):
        if scale is not None and name in scale.notes:
            weight = 0.4 * harm(float(called[:, k].mean()))
            out[name].append(Concern(weight, scale.notes[name]))
        against = pairs[(pairs["marker"] == name) | (pairs["other"] == name)]
        if len(against):
            out[name].append(_contradiction(name, against))
        odd = compared.fraction[name][compared.outlying[name]]
        if len(odd) and kind != COUNTERSTAIN_TYPE:
            out[name].append(_odd_fovs(odd, float(compared.fraction[name].median())))
    return out


def _contradiction(name: str, pairs: pd.DataFrame) -> Concern:
    """Pairs of exclusive markers, from the side of one; it weighs less if more reliable."""
    first = (pairs["marker"] == name).to_numpy()
    shares = np.where(first, pairs["share_of_marker"], pairs["share_of_other"])
    others = np.where(first, pairs["other"], pairs["marker"])
    order = np.argsort(-shares, kind="stable")
    names = format_list([f"{others[k]} {percent(shares[k])}" for k in order], 3)
    weight = float((shares * np.where(first, 1.0, 0.5)).max())
    return Concern(weight, f"its positive cells carry markers that exclude it: {names}")


def _odd_fovs(odd: pd.Series[float], median: float) -> Concern:
    fovs = format_list([f"{f} {percent(share)}" for f, share in odd.items()], 3)
    text = f"FOVs differ in their share of positive cells: {fovs} (median {percent(median)})"
    return Concern(min(0.4, 0.15 + 0.05 * len(odd)), text)
