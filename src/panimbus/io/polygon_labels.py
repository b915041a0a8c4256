"""Polygons of a GeoJSON file as a lazy label image."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.types import Array
from panimbus.io.geojson import PolygonCell, read_geojson_cells, read_geojson_regions
from panimbus.io.outlines import is_inside

_AT_ONCE = 1 << 22  # crossings of outlines and rows
_STRIP = 1024
_CROSSINGS = 1_000_000  # of outlines and rows, plus four per pixel: far more than cells have
_LARGER, _INSIDE = 10, 3  # times the median area; polygons inside
_LOOKED_AT = 5, 100  # largest polygons, and polygons that may lie in each


def _cell_areas(cells: Sequence[PolygonCell]) -> Array:
    """(n,) area of each cell's outlines in square pixels; holes are not taken off."""
    out = np.zeros(len(cells))
    for i, cell in enumerate(cells):
        for rings in cell.polygons:
            x, y = (rings[0] - rings[0][0]).T
            out[i] += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return out


def _contains(cell: PolygonCell, point: Array) -> bool:
    """Whether a point (x, y) lies inside a cell (even-odd)."""
    return any(sum(is_inside(ring, *point) for ring in rings) % 2 for rings in cell.polygons)


class Edges:
    """Edges of many cells as flat arrays, for scan-line filling (even-odd within a polygon).

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
        """Number of crossings of outlines and rows, the cost of filling."""
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


class GeoJsonLabels(LazyArray):
    """Polygons as a (Y, X) uint32 label image, ids from 1 in file order.

    Earlier cells win where polygons overlap.

    A pixel belongs to a cell if its centre lies inside. A cell that would get no pixel gets the
    free one nearest to its centre, or one of a neighbour that has others, so that each keeps at
    least one. A file without polygons, and one with a polygon around several others (the outline of
    a tissue), is refused when pixels are first asked for.

    Parameters
    ----------
    path
        The file; parsed when pixels are first asked for.
    shape : (Y, X)
        Size of the image.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        super().__init__(shape, np.uint32)
        self._path = path
        self._lock = threading.Lock()
        self._cells: list[PolygonCell] | None = None
        self._boxes: Array = np.zeros((0, 4), np.int64)
        self._edges: Edges | None = None
        self._rescued: dict[tuple[int, int], int] = {}

    def __reduce__(self) -> tuple[type[GeoJsonLabels], tuple[Path, tuple[int, int]]]:
        return type(self), (self._path, (self._shape[0], self._shape[1]))

    @property
    def names(self) -> dict[int, str]:
        """Name (or QuPath's id) of each label."""
        return {i: cell.name for i, cell in enumerate(self._load(), 1)}

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read rows and columns."""
        (y0, y1), (x0, x1) = ranges
        self._load()
        out = self._draw(y0, y1, x0, x1)
        for (y, x), label in self._rescued.items():
            if y0 <= y < y1 and x0 <= x < x1:
                out[y - y0, x - x0] = label
        return out

    def _load(self) -> list[PolygonCell]:
        with self._lock:
            if self._cells is None:
                self._cells = self._read()
            return self._cells

    def _read(self) -> list[PolygonCell]:
        cells = read_geojson_cells(self._path)
        self._take(cells)
        self._check_around(cells)
        self._rescued = self._rescue(cells)
        return cells

    def _take(self, cells: list[PolygonCell]) -> None:
        """Keep the outlines for drawing; refuse those that do not fit the image."""
        self._boxes = np.array([c.box for c in cells], np.int64).reshape(-1, 4)
        self._check_inside(cells)
        self._edges = Edges(cells)
        self._check_length(self._edges)

    def _check_inside(self, cells: list[PolygonCell]) -> None:
        outside = (self._boxes[:, 0] >= self._shape[0]) | (self._boxes[:, 2] >= self._shape[1])
        outside |= (self._boxes[:, 1] <= 0) | (self._boxes[:, 3] <= 0)
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise ReadError(
                f"{self._path}: {int(outside.sum())} of {len(cells)} polygons lie outside the"
                " image.",
                expected=f"coordinates in pixels of the image, (Y, X) = {self._shape}",
                got=(
                    f"polygon {i + 1}: y {cells[i].box[0]} to {cells[i].box[1]}, x"
                    f" {cells[i].box[2]} to {cells[i].box[3]}"
                ),
                fix="export the polygons of this very image, in pixels (not µm)",
            )

    def _check_around(self, cells: list[PolygonCell]) -> None:
        """Refuse a polygon much larger than the others with several of them inside: no cell."""
        area = _cell_areas(cells)
        b = self._boxes
        middle = np.stack([b[:, 2] + b[:, 3], b[:, 0] + b[:, 1]], 1) / 2
        largest = np.argsort(-area, kind="stable")[: _LOOKED_AT[0]]
        for i in largest[area[largest] > _LARGER * np.median(area)].tolist():
            boxed = (
                (b[:, 0] >= b[i, 0])
                & (b[:, 1] <= b[i, 1])
                & (b[:, 2] >= b[i, 2])
                & (b[:, 3] <= b[i, 3])
            )
            boxed[i] = False
            some = np.flatnonzero(boxed & (area >= 1) & (area < area[i] / _LARGER))
            some = some[:: -(-len(some) // _LOOKED_AT[1]) or 1]
            if len(some) and sum(_contains(cells[i], middle[k]) for k in some.tolist()) >= min(
                _INSIDE, len(cells) - 1
            ):
                raise ReadError(
                    f"{self._path}: polygon {i + 1} has other polygons inside, so it is no cell.",
                    expected="the outlines of cells and nothing else",
                    got=(
                        f"{cells[i].name or 'a polygon'} of {area[i]:,.0f} pixels, the others have"
                        f" {np.median(area):,.0f}"
                    ),
                    fix="export cells or detections without annotations, or delete this object",
                )

    def _check_length(self, edges: Edges) -> None:
        """Refuse outlines that would take too long to fill."""
        crossings, most = (
            edges.crossings(self._shape[0]),
            4 * self._shape[0] * self._shape[1] + _CROSSINGS,
        )
        if crossings > most:
            raise ReadError(
                f"{self._path}: the outlines cross the rows of the image far more often than those"
                " of cells.",
                expected=f"at most {most:,} crossings for an image of (Y, X) = {self._shape}",
                got=f"{crossings:,}",
                fix="export the outlines of cells",
            )

    def _draw(self, y0: int, y1: int, x0: int, x1: int) -> Array:
        """Labels of a region, without rescued pixels."""
        b = self._boxes
        hit = np.flatnonzero((b[:, 0] < y1) & (b[:, 1] > y0) & (b[:, 2] < x1) & (b[:, 3] > x0))
        if self._edges is None or not hit.size:
            return np.zeros((y1 - y0, x1 - x0), np.uint32)
        return self._edges.draw(hit, (y0, y1, x0, x1))

    def _rescue(self, cells: list[PolygonCell]) -> dict[tuple[int, int], int]:
        """A pixel for each cell without one; two passes over the image in strips."""
        sizes = np.zeros(len(cells) + 1, np.int64)
        for y in range(0, self._shape[0], _STRIP):
            part = self._draw(y, min(y + _STRIP, self._shape[0]), 0, self._shape[1])
            sizes += np.bincount(part.ravel(), minlength=len(sizes))
        taken: dict[tuple[int, int], int] = {}
        for label in np.flatnonzero(sizes[1:] == 0) + 1:
            y, x, owner = self._spare(cells[label - 1], sizes, taken)
            sizes[owner] -= 1
            taken[y, x] = int(label)
        return taken

    def _spare(
        self, cell: PolygonCell, sizes: Array, taken: dict[tuple[int, int], int]
    ) -> tuple[int, int, int]:
        """Nearest pixel of background, or of a cell with others, to a cell's centre; its owner."""
        ring = cell.polygons[0][0]
        middle_x, middle_y = (ring.min(axis=0) + ring.max(axis=0)) / 2 - 0.5
        height, width = self._shape
        reach = 2
        while True:
            y0, y1 = max(int(middle_y) - reach, 0), min(int(middle_y) + reach + 2, height)
            x0, x1 = max(int(middle_x) - reach, 0), min(int(middle_x) + reach + 2, width)
            if y1 > y0 and x1 > x0:
                owner = self._draw(y0, y1, x0, x1)
                ys, xs = np.indices(owner.shape)
                distance = (ys + y0 - middle_y) ** 2 + (xs + x0 - middle_x) ** 2
                for at in np.argsort(distance, axis=None, kind="stable"):
                    i, j = np.unravel_index(at, owner.shape)
                    owner_id = int(owner[i, j])
                    if (y0 + int(i), x0 + int(j)) not in taken and (
                        owner_id == 0 or sizes[owner_id] > 1
                    ):
                        return y0 + int(i), x0 + int(j), owner_id
            if y0 == 0 and x0 == 0 and y1 == height and x1 == width:
                raise ReadError(
                    f"{self._path}: there are more polygons than pixels.",
                    got=f"image (Y, X) = {self._shape}",
                )
            reach *= 4


class GeoJsonRegions(GeoJsonLabels):
    """Polygons of a GeoJSON file as a (Y, X) mask: 0 = outside all of them.

    Regions may lie inside others and may reach beyond the image. In QuPath's files the annotations
    count, or all objects if there is no annotation.

    Parameters as those of `GeoJsonLabels`.
    """

    def _read(self) -> list[PolygonCell]:
        regions = read_geojson_regions(self._path)
        self._take(regions)
        return regions
