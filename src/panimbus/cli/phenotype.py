"""``panimbus phenotype``: from scores to cell types, and adjustments by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from panimbus.phenotype.rules import RuleTable

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Cell types from scores: a table of types, clusters, edits, and the way back to the tissue."
    ),
)
_ADDED = (
    "labels",
    "images",
    "pairs",
    "mantis",
    "spatialdata",
    "with_images",
)  # may be added to a run that was without
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        parser=options.word,
        metavar="PATH",
        help="Images: for GeoJSON labels, and the channels of a Mantis project.",
    ),
]


@app.command("run")
def run(  # noqa: PLR0913 (one parameter an option)
    table: Annotated[
        Path,
        typer.Argument(
            parser=options.path,
            metavar="TABLE",
            help="cells.h5ad of `panimbus predict`, any AnnData, or a CSV of scores.",
        ),
    ],
    *,
    out: options.Out,
    rules: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FILE",
            help="CSV of cell types. [default: the shipped table]",
        ),
    ] = None,
    by: Annotated[
        options.By,
        typer.Option(
            "--by",
            case_sensitive=False,
            help="types (they compete for each cell) or clusters (a cell has its metacluster's).",
        ),
    ] = options.By.TYPES,
    thresholds: Annotated[
        str | None,
        typer.Option(
            help=(
                "Scores from which markers are positive: CD20=0.7,CD4=0.6, or a CSV"
                " (marker,threshold)."
            )
        ),
    ] = None,
    without: Annotated[
        str | None, typer.Option(help="Markers to leave out (comma-separated): not trusted.")
    ] = None,
    min_area: options.MinArea = None,
    max_area: options.MaxArea = None,
    markers: Annotated[
        str | None,
        typer.Option(help="Cluster on these (comma-separated). [default: those of the rules]"),
    ] = None,
    k: Annotated[
        int | None, typer.Option(help="Number of metaclusters. [default: proposed]", min=2)
    ] = None,
    grid: Annotated[str, typer.Option(help="Rows and columns of the map.")] = "15x15",
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same clusters.", min=0, max=2**31 - 1)
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
        bool, typer.Option("--with-images", help="Copy the --images into types.zarr, too.")
    ] = False,
    columns: options.Columns = options.Layout.PANIMBUS,
    umap: Annotated[
        bool, typer.Option("--umap", help="A UMAP in the report (extra umap).")
    ] = False,
    report: Annotated[
        bool | None,
        typer.Option(
            "--report/--no-report",
            help="report.html and figures. [default: report]",
        ),
    ] = None,
    threads: options.Threads = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of another run in --out.")
    ] = False,
) -> None:
    """Give every cell a type, a confidence and a reason.

    Write tables, label images, QuPath objects and a report.
    """
    from dataclasses import replace

    from panimbus.cli.console import RunLog, on_terminal
    from panimbus.cli.inputs import prepare_out
    from panimbus.clustering.cluster import ClusterSettings
    from panimbus.infer.record import RUN, absolute, check_same_request
    from panimbus.io.scores import read_scores
    from panimbus.io.thresholds import parse_thresholds
    from panimbus.phenotype.assign import TypeSettings, assign_types
    from panimbus.phenotype.rules import read_rules
    from panimbus.phenotype.save import OutputOptions, find_segmented, save, text_summary

    prepare_out(out)
    clustering = ClusterSettings(grid=_grid(grid), threads=threads)
    clustered = options.names_in(markers)
    settings = TypeSettings(
        tuple(clustered) if clustered else None, k, seed, min_area, max_area, clustering
    )
    own = read_rules(rules) if rules is not None else None
    scores = read_scores(
        table, needed=_needed(own, [*(clustered or ())], options.names_in(without) or ())
    )
    limits = (
        parse_thresholds(thresholds, list(map(str, scores.var_names)))
        if thresholds is not None
        else None
    )
    about = {"table": str(table), "rules": str(rules) if rules is not None else "the default rules"}
    wanted = OutputOptions(
        _kept(labels), _kept(images), mantis, spatialdata, report, umap, about,
        pairs=_kept_file(pairs), columns=columns.value, with_images=with_images,
    )  # fmt: skip
    request = {
        "table": absolute(table), "rules": absolute(rules), "by": by.value,
        "thresholds": limits or {}, "without": options.names_in(without) or [],
        "min_area": min_area, "max_area": max_area, "markers": clustered or [], "k": k,
        "grid": list(clustering.grid), "seed": seed, "edits_file": None, **{name: getattr(wanted,
        name) for name in _ADDED},
    }  # fmt: skip
    check_same_request(out / RUN, request, "cell types", overwrite=overwrite, may_add=_ADDED)
    wanted = replace(wanted, request=request)
    log = RunLog(
        "phenotype run",
        f"{table}, {scores.n_obs:,} cells, {scores.n_vars} markers",
        quiet=on_terminal(),
    )
    segmented = find_segmented(scores, wanted)
    typed = assign_types(
        scores,
        own,
        thresholds=limits,
        without=options.names_in(without) or (),
        by=by.value,
        settings=settings,
    )
    log.line("cell types are assigned")
    typer.echo(text_summary(save(typed, out, segmented, wanted), out))
    log.end(out)


@app.command("apply")
def apply(
    edits: Annotated[
        Path,
        typer.Argument(
            parser=options.path, metavar="EDITS", help="File of edits: JSON lines, or TOML."
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            parser=options.path,
            metavar="FOLDER",
            help="Folder that `panimbus phenotype run` wrote.",
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="Folder for the result. [default: FOLDER_edited, beside the first result]",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over FOLDER itself.")
    ] = False,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    images: Images = None,
) -> None:
    """Replay a file of edits (merge, split, rename, reassign, undo, redo) on the first result of a
    run, which stays as it is.
    """
    from dataclasses import replace

    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError
    from panimbus.io.edits import active_edits, read_edits
    from panimbus.phenotype.assign import adjust
    from panimbus.phenotype.save import edited_folder, find_segmented, open_run, save, text_summary

    read = read_edits(edits)
    if overwrite and out is not None:
        raise InputError(
            "--out and --overwrite are two places for one result.", fix="pass one of them"
        )
    out = folder if overwrite else out or edited_folder(folder)
    prepare_out(out)
    table, wanted = open_run(folder)
    wanted = replace(
        wanted,
        labels=_kept(labels) or (() if pairs is not None else wanted.labels),
        images=_kept(images) or wanted.images,
        pairs=_kept_file(pairs) or (None if labels else wanted.pairs),
        about=wanted.about | {"edits file": str(edits)},
        request=wanted.request | {"edits_file": str(edits.absolute())},
    )
    adjusted = adjust(table, read)
    segmented = find_segmented(table, wanted)
    typer.echo(f"{len(active_edits(read))} of {len(read)} edits stand")
    typer.echo(text_summary(save(adjusted, out, segmented, wanted), out))


@app.command("rules")
def rules() -> None:
    """Print the shipped table of cell types, to start one's own from."""
    from panimbus.phenotype.rules import default_rules_text

    typer.echo(default_rules_text(), nl=False)


def _needed(rules: RuleTable | None, clustered: Sequence[str], without: Sequence[str]) -> list[str]:
    """Markers that the rules or the clusters need."""
    from panimbus.core.markers import canonical
    from panimbus.phenotype.rules import default_rules

    left_out = {canonical(m) for m in without}
    return [
        m for m in (*(rules or default_rules()).markers, *clustered) if canonical(m) not in left_out
    ]


def _kept(paths: list[str] | None) -> tuple[str, ...]:
    """As ``apply`` finds them later, from whatever folder."""
    return tuple(p if "://" in p else str(Path(p).resolve()) for p in paths or ())


def _kept_file(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _grid(text: str) -> tuple[int, int]:
    from panimbus.core.errors import InputError

    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise InputError(
            "--grid is not a number of rows and columns.", expected="e.g. 15x15", got=text
        )
    return int(parts[0]), int(parts[1])
