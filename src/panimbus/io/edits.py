"""Adjustments by hand: a small file of edits, replayed on the first result, each of which can be undone.

A file is JSON lines (one edit a line; a page or a script appends to it) or TOML (``[[edit]]`` tables). An edit is never taken out
of the file: ``undo`` takes the last one back (or number ``edit``), ``redo`` brings back what was last undone. The same file on
the same run gives the same result however often it is applied. Examples of all edits: docs/phenotype.md.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from panimbus.core.errors import InputError, ReadError, listed

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]


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
    at: float | None = Field(default=None, ge=0, le=1)
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
    except IsADirectoryError:
        raise ReadError(f"{path}: this is a folder, not a file of edits.") from None
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
    if isinstance(edit, Merge) and len(set(edit.metaclusters)) < 2:
        return ["merge takes two or more different metaclusters"]
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
