"""Label images: sampling at the model's resolution, interiors of cells, and painting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from panimbus.core.resample import Axis
from panimbus.core.types import Array

_VOTERS = 1 << 15


def interior(labels: Array) -> npt.NDArray[np.bool_]:
    """Pixels of a cell that touch (4-neighbourhood) neither background nor another cell.

    Boundaries are found at the resolution of ``labels`` itself, so touching cells stay separated
    however far the image was shrunk. The image's own edge is no boundary. Equals ``(labels > 0) &
    ~skimage.segmentation.find_boundaries(labels, mode="inner", connectivity=1)``.

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

    Where the centre lies on the corner of four input pixels (an even factor) they vote, so that
    labels and intensities stay in register; see `vote`. The result is the same whatever numbers the
    cells have.

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
    rows, cols = [r - top for r in y.centres(y0, y1)], [c - left for c in x.centres(x0, x1)]
    return sample_at(labels, rows, cols, (y.later(y0, y1), x.later(x0, x1)))


def sample_at(
    labels: Array,
    rows: Sequence[npt.NDArray[np.intp]],
    cols: Sequence[npt.NDArray[np.intp]],
    later: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
) -> Array:
    """The label at each (row, column).

    Of four candidates where `Axis.centres` gave two different rows or columns.

    ``later`` is what `Axis.later` gives for both axes.
    """
    if np.array_equal(rows[0], rows[1]) and np.array_equal(cols[0], cols[1]):
        return _pick(labels, rows[0], cols[0])
    out = np.empty((len(rows[0]), len(cols[0])), labels.dtype)
    step = max(1, _VOTERS // max(1, len(cols[0])))
    for k in range(
        0, len(rows[0]), step
    ):  # some rows at a time: the many steps of a vote stay in the processor's cache
        part = slice(k, k + step)
        out[part] = vote(
            [_pick(labels, r[part], c) for r in rows for c in cols], later[0][part], later[1]
        )
    return out


def _pick(labels: Array, rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp]) -> Array:
    """``labels[np.ix_(rows, cols)]``, as a view where both are evenly spaced."""
    steps = [int(k[1] - k[0]) if len(k) > 1 else 1 for k in (rows, cols)]
    if all(
        len(k) and step > 0 and (np.diff(k) == step).all()
        for k, step in zip((rows, cols), steps, strict=True)
    ):
        return labels[rows[0] : rows[-1] + 1 : steps[0], cols[0] : cols[-1] + 1 : steps[1]]
    return labels[np.ix_(rows, cols)]


def vote(
    four: Sequence[Array], later_y: npt.NDArray[np.bool_], later_x: npt.NDArray[np.bool_]
) -> Array:
    """The most frequent of four neighbouring values.

    Of equally frequent ones a cell beats the background. Between cells one of the four pixels
    decides (where it is background, the one across the corner), never the cells' numbers: numbering
    them in another way changes nothing.

    Parameters
    ----------
    four : four (h, w) arrays
        The upper left, upper right, lower left and lower right values.
    later_y : (h,) bool
        Whether one of the two lower pixels decides, row by row
        (`panimbus.core.resample.Axis.later`).
    later_x : (w,) bool
        Whether one of the two right pixels does, column by column.

    Examples
    --------
    >>> import numpy as np
    >>> no, yes = np.array([False]), np.array([True])
    >>> fours = [7, 0, 0, 0], [7, 0, 7, 0], [7, 5, 7, 5]
    >>> [int(vote(np.array(four).reshape(4, 1, 1), no, yes)[0, 0]) for four in fours]
    [0, 7, 5]
    """
    a, b, c, d = four
    low, high = np.minimum(a, b), np.maximum(a, b)
    low2, high2 = np.minimum(c, d), np.maximum(c, d)
    first, last = np.minimum(low, low2), np.maximum(high, high2)
    p, q = np.maximum(low, low2), np.minimum(high, high2)
    second, third = np.minimum(p, q), np.maximum(p, q)  # first <= second <= third <= last
    lower, middle, upper = first == second, second == third, third == last
    out = np.where(upper, last, np.where(middle, third, np.where(lower, first, last)))
    tie = (lower == upper) & ~middle  # two and two, or four different ones
    tie &= ~lower | (first > 0)
    y, x = np.nonzero(tie)
    if len(y):
        values = np.stack([one[y, x] for one in four])
        decides = 2 * later_y[y] + later_x[x]
        at = np.arange(len(y))
        out[y, x] = np.where(values[decides, at] > 0, values[decides, at], values[3 - decides, at])
    return out


