"""Why a cell has its type, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import listed
from panimbus.phenotype.lineage import Judged
from panimbus.phenotype.rules import NONE, ONE, SEVERAL, Assignment, Floats

Array = npt.NDArray[Any]
Types = tuple[Judged, ...]


def reasons(out: Assignment, scores: Floats, positive: float = 0.5) -> Array:
    """One sentence a cell: the markers that made its type, and why it went no further.

    Parameters
    ----------
    out
        Types of n cells.
    scores : (n, C) float32
    positive
        Score from which a marker is called positive.

    Returns
    -------
    (n,) object
        E.g. ``CD45+ CD3+ CD4+``, ``CD45+ CD3+; neither CD4 T cell nor CD8 T cell``, ``no marker of a lineage is positive``.
    """
    text = np.empty(len(scores), object)
    key = out.kind.astype(np.int64) * 4 + out.state
    for value in np.unique(key):
        rows = np.flatnonzero(key == value)
        kind, state = int(value) // 4, int(value) % 4
        name = out.rules.types[kind].name if kind >= 0 else ""
        lineage, below = out.rules.lineage(name), out.rules.children(name)
        columns = list(dict.fromkeys(c for t in (*lineage, *below) for c in (*t.plus, *t.any_of)))
        called = scores[np.ix_(rows, np.array(columns, np.intp))] >= positive
        _, first, which = np.unique(np.packbits(called, axis=1), axis=0, return_index=True, return_inverse=True)
        sentences = [_sentence(out, lineage, below, state, dict(zip(columns, called[i].tolist(), strict=True))) for i in first]
        text[rows] = np.array(sentences, object)[which.ravel()]
    for row, note in out.notes.items():
        text[row] = note
    return text


def _sentence(
    out: Assignment, lineage: tuple[Judged, ...], below: tuple[Judged, ...], state: int, called: dict[int, bool]
) -> str:
    channels = out.rules.channels
    there = [f"{channels[c]}+" for t in lineage for c in (*t.plus, *t.any_of) if called[c]]
    own = " ".join(dict.fromkeys(there)) or ("no single marker is above the threshold" if lineage else "")
    if state == ONE or not below:
        return own
    lower = " ".join(dict.fromkeys(f"{channels[c]}+" for t in below for c in (*t.plus, *t.any_of) if called[c]))
    if state == SEVERAL:
        end = f"{lower}: markers of more than one of {listed([t.name for t in below])}"
    elif state == NONE:
        end = f"none of {listed([t.name for t in below])}" if lineage else "no marker of a lineage is positive"
    else:
        end = f"{lower or 'weak signal'}: not sure enough for any of {listed([t.name for t in below])}"
    return f"{own}; {end}" if own else end
