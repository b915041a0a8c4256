"""Comma-separated lists of names, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

_FIELD = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(?:,|$)')


def split_names(text: str) -> list[str]:
    """Split a comma-separated list and strip the names; quoted names are kept unchanged.

    Examples
    --------
    >>> split_names('CD3, "HLA-DR,DP",, " CD4 ", 5" tag, "a""b"')
    ['CD3', 'HLA-DR,DP', ' CD4 ', '5" tag', 'a"b']
    """
    out, at = [], 0
    while at < len(text):
        field = _FIELD.match(text, at)
        if field is None:  # a stray quotation mark is an ordinary character
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            out.append(text[at:end].strip())
            at = end + 1
            continue
        at = field.end()
        if (name := field[2] if field[1] is None else field[1].replace('""', '"')) or field[1]:
            out.append(name)
    return [name for name in out if name]


def join_names(names: Iterable[str]) -> str:
    """Join names to a list that `split_names` splits again.

    Examples
    --------
    >>> join_names(["CD3", "HLA-DR,DP", ' a"b'])
    'CD3,"HLA-DR,DP"," a""b"'
    """
    return ",".join(
        '"' + n.replace('"', '""') + '"' if n != n.strip() or "," in n or n.startswith('"') else n
        for n in names
    )


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """`` (did you mean 'CD20'?)``, or an empty string if no name is similar."""
    folded = {other.casefold(): other for other in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def as_spelled(names: Iterable[str], available: Iterable[str]) -> list[str]:
    """Names as ``available`` has them, where they differ in upper and lower case alone.

    A name that is there, or fits several or none, stays as it is.

    Examples
    --------
    >>> as_spelled(["VIM", "CD3", "ki67", "x"], ["Vim", "CD3", "Ki67", "KI67"])
    ['Vim', 'CD3', 'ki67', 'x']
    """
    there = list(available)
    folded: dict[str, list[str]] = {}
    for name in there:
        folded.setdefault(name.casefold(), []).append(name)
    exact = set(there)
    return [
        fitting[0] if n not in exact and len(fitting := folded.get(n.casefold(), [])) == 1 else n
        for n in names
    ]
