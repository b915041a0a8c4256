"""The table of cell types: their markers and their parents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.markers import canonical
from panimbus.core.table import NOT_TYPED, UNASSIGNED
from panimbus.io.tables import Column, read_table
from panimbus.io.text import one_line

PLUS, MINUS, ANY, MAYBE = "+", "-", "any", "o"
_SIGNS = {"+": PLUS, "-": MINUS, "−": MINUS, "–": MINUS, "any": ANY, "o": MAYBE, "?": MAYBE}
_DEFAULT = resources.files("panimbus.phenotype") / "defaults" / "rules.csv"
_EXPECTED = "cell_type,parent,<marker>,... and one row per type"
_LEVEL = re.compile(r"(?P<marker>.*?)\s*>\s*(?P<level>[0-9.]+)\s*")


@dataclass(frozen=True)
class CellType:
    """A row of the table.

    Parameters
    ----------
    name
    parent
        Name of the type it is a kind of, or "".
    marks
        Column -> ``+`` (carries the marker), ``-`` (does not), ``any`` (carries at least one of
        those marked so), ``o`` (may or may not). A column is a marker, or a level of one such as
        ``CD14 > 0.7``.
    """

    name: str
    parent: str
    marks: Mapping[str, str]

    def marked(self, sign: str) -> tuple[str, ...]:
        """Columns with this sign, in the order of the table."""
        return tuple(m for m, s in self.marks.items() if s == sign)


@dataclass(frozen=True)
class RuleTable:
    """All types, checked: see `read_rules` and `default_rules`.

    Parameters
    ----------
    types
        The types, in the order of the table.
    source
        Where the table comes from, for messages: its path, or "the default rules".
    """

    types: tuple[CellType, ...]
    source: str

    def __repr__(self) -> str:
        return (
            f"RuleTable({len(self.types)} types, {len(self.markers)} markers,"
            f" source={self.source!r})"
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a type has a mark in."""
        return tuple(dict.fromkeys(m for t in self.types for m in t.marks))

    @property
    def markers(self) -> tuple[str, ...]:
        """Every marker that the table names, without levels."""
        return tuple(dict.fromkeys(marker_and_level(c)[0] for c in self.columns))

    def lineage(self, name: str) -> tuple[str, ...]:
        """A type's ancestors, the oldest first, and itself.

        ``()`` for a name that is not in the table.
        """
        parent = {t.name: t.parent for t in self.types}
        out: list[str] = []
        while name in parent:
            out.append(name)
            name = parent[name]
        return tuple(reversed(out))


def marker_and_level(column: str) -> tuple[str, float | None]:
    """The marker of a column, and its level if it has one.

    Examples
    --------
    >>> marker_and_level("CD4"), marker_and_level("CD4 > 0.7")
    (('CD4', None), ('CD4', 0.7))
    """
    parts = _LEVEL.fullmatch(column)
    if parts is None:
        return column, None
    try:
        level = float(parts["level"])
    except ValueError:
        return column, None
    return parts["marker"], level


def default_rules() -> RuleTable:
    """The table that comes with the package.

    Immune, epithelial, endothelial and stromal types by common lineage markers.
    """
    with resources.as_file(_DEFAULT) as path:
        return _read(path, "the default rules")


def default_rules_text() -> str:
    """The shipped table as text, to start your own from."""
    return _DEFAULT.read_text(encoding="utf-8")


def read_rules(path: str | Path) -> RuleTable:
    r"""Read a table of cell types.

    Parameters
    ----------
    path
        CSV: ``cell_type``, ``parent``, then one column per marker with ``+``, ``-``, ``any``, ``o``
        or nothing. A column may name a level of a marker, such as ``CD14 > 0.7``. Lines that begin
        with ``#`` are comments.

    Raises
    ------
    ReadError, InputError
        All problems of the table in one message.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "rules.csv"
    ...     _ = path.write_text("cell_type,parent,CD3,CD20\nT cell,,+,-\nB cell,,-,+\n")
    ...     read_rules(path).markers
    ('CD3', 'CD20')
    """
    path = Path(path)
    if not path.exists():
        raise ReadError(
            f"{path}: no such rule table.",
            fix="`panimbus phenotype rules` prints one to start from",
        )
    return _read(path, str(path))


