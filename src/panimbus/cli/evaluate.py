"""``panimbus evaluate``: how well scores agree with annotations."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.core.fov import Fov
    from panimbus.evaluate.evaluation import Evaluation
    from panimbus.evaluate.inputs import EvaluationInputs
    from panimbus.evaluate.settings import EvaluateSettings, Unit

TABLE, TOML, PUBLISHED = "a table of scores", "a TOML file", "the paper's table"
_Unit = StrEnum("_Unit", ["marker", "fov", "dataset"])
_Rule = StrEnum("_Rule", ["text", "code"])


def command(  # noqa: PLR0913 (one parameter per option)
    source: Annotated[
        Path,
        options.files_argument(
            "CALLS|TOML",
            "Annotations (CSV, with --table); a TOML file that lists datasets; or the paper's table"
            " gt_pred_ie_consolidated.csv.",
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
    positions: Annotated[
        Path | None,
        options.file(
            "--positions",
            "With the paper's table: CSV with dataset, fov, labels, centroid-0, centroid-1 of all"
            " cells, for sparsity and density.",
        ),
    ] = None,
    unit: Annotated[
        _Unit | None,
        options.choice(
            "--unit",
            "What the mean is over: markers, markers of each FOV, or datasets with all their"
            " markers pooled, as in the paper. [default: marker; with the paper's table: dataset]",
        ),
    ] = None,
    confounders: Annotated[
        _Rule | None,
        options.choice(
            "--confounders",
            "Confounders as the paper's text defines them, or as its public code computes them."
            " [default: text]",
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        options.file("--summary", "Also write SUMMARY.md and SUMMARY.csv.", "STEM"),
    ] = None,
    batches: options.Batches = None,
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Also draw the figures of the paper: figures/*.svg."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another evaluation in --out.")
    ] = False,
) -> None:
    """Compare scores with annotations: F1 by marker, dataset, tissue and cell type.

    Writes one HTML page with baselines, calibration and confounders, and tables.
    """
    from panimbus.cli.console import RunLog, on_terminal
    from panimbus.cli.inputs import prepare_out
    from panimbus.evaluate import inputs
    from panimbus.evaluate.config import read_evaluation_file
    from panimbus.infer.record import check_same_request, comparable_path

    kind = _kind(source, table)
    given: dict[str, dict[str, object]] = {
        TABLE: {
            "--images": images,
            "--labels": labels,
            "--pairs": pairs,
            "--mpp": mpp,
            "--silver": silver,
            "--cell-types": cell_types,
            "--likely": likely,
            "--batches": batches,
        },
        TOML: {"--model": model, "--only": only, "--root": root, "--tta": tta},
        PUBLISHED: {"--positions": positions},
    }
    means = {"unit": options.value(unit), "confounders": options.value(confounders)}
    _check_options(kind, given, means)
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
    later = {"positions": comparable_path(positions), "batches": batches, **means}
    request |= {name: value for name, value in later.items() if value is not None}
    check_same_request(
        out / "evaluation.json", request, "the report and tables", overwrite=overwrite
    )
    log = RunLog("evaluate", str(source), quiet=on_terminal())
    title = source.stem
    if kind == TOML:
        config = read_evaluation_file(source, root=root).only(tuple(options.names_in(only) or ()))
        say = (lambda text: typer.echo(text, err=True)) if on_terminal() else log.line
        loaded = inputs.from_config(config, model=model, tta=options.value(tta), say=say)
        settings = config.settings(loaded.threshold)
    elif table is None:
        loaded = inputs.from_published(source, positions)
        settings = _settings(loaded, means, "dataset")
    else:
        fovs = _fovs(images, labels, pairs, mpp)
        loaded = _from_table(
            source, table, (silver, cell_types), fovs, likely=likely is not False, batches=batches
        )
        settings, title = _settings(loaded, means, "marker"), f"{source.name}, {table.name}"
    result = _save(loaded, out, title, summary, request, settings)
    if figures:
        _draw(result, loaded, out)
    log.end(out)


def _kind(source: Path, table: Path | None) -> str:
    """What the command is given: a table and calls, datasets, or the paper's table."""
    from panimbus.core.errors import InputError
    from panimbus.evaluate.published import is_published

    if table is not None:
        return TABLE
    if source.suffix.lower() == ".toml":
        return TOML
    if source.is_file() and not is_published(source):
        raise InputError(
            f"{source} is not a TOML file, and not the paper's table of calls.",
            fix="pass --table cells.h5ad to compare a table with annotations",
        )
    return PUBLISHED


