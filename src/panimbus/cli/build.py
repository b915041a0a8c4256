"""``panimbus build``: from dataset files to silver labels, their report and a training store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.data.silver_dataset import SilverDataset
    from panimbus.data.store import Store


def command(  # noqa: PLR0913 (one parameter per option)
    files: Annotated[
        list[Path],
        options.files_argument(
            "FILES",
            "Dataset files (TOML), one that lists several ([[datasets]]), or a folder of Pan-M.",
        ),
    ],
    *,
    out: Annotated[
        Path, options.folder("--out", "Folder of the new store; an interrupted run continues.")
    ],
    root: Annotated[
        Path | None,
        options.folder("--root", "Folder of the data of a single dataset, instead of its root."),
    ] = None,
    datasets: Annotated[
        str | None,
        typer.Option(help="With a folder of Pan-M: only these datasets, comma-separated."),
    ] = None,
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out and count rows of tables that do not fit."),
    ] = False,
    mpp: Annotated[
        float | None,
        options.positive(
            "--mpp", "Resolution of the store in micrometres per pixel. [default: 1.0]", options.MPP
        ),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Width and height of a tile in pixels. [default: 512]")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Minimum overlap of tiles in pixels. [default: 16]")
    ] = None,
    percentile: Annotated[
        float | None,
        typer.Option(
            help="Percentile of the pixels that is scaled to 1. [default: 99.9; Pan-M: 99.99]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed of the splits. [default: 0]")
    ] = None,
    report: Annotated[
        Path | None, options.folder("--report", "Folder for the reports. [default: OUT.report]")
    ] = None,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Stop after the reports.")
    ] = False,
    exclude_proposed: Annotated[
        bool,
        typer.Option(
            "--exclude-proposed", help="Exclude the markers that the report proposes to exclude."
        ),
    ] = False,
    min_auc: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Markers whose labels agree less with the intensity (AUC) are proposed for"
            " exclusion.",
        ),
    ] = 0.7,
) -> None:
    """Make silver labels, check them against the images, and write a training store.

    `panimbus train` reads the store.
    """
    from panimbus.cli.console import plural, running
    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError
    from panimbus.data.build import write_store
    from panimbus.data.datasets import (
        label_datasets,
        plan_store,
        skipping_bad_rows,
        store_settings,
    )
    from panimbus.data.panm import missing_datasets
    from panimbus.data.silver import ExclusionRule
    from panimbus.evaluate.silver_page import write_silver_report
    from panimbus.io.files import remove_leftovers

    changes = {
        "mpp": mpp,
        "tile": tile,
        "overlap": overlap,
        "percentile": percentile,
        "seed": seed,
    }
    plan = plan_store(
        files,
        root=root,
        datasets=options.names_in(datasets),
        **{k: v for k, v in changes.items() if v is not None},
    )
    plan = skipping_bad_rows(plan) if skip_bad_rows else plan
    is_panm = files[0].is_dir()
    if is_panm and datasets is None and (missing := missing_datasets(plan)):
        typer.echo(f"Pan-M: {', '.join(missing)}: not in {files[0]}, built without")
    if out.exists() and not only_report:
        raise InputError(
            f"--out {out} already exists.",
            expected="a new folder",
            fix="choose another name, or remove the folder",
        )
    if not only_report:
        prepare_out(out)
        remove_leftovers(out.parent / f".{out.name}.partial")
    sources = []
    reports = report or out.with_name(f"{out.name}.report")
    with running("build", plural(len(plan.datasets), "dataset")) as log:
        for silver, source in label_datasets(
            plan,
            ExclusionRule(min_auc=min_auc),
            exclude_proposed=exclude_proposed,
            progress=log,
        ):
            typer.echo(_summary(silver, write_silver_report(silver, reports)))
            log.line(f"{source.name}: read and labelled")
            sources.append(source)
        if only_report:
            log.end(reports)
            return
        store = write_store(out, sources, store_settings(plan), progress=log)
    typer.echo(_store_summary(store))
    log.end(out, f"panimbus train {'paper' if is_panm else 'small'} --store {out} --out RUN")


def _summary(silver: SilverDataset, page: Path) -> str:
    source = silver.source
    count = {s: sum(v == s for v in source.splits.values()) for s in ("train", "val", "test")}
    head = (
        f"{source.name}: {len(source.scanned.fovs)} FOVs (train {count['train']}, val"
        f" {count['val']}, test {count['test']}),"
        f" {sum(len(f.cell_id) for f in source.scanned.fovs):,} cells, {len(source.markers)}"
        " markers"
    )
    lines = [
        f"  proposed for exclusion: {a.marker}: {'; '.join(a.reasons)}"
        for a in silver.agreement
        if a.reasons
    ]
    notes = [f"  {note}" for note in source.notes]
    return "\n".join([head, *notes, *lines, f"  report: {page}"])


def _store_summary(store: Store) -> str:
    sizes = ", ".join(f"{s} {len(store.rows(s)):,}" for s in ("train", "val", "test"))
    shares = ", ".join(f"{d.name} {100 * d.share:.0f} %" for d in store.info.datasets)
    return (
        f"{store.path}: {len(store):,} examples of {store.info.tile} x {store.info.tile} px"
        f" ({sizes}); mix: {shares}"
    )