def _read(path: Path, source: str) -> RuleTable:
    """Read and check a table; see `read_rules`."""
    columns = [Column("cell_type"), Column("parent")]
    table = read_table(path, columns, expected=_EXPECTED, comment="#")
    rows: list[dict[str, str]] = [dict(row) for _, row in table.iterrows()]
    if not rows:
        raise InputError(
            f"{source}: the rule table has no cell type.",
            expected=_EXPECTED,
        )
    problems = _levels(list(rows[0]))
    types = []
    for row in rows:
        marks = {}
        for column, sign in row.items():
            if column in ("cell_type", "parent") or not sign:
                continue
            mark = _SIGNS.get(sign.lower())
            if mark is None:
                problems.append(f"{row['cell_type']!r}, {column}: {sign!r} is not a mark")
            else:
                marks[column] = mark
        types.append(CellType(one_line(row["cell_type"]), one_line(row["parent"]), marks))
    problems += check_types(types)
    if problems:
        raise InputError(
            f"{source}: the rule table cannot be used: {problems[0]}.",
            expected=(
                "+, -, any or o in the markers' columns; parents that are cell types of the table;"
                " no contradiction"
            ),
            got="; ".join(problems[1:12]) or None,
        )
    return RuleTable(tuple(types), source)


def _levels(columns: Sequence[str]) -> list[str]:
    levels = [(c, marker_and_level(c)[1]) for c in columns if ">" in c or "<" in c]
    return [
        f"column {c!r} is not a level such as 'CD4 > 0.7' (between 0 and 1)"
        for c, level in levels
        if level is None or not 0 < level < 1
    ]


def check_types(types: Sequence[CellType]) -> list[str]:
    """All problems of a table, one sentence each."""
    names = [t.name for t in types]
    problems = [f"{n!r} occurs twice" for n in sorted({n for n in names if names.count(n) > 1})]
    problems += [
        f"{n!r} cannot be a cell type's name"
        for n in names
        if not n or n.lower() in (UNASSIGNED, NOT_TYPED)
    ]
    problems += [
        f"{t.name!r} has parent {t.parent!r}, which is not in the table"
        for t in types
        if t.parent and t.parent not in names
    ]
    parent = {t.name: t.parent for t in types}
    looped = sorted(n for n in names if _loops(n, parent))
    if looped:
        problems.append(f"the lineage has a cycle: {format_list(looped)}")
    if problems:
        return problems  # the rest walks the tree
    by_name = {t.name: t for t in types}
    for t in types:
        problems += _contradictions(t, by_name)
    for t in types:
        problems += [
            f"{t.name!r} has all marks of {other.name!r} beside it: make it a child of"
            f" {other.name!r}, or give that one a '-'"
            for other in types
            if other.parent == t.parent and _covers(other, t)
        ]
    seen: dict[tuple[str, frozenset[tuple[str, str]]], str] = {}
    for t in types:
        own = frozenset((column_key(m), s) for m, s in t.marks.items() if s != MAYBE)
        if own and (t.parent, own) in seen:
            problems.append(
                f"{seen[t.parent, own]!r} and {t.name!r} have the same marks and the same parent"
            )
        seen.setdefault((t.parent, own), t.name)
    return problems


def _covers(wide: CellType, narrow: CellType) -> bool:
    """Whether every cell of the narrow type fits the wide one: they cannot be told apart."""
    if wide is narrow or wide.marks == narrow.marks or wide.marked(MINUS):
        return False
    needs, some = ({column_key(m) for m in wide.marked(s)} for s in (PLUS, ANY))
    has, either = ({column_key(m) for m in narrow.marked(s)} for s in (PLUS, ANY))
    fits = not some or bool(some & has) or (bool(either) and either <= some)
    return bool(needs | some) and needs <= has and fits


def column_key(column: str) -> str:
    """One key for all spellings of a column: the marker's, and its level."""
    marker, level = marker_and_level(column)
    return canonical(marker) if level is None else f"{canonical(marker)}>{level:g}"


def _loops(name: str, parent: Mapping[str, str]) -> bool:
    start, steps = name, 0
    while parent.get(name) and steps <= len(parent):
        name, steps = parent[name], steps + 1
        if name == start:
            return True
    return False


def _contradictions(t: CellType, by_name: Mapping[str, CellType]) -> list[str]:
    """Markers that a type's lineage both demands and forbids, or names twice."""
    keys = [column_key(m) for m in t.marks]
    out = [
        f"{t.name!r} names {m!r} twice"
        for m, k in zip(t.marks, keys, strict=True)
        if keys.count(k) > 1
    ]
    signs = {column_key(m): s for m, s in t.marks.items() if s in (PLUS, MINUS)}
    above = by_name.get(t.parent)
    while above is not None:
        for m, s in above.marks.items():
            own = signs.get(column_key(m))
            if own is not None and s in (PLUS, MINUS) and s != own:
                out.append(
                    f"{t.name!r} wants {m}{own}, but {above.name!r}, which it descends from, wants"
                    f" {m}{s}"
                )
        above = by_name.get(above.parent)
    return out


def parents_first(types: Iterable[CellType]) -> list[CellType]:
    """The types, every parent before its children."""
    remaining, out = list(types), []
    placed = {""}
    while remaining:
        ready = [t for t in remaining if t.parent in placed]
        out += ready
        placed |= {t.name for t in ready}
        remaining = [t for t in remaining if t.name not in placed]
    return out
