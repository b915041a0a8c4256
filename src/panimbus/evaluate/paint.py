"""Cells painted with colours.

Scores on a light-to-dark scale, truth, and outlines of what was called wrongly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panimbus.core.labels import interior
from panimbus.core.types import Array, UInt8Array

Rgb = tuple[int, int, int]

SCALE: tuple[Rgb, ...] = (
    (236, 233, 226),
    (246, 208, 157),
    (243, 164, 113),
    (226, 111, 96),
    (186, 62, 103),
    (126, 34, 104),
    (58, 15, 82),
)
"""Colours of 0 .. 1 at equal steps: lightness falls evenly, as in a reversed *magma*; interpolated linearly between."""
GROUND: Rgb = (255, 255, 255)
UNKNOWN: Rgb = (190, 203, 214)
FALSE_POSITIVE: Rgb = (0, 136, 214)
FALSE_NEGATIVE: Rgb = (104, 190, 30)
_EDGE, _EDGE_SMALL, _SMALL_PX = 0.82, 0.93, 90


def colours(values: Array) -> UInt8Array:
    """Colour of each value (0..1; NaN is `UNKNOWN`): (..., 3) uint8."""
    values = np.asarray(values, np.float64)
    table = np.array(SCALE, np.float64)
    at = np.clip(np.nan_to_num(values), 0, 1) * (len(table) - 1)
    low = np.minimum(at.astype(np.intp), len(table) - 2)
    out = table[low] + (table[low + 1] - table[low]) * (at - low)[..., None]
    out[np.isnan(values)] = UNKNOWN
    return np.asarray(np.round(out), np.uint8)


def css(colour: Rgb) -> str:
    """The colour as CSS has it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def paint_cells(index: npt.NDArray[np.int32], colour: UInt8Array) -> UInt8Array:
    """Fill each cell with its colour, its boundary a little darker.

    Parameters
    ----------
    index : (h, w) int32
        Cell of each pixel, -1 = background.
    colour : (n, 3) uint8

    Returns
    -------
    (h, w, 3) uint8
    """
    table = np.concatenate([colour, np.array([GROUND], np.uint8)])  # the last entry serves -1
    out = table[index]
    edge = (index >= 0) & ~interior(index + 1)
    small = np.count_nonzero(index >= 0) < _SMALL_PX * len(
        np.unique(index)
    )  # where cells are nearly all boundary
    out[edge] = (out[edge] * (_EDGE_SMALL if small else _EDGE)).astype(np.uint8)
    return out


def outline(
    image: UInt8Array, index: npt.NDArray[np.int32], marked: npt.NDArray[np.bool_], colour: Rgb
) -> None:
    """Draw the boundary, two pixels wide, of the marked cells into an image.

    Parameters
    ----------
    image : (h, w, 3) uint8
        Changed in place.
    index : (h, w) int32
        Cell of each pixel, -1 = background.
    marked : (n,) bool
    colour
    """
    inside = np.append(marked, False)[index]
    own = np.where(inside, index + 1, 0)
    core = interior(own)
    image[inside & ~interior(np.where(core, own, 0))] = colour


def gray(plane: Array, white: float) -> npt.NDArray[np.uint8]:
    """A channel dark on white, ``white`` (its normaliser) and more being black.

    A gamma shows what is dim.

    Parameters
    ----------
    plane : (h, w) number
    white
        NaN or 0 (a blank channel) gives a white image.
    """
    if not white > 0:
        return np.full(plane.shape, 255, np.uint8)
    values = np.clip(np.asarray(plane, np.float32) / np.float32(white), 0, 1) ** np.float32(0.65)
    return np.asarray(
        255 - 4 * np.round(62 * values), np.uint8
    )  # 63 steps: more cannot be seen, and the file is half the size
