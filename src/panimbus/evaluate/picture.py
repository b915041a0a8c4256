"""Pictures of a FOV: the image of every marker, its cells by score, and by truth or intensity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.labels import sample_labels
from panimbus.core.resample import Axis, shrink
from panimbus.core.stats import otsu_positive
from panimbus.core.table import CELL, FOV, MEAN, NORMALISER, PROVENANCE, SPATIAL
from panimbus.core.types import Array
from panimbus.evaluate.metrics import Metrics, metrics_by_marker
from panimbus.render.paint import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    cell_rows,
    gray,
    outline_cells,
    paint_cells,
    score_colours,
)

if TYPE_CHECKING:
    from anndata import AnnData

WINDOW_UM = 400.0


@dataclass(frozen=True)
class Subject:
    """Input of a picture: one FOV and its scored cells.

    Parameters
    ----------
    fov
        Image and labels.
    channels
        C markers.
    cell_id : (n,) integer
    xy_um : (n, 2)
        Centroids.
    scores, intensity : (n, C)
    normaliser : (C,)
        NaN for a blank channel.
    threshold
        A cell is positive from this score on.
    truth : (n, C) int8, optional
        1 positive, 0 negative, -1 not known.
    """

    fov: Fov
    channels: tuple[str, ...]
    cell_id: Array
    xy_um: Array
    scores: Array
    intensity: Array
    normaliser: Array
    threshold: float
    truth: Array | None = None

    @classmethod
    def from_table(cls, table: AnnData, fov: Fov, truth: Array | None = None) -> Subject:
        """Take the rows of one FOV of a cell table; ``truth`` has one row for each of them."""
        rows = (table.obs[FOV].astype(str) == fov.fov_id).to_numpy()
        part = table[rows]
        if truth is not None and truth.shape != part.shape:
            raise InputError(
                "The truth does not fit the cells.",
                expected=f"shape {part.shape}",
                got=f"{truth.shape}",
            )
        return cls(
            fov,
            tuple(table.var_names),
            part.obs[CELL].to_numpy(),
            np.asarray(part.obsm[SPATIAL]),
            np.asarray(part.X),
            np.asarray(part.layers[MEAN]),
            table.var[NORMALISER].to_numpy(),
            float(table.uns[PROVENANCE]["threshold"]),
            truth,
        )


@dataclass(frozen=True)
class MarkerPanel:
    """One row of a picture.

    Parameters
    ----------
    name
    image : (h, w) uint8
    score, reference : (h, w, 3) uint8
        Cells by score; cells by truth, or by mean intensity where there is no truth.
    share
        Share of the FOV's cells that are positive.
    quality, baseline
        Of the scores and of Otsu on mean intensity, on all the FOV's cells; None without a truth.
    blank
        Whether the channel has nothing to score.
    """

    name: str
    image: Array
    score: Array
    reference: Array
    share: float
    quality: Metrics | None
    baseline: Metrics | None
    blank: bool


@dataclass(frozen=True)
class Drawn:
    """All rows of a picture, and the window they show, (y0, y1, x0, x1) in image pixels."""

    panels: tuple[MarkerPanel, ...]
    window: tuple[int, int, int, int]
    width_um: float
    truth: bool


def choose_window(subject: Subject, side_um: float = WINDOW_UM) -> tuple[int, int, int, int]:
    """The square of at most ``side_um`` with the most positive cells, in many markers.

    Returns
    -------
    (y0, y1, x0, x1)
        Pixels of the image. The first of equally good windows, so the same input gives the same
        picture.
    """
    mpp = subject.fov.mpp or 1.0
    height, width = subject.fov.shape_yx
    side = max(1, round(side_um / mpp))
    ys, xs = _starts(height, side), _starts(width, side)
    positive = subject.scores >= subject.threshold
    if subject.truth is not None:
        positive = subject.truth == 1
    at = np.clip(subject.xy_um / mpp, 0, None)
    best, chosen = -1.0, (ys[0], xs[0])
    for y in ys:
        rows = (at[:, 1] >= y) & (at[:, 1] < y + side)
        for x in xs:
            inside = rows & (at[:, 0] >= x) & (at[:, 0] < x + side)
            plus = positive[inside].sum(0)
            minus = int(inside.sum()) - plus
            seen = float(
                np.log1p(np.minimum(plus, 60)).sum() + np.log1p(np.minimum(minus, 60)).sum()
            )
            if seen > best + 1e-9:
                best, chosen = seen, (y, x)
    y, x = chosen
    return y, min(y + side, height), x, min(x + side, width)


def _starts(n: int, side: int) -> list[int]:
    if n <= side:
        return [0]
    count = min(24, 1 + -(-(n - side) * 4 // side))
    return sorted({round(k * (n - side) / (count - 1)) for k in range(count)})


def draw(subject: Subject, window: tuple[int, int, int, int], side: int) -> Drawn:
    """Paint every marker of a window, at most ``side`` pixels wide and high."""
    y0, y1, x0, x1 = window
    fov = subject.fov
    if fov.labels is None:
        raise InputError(f"FOV {fov.fov_id!r} has no label image to paint.")
    scale = max(1.0, max(y1 - y0, x1 - x0) / side)
    y, x = Axis(y1 - y0, scale), Axis(x1 - x0, scale)
    whole = (0, y.size, 0, x.size)
    rows = slice(y0 + y.span(0, y.size)[0], y0 + y.span(0, y.size)[1])
    cols = slice(x0 + x.span(0, x.size)[0], x0 + x.span(0, x.size)[1])
    labels = sample_labels(np.asarray(fov.labels[rows, cols]), y, x, whole)
    index = cell_rows(labels, subject.cell_id)
    table = [None, None] if subject.truth is None else _judged(subject, subject.truth)
    panels = []
    for k, name in enumerate(subject.channels):
        plane = shrink(np.asarray(fov.image[fov.index(name), rows, cols]), y, x, whole)
        quality, baseline = (None if t is None else t[name] for t in table)
        score, blank = subject.scores[:, k], not subject.normaliser[k] > 0
        panels.append(
            MarkerPanel(
                name,
                gray(plane, subject.normaliser[k]),
                paint_cells(index, score_colours(score)),
                _reference(subject, k, index),
                float((score >= subject.threshold).mean()) if len(score) else 0.0,
                quality,
                baseline,
                blank,
            )
        )
    return Drawn(tuple(panels), window, (x1 - x0) * (fov.mpp or 1.0), subject.truth is not None)


def _judged(subject: Subject, truth: Array) -> list[dict[str, Metrics] | None]:
    otsu = (
        np.stack([otsu_positive(v) for v in subject.intensity.T], 1)
        if len(truth)
        else np.zeros(truth.shape, bool)
    )
    return [
        metrics_by_marker(subject.scores, truth, subject.channels, threshold=subject.threshold),
        metrics_by_marker(otsu, truth, subject.channels),
    ]


def _reference(subject: Subject, k: int, index: npt.NDArray[np.int32]) -> Array:
    """Truth with the errors outlined; without a truth, mean intensity in the same colours."""
    if subject.truth is None:
        value = subject.normaliser[k]
        share = (
            np.maximum(subject.intensity[:, k], 0) / value
            if value > 0
            else np.zeros(len(subject.cell_id))
        )
        return paint_cells(index, score_colours(np.sqrt(share)))
    truth = subject.truth[:, k]
    out = paint_cells(index, score_colours(np.where(truth < 0, np.nan, truth.astype(np.float64))))
    called = subject.scores[:, k] >= subject.threshold
    outline_cells(out, index, called & (truth == 0), FALSE_POSITIVE)
    outline_cells(out, index, ~called & (truth == 1), FALSE_NEGATIVE)
    return out
