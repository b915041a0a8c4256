"""``panimbus compare``: several evaluations in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULTS",
            help=(
                "Folders of `panimbus evaluate`, as DIR, NAME=DIR or NAME=DIR,DIR,...; folders of"
                " one name are combined (leave one dataset out)."
            ),
        ),
    ],
    *,
    out: Annotated[
        Path | None, options.folder("--out", "Folder for comparison.md and the tables.")
    ] = None,
) -> None:
    """Compare evaluations of the same annotations."""
    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError
    from panimbus.evaluate.compare import compare_evaluations, comparison_rows, write_comparison
    from panimbus.evaluate.tables import plain

    if out is not None:
        prepare_out(out)
    columns: dict[str, list[Path]] = {}
    for text in results:
        name, _, folders = text.rpartition("=")
        paths = [options.path(p) for p in folders.split(",") if p]
        name = name or ", ".join(p.name for p in paths)
        if name in columns or not paths:
            raise InputError(f"{text!r} cannot be used.", expected="NAME=DIR, with unique names")
        columns[name] = paths
    result = compare_evaluations(columns)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(plain(comparison_rows(result)))
    if out is not None:
        write_comparison(result, out)
        typer.echo(f"written: {out}")
