"""Evidence whether a stain is a cell's own: its rim, its inside and the cells that touch it.

A cell's pixels fall into bins: its rim by the direction in which a pixel lies from the centroid,
and its inside. Sums and counts of bins add up over tiles and blocks, exactly; quantiles of pixels
do not. All windows are of the model's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.labels import changes, interior
from panimbus.core.table import EVIDENCE
from panimbus.core.types import Array, Float64Array

Window = tuple[int, int, int, int]
Corner = tuple[int, int]

BINS = 10
"""Bins of a cell: nine of the rim (NW N NE, W centre E, SW S SE), and the inside."""
_CENTRE, _INSIDE = 4, 9
_SECTORS = [0, 1, 2, 3, 5, 6, 7, 8]
_SLOPE = float(np.tan(np.pi / 8))


def compass(dy: Array, dx: Array) -> npt.NDArray[np.int8]:
    """Compass direction of an offset: eight sectors of 45 degrees, and the centre.

    No pixel lies on a border between sectors (its slope is irrational), and mirroring an image
    permutes them.

    Parameters
    ----------
    dy, dx : any shape, float
        Offset from the centroid; y points down.

    Returns
    -------
    int8
        Position in a compass of 3 x 3, row by row; 4 where both offsets are 0.

    Examples
    --------
    >>> compass(np.array([-9.0, -2.0, 0.0, 1.0]), np.array([1.0, 2.0, 0.0, 0.1])).tolist()
    [1, 2, 4, 7]
    """
    high, wide = np.abs(dy), np.abs(dx)
    row = 1 + np.sign(dy) * (high > _SLOPE * wide)
    column = 1 + np.sign(dx) * (wide > _SLOPE * high)
    return np.asarray(3 * row + column, np.int8)


@dataclass(frozen=True)
class PixelBins:
    """The pixels of a window, cell by cell and bin by bin; sorted once, used for every channel.

    Parameters
    ----------
    pixel : (p,) intp
        Positions in the flattened window.
    begin : (k,) intp
        Where the pixels of each bin that has any begin in ``pixel``.
    at : (k,) intp
        Those bins, as positions in a flattened (m, `BINS`).
    count : (`BINS`, m) int64
        Pixels of each bin and cell.
    """

    pixel: npt.NDArray[np.intp]
    begin: npt.NDArray[np.intp]
    at: npt.NDArray[np.intp]
    count: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        index: npt.NDArray[np.int32],
        core: Window,
        *,
        cells: Array,
        centroid: Float64Array,
        corner: Corner,
    ) -> PixelBins:
        """Sort the pixels of a window's core.

        Parameters
        ----------
        index : (h, w) int32
            Cell of each pixel, -1 = background. Where the core does not end at the image's edge the
            window reaches a pixel beyond it: the rim is found by looking at the 4 neighbours, and
            the image's edge is no rim.
        core
            (y0, y1, x0, x1) in the window: the pixels that count.
        cells : (m,) integer
            The cells to measure, ascending; all that have pixels in the core.
        centroid : (m, 2) float64
            Their y, x in the image; the centre of the first pixel is (0, 0).
        corner
            (y, x) of the window's first pixel in the image.
        """
        inner, counts = interior(index + 1), np.zeros(index.shape, np.bool_)
        counts[core[0] : core[1], core[2] : core[3]] = True
        pixel = np.flatnonzero((index >= 0) & counts)
        position = np.zeros(int(index.max(initial=0)) + 1, np.int64)
        position[cells[cells < len(position)]] = np.arange(np.searchsorted(cells, len(position)))
        owner = position[index.ravel()[pixel]]
        bins = np.full(len(pixel), _INSIDE, np.int8)
        rim = np.flatnonzero(~inner.ravel()[pixel])
        y, x = np.divmod(pixel[rim], index.shape[1])
        centre = centroid[owner[rim]]
        bins[rim] = compass(y + corner[0] - centre[:, 0], x + corner[1] - centre[:, 1])
        key = owner * BINS + bins
        order = np.argsort(key, kind="stable")
        key = key[order]
        begin = np.flatnonzero(changes(key))
        count = np.bincount(key, minlength=len(cells) * BINS).reshape(-1, BINS).T
        return cls(pixel[order], begin, key[begin], count)

    def sums(self, plane: Array) -> Float64Array:
        """(`BINS`, m) sum of a channel (h, w) over each bin of each cell."""
        out = np.zeros(self.count.size)
        if len(self.pixel):
            out[self.at] = np.add.reduceat(plane.ravel()[self.pixel], self.begin, dtype=np.float64)
        return out.reshape(-1, BINS).T


def rim_and_inside(total: Float64Array, count: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The evidence of a cell's own pixels, from the sums of its bins.

    A signal that one neighbour lends is bright on one side of the rim only. So ``rim_low`` is the
    lower quartile (linear interpolation, as ``numpy.percentile(..., 25)``) of the sectors' means,
    of those sectors that have rim pixels. It is a quartile of at most eight means and not of the
    pixels, because sums per sector add up over the pieces of a cell that lies across tiles, and
    quantiles do not.

    Parameters
    ----------
    total : (..., `BINS`, m) float64
        Sum of the intensities per bin and cell.
    count : (`BINS`, m) int64
        Pixels per bin and cell.

    Returns
    -------
    (3, ..., m) float32
        ``rim_mean``, ``rim_low``, ``inside_mean``. A cell that is all rim has its rim's mean
        inside, and one without a rim (it fills the image) the mean of its inside on the rim. A rim
        of a single pixel at the centroid is in no sector: its mean is ``rim_low``, too. Without any
        pixel: 0.

    Examples
    --------
    >>> count = np.array([[0, 4, 0, 2, 1, 0, 0, 2, 0, 5]]).T  # N, W, centre, S and the inside
    >>> total = np.array([[0, 4, 0, 4, 8, 0, 0, 18, 0, 5.0]]).T  # means 1, 2, 8, 9 and 1
    >>> rim_and_inside(total, count)[:, 0].tolist()  # 34 / 9; lower quartile of 1, 2, 9; 1
    [3.777777671813965, 1.5, 1.0]
    """
    inner, rim = count[_INSIDE], count[:_INSIDE].sum(0)
    inside_mean = total[..., _INSIDE, :] / np.maximum(inner, 1)
    rim_mean = np.where(rim > 0, total[..., :_INSIDE, :].sum(-2) / np.maximum(rim, 1), inside_mean)
    inside_mean = np.where(inner > 0, inside_mean, rim_mean)
    used = count[_SECTORS] > 0
    means = np.sort(
        np.where(used, total[..., _SECTORS, :] / np.maximum(count[_SECTORS], 1), np.inf), axis=-2
    )
    place = 0.25 * np.maximum(used.sum(0) - 1, 0)
    low = place.astype(np.intp)
    shape = (*means.shape[:-2], 1, means.shape[-1])
    below, above = (
        np.take_along_axis(means, np.broadcast_to(k, shape), -2)[..., 0, :]
        for k in (low, low + (place > low))
    )
    with np.errstate(invalid="ignore"):  # inf - inf, of cells without sectors
        quartile = below + (place - low) * (above - below)
    return np.stack([rim_mean, np.where(used.any(0), quartile, rim_mean), inside_mean]).astype(
        np.float32
    )


