"""A TIFF's chain of pages (IFDs), walked without parsing: finds what a truncated file has lost.

tifffile logs a broken chain or a tag that lies behind the file's end, and goes on without it; a stack would silently lose
channels, or its channel names.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from panimbus.core.errors import ReadError

# bytes of one value of each TIFF type
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def count_pages(path: Path) -> int:
    """Number of pages in a TIFF's main chain; a chain or a tag that leads out of the file is a `ReadError`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\x00", b"\x00+")
        at = _number(order, head[8:16] if big else head[4:8])
        seen: set[int] = set()
        while at and at not in seen:
            seen.add(at)
            at = _following(file, at, order, big=big, size=size, where=(path, len(seen)))
    return len(seen)


def _following(file: BinaryIO, at: int, order: str, *, big: bool, size: int, where: tuple[Path, int]) -> int:
    """Offset of the page after the one at ``at``, whose tags' values must lie in the file."""
    word, entry, head = (8, 20, 8) if big else (4, 12, 2)
    if at + head > size:
        raise _lost(where, at, size)
    file.seek(at)
    count = _number(order, file.read(head))
    table = file.read(count * entry)
    last = file.read(word)
    if len(table) < count * entry or len(last) < word:
        raise _lost(where, at + head + count * entry + word, size)
    for i in range(0, len(table), entry):
        kind, number = struct.unpack_from(order + ("HQ" if big else "HI"), table, i + 2)
        length = _BYTES.get(kind, 0) * number
        value = _number(order, table[i + entry - word : i + entry])
        if length > word and value + length > size:
            raise _lost(where, value + length, size)
    return _number(order, last)


def _number(order: str, data: bytes) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")


def _lost(where: tuple[Path, int], needed: int, size: int) -> ReadError:
    path, page = where
    return ReadError(
        f"{path}: the file is damaged or truncated, page {page}.",
        got=f"the page's description reaches to byte {needed}, the file has {size} bytes",
        fix="copy or export the file again",
    )
