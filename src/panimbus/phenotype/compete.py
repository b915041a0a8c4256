r"""Types compete for each cell.

Probabilities of all types that a panel can tell, from the scores of its markers.

The evidence of the markers is that of `panimbus.phenotype.evidence`, weighed by reliability.

**A level.** What a type's own marks say: the smallest of e over ``+``, of the largest e over
``any``, and of -e over ``-``. Hazy membrane markers of one lineage go wrong together, so several of
them count no more than the clearest.

**A type** is worth what the levels of its lineage say together: the sum of those that are positive
and a part (`MISSING`) of those that are not; or if none is positive, the largest. A group of types
is worth its best member. A marker that a rival may carry too (CD4 of a T cell: macrophages have it)
does not vouch for a group, unless it is the group's own. Where a rival that may carry it is there
by other markers (vimentin of an immune cell), the marker is explained by that rival: its
probability is multiplied by one minus the rival's.

**Probabilities.** At each step down the tree the children and "none of them" compete by a softmax
of their values; a type's probability is the product along its lineage. `NONE`, `REST` are the
values of "none": an object of a segmentation is more often a cell than not, the children of one
type leave little beside them, and an only child must be positive.

Nothing is fitted but the reliabilities, so no class can swallow the others. Prototypes of latent
class models with EM (free or shrunken emissions, spill-over as a hidden state) often did that on
the lymphoma; they are not part of the benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.types import Array, Float32Array
from panimbus.phenotype.evidence import LIMIT, sigmoid
from panimbus.phenotype.panel import Panel

NONE, REST, ONLY = -1.5, -3.0, 0.0
"""Values of "none of these": at the root, below several children, below an only child."""
MISSING = 0.15
"""Weight of an absent level of a lineage that has another: stains fail more often than markers."""
LEAST = 0.45
"""Least share of the parent's probability: excludes ties of two unlikely types, or of three."""
_CHUNK = 1 << 15
_NOTHING = np.float32(-2 * LIMIT)


def type_probabilities(evidence_of: Float32Array, panel: Panel) -> Float32Array:
    """Probability of every type, and of none.

    Parameters
    ----------
    evidence_of : (n, M) float32
        What `weighed` gave.
    panel

    Returns
    -------
    (n, T + 1) float32
        Of each type and none below it, in the order of ``panel.types``; the last column is "none of
        these". Rows sum to 1.
    """
    contests = {
        node: _Contest.of(panel, node)
        for node in (-1, *range(len(panel.types)))
        if panel.children(node)
    }
    out = np.empty((len(evidence_of), len(panel.types) + 1), np.float32)
    for start in range(0, len(evidence_of), _CHUNK):
        part = out[start : start + _CHUNK]
        part[:, -1] = 1
        values = np.ascontiguousarray(evidence_of[start : start + _CHUNK].T)
        for node, contest in contests.items():  # parents come before children
            shares = contest.shares(values) * part[:, node]
            part[:, node] = shares[-1]
            for child, share in zip(contest.children, shares[:-1], strict=True):
                part[:, child] = share
    return out


def lineage_probabilities(probabilities: Array, parents: Sequence[int]) -> Float32Array:
    """Probability of each type or any below it.

    Parameters
    ----------
    probabilities : (n, T + 1) float32
        `type_probabilities`.
    parents
        Position of each type's parent, -1 for none; parents stand before their children.

    Returns
    -------
    (n, T) float32

    Examples
    --------
    >>> lineage_probabilities(np.array([[0.25, 0.5, 0.25]]), [-1, 0]).tolist()
    [[0.75, 0.5]]
    """
    out = np.array(probabilities[:, :-1], np.float32)
    for i in reversed(range(len(parents))):
        if parents[i] >= 0:
            out[:, parents[i]] += out[:, i]
    return out


def decide(probabilities: Array, panel: Panel) -> tuple[npt.NDArray[np.int32], Float32Array]:
    """The type of each cell.

    Down the tree as long as the best child is likelier than none and clear enough.

    Parameters
    ----------
    probabilities : (n, T + 1) float32
    panel

    Returns
    -------
    kind : (n,) int32
        Position in ``panel.types``, -1 = unassigned.
    confidence : (n,) float32
        Probability of that type or any below it; of none where there is none.
    """
    together = lineage_probabilities(probabilities, [t.parent for t in panel.types])
    kind = np.full(len(probabilities), -1, np.int32)
    confidence = np.array(probabilities[:, -1], np.float32)
    for node in (-1, *range(len(panel.types))):
        children = np.array(panel.children(node))
        rows = np.flatnonzero(kind == node)
        if not len(children) or not len(rows):
            continue
        shares = np.sort(together[np.ix_(rows, children)], axis=1)
        best = children[together[np.ix_(rows, children)].argmax(1)]
        p = together[rows, best]
        tied = (
            (shares[:, -1] - shares[:, -2] < 1e-3)
            if len(children) > 1
            else np.zeros(len(rows), np.bool_)
        )
        whole = together[rows, node] if node >= 0 else np.ones(len(rows), np.float32)
        down = (p >= probabilities[rows, node]) & (p >= LEAST * whole) & ~tied
        kind[rows[down]], confidence[rows[down]] = best[down], p[down]
    return kind, confidence


