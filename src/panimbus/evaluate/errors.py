"""Pictures of the cells with the largest errors: the channel, and the scores around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.fov import Fov
from panimbus.core.table import CELL, NORMALISER, SPATIAL
from panimbus.core.types import Array, BoolArray, UInt8Array
from panimbus.evaluate.marker_pictures import window_in
from panimbus.render.images import enlarge
from panimbus.render.paint import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    cell_rows,
    gray,
    paint_cells,
    score_colours,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

CELLS, PER_MARKER = 24, 3
SIDE_UM, SIDE_PX = 48.0, 192


@dataclass(frozen=True)
class Scene:
    """A FOV whose cells can be shown: its dataset, its image and labels, its scored cells."""

    dataset: str
    fov: Fov
    table: AnnData


@dataclass(frozen=True)
class ErrorPicture:
    """A cell that was called wrongly.

    Parameters
    ----------
    row
        Of the scored calls.
    channel, scores : (SIDE_PX, SIDE_PX, 3) uint8
        The channel, dark on white, with the cell outlined; the cells around by their score.
    width_um
    """

    row: dict[str, Any]
    channel: UInt8Array
    scores: UInt8Array
    width_um: float


def largest_errors(
    calls: pd.DataFrame, *, cells: int = CELLS, per_marker: int = PER_MARKER
) -> pd.DataFrame:
    """The wrong calls whose score is farthest from the truth, at most ``per_marker`` of each."""
    wrong = calls[(calls["truth"] >= 0) & (calls["model"] != calls["truth"])]
    wrong = wrong.assign(off=(wrong["score"] - wrong["truth"]).abs())
    wrong = wrong.sort_values("off", ascending=False, kind="stable")
    return wrong.groupby("unit", sort=False).head(per_marker).head(cells)


def draw_errors(calls: pd.DataFrame, scenes: Sequence[Scene]) -> list[ErrorPicture]:
    """Draw the largest errors of the FOVs that can be shown."""
    by_fov = {(s.dataset, s.fov.fov_id): s for s in scenes}
    keys = list(zip(calls["dataset"], calls["fov"], strict=True))
    shown = calls[np.array([key in by_fov for key in keys], np.bool_)]
    rows = largest_errors(shown).to_dict("records")
    return [
        _draw(by_fov[row["dataset"], row["fov"]], {str(k): v for k, v in row.items()})
        for row in rows
    ]


@dataclass(frozen=True)
class CellView:
    """A cell and its surroundings, enlarged to about `SIDE_PX` pixels.

    Parameters
    ----------
    grey : (h, w) uint8
        The channel, dark on white.
    labels : (h, w) integer
    edge : (h, w) bool
        A line around the cell, outside of it so that all its pixels can be seen.
    column
        Of the channel in the scene's table.
    normaliser, width_um
    """

    grey: UInt8Array
    labels: Array
    edge: BoolArray
    column: int
    normaliser: float
    width_um: float


def view_cell(scene: Scene, row: dict[str, Any]) -> CellView:
    """The surroundings of the cell of a scored call."""
    from scipy import ndimage

    fov, table = scene.fov, scene.table
    ids, cell, marker = table.obs[CELL].to_numpy(), int(row["cell_id"]), row["channel"]
    x, y = np.asarray(table.obsm[SPATIAL])[np.flatnonzero(ids == cell)[0], :2]
    window = window_in(fov, (y - SIDE_UM / 2, x - SIDE_UM / 2), SIDE_UM)
    zoom = max(1, SIDE_PX // max(s.stop - s.start for s in window))
    plane = np.asarray(fov.image[fov.index(marker), *window])
    labels = np.zeros(plane.shape, int) if fov.labels is None else np.asarray(fov.labels[window])
    labels = enlarge(labels, zoom)
    k = list(table.var_names).index(marker)
    normaliser = float(table.var[NORMALISER].iloc[k])
    edge = ndimage.binary_dilation(labels == cell, iterations=2) & (labels != cell)
    width = (window[1].stop - window[1].start) * (fov.mpp or 1.0)
    return CellView(enlarge(gray(plane, normaliser), zoom), labels, edge, k, normaliser, width)


def _draw(scene: Scene, row: dict[str, Any]) -> ErrorPicture:
    view, table = view_cell(scene, row), scene.table
    channel = np.repeat(view.grey[..., None], 3, 2)
    index = cell_rows(view.labels, table.obs[CELL].to_numpy())
    scores = paint_cells(index, score_colours(np.asarray(table.X)[:, view.column]))
    for image in (channel, scores):
        image[view.edge] = FALSE_POSITIVE if row["truth"] == 0 else FALSE_NEGATIVE
    return ErrorPicture(row, channel, scores, view.width_um)
