"""Tables of calls (a cell is positive or negative for a marker), and what else a CSV says of cells.

Silver labels, types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.annotations import table
from panimbus.core.errors import InputError, format_list
from panimbus.io.numbers import to_numbers
from panimbus.io.tables import Column, cell_column, fov_column, read_table

if TYPE_CHECKING:
    import pandas as pd

KEY = ("dataset", "fov", "channel", "cell_id")
_SHOWN = 8


def read_calls(path: str | Path, *, likely: bool = True) -> pd.DataFrame:
    """Read a table of calls, one a cell and channel.

    Parameters
    ----------
    path
        As `panimbus.annotations.table.read_annotations` reads it.
    likely
        Whether "likely positive" counts as positive and "likely negative" as negative; otherwise
        they are left out.

    Returns
    -------
    DataFrame
        dataset ("" if not given), fov, channel : str; cell_id : int64; call : str; truth : int8 (1,
        0, -1 = left out); weight : float64.

    Raises
    ------
    InputError
        With every problem of the table; calls of several annotators must have become one before.
    """
    return check_calls(table.read_unchecked(path), str(path), likely=likely)


def check_calls(frame: pd.DataFrame, source: str = "calls", *, likely: bool = True) -> pd.DataFrame:
    """Check a table of calls; see `read_calls`."""
    import pandas as pd

    calls = table.check_annotations(frame, source=source)
    if not len(calls):
        raise InputError(f"{source}: the table of calls has no rows.")
    out = pd.DataFrame(
        {
            "dataset": calls.get(table.DATASET, ""),
            "fov": calls[table.FOV],
            "channel": calls[table.CHANNEL],
            "cell_id": calls[table.CELL],
            "call": calls[table.CALL],
            "truth": np.nan_to_num(table.truth(calls, likely=likely), nan=-1).astype(np.int8),
            "weight": calls.get(table.WEIGHT, 1.0),
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


def check_overlap(
    calls: pd.DataFrame,
    cells: Mapping[str, npt.NDArray[Any]],
    channels: Mapping[str, Sequence[str]],
) -> list[str]:
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
        known = format_list(list(cells), _SHOWN)
        problems.append(
            f"{_rows(calls['fov'].isin(lost))} of FOVs that are not there: {format_list(lost, _SHOWN)}"
            f" (there are: {known})"
        )
    for fov, rows in calls[calls["fov"].isin(list(cells))].groupby("fov", sort=False):
        panel = channels[str(fov)]
        if lost := sorted(set(rows["channel"]) - set(panel)):
            count = _rows(rows["channel"].isin(lost))
            problems.append(
                f"FOV {fov!r}: {count} of channels it does not have: {format_list(lost, _SHOWN)} (it"
                f" has: {format_list(panel)})"
            )
        absent = ~rows["cell_id"].isin(cells[str(fov)])
        if absent.any():
            ids = sorted(set(rows["cell_id"][absent].tolist()))
            hint = table.off_by_one(rows["cell_id"].to_numpy(), cells[str(fov)])
            problems.append(
                f"FOV {fov!r}: {_rows(absent)} of cells it does not have:"
                f" {format_list([str(i) for i in ids], _SHOWN)}{hint}"
            )
    return problems


def raise_overlap(problems: Sequence[str], what: str) -> None:
    """Raise all problems of `check_overlap` at once."""
    if problems:
        raise InputError(
            f"The calls do not fit {what}.",
            got="\n             ".join(problems),
            fix=(
                "calls must name FOVs, channels and cell ids exactly as the images, panels and"
                " label images do"
            ),
        )


def read_silver(
    path: str | Path, *, columns: Mapping[str, str] | None = None, fov: str | None = None
) -> pd.DataFrame:
    """Read silver labels.

    Parameters
    ----------
    path
        CSV in long form (``fov, cell_id, channel, label``) or wide (``fov, cell_id`` and a column a
        marker); a label is 0..1, or empty where it is undefined.
    columns
        Marker -> column, for a wide table whose columns have other names; the other columns are not
        looked at.
    fov
        Name of the FOV of all rows, for a table without that column.

    Returns
    -------
    DataFrame
        fov, channel : str; cell_id : int64; label : float64 (NaN = undefined).
    """
    frame = _of_cells(
        path,
        fov,
        Column(
            "cell_id", "id", ("cell", "cellid", "cell label", "object", "object number", "label")
        ),
    )
    if "channel" in frame and "label" in frame:
        values, _ = to_numbers(frame, ["label"], path)
        out = frame[["fov", "cell_id", "channel"]].assign(label=values["label"])
    else:
        markers = (
            dict(columns)
            if columns
            else {c: c for c in frame.columns if c not in {"fov", "cell_id", "dataset"}}
        )
        if lost := [c for c in markers.values() if c not in frame]:
            raise InputError(
                f"{path}: columns are missing: {', '.join(lost)}.", available=list(frame.columns)
            )
        values, _ = to_numbers(frame, dict.fromkeys(markers.values()), path)
        wide = frame[["fov", "cell_id"]].assign(**{m: values[c] for m, c in markers.items()})
        out = wide.melt(id_vars=["fov", "cell_id"], var_name="channel", value_name="label")
    bad = (out["label"] < 0) | (out["label"] > 1)
    twice = out.duplicated(["fov", "cell_id", "channel"])
    if bad.any() or twice.any():
        got = (
            [f"{int(bad.sum()):,} labels are neither 0 to 1 nor empty: {_some(out['label'][bad])}"]
            if bad.any()
            else []
        )
        got += (
            [f"{int(twice.sum()):,} labels are there more than once: {_cells(out[twice])}"]
            if twice.any()
            else []
        )
        raise InputError(
            f"{path}: the silver labels cannot be used.", got="\n             ".join(got)
        )
    return out.astype({"label": np.float64}).reset_index(drop=True)


def read_cell_types(
    path: str | Path, *, column: str = "cell_type", fov: str | None = None
) -> pd.DataFrame:
    """Read the cells' types from a CSV with ``fov``, ``cell_id`` and ``column``; empty is unknown.

    Returns
    -------
    DataFrame
        fov, cell_type : str; cell_id : int64.
    """
    others = ("celltype", "classification", "class") if column == "cell_type" else ()
    frame = _of_cells(path, fov, cell_column(), Column(column, aliases=others))
    out = frame[["fov", "cell_id"]].assign(cell_type=frame[column]).reset_index(drop=True)
    if (twice := out.duplicated(["fov", "cell_id"])).any():
        raise InputError(
            f"{path}: {int(twice.sum()):,} cells are there more than once.",
            got=_some(out["cell_id"][twice]),
        )
    return out


def _of_cells(path: str | Path, fov: str | None, *columns: Column) -> pd.DataFrame:
    """A table of cells, whose FOV may be given instead."""
    try:
        frame = read_table(path, [fov_column(required=fov is None), *columns])
    except InputError as error:
        if "columns are missing: fov" in error.what:
            raise InputError(f"{error}", fix="name the FOV with fov = ...") from None
        raise
    return frame if fov is None else frame.assign(fov=fov)


def _some(values: Any) -> str:
    return format_list(list(dict.fromkeys(repr(str(v)) for v in values)), _SHOWN)


def _cells(rows: pd.DataFrame) -> str:
    names = [f"{r.fov}:{r.cell_id:g} {r.channel}" for r in rows.head(_SHOWN + 1).itertuples()]
    extra = len(rows) - len(names)
    return (
        format_list(names, _SHOWN)
        if extra <= 0
        else f"{', '.join(names[:_SHOWN])}, ... and {len(rows) - _SHOWN:,} more"
    )


def _rows(mask: Any) -> str:
    n = int(np.sum(mask))
    return f"{n:,} call{'s' * (n != 1)}"