@dataclass(frozen=True)
class _Contest:
    """Competition between the children of one node of the tree of types.

    Parameters
    ----------
    children
    paths
        Per child and each type of its subtree: the levels from the child down, as (plus, any,
        minus).
    shared, allowed
        Per child: markers that a rival may carry and that are not the child's own; those that
        itself may carry.
    borrowed
        Per child: marker -> rivals (positions among the children) that explain it.
    none
        Value of "none of them".
    """

    children: tuple[int, ...]
    paths: tuple[tuple[tuple[_Level, ...], ...], ...]
    shared: tuple[frozenset[int], ...]
    allowed: tuple[frozenset[int], ...]
    borrowed: tuple[dict[int, list[int]], ...]
    none: float

    @classmethod
    def of(cls, panel: Panel, node: int) -> _Contest:
        children = panel.children(node)
        below = [panel.subtree(c) for c in children]
        defining = [{m for i in b for m in panel.types[i].defining} for b in below]
        allowed = [
            d | {m for i in b for m in panel.types[i].maybe}
            for d, b in zip(defining, below, strict=True)
        ]
        shared, borrowed = [], []
        for k, c in enumerate(children):
            rivals = [x for x in range(len(children)) if x != k]
            others = set().union(*(allowed[x] for x in rivals))
            shared.append(frozenset(others - set(panel.types[c].defining)))
            explained = {
                m: [x for x in rivals if m in allowed[x] - defining[x]] for m in sorted(defining[k])
            }
            borrowed.append({m: xs for m, xs in explained.items() if xs})
        paths = tuple(
            tuple(_levels(panel, c, i) for i in b) for c, b in zip(children, below, strict=True)
        )
        none = NONE if node < 0 else ONLY if len(children) == 1 else REST
        return cls(
            children, paths, tuple(shared), tuple(map(frozenset, allowed)), tuple(borrowed), none
        )

    def shares(self, evidence_of: Float32Array) -> Float32Array:
        """(k + 1, n) probabilities of the children and of none, from evidence (M, n)."""
        values = np.full((len(self.children) + 1, evidence_of.shape[1]), np.float32(self.none))
        for k in range(len(self.children)):
            values[k] = self._value(k, self._explained(k, evidence_of), self.shared[k])
        values -= values.max(0)
        np.exp(values, out=values)
        return np.asarray(values / values.sum(0))

    def _explained(self, k: int, evidence_of: Float32Array) -> Float32Array:
        """Evidence for child k, less what rivals explain by markers that k may not carry."""
        if not self.borrowed[k]:
            return evidence_of
        out = evidence_of.copy()
        rivals = {
            x: self._value(x, evidence_of, self.shared[x] | self.allowed[k])
            for xs in self.borrowed[k].values()
            for x in xs
        }
        for m, xs in self.borrowed[k].items():
            rival = sigmoid(np.maximum.reduce([rivals[x] for x in xs]))
            p = np.clip(sigmoid(out[m]) * (1 - rival), 1e-6, 1 - 1e-6)
            out[m] = np.log(p) - np.log1p(-p)
        return out

    def _value(self, k: int, evidence_of: Float32Array, without: frozenset[int]) -> Float32Array:
        """(n,) value of child k; markers that are left out are no evidence for it."""
        best = np.full(evidence_of.shape[1], _NOTHING)
        for levels in self.paths[k]:
            largest, total = np.full_like(best, _NOTHING), np.zeros_like(best)
            for level in levels:
                if (vouching := level.without(without).value(evidence_of)) is not None:
                    np.maximum(largest, vouching, out=largest)
                if (value := level.value(evidence_of)) is not None:
                    total += np.where(value > 0, value, np.float32(MISSING) * value)
            np.maximum(best, np.where(largest > 0, total, largest), out=best)
        return best


@dataclass(frozen=True)
class _Level:
    """A type's own marks, without those of its ancestors."""

    plus: tuple[int, ...]
    any_of: tuple[int, ...]
    minus: tuple[int, ...]

    def without(self, markers: frozenset[int]) -> _Level:
        """The same without some of the markers it carries.

        Without a ``-`` where nothing else is left.
        """
        plus, any_of = (tuple(m for m in ms if m not in markers) for ms in (self.plus, self.any_of))
        carries = self.plus + self.any_of
        return _Level(plus, any_of, () if carries and not plus + any_of else self.minus)

    def value(self, evidence_of: Float32Array) -> Float32Array | None:
        """(n,) value of the marks; None if there are none."""
        parts = [evidence_of[m] for m in self.plus] + [-evidence_of[m] for m in self.minus]
        if self.any_of:
            parts.append(np.maximum.reduce([evidence_of[m] for m in self.any_of]))
        return np.minimum.reduce(parts) if parts else None


def _levels(panel: Panel, top: int, i: int) -> tuple[_Level, ...]:
    """Levels of the lineage of type i from ``top`` down.

    A marker counts at the first level that has it.

    A level of nothing but ``-`` tells a type from its siblings, but is no sign of their common
    ancestor.
    """
    out: list[_Level] = []
    seen: set[int] = set()
    for t in (panel.types[j] for j in panel.lineage(i) if top in panel.lineage(j)):
        level = _Level(t.plus, t.any_of, t.minus).without(frozenset(seen))
        if level.plus or level.any_of or (level.minus and i == top):
            out.append(level)
        seen |= set(t.defining)
    return tuple(out)
