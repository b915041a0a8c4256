"""Writers of cell tables that every anndata since 0.10 can read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.escape import escape_formulas
from panimbus.core.table import to_frame
from panimbus.io.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def write_h5ad(path: str | Path, table: AnnData) -> None:
    """Write a table as h5ad, whole or not at all.

    Parameters
    ----------
    path
        Name; should end in ``.h5ad``.
    table
        Cells and their scores.
    """
    with atomic_path(path) as temporary:
        plain_text(table).write_h5ad(temporary, compression="lzf")


def write_csv(path: str | Path, frame: pd.DataFrame, **options: Any) -> None:
    """Write columns as CSV, whole or not at all; formulas get a leading apostrophe.

    Parameters
    ----------
    path
        Name; should end in ``.csv``.
    frame
        Columns; the index is not written.
    options
        Of `pandas.DataFrame.to_csv`.
    """
    with atomic_path(path) as temporary:
        escape_formulas(frame).to_csv(temporary, index=False, **options)


def write_large_csv(
    path: str | Path, frame: pd.DataFrame, *, digits: int = 6, rows: int = 100_000
) -> None:
    """`write_csv` for millions of rows: floats are rounded, whole columns written as integers.

    A ``float_format`` is called for every value and takes several times as long.

    Parameters
    ----------
    path, frame
        See `write_csv`.
    digits
        Significant digits of floats.
    rows
        That are written at a time.

    Examples
    --------
    >>> import pandas, tempfile
    >>> frame = pandas.DataFrame({"a": [0.12345678, 1234.5678], "b": [1.0, 0.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_large_csv(f"{folder}/table.csv", frame)
    ...     print(Path(f"{folder}/table.csv").read_text())
    a,b
    0.123457,1
    1234.57,0
    <BLANKLINE>
    """
    floats = [str(name) for name, column in frame.items() if column.dtype.kind == "f"]
    whole = {name for name in floats if _is_whole(frame[name].to_numpy())}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for start in range(0, max(len(frame), 1), rows):
            part = frame.iloc[start : start + rows]
            changed = {
                name: part[name].astype(np.int64)
                if name in whole
                else _significant(part[name].to_numpy(np.float64), digits)
                for name in floats
            }
            escape_formulas(part.assign(**changed)).to_csv(file, index=False, header=start == 0)


def _is_whole(values: npt.NDArray[Any]) -> bool:
    """Whether all values are whole numbers that an int64 holds exactly."""
    return bool((np.abs(values) < 2**53).all() and (values == np.round(values)).all())


def _significant(values: npt.NDArray[np.float64], digits: int) -> npt.NDArray[np.float64]:
    """Values rounded to significant digits; powers of ten up to 1e22 are exact."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(values)))
        scale = 10.0 ** np.clip(places, 0, 22)
        rounded = np.round(values * scale) / scale
    return np.where(np.isfinite(rounded), rounded, values)


def write_scores(path: str | Path, table: AnnData) -> None:
    """Write a cell table as ``.h5ad``, or its plain columns as ``.csv`` or ``.parquet``.

    Parameters
    ----------
    path
        The suffix determines the format.
    table
        Cell table of `panimbus.predict`.

    Examples
    --------
    >>> write_scores("cells.xlsx", None)
    Traceback (most recent call last):
    panimbus.core.errors.InputError: cells.xlsx: unknown kind of table.
      got:       .xlsx
      available: .h5ad, .csv, .parquet
    """
    kind = Path(path).suffix.lower()
    if kind == ".h5ad":
        write_h5ad(path, table)
    elif kind == ".csv":
        write_csv(path, to_frame(table))
    elif kind == ".parquet":
        with atomic_path(path) as temporary:
            to_frame(table).to_parquet(temporary, index=False)
    else:
        raise InputError(
            f"{path}: unknown kind of table.", got=kind, available=(".h5ad", ".csv", ".parquet")
        )


def plain_text(table: AnnData) -> AnnData:
    """The same table with all text as Python strings; arrays are shared, not copied.

    Text of pandas' string types (the default of pandas 3) is written in an encoding that anndata
    0.10 cannot read, and so is None: keys of ``uns`` without a value are left out.
    """
    from anndata import AnnData as Table

    out = Table(
        table.X,
        obs=_frame(table.obs),
        var=_frame(table.var),
        uns=_value(table.uns),
        **{
            name: {k: _value(v) for k, v in getattr(table, name).items()}
            for name in ("obsm", "varm", "layers", "obsp", "varp")
        },
    )
    if table.raw is not None:
        out.raw = Table(
            table.raw.X,
            obs=_frame(table.obs[[]]),
            var=_frame(table.raw.var),
            varm=dict(table.raw.varm),
        )
    for frame in (
        out.obs,
        out.var,
    ):  # anndata may have made strings of the type that pandas prefers
        frame.index = _index(frame.index)
    return out


def _frame(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy(deep=False)
    out.index = _index(out.index)
    for name in out.columns:
        out[name] = _column(out[name])
    out.columns = _index(out.columns)
    return out


def _index(index: pd.Index[Any]) -> pd.Index[Any]:
    import pandas as pd

    return (
        pd.Index(index.to_numpy(object), dtype=object, name=index.name)
        if _is_text(index.dtype)
        else index
    )


def _column(column: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = column.dtype.categories
        if not _is_text(categories.dtype):
            return column
        return column.astype(
            pd.CategoricalDtype(_index(categories), ordered=bool(column.dtype.ordered))
        )
    if not _is_text(column.dtype):
        return column
    if column.isna().any():
        return _column(column.astype("category"))
    return column.astype(object)


def _value(value: Any) -> Any:
    import pandas as pd

    if isinstance(value, Mapping):
        return {str(k): _value(v) for k, v in value.items() if v is not None}
    if isinstance(value, pd.DataFrame):
        return _frame(value)
    if isinstance(value, pd.Categorical):
        return _column(pd.Series(value)).array
    if isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return np.asarray(value, object) if _is_text(value.dtype) else value
    if isinstance(value, np.ndarray) and value.dtype.kind == "T":
        return value.astype(object)
    return value


def _is_text(dtype: Any) -> bool:
    import pandas as pd

    return isinstance(dtype, pd.StringDtype)
