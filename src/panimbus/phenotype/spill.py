"""Contradictory cells and their neighbours: whether the second marker is a neighbour's.

Signal spreads over a cell's border in crowded tissue, through the optics and through the segmentation. Two lineages' markers in a
cell are compared with the cells within reach. That a neighbour carries a marker says little alone, because cells stand among
their like: a T cell with a doubtful CD20 has T neighbours, too. So one of the lineages is taken for spill-over only if

- a *donor*, a neighbour that is plainly of that lineage, is at least twice as bright in its marker (what spills is a part), and
- the marker is, beside what plain cells of its lineage have in that FOV, at most half as bright as the other lineage's marker is
  beside its own.

Then the cell is taken for the other lineage, with a confidence of no more than one half. Where that is not so, where there are no
intensities, and where the rules forbid one of the types the other's marker (which is doubt about a type, and no contradiction),
the cell stays as it is and the reason names the neighbour that may have lent the signal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.phenotype.lineage import Judged, PanelRules
from panimbus.phenotype.rules import SEVERAL, Assignment, Decision, Floats, descend, evidence

Array = npt.NDArray[Any]
CAP = 0.5
PART = 0.5
"""Largest part of a signal that is taken for another cell's."""
_FEWEST = 5  # plain cells of a FOV from which a marker's usual brightness is known
_CHUNK = 4096  # contradictory cells whose neighbours are in memory at a time


@dataclass(frozen=True, eq=False)
class Place:
    """Where the cells are.

    Parameters
    ----------
    fov : (n,) str
        FOV of each cell; cells of different FOVs are no neighbours.
    xy_um : (n, 2) float64
        Centroids in µm.
    name : (n,) str
        What a cell is called in a reason, e.g. its id.
    intensity : (n, C) float32, optional
        Mean intensities; without them nothing is settled.
    reach_um
        Largest distance of centroids. Cells of 8 to 10 µm that touch are about that far apart.
    plain
        Evidence from which a donor is plainly of its type.
    """

    fov: Array
    xy_um: Array
    name: Array
    intensity: Floats | None = None
    reach_um: float = 12.0
    plain: float = 0.8


@dataclass(frozen=True, eq=False)
class _Near:
    """Contradictory cells of one FOV and the cells around them: ``other[i]`` is near ``rows[which[i]]``."""

    rows: Array
    which: Array
    other: Array
    cells: Array


@dataclass(frozen=True, eq=False)
class _Suspect:
    """One type among m contradictory cells of a node.

    Parameters
    ----------
    kind
    called, marker, relative : (m,) bool, integer, float
        Whether the cell carries its markers; the clearest of them; its brightness beside the usual one.
    donor, lender : (m,) integer
        The nearest donor, -1 for none; the nearest that is bright enough to have lent the marker.
    """

    kind: Judged
    called: Array
    marker: Array
    relative: Array
    donor: Array
    lender: Array


def resolve_spill(out: Assignment, scores: Floats, place: Place, decision: Decision | None = None) -> int:
    """Look at the neighbours of every contradictory cell; writes types, confidences and notes into ``out``.

    Parameters
    ----------
    out
        What `panimbus.phenotype.rules.assign` gave; changed in place.
    scores : (n, C) float32
    place
        Positions of the n cells.
    decision
        The thresholds that ``out`` was made with.

    Returns
    -------
    int
        How many cells got a type (or a finer one) this way.
    """
    decision = decision or Decision()
    before = out.kind.copy()  # donors are judged by what they were before any cell was resolved: the order does not matter

    @cache
    def plain(kind: Judged) -> Array:
        return np.asarray(_members(out.rules, kind.name, before) & (evidence(scores, kind, vetoes=False) >= place.plain))

    resolved: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
    for near in _neighbours(np.flatnonzero(out.state == SEVERAL), place):
        for node in np.unique(before[near.rows]).tolist():
            parent = out.rules.types[node].name if node >= 0 else ""
            at = np.flatnonzero(before[near.rows] == node)
            mine = scores[near.rows[at]]
            suspects = []
            for c in out.rules.children(parent):
                called = evidence(mine, c, vetoes=False) >= decision.positive
                if called.any():
                    suspects.append(_suspect(c, called, mine, at, near, (plain(c), place)))
            for k, row in enumerate(near.rows[at].tolist()):
                here = [s for s in suspects if s.called[k]]
                kept, lent = _verdict(here, k, mine[k] >= decision.positive)
                out.notes[row] = _note(here, k, row, lent, (out.rules, place))
                if kept is not None:
                    resolved.setdefault((parent, kept.name, tuple(s.kind.name for s in lent)), []).append(row)
    for (parent, _, spilled), cells in resolved.items():
        _settle(out, scores, np.array(cells), (parent, spilled), decision)
    return int((out.kind != before).sum())


