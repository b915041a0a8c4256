"""``panimbus evaluate``: calls in, how good a model is out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.evaluate.config import EvalConfig
    from panimbus.evaluate.inputs import EvaluationInputs


def command(  # noqa: PLR0913 (one parameter an option)
    what: Annotated[
        Path,
        typer.Argument(
            parser=options.path,
            metavar="CALLS|TOML",
            help="CALLS.csv (with --table), or a TOML file that names datasets.",
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="Folder for report.html and the tables.",
        ),
    ],
    table: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FILE",
            help="cells.h5ad of `panimbus predict`, judged by CALLS.csv.",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            parser=options.word,
            metavar="PATH",
            help="With --table: images, for pictures of the most wrong cells.",
        ),
    ] = None,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    mpp: options.Mpp = None,
    silver: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FILE",
            help="With --table: CSV of silver labels, judged like a method.",
        ),
    ] = None,
    cell_types: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FILE",
            help="With --table: CSV with fov, cell_id, cell_type.",
        ),
    ] = None,
    model: options.Model = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="With TOML: only these datasets, comma-separated."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FOLDER",
            help="With TOML: folder that its paths are relative to, instead of its root.",
        ),
    ] = None,
    tta: options.Views = None,
    likely: Annotated[
        bool | None,
        typer.Option(
            help=(
                "With --table: whether likely positive and likely negative calls count. [default:"
                " yes]"
            )
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="STEM",
            help="Also write the tables here: SUMMARY.md and SUMMARY.csv.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another evaluation in --out.")
    ] = False,
) -> None:
    """Judge scores by calls: F1 by marker, dataset, tissue, cell type.

    Baselines, calibration, confounders; one HTML page.
    """
    from panimbus.cli.console import RunLog, on_terminal
    from panimbus.cli.inputs import open_given, prepare_out
    from panimbus.core.errors import InputError

    of_table = {
        "--images": images,
        "--labels": labels,
        "--pairs": pairs,
        "--mpp": mpp,
        "--silver": silver,
        "--cell-types": cell_types,
    }
    of_table |= {"--likely": likely}
    of_toml = {"--model": model, "--only": only, "--root": root, "--tta": tta}
    if wrong := [
        k for k, v in (of_toml if table is not None else of_table).items() if v not in (None, [])
    ]:
        raise InputError(
            f"{', '.join(wrong)} cannot be used {'with' if table is not None else 'without'}"
            " --table.",
            fix=(
                "leave it away: the table is scored already"
                if table is not None
                else "name it in the TOML file"
            ),
        )
    if table is None and what.suffix.lower() != ".toml":
        raise InputError(
            f"{what} is not a TOML file.", fix="pass --table cells.h5ad to judge a table by calls"
        )
    prepare_out(out)
    from panimbus.infer.record import absolute, check_same_request

    request = {
        "calls_or_TOML": absolute(what), "table": absolute(table), "images": list(map(absolute,
        images or [])), "labels": list(map(absolute, labels or [])), "pairs": absolute(pairs), "mpp": mpp, "silver": absolute(silver),
        "cell_types": absolute(cell_types), "likely": likely is not False, "model": model,
        "only": options.names_in(only), "root": absolute(root), "tta": options.value(tta),
    }  # fmt: skip
    check_same_request(
        out / "evaluation.json", request, "the report and tables", overwrite=overwrite
    )
    log = RunLog("evaluate", str(what), quiet=on_terminal())
    from panimbus.annotations.cells import read_cell_types, read_silver
    from panimbus.annotations.table import read_annotations, with_truth
    from panimbus.evaluate import inputs
    from panimbus.evaluate.config import read_evaluation_file
    from panimbus.evaluate.scored import CellMetadata
    from panimbus.io.h5ad import read_h5ad
    from panimbus.io.scores import check_cell_table

    if table is None:
        config = read_evaluation_file(what, root=root).only(tuple(options.names_in(only) or ()))
        say = (lambda text: typer.echo(text, err=True)) if on_terminal() else log.line
        loaded = inputs.from_config(config, model=model, tta=options.value(tta), say=say)
        _save(loaded, out, what.stem, summary, request, config)
        log.end(out)
        return
    calls, scores = (
        with_truth(read_annotations(what), likely=likely is not False, source=str(what)),
        check_cell_table(read_h5ad(table), str(table)),
    )
    metadata = CellMetadata(
        cell_types=read_cell_types(cell_types) if cell_types else None,
        silver=read_silver(silver) if silver else None,
    )
    if bool(images) != bool(labels or pairs):
        raise InputError(
            "--images and --labels (or --pairs) go together.", fix="pass both, or none of them"
        )
    fovs = open_given(images, labels, pairs=pairs, mpp=mpp) if images else []
    _save(
        inputs.from_table(calls, scores, metadata, fovs),
        out,
        f"{what.name}, {table.name}",
        summary,
        request,
    )
    log.end(out)


def _save(
    loaded: EvaluationInputs,
    out: Path,
    title: str,
    summary: Path | None,
    request: dict[str, Any],
    config: EvalConfig | None = None,
) -> None:
    """Judge, write, and say the main figures."""
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
