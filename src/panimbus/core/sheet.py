"""Small tables of text that people write or a spreadsheet saves: any common encoding, commas, semicolons or tabs."""

from __future__ import annotations

import codecs
import csv
import io
import re
from pathlib import Path

from panimbus.core.errors import ReadError, listed
from panimbus.core.guard import in_words

LARGEST = 16 << 20
"""Bytes of such a table; those of real panels are a few thousand."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LONGEST = 10_000
_NONE = "\x1f"  # a single column: commas belong to its names
_OTHERS = ((b"PK\x03\x04", "a spreadsheet or a zip file"), (b"\xd0\xcf\x11\xe0", "an Excel file"), (b"%PDF", "a PDF"))


def read_sheet(path: Path, expected: str) -> list[list[str]]:
    """Rows of a table of text, without empty ones; fields without the spaces around them.

    Parameters
    ----------
    path
        UTF-8, UTF-16 or, where it is neither, Latin-1 (Windows-1252). What separates the fields (tab, semicolon or comma) is
        told from the first line; a line ``sep=;`` is understood.
    expected
        What the file should be, for messages.

    Raises
    ------
    ReadError
        If it is missing, no regular file, too large, no text, or if a quotation mark is never closed.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "neither a file nor a folder (a pipe or a device)"
            raise ReadError(f"{path}: this is {kind}.", expected=expected)
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ReadError(f"{path}: there is no such file; it cannot be read.", expected=expected) from None
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: the file cannot be read.", expected=expected, got=in_words(error)) from None
    if len(data) > LARGEST:
        raise ReadError(f"{path}: the file is too large.", expected=f"{expected}, at most {LARGEST:,} bytes")
    return rows_of(decoded(data, path, expected), path, expected)


def decoded(data: bytes, where: object, expected: str) -> str:
    """Text of any common encoding.

    Examples
    --------
    >>> decoded("Größe".encode("utf-16"), "a", ""), decoded("Größe".encode("latin-1"), "a", "")
    ('Größe', 'Größe')
    """
    for head, kind in _OTHERS:
        if data.startswith(head):
            raise ReadError(f"{where}: this is {kind}, not text.", expected=expected, fix="save it as CSV, or as text")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _without_mark(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ReadError(f"{where}: the file is not text.", expected=expected, got=in_words(error)) from None
        text = data.decode("cp1252", errors="replace")
    if "\0" in text:
        raise ReadError(f"{where}: the file is not text: it holds zero bytes.", expected=expected)
    return text


def _without_mark(data: bytes) -> str:
    """UTF-16 shows in its zero bytes."""
    head = data[:1000]
    odd, even = head[1::2].count(0), head[0::2].count(0)
    if max(odd, even) > len(head) // 4:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def rows_of(text: str, where: object, expected: str) -> list[list[str]]:
    """Fields of each row of a table; see `read_sheet`."""
    lines = re.split(r"\r\n|\r|\n", text)
    first = next((line for line in lines if line.strip()), "")
    if first.strip().strip('"').lower().startswith("sep=") and len(first.strip().strip('"')) <= len("sep=x"):
        at = lines.index(first)
        separator, lines = first.strip().strip('"')[len("sep=") :] or "\t", lines[at + 1 :]
        if separator == '"':
            raise ReadError(f"{where}: this is no table.", expected=expected, got=first)
    else:
        separator = "\t" if "\t" in first else ";" if first.count(";") > first.count(",") else "," if "," in first else _NONE
    try:
        table = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, strict=False))
    except csv.Error as error:
        raise ReadError(f"{where}: this is no table.", expected=expected, got=in_words(error)) from None
    table = [[" ".join(field.split()) if "\n" in field else field.strip() for field in row] for row in table]
    if any(len(field) > _LONGEST for row in table for field in row):
        raise ReadError(
            f"{where}: a field of the table is longer than {_LONGEST:,} characters.",
            expected=expected,
            fix="look for a quotation mark that is never closed",
        )
    return [row for row in table if any(row)]


def check_width(table: list[list[str]], where: object) -> None:
    """Refuse rows with more fields than the first: a comma in a name that is not quoted moves all that follow."""
    width = len(table[0])
    wide = [f"row {k + 1}: {listed(row, 5)}" for k, row in enumerate(table) if any(row[width:])]
    if wide:
        raise ReadError(
            f"{where}: {len(wide)} rows have more fields than the header.",
            expected=f"at most {width} fields, as in the header: {listed(table[0], 8)}",
            got="; ".join(wide[:3]),
            fix='put names that hold a comma into quotation marks: "HLA-DR,DP"',
        )