class CellIndex:
    """Maps label values to 0 .. n-1 (and 0 to -1), for any integer type and any size of id.

    Parameters
    ----------
    ids : (n,) integer, sorted, unique, positive
    """

    # a direct table (4 bytes per id) serves ids up to this, dense ids, and others up to 128 MB
    _FREE = 1 << 18
    _DENSE, _LOOSE, _LARGEST = 8, 64, 1 << 25

    def __init__(self, ids: Array) -> None:
        self.ids = np.asarray(ids)
        self._table: npt.NDArray[np.int32] | None = None
        n = len(self.ids)
        if n and int(self.ids[-1]) <= max(
            self._FREE, self._DENSE * n, min(self._LOOSE * n, self._LARGEST)
        ):
            self._table = np.full(int(self.ids[-1]) + 1, -1, np.int32)
            self._table[self.ids.astype(np.intp)] = np.arange(n, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def __call__(self, labels: Array) -> npt.NDArray[np.int32]:
        """Index of each label, -1 for background; all labels must be among the ids."""
        if not len(self.ids) or not labels.size:
            return np.full(labels.shape, -1, np.int32)
        if self._table is not None:
            return self._table[labels]
        flat = labels.reshape(-1)
        starts = np.flatnonzero(changes(flat))
        values = flat[starts].astype(self.ids.dtype, copy=False)
        order = np.argsort(values)  # looked up in order, neighbours lie in the cache together
        index = np.empty(len(values), np.int32)
        index[order] = np.searchsorted(self.ids, values[order])
        index[values == 0] = -1
        return np.repeat(index, np.diff(starts, append=flat.size)).reshape(labels.shape)


def changes(values: Array) -> npt.NDArray[np.bool_]:
    """(k,) whether each value differs from the one before it; the first does."""
    out = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=out[1:])
    return out


def unique_ids(labels: Array) -> Array:
    """Sorted positive values of a label image.

    Faster than ``np.unique``: a mark for each value where the ids are small, and no hashing where
    they are not.
    """
    flat = labels.reshape(-1)
    top = int(flat.max(initial=0))
    if top <= max(1 << 20, 4 * flat.size):
        present = np.zeros(top + 1, np.bool_)
        present[flat] = True
        present[0] = False
        return np.flatnonzero(present).astype(labels.dtype)
    ids = np.sort(flat)
    return np.asarray(ids[changes(ids) & (ids > 0)])


def label_painter(present: Array, ids: Array, codes: Array) -> Callable[[Array], Array]:
    """A function that fills each label of (a part of) a label image with a code.

    Parameters
    ----------
    present : (m,) integer, sorted
        The labels of the image.
    ids : (n,) integer
        Labels that have a code; others are painted 0.
    codes : (n,) integer from 1

    Returns
    -------
    function
        (Y, X) labels -> (Y, X) uint8, or uint16 if there are more than 255 codes.

    Examples
    --------
    >>> paint = label_painter(np.array([5, 9]), np.array([5]), np.array([2]))
    >>> paint(np.array([[0, 5], [9, 5]])).tolist()
    [[0, 2], [0, 2]]
    """
    value = np.zeros(
        len(present) + 1, np.uint8 if int(np.max(codes, initial=0)) <= 255 else np.uint16
    )  # the last serves -1
    value[np.searchsorted(present, ids.astype(present.dtype))] = codes
    index = CellIndex(present)
    return lambda labels: np.asarray(value[index(labels)])
