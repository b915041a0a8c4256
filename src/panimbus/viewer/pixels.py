"""Pixels of an image or label image at any zoom, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from panimbus.core.fov import ArrayLike
from panimbus.core.types import Array, Float32Array
from panimbus.io.levels import coarser_levels, level_factor, whole_pieces

SMALL_PLANE = 40 << 20
"""Bytes of a plane that is kept in memory whole."""
KEPT = 384 << 20
SLOW_PIECE = 8 << 20
"""Bytes decoded for one tile above which a file is copied into the cache first."""
MOST_STEP = 4
"""Full-resolution pixels per screen pixel, along a side, that are averaged while one waits."""
_AT_ONCE = 1 << 22
_THIN = 4


class PlaneCache:
    """The planes used last, whole, up to a number of bytes.

    Parameters
    ----------
    most
        Bytes.
    """

    def __init__(self, most: int = KEPT) -> None:
        self._most, self._bytes = most, 0
        self._planes: OrderedDict[Hashable, Array] = OrderedDict()
        self._lock, self._reading = threading.Lock(), threading.Lock()

    def get(self, key: Hashable, read: Callable[[], Array]) -> Array:
        """A plane, read at the first call."""
        if (plane := self._look(key)) is not None:
            return plane
        with self._reading:  # one at a time: several tiles want the same plane
            if (plane := self._look(key)) is not None:
                return plane
            plane = read()
            with self._lock:
                self._planes[key] = plane
                self._bytes += plane.nbytes
                while self._bytes > self._most and len(self._planes) > 1:
                    self._bytes -= self._planes.popitem(last=False)[1].nbytes
        return plane

    def _look(self, key: Hashable) -> Array | None:
        with self._lock:
            if key in self._planes:
                self._planes.move_to_end(key)
            return self._planes.get(key)


@dataclass(frozen=True, eq=False)
class Pyramid:
    """An image (C, Y, X) or label image (Y, X) with its coarser levels.

    Parameters
    ----------
    levels
        (factor, array) from fine to coarse; the first has the size of the full resolution.
    key
        Names the pixels in the cache of planes.
    planes
        Cache for levels that are small enough.
    """

    levels: tuple[tuple[int, ArrayLike], ...]
    key: Hashable
    planes: PlaneCache

    @classmethod
    def of(cls, array: ArrayLike, key: Hashable, planes: PlaneCache) -> Pyramid:
        """The levels that the file holds, as far as they are powers of two."""
        below = ((level_factor(array.shape, one.shape), one) for one in coarser_levels(array))
        usable = [(f, one) for f, one in below if f & (f - 1) == 0]
        return cls(((1, array), *usable), key, planes)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width at full resolution."""
        height, width = self.levels[0][1].shape[-2:]
        return int(height), int(width)

    @property
    def is_small(self) -> bool:
        """Whether a plane is kept in memory, so that every zoom is fast."""
        return _plane_bytes(self.levels[0][1]) <= SMALL_PLANE

    @property
    def needs_copy(self) -> bool:
        """Whether tiles of the full resolution are slow to read: strips, or huge pieces."""
        return not self.is_small and whole_pieces(self.levels[0][1]) > SLOW_PIECE

    @property
    def needs_overview(self) -> bool:
        """Whether coarse tiles would have to read far too many pixels."""
        top = max(n // self.levels[-1][0] for n in self.shape)
        return not self.is_small and top > 256 * MOST_STEP

    def read(self, channel: int | None, box: tuple[int, int, int, int], step: int) -> Array:
        """Part of a plane, thinned by ``step``.

        Parameters
        ----------
        channel
            Position of the plane; None for a label image.
        box
            (y0, y1, x0, x1) in pixels of the full resolution; clipped to the image.
        step
            A power of two: so many pixels become one, by their mean (image) or first (labels).

        Returns
        -------
        (ceil((y1 - y0) / step), ceil((x1 - x0) / step))
            float32 for an image, the ids for labels.
        """
        factor, array = next(one for one in reversed(self.levels) if one[0] <= step)
        y0, y1, x0, x1 = box
        height, width = array.shape[-2:]
        y0, y1 = y0 // factor, min(-(-y1 // factor), height)
        x0, x1 = x0 // factor, min(-(-x1 // factor), width)
        rest = step // factor
        if y0 >= y1 or x0 >= x1:
            empty = (max(0, -(-(y1 - y0) // rest)), max(0, -(-(x1 - x0) // rest)))
            return np.zeros(empty, np.float32 if channel is not None else array.dtype)
        source, plane = array, channel
        if _plane_bytes(array) <= SMALL_PLANE:
            source, plane, thinned = self._whole(factor, array, channel, rest), None, 1
            if rest >= _THIN:
                thinned, rest = _THIN, rest // _THIN
            y0, y1, x0, x1 = y0 // thinned, -(-y1 // thinned), x0 // thinned, -(-x1 // thinned)
        parts = []
        rows = max(rest, _AT_ONCE // (x1 - x0) // rest * rest)
        for a in range(y0, y1, rows):
            where = (slice(a, min(a + rows, y1)), slice(x0, x1))
            part = np.asarray(source[where if plane is None else (plane, *where)])
            parts.append(_thin(part, rest, labels=channel is None))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _whole(self, factor: int, array: ArrayLike, channel: int | None, rest: int) -> Array:
        """A plane in memory, thinned by `_THIN` if ``rest`` is at least that."""

        def read() -> Array:
            box = tuple(slice(0, n) for n in array.shape[-2:])
            return np.asarray(array[box if channel is None else (channel, *box)])

        key = self.key, factor, channel
        if rest < _THIN:
            return self.planes.get(key, read)
        return self.planes.get((*key, _THIN), lambda: _thin(read(), _THIN, labels=channel is None))


def _thin(plane: Array, step: int, *, labels: bool) -> Array:
    return np.ascontiguousarray(plane[::step, ::step]) if labels else block_mean(plane, step)


def block_mean(plane: Array, step: int) -> Float32Array:
    """Mean of blocks of ``step`` x ``step`` pixels, fewer at the lower and right edge.

    Parameters
    ----------
    plane : (h, w) number

    Returns
    -------
    (ceil(h / step), ceil(w / step)) float32

    Examples
    --------
    >>> block_mean(np.array([[1, 3, 8], [5, 7, 2]]), 2).tolist()
    [[4.0, 5.0]]
    """
    if step == 1:
        return np.asarray(plane, np.float32)
    height, width = plane.shape
    if height % step == 0 and width % step == 0:
        blocks = plane.reshape(height // step, step, width // step, step)
        return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))
    wide = np.asarray(plane, np.float32)
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    total = np.add.reduceat(np.add.reduceat(wide, rows, axis=0), columns, axis=1)
    tall = np.diff(np.append(rows, height))[:, np.newaxis]
    return np.asarray(total / (tall * np.diff(np.append(columns, width))), np.float32)


def _plane_bytes(array: ArrayLike) -> int:
    return int(np.prod(array.shape[-2:])) * array.dtype.itemsize
