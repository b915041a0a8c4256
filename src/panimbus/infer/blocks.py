"""Blocks of tiles: the unit of the second pass that is computed, saved and distributed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.tiles import Tile, plan_tiles
from panimbus.core.types import Float32Array
from panimbus.core.window import Window
from panimbus.infer.evidence import EvidenceJoin, PartEvidence
from panimbus.model.card import ModelCard

READ_SIDE = 1536
"""Longest side of a block in model pixels: read at a time, and lost by an interruption."""


@dataclass(frozen=True)
class Block:
    """Tiles that are read and scored together.

    Parameters
    ----------
    number
        Its position in the FOV's plan.
    tiles
    window
        (y0, y1, x0, x1) in model pixels: everything that the tiles read.
    """

    number: int
    tiles: tuple[Tile, ...]
    window: Window

    def part(self, window: Window) -> tuple[slice, slice]:
        """A window as slices of the block's arrays."""
        y, x = self.window[0], self.window[2]
        return slice(window[0] - y, window[1] - y), slice(window[2] - x, window[3] - x)

    @property
    def core(self) -> Window:
        """(y0, y1, x0, x1) in model pixels: the pixels that belong to this block alone."""
        (y0, _, x0, _), (_, y1, _, x1) = self.tiles[0].core, self.tiles[-1].core
        return y0, y1, x0, x1

    @property
    def pixels(self) -> int:
        """Model pixels of its tiles' windows: the work of one view of one channel."""
        return sum((t.window[1] - t.window[0]) * (t.window[3] - t.window[2]) for t in self.tiles)


