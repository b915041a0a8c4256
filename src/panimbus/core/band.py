"""Sums over a band of rows, the unit of the first pass; they are small and join exactly.

Cells are wide compared with a pixel, so everything is first counted per run of equal labels along a
row: a tenth as many items as pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from panimbus.core.histogram import Histogram, check_finite
from panimbus.core.labels import CellIndex, changes, sample_at, unique_ids
from panimbus.core.resample import Axis
from panimbus.core.types import Array, BoolArray, Float64Array, Int64Array

_PART = 1 << 17
_KINDS: tuple[bool | None, ...] = (None, False, True)
_CHANNELS = ("sums", "outside_sum", "outside_count", "holes")


@dataclass(frozen=True, eq=False)
class BandCells:
    """The cells of a band.

    Parameters
    ----------
    ids : (m,) integer, sorted
        Labels that occur in the band.
    count, sum_y, sum_x : (m,) int64
        Pixels of each, and the sums of their coordinates in the whole image.
    sum_square : (m,) float64
        Sum of the squares of both coordinates.
    centres : (m,) int64
        Model pixels whose centre each label contains.
    lost : (k, 4) int32
        Runs of labels without a centre in this band: position in ``ids``, row, first column, behind
        the last.
    excluded : (m + 1,) int64
        Pixels in excluded regions: those of the background, then those of each label.
    """

    ids: Array
    count: Int64Array
    sum_y: Int64Array
    sum_x: Int64Array
    sum_square: Float64Array
    centres: Int64Array
    lost: npt.NDArray[np.int32]
    excluded: Int64Array

    def cells(self) -> dict[str, Array]:
        """The fields of `BandCells` by name."""
        return {field.name: getattr(self, field.name) for field in fields(BandCells)}


@dataclass(frozen=True, eq=False)
class BandScan(BandCells):
    """Result of the first pass for one band: its cells, and their channels.

    Parameters
    ----------
    rows
        (first, behind the last) row of the image.
    sums : (C, m) float64
        Sum of each channel's intensities over each label; NaN where a pixel could not be read.
    outside_sum, outside_count : (C,) float64, (C,) int64
        Sum and number of the readable pixels outside cells and excluded regions.
    pixels : C histograms
        Of the readable pixels outside excluded regions.
    digests : C + 1 texts
        Hash of the labels, then of each channel.
    holes : (s, 5) int64
        Unreadable parts: position of the channel, first row, behind the last, first column, behind
        the last.
    """

    rows: tuple[int, int]
    sums: Float64Array
    outside_sum: Float64Array
    outside_count: Int64Array
    pixels: tuple[Histogram, ...]
    digests: tuple[str, ...]
    holes: Int64Array

    def to_arrays(self) -> dict[str, Array]:
        """Plain arrays, for ``numpy.savez``; `from_arrays` gives back the same."""
        empty = [np.zeros(0, np.int64)]
        return {
            **self.cells(),
            **{name: getattr(self, name) for name in _CHANNELS},
            "rows": np.array(self.rows, np.int64),
            "digests": np.array(self.digests),
            "keys": np.concatenate([h.keys for h in self.pixels] or empty),
            "counts": np.concatenate([h.counts for h in self.pixels] or empty),
            "lengths": np.array([len(h.keys) for h in self.pixels], np.int64),
            "kinds": np.array([_KINDS.index(h.is_float) for h in self.pixels], np.int64),
        }

    @classmethod
    def from_arrays(cls, data: Mapping[str, Array]) -> BandScan:
        """Inverse of `to_arrays`."""
        data = {"excluded": np.zeros(len(data["ids"]) + 1, np.int64), **data}  # before version 1.0
        ends = np.cumsum(data["lengths"])[:-1]
        parts = zip(
            np.split(data["keys"], ends),
            np.split(data["counts"], ends),
            data["kinds"],
            strict=False,
        )
        return cls(
            **{field.name: data[field.name] for field in fields(BandCells)},
            **{name: data[name] for name in _CHANNELS},
            rows=(int(data["rows"][0]), int(data["rows"][1])),
            pixels=tuple(
                Histogram(keys, counts, _KINDS[int(kind)]) for keys, counts, kind in parts
            ),
            digests=tuple(str(d) for d in data["digests"]),
        )


@dataclass(frozen=True, eq=False)
class LabelBand(BandCells):
    """The labels of a band, as runs of equal labels along rows.

    Parameters
    ----------
    starts : (k,) intp
        First pixel of each run, counted through the band row by row.
    cell : (k,) int32
        Position in ``ids`` of each run's label plus one, 0 = background.
    digest
        Hash of the pixels, and of the excluded ones.
    kept : (h * w,) bool
        Pixels outside excluded regions; None if no pixel of the band is excluded.
    """

    starts: npt.NDArray[np.intp]
    cell: npt.NDArray[np.int32]
    digest: str
    kept: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class PlaneBand:
    """One channel of a band: its sums, histogram and digest, as in `BandScan`."""

    sums: Float64Array
    outside_sum: float
    outside_count: int
    pixels: Histogram
    digest: str


def look_at_labels(
    labels: Array, y: Axis, x: Axis, first_row: int, excluded: BoolArray | None = None
) -> LabelBand:
    """Find the cells of a band.

    Parameters
    ----------
    labels : (h, w) integer, 0 = background, not negative
        Whole rows of the label image.
    y, x
        The two axes.
    first_row
        Of the band, in the whole image.
    excluded : (h, w) bool
        Excluded pixels.
    """
    width = labels.shape[1]
    starts = _run_starts(labels)
    ids, cell = _positions(labels.reshape(-1)[starts])
    row = starts // width
    column = starts - row * width
    length = np.diff(starts, append=labels.size)
    per_cell = (cell, len(ids) + 1)
    row += first_row
    count = _sum(per_cell, length)
    centres = _centres(labels, ids, (y, x), first_row, (per_cell, row, column, length))
    squares = (
        length * (row**2 + column * (column + length - 1))
        + (length - 1) * length * (2 * length - 1) // 6
    )
    lost = np.flatnonzero((cell > 0) & np.append(False, centres == 0)[cell])
    return LabelBand(
        ids=ids,
        starts=starts,
        cell=cell,
        count=count,
        sum_y=_sum(per_cell, row * length),
        sum_x=_sum(per_cell, length * column + length * (length - 1) // 2),
        sum_square=np.bincount(cell, squares, len(ids) + 1)[1:].astype(np.float64, copy=False),
        centres=centres,
        lost=np.stack(
            [cell[lost] - 1, row[lost], column[lost], column[lost] + length[lost]], 1
        ).astype(np.int32),
        excluded=_excluded(per_cell, starts, excluded),
        digest=_pixel_digest(labels) + ("" if excluded is None else _pixel_digest(excluded)),
        kept=None if excluded is None or not excluded.any() else ~excluded.reshape(-1),
    )


def _excluded(
    per_cell: tuple[npt.NDArray[np.int32], int],
    starts: npt.NDArray[np.intp],
    excluded: BoolArray | None,
) -> Int64Array:
    """(m + 1,) excluded pixels of the background, then of each label."""
    if excluded is None or not excluded.size:
        return np.zeros(per_cell[1], np.int64)
    per_run = np.add.reduceat(excluded.reshape(-1), starts, dtype=np.int64)
    return np.bincount(per_cell[0], per_run, per_cell[1]).astype(np.int64)


def look_at_plane(
    plane: Array, labels: LabelBand, first_row: int, holes: Sequence[tuple[int, int, int, int]] = ()
) -> PlaneBand:
    """Sum up one channel of a band.

    Parameters
    ----------
    plane : (h, w), any number
    labels
        From `look_at_labels`.
    first_row
        Of the band, in the whole image.
    holes
        (first row, behind the last, first column, behind the last) in the whole image of the parts
        that could not be read.

    Raises
    ------
    InputError
        If a pixel is NaN or infinite, in an excluded region, too: the net sees it.
    """
    flat = plane.reshape(-1)
    sums, background = _run_sums(flat, labels), labels.cell == 0
    length = np.diff(labels.starts, append=flat.size)
    outside_count, outside_sum = int(length[background].sum()), float(sums[0])
    readable, kept = flat, labels.kept
    if holes:
        missing = np.zeros(plane.shape, np.bool_)
        for y0, y1, x0, x1 in holes:
            missing[y0 - first_row : y1 - first_row, x0:x1] = True
        readable = flat[~missing.reshape(-1)]
        kept = None if kept is None else kept & ~missing.reshape(-1)
        lacking = np.add.reduceat(missing.reshape(-1), labels.starts, dtype=np.int64)
        outside_count -= int(lacking[background].sum())
        sums[np.unique(labels.cell[(lacking > 0) & ~background])] = np.nan
    if kept is not None:
        check_finite(readable)
        outside = flat[kept & np.repeat(background, length)]
        outside_count, outside_sum = len(outside), float(outside.sum(dtype=np.float64))
        readable = flat[kept]
    return PlaneBand(
        sums=sums[1:],
        outside_sum=outside_sum,
        outside_count=outside_count,
        pixels=Histogram.of(readable),
        digest=_pixel_digest(plane, holes),
    )


def _pixel_digest(pixels: Array, holes: Sequence[tuple[int, int, int, int]] = ()) -> str:
    """SHA-256 (fast in hardware) of the bytes of an array and the places of its holes."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)
    if holes:
        digest.update(repr(sorted(holes)).encode())
    return digest.hexdigest()[:32]


