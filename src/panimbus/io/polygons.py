"""Polygons painted into a label image, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from panimbus.core.types import Array


@dataclass(frozen=True, eq=False)
class PolygonCell:
    """A polygon or several, in pixels; pixel (y, x) covers y..y+1, x..x+1.

    Parameters
    ----------
    polygons
        Each a list of rings, (N, 2) float64 of x, y: the outline, then holes.
    name
        ``id`` of the feature, or its name, or empty.
    box
        y0, y1, x0, x1: pixels it may touch.
    """

    polygons: list[list[Array]]
    name: str
    box: tuple[int, int, int, int]


_AT_ONCE = 1 << 22  # crossings of outlines and rows


def areas(cells: Sequence[PolygonCell]) -> Array:
    """(n,) area of each cell's outlines in square pixels; holes are not taken off."""
    out = np.zeros(len(cells))
    for i, cell in enumerate(cells):
        for rings in cell.polygons:
            x, y = (rings[0] - rings[0][0]).T
            out[i] += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return out


def contains(cell: PolygonCell, point: Array) -> bool:
    """Whether a point (x, y) lies inside a cell (even-odd)."""
    px, py = point
    for rings in cell.polygons:
        crossed = 0
        for ring in rings:
            (x, y), (nx, ny) = ring.T, np.roll(ring, -1, axis=0).T
            over = (y > py) != (ny > py)
            crossed += int(
                (x[over] + (py - y[over]) * (nx[over] - x[over]) / (ny[over] - y[over]) > px).sum()
            )
        if crossed % 2:
            return True
    return False


class Edges:
    """The edges of many cells as flat arrays, for filling by scan lines (even-odd within a polygon,
    so holes are holes).

    Parameters
    ----------
    cells
        The cells, in order of their labels from 1.
    """

    def __init__(self, cells: Sequence[PolygonCell]) -> None:
        rings = [
            (i, k, ring)
            for i, cell in enumerate(cells)
            for k, rs in enumerate(cell.polygons)
            for ring in rs
        ]
        starts = [ring for _, _, ring in rings]
        ends = [np.roll(ring, -1, axis=0) for _, _, ring in rings]
        empty = np.zeros((0, 2))
        # centre of pixel (y, x) at integers
        self._from = np.concatenate([*starts, empty]) - 0.5
        self._to = np.concatenate([*ends, empty]) - 0.5
        lengths = np.array([len(ring) for ring in starts], np.int64)
        group = {key: n for n, key in enumerate(dict.fromkeys((i, k) for i, k, _ in rings))}
        self._group = np.repeat(np.array([group[i, k] for i, k, _ in rings], np.int64), lengths)
        self._cell_of_group = np.array([i for i, _ in group], np.int64)
        per_cell = np.bincount(
            np.array([i for i, _, _ in rings], np.int64), weights=lengths, minlength=len(cells)
        )
        self._count = per_cell.astype(np.int64)
        self._first = np.concatenate([[0], np.cumsum(self._count)])[:-1].astype(np.int64)

    def crossings(self, height: int) -> int:
        """How often outlines cross the rows of an image of this height: what filling them costs."""
        low, high = (
            np.minimum(self._from[:, 1], self._to[:, 1]),
            np.maximum(self._from[:, 1], self._to[:, 1]),
        )
        return int((np.clip(np.ceil(high), 0, height) - np.clip(np.ceil(low), 0, height)).sum())

    def draw(self, cells: Array, region: tuple[int, int, int, int]) -> Array:
        """Paint cells into a region (y0, y1, x0, x1) as (Y, X) uint32 labels.

        Of two cells on a pixel the first one stays.

        Parameters
        ----------
        cells : (N,) integer, ascending
            Which cells (from 0) to paint.
        region
            Pixels to paint.
        """
        y0, y1, x0, x1 = region
        edge = _concatenated_ranges(self._first[cells], self._count[cells])
        (ax, ay), (bx, by) = self._from[edge].T, self._to[edge].T
        top = np.clip(np.ceil(np.minimum(ay, by)), y0, y1).astype(np.int64)
        rows = np.clip(np.ceil(np.maximum(ay, by)), y0, y1).astype(np.int64) - top
        if y1 - y0 > 1 and int(rows.sum()) > _AT_ONCE:  # memory is bounded
            middle = (y0 + y1) // 2
            return np.concatenate(
                [self.draw(cells, (y0, middle, x0, x1)), self.draw(cells, (middle, y1, x0, x1))]
            )
        out = np.zeros((y1 - y0, x1 - x0), np.uint32)
        which = np.repeat(np.arange(len(edge)), rows)
        row = _concatenated_ranges(top, rows)
        slope = (bx[which] - ax[which]) / (by[which] - ay[which])
        column = np.clip(np.ceil(ax[which] + (row - ay[which]) * slope), x0, x1).astype(np.int64)
        group = self._group[edge][which]
        order = np.lexsort((column, row, -group))
        start, stop = column[order][0::2], column[order][1::2]
        length = stop - start
        flat = _concatenated_ranges((row[order][0::2] - y0) * (x1 - x0) + start - x0, length)
        out.reshape(-1)[flat] = np.repeat(self._cell_of_group[group[order][0::2]] + 1, length)
        return out


def _concatenated_ranges(first: Array, count: Array) -> Array:
    """first[0], first[0] + 1, ... (count[0] numbers), first[1], ... as one array."""
    total = int(count.sum())
    ends = np.cumsum(count)
    return np.asarray(np.arange(total) + np.repeat(first - (ends - count), count))