def _suspect(c: Judged, called: Array, mine: Floats, at: Array, near: _Near, where: tuple[Array, Place]) -> _Suspect:
    """What is known of one type's markers in the contradictory cells ``near.rows[at]``, whose scores are ``mine``."""
    plain, place = where
    columns = np.array([*c.plus, *c.any_of], np.intp)
    marker = columns[mine[:, columns].argmax(1)]
    position = np.full(len(near.rows), -1)
    position[at] = np.where(called, np.arange(len(at)), -1)
    pairs = np.flatnonzero(plain[near.other] & (position[near.which] >= 0))
    which, other = position[near.which[pairs]], near.other[pairs]
    rows = near.rows[at]
    relative = np.full(len(at), np.nan)
    own = theirs = np.zeros(0)
    if place.intensity is not None:
        own, theirs = place.intensity[rows[which], marker[which]], place.intensity[other, marker[which]]
        usual = _usual(place.intensity, near.cells[plain[near.cells]], marker)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = place.intensity[rows, marker] / usual
    brighter = np.ones(len(which), np.bool_) if place.intensity is None else theirs > own
    lends = np.zeros(len(which), np.bool_) if place.intensity is None else brighter & (own <= PART * theirs)
    distance = ((place.xy_um[other] - place.xy_um[rows[which]]) ** 2).sum(1)
    order = np.lexsort((-other, -distance))  # the nearest is written last, and stays
    nearest = []
    for good in (brighter, lends):
        found = np.full(len(at), -1)
        kept = order[good[order]]
        found[which[kept]] = other[kept]
        nearest.append(found)
    return _Suspect(c, called, marker, relative, nearest[0], nearest[1])


def _usual(intensity: Floats, plain: Array, marker: Array) -> Array:
    """Median brightness of a FOV's plain cells in each cell's marker; NaN where there are too few."""
    out = np.full(len(marker), np.nan)
    if len(plain) >= _FEWEST:
        for column in np.unique(marker).tolist():
            out[marker == column] = np.median(intensity[plain, column])
    return out


def _verdict(here: Sequence[_Suspect], k: int, positive: Array) -> tuple[Judged | None, list[_Suspect]]:
    """The type whose markers are the cell's own, and those that were lent; None where that cannot be said."""
    for own in here:
        lent = [s for s in here if s is not own]
        if lent and all(
            s.lender[k] >= 0 and s.relative[k] <= PART * own.relative[k] and _contradict(s.kind, own.kind, positive) for s in lent
        ):
            return own.kind, lent
    return None, []


def _contradict(a: Judged, b: Judged, positive: Array) -> bool:
    """Whether neither type forbids what the other has, or each does."""
    forbidden = [any(positive[c] for c in {*x.plus, *x.any_of}.intersection(y.minus)) for x, y in ((a, b), (b, a))]
    return forbidden[0] == forbidden[1]


def _note(here: Sequence[_Suspect], k: int, row: int, lent: Sequence[_Suspect], told: tuple[PanelRules, Place]) -> str:
    rules, place = told
    name = {s.kind.name: f"{rules.channels[s.marker[k]]}+" for s in here}
    said = " and ".join(f"{name[s.kind.name]} ({s.kind.name})" for s in here)
    if lent:
        whose = [f"{name[s.kind.name]} likely spill-over from {_who(row, int(s.lender[k]), place)}" for s in lent]
        return f"{said}: {', '.join(whose)}"
    donors = [f"{name[s.kind.name]} may be from {_who(row, int(s.donor[k]), place)}" for s in here if s.donor[k] >= 0]
    if donors:
        return f"{said}: {', '.join(donors)}, but that is not plain"
    return f"{said}: no neighbour explains it (two cells in one outline, or a real mixture)"


def _settle(out: Assignment, scores: Floats, rows: Array, where: tuple[str, tuple[str, ...]], decision: Decision) -> None:
    """Take cells further down without the children whose markers came from neighbours."""
    parent, without = where
    part = scores[rows].copy()
    for c in out.rules.children(parent):
        if c.name in without:
            part[:, [*c.plus, *c.any_of]] = 0  # its markers are the neighbour's
    work = Assignment(out.rules, out.kind[rows].copy(), out.confidence[rows].copy(), out.state[rows].copy())
    descend(work, part, np.arange(len(rows)), parent, decision=decision, without=without)
    out.kind[rows], out.state[rows] = work.kind, work.state
    out.confidence[rows] = np.minimum(work.confidence, CAP)


def _neighbours(rows: Array, place: Place) -> Iterator[_Near]:
    """Cells within reach of some of the rows, in their FOV, themselves aside; a chunk of rows at a time."""
    from scipy.spatial import cKDTree

    fovs, code = np.unique(place.fov[rows].astype(str), return_inverse=True)
    for f, fov in enumerate(fovs.tolist()):
        cells = np.flatnonzero(place.fov == fov)
        asked = rows[code == f]
        tree = cKDTree(place.xy_um[cells])
        for start in range(0, len(asked), _CHUNK):
            part = asked[start : start + _CHUNK]
            found = tree.query_ball_point(place.xy_um[part], place.reach_um)
            which = np.repeat(np.arange(len(part)), [len(x) for x in found])
            other = cells[np.concatenate([np.asarray(x, np.intp) for x in found])]
            apart = other != part[which]
            yield _Near(part, which[apart], other[apart], cells)


def _members(rules: PanelRules, name: str, kind: Array) -> Array:
    """Which cells are of a type or of one below it."""
    inside = np.array([any(a.name == name for a in rules.lineage(t.name)) for t in rules.types] + [False])
    return np.asarray(inside[kind])


def _who(row: int, donor: int, place: Place) -> str:
    return f"cell {place.name[donor]}, {np.hypot(*(place.xy_um[donor] - place.xy_um[row])):.0f} µm away"
