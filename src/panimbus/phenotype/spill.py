"""Contradictory cells and their neighbours: whether the second marker is a neighbour's.

Signal spreads over a cell's border in crowded tissue, through the optics and through the segmentation. A cell that carries the
markers of two lineages is compared with the cells within reach: where one of the two lineages has a *donor*, a neighbour that is
plainly of that lineage and brighter in its marker, and the other has none, the first is likely spill-over and the cell is taken
for the second, with a confidence of no more than one half (it rests on the neighbours, not on the cell's own signal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.phenotype.lineage import Judged, PanelRules
from panimbus.phenotype.rules import SEVERAL, Assignment, Decision, Floats, descend, evidence

Array = npt.NDArray[Any]
CAP = 0.5


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
        Mean intensities: a donor must be the brighter of the two.
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
    rows = np.flatnonzero(out.state == SEVERAL)
    if not len(rows):
        return 0
    before = out.kind.copy()  # donors are judged by what they were before any cell was resolved: the order does not matter
    near = _neighbours(rows, place)
    resolved: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
    members = {t.name: _members(out.rules, t.name, before) for t in out.rules.types}
    for row, around in zip(rows.tolist(), near, strict=True):
        parent = out.rules.types[before[row]].name if before[row] >= 0 else ""
        called = [c for c in out.rules.children(parent) if evidence(scores[[row]], c, vetoes=False)[0] >= decision.positive]
        donors = {c.name: _donor(row, c, around[members[c.name][around]], scores, place) for c in called}
        spilled = [c for c in called if donors[c.name] >= 0]
        left = [c for c in called if donors[c.name] < 0]
        said = " and ".join(f"{_markers(row, c, scores, out.rules)} ({c.name})" for c in called)
        if len(left) == 1 and spilled:
            lent = [
                f"{_markers(row, c, scores, out.rules)} likely spill-over from {_who(row, donors[c.name], place)}"
                for c in spilled
            ]
            out.notes[row] = f"{said}: {', '.join(lent)}"
            resolved.setdefault((parent, left[0].name, tuple(c.name for c in spilled)), []).append(row)
        elif spilled:
            out.notes[row] = f"{said}: neighbours carry both, so either may be spill-over"
        else:
            out.notes[row] = f"{said}: no neighbour explains it (two cells in one outline, or a real mixture)"
    for (parent, _, spilled_names), cells in resolved.items():
        _settle(out, scores, np.array(cells), (parent, spilled_names), decision)
    return int((out.kind != before).sum())


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


def _neighbours(rows: Array, place: Place) -> list[Array]:
    """Cells within reach of each row, in its FOV, itself aside."""
    from scipy.spatial import cKDTree

    out: list[Array] = [np.zeros(0, np.intp)] * len(rows)
    fovs, code = np.unique(place.fov.astype(str), return_inverse=True)
    for f in range(len(fovs)):
        cells = np.flatnonzero(code == f)
        asked = np.flatnonzero(code[rows] == f)
        if not len(asked):
            continue
        tree = cKDTree(place.xy_um[cells])
        for k, found in zip(asked, tree.query_ball_point(place.xy_um[rows[asked]], place.reach_um), strict=True):
            others = cells[np.sort(np.array(found, np.intp))]
            out[int(k)] = others[others != rows[k]]
    return out


def _members(rules: PanelRules, name: str, kind: Array) -> Array:
    """Which cells are of a type or of one below it."""
    inside = np.array([any(a.name == name for a in rules.lineage(t.name)) for t in rules.types] + [False])
    return np.asarray(inside[kind])


def _donor(row: int, c: Judged, candidates: Array, scores: Floats, place: Place) -> int:
    """The nearest neighbour that could have lent this type's markers, or -1."""
    plain = candidates[evidence(scores[candidates], c, vetoes=False) >= place.plain]
    if place.intensity is not None and len(plain):
        marker = _strongest(row, c, scores)
        plain = plain[place.intensity[plain, marker] > place.intensity[row, marker]]
    if not len(plain):
        return -1
    distance = ((place.xy_um[plain] - place.xy_um[row]) ** 2).sum(1)
    return int(plain[distance.argmin()])


def _strongest(row: int, c: Judged, scores: Floats) -> int:
    columns: Sequence[int] = [*c.plus, *c.any_of]
    return columns[int(scores[row, columns].argmax())]


def _markers(row: int, c: Judged, scores: Floats, rules: PanelRules) -> str:
    return f"{rules.channels[_strongest(row, c, scores)]}+"


def _who(row: int, donor: int, place: Place) -> str:
    return f"cell {place.name[donor]}, {np.hypot(*(place.xy_um[donor] - place.xy_um[row])):.0f} µm away"