def _check_options(
    kind: str, given: Mapping[str, Mapping[str, object]], means: Mapping[str, str | None]
) -> None:
    """Refuse the options of one kind of input if another kind is given."""
    from panimbus.core.errors import InputError

    for other, values in given.items():
        names = [name for name, value in values.items() if value not in (None, [])]
        if other != kind and names:
            how = {TABLE: "with --table", TOML: "with a TOML file", PUBLISHED: "with that table"}
            without = {TABLE: "without --table", TOML: "without a TOML file"}
            raise InputError(
                f"{', '.join(names)} cannot be used"
                f" {how[kind] if kind != TOML else without.get(other, how[kind])}.",
                fix="set it in the TOML file" if kind == TOML else "omit it",
            )
    if kind == TOML and (names := [f"--{n}" for n, value in means.items() if value is not None]):
        raise InputError(
            f"{', '.join(names)} cannot be used with a TOML file.", fix="set it in the TOML file"
        )


def _settings(
    loaded: EvaluationInputs, means: Mapping[str, Any], default: Unit
) -> EvaluateSettings:
    from panimbus.evaluate.settings import EvaluateSettings

    return EvaluateSettings(
        means["unit"] or default,
        loaded.threshold,
        confounders=means["confounders"] or "text",
    )


def _fovs(
    images: list[str] | None, labels: list[str] | None, pairs: Path | None, mpp: float | None
) -> list[Fov]:
    """FOVs whose cells can be shown."""
    from panimbus.cli.inputs import open_given
    from panimbus.core.errors import InputError

    if bool(images) != bool(labels or pairs):
        raise InputError(
            "--images needs --labels (or --pairs), and vice versa.", fix="pass both or neither"
        )
    return open_given(images, labels, pairs=pairs, mpp=mpp) if images else []


def _from_table(
    source: Path,
    table: Path,
    tables: tuple[Path | None, Path | None],
    fovs: list[Fov],
    *,
    likely: bool,
    batches: str | None,
) -> EvaluationInputs:
    """Annotations and a table of scores; ``tables``: silver labels and cell types."""
    from panimbus.annotations.cells import read_cell_types, read_silver
    from panimbus.annotations.read import read_annotations
    from panimbus.annotations.table import with_truth
    from panimbus.core.batches import add_batches
    from panimbus.core.table import FOV
    from panimbus.evaluate import inputs
    from panimbus.evaluate.scored import CellMetadata
    from panimbus.io.assignments import read_batches
    from panimbus.io.scores import check_cell_table, read_h5ad

    silver, cell_types = tables
    calls = with_truth(read_annotations(source), likely=likely, source=str(source))
    scores = check_cell_table(read_h5ad(table), str(table))
    if batches is not None:
        fov_ids = list(dict.fromkeys(scores.obs[FOV].astype(str)))
        add_batches(scores, read_batches(batches, fov_ids))
    metadata = CellMetadata(
        cell_types=read_cell_types(cell_types) if cell_types else None,
        silver=read_silver(silver) if silver else None,
    )
    return inputs.from_table(calls, scores, metadata, fovs)


def _save(
    loaded: EvaluationInputs,
    out: Path,
    title: str,
    summary: Path | None,
    request: dict[str, Any],
    settings: EvaluateSettings,
) -> Evaluation:
    """Evaluate, write the report and the tables, and print the means."""
    from datetime import UTC, datetime

    from panimbus.cli.inputs import command_line
    from panimbus.core.table import BATCH
    from panimbus.evaluate.left_out import batch_table, leave_one_batch_out
    from panimbus.evaluate.report import write_report
    from panimbus.evaluate.tables import mean_tables, plain, write_evaluation_tables, write_summary
    from panimbus.io.write_table import write_csv

    result = loaded.evaluate(settings)
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
    for heading, rows in mean_tables(result).items():
        typer.echo(f"{heading}\n{plain(rows)}\n")
    judged = result.calls[result.calls["truth"] >= 0]
    if BATCH in judged and judged[BATCH].nunique() > 1:
        left_out = leave_one_batch_out(judged, settings.threshold)
        write_csv(out / "batches.csv", left_out, float_format="%.6g")
        typer.echo(f"Leave one batch out: F1, mean over markers\n{plain(batch_table(left_out))}\n")
    elif BATCH in judged:
        typer.echo("note: annotations of one batch only: none is left out", err=True)
    typer.echo(f"report:  {page}\ntables:  {out}")
    return result


def _draw(result: Evaluation, loaded: EvaluationInputs, out: Path) -> None:
    """Write the figures of the paper."""
    from panimbus.evaluate.figure_cells import cell_figures
    from panimbus.evaluate.figures import paper_figures, write_figures

    drawn = [*paper_figures(result), *cell_figures(result, loaded.scenes)]
    files = write_figures(sorted(drawn, key=lambda one: one.name), out / "figures")
    typer.echo(f"figures: {out / 'figures'} ({len(files)} SVG files)")
