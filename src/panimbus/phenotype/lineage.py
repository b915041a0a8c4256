"""A table of cell types: which markers each carries, and what it descends from."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from panimbus.core.errors import InputError, ReadError, listed

PLUS, MINUS, ANY, MAYBE = "+", "-", "any", "o"
UNASSIGNED, AMBIGUOUS = "unassigned", "ambiguous"
UNTOLD = " cannot be told: "
"""In a note, between a type and why the panel cannot tell it."""
_SIGNS = {"+": PLUS, "-": MINUS, "−": MINUS, "–": MINUS, "any": ANY, "o": MAYBE, "?": MAYBE}
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "κ": "kappa", "λ": "lambda"}


@dataclass(frozen=True)
class CellType:
    """A row of the table.

    Parameters
    ----------
    name
    parent
        Name of the type it is a kind of, or "".
    marks
        Marker -> ``+`` (carries it), ``-`` (does not), ``any`` (carries at least one of those marked so), ``o`` (may or may not).
    """

    name: str
    parent: str
    marks: Mapping[str, str]

    def marked(self, sign: str) -> tuple[str, ...]:
        """Markers with this sign, in the order of the table."""
        return tuple(m for m, s in self.marks.items() if s == sign)


@dataclass(frozen=True)
class RuleTable:
    """All types, checked: see `read_rules` and `default_rules`."""

    types: tuple[CellType, ...]
    source: str

    @property
    def markers(self) -> tuple[str, ...]:
        """Every marker that the table names."""
        return tuple(dict.fromkeys(m for t in self.types for m in t.marks))

    def lineage(self, name: str) -> tuple[str, ...]:
        """A type's ancestors, the oldest first, and itself; ``()`` for a name that is not in the table."""
        parent = {t.name: t.parent for t in self.types}
        out: list[str] = []
        while name in parent:
            out.append(name)
            name = parent[name]
        return tuple(reversed(out))


@dataclass(frozen=True)
class Judged:
    """A type as one panel can tell it: column numbers of the markers that are there.

    Parameters
    ----------
    name, parent
        The parent is the nearest ancestor that the panel can tell, or "".
    plus, any_of, minus
        Columns.
    """

    name: str
    parent: str
    plus: tuple[int, ...]
    any_of: tuple[int, ...]
    minus: tuple[int, ...]


@dataclass(frozen=True)
class PanelRules:
    """A rule table fitted to a panel.

    Parameters
    ----------
    types
        Those the panel can tell, parents before children.
    channels
        The panel.
    notes
        One sentence for each type that cannot be told, and each choice between two channels.
    source
        Where the table came from.
    """

    types: tuple[Judged, ...]
    channels: tuple[str, ...]
    notes: tuple[str, ...]
    source: str

    def children(self, parent: str) -> tuple[Judged, ...]:
        """Types one step below; ``""`` is the root."""
        return tuple(t for t in self.types if t.parent == parent)

    def lineage(self, name: str) -> tuple[Judged, ...]:
        """A type's ancestors, the oldest first, and itself; ``()`` for a name that is not a type here."""
        by_name = {t.name: t for t in self.types}
        out: list[Judged] = []
        while name in by_name:
            out.append(by_name[name])
            name = by_name[name].parent
        return tuple(reversed(out))


def marker_key(name: str) -> str:
    """A marker's name without case, punctuation and Greek letters.

    Examples
    --------
    >>> marker_key("Pan-CK"), marker_key("αSMA"), marker_key("HLA-DR/DP/DQ")
    ('panck', 'alphasma', 'hladrdpdq')
    """
    spelt = "".join(_GREEK.get(c, c) for c in unicodedata.normalize("NFKC", name).lower())
    return re.sub(r"[^a-z0-9]", "", spelt)


@lru_cache(maxsize=1)
def _synonyms() -> dict[str, str]:
    """Key of every known name -> key of the marker's own name."""
    out: dict[str, str] = {}
    for row in _rows(_shipped("markers.csv"), "markers.csv"):
        own = marker_key(row["marker"])
        for name in (row["marker"], *row["synonyms"].split()):
            out.setdefault(marker_key(name), own)
    return out


def canonical(name: str) -> str:
    """One key for all names of a marker: equal for ``PanKRT`` and ``pan-cytokeratin``, for ``CD8`` and ``CD8a``."""
    key = marker_key(name)
    return _synonyms().get(key, key)


def default_rules() -> RuleTable:
    """The table that comes with the package: immune, epithelial and stromal types by common lineage markers."""
    return parse_rules(_shipped("rules.csv"), "the default rules")


def default_rules_text() -> str:
    """The shipped table as text, to start one's own from."""
    return _shipped("rules.csv")


