"""Edits of cell types made one by one, with undo and redo, and kept in a file."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.table import PHENOTYPE
from panimbus.core.types import Array
from panimbus.io.append import locked
from panimbus.io.edits import (
    Edit,
    EditConflictError,
    Origin,
    Redo,
    Undo,
    active_edits,
    append_edits,
    describe_edit,
    make_edit,
    read_edits,
)
from panimbus.phenotype.adjust import first_grouping, order_types, table_edits, write_grouping
from panimbus.phenotype.corrections import corrections
from panimbus.phenotype.edits import Grouping, apply_edit, check_origin

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_KEPT = 20  # states in memory, besides the first; earlier ones are computed again
_State = tuple[tuple[int, ...], Grouping]  # edits that stand, by position, and what they make


class Note(TypedDict, total=False):
    """What may be kept with an edit: who made it, and why."""

    by: str | None
    why: str | None


class EditSession:
    """Edit the types of a table, see the result at once, undo and redo.

    Every state is what `panimbus phenotype apply` makes of the edits so far. With a path, every
    edit is in the file before its method returns, and edits that others wrote into the file
    meanwhile are taken in first, so that none is lost.

    Parameters
    ----------
    table
        Table that `panimbus.assign_types` or `panimbus phenotype run` made; it is not changed.
    path
        File of edits, JSON lines; its edits are applied first. If there is no such file, the
        session goes on from the edits that the table has had, and the first edit makes it. None
        begins without any edit and keeps them in memory (`save` writes them).
    by
        Who edits; kept with each edit.

    Raises
    ------
    InputError, ReadError
        If the table has no types, or the file's edits cannot be applied to it.

    Examples
    --------
    >>> import anndata, numpy, pandas, panimbus
    >>> cells = pandas.DataFrame({"fov_id": ["a"] * 4, "cell_id": [1, 2, 3, 4]})
    >>> markers = pandas.DataFrame(index=["CD3", "CD20"])
    >>> scores = numpy.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.2, 0.8]], "float32")
    >>> cells.index = cells.index.astype(str)
    >>> table = panimbus.assign_types(anndata.AnnData(scores, cells, markers))
    >>> session = panimbus.EditSession(table)
    >>> session.rename("B cell", "plasma cell")
    >>> session.correct(["a:1"], "NK cell")
    >>> session.cell_type.tolist()
    ['NK cell', 'plasma cell', 'T cell', 'plasma cell']
    >>> session.undo()
    >>> session.cell_type.tolist()
    ['T cell', 'plasma cell', 'T cell', 'plasma cell']
    """

    def __init__(
        self, table: AnnData, path: str | Path | None = None, *, by: str | None = None
    ) -> None:
        self.path = None if path is None else Path(path)
        self.by = by
        self._table = table
        self._lock = threading.RLock()
        self._edits: list[Edit] = []
        self._states: list[_State] = [((), first_grouping(table))]
        self._cell_type: Array | None = None
        if self.path is not None:
            self._take_in(_read(self.path) if self.path.exists() else table_edits(table))

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits, undone ones and undos included."""
        return tuple(self._edits)

    @property
    def active(self) -> list[int]:
        """Positions (from 0) of the edits that stand."""
        return active_edits(self._edits)

    @property
    def can_undo(self) -> bool:
        """Whether an edit stands."""
        return bool(self.active)

    @property
    def can_redo(self) -> bool:
        """Whether the last step was an undo."""
        try:
            active_edits([*self._edits, Redo(op="redo")])
        except InputError:
            return False
        return True

    @property
    def grouping(self) -> Grouping:
        """State after the edits."""
        return self._states[-1][1]

    @property
    def cell_type(self) -> Array:
        """(n,) object: type of each cell."""
        with self._lock:
            if self._cell_type is None:
                self._cell_type = self.grouping.cell_type
            return self._cell_type

    @property
    def metacluster(self) -> Array:
        """(n,) int64: metacluster of each cell."""
        return self.grouping.metacluster

    @property
    def types(self) -> list[str]:
        """Types that cells have, in the order of the table of types."""
        rules = [str(t) for t in self._table.uns[PHENOTYPE]["types"]]
        return order_types(set(self.cell_type.tolist()), rules)

    def merge(
        self, metaclusters: Sequence[int], *, name: str | None = None, **about: Unpack[Note]
    ) -> None:
        """Merge metaclusters into the lowest number."""
        self.do(make_edit(op="merge", metaclusters=_whole(metaclusters), name=name, **about))

    def split(
        self,
        metacluster: int,
        *,
        marker: str | None = None,
        at: float | None = None,
        nodes: Sequence[int] | None = None,
        name: str | None = None,
        **about: Unpack[Note],
    ) -> None:
        """Split the cells positive for a marker, or nodes, off into a new metacluster."""
        self.do(
            make_edit(
                op="split",
                metacluster=int(metacluster),
                marker=marker,
                at=at,
                nodes=None if nodes is None else _whole(nodes),
                name=name,
                **about,
            )
        )

    def rename(self, cell_type: str, name: str, **about: Unpack[Note]) -> None:
        """Rename a type everywhere; types of one name are one type."""
        self.do(make_edit(op="rename", type=cell_type, name=name, **about))

    def reassign(self, metacluster: int, name: str, **about: Unpack[Note]) -> None:
        """Give all cells of a metacluster a type."""
        self.do(make_edit(op="rename", metacluster=int(metacluster), name=name, **about))

    def move(self, nodes: Sequence[int], metacluster: int, **about: Unpack[Note]) -> None:
        """Move nodes of the map to another metacluster."""
        self.do(
            make_edit(op="reassign", nodes=_whole(nodes), metacluster=int(metacluster), **about)
        )

    def correct(self, cells: Sequence[str], name: str, **about: Unpack[Note]) -> None:
        """Annotate the type of single cells (``fov:cell_id``); the annotation replaces theirs."""
        self.do(make_edit(op="reassign", cells=[str(c) for c in cells], name=name, **about))

    def undo(self, *, seen: int | None = None, **about: Unpack[Note]) -> None:
        """Take the last edit that stands back; ``seen`` as in `do`."""
        self.do(make_edit(op="undo", **about), seen=seen)

    def redo(self, *, seen: int | None = None, **about: Unpack[Note]) -> None:
        """Restore the last edit that was undone; ``seen`` as in `do`."""
        self.do(make_edit(op="redo", **about), seen=seen)

    def do(self, edit: Edit, *, seen: int | None = None) -> None:
        """Apply an edit and, where the session has a file, write it.

        Parameters
        ----------
        edit
            Who made it and when are added where they are missing.
        seen
            Number of `edits` that the person saw; None for all of the session. If others have
            made some since, an undo or redo is refused, because it would hit theirs.

        Raises
        ------
        InputError
            If the edit cannot be applied; session and file stay as they are.
        EditConflictError
            If an undo or redo would hit an edit that the person has not seen.
        """
        stamp = {
            "by": edit.by or self.by,
            "time": edit.time or datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self._lock:
            seen = len(self._edits) if seen is None else seen
            while not self._append(edit.model_copy(update=stamp), seen):
                pass  # somebody else was faster: their edits are taken in first

    def refresh(self) -> list[Edit]:
        """Take in the edits that others wrote into the file; returns them."""
        with self._lock:
            if self.path is None or not self.path.exists():
                return []
            edits = _read(self.path)
            before = len(self._edits)
            if edits[:before] != self._edits:
                raise EditConflictError(
                    f"{self.path}: edits of this session are not in the file any more.",
                    expected="a file to which lines are only added",
                    fix="save the session to another file",
                )
            if len(edits) > before:
                self._take_in(edits)
            return edits[before:]

    def save(self, path: str | Path) -> None:
        """Write the edits to a file that ``panimbus phenotype apply`` replays.

        Raises
        ------
        EditConflictError
            If the file exists and does not begin like this session; it is not changed.
        """
        append_edits(path, self._edits)

    def table(self) -> AnnData:
        """A copy of the table with the types after the edits, as ``phenotype apply`` writes it."""
        with self._lock:
            return write_grouping(self._table.copy(), self.grouping, self._edits)

    def corrections(self) -> pd.DataFrame:
        """Types that people gave single cells, beside those of the result.

        See `panimbus.phenotype.corrections.corrections`.
        """
        with self._lock:
            return corrections(self.grouping, [self._edits[i] for i in self.active])

    def _append(self, edit: Edit, seen: int) -> bool:
        """Apply an edit and write it; False if the file has got other edits meanwhile."""
        self.refresh()
        if isinstance(edit, Undo | Redo) and len(self._edits) != seen:
            raise EditConflictError(
                f"Others have edited meanwhile: nothing was changed by the {edit.op}.",
                got="; ".join(describe_edit(e) for e in self._edits[seen:][-5:]),
                fix=f"look at the result, and {edit.op} again",
            )
        start = self._states[0][1]
        first = [] if self._edits else [Origin(op="origin", clusters=start.fingerprint)]
        edits = [*self._edits, *first, edit]
        states = self._replayed(edits)
        if self.path is not None:
            try:
                append_edits(self.path, edits)
            except EditConflictError:
                return False
        self._edits, self._states, self._cell_type = edits, states, None
        return True

    def _take_in(self, edits: list[Edit]) -> None:
        self._states = self._replayed(edits)
        self._edits, self._cell_type = edits, None

    def _replayed(self, edits: Sequence[Edit]) -> list[_State]:
        """The first state, and those after the last edits that stand.

        Only edits after the longest state that is kept are applied.
        """
        check_origin(self._states[0][1], edits)
        active = tuple(active_edits(edits))
        states = [s for s in self._states if active[: len(s[0])] == s[0]]
        for i in active[len(states[-1][0]) :]:
            states.append(((*states[-1][0], i), apply_edit(states[-1][1], edits[i], i)))
        return [states[0], *states[1:][-_KEPT:]]


def _read(path: Path) -> list[Edit]:
    """Read a file of edits while nobody writes a line of it."""
    with locked(path, write=False):
        return read_edits(path)


def _whole(numbers: Sequence[int]) -> list[int]:
    return [int(n) for n in np.asarray(numbers).ravel()]
