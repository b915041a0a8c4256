"""Label images at the model's resolution: sampling, cell interiors, and the rescue of cells too small to be sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.resample import Axis

Array = npt.NDArray[Any]


def interior(labels: Array) -> npt.NDArray[np.bool_]:
    """Pixels of a cell that touch (4-neighbourhood) neither background nor another cell.

    Boundaries are found at the resolution of ``labels`` itself, so touching cells stay separated however far the image was
    shrunk. The image's own edge is no boundary. Equals ``(labels > 0) & ~skimage.segmentation.find_boundaries(labels,
    mode="inner", connectivity=1)``.

    Parameters
    ----------
    labels : (Y, X) integer, 0 = background

    Returns
    -------
    (Y, X) bool

    Examples
    --------
    >>> import numpy as np
    >>> interior(np.array([[1, 1, 1, 2, 2, 2]]))
    array([[ True,  True, False, False,  True,  True]])
    """
    inside = labels > 0
    same = labels[1:] == labels[:-1]
    inside[1:] &= same
    inside[:-1] &= same
    same = labels[:, 1:] == labels[:, :-1]
    inside[:, 1:] &= same
    inside[:, :-1] &= same
    return np.asarray(inside)


def sample_labels(labels: Array, y: Axis, x: Axis, window: tuple[int, int, int, int]) -> Array:
    """Label at the centre of each model pixel of a window.

    Where the centre lies on the corner of four input pixels (an even factor) they vote, so that labels and intensities stay in
    register; see `vote`.

    Parameters
    ----------
    labels : (h, w) integer
        The input pixels ``y.span(y0, y1)`` x ``x.span(x0, x1)``.
    y, x
        The two axes.
    window
        (y0, y1, x0, x1) in model pixels.
    """
    y0, y1, x0, x1 = window
    if y.factor == x.factor == 1:
        return labels
    top, left = y.span(y0, y1)[0], x.span(x0, x1)[0]
    return sample_at(labels, [r - top for r in y.centres(y0, y1)], [c - left for c in x.centres(x0, x1)])


def sample_at(labels: Array, rows: Sequence[npt.NDArray[np.intp]], cols: Sequence[npt.NDArray[np.intp]]) -> Array:
    """The label at each (row, column); of four candidates where `Axis.centres` gave two different rows or columns."""
    if np.array_equal(rows[0], rows[1]) and np.array_equal(cols[0], cols[1]):
        return labels[np.ix_(rows[0], cols[0])]
    return vote(*(labels[np.ix_(r, c)] for r in rows for c in cols))


def vote(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The most frequent of four values; of equally frequent ones the largest, so that mirroring an image mirrors its labels.

    Examples
    --------
    >>> import numpy as np
    >>> [int(vote(*np.array([[k] for k in four]))[0]) for four in ([7, 0, 0, 0], [7, 7, 0, 0], [7, 5, 5, 0], [7, 5, 3, 0])]
    [0, 7, 5, 7]
    """
    low, high = np.minimum(a, b), np.maximum(a, b)
    low2, high2 = np.minimum(c, d), np.maximum(c, d)
    first, last = np.minimum(low, low2), np.maximum(high, high2)
    p, q = np.maximum(low, low2), np.minimum(high, high2)
    second, third = np.minimum(p, q), np.maximum(p, q)  # first <= second <= third <= last
    return np.where(third == last, last, np.where(second == third, third, np.where(first == second, first, last)))


class CellIndex:
    """Maps label values to 0 .. n-1 (and 0 to -1), for any integer type and any size of id.

    Parameters
    ----------
    ids : (n,) integer, sorted, unique, positive
    """

    _TABLE_LIMIT = 1 << 18  # ids up to here, or to 64 times their number, use a direct table (4 bytes an id)

    def __init__(self, ids: Array) -> None:
        self.ids = np.asarray(ids)
        self._table: npt.NDArray[np.int32] | None = None
        if len(self.ids) and int(self.ids[-1]) <= max(self._TABLE_LIMIT, 64 * len(self.ids)):
            self._table = np.full(int(self.ids[-1]) + 1, -1, np.int32)
            self._table[self.ids.astype(np.intp)] = np.arange(len(self.ids), dtype=np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def __call__(self, labels: Array) -> npt.NDArray[np.int32]:
        """Index of each label, -1 for background; the labels must all be known."""
        if not len(self.ids):
            return np.full(labels.shape, -1, np.int32)
        if self._table is not None:
            return self._table[labels]
        out = np.searchsorted(self.ids, labels.astype(self.ids.dtype, copy=False)).astype(np.int32)
        out[labels == 0] = -1
        return out


def unique_ids(labels: Array) -> Array:
    """Sorted positive values of a label image.

    Faster than ``np.unique`` where the ids are small (a count per value instead of a sort).
    """
    top = int(labels.max(initial=0))
    if top <= max(1 << 20, labels.size):
        present = np.zeros(top + 1, np.bool_)
        present[labels.ravel()] = True
        ids = np.flatnonzero(present)
        return ids[ids > 0].astype(labels.dtype)
    ids = np.unique(labels)
    return np.asarray(ids[ids > 0])


def closest_members(
    index: npt.NDArray[np.int32], wanted: npt.NDArray[np.bool_], centroid_yx: npt.NDArray[np.float64], origin: tuple[int, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """For each wanted cell in a window, its own pixel nearest to its centroid.

    Parameters
    ----------
    index : (h, w) int32
        Cell index of each pixel of the window, -1 = background.
    wanted : (n,) bool
        Which cells to look for.
    centroid_yx : (n, 2) float64
        Centroids in pixels of the whole image.
    origin
        (y, x) of the window's first pixel.

    Returns
    -------
    cells : (k,) int32
        The wanted cells that are in this window.
    pixels : (k, 2) intp
        Their chosen pixel, (y, x) in the whole image.
    distance2 : (k,) float64
        Its squared distance to the centroid, to choose between windows.
    """
    ys, xs = np.nonzero((index >= 0) & wanted[index])
    cells = index[ys, xs]
    ys, xs = ys + origin[0], xs + origin[1]
    d2 = (ys - centroid_yx[cells, 0]) ** 2 + (xs - centroid_yx[cells, 1]) ** 2
    order = np.lexsort((xs, ys, d2, cells))
    cells, first = np.unique(cells[order], return_index=True)
    pick = order[first]
    return cells.astype(np.int32), np.stack([ys[pick], xs[pick]], 1).astype(np.intp), d2[pick]
