"""Read a table of scores: what `predict` wrote, any AnnData, or a CSV."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import ChannelError, InputError, MissingExtraError, ReadError, listed
from panimbus.core.table import AREA, CELL, CSV_FOV, CSV_LABEL, CSV_X, CSV_Y, FOV, SPATIAL

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger(__name__)
_FOVS, _CELLS = (CSV_FOV, FOV), (CSV_LABEL, CELL, "cell")
_OTHER = (AREA, CSV_X, CSV_Y)


def read_scores(path: str | Path, markers: Sequence[str] | None = None) -> AnnData:
    """Read a table of scores and check its cells.

    Parameters
    ----------
    path
        ``.h5ad`` (obs ``fov_id`` and ``cell_id``), or CSV / parquet with columns ``fov`` and ``label`` (or ``fov_id`` and
        ``cell_id``), a column a marker, and perhaps ``area_um2``, ``centroid_x_um``, ``centroid_y_um``.
    markers
        Take these only, in this order.

    Returns
    -------
    AnnData
        X = scores float32; obs ``fov_id`` (categorical), ``cell_id`` (int64); names ``fov:cell_id``.
    """
    file = Path(path)
    if not file.exists():
        raise ReadError(f"{path}: there is no such table.", expected="cells.h5ad of `panimbus predict`, or a CSV of scores")
    kind = file.suffix.lower()
    if kind == ".h5ad":
        table = _h5ad(file)
    elif kind in (".csv", ".tsv", ".parquet"):
        table = _frame(file, kind)
    else:
        raise ReadError(
            f"{path}: not a table of a kind that is read here.", got=kind or "no suffix", available=[".h5ad", ".csv", ".parquet"]
        )
    if markers is not None:
        if missing := [m for m in markers if m not in table.var_names]:
            raise ChannelError(f"{path}: {listed(missing)} is not in the table.", available=list(table.var_names))
        table = table[:, list(markers)].copy()
    return checked(table, str(path))


def checked(table: AnnData, source: str = "the table") -> AnnData:
    """Check the cells of a table of scores and name them; returns it with float32 scores, int64 ids and a categorical FOV."""
    import pandas as pd

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
        raise InputError(f"{source}: the table is empty.", got=f"{table.n_obs} cells, {table.n_vars} markers")
    ids = cell_ids(table.obs[CELL], source)
    fov = table.obs[FOV].astype(str)
    names = pd.Index([f"{f}:{c}" for f, c in zip(fov, ids.tolist(), strict=True)], dtype=str)
    if not names.is_unique:
        twice = names[names.duplicated()].unique()
        raise InputError(f"{source}: {len(twice)} cells are there more than once.", got=listed(list(twice[:10])))
    if not table.var_names.is_unique:
        raise InputError(f"{source}: markers are there twice.", got=listed(list(table.var_names[table.var_names.duplicated()])))
    out = table.copy()
    out.X = dense(table.X)
    out.obs[CELL] = ids
    out.obs[FOV] = pd.Categorical(fov, categories=list(dict.fromkeys(fov)))
    out.obs_names = names
    return out


def cell_ids(values: pd.Series, source: str) -> npt.NDArray[np.int64]:
    """Ids as int64, exactly: those above 2^53 would be rounded as floats.

    Raises
    ------
    InputError
        On values that are not whole numbers, or do not fit.
    """
    import pandas as pd

    given = values.to_numpy()
    if given.dtype.kind in "iu":
        ids, whole = given, given <= np.iinfo(np.int64).max
    elif given.dtype.kind == "f":
        ids, whole = given, np.isfinite(given) & (given == np.round(given)) & (np.abs(given) < 2.0**63)
    else:
        text = values.astype(str).str.strip().str.replace(r"\.0+$", "", regex=True)
        whole = text.str.fullmatch(r"[+-]?\d{1,19}").to_numpy(np.bool_)
        ids = pd.Series(np.where(whole, text, "0")).map(int).to_numpy(object)
        whole &= np.abs(ids) <= np.iinfo(np.int64).max
    if not whole.all():
        wrong = [f"{given[i]} (row {i + 1})" for i in np.flatnonzero(~whole).tolist()]
        raise InputError(
            f"{source}: {CELL} must be whole numbers below 2^63: the values of the label image.", got=listed(wrong, 5)
        )
    return np.asarray(ids.astype(np.int64))


def dense(x: Any) -> Any:
    """A layer or X as an array of float32, sparse or not."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, np.float32)


def _h5ad(path: Path) -> AnnData:
    import anndata

    try:
        return anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError) as error:
        raise ReadError(f"{path}: the table cannot be read.", got=str(error).splitlines()[0][:200]) from error


def _frame(path: Path, kind: str) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    try:
        frame = pd.read_parquet(path) if kind == ".parquet" else pd.read_csv(path, sep="\t" if kind == ".tsv" else ",")
    except ImportError:
        raise MissingExtraError("Reading a parquet table", "parquet") from None
    except (ValueError, OSError) as error:
        raise ReadError(f"{path}: the table cannot be read.", got=str(error).splitlines()[0][:200]) from error
    fov, cell = (next((n for n in names if n in frame), None) for names in (_FOVS, _CELLS))
    if fov is None or cell is None:
        raise InputError(
            f"{path}: the table does not say which cell a row is.",
            expected=f"columns {CSV_FOV} and {CSV_LABEL}",
            available=[str(c) for c in frame.columns],
        )
    markers = _markers(frame, path)
    obs = pd.DataFrame({FOV: frame[fov].astype(str), CELL: frame[cell]})
    if AREA in frame:
        obs[AREA] = frame[AREA]
    obs.index = obs.index.astype(str)
    table = AnnData(
        X=frame[markers].to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index([str(m) for m in markers], dtype=str))
    )
    if CSV_X in frame and CSV_Y in frame:
        table.obsm[SPATIAL] = frame[[CSV_X, CSV_Y]].to_numpy(np.float64)
    return table


def _markers(frame: pd.DataFrame, path: Path) -> list[str]:
    """Columns of numbers that are no facts of the cell. One of numbers with some text is a slip, and would be missed."""
    import pandas as pd

    columns = [c for c in frame.columns if c not in (*_FOVS, *_CELLS, *_OTHER)]
    others = [c for c in columns if not _numeric(frame[c])]
    slips = []
    for name in others:
        given = frame[name].dropna()
        text = given[pd.to_numeric(given, errors="coerce").isna()]
        if 0 < 2 * len(text) <= len(given):
            slips.append(f"{name}: {listed([repr(v) for v in text.unique()[:3]])} ({len(text)} of {len(frame)} cells)")
    if slips:
        raise InputError(
            f"{path}: there is text among the numbers.", got=listed(slips), fix="correct the values, or take these columns out"
        )
    if others:
        logger.warning("columns that are not numbers were left out: %s", listed([str(c) for c in others]))
    return [c for c in columns if c not in others]


def _numeric(column: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)
