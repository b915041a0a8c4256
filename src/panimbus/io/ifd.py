"""A TIFF's chain of pages (IFDs), walked without parsing.

Finds what a truncated file has lost, and what would never end.

tifffile logs a broken chain or a tag that lies behind the file's end, and goes on without it; a
stack would silently lose channels, or its channel names.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from panimbus.core.errors import ReadError

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
                raise _broken(where, "the chain of pages leads back to an earlier page")
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
                raise _broken(
                    where, f"the page's tags claim {length:,} bytes, the file has {size:,}"
                )
    return len(seen)


def _following(
    file: BinaryIO, at: int, order: str, *, big: bool, size: int, where: tuple[Path, int]
) -> tuple[int, int]:
    """Offset of the page after the one at ``at``, and bytes of that one's tags' values, which must
    lie in the file.
    """
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
    return _broken(
        where, f"the page's description reaches to byte {needed}, the file has {size} bytes"
    )


def _broken(where: tuple[Path, int], problem: str) -> ReadError:
    path, page = where
    return ReadError(
        f"{path}: the file is damaged or truncated, page {page}.",
        got=problem,
        fix="copy or export the file again",
    )
