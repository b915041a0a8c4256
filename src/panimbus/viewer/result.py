"""An opened result: the cell table, its types, and the images and labels of each FOV."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, MatchError, format_list
from panimbus.core.fov import Fov
from panimbus.core.objects import EXCLUDED
from panimbus.core.table import CELL, CELL_TYPE, FOV, NOT_TYPED, OBJECT, SPATIAL, THRESHOLD
from panimbus.core.types import Array, Int32Array
from panimbus.infer.reopen import check_present, recorded_fovs, reopen_fov
from panimbus.io.scores import check_cell_table, read_h5ad
from panimbus.io.segmented import pixel_sizes
from panimbus.phenotype.repeat import is_typed_from, runs_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_log = logging.getLogger(__name__)
CELLS, TYPES = "cells.h5ad", "types.h5ad"
_CHECKED, _FEWEST = 64, 8  # cells of a FOV whose place is compared with its labels
_DENSE = 1 << 25  # label values up to this have a direct table


class RowIndex:
    """Maps the labels of one FOV to rows of the table.

    Parameters
    ----------
    ids : (n,) integer
        Label values, in any order.
    rows : (n,) integer
        Row of each in the table.

    Examples
    --------
    >>> RowIndex(np.array([9, 5]), np.array([0, 1]))(np.array([[0, 5], [9, 7]])).tolist()
    [[-1, 1], [0, -1]]
    """

    def __init__(self, ids: Array, rows: Array) -> None:
        order = np.argsort(ids, kind="stable")
        self._ids = np.asarray(ids, np.int64)[order]
        self._rows = np.asarray(rows, np.int32)[order]
        self._table: Int32Array | None = None
        if len(self._ids) and self._ids[-1] < _DENSE:
            self._table = np.full(int(self._ids[-1]) + 2, -1, np.int32)
            self._table[self._ids] = self._rows

    def __call__(self, labels: Array) -> Int32Array:
        """Row of each pixel's cell, -1 for background and cells that are not in the table."""
        if self._table is not None:
            last = len(self._table) - 1
            return self._table[np.clip(labels, 0, last).astype(np.intp)]
        if not len(self._ids):
            return np.full(labels.shape, -1, np.int32)
        wide = labels.astype(np.int64)
        at = np.minimum(np.searchsorted(self._ids, wide), len(self._ids) - 1)
        return np.where(self._ids[at] == wide, self._rows[at], -1).astype(np.int32)

    def row(self, cell_id: int) -> int:
        """Row of one cell, -1 if it is not in the table."""
        return int(self(np.array([cell_id], np.int64))[0])


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a result as they are at one moment; every part has the same rows.

    Parameters
    ----------
    cells
        ``cells.h5ad``.
    types
        obs of ``types.h5ad`` in the order of ``cells``, or None.
    colours
        Type -> colour as ``#rrggbb``.
    version
        Counts the times the tables were read; part of the addresses of tiles.
    """

    cells: AnnData
    types: pd.DataFrame | None
    colours: Mapping[str, str]
    version: int

    @cached_property
    def fov_of(self) -> npt.NDArray[np.int64]:
        """(n,) position of each row's FOV among the categories of ``fov_id``."""
        return np.asarray(self.cells.obs[FOV].astype("category").cat.codes, np.int64)

    @cached_property
    def fovs(self) -> tuple[str, ...]:
        """FOVs in the table's order."""
        return tuple(map(str, self.cells.obs[FOV].astype(str).drop_duplicates()))

    @cached_property
    def markers(self) -> tuple[str, ...]:
        """Scored channels."""
        return tuple(map(str, self.cells.var_names))

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Marker -> the score from which a cell is positive."""
        values = self.cells.var.get(THRESHOLD)
        given = [0.5] * len(self.markers) if values is None else map(float, values)
        return dict(zip(self.markers, given, strict=True))

    @cached_property
    def _rows(self) -> dict[str, npt.NDArray[np.intp]]:
        column = self.cells.obs[FOV].astype(str)
        return {
            str(k): np.asarray(v) for k, v in column.groupby(column, sort=False).indices.items()
        }

    def rows(self, fov_id: str) -> npt.NDArray[np.intp]:
        """Rows of a FOV."""
        return self._rows.get(fov_id, np.zeros(0, np.intp))

    def cell_ids(self, fov_id: str) -> npt.NDArray[np.int64]:
        """Label values of a FOV's rows."""
        ids: npt.NDArray[np.int64] = self.cells.obs[CELL].to_numpy(np.int64)
        return ids[self.rows(fov_id)]


