"""Thresholds per marker: how they are written, and the calls they give."""

from __future__ import annotations

import csv
import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import ChannelError, InputError, ReadError, listed

Array = npt.NDArray[Any]
_MARKER, _THRESHOLD = "marker", "threshold"
_EXPECTED = "CD20=0.7,CD4=0.6, or a CSV file with the columns marker,threshold; each above 0 and below 1"


def parse_thresholds(text_or_path: str, channels: Sequence[str]) -> dict[str, float]:
    """Read thresholds of some markers.

    Parameters
    ----------
    text_or_path
        ``CD20=0.7,CD4=0.6``; or the path of a CSV file with the columns ``marker`` and ``threshold`` (more columns do no harm),
        which names with commas need.
    channels
        The markers of the panel.

    Returns
    -------
    dict
        Marker -> threshold, in the order of ``channels``.

    Raises
    ------
    ChannelError
        If a marker is not in the panel; it names the closest ones.
    InputError
        If a threshold is no number above 0 and below 1, or a marker has two. All problems are in one message.

    Examples
    --------
    >>> parse_thresholds("CD4=0.6, CD20=0.7", ["CD20", "CD3", "CD4"])
    {'CD20': 0.7, 'CD4': 0.6}
    """
    path = _as_file(text_or_path)
    pairs = _inline(text_or_path) if path is None else _rows(path)
    if not pairs:
        raise InputError(f"There are no thresholds in {str(text_or_path if path is None else path)!r}.", expected=_EXPECTED)
    problems = [f"{name}: twice" for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    unknown = [name for name in dict.fromkeys(name for name, _ in pairs) if name not in channels]
    problems += [f"no marker {name!r}{alike(name, channels)}" for name in unknown]
    out: dict[str, float] = {}
    for name, value in pairs:
        number = _number(value)
        if number is None or not 0 < number < 1:
            problems.append(f"{name}: {value!r} is {'not a number' if number is None else 'not above 0 and below 1'}")
        else:
            out[name] = number
    if problems:
        what = f"Thresholds that cannot be used ({text_or_path if path is None else path})."
        if unknown:
            raise ChannelError(what, got="; ".join(problems), available=channels)
        raise InputError(what, expected=_EXPECTED, got="; ".join(problems))
    return {name: out[name] for name in channels if name in out}


def check_thresholds(thresholds: Mapping[str, float], channels: Sequence[str]) -> None:
    """Refuse thresholds of markers that are not scored, or that are not above 0 and below 1; all problems in one message."""
    unknown = [name for name in thresholds if name not in channels]
    wrong = {n: v for n, v in thresholds.items() if not isinstance(v, int | float | np.number) or not 0 < v < 1}
    got = "; ".join([f"no marker {n!r}{alike(n, channels)}" for n in unknown] + [f"{n}: {v}" for n, v in wrong.items()])
    if unknown:
        raise ChannelError("Thresholds that cannot be used.", got=got, available=channels)
    if wrong:
        raise InputError("Thresholds that cannot be used.", expected="each above 0 and below 1", got=got)


def calls(scores: Array, thresholds: npt.ArrayLike) -> Array:
    """Which cells are positive: those whose score is at least the marker's threshold.

    Parameters
    ----------
    scores : (n, C) float
        NaN = missing.
    thresholds : (C,) float
        Rounded to the scores' precision first, so that a float32 score written as 0.7 reaches a threshold of 0.7.

    Returns
    -------
    (n, C) uint8
        0 or 1; where scores are missing float32, with NaN in their places.

    Examples
    --------
    >>> calls(np.array([[0.4, 0.7]], np.float32), [0.5, 0.7])
    array([[0, 1]], dtype=uint8)
    >>> calls(np.array([[np.nan, 0.7]], np.float32), [0.5, 0.7])
    array([[nan,  1.]], dtype=float32)
    """
    positive = (scores >= np.asarray(thresholds, scores.dtype)).astype(np.uint8)
    missing = np.isnan(scores)
    return np.where(missing, np.float32(np.nan), positive.astype(np.float32)) if missing.any() else positive


def _as_file(text: str) -> Path | None:
    path = Path(text)
    try:
        if path.is_file():
            return path
    except OSError:  # too long for a name
        return None
    if "=" not in text and path.suffix:
        raise ReadError(f"{path}: there is no such file.", expected=_EXPECTED)
    return None


def _inline(text: str) -> list[tuple[str, str]]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if bare := [word for word in words if not word.rpartition("=")[0].strip()]:
        raise InputError("Thresholds that cannot be read.", expected=_EXPECTED, got=listed(bare))
    return [(name.strip(), value.strip()) for name, _, value in (word.rpartition("=") for word in words)]


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip(' ,;\t"')]
    except UnicodeDecodeError as error:
        raise ReadError(f"{path} is not text.", expected=_EXPECTED, got=str(error)) from None
    semicolons = bool(lines) and ";" in lines[0] and "," not in lines[0]  # a spreadsheet's, where numbers have commas
    table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=";" if semicolons else ",")]
    head = [cell.casefold() for cell in table[0]] if table else []
    if not {_MARKER, _THRESHOLD} <= set(head):
        raise ReadError(
            f"{path}: not a table of thresholds.", expected="the columns marker,threshold", got=",".join(head) or "no row"
        )
    places = head.index(_MARKER), head.index(_THRESHOLD)
    rows = [[row[k] if k < len(row) else "" for k in places] for row in table[1:]]
    return [(name, value.replace(",", ".") if semicolons else value) for name, value in rows]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def alike(name: str, channels: Sequence[str]) -> str:
    """`` (did you mean 'CD20'?)``, or nothing where no name is close."""
    folded = {channel.casefold(): channel for channel in channels}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
