"""Tables of a dataset file: cells, labels, thresholds and assignment matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io.location import resolve_path
from panimbus.io.tables import Column, read_table

WORDS = {
    1.0: ("positive", "pos", "+", "1", "1.0"),
    0.0: ("negative", "neg", "-", "0", "0.0"),
    -1.0: ("undefined", "undetermined", "?", "", "nan", "-1"),
}
_VALUE = {word: value for value, words in WORDS.items() for word in words}


def read_tables(
    paths: str | Sequence[str], root: Path, columns: Sequence[Column], *, others: bool = True
) -> pd.DataFrame:
    """Read tables and put them together.

    Parameters
    ----------
    paths
        Files relative to ``root``; a name with ``*`` stands for all that match.
    root
    columns
        See `panimbus.io.tables.read_table`.
    others
        Keep other columns, as numbers where they hold numbers.
    """
    frames = []
    for given in [paths] if isinstance(paths, str) else paths:
        files = sorted(root.glob(given)) if "*" in given else [resolve_path(root, given)]
        if not files:
            raise ReadError(
                f"{root / given}: no file matches.", expected="a table (CSV, TSV or Parquet)"
            )
        frames += [read_table(path, columns, rest="any" if others else "none") for path in files]
    names = list(frames[0].columns)
    if any(list(f.columns) != names for f in frames):
        raise InputError(
            "The tables that belong together have different columns.",
            got=str(paths),
            expected=format_list(names),
        )
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class AssignmentMatrix:
    """An assignment matrix.

    Parameters
    ----------
    types
        T cell types.
    markers
        M markers.
    values : (T, M) float32
        1 positive, 0 negative, -1 undefined.
    """

    types: tuple[str, ...]
    markers: tuple[str, ...]
    values: npt.NDArray[np.float32]


def read_matrix(path: Path, undecided: Sequence[float] = ()) -> AssignmentMatrix:
    """Read an assignment matrix.

    Parameters
    ----------
    path
    undecided
        Numbers that mean undefined.

    The first column names the cell type, each other column is a marker.

    A cell says positive (``+``, ``pos``, ``1``), negative (``-``, ``neg``, ``0``) or undefined
    (``?`` or nothing).
    """
    frame = read_table(path, expected="an assignment matrix (CSV)", first="cell type")
    if frame.shape[1] < 2 or not len(frame):
        raise InputError(
            f"{path}: the assignment matrix is empty.",
            expected="a column of cell types and one column per marker",
        )
    types, markers = list(frame.iloc[:, 0]), [str(c) for c in frame.columns[1:]]
    words = frame.iloc[:, 1:].map(str.lower)
    if undecided:
        numbers = words.apply(pd.to_numeric, errors="coerce")
        words = words.mask(numbers.isin(list(undecided)), "undefined")
    problems = [f"cell type {t!r} twice" for t in sorted({t for t in types if types.count(t) > 1})]
    wrong = [
        (t, m, words.iat[i, k])
        for i, t in enumerate(types)
        for k, m in enumerate(markers)
        if words.iat[i, k] not in _VALUE
    ]
    problems += [f"{t}, {m}: {word!r}" for t, m, word in wrong]
    if problems:
        raise InputError(
            f"{path}: the assignment matrix cannot be used.",
            expected="each type and marker once; positive, negative or undefined",
            got=format_list(problems, 10),
        )
    values = np.array([[_VALUE[w] for w in row] for row in words.to_numpy()], np.float32)
    return AssignmentMatrix(tuple(types), tuple(markers), values)


def read_thresholds(
    given: str | Mapping[str, float | tuple[float, float]], folder: Path
) -> dict[str, tuple[float, float]]:
    """Channel -> (low, high), from a mapping or a CSV (channel and threshold, or low and high)."""
    if isinstance(given, str):
        limits = [Column(name, "number", required=False) for name in ("threshold", "low", "high")]
        frame = read_table(folder / given, [Column("channel", aliases=("marker",)), *limits])
        if {"channel", "threshold"} <= set(frame.columns):
            frame = frame.assign(low=frame["threshold"], high=frame["threshold"])
        if not {"channel", "low", "high"} <= set(frame.columns):
            raise InputError(
                f"{folder / given}: this is no table of thresholds.",
                expected="the columns channel and threshold, or channel, low, high",
                got=format_list([str(c) for c in frame.columns]),
            )
        if twice := frame["channel"][frame["channel"].duplicated()].tolist():
            raise InputError(
                f"{folder / given}: channels have two thresholds.", got=format_list(twice)
            )
        if (frame["channel"] == "").any():
            raise InputError(f"{folder / given}: there are thresholds without a channel.")
        out = {
            str(c): (float(a), float(b))
            for c, a, b in zip(frame["channel"], frame["low"], frame["high"], strict=True)
        }
    else:
        out = {
            c: (float(v), float(v)) if isinstance(v, (int, float)) else (float(v[0]), float(v[1]))
            for c, v in given.items()
        }
    if wrong := [
        c for c, (a, b) in out.items() if not (np.isfinite(a) and np.isfinite(b) and a <= b)
    ]:
        raise InputError(
            "Thresholds are not numbers, or low is above high.", got=format_list(wrong)
        )
    return out
