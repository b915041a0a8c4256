"""Markers that exclude one another: double positives, and cells that contradict their type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.types import Array
from panimbus.phenotype.panel import Panel

if TYPE_CHECKING:
    import pandas as pd

PAIR_COLUMNS = ("marker", "other", "cells", "share", "share_of_marker", "share_of_other", "many")
SHARE, FEWEST = 0.2, 20
"""Least share of a marker's cells and number of cells (or 0.5 % of all) of a reported pair."""


def exclusive_pairs(
    positive: npt.NDArray[np.bool_], panel: Panel, reliabilities: Array
) -> pd.DataFrame:
    """Double positives of every pair of markers that exclude one another.

    Parameters
    ----------
    positive : (n, M) bool
        Whether a cell is positive for each of ``panel.markers``.
    panel
    reliabilities : (M,) float
        `panimbus.phenotype.compete.reliability`.

    Returns
    -------
    DataFrame
        A row per pair, most contradictions first: ``marker`` (the less reliable of the two, which
        contradicts most), ``other``, ``cells`` (positive for both), ``share`` of all cells,
        ``share_of_marker``, ``share_of_other``, ``many`` (worth a look).
    """
    import pandas as pd

    both = np.zeros((positive.shape[1],) * 2, np.int64)
    for start in range(0, len(positive), 1 << 16):
        part = positive[start : start + (1 << 16)].astype(np.float32)
        both += (part.T @ part).astype(np.int64)  # exact: at most 65,536
    names = [m.name for m in panel.markers]
    rows = []
    for a, b in np.argwhere(np.triu(panel.exclusive, 1)).tolist():
        less, more = (a, b) if reliabilities[a] < reliabilities[b] else (b, a)
        shares = [both[a, b] / max(both[m, m], 1) for m in (less, more)]
        many = max(shares) >= SHARE and both[a, b] >= max(FEWEST, 0.005 * len(positive))
        rows.append(
            (
                names[less],
                names[more],
                both[a, b],
                both[a, b] / max(len(positive), 1),
                *shares,
                many,
            )
        )
    frame = pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).astype({"many": bool})
    return frame.sort_values("cells", ascending=False, kind="stable", ignore_index=True)


def pair_sentences(pairs: pd.DataFrame, most: int = 6) -> list[str]:
    """One sentence for each marker with many double positives.

    E.g. ``CD20 contradicts CD3 (26.6 % of all cells are positive for both: 32 % of CD20+, 73 % of
    CD3+)``.
    """
    out = []
    for marker, part in pairs[pairs["many"]].groupby("marker", sort=False):
        first = part.iloc[0]
        text = (
            f"{marker} contradicts {first['other']} ({100 * first['share']:.1f} % of all cells are"
            f" positive for both: {100 * first['share_of_marker']:.0f} % of {marker}+,"
            f" {100 * first['share_of_other']:.0f} % of {first['other']}+)"
        )
        others = [
            f"{o} ({100 * s:.1f} %)"
            for o, s in zip(part["other"][1:4], part["share"][1:4], strict=True)
        ]
        out.append(text + (f", and {', '.join(others)}" if others else ""))
    return out[:most]


def contradicting(
    positive: npt.NDArray[np.bool_], kind: npt.NDArray[np.int32], panel: Panel
) -> npt.NDArray[np.bool_]:
    """(n, M) positive markers that neither a cell's type nor any type below it carries.

    Parameters
    ----------
    positive : (n, M) bool
    kind : (n,) int32
        Position of each cell's type in the panel, -1 = none.
    panel
    """
    allowed = np.ones(
        (len(panel.types) + 1, len(panel.markers)), np.bool_
    )  # the last row serves -1
    for i in range(len(panel.types)):
        allowed[i] = panel.may_carry[list(panel.subtree(i))].any(0)
    carried = panel.may_carry.any(0)
    return np.asarray(positive & ~allowed[kind] & carried)


def lacking(
    positive: npt.NDArray[np.bool_], kind: npt.NDArray[np.int32], panel: Panel
) -> tuple[Array, Array]:
    """Markers that a cell's type carries and the cell is negative for.

    Returns
    -------
    missing : (n, M) bool
        Of the whole lineage: ``+`` markers, and all of a type's ``any`` where the cell has none of
        them.
    faint : (n,) bool
        Cells in which those of the type itself are missing: it is only the likeliest.
    """
    missing, faint = np.zeros_like(positive), np.zeros(len(kind), np.bool_)
    for i in np.unique(kind[kind >= 0]).tolist():
        rows = np.flatnonzero(kind == i)
        for j in panel.lineage(i):
            plus, any_of = (
                np.array(ms, np.intp) for ms in (panel.types[j].plus, panel.types[j].any_of)
            )
            missing[np.ix_(rows, plus)] = ~positive[np.ix_(rows, plus)]
            none = (
                ~positive[np.ix_(rows, any_of)].any(1)
                if len(any_of)
                else np.zeros(len(rows), np.bool_)
            )
            missing[np.ix_(rows[none], any_of)] = True
            faint[rows] = none | missing[np.ix_(rows, plus)].any(1)  # the last is the type's own
    return missing, faint


def marker_lists(
    chosen: npt.NDArray[np.bool_], order: Array, names: Sequence[str], most: int = 4
) -> tuple[Array, Array]:
    """Texts such as ``CD3+ CD8+`` for the chosen (n, M) markers of n cells.

    Code (n,) intp, and the texts (k,).

    ``order`` has the positions of the markers in the order of a text, which shows at most ``most``
    of their ``names``.
    """
    packed = np.packbits(chosen, axis=1)
    rows = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, code = np.unique(rows, return_index=True, return_inverse=True)
    texts = np.empty(len(first), object)
    for i, row in enumerate(first.tolist()):
        shown = [names[m] for m in order.tolist() if chosen[row, m]]
        texts[i] = " ".join(shown[:most]) + (" ..." if len(shown) > most else "")
    return code.ravel(), texts
