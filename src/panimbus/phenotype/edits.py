"""Edits of cell types, replayed on the first result of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from panimbus.core.errors import InputError, format_list
from panimbus.core.table import NOT_TYPED
from panimbus.core.types import Array
from panimbus.io.edits import Edit, Merge, Origin, Reassign, Rename, Split, active_edits


@dataclass(frozen=True, eq=False)
class Grouping:
    """State that edits act on.

    N cells with their names, SOM nodes, metaclusters and scores (n, C) of C channels with
    thresholds.

    ``names`` gives metaclusters a type, ``types`` (n,) those of cells whose metacluster has no
    name, ``by_hand`` those of single rows. ``rows``, cell name to row, is made of ``cells``.
    """

    cells: Array
    node: Array
    metacluster: Array
    names: dict[int, str]
    types: Array
    scores: Array
    channels: tuple[str, ...]
    thresholds: tuple[float, ...]
    by_hand: dict[int, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.rows:
            self.rows.update((str(name), i) for i, name in enumerate(self.cells.tolist()))

    @property
    def cell_type(self) -> Array:
        """(n,) object.

        The cell's own type if given by hand, else its metacluster's, else ``types``.
        """
        out = self.types.astype(object).copy()
        for number, name in self.names.items():
            out[self.metacluster == number] = name
        # has no type, whatever its metacluster is called
        out[self.types == NOT_TYPED] = NOT_TYPED
        for row, name in self.by_hand.items():
            out[row] = name
        return out

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the cells and their clusters: whether edits belong to this result."""
        digest = hashlib.blake2b("\n".join(map(str, self.cells)).encode(), digest_size=8)
        digest.update(np.asarray(self.node, np.int64).tobytes())
        digest.update(np.asarray(self.metacluster, np.int64).tobytes())
        return digest.hexdigest()


def apply_edits(start: Grouping, edits: Sequence[Edit]) -> Grouping:
    """Replay the edits that stand on the first result.

    Raises
    ------
    InputError
        On an edit that names something missing; the message has its number and what there is.
    """
    check_origin(start, edits)
    now = start
    for i in active_edits(edits):
        now = apply_edit(now, edits[i], i)
    return now


def check_origin(start: Grouping, edits: Sequence[Edit]) -> None:
    """Refuse edits that say that they were made on other clusters."""
    origins = {e.clusters for e in edits if isinstance(e, Origin)}
    if origins and origins != {start.fingerprint}:
        raise InputError(
            "The edits were made on other clusters of these cells, or on other cells.",
            expected="edits of this result",
            got="an origin that differs",
            fix="edit anew in a new file; or, if they fit, remove the lines with origin",
        )


def apply_edit(now: Grouping, edit: Edit, position: int) -> Grouping:
    """Apply one edit; ``position`` (from 0) is for the message of an error."""
    try:
        return _apply(now, edit)
    except InputError as error:
        raise InputError(f"Edit {position + 1} ({edit.op}) cannot be applied: {error}") from None


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
        _require_metacluster(now, number)
    into = min(edit.metaclusters)
    size = {k: int((now.metacluster == k).sum()) for k in sorted(set(edit.metaclusters))}
    named = [k for k in size if k in now.names]
    name = edit.name or (now.names[max(named, key=lambda k: size[k])] if named else None)
    names = {k: v for k, v in now.names.items() if k not in size} | ({into: name} if name else {})
    return replace(
        now,
        metacluster=np.where(np.isin(now.metacluster, list(size)), into, now.metacluster),
        names=names,
    )


def _split(now: Grouping, edit: Split) -> Grouping:
    _require_metacluster(now, edit.metacluster)
    inside = now.metacluster == edit.metacluster
    if edit.nodes is not None:
        _require_nodes(now, edit.nodes, within=edit.metacluster)
        part = inside & np.isin(now.node, edit.nodes)
    else:
        if edit.marker not in now.channels:
            raise InputError(f"there is no marker {edit.marker!r}.", available=now.channels)
        column = now.channels.index(edit.marker)
        part = inside & (
            now.scores[:, column] >= (now.thresholds[column] if edit.at is None else edit.at)
        )
    if not part.any() or part.sum() == inside.sum():
        raise InputError(
            f"it leaves one side of metacluster {edit.metacluster} without cells.",
            got=f"{part.sum()} of {inside.sum()}",
        )
    new = max([*now.names, int(now.metacluster.max())]) + 1
    name = edit.name or now.names.get(edit.metacluster)
    return replace(
        now,
        metacluster=np.where(part, new, now.metacluster),
        names=now.names | ({new: name} if name else {}),
    )


def _rename(now: Grouping, edit: Rename) -> Grouping:
    if edit.metacluster is not None:
        _require_metacluster(now, edit.metacluster)
        return replace(now, names=now.names | {edit.metacluster: edit.name})
    present = sorted({*now.cell_type.tolist()} - {NOT_TYPED})
    if edit.type not in present:
        raise InputError(f"there is no cell type {edit.type!r}.", available=present)
    types = now.types.astype(object).copy()
    types[types == edit.type] = edit.name
    names = {k: edit.name if v == edit.type else v for k, v in now.names.items()}
    by_hand = {k: edit.name if v == edit.type else v for k, v in now.by_hand.items()}
    return replace(now, types=types, names=names, by_hand=by_hand)


def _reassign(now: Grouping, edit: Reassign) -> Grouping:
    if edit.nodes is not None and edit.metacluster is not None:
        _require_metacluster(now, edit.metacluster)
        _require_nodes(now, edit.nodes)
        return replace(
            now,
            metacluster=np.where(np.isin(now.node, edit.nodes), edit.metacluster, now.metacluster),
        )
    asked = edit.cells or []
    if missing := [c for c in asked if c not in now.rows]:
        raise InputError(
            f"{len(missing)} of {len(asked)} cells are not in the table.",
            got=format_list(missing),
            available=now.cells[:5],
        )
    return replace(now, by_hand=now.by_hand | {now.rows[c]: str(edit.name) for c in asked})


def _require_metacluster(now: Grouping, number: int) -> None:
    present = np.unique(now.metacluster)
    if number not in present:
        raise InputError(f"there is no metacluster {number}.", available=map(str, present.tolist()))


def _require_nodes(now: Grouping, nodes: Sequence[int], within: int | None = None) -> None:
    present = np.unique(now.node if within is None else now.node[now.metacluster == within])
    if missing := [str(n) for n in nodes if n not in present]:
        where = "" if within is None else f" in metacluster {within}"
        raise InputError(
            f"there are no cells of node {format_list(missing)}{where}.",
            available=map(str, present.tolist()),
        )
