"""``panimbus evaluate``: how well scores agree with annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.evaluate.config import EvalConfig
    from panimbus.evaluate.inputs import EvaluationInputs


def command(  # noqa: PLR0913 (one parameter per option)
    source: Annotated[
        Path,
        options.files_argument(
            "CALLS|TOML", "Annotations (CSV, with --table), or a TOML file that lists datasets."
        ),
    ],
    *,
    out: Annotated[Path, options.folder("--out", "Folder for report.html and the tables.")],
    table: Annotated[
        Path | None,
        options.file("--table", "cells.h5ad of `panimbus predict`, to be compared with CALLS."),
    ] = None,
    images: Annotated[
        list[str] | None,
        options.location("--images", "With --table: images, to show the largest errors."),
    ] = None,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    mpp: options.Mpp = None,
    silver: Annotated[
        Path | None,
        options.file("--silver", "With --table: CSV of silver labels, evaluated like a method."),
    ] = None,
    cell_types: Annotated[
        Path | None,
        options.file("--cell-types", "With --table: CSV with fov, cell_id, cell_type."),
    ] = None,
    model: options.Model = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="With TOML: only these datasets, comma-separated."),
    ] = None,
    root: Annotated[
        Path | None,
        options.folder(
            "--root", "With TOML: the folder that relative paths start from, instead of its root."
        ),
    ] = None,
    tta: options.Views = None,
    likely: Annotated[
        bool | None,
        typer.Option(
            help="With --table: use 'likely positive' and 'likely negative' too. [default: yes]"
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        options.file("--summary", "Also write SUMMARY.md and SUMMARY.csv.", "STEM"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another evaluation in --out.")
    ] = False,
) -> None:
    """Compare scores with annotations: F1 by marker, dataset, tissue and cell type.

    Writes one HTML page with baselines, calibration and confounders, and tables.
    """
    from panimbus.annotations.cells import read_cell_types, read_silver
    from panimbus.annotations.read import read_annotations
    from panimbus.annotations.table import with_truth
    from panimbus.cli.console import RunLog, on_terminal
    from panimbus.cli.inputs import open_given, prepare_out
    from panimbus.core.errors import InputError
    from panimbus.evaluate import inputs
    from panimbus.evaluate.config import read_evaluation_file
    from panimbus.evaluate.scored import CellMetadata
    from panimbus.infer.record import check_same_request, comparable_path
    from panimbus.io.scores import check_cell_table, read_h5ad

    _check_options(
        {
            "--images": images,
            "--labels": labels,
            "--pairs": pairs,
            "--mpp": mpp,
            "--silver": silver,
            "--cell-types": cell_types,
            "--likely": likely,
        },
        {"--model": model, "--only": only, "--root": root, "--tta": tta},
        has_table=table is not None,
    )
    if table is None and source.suffix.lower() != ".toml":
        raise InputError(
            f"{source} is not a TOML file.",
            fix="pass --table cells.h5ad to compare a table with annotations",
        )
    prepare_out(out)
    request = {
        "calls_or_TOML": comparable_path(source),
        "table": comparable_path(table),
        "images": list(map(comparable_path, images or [])),
        "labels": list(map(comparable_path, labels or [])),
        "pairs": comparable_path(pairs),
        "mpp": mpp,
        "silver": comparable_path(silver),
        "cell_types": comparable_path(cell_types),
        "likely": likely is not False,
        "model": model,
        "only": options.names_in(only),
        "root": comparable_path(root),
        "tta": options.value(tta),
    }
    check_same_request(
        out / "evaluation.json", request, "the report and tables", overwrite=overwrite
    )
    log = RunLog("evaluate", str(source), quiet=on_terminal())
    if table is None:
        config = read_evaluation_file(source, root=root).only(tuple(options.names_in(only) or ()))
        say = (lambda text: typer.echo(text, err=True)) if on_terminal() else log.line
        loaded = inputs.from_config(config, model=model, tta=options.value(tta), say=say)
        _save(loaded, out, source.stem, summary, request, config)
        log.end(out)
        return
    annotations = read_annotations(source)
    calls = with_truth(annotations, likely=likely is not False, source=str(source))
    scores = check_cell_table(read_h5ad(table), str(table))
    metadata = CellMetadata(
        cell_types=read_cell_types(cell_types) if cell_types else None,
        silver=read_silver(silver) if silver else None,
    )
    if bool(images) != bool(labels or pairs):
        raise InputError(
            "--images needs --labels (or --pairs), and vice versa.", fix="pass both or neither"
        )
    fovs = open_given(images, labels, pairs=pairs, mpp=mpp) if images else []
    loaded = inputs.from_table(calls, scores, metadata, fovs)
    _save(loaded, out, f"{source.name}, {table.name}", summary, request)
    log.end(out)


def _check_options(
    with_table: dict[str, object], with_toml: dict[str, object], *, has_table: bool
) -> None:
    """Refuse the options of one kind of input if the other kind is given."""
    from panimbus.core.errors import InputError

    excluded = with_toml if has_table else with_table
    if names := [name for name, value in excluded.items() if value not in (None, [])]:
        raise InputError(
            f"{', '.join(names)} cannot be used {'with' if has_table else 'without'} --table.",
            fix="omit it: the table is already scored" if has_table else "set it in the TOML file",
        )


def _save(
    loaded: EvaluationInputs,
    out: Path,
    title: str,
    summary: Path | None,
    request: dict[str, Any],
    config: EvalConfig | None = None,
) -> None:
    """Evaluate, write the report and the tables, and print the means."""
    from datetime import UTC, datetime

    from panimbus.cli.inputs import command_line
    from panimbus.evaluate.report import write_report
    from panimbus.evaluate.tables import means_rows, plain, write_evaluation_tables, write_summary

    result = loaded.evaluate(config)
    about = {
        "title": title,
        **loaded.about(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": command_line(),
    }
    write_evaluation_tables(result, out, about, request)
    page = write_report(result, out, about, loaded.scenes)
    if summary is not None:
        write_summary(result, summary, about)
    typer.echo(f"{plain(means_rows(result))}\nreport:  {page}\ntables:  {out}")
