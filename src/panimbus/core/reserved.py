"""Channel names that are reserved for columns of the tables, or that files cannot store."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

RESERVED = frozenset(
    {
        # names of the cell, as recognised by the readers of score tables
        "fov", "fov id", "image", "image id", "imageid", "image name", "sample", "sample id",
        "cell id", "label", "cell", "cellid", "cell label", "object", "object number",
        "objectnumber", "name", "index",
        # its measurements, as named by panimbus, ark and scimap
        "area um2", "area µm^2", "area µm²", "cell: area µm^2", "cell: area µm²", "area",
        "cell size", "centroid x um", "centroid y um", "centroid x µm", "centroid y µm",
        "centroid 0", "centroid 1", "x centroid", "y centroid",
        # its type
        "som node", "metacluster", "cell type", "confidence", "reason", "contradiction", "mixed",
        "faint", "phenotype", "metacluster first", "first type", "first reason",
    }
)  # fmt: skip
"""In lower case, with spaces instead of ``_``, ``-`` and ``.``."""


def is_reserved(name: str) -> bool:
    """Whether a table column has this name, in any spelling.

    Examples
    --------
    >>> [is_reserved(name) for name in ("area_um2", "Cell-ID", "CD3", "fov1")]
    [True, True, False, False]
    """
    return (
        re.sub(r"[\s_.-]+", " ", unicodedata.normalize("NFC", name).casefold())
        .strip()
        .replace("μ", "µ")
        in RESERVED
    )


def _is_writable(name: str) -> bool:
    """Whether every file format can store a name: not empty, UTF-8, no control characters."""
    return bool(name.strip()) and not any(unicodedata.category(c) in ("Cc", "Cs") for c in name)


def name_problems(names: Sequence[str]) -> list[str]:
    """Descriptions of what is wrong with channel names."""
    out = [f"{n!r} is the name of a column of the cell table" for n in names if is_reserved(n)]
    return out + [
        f"{n!r} is empty, or has characters that files cannot store"
        for n in names
        if not _is_writable(n)
    ]


def legal_names(names: Sequence[str | None]) -> tuple[list[str | None], tuple[str, ...]]:
    r"""Make channel names valid in all tables, with a note for each change.

    Accents are composed (NFC); invalid UTF-8 is decoded as Latin-1; control characters become
    ``_``; reserved names get the prefix ``channel_``.

    Examples
    --------
    >>> legal_names(["CD3", "area_um2", "a\nb"])[0]
    ['CD3', 'channel_area_um2', 'a_b']
    """
    out: list[str | None] = []
    notes = []
    for name in names:
        if name is None or not name.strip():
            out.append(None)
            continue
        plain = unicodedata.normalize("NFC", printable_name(name.strip())).strip()
        new = f"channel_{plain}" if is_reserved(plain) else plain
        if is_reserved(plain):
            notes.append(
                f"channel {plain!r} has the name of a column of the cell table: renamed to {new!r}"
            )
        elif plain != unicodedata.normalize("NFC", name.strip()):
            notes.append(
                f"channel {name.strip()!r} has characters that files cannot store: renamed to"
                f" {new!r}"
            )
        out.append(new)
    return out, tuple(notes)


def printable_name(name: str) -> str:
    r"""Make a name printable: decode escaped bytes as Latin-1, replace control characters by ``_``.

    Examples
    --------
    >>> printable_name("H\udcfcfte_1"), printable_name("a\nb")
    ('Hüfte_1', 'a_b')
    """
    if name.isascii() and name.isprintable():
        return name
    text = "".join(_letter(c) for c in name)
    return "".join("_" if unicodedata.category(c) == "Cc" else c for c in text)


def _letter(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return chr(code - 0xDC00)
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else character
