"""Cells painted with colours: scores from light to dark, truth, types, and outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from panimbus.core.labels import CellIndex, interior, unique_ids
from panimbus.core.types import Array, BoolArray, Int32Array, UInt8Array
from panimbus.render.palette import Rgb

SCALE: tuple[Rgb, ...] = (
    (236, 233, 226),
    (246, 208, 157),
    (243, 164, 113),
    (226, 111, 96),
    (186, 62, 103),
    (126, 34, 104),
    (58, 15, 82),
)
"""Colours from 0 to 1 at equal steps, interpolated; lightness falls as in reversed *magma*."""
GROUND: Rgb = (255, 255, 255)
UNKNOWN: Rgb = (190, 203, 214)
POSITIVE_EDGE: Rgb = (216, 40, 40)
NEGATIVE_EDGE: Rgb = (0, 110, 214)
FALSE_POSITIVE: Rgb = (0, 136, 214)
FALSE_NEGATIVE: Rgb = (104, 190, 30)
_EDGE, _EDGE_SMALL, _SMALL_PX = 0.82, 0.93, 90


def score_colours(values: Array, scale: Sequence[Rgb] = SCALE) -> UInt8Array:
    """(..., 3) uint8 colour of each value from 0 to 1; NaN is `UNKNOWN`."""
    values = np.asarray(values, np.float64)
    table = np.array(scale, np.float64)
    at = np.clip(np.nan_to_num(values), 0, 1) * (len(table) - 1)
    low = np.minimum(at.astype(np.intp), len(table) - 2)
    out = table[low] + (table[low + 1] - table[low]) * (at - low)[..., None]
    out[np.isnan(values)] = UNKNOWN
    return np.asarray(np.round(out), np.uint8)


def cell_rows(labels: Array, ids: Array) -> Int32Array:
    """Row of each pixel's cell in a table.

    Parameters
    ----------
    labels : (h, w) integer, 0 = background
    ids : (n,) integer
        Label of each row's cell.

    Returns
    -------
    (h, w) int32
        -1 for background and for cells that are not in the table.

    Examples
    --------
    >>> cell_rows(np.array([[0, 5, 9]]), np.array([9, 7])).tolist()
    [[-1, -1, 0]]
    """
    present = unique_ids(labels)
    if not len(ids) or not len(present):
        return np.full(labels.shape, -1, np.int32)
    order = np.argsort(ids)
    at = np.searchsorted(ids, present.astype(ids.dtype), sorter=order)
    row = order[np.minimum(at, len(ids) - 1)]
    rows = np.append(np.where(ids[row] == present, row, -1), -1).astype(np.int32)
    return np.asarray(rows[CellIndex(present)(labels)])


def paint_cells(index: Int32Array, colours: UInt8Array, *, borders: bool = True) -> UInt8Array:
    """Fill each cell with its colour, its boundary a little darker.

    Parameters
    ----------
    index : (h, w) int32
        Row of each pixel's cell, -1 = none (`cell_rows`).
    colours : (n, 3) uint8
    borders
        Pass False for a thinned image, in which most pixels touch another cell.

    Returns
    -------
    (h, w, 3) uint8
    """
    out = np.concatenate([colours, np.array([GROUND], np.uint8)])[index]
    edge = (index >= 0) & ~interior(index + 1) & borders
    small = np.count_nonzero(index >= 0) < _SMALL_PX * len(np.unique(index))
    out[edge] = (out[edge] * (_EDGE_SMALL if small else _EDGE)).astype(np.uint8)
    return np.asarray(out, np.uint8)


def outline_cells(
    image: UInt8Array, index: Int32Array, marked: BoolArray, colour: Rgb, *, width: int = 2
) -> None:
    """Draw the boundary of the marked cells into an image.

    Parameters
    ----------
    image : (h, w, 3) uint8
        Changed in place.
    index : (h, w) int32
        Row of each pixel's cell, -1 = none.
    marked : (n,) bool
    colour
    width
        Of the boundary, in pixels of the cell itself.
    """
    inside = np.append(marked, False)[index]
    core = np.where(inside, index + 1, 0)
    for _ in range(width):
        core = np.where(interior(core), core, 0)
    image[inside & (core == 0)] = colour


def gray(plane: Array, black: float) -> UInt8Array:
    """A channel dark on white, with a gamma that shows dim structures.

    Parameters
    ----------
    plane : (h, w) number
    black
        Intensity drawn black: the marker's normaliser. NaN or 0 (a blank channel) gives a white
        image.
    """
    if not black > 0:
        return np.full(plane.shape, 255, np.uint8)
    values = np.clip(np.asarray(plane, np.float32) / np.float32(black), 0, 1) ** np.float32(0.65)
    # 63 steps: more cannot be seen, and the file is half the size
    return np.asarray(255 - 4 * np.round(62 * values), np.uint8)
