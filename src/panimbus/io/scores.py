"""Readers of cell tables with scores: AnnData files and tables of text."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.errors import ChannelError, InputError, ReadError, format_list
from panimbus.core.guard import guarded
from panimbus.core.markers import canonical
from panimbus.core.scale import ChannelScale
from panimbus.core.table import (
    AREA,
    CELL,
    CSV_FOV,
    CSV_LABEL,
    CSV_X,
    CSV_Y,
    FOV,
    PROVENANCE,
    SPATIAL,
)
from panimbus.io.documents import check_regular, parse_json
from panimbus.io.numbers import cell_ids, is_numeric, to_numbers, whole_numbers
from panimbus.io.tables import Column, cell_column, fov_column, is_alias, read_table

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_ITEMS, _DEEPEST = 100_000, 30
logger = logging.getLogger(__name__)
_EXPECTED = "cells.h5ad of `panimbus predict`, or a table of scores (CSV, TSV or Parquet)"
_COLUMNS = (
    fov_column(CSV_FOV),
    cell_column(CSV_LABEL),
    Column(
        AREA,
        "number",
        ("area µm^2", "area µm²", "cell: area µm^2", "cell: area µm²"),
        required=False,
    ),
    Column(CSV_X, "number", ("centroid x µm",), required=False),
    Column(CSV_Y, "number", ("centroid y µm",), required=False),
)
_TEXTS = ("object id", "object type", "classification", "class", "parent", "roi")
"""Text columns in exports of QuPath, never markers."""


def read_h5ad(
    path: str | Path, expected: str = "cells.h5ad of `panimbus predict`, or another AnnData file"
) -> AnnData:
    """Read an AnnData file.

    Nothing outside the file is followed, nothing is unpickled, and what would not fit into memory
    is refused first.

    Parameters
    ----------
    path
    expected
        What the file should be, for messages.

    Raises
    ------
    ReadError
        If it is missing, another kind of file, damaged, or too large.
    """
    path = Path(path)
    check_regular(path, expected)
    with guarded(
        path, "the table cannot be read.", fix="copy it again, or write it anew with anndata"
    ):
        with path.open("rb") as file:
            begins = file.read(len(_SIGNATURE))
        if begins != _SIGNATURE:
            raise ReadError(
                f"{path}: the table cannot be read.",
                expected=expected,
                got="a file that is not HDF5",
            )
        import anndata
        import h5py

        with h5py.File(path, "r") as opened:
            _check_hdf5(path, opened, expected)
        return anndata.read_h5ad(path)


def _check_hdf5(path: Path, file: Any, expected: str) -> None:
    """Refuse external links, endless trees, and arrays larger than memory."""
    import h5py

    if "X" not in file and "obs" not in file:
        raise ReadError(
            f"{path}: this HDF5 file is no AnnData file.",
            expected=expected,
            got=f"{', '.join(list(file)[:8])}",
        )
    level, items, size = [file], 0, 0
    for _ in range(_DEEPEST):
        below = []
        for group in level:
            for name in group:
                items += 1
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise ReadError(
                        f"{path}: it links to what lies elsewhere.", got=f"{group.name}/{name}"
                    )
                item = group[name]
                if isinstance(item, h5py.Group):
                    below.append(item)
                elif isinstance(item, h5py.Dataset):
                    size += item.size * item.dtype.itemsize if item.shape is not None else 0
                    if item.external or item.is_virtual:
                        raise ReadError(f"{path}: its values lie in other files.", got=item.name)
            if items > _MOST_ITEMS:
                raise ReadError(
                    f"{path}: it holds more than {_MOST_ITEMS:,} arrays and groups.",
                    expected=expected,
                )
        if not below:
            break
        level = below
    else:
        raise ReadError(
            f"{path}: its groups are nested more than {_DEEPEST} deep.", expected=expected
        )
    if size > _memory_bytes():
        raise ReadError(
            f"{path}: it needs more memory than there is.", got=f"{size / 2**30:,.0f} GB of values"
        )


def _memory_bytes() -> int:
    """Memory of this machine in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system says so
        return 1 << 40


