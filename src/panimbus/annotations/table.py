"""Tables of annotations: answers of people who looked, one per cell, channel and annotator."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.errors import InputError, format_list
from panimbus.io.files import atomic_path
from panimbus.io.numbers import describe_lines, to_numbers, whole_numbers

logger = logging.getLogger(__name__)

POSITIVE, LIKELY_POSITIVE, UNDETERMINED, LIKELY_NEGATIVE, NEGATIVE = (
    "positive", "likely positive", "undetermined", "likely negative", "negative",
)  # fmt: skip
CALLS = (POSITIVE, LIKELY_POSITIVE, UNDETERMINED, LIKELY_NEGATIVE, NEGATIVE)
"""Answers for a cell and a marker, from the surest positive to the surest negative."""

DATASET, FOV, CELL, CHANNEL, CALL, ANNOTATOR, TIME, WEIGHT = (
    "dataset", "fov", "cell_id", "channel", "call", "annotator", "time", "sampling_weight",
)  # fmt: skip
SAMPLING = "sampling"
"""Column that says why a cell was asked; see `panimbus.annotations.choose.REASONS`."""
TRUTH_KEY = ("dataset", "fov", "channel", "cell_id")
_NEEDED = (FOV, CELL, CHANNEL, CALL)
_ORDER = (DATASET, FOV, CELL, CHANNEL, CALL, ANNOTATOR, TIME, WEIGHT)


def write_annotations(path: str | Path, annotations: pd.DataFrame) -> None:
    """Write annotations as CSV, completely or not at all.

    Parameters
    ----------
    path
        Should end in ``.csv``.
    annotations
        Columns as for `panimbus.read_annotations`.

    Examples
    --------
    >>> import pandas, tempfile
    >>> row = {"fov": "a", "cell_id": 1, "channel": "CD3", "call": "positive"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_annotations(f"{folder}/calls.csv", pandas.DataFrame([row]))
    """
    with atomic_path(path) as temporary:
        annotations.to_csv(temporary, index=False)


def check_annotations(frame: pd.DataFrame, *, source: str = "annotations") -> pd.DataFrame:
    """Check a table of annotations and normalise its columns.

    Parameters
    ----------
    frame
        See `panimbus.read_annotations`.
    source
        Its origin, for the error message.

    Returns
    -------
    DataFrame
        Columns dataset (if given), fov, cell_id (int64), channel, call, annotator and time (""
        where unknown), sampling_weight (float64, if given), then the rest.

    Raises
    ------
    InputError
        With all problems: columns, ids, answers, weights, cells annotated twice by one annotator.
    """
    if missing := [c for c in _NEEDED if c not in frame.columns]:
        raise InputError(
            f"{source}: the table of annotations lacks columns.",
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
            f"{source}: the table of annotations cannot be used.",
            got="\n             ".join(problems),
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
            f"unknown answers in the column call: {_values(out[CALL][unknown])} in"
            f" {describe_lines(unknown)}; known are {', '.join(CALLS)}"
        )
    out[CALL] = words
    if WEIGHT in out.columns:
        try:
            weight = to_numbers(out, [WEIGHT], CALL)[0][WEIGHT]
        except InputError:  # reported below, with the other problems
            weight = pd.to_numeric(out[WEIGHT], errors="coerce")
        wrong = ~(np.isfinite(weight) & (weight > 0))
        if wrong.any():
            problems.append(f"sampling_weight is not a positive number: {describe_lines(wrong)}")
        out[WEIGHT] = weight
    return out, problems


def _twice(annotations: pd.DataFrame) -> list[str]:
    keys = [*cell_keys(annotations), ANNOTATOR]
    again = annotations.duplicated(keys, keep="first")
    if not again.any():
        return []
    shown = [f"{r[FOV]} {r[CELL]} {r[CHANNEL]}" for r in annotations[again].to_dict("records")]
    number = int(again.sum())
    return [f"{number} cells are annotated twice by the same annotator: {format_list(shown, 10)}"]


def _values(column: pd.Series[Any]) -> str:
    return format_list([repr(v) for v in dict.fromkeys(column.tolist())], 8)


def cell_keys(annotations: pd.DataFrame) -> list[str]:
    """Columns that name a cell and a channel: dataset (if present), fov, cell_id, channel."""
    return [c for c in (DATASET, FOV, CELL, CHANNEL) if c in annotations.columns]


def truth(annotations: pd.DataFrame, *, likely: bool = True) -> npt.NDArray[np.float64]:
    """(n,) 1 positive, 0 negative, NaN undetermined.

    Parameters
    ----------
    annotations
        From `check_annotations`.
    likely
        Whether "likely positive" counts as positive and "likely negative" as negative; else they
        are undetermined.
    """
    values = {POSITIVE: 1.0, NEGATIVE: 0.0}
    if likely:
        values |= {LIKELY_POSITIVE: 1.0, LIKELY_NEGATIVE: 0.0}
    return np.asarray(annotations[CALL].map(values), np.float64)


def with_truth(
    annotations: pd.DataFrame, *, likely: bool = True, source: str = "annotations"
) -> pd.DataFrame:
    """Annotations as the truth of an evaluation: one annotation per cell and channel.

    Warns of cells that were asked because they are doubtful: figures of those are not figures of
    the tissue.

    Parameters
    ----------
    annotations
        From `check_annotations`.
    likely
        See `truth`.
    source
        Their origin, for the error message.

    Returns
    -------
    DataFrame
        dataset ("" if not given), fov, channel : str; cell_id : int64; call : str; truth : int8 (1,
        0, -1 = left out); weight : float64.

    Raises
    ------
    InputError
        If there are no rows, or several annotators judged a cell.
    """
    if not len(annotations):
        raise InputError(f"{source}: the table of annotations has no rows.")
    out = pd.DataFrame(
        {
            "dataset": annotations.get(DATASET, ""),
            "fov": annotations[FOV],
            "channel": annotations[CHANNEL],
            "cell_id": annotations[CELL],
            "call": annotations[CALL],
            "truth": np.nan_to_num(truth(annotations, likely=likely), nan=-1).astype(np.int8),
            "weight": annotations.get(WEIGHT, 1.0),
        }
    )
    asked = annotations.get(SAMPLING, pd.Series("", index=annotations.index)).fillna("")
    doubtful = int((~asked.isin(["", "random", "by hand"])).sum())
    if doubtful:
        logger.warning(
            "%s: %s of %s cells were asked because they are doubtful (column %s): figures are those"
            " of hard cells; keep the rows with %s = random for a figure of the tissue",
            source, f"{doubtful:,}", f"{len(asked):,}", SAMPLING, SAMPLING,
        )  # fmt: skip
    repeated = out[out.duplicated(list(TRUTH_KEY), keep=False)].drop_duplicates(list(TRUTH_KEY))
    if len(repeated):
        raise InputError(
            f"{source}: {len(repeated):,} cells are annotated more than once for a channel.",
            expected="one annotation per cell and channel",
            got=format_list([f"{r.fov}:{r.cell_id} {r.channel}" for r in repeated.itertuples()], 8),
            fix="make a consensus of the annotators first: panimbus annotate consensus",
        )
    return out


def silver_to_annotations(silver: pd.DataFrame) -> pd.DataFrame:
    """Silver labels as annotations for proofreading; undefined ones are undetermined.

    Parameters
    ----------
    silver
        Columns fov, cell_id, channel, label (1, 0 or empty).

    Returns
    -------
    DataFrame
        Annotations of the annotator "silver".
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


def sample_annotations(annotations: pd.DataFrame, n: int, *, seed: int = 0) -> pd.DataFrame:
    """Sample annotations for a second reader, evenly over channels and answers.

    Parameters
    ----------
    annotations
        From `check_annotations`.
    n
        Number of rows; all if there are fewer.
    seed
        Of the choice.

    Returns
    -------
    DataFrame
        Rows of ``annotations`` in their order.
    """
    if n < 1:
        raise InputError("The number of annotations to draw must be positive.", got=str(n))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(annotations))
    shuffled = annotations.iloc[order]
    turn = shuffled.groupby([CHANNEL, CALL], sort=False).cumcount().to_numpy()
    first = np.lexsort((rng.random(len(annotations)), turn))[
        :n
    ]  # the first of every stratum, then the second of every stratum, ...
    return annotations.iloc[np.sort(order[first])].reset_index(drop=True)
