"""The gold standard.

Calls made by eye, one a cell and channel and annotator, as a table that is checked when it is read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.errors import InputError, format_list
from panimbus.core.types import Array
from panimbus.io.numbers import describe_lines, to_numbers, whole_numbers
from panimbus.io.tables import CELL_ALIASES, FOV_ALIASES, Column, read_table
from panimbus.io.write import atomic_path

logger = logging.getLogger(__name__)

POSITIVE, LIKELY_POSITIVE, UNDETERMINED, LIKELY_NEGATIVE, NEGATIVE = (
    "positive", "likely positive", "undetermined", "likely negative", "negative",
)  # fmt: skip
CALLS = (POSITIVE, LIKELY_POSITIVE, UNDETERMINED, LIKELY_NEGATIVE, NEGATIVE)
"""What can be said of a cell and a marker, in order from the surest positive to the surest negative."""

DATASET, FOV, CELL, CHANNEL, CALL, ANNOTATOR, TIME, WEIGHT = (
    "dataset", "fov", "cell_id", "channel", "call", "annotator", "time", "sampling_weight",
)  # fmt: skip
_NEEDED = (FOV, CELL, CHANNEL, CALL)
_ORDER = (DATASET, FOV, CELL, CHANNEL, CALL, ANNOTATOR, TIME, WEIGHT)
_COLUMNS = (
    Column(FOV, aliases=FOV_ALIASES, required=False),
    Column(CELL, aliases=CELL_ALIASES, required=False),
    Column(CHANNEL, aliases=("marker",), required=False),
    *(Column(name, required=False) for name in (CALL, DATASET, ANNOTATOR, TIME, WEIGHT)),
)
ACTIVITY = {"0": NEGATIVE, "1": POSITIVE, "2": UNDETERMINED, "3": UNDETERMINED}
"""What the column ``activity`` of the public gold standard (Pan-M) means; 2 and 3 are cells that could not be decided."""


def read_annotation_table(path: str | Path) -> pd.DataFrame:
    """Read a table of calls.

    Parameters
    ----------
    path
        Columns fov, cell_id, channel, call (one of `CALLS`; case does not count), and if there are
        any annotator, time, dataset, sampling_weight; others are kept as they are. In the place of
        ``call`` the column ``activity`` of Pan-M will do (`ACTIVITY`).

    Returns
    -------
    DataFrame
        What `check_annotations` gives.

    Raises
    ------
    ReadError
        If there is no such file, or it is no table.
    InputError
        With everything that is wrong with the table.
    """
    return check_annotations(read_unchecked(path), source=str(path))


def read_unchecked(path: str | Path) -> pd.DataFrame:
    """The table as it stands, under the names of this module; see `check_annotations`."""
    frame = read_table(path, _COLUMNS, expected="a table of calls (CSV)")
    if CALL not in frame and "activity" in frame:
        given = (
            frame["activity"]
            .astype(object)
            .fillna("")
            .astype(str)
            .str.replace(r"[.,]0+$", "", regex=True)
        )
        if wrong := [
            repr(v) for v in dict.fromkeys(frame["activity"][~given.isin(list(ACTIVITY))].tolist())
        ]:
            raise InputError(
                f"{path}: rows have an unknown activity.",
                expected="0 negative, 1 positive, 2 or 3 undetermined",
                got=f"{format_list(wrong, 5)} in {describe_lines(~given.isin(list(ACTIVITY)))}",
            )
        if other := int((given == "3").sum()):
            logger.warning(
                "%s: %s calls have activity 3, which is taken as undetermined, as 2 is",
                path,
                f"{other:,}",
            )
        frame = frame.assign(**{CALL: given.map(ACTIVITY)})
    return frame


def read_annotations(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Read several tables of calls as one.

    Sampling weights are dropped unless all tables have them.
    """
    tables = [read_annotation_table(path) for path in paths]
    if len({WEIGHT in table.columns for table in tables}) > 1:
        logger.warning("sampling weights are dropped: only some of the tables have them")
        tables = [table.drop(columns=WEIGHT, errors="ignore") for table in tables]
    return check_annotations(pd.concat(tables), source=", ".join(map(str, paths)))


def write_annotations(calls: pd.DataFrame, path: str | Path) -> None:
    """Write calls as CSV, whole or not at all."""
    with atomic_path(path) as temporary:
        calls.to_csv(temporary, index=False)


