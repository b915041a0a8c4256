"""``panimbus phenotype``: from scores to cell types, and manual edits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from panimbus.phenotype.rules import RuleTable

app = typer.Typer(
    no_args_is_help=True, help="Cell types from scores: rules, clusters, manual edits, reports."
)
# options that may be added when a run is repeated
_ADDED = ("labels", "images", "pairs", "mantis", "spatialdata", "with_images")
Images = Annotated[
    list[str] | None,
    options.location(
        "--images", "Images: for labels in GeoJSON files, and for the channels of a Mantis project."
    ),
]


@app.command("run")
def run(  # noqa: PLR0913 (one parameter per option)
    table: Annotated[
        Path,
        options.files_argument(
            "TABLE", "cells.h5ad of `panimbus predict`, another AnnData file, or a CSV of scores."
        ),
    ],
    *,
    out: options.Out,
    rules: Annotated[
        Path | None,
        options.file("--rules", "CSV table of cell types. [default: the shipped table]"),
    ] = None,
    by: Annotated[
        options.By,
        options.choice(
            "--by",
            "types (they compete for each cell) or clusters (each metacluster has one type).",
        ),
    ] = options.By.types,
    thresholds: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|FILE",
            help=(
                "Score from which each marker is positive: CD20=0.7,CD4=0.6, or a CSV file"
                " (marker,threshold). [default: those of the table]"
            ),
        ),
    ] = None,
    without: Annotated[str | None, typer.Option(help="Markers to ignore, comma-separated.")] = None,
    min_area: options.MinArea = None,
    max_area: options.MaxArea = None,
    markers: Annotated[
        str | None,
        typer.Option(
            help="Markers to cluster on, comma-separated. [default: the markers of the rules]"
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option(help="Number of metaclusters. [default: estimated]", min=2)
    ] = None,
    grid: Annotated[
        str, typer.Option(help="Rows and columns of the self-organising map.")
    ] = "15x15",
    seed: Annotated[
        int, typer.Option(help="Random seed of the clustering.", min=0, max=2**31 - 1)
    ] = 0,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    images: Images = None,
    mantis: Annotated[
        bool, typer.Option("--mantis", help="Also write a Mantis Viewer project.")
    ] = False,
    spatialdata: Annotated[
        bool, typer.Option("--spatialdata", help="Also write types.zarr (SpatialData).")
    ] = False,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Also copy the --images into types.zarr.")
    ] = False,
    columns: options.Columns = options.Layout.panimbus,
    umap: Annotated[
        bool, typer.Option("--umap", help="Add a UMAP to the report (needs panimbus[umap]).")
    ] = False,
    report: Annotated[
        bool | None,
        typer.Option(
            "--report/--no-report",
            help="Write report.html and figures. [default: if matplotlib is installed]",
        ),
    ] = None,
    threads: options.Threads = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of another run in --out.")
    ] = False,
) -> None:
    """Assign a type, a confidence and a reason to every cell.

    Writes tables, label images, QuPath objects and a report to --out.
    """
    from dataclasses import replace

    from panimbus.cli.console import RunLog, on_terminal, plural
    from panimbus.cli.inputs import prepare_out
    from panimbus.clustering.cluster import ClusterSettings
    from panimbus.infer.record import RUN, check_same_request, comparable_path
    from panimbus.io.assignments import parse_thresholds
    from panimbus.io.scores import read_scores
    from panimbus.phenotype.assign import TypeSettings, assign_types
    from panimbus.phenotype.rules import read_rules
    from panimbus.phenotype.save import OutputOptions, find_segmented, save, text_summary

    prepare_out(out)
    clustering = ClusterSettings(grid=_grid(grid), threads=threads)
    clustered, ignored = options.names_in(markers) or [], options.names_in(without) or []
    settings = TypeSettings(tuple(clustered) or None, k, seed, min_area, max_area, clustering)
    table_of_types = read_rules(rules) if rules is not None else None
    scores = read_scores(table, needed=_needed(table_of_types, clustered, ignored))
    limits = None
    if thresholds is not None:
        limits = parse_thresholds(thresholds, list(map(str, scores.var_names)))
    about = {"table": str(table), "rules": str(rules) if rules is not None else "the default rules"}
    output = OutputOptions(
        _absolute(labels),
        _absolute(images),
        mantis,
        spatialdata,
        report,
        umap,
        about,
        pairs=_absolute_file(pairs),
        columns=columns.value,
        with_images=with_images,
    )
    request = {
        "table": comparable_path(table),
        "rules": comparable_path(rules),
        "by": by.value,
        "thresholds": limits or {},
        "without": ignored,
        "min_area": min_area,
        "max_area": max_area,
        "markers": clustered,
        "k": k,
        "grid": list(clustering.grid),
        "seed": seed,
        "edits_file": None,
        **{name: getattr(output, name) for name in _ADDED},
    }
    check_same_request(out / RUN, request, "cell types", overwrite=overwrite, may_add=_ADDED)
    output = replace(output, request=request)
    about_run = f"{table}, {plural(scores.n_obs, 'cell')}, {plural(scores.n_vars, 'marker')}"
    log = RunLog("phenotype run", about_run, quiet=on_terminal())
    segmented = find_segmented(scores, output)
    typed = assign_types(
        scores,
        table_of_types,
        thresholds=limits,
        without=ignored,
        by=by.value,
        settings=settings,
    )
    log.line("cell types are assigned")
    typer.echo(text_summary(save(typed, out, segmented, output), out))
    log.end(out)


@app.command("apply")
def apply(
    edits: Annotated[Path, options.files_argument("EDITS", "File of edits: JSON lines, or TOML.")],
    folder: Annotated[
        Path, options.files_argument("FOLDER", "Folder written by `panimbus phenotype run`.")
    ],
    *,
    out: Annotated[
        Path | None, options.folder("--out", "Folder for the result. [default: FOLDER_edited]")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results in FOLDER itself.")
    ] = False,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    images: Images = None,
) -> None:
    """Apply a file of edits to the cell types of a run.

    The edits are merge, split, rename, reassign, undo and redo. Without --overwrite the run itself
    is not changed.
    """
    from dataclasses import replace

    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError
    from panimbus.io.edits import Origin, active_edits, read_edits
    from panimbus.phenotype.adjust import adjust
    from panimbus.phenotype.corrections import corrections_of, type_agreement
    from panimbus.phenotype.save import (
        ANNOTATED,
        edited_folder,
        find_segmented,
        open_run,
        save,
        text_summary,
    )

    steps = read_edits(edits)
    if overwrite and out is not None:
        raise InputError("--out and --overwrite cannot be combined.", fix="omit one of them")
    out = folder if overwrite else out or edited_folder(folder)
    prepare_out(out)
    table, output = open_run(folder)
    output = replace(
        output,
        labels=_absolute(labels) or (() if pairs is not None else output.labels),
        images=_absolute(images) or output.images,
        pairs=_absolute_file(pairs) or (None if labels else output.pairs),
        about=output.about | {"edits file": str(edits)},
        request=output.request | {"edits_file": str(edits.absolute())},
    )
    adjusted = adjust(table, steps)
    segmented = find_segmented(table, output)
    count = sum(not isinstance(step, Origin) for step in steps)
    applied = len(active_edits(steps))
    undone = " (the others are undone)" if applied < count else ""
    typer.echo(f"applied {applied} of {count} edits{undone}")
    summary = save(adjusted, out, segmented, output)
    annotated = type_agreement(corrections_of(adjusted))
    if annotated.cells:
        typer.echo(f"{annotated.sentence()}: {out / ANNOTATED}")
    typer.echo(text_summary(summary, out))


@app.command("rules")
def rules() -> None:
    """Print the shipped table of cell types, as a start for your own."""
    from panimbus.phenotype.rules import default_rules_text

    typer.echo(default_rules_text(), nl=False)


def _needed(rules: RuleTable | None, clustered: Sequence[str], without: Sequence[str]) -> list[str]:
    """Markers of the rules and the clustering, without the ignored ones."""
    from panimbus.core.markers import canonical
    from panimbus.phenotype.rules import default_rules

    ignored = {canonical(m) for m in without}
    markers = (*(rules or default_rules()).markers, *clustered)
    return [m for m in markers if canonical(m) not in ignored]


def _absolute(paths: list[str] | None) -> tuple[str, ...]:
    """Paths that ``apply`` can open from any working directory."""
    return tuple(p if "://" in p else str(Path(p).resolve()) for p in paths or ())


def _absolute_file(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _grid(text: str) -> tuple[int, int]:
    from panimbus.core.errors import InputError

    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise InputError(
            "--grid is not a number of rows and columns.", expected="e.g. 15x15", got=text
        )
    return int(parts[0]), int(parts[1])
