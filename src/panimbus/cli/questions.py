"""``panimbus annotate draw`` and ``estimate``: what to ask, and what the answers say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.annotations.choose import Candidates
    from panimbus.annotations.log import AnnotationLog
    from panimbus.core.fov import Fov

Source = Annotated[
    Path,
    typer.Argument(
        parser=options.path,
        metavar="RESULTS",
        help="Folder of `panimbus predict`; or a dataset file (TOML) of `panimbus build`, whose"
        " silver labels are proofread.",
    ),
]


@dataclass(frozen=True, eq=False)
class _Opened:
    """A result or a silver dataset: its markers, candidates of a marker, FOVs, perhaps a log."""

    markers: Sequence[str]
    candidates: Callable[[str], Candidates]
    fovs: Callable[[Sequence[str]], list[Fov]]
    log: AnnotationLog | None


def draw(  # noqa: PLR0913 (one parameter per option)
    source: Source,
    *,
    marker: Annotated[str, typer.Option("--marker", metavar="NAME", help="Marker to ask about.")],
    n: Annotated[int, typer.Option("--n", metavar="NUMBER", min=1, help="Cells to ask.")] = 20,
    out: Annotated[
        Path | None,
        options.folder("--out", "Folder for the list. [default: RESULTS/annotations/MARKER]"),
    ] = None,
    types: options.Types = None,
    images: options.MovedImages = None,
    labels: options.Labels = None,
    seed: options.Seed = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the list of an earlier draw in --out.")
    ] = False,
) -> None:
    """Choose cells of a marker to annotate; write the list and its QuPath objects.

    Three quarters are chosen where an answer teaches most (next to the boundary; where neighbours,
    types or views disagree), the rest at random, for an estimate of precision and recall. Answers
    that are in the log already move the boundary, and their cells are not chosen again.
    """
    from panimbus.annotations.choose import draw_questions, list_questions
    from panimbus.annotations.questions import (
        LIST,
        answers_of,
        asked_before,
        questions_folder,
        write_questions,
    )
    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError

    opened = _open(source, types, images, labels)
    if out is None and opened.log is None:
        raise InputError("A dataset file needs --out.", expected="a folder for the list")
    place = out if out is not None else questions_folder(source, marker)
    if (place / LIST).exists() and not overwrite:
        raise InputError(
            f"{place}: a list is there already, perhaps with answers.",
            fix="import its answers and pass --overwrite, or pass another --out",
        )
    candidates = opened.candidates(marker)
    asked = None
    if opened.log is not None:
        asked = asked_before(opened.log, candidates)
        candidates = candidates.with_answers(answers_of(opened.log, candidates))
    table = list_questions(candidates, draw_questions(candidates, n, asked=asked, seed=seed))
    if not len(table):
        raise InputError(f"Every cell of {marker} was answered: none is left to ask.")
    fovs = opened.fovs(list(dict.fromkeys(table["fov"])))
    prepare_out(place)
    write_questions(place, table, fovs)
    reasons = ", ".join(f"{c} {reason}" for reason, c in table["sampling"].value_counts().items())
    typer.echo(f"{len(table)} cells of {marker} ({reasons}): {place}")
    store = "--out answers.csv" if opened.log is None else f"--results {source}"
    typer.echo(
        f"next: fill in the column call of {LIST} (or give classes in QuPath), then\n"
        f"      panimbus annotate import {place / LIST} --annotator NAME {store}"
    )


def estimate(
    source: Source,
    annotations: Annotated[
        list[Path] | None,
        options.files_argument(
            "[ANNOTATIONS]", "Annotations (CSV). [default: the log of the results]"
        ),
    ] = None,
    *,
    out: Annotated[
        Path | None, options.file("--out", "Also write the table to this CSV file.")
    ] = None,
) -> None:
    """Estimate precision and recall per marker, with 95 % intervals.

    Only answers to cells that `panimbus annotate draw` or the viewer drew at random count. For a
    dataset file: of its silver labels.
    """
    import pandas as pd

    from panimbus.annotations.read import read_annotations
    from panimbus.annotations.table import CHANNEL, write_annotations
    from panimbus.core.errors import InputError, format_list
    from panimbus.evaluate.questions import estimate_from

    opened = _open(source, None, None, None)
    if not annotations and opened.log is None:
        raise InputError("A dataset file needs annotations.", fix="pass the CSV file of answers")
    table = read_annotations(annotations or source)
    markers = [m for m in opened.markers if m in set(table[CHANNEL])]
    if unknown := sorted(set(table[CHANNEL]) - set(markers)):
        raise InputError(
            f"{source} does not have markers of the annotations.",
            got=format_list(unknown),
            available=opened.markers,
        )
    made = {marker: estimate_from(table, opened.candidates(marker)) for marker in markers}
    shown = {
        "marker": markers,
        "random answers": [e.answers for e in made.values()],
        **{
            name: [str(getattr(e, name)) for e in made.values()]
            for name in ("precision", "recall", "f1")
        },
    }
    typer.echo(pd.DataFrame(shown).to_string(index=False))
    if out is not None:
        rows = [{"marker": m, "random answers": e.answers} | e.columns() for m, e in made.items()]
        write_annotations(out, pd.DataFrame(rows))


def _open(
    source: Path, types: Path | None, images: list[str] | None, labels: list[str] | None
) -> _Opened:
    if source.suffix.lower() == ".toml":
        return _open_silver(source)
    from panimbus.annotations.log import LOG, AnnotationLog
    from panimbus.evaluate.questions import marker_candidates
    from panimbus.viewer.result import Result

    options.check_moved(images, labels)
    result = Result(source, types=types, images=images or (), labels=labels or ())
    tables = result.tables
    return _Opened(
        tables.markers,
        lambda marker: marker_candidates(tables.cells, marker, tables.types),
        lambda names: [result.fov(name) for name in names],
        AnnotationLog(source / LOG),
    )


def _open_silver(source: Path) -> _Opened:
    from panimbus.cli.console import plural, running
    from panimbus.data.silver_dataset import build_silver_labels
    from panimbus.evaluate.questions import silver_candidates

    with running("annotate", plural(1, "dataset")) as log:
        silver = build_silver_labels(source, progress=log)
    fovs = {one.fov.fov_id: one.fov for one in silver.labelled.scanned.fovs}
    return _Opened(
        silver.labelled.markers,
        lambda marker: silver_candidates(silver, marker),
        lambda names: [fovs[name] for name in names],
        None,
    )
