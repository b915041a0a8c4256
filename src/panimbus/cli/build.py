"""``panimbus build``.

Dataset files in, a report of their silver labels and a store of training examples out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.data.dataset import StoreFile
    from panimbus.data.silver_dataset import SilverDataset
    from panimbus.data.store import Store


def command(  # noqa: PLR0913 (one parameter an option)
    files: Annotated[
        list[Path],
        typer.Argument(
            parser=options.path,
            metavar="FILES",
            help="Dataset files (TOML), or one file that names several ([[datasets]]).",
        ),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="Folder of the store; an interrupted run goes on where it was.",
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FOLDER",
            help="Where the data of a single dataset lie, instead of what its file says.",
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(
            "--mpp",
            parser=options.positive("micrometres per pixel, above 0"),
            metavar="NUMBER",
            help="Resolution of the store, micrometres per pixel. [default: 1.0]",
        ),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile in pixels. [default: 512]")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Least overlap of tiles in pixels. [default: 16]")
    ] = None,
    percentile: Annotated[
        float | None, typer.Option(help="Percentile of the pixels that becomes 1. [default: 99.9]")
    ] = None,
    extra: Annotated[
        str | None, typer.Option(help="Shared planes to keep, comma-separated: nuclear, membrane.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the splits. [default: 0]")] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            metavar="FOLDER",
            help="Folder of the reports. [default: OUT.report]",
        ),
    ] = None,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Stop after the reports.")
    ] = False,
    exclude_proposed: Annotated[
        bool,
        typer.Option(
            "--exclude-proposed", help="Leave away the markers that the report proposes to exclude."
        ),
    ] = False,
    min_auc: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Least agreement of label and intensity before a marker is proposed."
        ),
    ] = 0.7,
) -> None:
    """Make silver labels, say how well they agree with the images, and write the store that
    `panimbus train` reads.
    """
    from dataclasses import replace

    from panimbus.cli.console import running, steps
    from panimbus.cli.inputs import prepare_out
    from panimbus.core.errors import InputError
    from panimbus.data.build import StoreSettings, write_store
    from panimbus.data.dataset import planned
    from panimbus.data.silver import ExclusionRule
    from panimbus.data.silver_dataset import SilverSettings, build_silver_labels
    from panimbus.evaluate.silver_page import write_report
    from panimbus.io.leftovers import remove_leftovers

    plan = _plan(files, root)
    given: dict[str, Any] = {
        "mpp": mpp,
        "tile": tile,
        "overlap": overlap,
        "percentile": percentile,
        "seed": seed,
    }
    if extra is not None:
        given["extra"] = options.names_in(extra)
    plan = planned(plan, {k: v for k, v in given.items() if v is not None})
    roles = tuple(plan.extra)
    if out.exists() and not only_report:
        raise InputError(
            f"--out {out} exists already.",
            expected="a new folder",
            fix="choose another name, or remove it",
        )
    if not only_report:
        prepare_out(out)
        remove_leftovers(out.parent / f".{out.name}.partial")
    settings = SilverSettings(
        plan.mpp,
        plan.percentile,
        plan.percentile_over,
        ExclusionRule(min_auc=min_auc),
        exclude_proposed,
        roles,
        plan.seed,
    )
    sources = []
    with running("build", f"{len(plan.datasets)} dataset{'s' * (len(plan.datasets) != 1)}") as log:
        show = steps(log)
        for one in plan.datasets:
            silver = build_silver_labels(one.file, settings, root=one.root, on_progress=show)
            page = write_report(silver, report or out.with_name(f"{out.name}.report"))
            typer.echo(_summary(silver, page))
            log.line(f"{silver.source.name} is read and labelled")
            sources.append(
                silver.source if one.share is None else replace(silver.source, share=one.share)
            )
        if only_report:
            log.end(report or out.with_name(f"{out.name}.report"))
            return
        store = write_store(
            out, sources, StoreSettings(plan.tile, plan.overlap, roles, plan.seed), on_progress=show
        )
    typer.echo(_store_summary(store))
    log.end(out, f"panimbus train small --store {out} --out RUN")


def _plan(files: list[Path], root: Path | None) -> StoreFile:
    """All datasets with paths that hold from here."""
    from panimbus.core.errors import InputError
    from panimbus.data.dataset import StoreDataset, StoreFile, is_store_file, read_store_file
    from panimbus.io.place import resolve_path

    if len(files) == 1 and is_store_file(files[0]):
        plan = read_store_file(files[0])
        here = files[0].parent
        return plan.model_copy(
            update={
                "datasets": [
                    d.model_copy(
                        update={
                            "file": str(resolve_path(here, d.file)),
                            "root": None if d.root is None else str(resolve_path(here, d.root)),
                        }
                    )
                    for d in plan.datasets
                ]
            }
        )
    if root is not None and len(files) > 1:
        raise InputError(
            "--root serves one dataset.",
            got=f"{len(files)} files",
            fix="name the roots in a file with [[datasets]]",
        )
    return StoreFile(
        datasets=[
            StoreDataset(file=str(f), root=None if root is None else str(root)) for f in files
        ]
    )


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
    return "\n".join([head, *lines, f"  report: {page}"])


def _store_summary(store: Store) -> str:
    sizes = ", ".join(f"{s} {len(store.rows(s)):,}" for s in ("train", "val", "test"))
    shares = ", ".join(f"{d.name} {100 * d.share:.0f} %" for d in store.info.datasets)
    return (
        f"{store.path}: {len(store):,} examples of {store.info.tile} x {store.info.tile} px"
        f" ({sizes}); mix: {shares}"
    )