def check_annotations(frame: pd.DataFrame, *, source: str = "calls") -> pd.DataFrame:
    """Check a table of calls and bring it into one form.

    Parameters
    ----------
    frame
        See `read_annotation_table`.
    source
        Where it came from, for the message.

    Returns
    -------
    DataFrame
        Columns dataset (if given), fov, cell_id (int64), channel, call, annotator and time (""
        where unknown), sampling_weight (float64, if given), then the rest.

    Raises
    ------
    InputError
        One message with all problems: columns, ids, words, weights, cells called twice by one
        annotator.
    """
    if missing := [c for c in _NEEDED if c not in frame.columns]:
        raise InputError(
            f"{source}: the table of calls lacks columns.",
            expected=(
                "fov, cell_id, channel, call; if known annotator, time, dataset, sampling_weight"
            ),
            got=f"missing: {', '.join(missing)}",
            available=[str(c) for c in frame.columns],
        )
    out, problems = _typed(frame)
    if not problems:
        problems += _twice(out)
    if problems:
        raise InputError(
            f"{source}: the table of calls cannot be used.", got="\n             ".join(problems)
        )
    first = [c for c in _ORDER if c in out.columns]
    return out[[*first, *(c for c in out.columns if c not in first)]].reset_index(drop=True)


def _typed(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    out, problems = frame.copy(), []
    for name in (FOV, CHANNEL, *(c for c in (DATASET, ANNOTATOR, TIME) if c in out.columns)):
        out[name] = out[name].fillna("").astype(str).str.strip()
    for name in (ANNOTATOR, TIME):
        if name not in out.columns:
            out[name] = ""
    blank = {name: out[name] == "" for name in (FOV, CHANNEL)}
    problems += [
        f"rows without a {name}: {describe_lines(rows)}"
        for name, rows in blank.items()
        if rows.any()
    ]
    ids, whole = whole_numbers(out[CELL])
    wrong = ~whole | (ids <= 0)
    if wrong.any():
        zero = (
            "; 0 is the background: do the ids count from 0?"
            if bool((whole & (ids == 0)).any())
            else ""
        )
        problems.append(
            f"cell_id is not a positive whole number: {describe_lines(wrong)}"
            f" ({_values(out[CELL][wrong])}){zero}"
        )
    out[CELL] = ids
    words = (
        out[CALL]
        .fillna("")
        .astype(str)
        .str.strip()
        .str.lower()
        .str.replace(r"[\s_-]+", " ", regex=True)
    )
    unknown = ~words.isin(CALLS)
    if unknown.any():
        problems.append(
            f"unknown calls: {_values(out[CALL][unknown])} in {describe_lines(unknown)}; known are"
            f" {', '.join(CALLS)}"
        )
    out[CALL] = words
    if WEIGHT in out.columns:
        try:
            weight = to_numbers(out, [WEIGHT], CALL)[0][WEIGHT]
        except InputError:  # said below, with the other problems
            weight = pd.to_numeric(out[WEIGHT], errors="coerce")
        wrong = ~(np.isfinite(weight) & (weight > 0))
        if wrong.any():
            problems.append(f"sampling_weight is not a positive number: {describe_lines(wrong)}")
        out[WEIGHT] = weight
    return out, problems


def _twice(calls: pd.DataFrame) -> list[str]:
    keys = [*cell_keys(calls), ANNOTATOR]
    again = calls.duplicated(keys, keep="first")
    if not again.any():
        return []
    shown = [f"{r[FOV]} {r[CELL]} {r[CHANNEL]}" for r in calls[again].to_dict("records")]
    return [
        f"{int(again.sum())} cells are called twice by the same annotator: {format_list(shown, 10)}"
    ]


def _values(column: pd.Series[Any]) -> str:
    return format_list([repr(v) for v in dict.fromkeys(column.tolist())], 8)


def cell_keys(calls: pd.DataFrame) -> list[str]:
    """The columns that name a cell and a channel.

    Dataset (if the table has one), fov, cell_id, channel.
    """
    return [c for c in (DATASET, FOV, CELL, CHANNEL) if c in calls.columns]


def check_against(
    calls: pd.DataFrame, cells: Mapping[str, Array], channels: Mapping[str, Sequence[str]]
) -> None:
    """Refuse calls of FOVs, channels or cells that do not exist, all of them in one message.

    Parameters
    ----------
    calls
        What `check_annotations` gave.
    cells
        FOV -> its cells' ids.
    channels
        FOV -> its channels.
    """
    problems = []
    strangers = [f for f in dict.fromkeys(calls[FOV]) if f not in cells]
    if strangers:
        problems.append(f"FOVs that are not among the images: {format_list(strangers)}")
    for fov, group in calls.groupby(FOV, sort=False):
        name = str(fov)
        if name not in cells:
            continue
        if unknown := [c for c in dict.fromkeys(group[CHANNEL]) if c not in channels[name]]:
            problems.append(f"FOV {name!r} has no channel {format_list(unknown, 10)}")
        ids = group[CELL].to_numpy()
        absent = ~np.isin(ids, cells[name])
        if lost := dict.fromkeys(ids[absent].tolist()):
            count = f"{int(absent.sum()):,} of its {len(ids):,} calls"
            problems.append(
                f"FOV {name!r} has no cell {format_list([str(i) for i in lost], 10)}"
                f" ({count}){off_by_one(ids, cells[name])}"
            )
    if problems:
        first = next(iter(cells), None)
        raise InputError(
            "There are calls of what is not there.",
            got="\n             ".join(problems),
            available=[
                f"FOVs {format_list(list(cells), 10)}",
                *([f"channels {format_list(list(channels[first]))}"] if first else []),
            ],
            fix=(
                "use the label images on which the calls were made, and the FOVs' and channels' own"
                " names"
            ),
        )


def off_by_one(ids: Array, cells: Array) -> str:
    """A hint for ids of which some are not there.

    Whether all of them would be if they were one lower or higher.

    Examples
    --------
    >>> off_by_one(np.array([2, 3, 4]), np.array([1, 2, 3]))
    '; all are there if every cell_id is one lower'
    """
    shifts = [
        word for shift, word in ((-1, "lower"), (1, "higher")) if np.isin(ids + shift, cells).all()
    ]
    return (
        f"; all are there if every cell_id is one {' or '.join(shifts)}"
        if shifts and len(ids) > 1
        else ""
    )


def truth(calls: pd.DataFrame, *, likely: bool = True) -> npt.NDArray[np.float64]:
    """(n,) 1 positive, 0 negative, NaN undetermined.

    Parameters
    ----------
    calls
        What `check_annotations` gave.
    likely
        Whether "likely positive" counts as positive and "likely negative" as negative; else they
        are undetermined.
    """
    table = {POSITIVE: 1.0, NEGATIVE: 0.0}
    if likely:
        table |= {LIKELY_POSITIVE: 1.0, LIKELY_NEGATIVE: 0.0}
    return np.asarray(calls[CALL].map(table), np.float64)


def silver_to_annotations(silver: pd.DataFrame) -> pd.DataFrame:
    """Silver labels as calls that wait for an annotator.

    Positive, negative, or undetermined where they are undefined.

    Parameters
    ----------
    silver
        Columns fov, cell_id, channel, label (1, 0 or empty).

    Returns
    -------
    DataFrame
        Calls of the annotator "silver".
    """
    if missing := [c for c in (FOV, CELL, CHANNEL, "label") if c not in silver.columns]:
        raise InputError(
            "The table of silver labels lacks columns.", got=f"missing: {', '.join(missing)}"
        )
    label = pd.to_numeric(silver["label"], errors="coerce")
    out = silver[[c for c in (DATASET, FOV, CELL, CHANNEL) if c in silver.columns]].copy()
    out[CALL] = np.select([label >= 0.5, label < 0.5], [POSITIVE, NEGATIVE], UNDETERMINED)
    out[ANNOTATOR] = "silver"
    return check_annotations(out, source="silver labels")


def sample_annotations(calls: pd.DataFrame, n: int, *, seed: int = 0) -> pd.DataFrame:
    """Choose calls for a second reader, evenly over channels and what the first reader said.

    Parameters
    ----------
    calls
        What `check_annotations` gave.
    n
        How many; all of them if there are fewer.
    seed
        Of the choice.

    Returns
    -------
    DataFrame
        Rows of ``calls`` in their order.
    """
    if n < 1:
        raise InputError("The number of calls to draw must be positive.", got=str(n))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(calls))
    shuffled = calls.iloc[order]
    turn = shuffled.groupby([CHANNEL, CALL], sort=False).cumcount().to_numpy()
    first = np.lexsort((rng.random(len(calls)), turn))[
        :n
    ]  # the first of every stratum, then the second of every stratum, ...
    return calls.iloc[np.sort(order[first])].reset_index(drop=True)
