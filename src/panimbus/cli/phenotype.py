"""``panimbus phenotype``: from scores to cell types, and adjustments by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Cell types from scores: a table of types, clusters, edits, and the way back to the tissue."
)
Labels = Annotated[list[str] | None, typer.Option("--labels", help="Label images: files, or a folder matched by name.")]
Images = Annotated[
    list[str] | None, typer.Option("--images", help="Images: for GeoJSON labels, and the channels of a Mantis project.")
]


@app.command("run")
def run(  # noqa: PLR0913 (one parameter an option)
    table: Annotated[Path, typer.Argument(help="cells.h5ad of `panimbus predict`, any AnnData, or a CSV of scores.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    rules: Annotated[Path | None, typer.Option(help="CSV of cell types. [default: the shipped table]")] = None,
    by: Annotated[
        str, typer.Option(help="types (they compete for each cell) or clusters (a cell has its metacluster's).")
    ] = "types",
    thresholds: Annotated[
        str | None, typer.Option(help="Scores from which markers are positive: CD20=0.7,CD4=0.6, or a CSV (marker,threshold).")
    ] = None,
    without: Annotated[str | None, typer.Option(help="Markers to leave out (comma-separated): not trusted.")] = None,
    min_area: Annotated[
        float | None, typer.Option(help="Smallest area of a cell, in µm²; smaller objects are not typed.")
    ] = None,
    max_area: Annotated[float | None, typer.Option(help="Largest area of a cell, in µm²; larger objects are not typed.")] = None,
    markers: Annotated[str | None, typer.Option(help="Cluster on these (comma-separated). [default: those of the rules]")] = None,
    k: Annotated[int | None, typer.Option(help="Number of metaclusters. [default: proposed]", min=2)] = None,
    grid: Annotated[str, typer.Option(help="Rows and columns of the map.")] = "15x15",
    seed: Annotated[int, typer.Option(help="The same seed gives the same clusters.", min=0, max=2**31 - 1)] = 0,
    labels: Labels = None,
    images: Images = None,
    mantis: Annotated[bool, typer.Option("--mantis", help="Also write a Mantis Viewer project.")] = False,
    spatialdata: Annotated[bool, typer.Option("--spatialdata", help="Also write types.zarr (SpatialData).")] = False,
    umap: Annotated[bool, typer.Option("--umap", help="A UMAP in the report (extra umap).")] = False,
    report: Annotated[
        bool | None, typer.Option("--report/--no-report", help="report.html and figures. [default: if matplotlib is there]")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.", min=0)] = 0,
) -> None:
    """Give every cell a type, a confidence and a reason; write tables, label images, QuPath objects and a report."""
    from panimbus.cli.console import names_in
    from panimbus.clustering.cluster import ClusterSettings
    from panimbus.core.errors import InputError
    from panimbus.io.scores import read_scores
    from panimbus.io.thresholds import parse_thresholds
    from panimbus.phenotype.assign import BY, TypeSettings, assign_types
    from panimbus.phenotype.rules import read_rules
    from panimbus.phenotype.save import Wanted, prepare, save, text_summary

    if file := next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None):
        raise InputError(f"--out {out}: {file} is a file.", expected="a folder, new or of an earlier run")
    if by not in BY:
        raise InputError(f"--by {by!r} is no way to give types.", available=BY)
    clustering = ClusterSettings(grid=_grid(grid), threads=threads)
    clustered = names_in(markers)
    settings = TypeSettings(tuple(clustered) if clustered else None, k, seed, min_area, max_area, clustering)
    own = read_rules(rules) if rules is not None else None
    scores = read_scores(table)
    limits = parse_thresholds(thresholds, list(map(str, scores.var_names))) if thresholds is not None else None
    about = {"table": str(table), "rules": str(rules) if rules is not None else "the default rules"}
    wanted = Wanted(_kept(labels), _kept(images), mantis, spatialdata, report, umap, about)
    segmented = prepare(scores, wanted)
    typed = assign_types(scores, own, thresholds=limits, without=names_in(without) or (), by=by, settings=settings)
    typer.echo(text_summary(save(typed, out, segmented, wanted), out))


@app.command("apply")
def apply(
    edits: Annotated[Path, typer.Argument(help="File of edits: JSON lines, or TOML.")],
    folder: Annotated[Path, typer.Argument(help="Folder that `panimbus phenotype run` wrote.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the result. [default: FOLDER_edited, beside the first result]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over FOLDER itself.")] = False,
    labels: Labels = None,
    images: Images = None,
) -> None:
    """Replay a file of edits (merge, split, rename, reassign, undo, redo) on the first result of a run, which stays as it is."""
    from dataclasses import replace

    from panimbus.core.errors import InputError
    from panimbus.io.edits import read_edits, standing
    from panimbus.phenotype.assign import adjust
    from panimbus.phenotype.save import edited_folder, open_run, prepare, save, text_summary

    read = read_edits(edits)
    if overwrite and out is not None:
        raise InputError("--out and --overwrite are two places for one result.", fix="pass one of them")
    out = folder if overwrite else out or edited_folder(folder)
    table, wanted = open_run(folder)
    wanted = replace(
        wanted,
        labels=_kept(labels) or wanted.labels,
        images=_kept(images) or wanted.images,
        about=wanted.about | {"edits file": str(edits)},
    )
    adjusted = adjust(table, read)
    segmented = prepare(table, wanted)
    typer.echo(f"{len(standing(read))} of {len(read)} edits stand")
    typer.echo(text_summary(save(adjusted, out, segmented, wanted), out))


@app.command("rules")
def rules() -> None:
    """Print the shipped table of cell types, to start one's own from."""
    from panimbus.phenotype.rules import default_rules_text

    typer.echo(default_rules_text(), nl=False)


def _kept(paths: list[str] | None) -> tuple[str, ...]:
    """As ``apply`` finds them later, from whatever folder."""
    return tuple(p if "://" in p else str(Path(p).resolve()) for p in paths or ())


def _grid(text: str) -> tuple[int, int]:
    from panimbus.core.errors import InputError

    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(p.strip().isdigit() and int(p) > 0 for p in parts):
        raise InputError("--grid is not a number of rows and columns.", expected="e.g. 15x15", got=text)
    return int(parts[0]), int(parts[1])