class Result:
    """A result folder: tables in memory, images and labels opened when they are asked for.

    Parameters
    ----------
    folder
        Output of `panimbus predict` or `merge`.
    types
        Output of `panimbus phenotype run`. Default: ``types_edited`` or ``types`` in the folder, if
        one is there.
    images, labels
        Where the images and label images are now, if they moved.

    Raises
    ------
    ReadError
        If the folder has no table, or images are not where `run.json` says.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        types: str | Path | None = None,
        images: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder)
        if not (self.folder / CELLS).is_file():
            raise InputError(
                f"{self.folder}: there is no {CELLS}.",
                expected="the --out folder of `panimbus predict` or `panimbus merge`",
                fix="pass that folder (with --tables h5ad, which is the default)",
            )
        self.types_folder = self._find_types(None if types is None else Path(types))
        self._lock = threading.Lock()
        self._fovs: dict[str, Fov] = {}
        self._checked: set[str] = set()
        self._indices: dict[tuple[int, str], RowIndex] = {}
        self.tables = self._read(1)
        if images:
            self._open_moved(images, labels)
        else:
            self._recorded = recorded_fovs(self.folder)
            if lost := [f for f in self.tables.fovs if f not in self._recorded]:
                raise MatchError(
                    f"{self.folder}: run.json does not know FOVs of the table.",
                    got=format_list(lost, 5),
                    fix="pass --images and --labels",
                )
            check_present([self._recorded[f] for f in self.tables.fovs])

    @property
    def name(self) -> str:
        """Name of the folder, for titles."""
        return self.folder.resolve().name

    @property
    def fovs(self) -> tuple[str, ...]:
        """FOVs in the table's order."""
        return self.tables.fovs

    @property
    def mpp(self) -> dict[str, float]:
        """FOV -> micrometres per pixel."""
        return pixel_sizes(self.tables.cells)

    def reload(self) -> Tables:
        """Read the tables again after they were rewritten; images stay open."""
        self.tables = self._read(self.tables.version + 1)
        return self.tables

    def show_types(self, typed: AnnData) -> Tables:
        """Show other types of the same cells, which are not written yet."""
        tables = self.tables
        types = _aligned(tables.cells, typed, self.types_folder or self.folder)
        self.tables = Tables(tables.cells, types, _colours(typed), tables.version + 1)
        return self.tables

    @property
    def types_made(self) -> list[Path]:
        """Folders of types that follow a change of the scores: those inside, and the one shown."""
        own = [self.types_folder] if self.types_folder else []
        return list({path.resolve(): path for path in [*runs_of(self.folder), *own]}.values())

    def fov(self, fov_id: str) -> Fov:
        """The image and labels of a FOV; opened at the first call.

        Raises
        ------
        InputError
            If there is no such FOV, or its files cannot be read.
        """
        if fov_id not in self.fovs:
            raise InputError(f"There is no FOV {fov_id!r}.", available=self.fovs)
        with self._lock:
            if fov_id not in self._fovs:
                self._fovs[fov_id] = reopen_fov(self._recorded[fov_id])
            if fov_id not in self._checked:
                self._check_labels(self._fovs[fov_id])
                self._checked.add(fov_id)
            return self._fovs[fov_id]

    def index(self, fov_id: str) -> RowIndex:
        """From label values of a FOV to rows of the table."""
        tables = self.tables
        key = (tables.version, fov_id)
        with self._lock:
            if key not in self._indices:
                self._indices = {k: v for k, v in self._indices.items() if k[0] == key[0]}
                self._indices[key] = RowIndex(tables.cell_ids(fov_id), tables.rows(fov_id))
            return self._indices[key]

    def centre(self, fov_id: str, row: int) -> tuple[float, float] | None:
        """(y, x) of a cell's centroid in pixels of its image, None if the table lacks it."""
        mpp = self.mpp.get(fov_id) or self.fov(fov_id).mpp
        if SPATIAL not in self.tables.cells.obsm or not mpp:
            return None
        x, y = np.asarray(self.tables.cells.obsm[SPATIAL])[row, :2] / mpp
        return float(y), float(x)

    def _check_labels(self, fov: Fov) -> None:
        """Refuse a label image whose cells are not where the table has them."""
        tables, mpp = self.tables, self.mpp.get(fov.fov_id) or fov.mpp
        labels = fov.labels
        if SPATIAL not in tables.cells.obsm or not mpp or labels is None:
            return
        rows = tables.rows(fov.fov_id)
        rows = rows[:: max(1, len(rows) // _CHECKED)]
        x, y = np.asarray(tables.cells.obsm[SPATIAL])[rows, :2].T / mpp
        height, width = labels.shape
        ys, xs = (np.clip(v.astype(int), 0, n - 1) for v, n in ((y, height), (x, width)))
        pixels = [labels[j : j + 1, i : i + 1] for j, i in zip(ys, xs, strict=True)]
        at = np.array([int(np.asarray(pixel)[0, 0]) for pixel in pixels])
        ids = tables.cells.obs[CELL].to_numpy()[rows]
        # the centroid of a bent cell may lie outside of it; of most it does not
        if len(rows) >= _FEWEST and np.mean(at == ids) < 0.5:
            raise MatchError(
                f"FOV {fov.fov_id!r}: the label image is of other cells than the table.",
                expected=f"the labels of {len(rows)} cells at their centroids",
                got=f"those of {int(np.sum(at == ids))}",
                fix="pass the label images on which the cells were scored",
            )

    def _find_types(self, given: Path | None) -> Path | None:
        near = [self.folder / name for name in ("types_edited", "types")]
        chosen = given or next((p for p in near if (p / TYPES).is_file()), None)
        if chosen is not None and not (chosen / TYPES).is_file():
            raise InputError(
                f"--types {chosen}: there is no {TYPES}.",
                expected="the --out folder of `panimbus phenotype run`",
            )
        return chosen

    def _read(self, version: int) -> Tables:
        cells = check_cell_table(read_h5ad(self.folder / CELLS), str(self.folder / CELLS))
        if self.types_folder is None:
            return Tables(cells, None, {}, version)
        typed = read_h5ad(self.types_folder / TYPES)
        if not is_typed_from(typed, cells):
            _log.warning(
                "%s: the types were made from other scores than the result has now;"
                " `panimbus phenotype run` makes them anew",
                self.types_folder,
            )
        return Tables(cells, _aligned(cells, typed, self.types_folder), _colours(typed), version)

    def _open_moved(self, images: Sequence[str], labels: Sequence[str]) -> None:
        from panimbus.io import open_fovs

        opened = {f.fov_id: f for f in open_fovs(list(images), list(labels) or None)}
        wanted = self.tables.fovs
        if len(opened) == len(wanted) == 1:
            opened = {wanted[0]: next(iter(opened.values())).with_(fov_id=wanted[0])}
        if lost := [f for f in wanted if f not in opened]:
            raise MatchError(
                "FOVs of the table are not among the images.",
                got=format_list(lost, 5),
                available=list(opened),
                fix="pass all images of this result to --images",
            )
        self._fovs = {f: opened[f] for f in wanted}


def _aligned(cells: AnnData, typed: AnnData, folder: Path) -> pd.DataFrame:
    """Rows of the type table in the order of the cells."""
    import pandas as pd

    keys = [pd.MultiIndex.from_arrays([t.obs[FOV].astype(str), t.obs[CELL].astype("int64")])
            for t in (cells, typed)]  # fmt: skip
    at = keys[1].get_indexer(keys[0])
    excluded = at < 0
    if OBJECT in cells.obs:
        excluded &= (cells.obs[OBJECT].astype(str) == EXCLUDED).to_numpy()
    else:
        excluded[:] = False
    if lost := int(((at < 0) & ~excluded).sum()):
        raise MatchError(
            f"{folder}: the types are those of other cells.",
            got=f"{lost:,} of {len(at):,} cells have no row in {TYPES}",
            fix="run `panimbus phenotype run` on this cells.h5ad, or pass another --types",
        )
    rows: pd.DataFrame = typed.obs.iloc[np.maximum(at, 0)].copy()
    if excluded.any():
        kinds = rows[CELL_TYPE].astype("category")
        if NOT_TYPED not in kinds.cat.categories:
            kinds = kinds.cat.add_categories([NOT_TYPED])
        rows[CELL_TYPE] = kinds.mask(excluded, NOT_TYPED)
    return rows


def _colours(typed: AnnData) -> dict[str, str]:
    """Colour of each type, as the table stores them, else those of the palette."""
    from panimbus.render.palette import hex_colour, type_colours

    names: Any = typed.obs[CELL_TYPE].astype("category").cat.categories
    stored = [str(c) for c in typed.uns.get(f"{CELL_TYPE}_colors", ())]
    if len(stored) == len(names):
        return dict(zip(map(str, names), stored, strict=True))
    return {name: hex_colour(c) for name, c in type_colours(list(map(str, names))).items()}
