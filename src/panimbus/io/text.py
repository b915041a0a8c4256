"""Text of other programs: encodings, compression, and headers of tables."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TextIO

import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.guard import describe_error, guarded

logger = logging.getLogger(__name__)
LONGEST_LINE = 8 << 20
"""Bytes; a longer line is no row of a table."""
MOST_COLUMNS = 20_000
_DELIMITERS = ",;\t|"
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
_ONE_COLUMN = "\x1f"  # a single column: commas belong to its values


def open_text(path: Path, encoding: str, comment: str | None = None) -> TextIO:
    """Open a text file, compressed or not, with every line ending in a newline.

    Lines that begin with ``comment``, perhaps after a quotation mark, are empty.
    """
    stream = io.TextIOWrapper(_open_bytes(path), encoding=encoding, newline=None)
    if comment is None:
        return stream
    with stream:
        lines = ("\n" if line.lstrip(' "').startswith(comment) else line for line in stream)
        return io.StringIO("".join(lines))


def _open_bytes(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(gzip.open(path)) if zipped else path.open("rb")


def detect_encoding(path: Path, expected: str) -> tuple[str, str]:
    """Detect the encoding; refuse binary files and endless lines.

    Returns
    -------
    str
        Its encoding.
    str
        Its last line if it has no newline, at most the last 64 kB of it.
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
    """Encoding by the byte order mark, or by the zero bytes of UTF-16."""
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


def read_header(
    path: Path, encoding: str, expected: str, comment: str | None = None
) -> tuple[list[str], str, int, int]:
    """Column names, separator, and numbers of lines before and up to the end of the header."""
    with open_text(path, encoding, comment) as stream:
        lines = list(islice(stream, 40))
    start = next((i for i, line in enumerate(lines) if line.strip(' ,;\t|"\n')), None)
    declared = (
        re.fullmatch(r'"?sep=([,;\t|])"?', lines[start].rstrip("\n"), re.IGNORECASE)
        if start is not None
        else None
    )
    if declared and start is not None:  # for spreadsheets alone
        start = next((i for i in range(start + 1, len(lines)) if lines[i].strip()), None)
    if start is None:
        raise ReadError(f"{path} is not a table that can be read: it is empty.", expected=expected)
    delimiter = declared[1] if declared else _delimiter(lines[start:])
    if (count := lines[start].count(delimiter)) > MOST_COLUMNS:
        raise ReadError(
            f"{path}: the table has {count + 1:,} columns.", expected=f"at most {MOST_COLUMNS:,}"
        )
    reader = csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=True)
    try:
        names = [one_line(name) for name in next(reader)]
    except csv.Error as error:
        raise ReadError(
            f"{path}: the header of the table cannot be read.", got=describe_error(error)
        ) from None
    return names, delimiter, start, start + reader.line_num


def one_line(field: str) -> str:
    """A field without its line breaks and tabs, and without spaces around it."""
    return " ".join(field.split()) if re.search(r"[\r\n\t]", field) else field.strip()


def _delimiter(lines: Sequence[str]) -> str:
    """The separator that rows have as often as the header (decimal commas do not count)."""

    def fields(line: str, delimiter: str) -> int:
        try:
            return len(next(csv.reader([line], delimiter=delimiter)))
        except (csv.Error, StopIteration):
            return 1

    def fit(delimiter: str) -> tuple[float, int]:
        width = fields(lines[0], delimiter)
        rows = [n for n in (fields(line, delimiter) for line in lines[1:] if line.strip()) if n > 1]
        share = sum(n == width for n in rows) / len(rows) if rows else 0.5
        return (share if width > 1 else -1, width)

    best = max(_DELIMITERS, key=fit)
    return best if fields(lines[0], best) > 1 else _ONE_COLUMN
