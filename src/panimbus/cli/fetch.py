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
) -> None:
    """Download, verify and unpack public data or weights.

    An interrupted download continues in the middle of a file. HF_ENDPOINT sets a mirror.
    """
    from panimbus.annotations.panm import EVALUATION, fetch_panm
    from panimbus.cli.console import running
    from panimbus.cli.inputs import prepare_out

    prepare_out(out)
    with running("fetch", name.value) as log:
        folder = fetch_panm(name.value, out, datasets=options.names_in(datasets), progress=log)
    typer.echo(str(folder))
    then = None
    if name == options.Collection["nimbus-weights"]:
        then = f"panimbus predict IMAGES --labels LABELS --model {folder} --out RESULTS"
    elif (folder / EVALUATION).is_file():
        then = f"panimbus evaluate {folder / EVALUATION} --out REPORT"
    log.end(out, then)
