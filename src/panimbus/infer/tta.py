"""Test-time augmentation over the 8 flips and 90° rotations of a square, with true inverses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.types import Array
from panimbus.infer.adaptive import EXPECTED_VIEWS, STAGES


@dataclass(frozen=True)
class View:
    """Swap rows and columns if ``transpose``, then reverse the rows, then the columns.

    The 8 symmetries of a square.

    Written this way, not as rotations, because one transposed copy of an array serves half of the
    views; reversing is cheap.
    """

    transpose: bool
    flip_y: bool
    flip_x: bool

    def apply(self, array: Array) -> Array:
        """The view of an array (..., Y, X); no copy."""
        return self.flip(array.swapaxes(-2, -1) if self.transpose else array)

    def flip(self, array: Array) -> Array:
        """Only the reversals, for an array that is already transposed; their own inverse."""
        return array[..., :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def undo(self, array: Array) -> Array:
        """The inverse of `apply`; no copy."""
        out = self.flip(array)
        return out.swapaxes(-2, -1) if self.transpose else out


def _views(*codes: int) -> tuple[View, ...]:
    """Bits: 4 = transpose, 2 = flip_y, 1 = flip_x."""
    return tuple(View(transpose=bool(c & 4), flip_y=bool(c & 2), flip_x=bool(c & 1)) for c in codes)


_ALL = _views(0, 5, 3, 6, 1, 2, 4, 7)
VIEWS = {"none": _ALL[:1], "full": _ALL, "auto": _ALL}
"""Name of a TTA setting -> its views, the unchanged image first. The rotations come first: of all
sets of 4 views their mean is closest to that of all 8 (``benchmarks/compute/adaptive.md``)."""


_STRIP = 8  # rows per copy: three times as fast as one copy, whose strides miss the cache


def transposed(planes: Array) -> Array:
    """A contiguous copy (P, X, Y) of planes (P, Y, X)."""
    out = np.empty((planes.shape[0], planes.shape[2], planes.shape[1]), planes.dtype)
    for plane, turned in zip(planes, out, strict=True):
        for y in range(0, len(plane), _STRIP):
            turned[:, y : y + _STRIP] = plane[y : y + _STRIP].T
    return out


def views(tta: str) -> tuple[View, ...]:
    """The views of a TTA setting."""
    try:
        return VIEWS[tta]
    except KeyError:
        raise InputError(f"Unknown test-time augmentation {tta!r}.", available=VIEWS) from None


def stages(tta: str) -> tuple[int, ...]:
    """Numbers of views after which to test whether they suffice; the last is all views."""
    return STAGES if tta == "auto" else (len(views(tta)),)


def expected_views(tta: str) -> float:
    """Mean number of views per tile of a channel."""
    return EXPECTED_VIEWS if tta == "auto" else len(views(tta))
