"""Text files of other programs.

Compressed or not, in whatever encoding, read through once before they are believed.
"""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import re
from pathlib import Path
from typing import IO, TextIO

import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.guard import describe_error, guarded
from panimbus.io.documents import check_regular

logger = logging.getLogger(__name__)
LONGEST_LINE = 8 << 20
"""Bytes; a longer line is no row of a table."""
_CHUNK = 1 << 20
_OTHER_KINDS = {
    b"PK\x03\x04": "a spreadsheet or another zip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of an old kind",
    b"\x89HDF": "HDF5 (AnnData files end in .h5ad)",
    b"PAR1": "Parquet (such files end in .parquet)",
    b"%PDF": "PDF",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
}


def read_encoded_text(path: Path, expected: str, *, largest: int = 64 << 20) -> str:
    """The text of a small file in any of the encodings that are understood, without a byte order
    mark.
    """
    check_regular(path, expected)
    if path.stat().st_size > largest:
        raise ReadError(
            f"{path}: the file is too large.", expected=f"{expected}, at most {largest:,} bytes"
        )
    encoding, _ = detect_encoding(path, expected)
    with open_text(path, encoding) as stream:
        return stream.read().removeprefix("\ufeff")


def open_text(path: Path, encoding: str) -> TextIO:
    """The text, every line ending in a newline."""
    return io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline=None)


def _open_bytes(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(gzip.open(path)) if zipped else path.open("rb")


def detect_encoding(path: Path, expected: str) -> tuple[str, str]:
    """Read a file through once; refuse what is no text, and lines without end.

    Returns
    -------
    str
        Its encoding.
    str
        Its last line if that has no end, shortened to 64 kB from behind.
    """
    with guarded(path, "the table cannot be read."), _open_bytes(path) as file:
        chunk = file.read(4096)
        if kind := next((k for magic, k in _OTHER_KINDS.items() if chunk.startswith(magic)), None):
            raise ReadError(
                f"{path} is not a table that can be read: it is {kind}.",
                expected=expected,
                fix="save it as CSV",
            )
        encoding = _encoding_of(chunk)
        wide = not encoding.startswith("utf-8")
        decoder = codecs.getincrementaldecoder(encoding)()
        size, since, suspect, last = 0, 0, False, b""
        undecoded: UnicodeDecodeError | None = None
        while True:
            size += len(chunk)
            at = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
            since = since + len(chunk) if at < 0 else len(chunk) - at - 1
            last = (last + chunk)[-min(since, 1 << 16) :] if since else b""
            _check_chunk(path, since=since, size=size)
            try:
                text = decoder.decode(b"" if undecoded else chunk, final=not chunk)
            except UnicodeDecodeError as error:
                undecoded, text = error, ""
            if "\0" in text or (not wide and b"\0" in chunk):
                raise ReadError(
                    f"{path} is not a table that can be read: it holds NUL bytes.", expected="text"
                )
            # two letters of UTF-8 in a row are no two letters of Windows-1252, which has no letter
            # for some bytes
            suspect = suspect or (
                not chunk.isascii() and re.search(rb"[\xc2\xc3\xce][\x80-\xbf]", chunk) is not None
            )
            if undecoded is not None and (
                wide or suspect or re.search(rb"[\x81\x8d\x8f\x90\x9d]", chunk)
            ):
                raise ReadError(
                    f"{path}: the text is damaged, or in an encoding that is not read.",
                    expected=f"{expected}, in UTF-8",
                    got=describe_error(undecoded),
                )
            if not chunk:
                break
            chunk = file.read(_CHUNK)
    if undecoded is not None:
        logger.warning("%s is not in UTF-8: read as Windows-1252 (Latin-1)", path)
        encoding = "cp1252"
    return encoding, "" if wide else last.decode(encoding, "replace")


def _check_chunk(path: Path, *, since: int, size: int) -> None:
    if since > LONGEST_LINE:
        raise ReadError(
            f"{path}: a line is longer than {LONGEST_LINE >> 20} MB.", expected="a table"
        )
    if size > (256 << 20) and size > 200 * path.stat().st_size:
        raise ReadError(
            f"{path}: it is compressed to less than a 200th: no table is.",
            got=f"more than {size:,} bytes",
        )


def _encoding_of(head: bytes) -> str:
    """The encoding by a byte order mark, or by where the zeros of UTF-16 lie."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) and len(head) >= 8:
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = np.frombuffer(head[: len(head) // 2 * 2], np.uint8).reshape(-1, 2) == 0
    even, odd = zeros.mean(0).tolist() if len(zeros) > 1 else (0.0, 0.0)
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    if even > 0.4 and odd < 0.05:
        return "utf-16-be"
    return "utf-8-sig"
