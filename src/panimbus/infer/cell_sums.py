"""Sums per cell from the net's output for a tile, without undoing the view first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from panimbus.core.correction import corrected
from panimbus.core.scan import FovCells
from panimbus.core.tiles import Tile
from panimbus.core.types import Float32Array
from panimbus.infer.tta import View


@dataclass(frozen=True)
class CellPixels:
    """Pixels of a tile's core, cell by cell; a rescued cell may share its pixel with a neighbour.

    Parameters
    ----------
    cells : (m,) intp
        Positions of the cells among the FOV's, or (`among`) the block's; ascending.
    count : (m,) int64
        Pixels of each.
    begin : (m,) intp
        Where each cell's pixels begin in the following two.
    plain, turned : (p,) intp
        Positions of the pixels, cell after cell, in the net's flattened output, and in that for
        transposed planes.
    """

    cells: npt.NDArray[np.intp]
    count: npt.NDArray[np.int64]
    begin: npt.NDArray[np.intp]
    plain: npt.NDArray[np.intp]
    turned: npt.NDArray[np.intp]

    @classmethod
    def of(
        cls, tile: Tile, core: npt.NDArray[np.int32], cells: FovCells, margin: int
    ) -> CellPixels:
        """The cells of a tile's core (Y, X).

        The net's output lacks ``margin`` pixels at each side of the window.
        """
        y0, y1, x0, x1 = tile.core
        position = np.flatnonzero(core >= 0)
        owner = core.ravel()[position].astype(np.intp)
        rescued = cells.rescued
        rescued = rescued[
            (rescued[:, 1] >= y0)
            & (rescued[:, 1] < y1)
            & (rescued[:, 2] >= x0)
            & (rescued[:, 2] < x1)
        ]
        if len(rescued):
            at = (rescued[:, 1] - y0) * (x1 - x0) + rescued[:, 2] - x0
            shared = (
                core.ravel()[at] != rescued[:, 0]
            )  # its pixel shows another cell: both take the score
            position = np.concatenate([position, at[shared]])
            owner = np.concatenate([owner, rescued[shared, 0]])
        order = np.argsort(owner, kind="stable")
        present, begin, count = np.unique(owner[order], return_index=True, return_counts=True)
        y, x = np.divmod(position[order], x1 - x0)
        height, width = (
            tile.window[1] - tile.window[0] - 2 * margin,
            tile.window[3] - tile.window[2] - 2 * margin,
        )
        y += y0 - tile.window[0] - margin
        x += x0 - tile.window[2] - margin
        return cls(present, count, begin, y * width + x, x * height + y)

    def among(self, cells: npt.NDArray[np.intp]) -> CellPixels:
        """The same with ``cells`` as positions among the given cells (ascending)."""
        return replace(self, cells=np.searchsorted(cells, self.cells))

    def sums(
        self, scores: Float32Array, view: View, correction: tuple[float, float] | None
    ) -> npt.NDArray[np.float64]:
        """(m,) sum of each cell's pixel scores, from the net's output (H, W) for a view."""
        if not len(self.cells):
            return np.zeros(0)
        pixels = np.ascontiguousarray(view.flip(scores)).ravel()[
            self.turned if view.transpose else self.plain
        ]
        if correction is not None:
            pixels = corrected(pixels, correction)
        return np.add.reduceat(pixels, self.begin, dtype=np.float64)


def core_scores(scores: Float32Array, view: View, tile: Tile, margin: int) -> Float32Array:
    """Scores of a tile's core, from the net's output (H, W) for a view."""
    rows, cols = tile.core_in_window
    return view.undo(scores)[
        rows.start - margin : rows.stop - margin, cols.start - margin : cols.stop - margin
    ]
