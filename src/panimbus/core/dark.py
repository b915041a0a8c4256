"""The dark level: the offset that a camera adds to every pixel, which is light from nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.fov import ArrayLike
from panimbus.core.scale import Histogram
from panimbus.core.types import Array

_LOW, _TOP = 0.1, 99.9  # percentiles: below the first lie dead pixels, above the second hot ones
_NEAR = 1.25
_ALONE, _TOGETHER = 0.1, 0.01  # of the bright pixels; one channel alone may be full of tissue


class DarkSubtracted:
    """An image less its dark level; what is darker is 0.

    Parameters
    ----------
    image : (C, Y, X)
    level
        In the image's units; rounded for an image of integers.
    """

    def __init__(self, image: ArrayLike, level: float) -> None:
        self.array = image
        self.level = level

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, Y, X)."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel, as stored."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, key: Any, /) -> Array:
        pixels = np.asarray(self.array[key])
        if pixels.dtype.kind == "f":
            return np.asarray(
                np.maximum(pixels - pixels.dtype.type(self.level), pixels.dtype.type(0))
            )
        level = pixels.dtype.type(min(round(self.level), int(np.iinfo(pixels.dtype).max)))
        return np.asarray(np.maximum(pixels, level) - level)


def check_dark_level(level: float | None) -> None:
    """Refuse a dark level that is none."""
    if level is not None and not (np.isfinite(level) and level >= 0):
        raise InputError(
            "the dark level must be 0 or more.",
            expected="what the camera shows without light, in the image's units, such as 300",
            got=f"{level}",
        )


def common_dark_level(pixels: Mapping[str, Histogram]) -> float | None:
    """The dark level that the channels of a dataset seem to share.

    A camera's offset is the same in every channel, while the tissue's background is not. So the
    darkest channel's low end (the 0.1st percentile) is taken for one if at least half of the
    channels, and three, end within a quarter of it, and it is no less than 1 % of their bright
    pixels; with fewer channels all must, and it must be 10 %.

    Parameters
    ----------
    pixels
        Channel -> histogram of all its pixels.

    Returns
    -------
    float or None
        The level to three digits, None if there seems to be none.

    Examples
    --------
    >>> camera = {c: Histogram.of(np.arange(300, 300 + k).astype(np.uint16)) for c, k in (("a", 900), ("b", 500), ("c", 2000))}
    >>> common_dark_level(camera)
    300.0
    >>> common_dark_level({**camera, "d": Histogram.of(np.arange(50, 900, dtype=np.uint16))}) is None
    True
    """
    live = [h for h in pixels.values() if h.total and len(h.keys) > 1]
    if not live:
        return None
    low = np.array([h.percentile(_LOW) for h in live])
    top = np.array([h.percentile(_TOP) for h in live])
    level = float(low.min())
    near = int(np.count_nonzero(low <= _NEAR * level)) if level > 0 else 0
    few = len(live) < 3
    enough = near == len(live) if few else near >= max(3, len(live) / 2)
    return (
        float(f"{level:.3g}")
        if enough and level >= (_ALONE if few else _TOGETHER) * float(np.median(top))
        else None
    )


def describe_dark_level(level: float) -> str:
    """What to say of it."""
    return (
        f"no pixel is much below {level:g} in most channels: a camera's dark level, it seems, which"
        f" shifts scores; --dark-level {level:g} (Python: dark_level=) subtracts it"
    )
