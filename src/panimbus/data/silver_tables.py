"""The tables that a dataset's silver labels come from: cells, labels, assignment, thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus.core.errors import ChannelError, InputError, format_list
from panimbus.core.fov import Fov
from panimbus.core.naming import as_spelled
from panimbus.data.dataset import CellTable, DatasetFile
from panimbus.data.source import ScannedDataset
from panimbus.data.tables import AssignmentMatrix, read_matrix, read_tables, read_thresholds
from panimbus.io.bad_rows import BadRows
from panimbus.io.silver import long_labels
from panimbus.io.tables import Column


@dataclass(frozen=True, eq=False)
class LabelRule:
    """A silver rule with its tables read.

    Parameters
    ----------
    markers
        That it labels, spelled as the images' channels.
    matrix, thresholds, labels
        One of them, or none for gates.
    """

    markers: tuple[str, ...]
    matrix: AssignmentMatrix | None = None
    thresholds: Mapping[str, tuple[float, float]] | None = None
    labels: pd.DataFrame | None = None


class SilverTables:
    """Reads the tables of a dataset file.

    Parameters
    ----------
    file
    folder, base
        Of the file, and of the dataset.
    fovs
        With label images.

    Attributes
    ----------
    bad
        Counts the rows that are left out; None if bad rows are an error.
    """

    def __init__(self, file: DatasetFile, folder: Path, base: Path, fovs: Sequence[Fov]) -> None:
        self.file, self.folder, self.base = file, folder, base
        self.fov_ids, self.channels = [f.fov_id for f in fovs], fovs[0].channels
        self.bad = BadRows() if file.bad_rows == "leave out" else None
        self._notes: list[str] = []

    def notes(self) -> tuple[str, ...]:
        """What was left out or read as something else, for the user."""
        return (*self._notes, *(self.bad.notes() if self.bad is not None else ()))

    def cells(self) -> pd.DataFrame | None:
        """The table of cells: fov, cell_id and, if asked for, type and patient."""
        given = self.file.cells
        if given is None:
            return None
        optional = {
            k: c for k, c in (("type", given.type), ("patient", given.patient)) if c is not None
        }
        texts = [Column(c) for c in dict.fromkeys(optional.values())]
        frame = read_tables(
            given.table, self.base, [self._fov(given), self._cell(given), *texts], others=False
        )
        frame = self._one_fov(frame, given)
        out = frame[[given.fov, given.cell]].set_axis(["fov", "cell_id"], axis=1)
        out = out.assign(**{name: frame[column] for name, column in optional.items()})
        return self._good(out, ["fov", "cell_id"], "cells")

    def rule(self, table: pd.DataFrame | None) -> LabelRule:
        """Read what the silver rule needs.

        Parameters
        ----------
        table
            What `cells` gave.
        """
        silver = self.file.silver
        if silver.assignment is not None and table is not None:
            matrix = self._matrix(silver.assignment, table)
            rule = LabelRule(matrix.markers, matrix=matrix)
        elif silver.thresholds is not None:
            thresholds = read_thresholds(silver.thresholds, self.folder)
            rule = LabelRule(tuple(thresholds), thresholds=thresholds)
        elif silver.labels is not None:
            labels = self._labels()
            named = set(labels["channel"])
            rule = LabelRule(tuple(c for c in self.channels if c in named), labels=labels)
        else:
            gated = silver.gates.markers if silver.gates is not None else None
            rule = LabelRule(tuple(self.channels if gated is None else gated))
        rule = self._only_wanted(rule)
        unknown = [m for m in silver.exclude if m not in rule.markers and m not in self.channels]
        if unknown:
            raise ChannelError(
                f"Dataset {self.file.name!r} excludes markers that it does not have.",
                got=format_list(unknown),
                available=self.channels,
            )
        return rule

    def there(
        self, scanned: ScannedDataset, table: pd.DataFrame | None, rule: LabelRule
    ) -> tuple[pd.DataFrame | None, LabelRule]:
        """The tables without rows of cells that do not exist, if such rows may be left out."""
        if self.bad is None:
            return table, rule
        ids = {one.fov.fov_id: one.cell_id for one in scanned.fovs}
        if table is not None:
            table = self.bad.rows_there(table, ids, "cells")
        if rule.labels is not None:
            rule = replace(rule, labels=self.bad.rows_there(rule.labels, ids, "labels"))
        return table, rule

    def _fov(self, given: CellTable) -> Column:
        """The column of the FOV, which a table of one FOV need not have."""
        return Column(given.fov, required=len(self.fov_ids) > 1)

    def _cell(self, given: CellTable) -> Column:
        return Column(given.cell, "id" if self.bad is None else "text")

    def _one_fov(self, frame: pd.DataFrame, given: CellTable) -> pd.DataFrame:
        if given.fov not in frame and len(self.fov_ids) == 1:
            return frame.assign(**{given.fov: self.fov_ids[0]})
        return frame

    def _good(self, frame: pd.DataFrame, keys: list[str], table: str) -> pd.DataFrame:
        """The rows with an id, of known FOVs, once; all of them if bad rows are an error."""
        if self.bad is None:
            return frame
        frame = self.bad.whole_ids(frame, "cell_id", table)
        if self.file.fovs is None:
            frame = self.bad.known_fovs(frame, self.fov_ids, table)
        return self.bad.once(frame, keys, table)

    def _place(self, name: str) -> Path:
        """A rule's table, beside the dataset file or in the dataset's folder."""
        return self.folder / name if (self.folder / name).is_file() else self.base / name

    def _matrix(self, name: str, table: pd.DataFrame) -> AssignmentMatrix:
        path = self._place(name)
        if not path.is_file():
            path = self.folder / name
        matrix = read_matrix(path, self.file.silver.undecided)
        named = sorted(set(table["type"]) - {""})
        types, markers = (
            as_spelled(matrix.types, named),
            as_spelled(matrix.markers, self.channels),
        )
        unknown = [t for t in types if t not in named]
        if unknown and self.bad is None:
            raise InputError(
                f"{path}: the assignment matrix names cell types that no cell has.",
                got=format_list(unknown),
                available=named,
                fix="correct the spelling, or omit these rows",
            )
        if unknown:
            self._notes.append(f"no cell has these types of the matrix: {format_list(unknown)}")
        return AssignmentMatrix(tuple(types), tuple(markers), matrix.values)

    def _labels(self) -> pd.DataFrame:
        silver, given = self.file.silver, self.file.cells or CellTable(table="-")
        columns = [self._fov(given), self._cell(given), Column("channel", required=False)]
        wide = list(dict.fromkeys((silver.columns or {}).values()))
        frame = read_tables(
            silver.labels or [],
            self.base,
            [*columns, *(Column(c) for c in wide)],
            others=silver.columns is None,
        )
        frame = self._one_fov(frame, given)
        names = {given.fov: "fov", given.cell: "cell_id"}
        frame = frame.drop(columns={"fov", "cell_id"} - set(names), errors="ignore")
        frame = self._decided(frame.rename(columns=names))
        labels = long_labels(frame, silver.labels, silver.columns)
        labels["channel"] = labels["channel"].map(
            dict(zip(u := labels["channel"].unique(), as_spelled(u, self.channels), strict=True))
        )
        if unknown := sorted(set(labels["channel"]) - set(self.channels)):
            raise ChannelError(
                f"Dataset {self.file.name!r} has labels of channels that it does not have.",
                got=format_list(unknown),
                available=self.channels,
            )
        return labels

    def _decided(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Labels without undecided ones, and without bad rows if those may be left out."""
        long = {"channel", "label"} <= set(frame.columns)
        columns = [
            c
            for c in (["label"] if long else frame.columns)
            if c not in {"fov", "cell_id", "dataset", "channel"}
        ]
        if undecided := list(self.file.silver.undecided):
            frame = frame.assign(
                **{
                    c: frame[c].mask(pd.to_numeric(frame[c], errors="coerce").isin(undecided))
                    for c in columns
                }
            )
        if self.bad is None:
            return frame
        frame = self.bad.label_values(frame, columns, "labels")
        return self._good(frame, ["fov", "cell_id", *(["channel"] if long else [])], "labels")

    def _only_wanted(self, rule: LabelRule) -> LabelRule:
        """The rule for the markers of the dataset file alone."""
        if self.file.silver.markers is None:
            return rule
        wanted = as_spelled(self.file.silver.markers, rule.markers)
        if unknown := [m for m in wanted if m not in rule.markers]:
            raise ChannelError(
                f"Dataset {self.file.name!r}: markers are wanted that its labels do not have.",
                got=format_list(unknown),
                available=rule.markers,
            )
        keep = [m for m in rule.markers if m in wanted]
        matrix = rule.matrix
        if matrix is not None:
            columns = [matrix.markers.index(m) for m in keep]
            values = np.ascontiguousarray(matrix.values[:, columns])
            matrix = AssignmentMatrix(matrix.types, tuple(keep), values)
        return replace(rule, markers=tuple(keep), matrix=matrix)
