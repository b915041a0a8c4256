"""``panimbus fetch``: the public data and weights of the paper, from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[str, typer.Argument(help="pan-m-gold, pan-m or nimbus-weights.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder; a second run continues there.")],
    datasets: Annotated[
        str | None, typer.Option(help="Of pan-m: only these, comma-separated (codex_colon, mibi_breast, ...).")
    ] = None,
) -> None:
    """Download, check and unpack; an interrupted download goes on in the middle of a file. HF_ENDPOINT names a mirror."""
    from panimbus.cli.console import names_in, step_bar
    from panimbus.core.errors import InputError
    from panimbus.data.panm import EVALUATION, fetch

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file.", expected="a folder")
    wanted = names_in(datasets)
    with step_bar() as show:
        found = fetch(name, out, datasets=wanted, report=show)
    if name == "nimbus-weights":
        typer.echo(f"{found}\nnext: panimbus predict ... --model {found}")
    elif (found / EVALUATION).is_file():
        typer.echo(f"{found}\nnext: panimbus evaluate {found / EVALUATION} --out FOLDER")
    else:
        typer.echo(str(found))
