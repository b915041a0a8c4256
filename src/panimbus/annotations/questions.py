"""Lists of cells to ask: written with their QuPath objects, and joined with the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.annotations.choose import BY_HAND, RANDOM, Candidates
from panimbus.annotations.log import FIRST, LOG, AnnotationLog, make_entry
from panimbus.annotations.qupath import (
    QuPathImport,
    export_qupath,
    exported_files,
    file_names,
    import_qupath,
)
from panimbus.annotations.read import read_unchecked
from panimbus.annotations.table import (
    ANNOTATOR,
    CALL,
    CELL,
    CHANNEL,
    FOV,
    LIKELY_NEGATIVE,
    LIKELY_POSITIVE,
    NEGATIVE,
    POSITIVE,
    SAMPLING,
    TIME,
    WEIGHT,
    check_annotations,
    write_annotations,
)
from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.types import Float64Array

LIST = "questions.csv"
_KEYS = [FOV, CELL, CHANNEL]
_VALUES = {POSITIVE: 1.0, LIKELY_POSITIVE: 0.75, LIKELY_NEGATIVE: 0.25, NEGATIVE: 0.0}


def write_questions(out: Path, questions: pd.DataFrame, fovs: Sequence[Fov]) -> list[Path]:
    """Write a list of cells to ask and one GeoJSON file per FOV.

    Parameters
    ----------
    out
        Folder.
    questions
        From `panimbus.annotations.choose.list_questions`. The GeoJSON files do not say why a cell
        is asked, which would hint at the answer. Those of an earlier list are replaced.
    fovs
        Those of the questions, with label images.

    Returns
    -------
    list of Path
        The list first.
    """
    earlier = exported_files(out, questions) if out.is_dir() else []
    written = export_qupath(questions[[*_KEYS, CALL]], fovs, out, blind=True)
    for path in set(earlier) - set(written):
        path.unlink()
    write_annotations(out / LIST, questions)
    return [out / LIST, *written]


def questions_folder(results: Path, marker: str) -> Path:
    """Where the list of a marker lies in a folder of results, unless the user says otherwise."""
    name = next(iter(file_names([(marker, "")]).values()))
    return results / LOG.parent / name.replace(".", "", 1).rstrip(".")


def lists_of(results: Path) -> list[Path]:
    """The lists in a folder of results."""
    return sorted((results / LOG.parent).glob(f"*/{LIST}"))


def asked_before(log: AnnotationLog, candidates: Candidates) -> npt.NDArray[np.object_]:
    """(n,) why each candidate was asked before, by anybody; "" where it has no answer."""
    out = np.full(len(candidates.cell_id), "", object)
    own = [a for a in log.answers() if a.channel == candidates.channel]
    rows = candidates.rows([a.fov for a in own], [a.cell_id for a in own])
    for row, answer in zip(rows.tolist(), own, strict=True):
        if row >= 0 and out[row] != RANDOM:
            out[row] = answer.sampling or BY_HAND
    return out


def answers_of(log: AnnotationLog, candidates: Candidates) -> Float64Array:
    """(n,) what each candidate was answered: 1 positive, 0 negative, NaN not (clearly) answered.

    Likely answers lie a quarter from the sure ones; of several people the mean counts.
    """
    table = log.table()
    own = table[table[CHANNEL] == candidates.channel]
    value = own[CALL].map(_VALUES)
    rows = candidates.rows(own[FOV].to_numpy(), own[CELL].to_numpy())
    use = (rows >= 0) & value.notna().to_numpy()
    count = np.bincount(rows[use], minlength=len(candidates.cell_id))
    total = np.bincount(rows[use], value[use], minlength=len(candidates.cell_id))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def read_answers(
    files: Sequence[Path],
    lists: Iterable[Path] = (),
    *,
    annotator: str,
    time: str,
    fov: str | None = None,
    channel: str | None = None,
) -> QuPathImport:
    """Read answers from GeoJSON files that QuPath saved, or from lists that were filled in (CSV).

    Parameters
    ----------
    files
    lists
        Lists of `write_questions` that say why cells were asked, besides those next to the files.
    annotator, time, fov, channel
        See `panimbus.annotations.qupath.import_qupath`.

    Returns
    -------
    QuPathImport
        Annotations with the column sampling, and sampling_weight (NaN for chosen cells), where a
        list names their cells.
    """
    tables = [file for file in files if file.suffix.lower() == ".csv"]
    parts = [_filled(file, annotator, time) for file in tables]
    if drawn := [file for file in files if file not in tables]:
        parts.append(import_qupath(drawn, annotator=annotator, time=time, fov=fov, channel=channel))
    rows = check_annotations(
        pd.concat([part.annotations for part in parts]), source="the files together"
    )
    near = {file.parent / LIST for file in files} | set(lists)
    asked = [_asked(path) for path in sorted(near) if path.is_file()]
    unanswered = sum(part.unclassified for part in parts)
    if not asked:
        return QuPathImport(rows, unanswered)
    why = pd.concat(asked).drop_duplicates(_KEYS, keep="last")
    rows = rows.drop(columns=[SAMPLING, WEIGHT], errors="ignore").merge(why, "left", on=_KEYS)
    rows[SAMPLING] = rows[SAMPLING].fillna("")
    return QuPathImport(rows, unanswered)


def _filled(path: Path, annotator: str, time: str) -> QuPathImport:
    """The rows of a list that have an answer."""
    frame = read_unchecked(path)
    if CALL not in frame:
        raise InputError(
            f"{path}: the table has no column {CALL}.", available=[str(c) for c in frame.columns]
        )
    answered = frame[CALL].fillna("").astype(str).str.strip() != ""
    if not answered.any():
        raise InputError(
            f"{path}: no row has an answer.", fix=f"fill in the column {CALL}, e.g. with positive"
        )
    rows = frame[answered].drop(columns=[SAMPLING, WEIGHT], errors="ignore")
    rows = rows.assign(**{ANNOTATOR: annotator, TIME: time})
    return QuPathImport(check_annotations(rows, source=str(path)), int((~answered).sum()))


def _asked(path: Path) -> pd.DataFrame:
    """Why the cells of a list were asked: their keys, sampling and sampling_weight."""
    frame = read_unchecked(path)
    if lost := [c for c in (*_KEYS, SAMPLING, WEIGHT) if c not in frame]:
        raise InputError(
            f"{path}: this is no list of `panimbus annotate draw`.", got=f"no column {lost[0]}"
        )
    out = frame[_KEYS].astype({FOV: str, CHANNEL: str, CELL: np.int64})
    weight = pd.to_numeric(frame[WEIGHT], errors="coerce")
    return out.assign(**{SAMPLING: frame[SAMPLING].fillna("").astype(str), WEIGHT: weight})


def append_new(log: AnnotationLog, annotations: pd.DataFrame, *, round: int = FIRST) -> int:  # noqa: A002
    """Append annotations to a log, all or none, except those that it has already.

    Returns
    -------
    int
        How many were new.
    """
    stored = {
        (a.annotator, a.fov, a.cell_id, a.channel, a.call) for a in log.answers(rounds=(round,))
    }
    new = []
    for row in annotations.to_dict("records"):
        keys = (row[ANNOTATOR], row[FOV], int(row[CELL]), row[CHANNEL], row[CALL])
        if keys in stored:
            continue
        weight = row.get(WEIGHT)
        new.append(
            make_entry(
                keys[0],
                fov=keys[1],
                cell_id=keys[2],
                channel=keys[3],
                call=keys[4],
                sampling=row.get(SAMPLING) or "",
                sampling_weight=None if weight is None or np.isnan(weight) else float(weight),
                round=round,
            )
        )
    log.extend(new)
    return len(new)
