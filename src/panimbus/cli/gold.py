"""``panimbus gold``: calls made by eye, to QuPath and back, their agreement and their consensus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Calls made by eye: to QuPath and back, agreement, consensus.")
Calls = Annotated[list[Path], typer.Argument(help="CSV with fov, cell_id, channel, call (and annotator, time, dataset).")]


@app.command("export")
def export(  # noqa: PLR0913 (one parameter an option)
    calls: Calls,
    *,
    images: Annotated[list[str], typer.Option(help="The images on which the calls were made.")],
    labels: Annotated[list[str] | None, typer.Option(help="Label images: a file, or a folder matched by name.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the GeoJSON files, one a FOV and channel.")],
    blind: Annotated[bool, typer.Option("--blind", help="Leave the calls away, for a second reader.")] = False,
    draw: Annotated[int | None, typer.Option(help="Only so many, drawn evenly over channels and calls.")] = None,
    seed: Annotated[int, typer.Option(help="Of --draw.")] = 0,
    channel_names: Annotated[Path | None, typer.Option(help="Channel names, for images that do not name theirs.")] = None,
) -> None:
    """Write calls as objects for QuPath: the outline of each cell, its class the call."""
    from panimbus.data import gold, qupath
    from panimbus.io import open_fovs

    table = gold.read_all(calls)
    if draw is not None:
        table = gold.draw(table, draw, seed=seed)
    fovs = open_fovs(
        images if len(images) > 1 else images[0],
        None if not labels else labels if len(labels) > 1 else labels[0],
        channel_names=channel_names,
    )
    named = set(table[gold.FOV])
    fovs = [f for f in fovs if f.fov_id in named] or fovs
    written = qupath.export_calls(table, fovs, out, blind=blind)
    typer.echo(f"{len(table):,} calls in {len(written)} files: {out}")


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="GeoJSON files that QuPath saved (File > Export objects as GeoJSON).")],
    *,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    annotator: Annotated[str, typer.Option(help="Who made the calls.")],
    fov: Annotated[str | None, typer.Option(help="FOV of objects that do not say it (QuPath before 0.5).")] = None,
    channel: Annotated[str | None, typer.Option(help="Channel of objects that do not say it.")] = None,
) -> None:
    """Read the calls that an annotator made in QuPath."""
    from datetime import UTC, datetime

    from panimbus.data.gold import write_calls
    from panimbus.data.qupath import import_calls

    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = import_calls(files, annotator=annotator, time=now, fov=fov, channel=channel)
    write_calls(found.calls, out)
    rest = f"; {found.unclassified:,} objects have no class yet" if found.unclassified else ""
    typer.echo(f"{len(found.calls):,} calls: {out}{rest}")


@app.command("agree")
def agree(
    calls: Calls,
    *,
    out: Annotated[Path | None, typer.Option(help="Also write the table as CSV.")] = None,
) -> None:
    """Cohen's kappa of every pair of annotators: of positive against negative, and weighted over the five calls."""
    from panimbus.data.agreement import agreement
    from panimbus.data.gold import read_all, write_calls

    table = agreement(read_all(calls))
    typer.echo(table.to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    if out is not None:
        write_calls(table, out)


@app.command("consensus")
def consensus(
    calls: Calls,
    *,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
) -> None:
    """One call a cell and channel: the majority of the annotators; ties are undetermined."""
    from panimbus.data import agreement, gold

    table = agreement.consensus(gold.read_all(calls))
    gold.write_calls(table, out)
    split = int((table[gold.CALL] == gold.UNDETERMINED).sum())
    typer.echo(f"{len(table):,} calls, {split:,} undetermined: {out}")
