"""``panimbus annotate``: annotations to and from QuPath, their agreement and their consensus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options, questions
from panimbus.cli.inputs import check_new_file

app = typer.Typer(
    no_args_is_help=True,
    help="Annotations: which cells to ask, QuPath, agreement, estimates.",
)
_COLUMNS = "CSV with fov, cell_id, channel, call (and annotator, time, dataset)"
Annotations = Annotated[
    list[Path],
    options.files_argument(
        "ANNOTATIONS", f"Annotations: {_COLUMNS}; or a folder of results, of which the log is read."
    ),
]
NewFile = Annotated[Path, options.file("--out", "CSV file to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


@app.command("export")
def export(  # noqa: PLR0913 (one parameter per option)
    images: options.Images,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    annotations: Annotated[
        list[Path], options.file("--annotations", f"Annotations: {_COLUMNS}; repeatable.")
    ],
    out: Annotated[
        Path, options.folder("--out", "Folder for the GeoJSON files, one per FOV and channel.")
    ],
    blind: Annotated[
        bool, typer.Option("--blind", help="Omit the answers, for a second annotator.")
    ] = False,
    draw: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=1,
            help="Export only this many annotations, sampled evenly over channels and answers.",
        ),
    ] = None,
    seed: options.Seed = 0,
    channel_names: options.ChannelNames = None,
    mpp: options.Mpp = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the files of an earlier export in --out, including the answers in them.",
        ),
    ] = False,
) -> None:
    """Write annotations as QuPath objects: the outline of each cell, its class the answer."""
    from panimbus.annotations import qupath
    from panimbus.annotations.read import read_annotations
    from panimbus.annotations.table import FOV, sample_annotations
    from panimbus.cli.inputs import open_given, prepare_out
    from panimbus.core.errors import InputError, format_list

    prepare_out(out)
    table = read_annotations(annotations)
    if draw is not None:
        table = sample_annotations(table, draw, seed=seed)
    earlier = qupath.exported_files(out, table)
    if earlier and not overwrite:
        raise InputError(
            f"--out {out} contains files of an earlier export; `annotate import` would mix them"
            " with the new ones.",
            got=format_list([path.name for path in earlier], 5),
            fix="pass another --out, or --overwrite to replace them and the answers in them",
        )
    fovs = open_given(images, labels, pairs=pairs, mpp=mpp, channel_names=channel_names)
    named = set(table[FOV])
    fovs = [f for f in fovs if f.fov_id in named] or fovs
    written = qupath.export_qupath(table, fovs, out, blind=blind)
    for path in set(earlier) - set(written):
        path.unlink()
    typer.echo(f"{len(table):,} annotations in {len(written)} files: {out}")


@app.command("import")
def import_(  # noqa: PLR0913 (one parameter per option)
    files: Annotated[
        list[Path],
        options.files_argument(
            "FILES",
            "GeoJSON files saved by QuPath (File > Export objects as GeoJSON), or lists of"
            " `panimbus annotate draw` whose column call was filled in (CSV).",
        ),
    ],
    *,
    out: Annotated[Path | None, options.file("--out", "CSV file to write.")] = None,
    results: Annotated[
        Path | None,
        options.folder(
            "--results", "Instead of --out: folder of `panimbus predict` whose log they join."
        ),
    ] = None,
    annotator: Annotated[str, typer.Option(help="Name of the annotator.")],
    second: Annotated[
        bool, typer.Option("--second", help="With --results: of a second, blind reader.")
    ] = False,
    fov: Annotated[
        str | None, typer.Option(help="FOV of objects without one (QuPath before 0.5).")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Channel of objects without one.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Read the annotations that were made in QuPath or in a list."""
    from datetime import UTC, datetime

    from panimbus.annotations.log import FIRST, LOG, SECOND, AnnotationLog
    from panimbus.annotations.matching import check_in_table
    from panimbus.annotations.questions import append_new, lists_of, read_answers
    from panimbus.annotations.table import WEIGHT, write_annotations
    from panimbus.core.errors import InputError
    from panimbus.infer.rewrite import open_result

    if (out is None) == (results is None):
        raise InputError("Say where the annotations go: --out or --results, one of them.")
    if out is not None:
        check_new_file(out, overwrite=overwrite)
    table = None if results is None else open_result(results)
    lists = [] if results is None else lists_of(results)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    read = read_answers(files, lists, annotator=annotator, time=now, fov=fov, channel=channel)
    rows = read.annotations
    rest = f"; {read.unclassified:,} have no answer yet" if read.unclassified else ""
    if results is not None and table is not None:
        check_in_table(rows, table)
        log = AnnotationLog(results / LOG)
        new = append_new(log, rows, round=SECOND if second else FIRST)
        typer.echo(f"{len(rows):,} annotations, {new:,} of them new: {log.path}{rest}")
    elif out is not None:
        drop = WEIGHT in rows and rows[WEIGHT].isna().any()
        write_annotations(out, rows.drop(columns=WEIGHT) if drop else rows)
        typer.echo(f"{len(rows):,} annotations: {out}{rest}")


app.command("draw")(questions.draw)
app.command("estimate")(questions.estimate)


@app.command("agree")
def agree(
    annotations: Annotations,
    *,
    out: Annotated[
        Path | None, options.file("--out", "Also write the table to this CSV file.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute Cohen's kappa for each pair of annotators.

    Once for positive against negative, and once weighted over the five answers.
    """
    from panimbus.annotations.agreement import annotator_agreement
    from panimbus.annotations.log import FIRST, SECOND
    from panimbus.annotations.read import read_annotations
    from panimbus.annotations.table import write_annotations

    if out is not None:
        check_new_file(out, overwrite=overwrite)
    table = annotator_agreement(read_annotations(annotations, rounds=(FIRST, SECOND)))
    typer.echo(table.to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    if out is not None:
        write_annotations(out, table)


@app.command("consensus")
def consensus_command(
    annotations: Annotations, *, out: NewFile, overwrite: Overwrite = False
) -> None:
    """Combine the annotators to one annotation per cell by majority; ties are undetermined."""
    from panimbus.annotations.agreement import consensus_annotations
    from panimbus.annotations.read import read_annotations
    from panimbus.annotations.table import CALL, UNDETERMINED, write_annotations

    check_new_file(out, overwrite=overwrite)
    table = consensus_annotations(read_annotations(annotations))
    write_annotations(out, table)
    split = int((table[CALL] == UNDETERMINED).sum())
    typer.echo(f"{len(table):,} annotations, {split:,} undetermined: {out}")
