"""Pictures of the cells whose score is farthest from the call.

The channel, the cell outlined, the scores around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.fov import Fov
from panimbus.core.table import CELL, NORMALISER
from panimbus.core.types import Array, UInt8Array
from panimbus.evaluate.paint import FALSE_NEGATIVE, FALSE_POSITIVE, Rgb, colours, gray, paint_cells

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

CELLS, A_MARKER = 24, 3
SIDE_UM, SIDE_PX = 48.0, 192


@dataclass(frozen=True)
class Scene:
    """A FOV whose cells can be shown: its dataset, its files, its scored cells."""

    dataset: str
    fov: Fov
    table: AnnData


@dataclass(frozen=True)
class WrongCell:
    """One cell.

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


def most_wrong(
    calls: pd.DataFrame, *, cells: int = CELLS, a_marker: int = A_MARKER
) -> pd.DataFrame:
    """The judged calls whose score is farthest from the truth and on the wrong side.

    At most ``a_marker`` of a marker.
    """
    wrong = calls[(calls["truth"] >= 0) & (calls["model"] != calls["truth"])]
    wrong = wrong.assign(off=(wrong["score"] - wrong["truth"]).abs()).sort_values(
        "off", ascending=False, kind="stable"
    )
    return wrong.groupby("unit", sort=False).head(a_marker).head(cells)


def draw_wrong(calls: pd.DataFrame, scenes: list[Scene]) -> list[WrongCell]:
    """Draw the most wrong cells of the FOVs that can be shown."""
    there = {(s.dataset, s.fov.fov_id): s for s in scenes}
    shown = (
        calls[[key in there for key in zip(calls["dataset"], calls["fov"], strict=True)]]
        if len(calls)
        else calls
    )
    out = []
    for row in most_wrong(shown).to_dict("records"):
        scene = there[row["dataset"], row["fov"]]
        out.append(_draw(scene, {str(k): v for k, v in row.items()}))
    return out


def _draw(scene: Scene, row: dict[str, Any]) -> WrongCell:
    fov, table = scene.fov, scene.table
    mpp = fov.mpp or 1.0
    ids = table.obs[CELL].to_numpy()
    centre = (
        np.asarray(table.obsm["spatial"])[int(np.flatnonzero(ids == row["cell_id"])[0])][::-1] / mpp
    )
    side = max(8, round(SIDE_UM / mpp))
    y0, x0 = (
        max(0, min(round(float(c) - side / 2), n - side))
        for c, n in zip(centre, fov.shape_yx, strict=True)
    )
    rows, cols = (
        slice(y0, min(y0 + side, fov.shape_yx[0])),
        slice(x0, min(x0 + side, fov.shape_yx[1])),
    )
    labels = (
        np.asarray(fov.labels[rows, cols])
        if fov.labels is not None
        else np.zeros((side, side), int)
    )
    k = list(table.var_names).index(row["channel"])
    plane = np.asarray(fov.image[fov.index(row["channel"]), rows, cols])
    zoom = max(1, SIDE_PX // side)
    big = np.kron(labels, np.ones((zoom, zoom), labels.dtype))
    channel = np.repeat(
        gray(
            np.kron(plane, np.ones((zoom, zoom), plane.dtype)), float(table.var[NORMALISER].iloc[k])
        )[..., None],
        3,
        2,
    )
    scores = paint_cells(_rows(big, ids), colours(np.asarray(table.X)[:, k]))
    colour = FALSE_POSITIVE if row["truth"] == 0 else FALSE_NEGATIVE
    for image in (channel, scores):
        _frame(image, big, int(row["cell_id"]), colour)
    return WrongCell(row, channel, scores, side * mpp)


def _rows(labels: Array, ids: Array) -> npt.NDArray[np.int32]:
    """Row of each pixel's cell in the table, -1 for background."""
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids, labels, sorter=order), len(ids) - 1)
    return np.where((labels > 0) & (ids[order[at]] == labels), order[at], -1).astype(np.int32)


def _frame(image: UInt8Array, labels: Array, cell: int, colour: Rgb) -> None:
    """Outline a cell from outside, so that its own pixels are all to be seen."""
    from scipy import ndimage

    own = labels == cell
    image[ndimage.binary_dilation(own, iterations=2) & ~own] = colour
