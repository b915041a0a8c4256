"""Names of markers: which are the same marker under another name."""

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
    """A marker's name without case, punctuation and Greek letters.

    Examples
    --------
    >>> marker_key("Pan-CK"), marker_key("αSMA"), marker_key("HLA-DR/DP/DQ")
    ('panck', 'alphasma', 'hladrdpdq')
    """
    spelt = "".join(_GREEK.get(c, c) for c in unicodedata.normalize("NFKC", name).lower())
    return re.sub(r"[^a-z0-9]", "", spelt) or spelt.strip()  # a name in another script is itself


@lru_cache(maxsize=1)
def _synonyms() -> dict[str, str]:
    """Key of every name -> key of the marker's own name."""
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
    """One key for all names of a marker.

    Equal for ``PanKRT`` and ``pan-cytokeratin``, for ``CD8`` and ``CD8a``.
    """
    key = marker_key(name)
    return _synonyms().get(key, key)


def is_common_marker(name: str) -> bool:
    """Whether the shipped list of markers has this name."""
    return marker_key(name) in _synonyms()


def channels_named(names: Sequence[str], channels: Sequence[str]) -> list[str]:
    """Channels by their own names, or by any other name of the marker if one channel has it."""
    out: list[str] = []
    missing = []
    for name in names:
        same = (
            [name] if name in channels else [c for c in channels if canonical(c) == canonical(name)]
        )
        if len(same) > 1:
            raise ChannelError(
                f"{name!r} may be several channels.",
                available=same,
                fix="name one of them as the table does",
            )
        out += same
        missing += [] if same else [f"{name}{did_you_mean(name, channels)}"]
    if missing:
        raise ChannelError(
            "Markers to leave out are not in the table.",
            got=format_list(missing),
            available=channels,
        )
    return out