def read_rules(path: str | Path) -> RuleTable:
    """Read a table of cell types.

    Parameters
    ----------
    path
        CSV: ``cell_type``, ``parent``, then a column a marker with ``+``, ``-``, ``any``, ``o`` or nothing. Lines that begin with
        ``#`` are comments.

    Raises
    ------
    ReadError, InputError
        All problems of the table in one message.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ReadError(
            f"{path}: there is no such rule table.", fix="`panimbus phenotype rules` prints one to start from"
        ) from None
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: the rule table is not text.", got=str(error)) from None
    return parse_rules(text, str(path))


def parse_rules(text: str, source: str) -> RuleTable:
    """Parse and check a table; see `read_rules`."""
    rows = _rows(text, source)
    if not rows:
        raise InputError(f"{source}: the rule table has no cell type.", expected="cell_type,parent,<marker>,... and a row a type")
    names = [str(n).strip() for n in rows[0]]
    problems = [f"there is no column {need!r}" for need in ("cell_type", "parent") if need not in names]
    problems += [f"column {n!r} is there twice" for n in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise InputError(
            f"{source}: {problems[0]}.", got=", ".join(names[:12]), expected="cell_type, parent, then a column a marker"
        )
    types = []
    for row in rows:
        marks = {}
        for marker, sign in row.items():
            if marker in ("cell_type", "parent") or not (sign or "").strip():
                continue
            known = _SIGNS.get(sign.strip().lower())
            if known is None:
                problems.append(f"{row['cell_type']!r}, {marker}: {sign.strip()!r} is not a mark")
            else:
                marks[marker] = known
        types.append(CellType(row["cell_type"].strip(), row["parent"].strip(), marks))
    problems += check_types(types)
    if problems:
        raise InputError(
            f"{source}: the rule table cannot be used: {problems[0]}.",
            expected="+, -, any or o in the markers' columns; parents that are cell types of the table; no contradiction",
            got="; ".join(problems[1:12]) or None,
        )
    return RuleTable(tuple(types), source)


def check_types(types: Sequence[CellType]) -> list[str]:
    """Everything that is wrong with a table, one sentence each."""
    names = [t.name for t in types]
    problems = [f"{n!r} is there twice" for n in sorted({n for n in names if names.count(n) > 1})]
    problems += [f"{n!r} cannot be a cell type's name" for n in names if not n or n.lower() in (UNASSIGNED, AMBIGUOUS)]
    problems += [
        f"{t.name!r} has parent {t.parent!r}, which is not in the table" for t in types if t.parent and t.parent not in names
    ]
    parent = {t.name: t.parent for t in types}
    looped = sorted(n for n in names if _loops(n, parent))
    if looped:
        problems.append(f"the lineage goes round in a circle: {listed(looped)}")
    if problems:
        return problems  # what follows walks the tree
    by_name = {t.name: t for t in types}
    for t in types:
        problems += _contradictions(t, by_name)
    seen: dict[tuple[str, frozenset[tuple[str, str]]], str] = {}
    for t in types:
        own = frozenset((canonical(m), s) for m, s in t.marks.items() if s != MAYBE)
        if own and (t.parent, own) in seen:
            problems.append(f"{seen[t.parent, own]!r} and {t.name!r} have the same marks and the same parent")
        seen.setdefault((t.parent, own), t.name)
    return problems


def _loops(name: str, parent: Mapping[str, str]) -> bool:
    start, steps = name, 0
    while parent.get(name) and steps <= len(parent):
        name, steps = parent[name], steps + 1
        if name == start:
            return True
    return False


def _contradictions(t: CellType, by_name: Mapping[str, CellType]) -> list[str]:
    """Markers that a type's lineage both demands and forbids, or names twice."""
    keys = [canonical(m) for m in t.marks]
    out = [f"{t.name!r} names {m!r} twice" for m, k in zip(t.marks, keys, strict=True) if keys.count(k) > 1]
    signs = {canonical(m): (s, t.name) for m, s in t.marks.items() if s in (PLUS, MINUS)}
    above = by_name.get(t.parent)
    while above is not None:
        for m, s in above.marks.items():
            mine = signs.get(canonical(m))
            if mine is not None and s in (PLUS, MINUS) and s != mine[0]:
                out.append(f"{t.name!r} wants {m}{mine[0]}, but {above.name!r}, which it descends from, wants {m}{s}")
        above = by_name.get(above.parent)
    return out


