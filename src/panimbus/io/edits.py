"""Files of manual edits to cell types, replayed on the first result.

A file is JSON lines (one edit per line) or TOML (``[[edit]]`` tables). Edits are never deleted:
``undo`` reverts the last one (or number ``edit``), ``redo`` restores the last undone one. Applying
a file again gives the same result. Examples of all edits: docs/howto/cell_types.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io.documents import parse_json, parse_toml, read_text

Number = Annotated[int, Field(ge=0, lt=1 << 31)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]


class _Edit(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    by: str | None = None
    time: str | None = None
    why: str | None = None


class Merge(_Edit):
    """Merge metaclusters into the lowest number, named after the largest that has a name."""

    op: Literal["merge"]
    metaclusters: Annotated[list[Number], Field(min_length=2)]
    name: Name | None = None


class Split(_Edit):
    """Split nodes, or cells positive for a marker, off into a new metacluster.

    Its number is one above the highest.
    """

    op: Literal["split"]
    metacluster: Number
    nodes: Annotated[list[Number], Field(min_length=1)] | None = None
    marker: str | None = None
    at: float | None = Field(default=None, ge=0, le=1)
    name: Name | None = None


class Rename(_Edit):
    """Name a metacluster, or rename a cell type everywhere."""

    op: Literal["rename"]
    metacluster: Number | None = None
    type: str | None = None
    name: Name


class Reassign(_Edit):
    """Move nodes to another metacluster, or give cells (``fov:cell_id``) a type."""

    op: Literal["reassign"]
    nodes: Annotated[list[Number], Field(min_length=1)] | None = None
    metacluster: Number | None = None
    cells: Annotated[list[str], Field(min_length=1)] | None = None
    name: Name | None = None


class Undo(_Edit):
    """Undo the last active edit, or edit number ``edit`` (from 1, undos counted)."""

    op: Literal["undo"]
    edit: int | None = Field(default=None, ge=1)


class Redo(_Edit):
    """Redo the last undone edit."""

    op: Literal["redo"]


_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "string_too": "a name of 1 to 120 letters",
    "string": "text",
    "list": "a list in [ ]",
    "too_short": "longer",
    "greater_than_equal": "a number from 0 on",
    "less_than": "smaller",
}
"""What a field must be, by the prefix of pydantic's error type."""
Edit = Merge | Split | Rename | Reassign | Undo | Redo
_OPS = ("merge", "split", "rename", "reassign", "undo", "redo")
_SHOWN = 12
_ADAPTER: TypeAdapter[Edit] = TypeAdapter(Annotated[Edit, Field(discriminator="op")])


def read_edits(path: str | Path) -> list[Edit]:
    """Read a file of edits (``.toml``, or JSON lines).

    Raises
    ------
    ReadError, InputError
        All edits that cannot be understood, each with its number.
    """
    file = Path(path)
    text = read_text(file, "a file of edits (JSON lines, or TOML)", largest=64 << 20)
    raw = _toml(text, file) if file.suffix.lower() == ".toml" else _lines(text, file)
    out: list[Edit] = []
    problems: list[str] = []
    for number, data in enumerate(raw, 1):
        try:
            edit = _ADAPTER.validate_python(data)
        except ValidationError as error:
            problems += [
                f"edit {number} {_in_words(e, data)}" for e in error.errors(include_url=False)
            ]
            continue
        out.append(edit)
        problems += [f"edit {number}: {p}" for p in _conflicts(edit)]
        if len(problems) >= _SHOWN:
            break
    if problems:
        raise InputError(
            f"{path}: there are edits that cannot be understood.",
            got="\n             ".join(problems[:_SHOWN]),
            available=_OPS,
        )
    return out


def edits_of(data: Sequence[Any]) -> list[Edit]:
    """Edits as a result keeps them: what ``model_dump`` gave for each."""
    return [_ADAPTER.validate_python(one) for one in data]


def _in_words(problem: ErrorDetails, data: Any) -> str:
    """Validation error of an edit in plain words."""
    kind, given = problem["type"], problem["input"]
    shown = repr(given) if len(repr(given)) <= 60 else f"{repr(given)[:60]}..."
    if kind == "union_tag_not_found":
        return "has no op"
    if kind == "union_tag_invalid":
        close = difflib.get_close_matches(str(data.get("op")).casefold(), _OPS, n=1)
        return f"has op {data.get('op')!r}, which there is not" + (
            f" (did you mean {close[0]}?)" if close else ""
        )
    if not problem["loc"]:
        return f"is {shown}, and not an edit with an op"
    op, *place = map(str, problem["loc"])
    name = ".".join(place)
    wanted = next((w for begins, w in _WANTED.items() if kind.startswith(begins)), problem["msg"])
    problems = {"missing": f" needs {name}", "extra_forbidden": f" takes no {name}"}
    return f"({op}){problems.get(kind, f': {name} must be {wanted}, not {shown}')}"


def _conflicts(edit: Edit) -> list[str]:
    """Fields of an edit that exclude each other."""
    if isinstance(edit, Merge) and len(set(edit.metaclusters)) < 2:
        return ["merge takes two or more different metaclusters"]
    if isinstance(edit, Split) and (edit.nodes is None) == (edit.marker is None):
        return ["split takes nodes or a marker, one of them"]
    if isinstance(edit, Rename) and (edit.metacluster is None) == (edit.type is None):
        return ["rename takes a metacluster or a type, one of them"]
    if isinstance(edit, Reassign):
        nodes = (
            edit.nodes is not None
            and edit.metacluster is not None
            and edit.cells is None
            and edit.name is None
        )
        cells = (
            edit.cells is not None
            and edit.name is not None
            and edit.nodes is None
            and edit.metacluster is None
        )
        if not (nodes or cells):
            return ["reassign takes nodes and a metacluster, or cells and a name"]
    return []


def _toml(text: str, path: Path) -> list[Any]:
    data = parse_toml(text, path, "[[edit]] tables")
    if set(data) - {"edit"} or not isinstance(data.get("edit", []), list):
        raise ReadError(
            f"{path}: the file has other things than edits.",
            expected="[[edit]] tables",
            got=format_list(sorted(data)),
        )
    return list(data.get("edit", []))


def _lines(text: str, path: Path) -> list[Any]:
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        out.append(parse_json(line, f"{path}, line {number}", "an edit a line"))
    return out


def active_edits(edits: Sequence[Edit]) -> list[int]:
    """Positions (from 0) of the edits that are active after all undos and redos.

    Examples
    --------
    >>> edits = [Rename(op="rename", metacluster=k, name="x") for k in (1, 2)]
    >>> active_edits([*edits, Undo(op="undo")]), active_edits([*edits, Undo(op="undo", edit=1)])
    ([0], [1])
    """
    applied: list[int] = []
    undone: list[int] = []
    for i, edit in enumerate(edits):
        if isinstance(edit, Undo):
            at = applied[-1] if edit.edit is None and applied else (edit.edit or 0) - 1
            if at not in applied:
                target = (
                    "what is not there"
                    if edit.edit is None
                    else f"edit {edit.edit}, which does not stand"
                )
                raise InputError(
                    f"Edit {i + 1} undoes {target}.", available=[str(d + 1) for d in applied]
                )
            applied.remove(at)
            undone.append(at)
        elif isinstance(edit, Redo):
            if not undone:
                raise InputError(f"Edit {i + 1} is a redo, but nothing is undone.")
            applied = sorted([*applied, undone.pop()])
        else:
            applied.append(i)
            undone.clear()
    return applied