def touching(index: npt.NDArray[np.int32], core: Window) -> npt.NDArray[np.int32]:
    """Pairs of cells that share a pixel edge whose upper or left pixel lies in a window's core.

    Parameters
    ----------
    index : (h, w) int32
        Cell of each pixel, -1 = background. The cores of an image's windows see each pair if the
        windows reach a pixel further.
    core
        (y0, y1, x0, x1) in the window.

    Returns
    -------
    (p, 2) int32
        The smaller position first; each pair once, rising.

    Examples
    --------
    >>> touching(np.array([[0, 0, 2], [1, -1, 2]], np.int32), (0, 2, 0, 3)).tolist()
    [[0, 1], [0, 2]]
    """
    y0, y1, x0, x1 = core
    lower, right = index[y0 : y1 + 1, x0:x1], index[y0:y1, x0 : x1 + 1]
    keys = []
    for a, b in ((lower[:-1], lower[1:]), (right[:, :-1], right[:, 1:])):
        where = (a != b) & (a >= 0) & (b >= 0)
        first, second = a[where].astype(np.int64), b[where].astype(np.int64)
        keys.append((np.minimum(first, second) << 32) | np.maximum(first, second))
    pairs = np.unique(np.concatenate(keys))
    return np.stack([pairs >> 32, pairs & 0xFFFFFFFF], 1).astype(np.int32)


def neighbour_max(
    mean: npt.NDArray[np.float32], pairs: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """The largest mean intensity among the cells that touch a cell.

    Parameters
    ----------
    mean : (n, C) float32
        Mean intensity of each cell; NaN = missing.
    pairs : (p, 2) int32
        Cells that touch, in any order, also more than once.

    Returns
    -------
    (n, C) float32
        0 where nothing touches; NaN where a cell that touches has no mean.

    Examples
    --------
    >>> mean = np.array([[1], [5], [3], [9]], np.float32)
    >>> neighbour_max(mean, np.array([[0, 1], [0, 2]], np.int32)).ravel().tolist()
    [5.0, 1.0, 1.0, 0.0]
    """
    out = np.zeros_like(mean)
    cell = np.concatenate([pairs[:, 0], pairs[:, 1]])
    order = np.argsort(cell, kind="stable")
    neighbour, begin = (
        np.concatenate([pairs[:, 1], pairs[:, 0]])[order],
        np.flatnonzero(changes(cell[order])),
    )
    rows = cell[order][begin]
    for k in range(
        mean.shape[1] if len(cell) else 0
    ):  # channel by channel: there are many more pairs than cells
        out[rows, k] = np.maximum.reduceat(mean[neighbour, k], begin)
    return out


def evidence_layers(
    rim: npt.NDArray[np.float32],
    pairs: npt.NDArray[np.int32],
    mean: npt.NDArray[np.float32],
    *,
    rescued: npt.NDArray[np.intp],
    blank: npt.NDArray[np.bool_],
) -> Mapping[str, npt.NDArray[np.float32]]:
    """The layers of the cell table.

    Parameters
    ----------
    rim : (3, n, C) float32
        From `rim_and_inside`; changed in place.
    pairs : (p, 2) int32
        Cells that touch.
    mean : (n, C) float32
        Mean intensity of each cell; NaN = missing: so is its evidence.
    rescued : (k,) intp
        Cells without a pixel of their own: the mean intensity stands for their rim and inside.
    blank : (C,) bool
        Channels that are not scored: 0.

    Returns
    -------
    dict
        Name of `panimbus.core.table.EVIDENCE` -> (n, C) float32.
    """
    rim[:, rescued] = mean[rescued]
    missing = np.isnan(mean)
    layers = dict(zip(EVIDENCE, (*rim, neighbour_max(mean, pairs)), strict=True))
    for values in layers.values():
        values[:, blank] = 0
        values[missing] = np.nan
    return layers
