"""A rule table fitted to a panel: the types that its channels can distinguish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from panimbus.core.channel_types import MARKER
from panimbus.core.errors import InputError, format_list
from panimbus.core.markers import canonical, is_common_marker, marker_key
from panimbus.phenotype.rules import (
    ANY,
    MAYBE,
    MINUS,
    PLUS,
    CellType,
    RuleTable,
    column_key,
    marker_and_level,
    parents_first,
)

CANNOT_TELL = " cannot be told: "
"""In a note, between a type and why the panel cannot tell it."""


@dataclass(frozen=True)
class Marker:
    """A column of the rule table that the panel has.

    Parameters
    ----------
    name
        The channel's name, with the level if there is one: ``CD4 > 0.7``.
    channel
        Its position in the panel.
    level
        Score above which it counts as positive; None for the marker's threshold.
    """

    name: str
    channel: int
    level: float | None = None


@dataclass(frozen=True)
class PanelType:
    """A type that the panel can distinguish.

    Parameters
    ----------
    name
    parent
        Position of the nearest ancestor that the panel can tell, -1 for none.
    plus, any_of, minus, maybe
        Positions of its own marks in `Panel.markers`.
    """

    name: str
    parent: int
    plus: tuple[int, ...] = ()
    any_of: tuple[int, ...] = ()
    minus: tuple[int, ...] = ()
    maybe: tuple[int, ...] = ()

    @property
    def defining(self) -> tuple[int, ...]:
        """Markers that tell the type from its siblings."""
        return self.plus + self.any_of


@dataclass(frozen=True, eq=False)
class Panel:
    """Types and markers of a rule table that a panel can distinguish.

    Parameters
    ----------
    types
        Parents before children.
    markers
        What tells them; a marker that no type carries for certain (``o`` everywhere) is not among
        them.
    channels
        The panel.
    notes
        One sentence per type that cannot be told, and per choice between two channels.
    source
        Where the table came from.
    """

    types: tuple[PanelType, ...]
    markers: tuple[Marker, ...]
    channels: tuple[str, ...]
    notes: tuple[str, ...]
    source: str

    def __repr__(self) -> str:
        return (
            f"Panel({len(self.types)} types, {len(self.markers)} of {len(self.channels)} channels,"
            f" source={self.source!r})"
        )

    def children(self, parent: int) -> tuple[int, ...]:
        """Types one step below; -1 is the root."""
        return tuple(i for i, t in enumerate(self.types) if t.parent == parent)

    def lineage(self, i: int) -> tuple[int, ...]:
        """A type's ancestors, the oldest first, and itself."""
        out: list[int] = []
        while i >= 0:
            out.append(i)
            i = self.types[i].parent
        return tuple(reversed(out))

    def subtree(self, i: int) -> tuple[int, ...]:
        """A type and all below it."""
        return tuple(j for j in range(len(self.types)) if i in self.lineage(j))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the types."""
        return tuple(t.name for t in self.types)

    @cached_property
    def may_carry(self) -> npt.NDArray[np.bool_]:
        """(types, markers) whether a type may carry a marker.

        By its own mark, or its nearest ancestor's that has one.
        """
        out = np.zeros((len(self.types), len(self.markers)), np.bool_)
        for i in range(len(self.types)):
            for t in (self.types[j] for j in self.lineage(i)):
                out[i, list(t.defining + t.maybe)] = True
                out[i, list(t.minus)] = False
            for level in (m for m, marker in enumerate(self.markers) if marker.level and out[i, m]):
                same = [
                    m
                    for m, marker in enumerate(self.markers)
                    if marker.channel == self.markers[level].channel
                ]
                out[i, same] = True  # who carries a level carries its marker
        return out

    @cached_property
    def exclusive(self) -> npt.NDArray[np.bool_]:
        """(markers, markers) whether some type may carry each, and none both.

        Never a marker and its level.
        """
        carried = np.asarray(self.may_carry.any(0))
        together = (self.may_carry.T.astype(np.int64) @ self.may_carry.astype(np.int64)) > 0
        channel = np.array([m.channel for m in self.markers])  # a level is no other marker
        return np.asarray(~together & carried & carried[:, None] & (channel != channel[:, None]))

    @property
    def finest(self) -> tuple[int, ...]:
        """Types that are not divided.

        One with a single child (a CD4 T cell that is not regulatory) is a type of its own.
        """
        return tuple(i for i in range(len(self.types)) if len(self.children(i)) < 2)


def fit_panel(
    rules: RuleTable,
    channels: Sequence[str],
    *,
    strict: bool = False,
    left_out: Sequence[str] = (),
    channel_types: Mapping[str, str] | None = None,
) -> Panel:
    """Find the types of a rule table that a panel can distinguish.

    A type can be told if all its ``+`` markers are in the panel and, where it has ``any``, one of
    those; a type without either needs all its ``-``. Other markers that are missing are passed
    over. What descends from a type that cannot be told for lack of a ``+`` cannot be told either; a
    type that lacks all its ``any`` remains as a group if a type below it is told by a marker that
    nothing outside the group may carry. A type without marks is a mere heading, whose children are
    taken in its place.

    Parameters
    ----------
    rules
    channels
        Names of the panel; synonyms are understood (`panimbus.phenotype.rules.canonical`).
    strict
        Refuse a table that names a marker which is neither in the panel nor a common one:
        probably a typo.
    left_out
        Markers that are missing on purpose.
    channel_types
        Channel -> what it is (`panimbus.core.channel_types`): only a marker tells types.
    """
    other = {c: t for c, t in (channel_types or {}).items() if t != MARKER}
    where, notes = _channels(rules, channels, other)
    expected = {*where, *map(canonical, left_out), *map(canonical, other)}
    if strict and (
        unknown := [
            m for m in rules.markers if canonical(m) not in expected and not is_common_marker(m)
        ]
    ):
        raise InputError(
            f"{rules.source}: the rules name markers that are not in the panel.",
            got=format_list(unknown),
            available=channels,
            fix="correct the names in the table's head (or take the columns out)",
        )
    chosen, more = _chosen_types(rules, where)
    notes += more
    if not chosen:
        raise InputError(
            f"{rules.source}: the panel can tell none of the cell types.",
            expected=f"some of {format_list(rules.markers)}",
            available=channels,
            fix="pass a rule table for this panel with --rules",
        )
    markers = _markers(rules, chosen, channels, where)
    at = {key: i for i, key in enumerate(markers)}
    position = {t.name: i for i, t in enumerate(chosen)}
    types = []
    for t in chosen:
        parent = next((position[a] for a in reversed(rules.lineage(t.parent)) if a in position), -1)
        own = {
            sign: tuple(at[k] for m in t.marked(sign) if (k := column_key(m)) in at)
            for sign in (PLUS, ANY, MINUS, MAYBE)
        }
        types.append(PanelType(t.name, parent, own[PLUS], own[ANY], own[MINUS], own[MAYBE]))
    return Panel(tuple(types), tuple(markers.values()), tuple(channels), tuple(notes), rules.source)


def _channels(
    rules: RuleTable, channels: Sequence[str], no_markers: Mapping[str, str]
) -> tuple[dict[str, int], list[str]]:
    """Channel of each marker by its key, and a sentence for each choice between two channels."""
    where: dict[str, int] = {}
    notes: list[str] = []
    wanted = {canonical(m): m for m in rules.markers}
    for i, channel in enumerate(channels):
        key = canonical(channel)
        if channel in no_markers:
            notes += (
                [
                    (
                        f"{wanted[key]}: channel {channel!r} is no marker (its type is"
                        f" {no_markers[channel]})"
                    )
                ]
                if key in wanted
                else []
            )
            continue
        if key in where and key in wanted:
            other = channel
            if marker_key(channel) == marker_key(wanted[key]) != marker_key(channels[where[key]]):
                where[key], other = i, channels[where[key]]
            notes.append(
                f"{wanted[key]}: two channels of that name; {channels[where[key]]!r} is used and"
                f" {other!r} is not"
            )
            continue
        where.setdefault(key, i)
    return where, notes


def _chosen_types(rules: RuleTable, where: dict[str, int]) -> tuple[list[CellType], list[str]]:
    """Types that can be told, parents first, and a sentence for each that cannot."""
    ordered = parents_first(rules.types)
    lacking = {t.name: _lacking(t, where) for t in ordered}
    blocked: set[str] = set()
    notes: list[str] = []
    for t in ordered:
        if t.parent in blocked:
            blocked.add(t.name)
            if not lacking[t.name]:  # otherwise it is enough to say so for its ancestor
                notes.append(f"{t.name}{CANNOT_TELL}nor can {t.parent}, which it descends from")
        elif lacking[t.name] and not _is_group(t, rules, lacking):
            blocked.add(t.name)
            notes.append(f"{t.name}{CANNOT_TELL}the panel lacks {format_list(lacking[t.name])}")
    return [
        t for t in ordered if t.name not in blocked and any(s != MAYBE for s in t.marks.values())
    ], notes


def _is_group(t: CellType, rules: RuleTable, lacking: Mapping[str, Sequence[str]]) -> bool:
    """Whether a type that lacks all its ``any`` can be told by its children.

    One has a marker that nothing outside may carry.
    """
    if t.marked(PLUS) or not t.marked(ANY):
        return False
    inside = [x for x in rules.types if t.name in rules.lineage(x.name)[:-1]]
    others = [x for x in rules.types if t.name not in rules.lineage(x.name)]
    elsewhere = {column_key(m) for x in others for m, s in x.marks.items() if s != MINUS}
    return any(
        not lacking[x.name]
        and any(column_key(m) not in elsewhere for m in (*x.marked(PLUS), *x.marked(ANY)))
        for x in inside
    )


def _lacking(t: CellType, where: dict[str, int]) -> list[str]:
    """Markers without which a type cannot be told."""
    missing = [m for m in t.marks if canonical(marker_and_level(m)[0]) not in where]
    plus, any_of, minus = (t.marked(s) for s in (PLUS, ANY, MINUS))
    need = [m for m in plus if m in missing]
    if any_of and all(m in missing for m in any_of):
        need += list(any_of)
    return need if plus or any_of else [m for m in minus if m in missing]


def _markers(
    rules: RuleTable, chosen: Sequence[CellType], channels: Sequence[str], where: dict[str, int]
) -> dict[str, Marker]:
    """Columns of the panel that are evidence for or against a chosen type, by their keys."""
    telling = {column_key(m) for t in chosen for m, s in t.marks.items() if s != MAYBE}
    out: dict[str, Marker] = {}
    for column in rules.columns:
        marker, level = marker_and_level(column)
        channel = where.get(canonical(marker))
        if channel is not None and column_key(column) in telling:
            name = channels[channel] if level is None else f"{channels[channel]} > {level:g}"
            out.setdefault(column_key(column), Marker(name, channel, level))
    return out
