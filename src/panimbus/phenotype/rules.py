r"""Cell types by rule: from scores, read as probabilities, to a type, a confidence and a reason.

The mathematics. A score s is the probability that a cell carries a marker. For a type t with marks of its own

    q(t) = prod(s of its +) * max(s of its any) * (1 - max(s of its -))

The markers of ``+`` are taken as independent; those of ``any`` and of ``-`` are several readings of one question, so the
clearest one counts (a long list of low scores adds up to no doubt). Among the children of a node at most one is true. That only c
is true has the weight

    w(c) = q(c) * prod over the other children d of (1 - q(d given c)),     w(none) = prod of (1 - q(c))

where "given c" sets the markers of c's ``+`` and the clearest of its ``any`` to 1 and those of its ``-`` to 0 (two types that
share a marker are not independent), and p(c) = w(c) / (w(none) + sum of w). The probability of a type is the product of p along
its lineage. A cell goes down the tree as long as p is at least ``least``, or ``clear`` where a sibling's own evidence is also
above one half. Where it stops at the root it is *unassigned* (nothing fits) or *ambiguous* (two lineages at once, such as CD3+
CD20+).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, listed
from panimbus.phenotype.lineage import AMBIGUOUS, UNASSIGNED, Judged, PanelRules

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
ONE, NONE, SEVERAL, UNSURE = 0, 1, 2, 3
"""Why a cell stopped where it did: the type has no children; no child fits; several do; one does, but not surely."""


@dataclass(frozen=True)
class Decision:
    """When a cell may go one step down.

    Parameters
    ----------
    least
        Smallest probability of a child among its siblings and none of them.
    clear
        The same where another child's markers are there too.
    positive
        Score from which a marker is called positive in reasons.
    """

    least: float = 0.5
    clear: float = 0.9
    positive: float = 0.5

    def __post_init__(self) -> None:
        if not (0.5 <= self.least <= self.clear < 1 and 0 < self.positive < 1):
            raise InputError("The thresholds of the rules are out of order.", expected="0.5 <= least <= clear < 1", got=str(self))


@dataclass(eq=False)
class Assignment:
    """Types of n cells.

    Parameters
    ----------
    rules
    kind : (n,) int32
        Position in ``rules.types``, -1 = none.
    confidence : (n,) float32
        Probability of the type; 0 where there is none.
    state : (n,) int8
        Why it stopped there: `ONE`, `NONE`, `SEVERAL`, `UNSURE`.
    notes
        Cell -> what its neighbours say (see `panimbus.phenotype.spill`).
    """

    rules: PanelRules
    kind: npt.NDArray[np.int32]
    confidence: Floats
    state: npt.NDArray[np.int8]
    notes: dict[int, str] = field(default_factory=dict)

    @property
    def names(self) -> Array:
        """(n,) object: name of the type, ``unassigned`` or ``ambiguous``."""
        table = np.array([*(t.name for t in self.rules.types), UNASSIGNED, AMBIGUOUS], object)
        return np.asarray(table[np.where(self.kind >= 0, self.kind, np.where(self.state == SEVERAL, -1, -2))])


def check_scores(scores: npt.ArrayLike, channels: Sequence[str]) -> Floats:
    """Scores as (n, C) float32; NaN and numbers outside 0..1 are an error that names the channels."""
    out = np.asarray(scores, np.float32)
    if out.ndim != 2 or out.shape[1] != len(channels):
        raise InputError("The scores are not cells by channels.", expected=f"(n, {len(channels)})", got=f"shape {out.shape}")
    bad = ~np.isfinite(out)
    if bad.any():
        names = [f"{channels[c]} ({int(bad[:, c].sum())} cells)" for c in np.flatnonzero(bad.any(0)).tolist()]
        raise InputError("There are scores that are not numbers.", got=listed(names), fix="leave these cells or channels out")
    wrong = [channels[c] for c in np.flatnonzero(((out < 0) | (out > 1)).any(0)).tolist()]
    if wrong:
        raise InputError(
            "Scores must lie between 0 and 1.",
            got=f"{listed(wrong)} (values from {out.min():g} to {out.max():g})",
            fix="pass the table of scores that `panimbus predict` wrote, not intensities",
        )
    return out


def evidence(scores: Floats, kind: Judged, *, given: Judged | None = None, vetoes: bool = True) -> Floats:
    """The product of a type's own marks, q in the module's text.

    Parameters
    ----------
    scores : (n, C) float32
    kind
    given
        A sibling that is taken to be true: its ``+`` and the clearest of its ``any`` count as 1 and its ``-`` as 0.
    vetoes
        Whether ``-`` counts.

    Returns
    -------
    (n,) float32
    """
    sure: dict[int, Any] = {}
    if given is not None:
        clearest = scores[:, list(given.any_of)].max(1) if given.any_of else 0
        sure = {c: np.where(scores[:, c] >= clearest, np.float32(1), scores[:, c]) for c in given.any_of}
        sure |= dict.fromkeys(given.minus, 0.0) | dict.fromkeys(given.plus, 1.0)

    def column(c: int) -> Any:
        return sure[c] if c in sure else scores[:, c]

    out = np.ones(len(scores), np.float32)
    for c in kind.plus:
        out *= column(c)
    if kind.any_of:
        out *= np.maximum.reduce([np.broadcast_to(np.float32(column(c)), len(scores)) for c in kind.any_of])
    if vetoes and kind.minus:
        out *= 1 - np.maximum.reduce([np.broadcast_to(np.float32(column(c)), len(scores)) for c in kind.minus])
    return out


def branch(scores: Floats, children: Sequence[Judged]) -> Floats:
    """Probability of each child of a node, and of none of them.

    Parameters
    ----------
    scores : (n, C) float32
    children
        k siblings.

    Returns
    -------
    (n, k + 1) float32
        Rows sum to 1; the last column is "none".
    """
    q = [evidence(scores, c).astype(np.float64) for c in children]
    weight = np.empty((len(scores), len(children) + 1))
    for i, c in enumerate(children):
        weight[:, i] = q[i]
        for d in children:
            if d is not c:
                weight[:, i] *= 1 - evidence(scores, d, given=c)
    weight[:, -1] = np.prod([1 - e for e in q], axis=0)
    total = weight.sum(1, keepdims=True)
    weight[total[:, 0] < 1e-12] = 1 / weight.shape[1]  # two or more types are certain at once: nothing can be said
    return np.asarray(weight / np.where(total < 1e-12, 1, total), np.float32)


def type_probabilities(scores: Floats, rules: PanelRules) -> Floats:
    """Probability of every type: the product of `branch` along its lineage.

    Returns
    -------
    (n, T) float32
        In the order of ``rules.types``. A type's probability is that of its descendants and of "none of them" together.
    """
    position = {t.name: i for i, t in enumerate(rules.types)}
    out = np.zeros((len(scores), len(rules.types)), np.float32)
    for parent in ["", *position]:
        children = rules.children(parent)
        if not children:
            continue
        p = branch(scores, children)
        above = out[:, position[parent]] if parent else np.float32(1)
        for i, c in enumerate(children):
            out[:, position[c.name]] = p[:, i] * above
    return out


def assign(scores: Floats, rules: PanelRules, decision: Decision | None = None) -> Assignment:
    """Take every cell down the lineage tree as far as its scores carry it.

    Parameters
    ----------
    scores : (n, C) float32
        Probabilities that a cell is positive; see `check_scores`.
    rules
        `panimbus.phenotype.lineage.fit_panel` of the same C channels.
    decision
        Thresholds.
    """
    n = len(scores)
    out = Assignment(rules, np.full(n, -1, np.int32), np.zeros(n, np.float32), np.full(n, ONE, np.int8))
    descend(out, scores, np.arange(n), "", decision=decision or Decision())
    return out


def descend(
    out: Assignment, scores: Floats, rows: Array, parent: str, *, decision: Decision, without: Sequence[str] = ()
) -> None:
    """Take some cells further down from a node; writes into ``out``.

    Parameters
    ----------
    out
        Changed in place. Its confidence at ``rows`` must be that of the node (at the root it is taken as 1).
    scores : (n, C) float32
    rows : (m,) integer
    parent
        The node; "" is the root.
    decision
    without
        Children of this node that are not considered.
    """
    children = [c for c in out.rules.children(parent) if c.name not in without]
    if not len(rows):
        return
    if not children:
        out.state[rows] = ONE
        return
    mine = scores[rows]
    p = branch(mine, children)
    own = np.stack([evidence(mine, c) for c in children], 1) >= 0.5
    called = np.stack([evidence(mine, c, vetoes=False) for c in children], 1) >= 0.5
    best = p[:, :-1].argmax(1)
    rival = (own.sum(1) - own[np.arange(len(rows)), best]) > 0
    goes = p[np.arange(len(rows)), best] >= np.where(rival, decision.clear, decision.least)
    number = called.sum(1)
    out.state[rows] = np.where(number >= 2, SEVERAL, np.where((number == 1) | (p[:, -1] < decision.least), UNSURE, NONE))
    position = {t.name: i for i, t in enumerate(out.rules.types)}
    for i, c in enumerate(children):
        chosen = goes & (best == i)
        down = rows[chosen]
        out.confidence[down] = p[chosen, i] * (out.confidence[down] if parent else np.float32(1))
        out.kind[down] = position[c.name]
        descend(out, scores, down, c.name, decision=decision)
