"""Strips and tiles of a TIFF page, checked against the file before a pixel is read.

Missing pixels are never zeros in silence.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from panimbus.core.errors import ReadError
from panimbus.core.types import Array

_LONGEST_SIDE = (1 << 31) - 1
_LARGEST = 1 << 34
_SMALL = 1 << 20
_EXPANSION = {5: 2_000, 8: 1_100, 32946: 1_100, 32773: 130}
_MOST_EXPANSION = 100_000
"""Bytes that a byte of the file can stand for (deflate: 1,032; a blank tile in Zstandard: 33,000)."""
_FIX = "copy or export the file again"


def check_page(page: tifffile.TiffPage, path: Path, size: int) -> np.dtype[Any]:
    """Type of a page's pixels.

    Refuse a page whose tags make no picture, or one larger than a file of ``size`` bytes can hold.
    """
    sides = [page.imagelength, page.imagewidth, page.samplesperpixel]
    sides += [page.tilelength, page.tilewidth] if page.is_tiled else [page.rowsperstrip]
    if not all(isinstance(n, int) and 0 < n <= _LONGEST_SIDE for n in sides):
        raise _damaged(path, page, f"its tags give no size: {_shortened(sides)}")
    if isinstance(page.imagedepth, int) and page.imagedepth > 1:
        raise ReadError(
            f"{path}: page {page.index + 1} is a volume.",
            got=f"{page.imagedepth} planes",
            fix="project or split it",
        )
    if (
        page.dtype is None
        or not page.dataoffsets
        or not isinstance(page.bitspersample, int)
        or page.imagedepth != 1
    ):
        raise ReadError(
            f"{path}: page {page.index + 1} is of a kind that is not supported.",
            got=(
                f"{_shortened(page.bitspersample)} bits, sample format {_shortened(page.sampleformat)},"
                f" depth {_shortened(page.imagedepth)}"
            ),
        )
    plane = page.imagelength * page.imagewidth * page.samplesperpixel * page.dtype.itemsize
    if plane > _MOST_EXPANSION * size + (1 << 28):
        raise _damaged(
            path,
            page,
            f"it claims {page.imagelength} x {page.imagewidth} pixels, the file has {size} bytes",
        )
    return page.dtype


def segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """(rows, columns) of a tile or strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def checked_segments(page: tifffile.TiffPage, path: Path, size: int) -> tuple[Array, Array]:
    """Offsets and byte counts of a page's segments, in order, both int64.

    A tile without offset or bytes is one that was never written; a strip that was never written is
    an error.

    Raises
    ------
    ReadError
        If segments are missing, lie outside the file's ``size`` bytes, or are too short for the
        pixels they should hold.
    """
    rows, columns = segment_shape(page)
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    run = math.ceil(page.imagelength / rows) * math.ceil(page.imagewidth / columns)
    needed = run * (page.samplesperpixel if planar else 1)
    offsets, counts = (
        _int_array(values, page, path) for values in (page.dataoffsets, page.databytecounts)
    )
    if min(len(offsets), len(counts)) < needed:
        raise _damaged(
            path, page, f"it lists {min(len(offsets), len(counts))} of its {needed} segments"
        )
    offsets, counts = offsets[:needed], counts[:needed]
    for values in (offsets, counts):
        wrong = np.flatnonzero((values < 0) | (values > size))
        if wrong.size:
            raise _damaged(
                path,
                page,
                f"segment {wrong[0]} should reach byte {values[wrong[0]]}, the file has {size}"
                " bytes",
            )
    offsets, counts = offsets.astype(np.int64), counts.astype(np.int64)
    ends = offsets + counts
    beyond = np.flatnonzero(ends > size)
    if beyond.size:
        raise _damaged(
            path,
            page,
            f"segment {beyond[0]} should end at byte {ends[beyond[0]]}, the file has {size} bytes",
        )
    _check_written(page, path, offsets, counts)
    _check_lengths(page, path, counts, run)
    return offsets, counts


def _check_written(page: tifffile.TiffPage, path: Path, offsets: Array, counts: Array) -> None:
    unwritten = np.flatnonzero((offsets == 0) | (counts == 0))
    if not unwritten.size:
        return
    missing = f"{len(unwritten)} of its {len(offsets)}"
    kind = "tile" if page.is_tiled else "strip"
    if not page.is_tiled or len(unwritten) == len(offsets):
        raise _damaged(
            path, page, f"{missing} {kind}s were never written, the first is {unwritten[0]}"
        )
    if page.nodata:
        raise _damaged(
            path, page, f"{missing} tiles were never written and stand for {page.nodata}"
        )


def _check_lengths(page: tifffile.TiffPage, path: Path, counts: Array, run: int) -> None:
    """Refuse segments too short for their pixels.

    Strips that are not compressed to the byte, others by what is possible.
    """
    rows, columns = segment_shape(page)
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    row = columns * samples * page.bitspersample // 8
    full = rows * row
    if full > _LARGEST:
        raise _damaged(
            path, page, f"one segment claims {full:,} bytes, at most {_LARGEST:,} are read at once"
        )
    if page.compression != 1:
        short = np.flatnonzero(
            (counts > 0)
            & (counts * _EXPANSION.get(int(page.compression), _MOST_EXPANSION) < full - _SMALL)
        )
    elif page.is_tiled and not page.is_contiguous:
        return  # tiles at the rim may be cut; the decoder looks
    else:
        last = (
            page.imagelength - (page.imagelength - 1) // rows * rows if not page.is_tiled else rows
        )
        wanted = np.full(len(counts), full, np.int64)
        wanted[run - 1 :: run] = last * row
        wrapped = (wanted >> 32 > 0) & (
            counts == wanted % (1 << 32)
        )  # a 32-bit tag cannot say more
        short = np.flatnonzero((counts < wanted) & ~wrapped)
    if short.size:
        i = int(short[0])
        raise _damaged(
            path, page, f"segment {i} has {counts[i]} bytes, too few for {rows} x {columns} pixels"
        )


def check_complete(data: bytes, compression: int) -> str | None:
    """What a JPEG or JPEG XR segment lacks, whose decoders fill the rest with grey.

    None if it is whole, or of another kind.
    """
    if compression in (6, 7, 33007, 34892) and b"\xff\xd9" not in data[-4096:]:
        return "the JPEG data lack their end"
    if compression in (22610, 34934) and data[:3] == b"II\xbc":
        at = int.from_bytes(data[4:8], "little")
        entries = int.from_bytes(data[at : at + 2], "little")
        values = {}
        for i in range(entries):
            entry = data[at + 2 + 12 * i : at + 14 + 12 * i]
            values[int.from_bytes(entry[:2], "little")] = int.from_bytes(entry[8:12], "little")
        if values.get(0xBCC0, 0) + values.get(0xBCC1, 0) > len(data):
            return "the JPEG XR data lack their end"
    return None


def _int_array(values: Any, page: tifffile.TiffPage, path: Path) -> Array:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise _damaged(
            path, page, f"its list of segments is not made of numbers: {_shortened(values)}"
        )
    return array


def _shortened(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _damaged(path: Path, page: tifffile.TiffPage, problem: str) -> ReadError:
    return ReadError(
        f"{path}: the file is damaged or truncated, page {page.index + 1}.", got=problem, fix=_FIX
    )
