"""Names for metaclusters: what the rule table makes of each, with the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.phenotype.lineage import PanelRules
from panimbus.phenotype.reasons import reasons
from panimbus.phenotype.rules import Assignment, Decision, Floats, assign

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Proposal:
    """A name for a metacluster.

    Parameters
    ----------
    metacluster
    name
        A cell type, ``unassigned`` or ``ambiguous``.
    cells
        How many it has.
    agreement
        Share of its cells that the rules alone give this type, or one below it.
    evidence
        One sentence.
    """

    metacluster: int
    name: str
    cells: int
    agreement: float
    evidence: str


def propose(scores: Floats, metacluster: Array, by_rule: Assignment, decision: Decision | None = None) -> list[Proposal]:
    """Propose a name for each metacluster by its mean scores: the share of its cells that carry each marker.

    Parameters
    ----------
    scores : (n, C) float32
    metacluster : (n,) integer
    by_rule
        The rules' types of the same cells.
    decision

    Returns
    -------
    list of Proposal
        In the order of the metaclusters' numbers.
    """
    numbers, which = np.unique(metacluster, return_inverse=True)
    counts = np.bincount(which, minlength=len(numbers))
    mean = np.stack([np.bincount(which, scores[:, c], len(numbers)) for c in range(scores.shape[1])], 1) / counts[:, None]
    profile = np.clip(mean, 0, 1).astype(np.float32)
    rules, decision = by_rule.rules, decision or Decision()
    typed = assign(profile, rules, decision)
    words = reasons(typed, profile, decision.positive)
    out = []
    for k, number in enumerate(numbers.tolist()):
        name = str(typed.names[k])
        own = by_rule.names[which == k]
        kin = {t.name for t in rules.types if any(a.name == name for a in rules.lineage(t.name))} or {name}
        agreement = float(np.isin(own.astype(str), list(kin)).mean())
        shown = _shown(profile[k], rules)
        text = f"{words[k]} (mean scores {shown}); by the rules alone {100 * agreement:.0f} % of its cells are {name}"
        out.append(Proposal(int(number), name, int(counts[k]), agreement, text))
    return out


def _shown(profile: Floats, rules: PanelRules, most: int = 4) -> str:
    used = sorted({c for t in rules.types for c in (*t.plus, *t.any_of)}, key=lambda c: -float(profile[c]))
    return ", ".join(f"{rules.channels[c]} {profile[c]:.2f}" for c in used[:most])
