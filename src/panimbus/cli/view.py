"""``panimbus view``: a result in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(  # noqa: PLR0913 (one parameter an option)
    results: options.Results,
    *,
    types: options.Types = None,
    images: options.MovedImages = None,
    labels: options.Labels = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen at.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port; default: the first free from 8765."),
    ] = None,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address, but open no browser.")
    ] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show only: nothing in RESULTS is changed.")
    ] = False,
    cache: Annotated[
        Path | None,
        options.folder(
            "--cache",
            "Folder for overviews of large files without a pyramid; default: viewer-cache in"
            " RESULTS.",
        ),
    ] = None,
) -> None:
    """Look at a result in the browser.

    The server listens on this machine only, and its address holds a token. Ctrl-C ends it.
    """
    from panimbus.cli.console import open_page
    from panimbus.core.errors import need_extra

    need_extra("The viewer", "viewer", "nicegui")
    options.check_moved(images, labels)
    from panimbus.io.replace import finish_replacing
    from panimbus.viewer.result import Result
    from panimbus.viewer.state import Viewer

    if not read_only:
        finish_replacing(results)
    result = Result(results, types=types, images=images or (), labels=labels or ())
    from panimbus.viewer.server import serve

    viewer = Viewer(result, read_only=read_only, cache=cache)
    typer.echo(
        f"{result.tables.cells.n_obs:,} cells, {len(result.tables.markers)} markers,"
        f" {len(result.fovs)} FOV{'s' * (len(result.fovs) != 1)}"
        + (f", types from {result.types_folder}" if result.types_folder else ", no types")
    )

    def started(address: str) -> None:
        typer.echo(f"panimbus view: {address}\n(Ctrl-C ends it)")
        if not no_open:
            open_page(address)

    try:
        serve(viewer, host=host, port=port, started=started)
    except KeyboardInterrupt:
        typer.echo("panimbus view: ended", err=True)