def nearest_pixels(runs: Int64Array, centroid_yx: Float64Array) -> tuple[Int64Array, Int64Array]:
    """Pixel of each cell nearest to its centroid; of equally near ones the upper, then the left.

    Parameters
    ----------
    runs : (k, 4) int64
        Cell, row, first column, behind the last.
    centroid_yx : (n, 2) float64
        Of every cell, in pixels.

    Returns
    -------
    cells : (c,) int64, sorted
        The cells that have runs.
    pixels : (c, 2) int64
        (y, x).

    Examples
    --------
    >>> import numpy as np
    >>> nearest_pixels(np.array([[0, 5, 2, 9], [0, 6, 2, 3]]), np.array([[5.2, 4.5]]))
    (array([0]), array([[5, 4]]))
    """
    cell, y, first, behind = runs.T
    x = np.clip(np.ceil(centroid_yx[cell, 1] - 0.5).astype(np.int64), first, behind - 1)
    distance2 = (y - centroid_yx[cell, 0]) ** 2 + (x - centroid_yx[cell, 1]) ** 2
    order = np.lexsort((x, y, distance2, cell))
    best = order[changes(cell[order])]
    return cell[best], np.stack([y[best], x[best]], 1)


def _run_starts(labels: Array) -> npt.NDArray[np.intp]:
    change = changes(labels.reshape(-1))
    change[:: max(1, labels.shape[1])] = True
    return np.flatnonzero(change)


