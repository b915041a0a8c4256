"""Tables of cells: silver labels and cell types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from panimbus.core.errors import InputError, format_list
from panimbus.io.silver import long_labels
from panimbus.io.tables import Column, cell_column, fov_column, read_table

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 8


def read_silver(
    path: str | Path, *, columns: Mapping[str, str] | None = None, fov: str | None = None
) -> pd.DataFrame:
    r"""Read silver labels.

    Parameters
    ----------
    path
        CSV in long form (``fov, cell_id, channel, label``) or wide form (``fov, cell_id`` and one
        column per marker); a label is 0..1, or empty if undefined.
    columns
        Marker -> column, for a wide table with other column names; other columns are ignored.
    fov
        FOV of all rows, for a table without that column.

    Returns
    -------
    DataFrame
        fov, channel : str; cell_id : int64; label : float64 (NaN = undefined).

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "silver.csv"
    ...     _ = path.write_text("fov,cell_id,CD3\na,1,1\na,2,0\n")
    ...     read_silver(path)["label"].tolist()
    [1.0, 0.0]
    """
    frame = _of_cells(
        path,
        fov,
        Column(
            "cell_id", "id", ("cell", "cellid", "cell label", "object", "object number", "label")
        ),
    )
    return long_labels(frame, path, columns)


def read_cell_types(
    path: str | Path, *, column: str = "cell_type", fov: str | None = None
) -> pd.DataFrame:
    r"""Read a table of cell types.

    Parameters
    ----------
    path
        CSV with ``fov``, ``cell_id`` and the cell type; an empty type is unknown.
    column
        Column of the cell type.
    fov
        FOV of all rows, for a table without that column.

    Returns
    -------
    DataFrame
        fov, cell_type : str; cell_id : int64.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "types.csv"
    ...     _ = path.write_text("fov,cell_id,cell_type\na,1,B cell\n")
    ...     read_cell_types(path)["cell_type"].tolist()
    ['B cell']
    """
    others = ("celltype", "classification", "class") if column == "cell_type" else ()
    frame = _of_cells(path, fov, cell_column(), Column(column, aliases=others))
    out = frame[["fov", "cell_id"]].assign(cell_type=frame[column]).reset_index(drop=True)
    if (twice := out.duplicated(["fov", "cell_id"])).any():
        raise InputError(
            f"{path}: {int(twice.sum()):,} cells are there more than once.",
            got=format_list(out["cell_id"][twice].drop_duplicates().map(str).tolist(), _SHOWN),
        )
    return out


def _of_cells(path: str | Path, fov: str | None, *columns: Column) -> pd.DataFrame:
    """Read a table of cells; ``fov`` replaces its column."""
    try:
        frame = read_table(path, [fov_column(required=fov is None), *columns])
    except InputError as error:
        if "columns are missing: fov" in error.problem:
            raise InputError(f"{error}", fix="name the FOV with fov = ...") from None
        raise
    return frame if fov is None else frame.assign(fov=fov)
