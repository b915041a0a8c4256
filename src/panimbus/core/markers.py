"""Synonyms of marker names."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from panimbus.core.errors import ChannelError, format_list
from panimbus.core.naming import did_you_mean

_GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "κ": "kappa",
    "λ": "lambda",
}


def marker_key(name: str) -> str:
    """A marker name in lower case, without punctuation and Greek letters.

    Examples
    --------
    >>> marker_key("Pan-CK"), marker_key("αSMA"), marker_key("HLA-DR/DP/DQ")
    ('panck', 'alphasma', 'hladrdpdq')
    """
    spelt = "".join(_GREEK.get(c, c) for c in unicodedata.normalize("NFKC", name).lower())
    return (
        re.sub(r"[^a-z0-9]", "", spelt) or spelt.strip()
    )  # a name in another script stays as it is


@lru_cache(maxsize=1)
def _synonyms() -> dict[str, str]:
    """Key of every name -> key of the preferred name."""
    out: dict[str, str] = {}
    lines = (
        (resources.files("panimbus.core") / "markers.csv").read_text(encoding="utf-8").splitlines()
    )
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        own = marker_key(row["marker"])
        for name in (row["marker"], *row["synonyms"].split()):
            out.setdefault(marker_key(name), own)
    return out


def canonical(name: str) -> str:
    """One key for all synonyms of a marker, such as ``CD8`` and ``CD8a``."""
    key = marker_key(name)
    return _synonyms().get(key, key)


def is_common_marker(name: str) -> bool:
    """Whether the shipped list of markers contains this name."""
    return marker_key(name) in _synonyms()


def channels_named(names: Sequence[str], channels: Sequence[str]) -> list[str]:
    """The channels with these names, or with a unique synonym of them."""
    out: list[str] = []
    missing = []
    for name in names:
        same = (
            [name] if name in channels else [c for c in channels if canonical(c) == canonical(name)]
        )
        if len(same) > 1:
            raise ChannelError(
                f"{name!r} is ambiguous.",
                available=same,
                fix="use one of these names",
            )
        out += same
        missing += [] if same else [f"{name}{did_you_mean(name, channels)}"]
    if missing:
        raise ChannelError(
            "Markers to ignore are not in the table.",
            got=format_list(missing),
            available=channels,
        )
    return out