def _positions(values: Array) -> tuple[Array, npt.NDArray[np.int32]]:
    """The sorted positive values, and the position plus one of each value among them (0 for 0)."""
    ids = unique_ids(values)
    return ids, CellIndex(ids)(values) + np.int32(1)


def _sum(per_cell: tuple[npt.NDArray[np.int32], int], weights: Array) -> Int64Array:
    """Exact: sums of whole numbers below 2^53."""
    return np.bincount(per_cell[0], weights, per_cell[1])[1:].astype(np.int64)


def _centres(
    labels: Array,
    ids: Array,
    axes: tuple[Axis, Axis],
    first_row: int,
    runs: tuple[tuple[npt.NDArray[np.int32], int], Array, Array, Array],
) -> Int64Array:
    """Number of model pixels that take each label."""
    y, x = axes
    rows, columns = y.centres(0, y.size), x.centres(0, x.size)
    if y.factor is not None and y.factor % 2 == 0:  # centres lie on corners: four pixels vote
        inside = (rows[1] >= first_row) & (rows[1] < first_row + labels.shape[0])
        later = y.later(0, y.size)[inside], x.later(0, x.size)
        sampled = sample_at(labels, [r[inside] - first_row for r in rows], columns, later)
        starts = _run_starts(sampled)
        cell = CellIndex(ids)(sampled.reshape(-1)[starts]) + np.int32(1)
        return _sum((cell, len(ids) + 1), np.diff(starts, append=sampled.size))
    per_cell, row, column, length = runs
    per_row = np.bincount(rows[1], minlength=y.n)
    left_of = np.append(0, np.cumsum(np.bincount(columns[1], minlength=x.n)))
    return _sum(per_cell, per_row[row] * (left_of[column + length] - left_of[column]))


def _run_sums(flat: Array, labels: LabelBand) -> Float64Array:
    """(m + 1,) sum over the background, then over each label."""
    if not flat.size:
        return np.zeros(len(labels.ids) + 1)
    exact = flat.dtype.kind in "ui" and flat.dtype.itemsize <= 4
    per_run = np.empty(len(labels.starts), np.int64 if exact else np.float64)
    cuts = np.unique(
        np.searchsorted(labels.starts, np.arange(0, flat.size, _PART), side="right") - 1
    )
    for a, b in pairwise(
        [*cuts.tolist(), len(per_run)]
    ):  # in parts, so that the wider copy stays in the processor's cache
        first, behind = labels.starts[a], labels.starts[b] if b < len(per_run) else flat.size
        np.add.reduceat(
            flat[first:behind].astype(per_run.dtype), labels.starts[a:b] - first, out=per_run[a:b]
        )
    return np.bincount(labels.cell, per_run, len(labels.ids) + 1).astype(np.float64, copy=False)
