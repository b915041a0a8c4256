"""Reasons for each cell's type, as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import format_list
from panimbus.core.types import Array
from panimbus.phenotype.contradictions import marker_lists
from panimbus.phenotype.panel import Panel


def contradiction_texts(chosen: npt.NDArray[np.bool_], panel: Panel) -> Any:
    """Categorical of texts such as ``CD20+ CD79a+``, "" where nothing contradicts.

    The commonest contradictions first.
    """
    import pandas as pd

    code, texts = marker_lists(chosen, _commonest(chosen), [f"{m.name}+" for m in panel.markers])
    return pd.Categorical(texts[code])


def reasons(
    kind: npt.NDArray[np.int32], positive: Array, contradicting: Array, missing: Array, panel: Panel
) -> Array:
    """One sentence per cell.

    The markers of its lineage (and of the types below that were not clear), and what speaks against
    it.

    Parameters
    ----------
    kind : (n,) int32
        Position of each cell's type, -1 = unassigned.
    positive, contradicting, missing : (n, M) bool
        The calls; `panimbus.phenotype.contradictions.contradicting` and ``lacking``.
    panel

    Returns
    -------
    (n,) object
        E.g. ``CD45+ CD3+ CD4+``, ``CD45+ CD3+; none of CD4 T cell, CD8 T cell is clear``,
        ``CD8+; without CD45, CD3; contradicted by CD20+``, ``no marker of a type is positive``.
    """
    names = [m.name for m in panel.markers]
    plus = [f"{n}+" for n in names]
    out = np.empty(len(kind), object)
    for i in np.unique(kind).tolist():
        rows = np.flatnonzero(kind == i)
        shown = panel.lineage(i) if i in panel.finest else (*panel.lineage(i), *panel.subtree(i))
        own = (
            list(dict.fromkeys(m for t in shown for m in panel.types[t].defining))
            if i >= 0
            else list(range(len(names)))
        )
        chosen = positive[rows]
        chosen[:, [m for m in range(len(names)) if m not in own]] = False
        parts = [
            marker_lists(chosen, np.array(own, np.intp), plus, most=6),
            marker_lists(missing[rows], np.arange(len(names)), [f"{n}," for n in names]),
            marker_lists(contradicting[rows], _commonest(contradicting), plus),
        ]
        (markers, _), (absent, texts_b), (against, texts_c) = parts
        pairs, which = np.unique(
            (markers * len(texts_b) + absent) * len(texts_c) + against, return_inverse=True
        )
        numbers = np.unravel_index(pairs, [len(texts) for _, texts in parts])
        words = [[str(texts[n]) for n in ns] for ns, (_, texts) in zip(numbers, parts, strict=True)]
        sentences = np.empty(len(pairs), object)
        sentences[:] = [_sentence(i, a, b, c, panel) for a, b, c in zip(*words, strict=True)]
        out[rows] = sentences[which]
    return out


def _commonest(chosen: Array) -> Array:
    return np.argsort(-chosen.sum(0), kind="stable")


def _sentence(i: int, markers: str, missing: str, contradictions: str, panel: Panel) -> str:
    if i < 0:
        return (
            f"{markers}: not clear enough for a type"
            if markers
            else "no marker of a type is positive"
        )
    absent = " ".join(
        f"{panel.markers[m].name}-" for m in panel.types[i].minus if not panel.types[i].defining
    )
    parts = [f"{markers} {absent}".strip() or "the likeliest type"]
    if i not in panel.finest:
        parts.append(f"none of {format_list([panel.names[c] for c in panel.children(i)])} is clear")
    if missing:
        parts.append(f"without {missing.removesuffix(',')}")
    if contradictions:
        parts.append(f"contradicted by {contradictions}")
    return "; ".join(parts)