def fit_panel(rules: RuleTable, channels: Sequence[str], *, strict: bool = False) -> PanelRules:
    """What a panel can tell of a rule table.

    A type can be told if all its ``+`` markers are in the panel and, where it has ``any``, one of those; a type without either
    needs all its ``-``. Other markers that are missing are passed over. A type that cannot be told is left out with all that
    descends from it; a type without marks is a mere grouping, whose children are judged in its place.

    Parameters
    ----------
    rules
    channels
        Names of the panel; synonyms are known (``panimbus.phenotype.lineage.canonical``).
    strict
        Refuse a table that names a marker which is neither in the panel nor known by any name: a slip of the pen.
    """
    where, notes = _columns(rules, channels)
    if strict and (unknown := [m for m in rules.markers if canonical(m) not in where and not _known(m)]):
        raise InputError(
            f"{rules.source}: the rules name markers that are not in the panel.",
            got=listed(unknown),
            available=channels,
            fix="correct the names in the table's head (or take the columns out)",
        )
    judged: list[Judged] = []
    untold: set[str] = set()
    for t in _parents_first(rules.types):
        plus, any_of, minus = ([where[canonical(m)] for m in t.marked(s) if canonical(m) in where] for s in (PLUS, ANY, MINUS))
        lacking = _lacking(t, [canonical(m) in where for m in t.marks])
        if t.parent in untold:
            untold.add(t.name)
            if not lacking:  # else it is enough to say so for its ancestor
                notes.append(f"{t.name}{UNTOLD}nor can {t.parent}, which it descends from")
            continue
        if lacking:
            untold.add(t.name)
            notes.append(f"{t.name}{UNTOLD}the panel lacks {listed(lacking)}")
        if lacking or not (plus or any_of or minus):
            continue
        told = {j.name for j in judged}
        parent = next((a for a in reversed(rules.lineage(t.parent)) if a in told), "")
        judged.append(Judged(t.name, parent, tuple(plus), tuple(any_of), tuple(minus)))
    if not judged:
        raise InputError(
            f"{rules.source}: the panel can tell none of the cell types.",
            expected=f"some of {listed(rules.markers)}",
            available=channels,
            fix="pass a rule table for this panel with --rules",
        )
    return PanelRules(tuple(judged), tuple(channels), tuple(notes), rules.source)


def _columns(rules: RuleTable, channels: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Column of each marker by its key, and a sentence for each choice between two channels."""
    where: dict[str, int] = {}
    notes: list[str] = []
    wanted = {canonical(m): m for m in rules.markers}
    for i, channel in enumerate(channels):
        key = canonical(channel)
        if key in where and key in wanted:
            first = channels[where[key]]
            if marker_key(channel) == marker_key(wanted[key]) != marker_key(first):
                where[key], channel = i, first  # noqa: PLW2901 (the other one is the one left out)
            notes.append(f"{wanted[key]}: two channels of that name; {channels[where[key]]!r} is used and {channel!r} is not")
            continue
        where.setdefault(key, i)
    return where, notes


def _known(marker: str) -> bool:
    return marker_key(marker) in _synonyms()


def _lacking(t: CellType, there: Sequence[bool]) -> list[str]:
    """Markers without which a type cannot be told."""
    missing = [m for m, ok in zip(t.marks, there, strict=True) if not ok]
    plus, any_of, minus = (t.marked(s) for s in (PLUS, ANY, MINUS))
    need = [m for m in plus if m in missing]
    if any_of and all(m in missing for m in any_of):
        need += list(any_of)
    return need if plus or any_of else [m for m in minus if m in missing]


def _parents_first(types: Iterable[CellType]) -> list[CellType]:
    left, out = list(types), []
    placed = {""}
    while left:
        ready = [t for t in left if t.parent in placed]
        out += ready
        placed |= {t.name for t in ready}
        left = [t for t in left if t.name not in placed]
    return out


def _shipped(name: str) -> str:
    return (resources.files("panimbus.phenotype") / "defaults" / name).read_text(encoding="utf-8")


def _rows(text: str, source: str) -> list[dict[str, str]]:
    """Spreadsheets pad rows with separators, quote comments, and separate by semicolons where numbers have commas."""
    lines = [line for line in text.splitlines() if line.strip(' ,;\t"') and not line.lstrip(' "').startswith("#")]
    table = list(csv.reader(lines, delimiter=";" if lines and ";" in lines[0] and "," not in lines[0] else ","))
    if not table:
        return []
    head = [h.strip() for h in table[0]]
    if len(set(head)) != len(head):
        twice = sorted({h for h in head if head.count(h) > 1})
        raise InputError(f"{source}: columns are there twice.", got=listed([h or "(no name)" for h in twice]))
    ragged = [row[0] for row in table[1:] if len(row) > len(head) and any(c.strip() for c in row[len(head) :])]
    if ragged:
        raise InputError(f"{source}: rows have more cells than the head has columns.", got=listed(ragged))
    return [dict(zip(head, [*row, *[""] * len(head)], strict=False)) for row in table[1:]]
