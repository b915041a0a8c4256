"""Small tables of text that people write or a spreadsheet saves, whose header may be missing."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from panimbus.core.errors import ReadError, format_list
from panimbus.core.guard import describe_error
from panimbus.io.textfile import read_encoded_text

_LARGEST_TABLE = 16 << 20
"""Bytes of such a table; those of real panels are a few thousand."""
_LONGEST_FIELD = 10_000
_NO_SEPARATOR = "\x1f"  # a single column: commas belong to its names


def read_rows(path: Path, expected: str) -> list[list[str]]:
    """Rows of a table of text, without empty ones; fields without the spaces around them.

    Parameters
    ----------
    path
        In any of the encodings of `panimbus.io.textfile`. What separates the fields (tab, semicolon
        or comma) is told from the first line; a line ``sep=;`` is understood.
    expected
        What the file should be, for messages.
    """
    return parse_rows(read_encoded_text(path, expected, largest=_LARGEST_TABLE), path, expected)


def parse_rows(text: str, where: object, expected: str) -> list[list[str]]:
    """Fields of each row of a table; see `read_sheet`."""
    lines = re.split(r"\r\n|\r|\n", text)
    first = next((line for line in lines if line.strip()), "")
    if first.strip().strip('"').lower().startswith("sep=") and len(first.strip().strip('"')) <= len(
        "sep=x"
    ):
        at = lines.index(first)
        separator, lines = first.strip().strip('"')[len("sep=") :] or "\t", lines[at + 1 :]
        if separator == '"':
            raise ReadError(f"{where}: this is no table.", expected=expected, got=first)
    else:
        separator = (
            "\t"
            if "\t" in first
            else ";"
            if first.count(";") > first.count(",")
            else ","
            if "," in first
            else _NO_SEPARATOR
        )
    try:
        table = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, strict=False))
    except csv.Error as error:
        raise ReadError(
            f"{where}: this is no table.", expected=expected, got=describe_error(error)
        ) from None
    table = [
        [" ".join(field.split()) if "\n" in field else field.strip() for field in row]
        for row in table
    ]
    if any(len(field) > _LONGEST_FIELD for row in table for field in row):
        raise ReadError(
            f"{where}: a field of the table is longer than {_LONGEST_FIELD:,} characters.",
            expected=expected,
            fix="look for a quotation mark that is never closed",
        )
    return [row for row in table if any(row)]


def check_width(table: list[list[str]], where: object) -> None:
    """Refuse rows with more fields than the first.

    A comma in a name that is not quoted moves all that follow.
    """
    width = len(table[0])
    wide = [
        f"row {k + 1}: {format_list(row, 5)}" for k, row in enumerate(table) if any(row[width:])
    ]
    if wide:
        raise ReadError(
            f"{where}: {len(wide)} rows have more fields than the header.",
            expected=f"at most {width} fields, as in the header: {format_list(table[0], 8)}",
            got="; ".join(wide[:3]),
            fix='put names that hold a comma into quotation marks: "HLA-DR,DP"',
        )
