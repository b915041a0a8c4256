"""``panimbus gold``: calls made by eye, to QuPath and back, their agreement and their consensus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options

app = typer.Typer(
    no_args_is_help=True, help="Calls made by eye: to QuPath and back, agreement, consensus."
)
_CALLS = "CSV with fov, cell_id, channel, call (and annotator, time, dataset)."
Calls = Annotated[list[Path], typer.Argument(parser=options.path, metavar="CALLS", help=_CALLS)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")]


def _new_file(out: Path, *, overwrite: bool) -> None:
    """Calls are people's work: a file of them is not replaced unasked."""
    from panimbus.core.errors import InputError

    if out.is_dir():
        raise InputError(f"--out {out} is a folder.", expected="the name of a CSV file")
    if out.exists() and not overwrite:
        raise InputError(
            f"--out {out} exists already.", fix="choose another name; or --overwrite to replace it"
        )


@app.command("export")
def export(  # noqa: PLR0913 (one parameter an option)
    images: options.Images,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    calls: Annotated[
        list[Path],
        typer.Option(
            "--calls",
            parser=options.path,
            metavar="FILE",
            help=f"{_CALLS[:-1]}; may be given several times.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="Folder for the GeoJSON files, one a FOV and channel.",
        ),
    ],
    blind: Annotated[
        bool, typer.Option("--blind", help="Leave the calls away, for a second reader.")
    ] = False,
    draw: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=1, help="Only so many, drawn evenly over channels and calls."
        ),
    ] = None,
    seed: options.Seed = 0,
    channel_names: options.ChannelNames = None,
    mpp: options.Mpp = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the files of an earlier export in --out, and the calls in them.",
        ),
    ] = False,
) -> None:
    """Write calls as objects for QuPath: the outline of each cell, its class the call."""
    from panimbus.annotations import qupath
    from panimbus.annotations.table import FOV, read_annotations, sample_annotations
    from panimbus.cli.inputs import open_given, prepare_out, refuse_labels_among
    from panimbus.core.errors import InputError, format_list

    prepare_out(out)
    table = read_annotations(calls)
    if draw is not None:
        table = sample_annotations(table, draw, seed=seed)
    earlier = qupath.exported_files(out, table)
    if earlier and not overwrite:
        raise InputError(
            f"--out {out}: files of an earlier export are there; `gold import` would mix them with"
            " those of this one.",
            got=format_list([path.name for path in earlier], 5),
            fix=(
                "pass another --out; or --overwrite to replace them, with the calls that were made"
                " in them"
            ),
        )
    fovs = open_given(images, labels, pairs=pairs, mpp=mpp, channel_names=channel_names)
    if any(fov.labels is None for fov in fovs):
        refuse_labels_among(images)
    named = set(table[FOV])
    fovs = [f for f in fovs if f.fov_id in named] or fovs
    written = qupath.export_qupath(table, fovs, out, blind=blind)
    for path in set(earlier) - set(written):
        path.unlink()
    typer.echo(f"{len(table):,} calls in {len(written)} files: {out}")


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            parser=options.path,
            metavar="FILES",
            help="GeoJSON files that QuPath saved (File > Export objects as GeoJSON).",
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", parser=options.path, metavar="FILE", help="CSV to write.")
    ],
    annotator: Annotated[str, typer.Option(help="Who made the calls.")],
    fov: Annotated[
        str | None, typer.Option(help="FOV of objects that do not say it (QuPath before 0.5).")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Channel of objects that do not say it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Read the calls that an annotator made in QuPath."""
    from datetime import UTC, datetime

    from panimbus.annotations.qupath import import_qupath
    from panimbus.annotations.table import write_annotations

    _new_file(out, overwrite=overwrite)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    imported = import_qupath(files, annotator=annotator, time=now, fov=fov, channel=channel)
    write_annotations(imported.calls, out)
    rest = f"; {imported.unclassified:,} objects have no class yet" if imported.unclassified else ""
    typer.echo(f"{len(imported.calls):,} calls: {out}{rest}")


@app.command("agree")
def agree(
    calls: Calls,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=options.path, metavar="FILE", help="Also write the table as CSV."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Cohen's kappa of every pair of annotators.

    Of positive against negative, and weighted over the five calls.
    """
    from panimbus.annotations.agreement import annotator_agreement
    from panimbus.annotations.table import read_annotations, write_annotations

    if out is not None:
        _new_file(out, overwrite=overwrite)
    table = annotator_agreement(read_annotations(calls))
    typer.echo(table.to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    if out is not None:
        write_annotations(table, out)


@app.command("consensus")
def consensus(
    calls: Calls,
    *,
    out: Annotated[
        Path, typer.Option("--out", parser=options.path, metavar="FILE", help="CSV to write.")
    ],
    overwrite: Overwrite = False,
) -> None:
    """One call a cell and channel: the majority of the annotators; ties are undetermined."""
    from panimbus.annotations.agreement import consensus_annotations
    from panimbus.annotations.table import CALL, UNDETERMINED, read_annotations, write_annotations

    _new_file(out, overwrite=overwrite)
    table = consensus_annotations(read_annotations(calls))
    write_annotations(table, out)
    split = int((table[CALL] == UNDETERMINED).sum())
    typer.echo(f"{len(table):,} calls, {split:,} undetermined: {out}")
