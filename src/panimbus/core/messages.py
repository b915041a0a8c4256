"""Merge similar messages into one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from panimbus.core.errors import format_list

_SUBJECT = re.compile(r"(FOV '[^'\n]*', channel|channel|FOV) '([^'\n]*)'(:? )(.*)")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_NAMED = 8


def group_messages(lines: Iterable[str]) -> list[str]:
    """Merge lines that differ only in their channel or FOV and in numbers, which become ranges.

    Parameters
    ----------
    lines
        Lines that start with ``channel 'name'`` or ``FOV 'name'`` are merged, others are kept.

    Returns
    -------
    list of str
        In the order of the first line of each group.

    Examples
    --------
    >>> lines = ["channel 'CD3': 2.0 % are saturated", "channel 'CD4': 0.5 % are saturated"]
    >>> group_messages(lines)
    ['2 channels (CD3, CD4): 0.5 to 2.0 % are saturated']
    """
    groups: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    for k, line in enumerate(lines):
        match = _SUBJECT.fullmatch(line)
        if match is None:
            groups[str(k), "", ""] = [(line, "", "")]
            continue
        kind, name, text = match[1], match[2], match[4]
        groups.setdefault((kind, match[3], _NUMBER.sub("#", text)), []).append((line, name, text))
    out = []
    for (kind, colon, _), members in groups.items():
        names, texts = [name for _, name, _ in members], [text for *_, text in members]
        several = len(members) > 1
        out.append(f"{_subject(kind, names)}{colon}{_joined(texts)}" if several else members[0][0])
    return out


def _subject(kind: str, names: list[str]) -> str:
    head, _, _ = kind.rpartition("channel")
    noun = "channels" if kind.endswith("channel") else "FOVs"
    return f"{head}{len(names)} {noun} ({format_list(names, _NAMED)})"


def _joined(texts: list[str]) -> str:
    """One text for several that differ in their numbers."""
    columns = list(zip(*(_NUMBER.findall(text) for text in texts), strict=True))
    ranges = iter(
        [" to ".join(dict.fromkeys((min(c, key=_value), max(c, key=_value)))) for c in columns]
    )
    return _NUMBER.sub(lambda _: next(ranges), texts[0])


def _value(text: str) -> float:
    return float(text.replace(",", ""))
