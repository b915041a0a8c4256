"""``panimbus fetch``: the public data and weights of the paper, from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(
    name: Annotated[options.Collection, typer.Argument(help="What to download.")],
    *,
    out: Annotated[
        Path, options.folder("--out", "Folder for the files; an interrupted download continues.")
    ],
    datasets: Annotated[
        str | None,
        typer.Option(
            help="With pan-m: only these datasets, comma-separated (codex_colon, mibi_breast, ...)."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the size and the free space, and stop.")
    ] = False,
    skip_bad_rows: Annotated[
        bool,
        typer.Option(
            "--skip-bad-rows",
            help="With pan-m-gold: leave out and count annotations that do not fit the images.",
        ),
    ] = False,
) -> None:
    """Download, verify and unpack public data or weights.

    Prints the size, and stops before the download if the disk is too small. An interrupted download
    continues in the middle of a file. HF_ENDPOINT sets a mirror.
    """
    from panimbus.annotations.panm import (
        CALLS_CSV,
        SETS,
        WEIGHTS,
        plan_fetch,
        run_fetch,
        write_evaluation,
    )
    from panimbus.cli.console import running
    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError
    from panimbus.io.panm import TRUTH

    if skip_bad_rows and name.value != next(iter(SETS)):
        raise InputError("--skip-bad-rows goes with pan-m-gold.", got=name.value)
    plan = plan_fetch(name.value, out, options.names_in(datasets))
    for line in plan.lines():
        typer.echo(line)
    if dry_run:
        return
    prepare_out(out)
    with running("fetch", name.value) as log:
        folder = run_fetch(plan, progress=log)
    then = f"panimbus build {folder} --out STORE"
    if name.value == WEIGHTS:
        then = f"panimbus predict IMAGES --labels LABELS --model {folder} --out RESULTS"
    elif (folder / TRUTH).is_file():
        path, notes = write_evaluation(folder, skip_bad_rows=skip_bad_rows)
        for note in notes:
            typer.echo(note)
        typer.echo(f"annotations: {folder / CALLS_CSV}")
        then = f"panimbus evaluate {path} --out REPORT"
    typer.echo(str(folder))
    log.end(out, then)
