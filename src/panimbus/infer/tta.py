"""Test-time augmentation over the 8 flips and 90° rotations of a square, with true inverses."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy.typing as npt

from panimbus.core.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class View:
    """Swap rows and columns if ``transpose``, then reverse the rows, then the columns: the 8 symmetries of a square.

    Written this way, not as rotations, because one transposed copy of an array serves half of the views; reversing is cheap.
    """

    transpose: bool
    flip_y: bool
    flip_x: bool

    def apply(self, array: Array) -> Array:
        """The view of an array (..., Y, X); no copy."""
        return self.flip(array.swapaxes(-2, -1) if self.transpose else array)

    def flip(self, array: Array) -> Array:
        """Only the reversals, for an array that is transposed already; their own inverse."""
        return array[..., :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def undo(self, array: Array) -> Array:
        """The inverse of `apply`; no copy."""
        out = self.flip(array)
        return out.swapaxes(-2, -1) if self.transpose else out


VIEWS = {
    "none": (View(transpose=False, flip_y=False, flip_x=False),),
    "full": tuple(View(t, y, x) for t, y, x in product((False, True), repeat=3)),
}
"""Name of a TTA setting -> its views; the first is always the image as it is."""


def views(tta: str) -> tuple[View, ...]:
    """The views of a TTA setting."""
    try:
        return VIEWS[tta]
    except KeyError:
        raise InputError(f"Unknown test-time augmentation {tta!r}.", available=VIEWS) from None
