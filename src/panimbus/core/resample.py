"""Resampling between the image's grid and the model's, without stretch and without a lost strip.

One axis of n input pixels at ``scale`` input pixels per model pixel has ``ceil(n / scale)`` model
pixels; model pixel j covers the input interval ``[j * scale, (j + 1) * scale)``. Everything is a
function of absolute positions, so a window of the result can be computed from a window of the
input, and equals that window of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from panimbus.core.types import Array

_EPS = 1e-6


@dataclass(frozen=True)
class Axis:
    """One axis of the two grids.

    Parameters
    ----------
    n
        Input pixels.
    scale
        Input pixels per model pixel (model mpp / input mpp); above 1 shrinks, below 1 enlarges.
        Within a millionth of a whole number it becomes that number: files round their pixel sizes
        (0.49999999 µm).
    """

    n: int
    scale: float

    def __post_init__(self) -> None:
        whole = round(self.scale)
        if whole >= 1 and abs(self.scale - whole) < _EPS * whole:
            object.__setattr__(self, "scale", float(whole))

    @property
    def size(self) -> int:
        """Model pixels."""
        return max(1, math.ceil(self.n / self.scale - _EPS))

    @property
    def factor(self) -> int | None:
        """The scale where it is a whole number, else None."""
        return int(self.scale) if self.scale >= 1 and self.scale == int(self.scale) else None

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Input pixels needed for model pixels [start, stop)."""
        if self.scale < 1:  # linear interpolation between pixel centres
            # before the first centre and behind the last: the first two and the last two
            lo = min(math.floor((start + 0.5) * self.scale - 0.5 - _EPS), self.n - 2)
            hi = max(math.floor((stop - 0.5) * self.scale - 0.5 + _EPS), 0) + 2
        else:
            lo = math.floor(start * self.scale + _EPS)
            hi = math.ceil(stop * self.scale - _EPS)
        return min(max(lo, 0), self.n - 1), min(max(hi, 1), self.n)

    def centres(self, start: int, stop: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The one or two input pixels at the centre of each model pixel [start, stop).

        Where a model pixel is an even number of input pixels wide its centre lies between two;
        elsewhere both are the same.
        """
        middle = (np.arange(start, stop) + 0.5) * self.scale
        high = np.minimum(np.floor(middle + _EPS).astype(np.intp), self.n - 1)
        factor = self.factor
        low = np.maximum(high - 1, 0) if factor is not None and factor % 2 == 0 else high
        return np.asarray(low), np.asarray(high)

    def nearest(self) -> npt.NDArray[np.intp]:
        """(n,) model pixel in which the centre of each input pixel lies; ascending."""
        pixel = np.floor((np.arange(self.n) + 0.5) / self.scale + _EPS).astype(np.intp)
        return np.asarray(np.minimum(pixel, self.size - 1))

    def later(self, start: int, stop: int) -> npt.NDArray[np.bool_]:
        """Which of the two pixels of `centres` decides where cells tie there.

        The later one, or the earlier.

        By turns the one towards the middle of the image and the one away from it, so that labels
        are shifted to neither side, and a mirrored image has mirrored labels (but for the middle
        row or column of an odd number of them).
        """
        offset = 2 * np.arange(start, stop) - (self.size - 1)
        inwards = np.abs(offset) // 2 % 2 == 0
        return np.asarray((offset < 0) == inwards)

    def weights(self, start: int, stop: int) -> sparse.csr_array[Any, Any]:
        """Rows: model pixels [start, stop).

        Columns: the input pixels of `span`; each row sums to 1.

        Area averaging where the image shrinks, linear interpolation where it grows.
        """
        lo, hi = self.span(start, stop)
        j = np.arange(start, stop, dtype=np.float64)
        if self.scale < 1:
            centre = np.clip((j + 0.5) * self.scale - 0.5, 0, self.n - 1)
            low = np.minimum(np.floor(centre).astype(np.intp), max(self.n - 2, 0))
            frac = centre - low
            high = np.minimum(low + 1, self.n - 1)
            rows = np.repeat(np.arange(len(j)), 2)
            cols = np.stack([low, high], 1).ravel() - lo
            values = np.stack([1 - frac, frac], 1).ravel()
        else:
            begin, end = j * self.scale, np.minimum((j + 1) * self.scale, self.n)
            first = np.minimum(np.floor(begin + _EPS).astype(np.intp), self.n - 1)
            width = math.ceil(self.scale) + 1
            cols2 = first[:, None] + np.arange(width)[None, :]
            cover = np.minimum(cols2 + 1, end[:, None]) - np.maximum(cols2, begin[:, None])
            cover = np.where((cover > _EPS) & (cols2 < self.n), cover, 0.0)
            cover /= cover.sum(1, keepdims=True)
            keep = cover > 0
            rows = np.broadcast_to(np.arange(len(j))[:, None], cols2.shape)[keep]
            cols, values = (cols2 - lo)[keep], cover[keep]
        return sparse.csr_array((values.astype(np.float32), (rows, cols)), shape=(len(j), hi - lo))


def shrink(
    image: Array, y: Axis, x: Axis, window: tuple[int, int, int, int]
) -> npt.NDArray[np.float32]:
    """Model-grid values of a window.

    Parameters
    ----------
    image : (h, w), any number
        The input pixels ``y.span(y0, y1)`` x ``x.span(x0, x1)``, no more and no less.
    y, x
        The two axes.
    window
        (y0, y1, x0, x1) in model pixels.

    Returns
    -------
    (y1 - y0, x1 - x0) float32
    """
    y0, y1, x0, x1 = window
    fy, fx = y.factor, x.factor
    if fy == fx == 1:
        return image.astype(np.float32)
    if fy is not None and fx is not None and y1 * fy <= y.n and x1 * fx <= x.n:
        total = np.zeros((y1 - y0, x1 - x0), np.float32)
        for i in range(fy):
            for k in range(fx):
                total += image[i::fy, k::fx]
        total *= np.float32(1 / (fy * fx))
        return total
    rows = y.weights(y0, y1) @ image.astype(np.float32, copy=False)
    return np.ascontiguousarray((x.weights(x0, x1) @ np.ascontiguousarray(rows.T)).T)
