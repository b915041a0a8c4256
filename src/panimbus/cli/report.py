"""``panimbus report``: one page of a finished result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from panimbus.cli import options


def command(
    results: options.Results,
    *,
    types: options.Types = None,
    images: options.MovedImages = None,
    labels: options.Labels = None,
    out: Annotated[
        Path | None, options.file("--out", "The page. [default: report.html in RESULTS]")
    ] = None,
) -> None:
    """Write one page about a result: every marker, the worst first, and the cell types.

    Scores and calls are those of the table; nothing is scored again. The page needs no other file.
    """
    from panimbus.cli.console import open_page
    from panimbus.core.errors import InputError
    from panimbus.evaluate.result_page import Subject, facts, write_result_page
    from panimbus.infer.repeat import predict_command
    from panimbus.io.replace import finish_replacing
    from panimbus.phenotype.save import open_run
    from panimbus.viewer.result import Result

    if out is not None and out.is_dir():
        raise InputError(f"--out {out} is a folder.", expected="the name of an HTML file")
    options.check_moved(images, labels)
    finish_replacing(results)
    result = Result(results, types=types, images=images or (), labels=labels or ())
    typed = None if result.types_folder is None else open_run(result.types_folder)[0]
    table = result.tables.cells
    path = out or results / "report.html"
    about = {"title": f"Result {result.name}", "result": str(results), **facts(table)}
    if words := predict_command(results, result.tables.thresholds):
        about["command"] = words
    write_result_page(path, Subject(table, result.fov, typed=typed), about)
    typer.echo(f"written: {path}")
    open_page(path.absolute().as_uri())
