"""Coarser resolution levels that an image or label file holds, for viewers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from panimbus.core.dark import DarkSubtracted
from panimbus.core.errors import PanimbusError
from panimbus.core.fov import ArrayLike
from panimbus.core.guard import GuardedArray
from panimbus.io.labels import FlatLabels
from panimbus.io.read_result import ChannelSubset
from panimbus.io.tiff import TiffImage, TiffPlane, open_tiff, page_planes, read_pages
from panimbus.io.zarr_planes import ZarrPlanes

_TOLERANCE = 0.02


def coarser_levels(array: ArrayLike) -> list[ArrayLike]:
    """The coarser levels of a lazy image (C, Y, X) or label image (Y, X), the finest first.

    TIFFs hold them as SubIFDs (OME-TIFF), OME-Zarr as further arrays. Arrays, files without levels
    and levels that are damaged or do not show the same area give an empty list.
    """
    try:
        levels = _levels(array)
    except (PanimbusError, KeyError, IndexError):
        return []
    out: list[ArrayLike] = []
    for level in levels:
        if len(level.shape) != len(array.shape) or not _same_area(array.shape, level.shape):
            break
        out.append(level)
    return out


def level_factor(full: Sequence[int], level: Sequence[int]) -> int:
    """How many pixels of the full resolution one pixel of a level is wide.

    Examples
    --------
    >>> level_factor((8, 1000, 2001), (8, 250, 501))
    4
    """
    return max(1, round(max(full[-2:]) / max(*level[-2:], 1)))


def _same_area(full: Sequence[int], level: Sequence[int]) -> bool:
    factor = level_factor(full, level)
    return factor > 1 and all(
        abs(b * factor - a) <= max(factor, _TOLERANCE * a)
        for a, b in zip(full[-2:], level[-2:], strict=True)
    )


def _levels(array: Any) -> list[Any]:
    """Levels of a reader's array; wrappers are wrapped around each level."""
    if isinstance(array, GuardedArray):
        return [GuardedArray(level, "a coarser level") for level in _levels(array.array)]
    if isinstance(array, DarkSubtracted):
        return [DarkSubtracted(level, array.level) for level in _levels(array.array)]
    if isinstance(array, ChannelSubset):
        return [ChannelSubset(level, array.order) for level in _levels(array.image)]
    if isinstance(array, ZarrPlanes):
        return array.coarser()
    if type(array) is FlatLabels:
        return [FlatLabels(planes, array.dtype) for planes in _subifds(array.planes)]
    return [TiffImage(planes) for planes in _subifds(array.planes)] if _is_tiff(array) else []


def _is_tiff(array: Any) -> bool:
    return type(array) is TiffImage


def _subifds(planes: Sequence[TiffPlane]) -> list[list[TiffPlane]]:
    """The planes of each level; levels that some plane lacks are left out."""
    levels: list[list[TiffPlane]] = []
    for path in dict.fromkeys(plane.path for plane in planes):
        with open_tiff(path) as tif:
            pages, size = read_pages(tif, path), tif.filehandle.size
            for k, plane in enumerate(planes):
                if plane.path != path:
                    continue
                below: Any = pages[plane.page].pages if pages[plane.page].subifds else ()
                for n, page in enumerate(below or ()):
                    while len(levels) <= n:
                        levels.append([])
                    if len(levels[n]) == k:
                        levels[n].append(page_planes(page, path, size)[plane.sample])
    return [level for level in levels if len(level) == len(planes)]


def whole_pieces(array: Any, side: int = 256) -> int:
    """Bytes that must be decoded to read a square of ``side`` pixels of one plane.

    Examples
    --------
    >>> whole_pieces(np.zeros((1, 600, 600), np.uint16))
    0
    """
    if isinstance(array, GuardedArray | DarkSubtracted):
        return whole_pieces(array.array, side)
    if isinstance(array, ChannelSubset):
        return whole_pieces(array.image, side)
    if isinstance(array, ZarrPlanes):
        return array.bytes_for(side)
    planes = getattr(array, "planes", ())
    return max((_decoded(plane, side) for plane in planes), default=0)


def _decoded(plane: TiffPlane, side: int) -> int:
    if plane.raw is not None:
        return side * plane.shape[1] * plane.step * plane.dtype.itemsize
    pieces = [-(-side // min(n, m)) for n, m in zip(plane.segment, plane.shape, strict=True)]
    return int(np.prod(pieces)) * plane.decoded_bytes