def read_scores(
    path: str | Path, markers: Sequence[str] | None = None, *, needed: Collection[str] = ()
) -> AnnData:
    r"""Read a table of scores and check its cells.

    Parameters
    ----------
    path
        ``.h5ad`` (obs ``fov_id`` and ``cell_id``), or a table (see `panimbus.io.tables`) with
        columns ``fov`` and ``label`` under any of their usual names, a column a marker, and perhaps
        ``area_um2``, ``centroid_x_um``, ``centroid_y_um``.
    markers
        Take these only, in this order.
    needed
        Markers, by any of their names, that must be read as scores; one that holds text is an error
        instead of being skipped.

    Returns
    -------
    AnnData
        X = scores float32; obs ``fov_id`` (categorical), ``cell_id`` (int64); names
        ``fov:cell_id``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "scores.csv"
    ...     _ = path.write_text("fov,label,CD3\na,1,0.75\na,2,0.25\n")
    ...     read_scores(path).to_df()["CD3"].tolist()
    [0.75, 0.25]
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind == ".h5ad":
        table = read_h5ad(file, _EXPECTED)
    elif kind in (".csv", ".tsv", ".txt", ".parquet", ".gz"):
        table = _from_frame(file, [*(markers or ()), *needed])
    else:
        check_regular(file, _EXPECTED)
        raise ReadError(
            f"{path}: unsupported table format.",
            got=kind or "no suffix",
            available=[".h5ad", ".csv", ".tsv", ".txt", ".parquet"],
        )
    if markers is not None:
        if missing := [m for m in markers if m not in table.var_names]:
            raise ChannelError(
                f"{path}: {format_list(missing)} is not in the table.",
                available=list(table.var_names),
            )
        table = table[:, list(markers)].copy()
    return check_cell_table(table, str(path))


def check_cell_table(table: AnnData, source: str = "the table") -> AnnData:
    """Check a table of scores; returns it with float32 scores, int64 ids and named cells."""
    import pandas as pd

    if any(not hasattr(table, name) for name in ("obs", "var_names", "X", "isbacked")):
        raise InputError(
            f"{source}: this is no AnnData.",
            expected="what panimbus.predict gave, or another AnnData",
            got=type(table).__name__,
            fix="make one: anndata.AnnData(X=scores, obs=frame with fov_id and cell_id, var=names)",
        )
    missing = [c for c in (FOV, CELL) if c not in table.obs]
    if missing:
        raise InputError(
            f"{source}: the table does not say which cell a row is.",
            expected=f"obs columns {FOV} and {CELL}",
            available=table.obs.columns,
        )
    table = table.to_memory() if table.isbacked else table
    if table.X is None:
        raise InputError(f"{source}: the table has no scores in X.")
    if not table.n_obs or not table.n_vars:
        raise InputError(
            f"{source}: the table is empty.", got=f"{table.n_obs} cells, {table.n_vars} markers"
        )
    if table.X.dtype.kind not in "fiub":
        raise InputError(
            f"{source}: X holds no numbers.",
            expected="scores from 0 to 1",
            got=f"values of type {table.X.dtype}",
        )
    if (nowhere := table.obs[FOV].isna() | (table.obs[FOV].astype(str).str.strip() == "")).any():
        raise InputError(
            f"{source}: {int(nowhere.sum()):,} cells have no {FOV}.",
            expected="the FOV of each cell",
        )
    ids = cell_ids(table.obs[CELL], f"{source}, {CELL}")
    fov = table.obs[FOV].astype(str)
    names = pd.Index([f"{f}:{c}" for f, c in zip(fov, ids.tolist(), strict=True)], dtype=str)
    if not names.is_unique:
        twice = names[names.duplicated()].unique()
        raise InputError(
            f"{source}: {len(twice)} cells are there more than once.",
            got=format_list(list(twice[:10])),
        )
    if not table.var_names.is_unique:
        raise InputError(
            f"{source}: markers are there twice.",
            got=format_list(list(table.var_names[table.var_names.duplicated()])),
        )
    out = table.copy()
    out.X = to_dense(table.X)
    out.obs[CELL] = ids
    out.obs[FOV] = pd.Categorical(fov, categories=list(dict.fromkeys(fov)))
    out.obs_names = names
    return out


def to_dense(x: Any) -> Any:
    """A layer or X as a dense float32 array."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, np.float32)


def _from_frame(path: Path, needed: Collection[str]) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    frame = read_table(path, _COLUMNS, expected=_EXPECTED, rest="any")
    _check_ids(frame, path)
    markers = _markers(frame, path, needed)
    obs = frame[[CSV_FOV, CSV_LABEL]].set_axis([FOV, CELL], axis=1)
    if AREA in frame:
        obs[AREA] = frame[AREA]
    obs.index = pd.RangeIndex(len(obs)).astype(str)
    table = AnnData(
        X=frame[markers].to_numpy(np.float32),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(markers, dtype=str)),
    )
    if CSV_X in frame and CSV_Y in frame:
        table.obsm[SPATIAL] = frame[[CSV_X, CSV_Y]].to_numpy(np.float64)
    return table


def _check_ids(frame: pd.DataFrame, path: Path) -> None:
    """Warn about another id column that disagrees with the one used."""
    for name in map(str, frame.columns):
        if (
            name == CSV_LABEL
            or name.casefold() in ("name", "object", "cell")
            or not is_alias(name, [_COLUMNS[1]])
        ):
            continue
        ids, whole = whole_numbers(frame[name])
        if whole.all() and (ids != frame[CSV_LABEL].to_numpy()).any():
            logger.warning(
                "%s: the column %s names other cells than the ids that are used; it is left out",
                path,
                name,
            )


def _markers(frame: pd.DataFrame, path: Path, needed: Collection[str]) -> list[str]:
    """Numeric columns that are markers; a needed marker that is text is refused."""
    columns = [
        str(c)
        for c in frame.columns
        if c not in {c.name for c in _COLUMNS} and not is_alias(str(c), _COLUMNS)
    ]
    columns = [c for c in columns if c.casefold() not in _TEXTS]
    facts = [c for c in columns if not is_numeric(frame[c])]
    keys = {canonical(m) for m in needed}
    to_numbers(
        frame,
        facts if len(facts) == len(columns) else [c for c in facts if canonical(c) in keys],
        path,
    )
    if facts:
        logger.warning("columns that are not numbers were left out: %s", format_list(facts))
    return [c for c in columns if c not in facts]


def scale_of(table: AnnData) -> ChannelScale | None:
    """The normaliser in a table's provenance; None if there is none."""
    about = table.uns.get(PROVENANCE)
    if not isinstance(about, Mapping) or "scale" not in about:
        return None
    return ChannelScale.from_dict(parse_json(str(about["scale"]), "the normaliser of the table"))
