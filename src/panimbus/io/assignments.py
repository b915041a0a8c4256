"""A value for some channels, as it is written.

In an option (``CD20=0.7,CD4=0.6``), or in a table of two columns.
"""

from __future__ import annotations

import re
from pathlib import Path

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.naming import split_names
from panimbus.io.tables import Column, read_table

_PART = re.compile(r'(?:"(?:[^"]|"")*"|[^,])+')
_ALIASES = {
    "channel": ("marker", "name", "marker name", "channel name"),
    "marker": ("channel",),
    "type": ("channel type", "kind"),
}


def read_assignments(
    text_or_path: str, columns: tuple[str, str], *, kind: str, expected: str
) -> list[tuple[str, str]]:
    """Pairs of a channel's name and its value, as they stand.

    Parameters
    ----------
    text_or_path
        ``A=1,"B,C"=2``, or the path of a table.
    columns
        Names of its two columns.
    kind, expected
        For messages: "thresholds", and how they are written.
    """
    path = _as_file(text_or_path, expected)
    if path is None:
        pairs = _inline(text_or_path, kind, expected)
    else:
        asked = [Column(name, aliases=_ALIASES.get(name, ())) for name in columns]
        frame = read_table(
            path, asked, expected=f"a table of {kind} with the columns {','.join(columns)}"
        )
        pairs = list(zip(frame[columns[0]], frame[columns[1]], strict=True))
    if not pairs:
        raise InputError(
            f"There are no {kind} in {str(text_or_path if path is None else path)!r}.",
            expected=expected,
        )
    return pairs


def _as_file(text: str, expected: str) -> Path | None:
    path = Path(text)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # too long for a name, or none
        return None
    if "=" not in text and path.suffix:
        raise ReadError(f"{path}: there is no such file.", expected=expected)
    return None


def _inline(text: str, kind: str, expected: str) -> list[tuple[str, str]]:
    words = [word.strip() for word in _PART.findall(text) if word.strip()]
    if bare := [word for word in words if not word.rpartition("=")[0].strip(' "')]:
        raise InputError(
            f"{kind.capitalize()} that cannot be read.", expected=expected, got=format_list(bare)
        )
    parts = [word.rpartition("=") for word in words]
    return [
        ((split_names(name) if name.startswith('"') else [name.strip()])[0], value.strip())
        for name, _, value in parts
    ]
