"""Why a cell has its type, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import listed
from panimbus.phenotype.contradictions import marker_lists
from panimbus.phenotype.panel import Panel

Array = npt.NDArray[Any]


def contradiction_texts(chosen: npt.NDArray[np.bool_], panel: Panel) -> Any:
    """Categorical of texts such as ``CD20+ CD79a+``, "" where nothing contradicts; the commonest contradictions first."""
    import pandas as pd

    order = np.argsort(-chosen.sum(0), kind="stable")
    code, texts = marker_lists(chosen, order, [m.name for m in panel.markers])
    return pd.Categorical(texts[code])


def reasons(kind: npt.NDArray[np.int32], evidence: Array, contradicting: npt.NDArray[np.bool_], panel: Panel) -> Any:
    """One sentence per cell: the markers of its lineage (and of the types below that were not clear), and what contradicts it.

    Parameters
    ----------
    kind : (n,) int32
        Position of each cell's type, -1 = unassigned.
    evidence : (n, M) float32
        Not weighed: positive where the marker is.
    contradicting : (n, M) bool
    panel

    Returns
    -------
    Categorical of n texts
        E.g. ``CD45+ CD3+ CD4+``, ``CD45+ CD3+; none of CD4 T cell, CD8 T cell is clear``,
        ``CD3+ CD8+; contradicted by CD20+``, ``no marker of a type is positive``.
    """
    import pandas as pd

    names = [m.name for m in panel.markers]
    out = np.empty(len(kind), object)
    for i in np.unique(kind).tolist():
        rows = np.flatnonzero(kind == i)
        shown = panel.lineage(i) if i in panel.finest else (*panel.lineage(i), *panel.subtree(i))
        own = list(dict.fromkeys(m for t in shown for m in panel.types[t].defining)) if i >= 0 else list(range(len(names)))
        chosen = evidence[rows] >= 0
        chosen[:, [m for m in range(len(names)) if m not in own]] = False
        code, texts = marker_lists(chosen, np.array(own), names, most=6)
        against, contradictions = marker_lists(contradicting[rows], np.argsort(-contradicting.sum(0), kind="stable"), names)
        pairs, which = np.unique(code * len(contradictions) + against, return_inverse=True)
        sentences = [
            _sentence(i, str(texts[p // len(contradictions)]), str(contradictions[p % len(contradictions)]), panel)
            for p in pairs.tolist()
        ]
        out[rows] = np.array(sentences, object)[which]
    return pd.Categorical(out)


def _sentence(i: int, markers: str, contradictions: str, panel: Panel) -> str:
    if i < 0:
        return f"{markers}: not clear enough for a type" if markers else "no marker of a type is positive"
    parts = [markers or "no marker is above its threshold, but this type is the likeliest"]
    if i not in panel.finest:
        parts.append(f"none of {listed([panel.names[c] for c in panel.children(i)])} is clear")
    if contradictions:
        parts.append(f"contradicted by {contradictions}")
    return "; ".join(parts)
