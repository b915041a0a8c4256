"""Warnings of one kind as one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from panimbus.core.errors import format_list

_SUBJECT = re.compile(r"(FOV '[^'\n]*', channel|channel|FOV) '([^'\n]*)'(:? )(.*)")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_NAMED = 8


def group_messages(lines: Iterable[str]) -> list[str]:
    """Put lines together that say the same of several channels or FOVs.

    Numbers in which they differ become ranges.

    Parameters
    ----------
    lines
        Those to be grouped begin with ``channel 'name'`` or ``FOV 'name'``; the others stay as they
        are.

    Returns
    -------
    list of str
        In the order of the first of each kind.

    Examples
    --------
    >>> group_messages(["channel 'CD3': 2.0 % are saturated", "no scale", "channel 'CD4': 0.5 % are saturated"])
    ['2 channels (CD3, CD4): 0.5 to 2.0 % are saturated', 'no scale']
    """
    groups: dict[tuple[str, ...], list[tuple[str, str, str]]] = {}
    for k, line in enumerate(lines):
        match = _SUBJECT.fullmatch(line)
        if match is None:
            groups[str(k), ""] = [(line, "", "")]
            continue
        kind, name, text = match[1], match[2], match[4]
        groups.setdefault((kind, match[3], _NUMBER.sub("#", text)), []).append((line, name, text))
    return [
        (
            of[0][0]
            if len(of) == 1
            else (
                f"{_subject(key[0], [name for _, name, _ in of])}{key[1]}{_joined([t for *_, t in of])}"
            )
        )
        for key, of in groups.items()
    ]


def _subject(kind: str, names: list[str]) -> str:
    head, _, _ = kind.rpartition("channel")
    what = "channels" if kind.endswith("channel") else "FOVs"
    return f"{head}{len(names)} {what} ({format_list(names, _NAMED)})"


def _joined(texts: list[str]) -> str:
    """One text of several that differ in their numbers."""
    columns = list(zip(*(_NUMBER.findall(text) for text in texts), strict=True))
    ranges = iter(
        [
            (
                min(c, key=_value)
                if len(set(c)) == 1
                else f"{min(c, key=_value)} to {max(c, key=_value)}"
            )
            for c in columns
        ]
    )
    return _NUMBER.sub(lambda _: next(ranges), texts[0])


def _value(text: str) -> float:
    return float(text.replace(",", ""))
