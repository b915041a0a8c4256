"""Files of manual edits to cell types, replayed on the first result.

A file is JSON lines (one edit per line) or TOML (``[[edit]]`` tables). Edits are never deleted:
``undo`` reverts the last one (or number ``edit``), ``redo`` restores the last undone one. Applying
a file again gives the same result. Examples of all edits: docs/howto/cell_types.md. A file that
`append_edits` begins says first which clusters its edits belong to (``origin``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io.append import append_line, locked
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


class Origin(_Edit):
    """Say which result the edits belong to; changes nothing and cannot be undone.

    ``clusters`` is `panimbus.phenotype.edits.Grouping.fingerprint` of the first result.
    """

    op: Literal["origin"]
    clusters: Annotated[str, StringConstraints(min_length=1, max_length=120)]


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
Edit = Merge | Split | Rename | Reassign | Undo | Redo | Origin
_OPS = ("merge", "split", "rename", "reassign", "undo", "redo")
_SHOWN = 12
_ADAPTER: TypeAdapter[Edit] = TypeAdapter(Annotated[Edit, Field(discriminator="op")])


def read_edits(path: str | Path) -> list[Edit]:
    r"""Read a file of edits (``.toml``, or JSON lines).

    Parameters
    ----------
    path
        File that a person, the viewer or `panimbus.EditSession` wrote.

    Returns
    -------
    list
        Edits in their order, undos and what they undo included.

    Raises
    ------
    ReadError, InputError
        All edits that cannot be understood, each with its number.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "edits.jsonl"
    ...     _ = path.write_text('{"op": "rename", "type": "fibroblast", "name": "stromal cell"}\n')
    ...     [describe_edit(edit) for edit in read_edits(path)]
    ['rename fibroblast as stromal cell']
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


def make_edit(**fields: Any) -> Edit:
    """One edit of its fields; those that are None count as absent.

    Raises
    ------
    InputError
        If it cannot be understood.

    Examples
    --------
    >>> describe_edit(make_edit(op="rename", metacluster=3, name="B cell"))
    'rename 3 as B cell'
    """
    try:
        edit = _ADAPTER.validate_python(fields)
        problems = _conflicts(edit)
    except ValidationError as error:
        problems = [_in_words(e, fields) for e in error.errors(include_url=False)]
    if problems:
        raise InputError("The edit cannot be understood.", got="; ".join(problems))
    return edit


def append_edits(path: str | Path, edits: Sequence[Edit]) -> None:
    """Extend a file of edits, JSON lines, so that it holds these; others may do so at once.

    Parameters
    ----------
    path
        New, or a file that holds the first of ``edits``. Nothing in it is ever changed.
    edits
        All edits, those of the file included.

    Raises
    ------
    EditConflictError
        If the file holds edits that are not among these; it is not changed.
    ReadError, InputError
        If what the file holds cannot be understood, or it is not JSON lines.
    """
    file = Path(path)
    if file.suffix.lower() == ".toml":
        raise InputError(
            f"{path}: edits are written as JSON lines.", fix="give the file another ending: .jsonl"
        )
    with locked(file, write=True) as handle:
        before = read_edits(file)
        if before != list(edits[: len(before)]):
            raise EditConflictError(
                f"{path}: the file has edits that were made elsewhere; nothing was written.",
                got=format_list([describe_edit(e) for e in before if e not in edits], 5),
                fix="take them in first (refresh), or write to another file",
            )
        for edit in edits[len(before) :]:
            append_line(handle, edit.model_dump_json(exclude_none=True))


class EditConflictError(InputError):
    """Edits that somebody else wrote into the same file meanwhile."""


def describe_edit(edit: Edit) -> str:
    """An edit in a few words.

    Examples
    --------
    >>> describe_edit(Merge(op="merge", metaclusters=[3, 7], name="B cell", by="Ada"))
    'merge 3, 7 as B cell (Ada)'
    """
    data = edit.model_dump(exclude_none=True)
    parts = [str(data.pop("op"))]
    by = data.pop("by", None)
    name = data.pop("name", None)
    for key in ("metaclusters", "metacluster", "type", "marker", "nodes", "cells", "edit"):
        if key in data:
            value = data[key]
            text = format_list([str(v) for v in value], 5) if isinstance(value, list) else value
            parts.append(f"node {text}" if key == "nodes" else str(text))
    return " ".join(parts) + (f" as {name}" if name else "") + (f" ({by})" if by else "")


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
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):  # a name may hold U+2028
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
        if isinstance(edit, Origin):
            continue
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
