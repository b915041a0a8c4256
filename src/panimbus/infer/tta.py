"""Test-time augmentation over the 8 flips and 90° rotations of a square, with true inverses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class View:
    """Rotate by ``quarter`` x 90° in the last two axes, then mirror the last axis if ``flip``."""

    quarter: int
    flip: bool

    def apply(self, array: Array) -> Array:
        """The view of an array (..., Y, X)."""
        out = np.rot90(array, self.quarter, axes=(-2, -1))
        return out[..., ::-1] if self.flip else out

    def undo(self, array: Array) -> Array:
        """The inverse of `apply`."""
        return np.rot90(array[..., ::-1] if self.flip else array, -self.quarter, axes=(-2, -1))


VIEWS = {
    "none": (View(0, flip=False),),
    "full": tuple(View(k, flip=f) for f in (False, True) for k in range(4)),
}
"""Name of a TTA setting -> its views; the first is always the image as it is."""


def views(tta: str) -> tuple[View, ...]:
    """The views of a TTA setting."""
    try:
        return VIEWS[tta]
    except KeyError:
        raise InputError(f"Unknown test-time augmentation {tta!r}.", available=VIEWS) from None