def plan_blocks(shape: tuple[int, int], card: ModelCard, tile: int) -> list[Block]:
    """Blocks of a FOV, top to bottom and left to right.

    Parameters
    ----------
    shape
        (Y, X) of the model's grid.
    card
    tile
        Longest side of a window, in model pixels.
    """
    # one pixel more than the reach: the outermost pixels of a block do not know whether they are on
    # a boundary
    rows = plan_tiles(
        shape,
        size=tile,
        reach=card.reach + 1,
        stride=card.stride,
        open_edges=card.padding == "valid",
    )
    first = rows[0][0].window
    per = max(1, READ_SIDE // max(first[1] - first[0], first[3] - first[2]))
    blocks: list[Block] = []
    for i in range(0, len(rows), per):
        for k in range(0, len(rows[0]), per):
            tiles = tuple(t for row in rows[i : i + per] for t in row[k : k + per])
            a, b = tiles[0].window, tiles[-1].window
            blocks.append(Block(len(blocks), tiles, (a[0], b[1], a[2], b[3])))
    return blocks


@dataclass(frozen=True)
class BlockPart:
    """Scores of the cells of a block.

    Parameters
    ----------
    number
        Number of the block.
    cells : (m,) intp
        Positions of the block's cells among the FOV's, ascending.
    whole : (m,) bool
        Cells that lie in this block alone: their scores are final.
    score, score_sd : (w, C) float32
        Of the whole cells.
    total : (C, V, m - w) float64
        Of the others: the sum of the pixel scores per channel and view.
    count : (m - w,) int64
        Model pixels of the others in this block.
    evidence
        None without evidence.
    """

    number: int
    cells: npt.NDArray[np.intp]
    whole: npt.NDArray[np.bool_]
    score: Float32Array
    score_sd: Float32Array
    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    evidence: PartEvidence | None = None

    @classmethod
    def of(
        cls,
        number: int,
        cells: npt.NDArray[np.intp],
        total: npt.NDArray[np.float64],
        count: npt.NDArray[np.int64],
        pixels: npt.NDArray[np.int64],
    ) -> BlockPart:
        """The part from sums (C, V, m) and pixel counts (m,) in the block and in the FOV (m,)."""
        whole = count == pixels
        score, score_sd = mean_and_sd(total[:, :, whole], count[whole])
        return cls(number, cells, whole, score, score_sd, total[:, :, ~whole], count[~whole])

    def to_arrays(self) -> dict[str, Any]:
        """For an npz file."""
        return {
            "number": self.number,
            "cells": self.cells,
            "whole": self.whole,
            "score": self.score,
            "score_sd": self.score_sd,
            "total": self.total,
            "count": self.count,
            **(self.evidence.to_arrays() if self.evidence is not None else {}),
        }

    @classmethod
    def from_arrays(cls, data: Mapping[str, Any]) -> BlockPart:
        """Inverse of `to_arrays`."""
        names = ("cells", "whole", "score", "score_sd", "total", "count")
        arrays: dict[str, Any] = {name: np.asarray(data[name]) for name in names}
        return cls(int(data["number"]), **arrays, evidence=PartEvidence.from_arrays(data))


def mean_and_sd(
    total: npt.NDArray[np.float64], count: npt.NDArray[np.int64]
) -> tuple[Float32Array, Float32Array]:
    """Scores of cells from their sums.

    Parameters
    ----------
    total : (C, V, n) float64
        Sum of the pixel scores per channel, view and cell.
    count : (n,) int64
        Model pixels per cell.

    Returns
    -------
    score : (n, C) float32
        Mean over pixels and views.
    score_sd : (n, C) float32
        Standard deviation over the views of the cell's mean.
    """
    per_view = total / np.maximum(count, 1)
    return per_view.mean(1).T.astype(np.float32), per_view.std(1).T.astype(np.float32)


@dataclass(frozen=True)
class Joined:
    """The joined blocks of a FOV.

    Parameters
    ----------
    score, score_sd : (n, C) float32
    rim : (3, n, C) float32
        ``rim_mean``, ``rim_low``, ``inside_mean``; None without evidence.
    pairs : (p, 2) int32
        Cells that touch.
    """

    score: Float32Array
    score_sd: Float32Array
    rim: Float32Array | None
    pairs: npt.NDArray[np.int32] | None


@dataclass(frozen=True)
class Scored:
    """Scores of a finished FOV.

    Parameters
    ----------
    score, score_sd : (n, C) float32
    evidence
        Name (`panimbus.core.table.EVIDENCE`) -> (n, C) float32; empty without evidence.
    """

    score: Float32Array
    score_sd: Float32Array
    evidence: Mapping[str, Float32Array]


def join_parts(n: int, channels: int, parts: Iterable[BlockPart]) -> Joined:
    """Scores of all cells of a FOV.

    Parameters
    ----------
    n, channels
        Cells of the FOV, channels scored.
    parts
        One of every block of the plan, **in the plan's order**, whatever order they were made in:
        float64 sums are then added in one order, and the result is the same to the last bit.
    """
    score, score_sd = np.zeros((n, channels), np.float32), np.zeros((n, channels), np.float32)
    shared: list[BlockPart] = []
    evidence: EvidenceJoin | None = None
    for part in parts:
        if part.evidence is not None:
            evidence = evidence or EvidenceJoin(n, channels)
            evidence.take(part.cells, part.whole, part.evidence)
        score[part.cells[part.whole]], score_sd[part.cells[part.whole]] = part.score, part.score_sd
        if not part.whole.all():  # keep only what must be added up
            none = np.zeros((0, channels), np.float32)
            shared.append(
                BlockPart(
                    part.number,
                    part.cells[~part.whole],
                    part.whole[:0],
                    none,
                    none,
                    part.total,
                    part.count,
                )
            )
    if shared:
        cells = np.unique(np.concatenate([part.cells for part in shared]))
        total, count = (
            np.zeros((channels, shared[0].total.shape[1], len(cells))),
            np.zeros(len(cells), np.int64),
        )
        for part in shared:
            at = np.searchsorted(cells, part.cells)
            total[:, :, at] += part.total
            count[at] += part.count
        score[cells], score_sd[cells] = mean_and_sd(total, count)
    return Joined(score, score_sd, *(evidence.close() if evidence is not None else (None, None)))
