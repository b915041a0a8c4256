"""Adjustments by hand: a small file of edits, replayed on the first result, each of which can be undone.

A file is JSON lines (one edit a line; a page or a script appends to it) or TOML (``[[edit]]`` tables). An edit is never taken out
of the file: ``undo`` takes the last one back (or number ``edit``), ``redo`` brings back what was last undone. The same file on
the same run gives the same result however often it is applied. Examples of all edits: docs/phenotype.md.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from panimbus.core.errors import InputError, ReadError, listed

Array = npt.NDArray[Any]
Name = Annotated[str, Field(min_length=1, max_length=120)]


class _Edit(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    by: str | None = None
    time: str | None = None
    why: str | None = None


class Merge(_Edit):
    """Several metaclusters become the one with the lowest number, named after the largest that has a name if none is given."""

    op: Literal["merge"]
    metaclusters: Annotated[list[int], Field(min_length=2)]
    name: Name | None = None


class Split(_Edit):
    """Part of a metacluster becomes a new one, numbered one above the highest: some nodes, or the cells positive for a marker."""

    op: Literal["split"]
    metacluster: int
    nodes: Annotated[list[int], Field(min_length=1)] | None = None
    marker: str | None = None
    at: float = Field(default=0.5, ge=0, le=1)
    name: Name | None = None


class Rename(_Edit):
    """A metacluster gets a name, or a cell type gets another one wherever it is."""

    op: Literal["rename"]
    metacluster: int | None = None
    type: str | None = None
    name: Name


class Reassign(_Edit):
    """Nodes go to another metacluster, or cells (by name, ``fov:cell_id``) get a type."""

    op: Literal["reassign"]
    nodes: Annotated[list[int], Field(min_length=1)] | None = None
    metacluster: int | None = None
    cells: Annotated[list[str], Field(min_length=1)] | None = None
    name: Name | None = None


class Undo(_Edit):
    """Take back the last edit that stands, or edit number ``edit`` (from 1, undos counted)."""

    op: Literal["undo"]
    edit: int | None = Field(default=None, ge=1)


class Redo(_Edit):
    """Bring back what was last undone."""

    op: Literal["redo"]


Edit = Merge | Split | Rename | Reassign | Undo | Redo
_ADAPTER: TypeAdapter[Edit] = TypeAdapter(Annotated[Edit, Field(discriminator="op")])


@dataclass(frozen=True, eq=False)
class Grouping:
    """What edits act on: n cells with their names, SOM nodes, metaclusters and scores (n, C) of C channels.

    ``names`` gives metaclusters a type, ``types`` (n,) those of cells whose metacluster has no name, ``by_hand`` those of single
    rows.
    """

    cells: Array
    node: Array
    metacluster: Array
    names: dict[int, str]
    types: Array
    scores: Array
    channels: tuple[str, ...]
    by_hand: dict[int, str] = field(default_factory=dict)

    @property
    def cell_type(self) -> Array:
        """(n,) object: the cell's own type if given by hand, else its metacluster's, else ``types``."""
        out = self.types.astype(object).copy()
        for number, name in self.names.items():
            out[self.metacluster == number] = name
        for row, name in self.by_hand.items():
            out[row] = name
        return out


def read_edits(path: str | Path) -> list[Edit]:
    """Read a file of edits (``.toml``, or JSON lines).

    Raises
    ------
    ReadError, InputError
        All edits that are not understood, each with its number.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ReadError(f"{path}: there is no such file of edits.") from None
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: the edits are not text.", got=str(error)) from None
    raw = _toml(text, file) if file.suffix.lower() == ".toml" else _lines(text, file)
    out: list[Edit] = []
    problems: list[str] = []
    for number, data in enumerate(raw, 1):
        try:
            edit = _ADAPTER.validate_python(data)
        except ValidationError as error:
            problems += [f"edit {number}: {'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()]
            continue
        out.append(edit)
        problems += [f"edit {number}: {p}" for p in _shape(edit)]
    if problems:
        raise InputError(
            f"{path}: {len(problems)} of the edits cannot be understood.",
            got="; ".join(problems[:12]),
            available=["merge", "split", "rename", "reassign", "undo", "redo"],
        )
    return out


def _shape(edit: Edit) -> list[str]:
    """Fields that do not go together."""
    if isinstance(edit, Split) and (edit.nodes is None) == (edit.marker is None):
        return ["split takes nodes or a marker, one of them"]
    if isinstance(edit, Rename) and (edit.metacluster is None) == (edit.type is None):
        return ["rename takes a metacluster or a type, one of them"]
    if isinstance(edit, Reassign):
        nodes = edit.nodes is not None and edit.metacluster is not None and edit.cells is None and edit.name is None
        cells = edit.cells is not None and edit.name is not None and edit.nodes is None and edit.metacluster is None
        if not (nodes or cells):
            return ["reassign takes nodes and a metacluster, or cells and a name"]
    return []


def _toml(text: str, path: Path) -> list[Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ReadError(f"{path}: not TOML.", got=str(error)) from None
    if set(data) - {"edit"} or not isinstance(data.get("edit", []), list):
        raise ReadError(f"{path}: the file has other things than edits.", expected="[[edit]] tables", got=listed(sorted(data)))
    return list(data.get("edit", []))


def _lines(text: str, path: Path) -> list[Any]:
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ReadError(f"{path}: line {number} is not JSON.", got=f"{line.strip()[:80]} ({error.msg})") from None
    return out


def standing(edits: Sequence[Edit]) -> list[int]:
    """Which edits stand after all undos and redos: positions from 0, in order.

    Examples
    --------
    >>> edits = [Rename(op="rename", metacluster=k, name="x") for k in (1, 2)]
    >>> standing([*edits, Undo(op="undo")]), standing([*edits, Undo(op="undo", edit=1)])
    ([0], [1])
    """
    done: list[int] = []
    undone: list[int] = []
    for i, edit in enumerate(edits):
        if isinstance(edit, Undo):
            at = done[-1] if edit.edit is None and done else (edit.edit or 0) - 1
            if at not in done:
                what = "what is not there" if edit.edit is None else f"edit {edit.edit}, which does not stand"
                raise InputError(f"Edit {i + 1} undoes {what}.", available=[str(d + 1) for d in done])
            done.remove(at)
            undone.append(at)
        elif isinstance(edit, Redo):
            if not undone:
                raise InputError(f"Edit {i + 1} is a redo, but nothing is undone.")
            done = sorted([*done, undone.pop()])
        else:
            done.append(i)
            undone.clear()
    return done


def apply_edits(start: Grouping, edits: Sequence[Edit]) -> Grouping:
    """Replay the edits that stand on the first result.

    Raises
    ------
    InputError
        An edit that names what is not there, with its number and what there is.
    """
    now = start
    for i in standing(edits):
        edit = edits[i]
        try:
            now = _apply(now, edit)
        except InputError as error:
            raise InputError(f"Edit {i + 1} ({edit.op}) cannot be applied: {error}") from None
    return now


def _apply(now: Grouping, edit: Edit) -> Grouping:
    if isinstance(edit, Merge):
        return _merge(now, edit)
    if isinstance(edit, Split):
        return _split(now, edit)
    if isinstance(edit, Rename):
        return _rename(now, edit)
    return _reassign(now, edit) if isinstance(edit, Reassign) else now


def _merge(now: Grouping, edit: Merge) -> Grouping:
    for number in edit.metaclusters:
        _there(now, number)
    into = min(edit.metaclusters)
    size = {k: int((now.metacluster == k).sum()) for k in sorted(set(edit.metaclusters))}
    named = [k for k in size if k in now.names]
    name = edit.name or (now.names[max(named, key=lambda k: size[k])] if named else None)
    names = {k: v for k, v in now.names.items() if k not in size} | ({into: name} if name else {})
    return replace(now, metacluster=np.where(np.isin(now.metacluster, list(size)), into, now.metacluster), names=names)


def _split(now: Grouping, edit: Split) -> Grouping:
    _there(now, edit.metacluster)
    mine = now.metacluster == edit.metacluster
    if edit.nodes is not None:
        _nodes(now, edit.nodes, within=edit.metacluster)
        part = mine & np.isin(now.node, edit.nodes)
    else:
        if edit.marker not in now.channels:
            raise InputError(f"there is no marker {edit.marker!r}.", available=now.channels)
        part = mine & (now.scores[:, now.channels.index(edit.marker)] >= edit.at)
    if not part.any() or part.sum() == mine.sum():
        raise InputError(
            f"it leaves one side of metacluster {edit.metacluster} without cells.", got=f"{part.sum()} of {mine.sum()}"
        )
    new = max([*now.names, int(now.metacluster.max())]) + 1
    name = edit.name or now.names.get(edit.metacluster)
    return replace(now, metacluster=np.where(part, new, now.metacluster), names=now.names | ({new: name} if name else {}))


def _rename(now: Grouping, edit: Rename) -> Grouping:
    if edit.metacluster is not None:
        _there(now, edit.metacluster)
        return replace(now, names=now.names | {edit.metacluster: edit.name})
    present = sorted(set(now.cell_type.tolist()))
    if edit.type not in present:
        raise InputError(f"there is no cell type {edit.type!r}.", available=present)
    types = now.types.astype(object).copy()
    types[types == edit.type] = edit.name
    names = {k: edit.name if v == edit.type else v for k, v in now.names.items()}
    by_hand = {k: edit.name if v == edit.type else v for k, v in now.by_hand.items()}
    return replace(now, types=types, names=names, by_hand=by_hand)


def _reassign(now: Grouping, edit: Reassign) -> Grouping:
    if edit.nodes is not None and edit.metacluster is not None:
        _there(now, edit.metacluster)
        _nodes(now, edit.nodes)
        return replace(now, metacluster=np.where(np.isin(now.node, edit.nodes), edit.metacluster, now.metacluster))
    rows = {name: i for i, name in enumerate(now.cells.tolist())}
    asked = edit.cells or []
    if missing := [c for c in asked if c not in rows]:
        raise InputError(
            f"{len(missing)} of {len(asked)} cells are not in the table.", got=listed(missing), available=now.cells[:5]
        )
    return replace(now, by_hand=now.by_hand | {rows[c]: str(edit.name) for c in asked})


def _there(now: Grouping, number: int) -> None:
    present = np.unique(now.metacluster)
    if number not in present:
        raise InputError(f"there is no metacluster {number}.", available=map(str, present.tolist()))


def _nodes(now: Grouping, nodes: Sequence[int], within: int | None = None) -> None:
    present = np.unique(now.node if within is None else now.node[now.metacluster == within])
    if missing := [str(n) for n in nodes if n not in present]:
        where = "" if within is None else f" in metacluster {within}"
        raise InputError(f"there are no cells of node {listed(missing)}{where}.", available=map(str, present.tolist()))
