"""The log of annotations: answers and undos of several people, only ever appended.

One JSON object a line. Each is on the disk before `AnnotationLog.append` returns, so that a server
that is killed loses no answer; a line that it did not finish is skipped and reported.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from panimbus.annotations.table import (
    ANNOTATOR,
    CALL,
    CELL,
    CHANNEL,
    FOV,
    SAMPLING,
    TIME,
    WEIGHT,
    check_annotations,
)
from panimbus.core.errors import InputError, ReadError
from panimbus.io.append import append_line, locked, read_from
from panimbus.io.documents import check_regular, parse_json, validate

logger = logging.getLogger(__name__)
LOG = Path("annotations") / "log.jsonl"
"""Place of the log in a folder of results."""
FIRST, SECOND, DISCUSSION = ROUNDS = (1, 2, 3)
"""Rounds: first reader, blind second reader, discussion of the cells they disagree on."""
ROUND = "round"
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
_Answer = Literal[
    "positive", "likely positive", "undetermined", "likely negative", "negative"
]  # those of `panimbus.annotations.table.CALLS`


class _Logged(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)
    id: _Name
    time: str
    annotator: _Name


class LoggedAnnotation(_Logged):
    """An answer.

    Parameters
    ----------
    id, time
        Unique; ISO 8601, UTC.
    annotator
        Name of the person or model.
    fov, cell_id, channel
        Which cell and channel.
    call
        One of `panimbus.annotations.table.CALLS`.
    sampling
        Why the cell was asked (`panimbus.annotations.choose.REASONS`), or chosen by hand.
    sampling_weight
        Number of cells of the tissue that a cell drawn at random stands for; None for a cell that
        was chosen, which stands for itself only.
    round
        One of `ROUNDS`.
    """

    fov: str = Field(min_length=1, max_length=1000)
    cell_id: int = Field(gt=0, lt=1 << 63)
    channel: str = Field(min_length=1, max_length=1000)
    call: _Answer
    sampling: str = Field(default="", max_length=200)
    sampling_weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    round: int = Field(default=FIRST, ge=FIRST, le=DISCUSSION)


class LoggedUndo(_Logged):
    """An undo of the answer with the id ``undo``."""

    undo: _Name


Entry = LoggedAnnotation | LoggedUndo


def make_entry(annotator: str, **answer: object) -> LoggedAnnotation:
    """An answer as an entry of a log, with its id and the time; keys of `LoggedAnnotation`.

    Raises
    ------
    InputError
        If the answer cannot be one.
    """
    return validate(
        LoggedAnnotation, {**_stamp(annotator), **answer}, "The annotation cannot be stored."
    )


class AnnotationLog:
    """The log of annotations of a folder of results.

    Any number of processes, threads and people may append at once.

    Parameters
    ----------
    path
        The file; made by the first answer.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = AnnotationLog(f"{folder}/log.jsonl")
    ...     for cell, call in ((7, "positive"), (8, "negative")):
    ...         _ = log.append(annotator="ann", fov="f", cell_id=cell, channel="CD3", call=call)
    ...     _ = log.undo("ann")
    ...     log.table()[["cell_id", "call"]].to_dict("records")
    [{'cell_id': 7, 'call': 'positive'}]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._guard = threading.Lock()
        self._forget()

    def append(  # noqa: PLR0913 (the keys of an entry)
        self,
        *,
        annotator: str,
        fov: str,
        cell_id: int,
        channel: str,
        call: str,
        sampling: str = "",
        sampling_weight: float | None = None,
        round: int = FIRST,  # noqa: A002 (a key of the file)
    ) -> LoggedAnnotation:
        """Write an answer; it is on the disk when this returns.

        Parameters
        ----------
        annotator, fov, cell_id, channel, call, sampling, sampling_weight, round
            See `LoggedAnnotation`.

        Raises
        ------
        InputError
            If the answer cannot be one.
        OSError
            If it cannot be written.
        """
        entry = make_entry(
            annotator=annotator,
            fov=fov,
            cell_id=cell_id,
            channel=channel,
            call=call,
            sampling=sampling,
            sampling_weight=sampling_weight,
            round=round,
        )
        self.extend([entry])
        return entry

    def extend(self, entries: Sequence[LoggedAnnotation]) -> None:
        """Write answers, all of them by one append.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        if entries:
            with locked(self.path, write=True) as handle:
                append_line(handle, "\n".join(map(_line, entries)))

    def undo(self, annotator: str, entry_id: str | None = None) -> LoggedAnnotation:
        """Take back an answer; what it replaced counts again.

        Parameters
        ----------
        annotator
            Only own answers can be taken back.
        entry_id
            Id of the answer. None: the annotator's last one that counts.

        Returns
        -------
        LoggedAnnotation
            The answer that was taken back.

        Raises
        ------
        InputError
            If there is none to take back.
        """
        with locked(self.path, write=True) as handle:
            entries = self._read(handle)
            undone = _undone(entries)
            own = [
                e
                for e in entries
                if isinstance(e, LoggedAnnotation)
                and e.annotator == annotator
                and (annotator, e.id) not in undone
                and entry_id in (None, e.id)
            ]
            if not own:
                raise InputError(
                    f"There is no answer of {annotator} to undo.",
                    got=None if entry_id is None else f"the answer {entry_id}",
                )
            entry = validate(
                LoggedUndo, {**_stamp(annotator), "undo": own[-1].id}, "The undo cannot be stored."
            )
            append_line(handle, _line(entry))
        return own[-1]

    def entries(self) -> list[Entry]:
        """Everything in the log, in its order; lines that cannot be read are skipped.

        A warning names such lines the first time they are met.

        Raises
        ------
        ReadError
            If the file cannot be opened.
        """
        if not self.path.exists():
            return []
        check_regular(self.path, "a log of annotations (JSON lines)")
        with locked(self.path, write=False) as handle:
            return self._read(handle)

    def answers(self, rounds: Collection[int] = ROUNDS) -> list[LoggedAnnotation]:
        """The answers of some rounds that count; see `current_answers`."""
        return [e for e in current_answers(self.entries()) if e.round in rounds]

    def table(self, rounds: Collection[int] = ROUNDS) -> pd.DataFrame:
        """The annotation table; see `to_table`."""
        return to_table(self.answers(rounds))

    # -- reading ---------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._at, self._lines, self._inode = 0, 0, 0
        self._entries: list[Entry] = []

    def _read(self, handle: int) -> list[Entry]:
        """Read what was appended since the last time; the file must be locked."""
        with self._guard:
            status = os.fstat(handle)
            if status.st_size < self._at or status.st_ino != self._inode:
                self._forget()
                self._inode = status.st_ino
            *lines, rest = read_from(handle, self._at).split(b"\n")
            self._at += sum(len(line) + 1 for line in lines)
            damaged = []
            for line in lines:
                self._lines += 1
                if line.strip():
                    entry = _parse(line)
                    damaged += [self._lines] * (entry is None)
                    self._entries += [entry] if entry is not None else []
            if damaged:
                logger.warning(
                    "%s: lines %s are damaged, as a killed program leaves them, and are skipped",
                    self.path,
                    ", ".join(map(str, damaged[:10])),
                )
            last = _parse(rest) if rest.strip() else None
            return [*self._entries, *([last] if last is not None else [])]


def current_answers(entries: Iterable[Entry]) -> list[LoggedAnnotation]:
    """The answers that count: not undone, and the last per annotator, cell, channel and round.

    Parameters
    ----------
    entries
        In the order of the log.
    """
    entries = list(entries)
    undone = _undone(entries)
    last: dict[tuple[str, str, int, str, int], LoggedAnnotation] = {}
    for entry in entries:
        if isinstance(entry, LoggedAnnotation) and (entry.annotator, entry.id) not in undone:
            key = (entry.annotator, entry.fov, entry.cell_id, entry.channel, entry.round)
            last.pop(key, None)
            last[key] = entry
    return list(last.values())


def to_table(answers: Sequence[LoggedAnnotation]) -> pd.DataFrame:
    """Answers as an annotation table, one row per annotator, cell and channel.

    Parameters
    ----------
    answers
        From `current_answers`. The discussion of a cell replaces what was answered before it; else
        an annotator's last round counts.

    Returns
    -------
    DataFrame
        As `panimbus.annotations.table.check_annotations` returns it, with the columns sampling and
        round; with sampling_weight only if every cell has one: cells that were chosen have none,
        and figures that mix them with cells drawn at random cannot be weighed.
    """
    discussed = {(a.fov, a.cell_id, a.channel) for a in answers if a.round == DISCUSSION}
    rows = {
        (a.annotator, a.fov, a.cell_id, a.channel): a
        for a in sorted(answers, key=lambda a: a.round)  # stable: in the order of the log
        if a.round == DISCUSSION or (a.fov, a.cell_id, a.channel) not in discussed
    }
    columns = [FOV, CELL, CHANNEL, CALL, ANNOTATOR, TIME, WEIGHT, SAMPLING, ROUND]
    table = pd.DataFrame([[getattr(a, c) for c in columns] for a in rows.values()], columns=columns)
    if table[WEIGHT].isna().any() or not len(table):
        table = table.drop(columns=WEIGHT)
    return check_annotations(table, source="the log of annotations")


def _undone(entries: Iterable[Entry]) -> set[tuple[str, str]]:
    """Annotator and id of the answers that were taken back, each by who gave it."""
    return {(e.annotator, e.undo) for e in entries if isinstance(e, LoggedUndo)}


def _stamp(annotator: str) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"id": uuid.uuid4().hex, "time": now, "annotator": annotator}


def _line(entry: Entry) -> str:
    return json.dumps(entry.model_dump(), ensure_ascii=True)


def _parse(line: bytes) -> Entry | None:
    """An entry; None if the line is none."""
    try:
        data = parse_json(line, "a line")
        kind = LoggedUndo if isinstance(data, dict) and "undo" in data else LoggedAnnotation
        return kind.model_validate(data)
    except (ReadError, ValidationError):
        return None
