"""Tables of calls (a cell is positive or negative for a marker), and what else a CSV says of cells: silver labels, types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, ReadError, listed
from panimbus.data import gold

if TYPE_CHECKING:
    import pandas as pd

KEY = ("dataset", "fov", "channel", "cell_id")
_ACTIVITY = {"1": "positive", "0": "negative", "2": "undetermined"}
_SHOWN = 8


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV (or .parquet) with every column as text, an empty field as "": names of FOVs such as 007 stay as they are."""
    import pandas as pd

    path = Path(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            return frame.astype(object).where(frame.notna(), "").astype(str)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise ReadError(f"{path}: there is no such file.", expected="a table (CSV)") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise ReadError(f"{path} is not a table that can be read.", expected="CSV with a line of names", got=str(error)) from None


def read_calls(path: str | Path, *, likely: bool = True) -> pd.DataFrame:
    """Read a table of calls, one a cell and channel.

    Parameters
    ----------
    path
        As `panimbus.data.gold.read_calls` reads it. In the place of ``call`` the column ``activity`` of Pan-M will do
        (1 positive, 0 negative, 2 undetermined).
    likely
        Whether "likely positive" counts as positive and "likely negative" as negative; otherwise they are left out.

    Returns
    -------
    DataFrame
        dataset ("" if not given), fov, channel : str; cell_id : int64; call : str; truth : int8 (1, 0, -1 = left out);
        weight : float64.

    Raises
    ------
    InputError
        With every problem of the table; calls of several annotators must have become one before.
    """
    frame = read_table(path)
    if gold.CALL not in frame and "activity" in frame:
        frame = frame.assign(call=frame["activity"].map(lambda v: _ACTIVITY.get(v.removesuffix(".0"), v)))
    return check_calls(frame, str(path), likely=likely)


def check_calls(frame: pd.DataFrame, source: str = "calls", *, likely: bool = True) -> pd.DataFrame:
    """Check a table of calls; see `read_calls`."""
    import pandas as pd

    calls = gold.check_calls(frame, source=source)
    if not len(calls):
        raise InputError(f"{source}: the table of calls has no rows.")
    out = pd.DataFrame(
        {
            "dataset": calls.get(gold.DATASET, ""),
            "fov": calls[gold.FOV],
            "channel": calls[gold.CHANNEL],
            "cell_id": calls[gold.CELL],
            "call": calls[gold.CALL],
            "truth": np.nan_to_num(gold.truth(calls, likely=likely), nan=-1).astype(np.int8),
            "weight": calls.get(gold.WEIGHT, 1.0),
        }
    )
    if (twice := out.duplicated(list(KEY), keep=False)).any():
        rows = out[twice].drop_duplicates(list(KEY))
        raise InputError(
            f"{source}: {len(rows):,} cells are called more than once for a channel.",
            expected="one call a cell and channel",
            got=_cells(rows),
            fix="make one call of those of several annotators first: panimbus gold consensus",
        )
    return out


def check_overlap(calls: pd.DataFrame, cells: Mapping[str, npt.NDArray[Any]], channels: Mapping[str, Sequence[str]]) -> list[str]:
    """What the calls name that is not there, one sentence each.

    Parameters
    ----------
    calls
        From `read_calls`.
    cells
        FOV -> its cell ids.
    channels
        FOV -> its channels.
    """
    problems: list[str] = []
    if lost := sorted(set(calls["fov"]) - set(cells)):
        known = listed(list(cells), _SHOWN)
        problems.append(
            f"{_rows(calls['fov'].isin(lost))} of FOVs that are not there: {listed(lost, _SHOWN)} (there are: {known})"
        )
    for fov, rows in calls[calls["fov"].isin(list(cells))].groupby("fov", sort=False):
        panel = channels[str(fov)]
        if lost := sorted(set(rows["channel"]) - set(panel)):
            count = _rows(rows["channel"].isin(lost))
            problems.append(
                f"FOV {fov!r}: {count} of channels it does not have: {listed(lost, _SHOWN)} (it has: {listed(panel)})"
            )
        absent = ~rows["cell_id"].isin(cells[str(fov)])
        if absent.any():
            ids = sorted(set(rows["cell_id"][absent].tolist()))
            problems.append(f"FOV {fov!r}: {_rows(absent)} of cells it does not have: {listed([str(i) for i in ids], _SHOWN)}")
    return problems


def raise_overlap(problems: Sequence[str], what: str) -> None:
    """Raise all problems of `check_overlap` at once."""
    if problems:
        raise InputError(
            f"The calls do not fit {what}.",
            got="\n             ".join(problems),
            fix="calls must name FOVs, channels and cell ids exactly as the images, panels and label images do",
        )


def read_silver(path: str | Path, *, columns: Mapping[str, str] | None = None, fov: str | None = None) -> pd.DataFrame:
    """Read silver labels.

    Parameters
    ----------
    path
        CSV in long form (``fov, cell_id, channel, label``) or wide (``fov, cell_id`` and a column a marker); a label is 0..1, or
        empty where it is undefined.
    columns
        Marker -> column, for a wide table whose columns have other names; the other columns are not looked at.
    fov
        Name of the FOV of all rows, for a table without that column.

    Returns
    -------
    DataFrame
        fov, channel : str; cell_id : int64; label : float64 (NaN = undefined).
    """
    import pandas as pd

    frame = _of_cells(path, fov)
    if "channel" in frame and "label" in frame:
        out = frame[["fov", "cell_id", "channel", "label"]].copy()
    else:
        markers = dict(columns) if columns else {c: c for c in frame.columns if c not in {"fov", "cell_id", "dataset"}}
        if lost := [c for c in markers.values() if c not in frame]:
            raise InputError(f"{path}: columns are missing: {', '.join(lost)}.", available=list(frame.columns))
        wide = frame[["fov", "cell_id"]].assign(**{m: frame[c] for m, c in markers.items()})
        out = wide.melt(id_vars=["fov", "cell_id"], var_name="channel", value_name="label")
    value = pd.to_numeric(out["label"], errors="coerce")
    bad = (value.isna() & (out["label"].astype(str).str.strip() != "")) | (value < 0) | (value > 1)
    twice = out.duplicated(["fov", "cell_id", "channel"])
    if bad.any() or twice.any():
        got = [f"{int(bad.sum()):,} labels are neither 0 to 1 nor empty: {_some(out['label'][bad])}"] if bad.any() else []
        got += [f"{int(twice.sum()):,} labels are there more than once: {_cells(out[twice])}"] if twice.any() else []
        raise InputError(f"{path}: the silver labels cannot be used.", got="\n             ".join(got))
    return out.assign(label=value.astype(np.float64))


def read_cell_types(path: str | Path, *, column: str = "cell_type", fov: str | None = None) -> pd.DataFrame:
    """Read the cells' types from a CSV with ``fov``, ``cell_id`` and ``column``; empty is unknown.

    Returns
    -------
    DataFrame
        fov, cell_type : str; cell_id : int64.
    """
    frame = _of_cells(path, fov)
    if column not in frame:
        raise InputError(f"{path}: there is no column {column!r}.", available=list(frame.columns))
    out = frame[["fov", "cell_id"]].assign(cell_type=frame[column].astype(str).str.strip())
    if (twice := out.duplicated(["fov", "cell_id"])).any():
        raise InputError(f"{path}: {int(twice.sum()):,} cells are there more than once.", got=_some(out["cell_id"][twice]))
    return out


def _of_cells(path: str | Path, fov: str | None) -> pd.DataFrame:
    from panimbus.data.tables import whole_ids

    frame = read_table(path)
    if fov is not None:
        frame = frame.assign(fov=fov)
    if lost := [c for c in ("fov", "cell_id") if c not in frame]:
        raise InputError(
            f"{path}: columns are missing: {', '.join(lost)}.", available=list(frame.columns), fix="name the FOV with fov = ..."
        )
    return frame.assign(cell_id=whole_ids(frame["cell_id"], what=str(path)))


def _some(values: Any) -> str:
    return listed(list(dict.fromkeys(repr(str(v)) for v in values)), _SHOWN)


def _cells(rows: pd.DataFrame) -> str:
    names = [f"{r.fov}:{r.cell_id:g} {r.channel}" for r in rows.head(_SHOWN + 1).itertuples()]
    extra = len(rows) - len(names)
    return listed(names, _SHOWN) if extra <= 0 else f"{', '.join(names[:_SHOWN])}, ... and {len(rows) - _SHOWN:,} more"


def _rows(mask: Any) -> str:
    n = int(np.sum(mask))
    return f"{n:,} call{'s' * (n != 1)}"
