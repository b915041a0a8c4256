"""Reading annotations: tables, and the log of a folder of results."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from panimbus.annotations.log import LOG, ROUNDS, AnnotationLog
from panimbus.annotations.table import (
    ANNOTATOR,
    CALL,
    CELL,
    CHANNEL,
    DATASET,
    FOV,
    NEGATIVE,
    POSITIVE,
    TIME,
    UNDETERMINED,
    WEIGHT,
    check_annotations,
)
from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io.numbers import describe_lines
from panimbus.io.tables import CELL_ALIASES, FOV_ALIASES, Column, read_table

logger = logging.getLogger(__name__)
_COLUMNS = (
    Column(FOV, aliases=FOV_ALIASES, required=False),
    Column(CELL, aliases=CELL_ALIASES, required=False),
    Column(CHANNEL, aliases=("marker",), required=False),
    *(Column(name, required=False) for name in (CALL, DATASET, ANNOTATOR, TIME, WEIGHT)),
)
ACTIVITY = {"0": NEGATIVE, "1": POSITIVE, "2": UNDETERMINED, "3": UNDETERMINED}
"""Column ``activity`` of the public gold standard (Pan-M); 2 and 3 are undecided cells."""


def read_annotations(
    paths: str | Path | Sequence[str | Path], *, rounds: Collection[int] = ROUNDS
) -> pd.DataFrame:
    r"""Read one or several tables of annotations, or logs of the viewer.

    Parameters
    ----------
    paths
        A folder of results, of which the log is read (``annotations/log.jsonl``); a log itself
        (``.jsonl``); or a table with the columns fov, cell_id, channel, call (one of `CALLS` in
        any case), and optionally annotator, time, dataset, sampling_weight; others are kept. The
        column ``activity`` of Pan-M may replace ``call`` (`ACTIVITY`). Sampling weights are
        dropped unless all tables have them.
    rounds
        Of a log: 1 first reader, 2 blind second reader, 3 discussion, which replaces the others.

    Returns
    -------
    DataFrame
        See `check_annotations`.

    Raises
    ------
    ReadError
        If there is no such file, or it is not a table.
    InputError
        With every problem of a table.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "calls.csv"
    ...     _ = path.write_text("fov,cell_id,channel,call\na,1,CD3,positive\n")
    ...     read_annotations(path)["call"].tolist()
    ['positive']
    """
    if isinstance(paths, str | Path):
        path = Path(paths)
        if path.is_dir() or path.suffix.lower() == ".jsonl":
            return open_log(path).table(rounds)
        return check_annotations(read_unchecked(path), source=str(path))
    tables = [read_annotations(path, rounds=rounds) for path in paths]
    if len({WEIGHT in table.columns for table in tables}) > 1:
        logger.warning("sampling weights are dropped: only some of the tables have them")
        tables = [table.drop(columns=WEIGHT, errors="ignore") for table in tables]
    return check_annotations(pd.concat(tables), source=", ".join(map(str, paths)))


def read_unchecked(path: str | Path, *, activity: bool = True) -> pd.DataFrame:
    """Read a table under the column names of this module; see `check_annotations`.

    Parameters
    ----------
    path
    activity
        Make calls of Pan-M's column ``activity``.
    """
    frame = read_table(path, _COLUMNS, expected="a table of annotations (CSV)")
    if activity and CALL not in frame and "activity" in frame:
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
                "%s: %s annotations have activity 3, which is taken as undetermined, as 2 is",
                path,
                f"{other:,}",
            )
        frame = frame.assign(**{CALL: given.map(ACTIVITY)})
    return frame


def open_log(path: str | Path) -> AnnotationLog:
    """The log of a folder of results, or a log itself; it must exist.

    Raises
    ------
    ReadError
        If it does not.
    """
    path = Path(path)
    log = AnnotationLog(path / LOG if path.is_dir() else path)
    if not log.path.exists():
        raise ReadError(
            f"{path}: there is no log of annotations.",
            expected=f"{LOG} in the folder of results" if path.is_dir() else None,
            fix="annotate cells first: panimbus annotate draw, or panimbus view",
        )
    return log
