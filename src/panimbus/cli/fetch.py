"""``panimbus fetch``: the public data and weights of the paper, from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(
    name: Annotated[options.Collection, typer.Argument(help="What to fetch.")],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="Folder; a second run continues there.",
        ),
    ],
    datasets: Annotated[
        str | None,
        typer.Option(help="Of pan-m: only these, comma-separated (codex_colon, mibi_breast, ...)."),
    ] = None,
) -> None:
    """Download, check and unpack; an interrupted download goes on in the middle of a file.

    HF_ENDPOINT names a mirror.
    """
    from panimbus.cli.console import running, steps
    from panimbus.cli.inputs import prepare_out
    from panimbus.data.panm import EVALUATION, fetch_panm

    prepare_out(out)
    with running("fetch", name.value) as log:
        place = fetch_panm(name.value, out, datasets=options.names_in(datasets), report=steps(log))
    typer.echo(str(place))
    then = None
    if name == options.Collection.WEIGHTS:
        then = f"panimbus predict IMAGES --labels LABELS --model {place} --out RESULTS"
    elif (place / EVALUATION).is_file():
        then = f"panimbus evaluate {place / EVALUATION} --out REPORT"
    log.end(out, then)
