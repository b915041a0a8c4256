"""Pictures of channels and cells: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from panimbus.core.types import Array, BoolArray, Float32Array, Int32Array, UInt8Array
from panimbus.render.paint import score_colours
from panimbus.render.palette import Rgb
from panimbus.viewer.style import NEGATIVE_RGB, NO_CALL, POSITIVE_RGB, ChannelStyle

VIRIDIS: tuple[Rgb, ...] = (
    (53, 95, 141), (42, 120, 142), (33, 145, 140), (34, 168, 132), (68, 191, 112), (122, 209, 81),
    (189, 223, 38), (253, 231, 37),
)  # fmt: skip
"""Colours of scores from 0 to 1 at equal steps: *viridis* without its darkest 30 %, which are not
seen on black. Lighter is higher."""
COARSE = 8
"""Pixels per screen pixel from which cells are drawn filled: outlines would cover them."""


def blend(planes: Sequence[Float32Array], styles: Sequence[ChannelStyle]) -> UInt8Array:
    """Add up channels, each in its colour.

    Parameters
    ----------
    planes : (h, w) float32 each
        Intensities.
    styles
        Colour, contrast and gamma of each.

    Returns
    -------
    (h, w, 3) uint8
    """
    if not planes:
        return np.zeros((0, 0, 3), np.uint8)
    total = np.zeros((*planes[0].shape, 3), np.float32)
    for plane, style in zip(planes, styles, strict=True):
        value = stretch(plane, style.low, style.high, style.gamma)
        for k in range(3):
            if style.colour[k]:
                total[..., k] += value * np.float32(style.colour[k])
    return np.minimum(total + 0.5, 255).astype(np.uint8)


def stretch(plane: Array, low: float, high: float, gamma: float = 1.0) -> Float32Array:
    """Intensities as 0 to 1: ``low`` is 0, ``high`` is 1; missing ones (NaN) are 0.

    Examples
    --------
    >>> stretch(np.array([0, 50, 100, 200]), 0, 100, 0.5).round(2)
    array([0.  , 0.71, 1.  , 1.  ], dtype=float32)
    """
    width = np.float32(max(high - low, 1e-12))
    value = np.clip((np.asarray(plane, np.float32) - np.float32(low)) / width, 0, 1)
    value = np.nan_to_num(value, copy=False)
    return np.asarray(value if gamma == 1 else value ** np.float32(gamma), np.float32)


def percentile_limits(plane: Array) -> tuple[float, float]:
    """Automatic contrast: the 1st and 99.8th percentile of a thinned plane.

    The upper one is at least a little above the lower one.

    Examples
    --------
    >>> percentile_limits(np.arange(1001).reshape(7, 143))
    (10.0, 998.0)
    """
    values = np.asarray(plane, np.float32).ravel()
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, (1, 99.8))
    return float(low), float(max(high, low + max(abs(low) * 1e-3, 1e-6)))


def paint_overlay(
    rows: Int32Array, colours: UInt8Array, *, fill: float, solid: bool = False
) -> UInt8Array:
    """Outlines of cells on a transparent ground, perhaps filled.

    Parameters
    ----------
    rows : (h + 2, w + 2) int32
        Row of each pixel's cell, -1 for none, with one pixel around the picture.
    colours : (h, w, 3) uint8
        Colour of each pixel's cell; anything where there is none.
    fill
        Opacity of the inside, 0 to 1.
    solid
        Cells without outlines, at least half opaque: for pictures too coarse for outlines.

    Returns
    -------
    (h, w, 4) uint8
        RGB and opacity.
    """
    inner = rows[1:-1, 1:-1]
    cell = inner >= 0
    out = np.zeros((*inner.shape, 4), np.uint8)
    if not cell.any():
        return out
    out[..., :3][cell] = colours[cell]
    opacity = round(255 * (max(fill, 0.6) if solid else fill))
    out[..., 3] = np.where(cell, np.uint8(opacity), np.uint8(0))
    if not solid:
        out[edges(rows), 3] = 255
    return out


def edges(rows: Int32Array) -> BoolArray:
    """Pixels of cells that touch another cell or none to the left, right, above or below.

    Parameters
    ----------
    rows : (h + 2, w + 2) int32
        -1 for none; one pixel around the picture.

    Returns
    -------
    (h, w) bool
    """
    inner = rows[1:-1, 1:-1]
    out = (rows[:-2, 1:-1] != inner) | (rows[2:, 1:-1] != inner)
    out |= (rows[1:-1, :-2] != inner) | (rows[1:-1, 2:] != inner)
    return np.asarray(out & (inner >= 0), np.bool_)


def call_colours(positive: BoolArray, missing: BoolArray) -> UInt8Array:
    """(..., 3) uint8: orange for positive cells, blue for negative ones, grey without a score."""
    kind = np.where(missing, 2, positive)
    return np.array([NEGATIVE_RGB, POSITIVE_RGB, NO_CALL], np.uint8)[kind]


def viridis(scores: Array) -> UInt8Array:
    """(..., 3) uint8: scores from 0 to 1 in the colours of *viridis*, grey for missing ones."""
    missing = np.isnan(scores)
    out = _viridis()[(np.clip(np.where(missing, 0, scores), 0, 1) * 255 + 0.5).astype(np.uint8)]
    out[missing] = NO_CALL
    return np.asarray(out, np.uint8)


@lru_cache
def _viridis() -> UInt8Array:
    """(256, 3) colours of *viridis*."""
    return score_colours(np.linspace(0, 1, 256), VIRIDIS)


def over(picture: UInt8Array, overlay: UInt8Array) -> UInt8Array:
    """Lay a picture with opacity, (h, w, 4), over another, (h, w, 3)."""
    opacity = overlay[..., 3:].astype(np.float32) / 255
    mixed = picture * (1 - opacity) + overlay[..., :3] * opacity
    return np.asarray(np.round(mixed), np.uint8)


def scale_bar(um_per_pixel: float, most: float) -> tuple[float, float]:
    """A round length that fits ``most`` screen pixels.

    Parameters
    ----------
    um_per_pixel
        µm per screen pixel.
    most
        Longest bar in screen pixels.

    Returns
    -------
    (µm, screen pixels)

    Examples
    --------
    >>> scale_bar(0.5, 150)
    (50.0, 100.0)
    """
    longest = um_per_pixel * most
    power = 10.0 ** np.floor(np.log10(longest))
    length = next(k * power for k in (5, 2, 1) if k * power <= longest * (1 + 1e-9))
    return float(length), float(length / um_per_pixel)
