"""The dark level: the constant offset that a camera adds to every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.fov import ArrayLike
from panimbus.core.histogram import Histogram
from panimbus.core.lazy import ArrayWrapper
from panimbus.core.types import Array

_LOW, _TOP = 0.1, 99.9  # percentiles that exclude dead and hot pixels
_NEAR = 1.25
_ALONE, _TOGETHER = 0.1, 0.01  # share of the bright pixels, for few and for many channels


class DarkSubtracted(ArrayWrapper):
    """An image minus its dark level, clipped at 0.

    Parameters
    ----------
    image : (C, Y, X)
    level
        In the image's units; rounded for an image of integers.
    """

    def __init__(self, image: ArrayLike, level: float) -> None:
        super().__init__(image)
        self.level = level

    def __getitem__(self, key: Any, /) -> Array:
        pixels = np.asarray(self.array[key])
        if pixels.dtype.kind == "f":
            return np.asarray(
                np.maximum(pixels - pixels.dtype.type(self.level), pixels.dtype.type(0))
            )
        level = pixels.dtype.type(min(round(self.level), int(np.iinfo(pixels.dtype).max)))
        return np.asarray(np.maximum(pixels, level) - level)


def check_dark_level(level: float | None) -> None:
    """Raise an error unless the dark level is None or a finite number of at least 0."""
    if level is not None and not (np.isfinite(level) and level >= 0):
        raise InputError(
            "the dark level must be 0 or more.",
            expected="the intensity that the camera gives without light, such as 300",
            got=f"{level}",
        )


def common_dark_level(pixels: Mapping[str, Histogram]) -> float | None:
    """Estimate the dark level that the channels of a dataset share.

    A camera offset is the same in every channel, the background of the tissue is not. The lowest
    0.1st percentile of all channels is accepted if that of at least half of the channels, and of at
    least three, is at most 25 % higher, and if it is at least 1 % of their bright pixels. With one
    or two channels, all of them must agree, and the level must be 10 % of the bright pixels.

    Parameters
    ----------
    pixels
        Channel -> histogram of all its pixels.

    Returns
    -------
    float or None
        The level to three digits, or None.

    Examples
    --------
    >>> ranges = {"a": (300, 1200), "b": (300, 800), "c": (300, 2300)}
    >>> camera = {c: Histogram.of(np.arange(*r, dtype=np.uint16)) for c, r in ranges.items()}
    >>> common_dark_level(camera)
    300.0
    >>> dark = Histogram.of(np.arange(50, 900, dtype=np.uint16))
    >>> common_dark_level({**camera, "d": dark}) is None
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
    """The warning about a dark level."""
    return (
        f"most channels have no pixel much below {level:g}: probably the dark level of the camera,"
        f" which shifts the scores; --dark-level {level:g} (Python: dark_level=) subtracts it"
    )
