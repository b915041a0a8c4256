"""Checks of TIFF pages and their segments against the size of the file.

tifffile logs a broken chain of pages, or a tag beyond the end of the file, and goes on without
it: a stack would silently lose channels or their names, and missing pixels would be zeros.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from panimbus.core.errors import ReadError
from panimbus.core.types import Array

MOST_PAGES = 20_000
_SLACK = 1 << 28
# bytes of one value of each TIFF type
_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_LONGEST_SIDE = (1 << 31) - 1
_LARGEST = 1 << 34
_SMALL = 1 << 20
_EXPANSION = {5: 2_000, 8: 1_100, 32946: 1_100, 32773: 130}
_MOST_EXPANSION = 100_000
"""Largest expansion of a byte (deflate: 1,032; a blank tile in Zstandard: 33,000)."""
_FIX = "copy or export the file again"


def count_pages(path: Path) -> int:
    """Number of pages in a TIFF's main chain.

    Raises
    ------
    ReadError
        If the path is no regular file, the chain or a tag leads out of the file or in a circle,
        there are more than 20,000 pages, or the tags claim more than the file holds.
    """
    if not path.is_file():
        kind = (
            "a folder"
            if path.is_dir()
            else "neither a file nor a folder (a pipe or a device)"
            if path.exists()
            else "missing"
        )
        raise ReadError(f"{path}: the image cannot be read, it is {kind}.", expected="a TIFF file")
    info = path.stat()
    return _count(path, info.st_size, info.st_mtime_ns)


@lru_cache(maxsize=1024)  # a file is opened several times until it is clear what it is
def _count(path: Path, size: int, _: int) -> int:
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\x00", b"\x00+")
        at = _number(order, head[8:16] if big else head[4:8])
        seen: set[int] = set()
        claimed = 0
        while at:
            where = (path, len(seen) + 1)
            if at in seen:
                raise damaged_page(*where, "the chain of pages leads back to an earlier page")
            if len(seen) >= MOST_PAGES:
                raise ReadError(
                    f"{path}: the TIFF has more than {MOST_PAGES:,} pages.",
                    expected="one page a channel",
                    fix="if the channel axis was stored last, store the array as (C, Y, X)",
                )
            seen.add(at)
            at, length = _following(file, at, order, big=big, size=size, where=where)
            claimed += length
            if length > size or claimed > size + _SLACK:
                raise damaged_page(
                    *where, f"the page's tags claim {length:,} bytes, the file has {size:,}"
                )
    return len(seen)


def _following(
    file: BinaryIO, at: int, order: str, *, big: bool, size: int, where: tuple[Path, int]
) -> tuple[int, int]:
    """Offset of the page after the one at ``at``, and the bytes of its tag values."""
    word, entry, head = (8, 20, 8) if big else (4, 12, 2)
    if at + head > size:
        raise _beyond_end(where, at, size)
    file.seek(at)
    count = _number(order, file.read(head))
    end = at + head + count * entry + word
    if end > size:
        raise _beyond_end(where, end, size)
    table = file.read(count * entry)
    total = 0
    for i in range(0, len(table), entry):
        kind, number = struct.unpack_from(order + ("HQ" if big else "HI"), table, i + 2)
        length = _BYTES.get(kind, 0) * number
        value = _number(order, table[i + entry - word : i + entry])
        if length > word:
            total += length
            if value + length > size:
                raise _beyond_end(where, value + length, size)
    return _number(order, file.read(word)), total


def _number(order: str, data: bytes) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")


def _beyond_end(where: tuple[Path, int], needed: int, size: int) -> ReadError:
    return damaged_page(
        *where, f"the page's description reaches to byte {needed}, the file has {size} bytes"
    )


def damaged_page(path: Path, page: int, problem: str) -> ReadError:
    """Error for a page (counted from 1) of a damaged file."""
    return ReadError(
        f"{path}: the file is damaged or truncated, page {page}.", got=problem, fix=_FIX
    )


def check_page(page: tifffile.TiffPage, path: Path, size: int) -> np.dtype[Any]:
    """Pixel type of a page; refuses tags that are impossible for a file of ``size`` bytes."""
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
                f"{_shortened(page.bitspersample)} bits, sample format"
                f" {_shortened(page.sampleformat)}, depth {_shortened(page.imagedepth)}"
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
    """Refuse segments too short for their pixels: exactly if uncompressed, else by expansion."""
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
    """Defect of a cut JPEG or JPEG XR segment (decoders fill it with grey), or None."""
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
    return damaged_page(path, page.index + 1, problem)
