"""Evidence per block: measured channel by channel, saved in parts, joined in the plan's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.evidence import BINS, PixelBins, rim_and_inside, touching
from panimbus.core.scan import FovCells
from panimbus.core.types import Float32Array

if TYPE_CHECKING:
    from panimbus.infer.blocks import Block

_ARRAYS = ("value", "total", "count", "pairs")


@dataclass(frozen=True)
class PartEvidence:
    """Evidence of the cells of a block.

    Parameters
    ----------
    value : (3, w, C) float32
        ``rim_mean``, ``rim_low``, ``inside_mean`` of the cells that lie in the block alone.
    total : (C, BINS, m - w) float64
        Of the others: the sum of the intensities per channel and bin (`panimbus.core.evidence`).
    count : (BINS, m - w) int64
        Pixels of the others.
    pairs : (p, 2) int32
        Cells that touch, as positions among the FOV's cells.
    """

    value: Float32Array
    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int32]

    def to_arrays(self) -> dict[str, Any]:
        """For an npz file."""
        return {f"evidence_{name}": getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, data: Mapping[str, Any]) -> PartEvidence | None:
        """Inverse of `to_arrays`; None without evidence."""
        if "evidence_value" not in data:
            return None
        return cls(*(np.asarray(data[f"evidence_{name}"]) for name in _ARRAYS))


class BlockEvidence:
    """Evidence of a block, filled channel by channel; missing channels stay 0.

    Parameters
    ----------
    block
    index : (h, w) int32
        Cell of each pixel of the block's window, as `read_index` gives it.
    fov_cells
        The FOV's cells from the first pass.
    cells : (m,) intp
        The block's cells, ascending.
    whole : (m,) bool
        Which of them lie in this block alone.
    channels
        Number of channels to score.
    """

    def __init__(
        self,
        block: Block,
        index: npt.NDArray[np.int32],
        *,
        fov_cells: FovCells,
        cells: npt.NDArray[np.intp],
        whole: npt.NDArray[np.bool_],
        channels: int,
    ) -> None:
        y0, y1, x0, x1 = block.core
        top, left = (
            max(y0 - 1, 0),
            max(x0 - 1, 0),
        )  # a pixel beyond the core, but inside the image
        self._part = block.part(
            (top, min(y1 + 1, fov_cells.shape[0]), left, min(x1 + 1, fov_cells.shape[1]))
        )
        shown, core = index[self._part], (y0 - top, y1 - top, x0 - left, x1 - left)
        self._pairs = np.concatenate(
            [touching(shown, core), _on_others(fov_cells, shown, core, (top, left))]
        )
        self._bins = PixelBins.of(
            shown, core, cells=cells, centroid=_centroids(fov_cells, cells), corner=(top, left)
        )
        self._whole = whole
        self._value = np.zeros((3, int(whole.sum()), channels), np.float32)
        self._total = np.zeros((channels, BINS, int((~whole).sum())))

    def add(self, channel: int, plane: Float32Array) -> None:
        """Measure a channel: (h, w) of the block's window, not divided by the normaliser."""
        total, count = self._bins.sums(plane[self._part]), self._bins.count
        self._value[:, :, channel] = rim_and_inside(total[:, self._whole], count[:, self._whole])
        self._total[channel] = total[:, ~self._whole]

    def part(self) -> PartEvidence:
        """The result."""
        return PartEvidence(
            self._value, self._total, self._bins.count[:, ~self._whole], self._pairs
        )


def _centroids(fov_cells: FovCells, cells: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """(m, 2) y, x of some cells on the model's grid; the centre of its first pixel is (0, 0)."""
    geometry = fov_cells.geometry
    image = (
        np.stack([geometry.sum_y[cells], geometry.sum_x[cells]], 1) / geometry.count[cells][:, None]
    )
    return np.asarray((image + 0.5) / [fov_cells.y.scale, fov_cells.x.scale] - 0.5)


def _on_others(
    fov_cells: FovCells,
    shown: npt.NDArray[np.int32],
    core: tuple[int, int, int, int],
    corner: tuple[int, int],
) -> npt.NDArray[np.int32]:
    """Pairs of rescued cells and the cells whose pixel they share: these touch."""
    cell, y, x = (
        fov_cells.rescued[:, 0],
        fov_cells.rescued[:, 1] - corner[0],
        fov_cells.rescued[:, 2] - corner[1],
    )
    in_core = (y >= core[0]) & (y < core[1]) & (x >= core[2]) & (x < core[3])
    cell, owner = cell[in_core], shown[y[in_core], x[in_core]]
    beneath = (owner >= 0) & (owner != cell)
    return np.stack([cell[beneath], owner[beneath]], 1).astype(np.int32)


class EvidenceJoin:
    """Joins the evidence of the blocks of a FOV.

    Parameters
    ----------
    n, channels
        Number of cells of the FOV and of channels.
    """

    def __init__(self, n: int, channels: int) -> None:
        self.rim = np.zeros((3, n, channels), np.float32)
        self._pairs = [np.zeros((0, 2), np.int32)]
        self._shared: list[
            tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], npt.NDArray[np.int64]]
        ] = []

    def take(
        self, cells: npt.NDArray[np.intp], whole: npt.NDArray[np.bool_], part: PartEvidence
    ) -> None:
        """Add the part of a block, in the plan's order; ``cells`` and ``whole`` are the block's."""
        self.rim[:, cells[whole]] = part.value
        self._pairs.append(part.pairs)
        if not whole.all():
            self._shared.append((cells[~whole], part.total, part.count))

    def close(self) -> tuple[Float32Array, npt.NDArray[np.int32]]:
        """Layers (3, n, C): rim_mean, rim_low, inside_mean; and pairs (p, 2) of touching cells."""
        if self._shared:
            cells = np.unique(np.concatenate([one for one, _, _ in self._shared]))
            total = np.zeros((self.rim.shape[2], BINS, len(cells)))
            count = np.zeros((BINS, len(cells)), np.int64)
            for some, sums, pixels in self._shared:
                at = np.searchsorted(cells, some)
                total[:, :, at] += sums
                count[:, at] += pixels
            self.rim[:, cells] = rim_and_inside(total, count).transpose(0, 2, 1)
        return self.rim, np.concatenate(self._pairs)
