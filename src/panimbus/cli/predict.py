"""``panimbus predict``: from image files and label images to a cell table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panimbus.cli import options, region_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from panimbus.core.fov import Fov
    from panimbus.infer.settings import PredictSettings


def command(  # noqa: PLR0913 (one parameter per option)
    images: options.Images,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    out: Annotated[
        Path,
        options.folder("--out", "Folder for the results; an interrupted run continues in it."),
    ],
    channels: options.Channels = None,
    channel_names: options.ChannelNames = None,
    channel_types: options.ChannelTypes = None,
    mpp: options.Mpp = None,
    dark_level: options.DarkLevel = None,
    exclude: region_options.Exclude = None,
    model: options.Model = None,
    tta: options.Views = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="Also write score maps: one score per pixel, pyramidal.")
    ] = False,
    maps_format: Annotated[
        options.MapsFormat,
        options.choice("--maps-format", "Format of the score maps: OME-TIFF or OME-Zarr."),
    ] = options.MapsFormat.tiff,
    maps_grid: Annotated[
        options.MapsGrid,
        options.choice(
            "--maps-grid",
            "Pixel grid of the score maps: that of the model (1 µm/px) or that of each image.",
        ),
    ] = options.MapsGrid.model,
    maps_background: Annotated[
        bool,
        typer.Option(
            "--maps-background",
            help="Keep the scores outside cells, where the model is not trained.",
        ),
    ] = False,
    normaliser: options.Normaliser = None,
    batches: options.Batches = None,
    normalise_by_batch: Annotated[
        bool,
        typer.Option(
            "--normalise-by-batch",
            help="With --batches: one normaliser per batch, instead of one for all FOVs.",
        ),
    ] = False,
    tables: options.Tables = "h5ad,csv",
    columns: options.Columns = options.Layout.panimbus,
    tile: options.Tile = None,
    precision: Annotated[
        options.Precision,
        options.choice("--precision", "Arithmetic of the network; float32 gives exact results."),
    ] = options.Precision.auto,
    device: Annotated[
        options.Device, options.choice("--device", "Device that runs the network.")
    ] = options.Device.auto,
    threads: options.Threads = 0,
    on_error: Annotated[
        options.OnError,
        options.choice(
            "--on-error",
            "What to do about unreadable pixels: raise an error, or skip them (the scores of their"
            " cells are missing).",
        ),
    ] = options.OnError["raise"],
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help=(
                "Run on a Dask cluster: tcp://host:port, a scheduler file (.json), or local:N for N"
                " local workers."
            ),
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help=(
                "Compute only shard i of n and write no tables; run `panimbus merge` once all"
                " shards are done."
            ),
        ),
    ] = None,
    stage: Annotated[
        options.Stage,
        options.choice("--stage", "With --shard: all, or scan to stop after the first pass."),
    ] = options.Stage.all,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence/--no-evidence",
            help="Also measure the rim, the inside and the neighbours of each cell (as layers).",
        ),
    ] = True,
    thresholds: options.Thresholds = None,
    min_area: options.MinArea = None,
    max_area: options.MaxArea = None,
    allow_odd_labels: options.AllowOddLabels = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Score every marker in every cell.

    Writes cells.h5ad, cells.csv, positive.csv and normaliser.json to --out.
    """
    from dataclasses import replace

    from panimbus.cli.console import running, workload
    from panimbus.cli.inputs import open_given, prepare_out
    from panimbus.core.errors import InputError
    from panimbus.core.layouts import check_layout
    from panimbus.infer.output import check_kinds, read_normaliser
    from panimbus.infer.predict import PredictSettings, predict
    from panimbus.infer.record import asked_for, check_same_run
    from panimbus.io.assignments import parse_thresholds, read_batches
    from panimbus.model.weights import resolve_model

    kinds = check_kinds(tables)
    scale = read_normaliser(normaliser) if normaliser is not None else None
    files = resolve_model(model)  # an unknown model is an error before the images are opened
    selected = options.names_in(channels)
    prepare_out(out, shared=shard is not None)
    settings = PredictSettings(
        tta=options.value(tta),
        tile=tile,
        precision=precision.value,
        device=device.value,
        threads=threads,
        maps=maps,
        on_error=on_error.value,
        maps_format=maps_format.value,
        maps_grid=maps_grid.value,
        maps_background=maps_background,
        dask=dask,
        evidence=evidence,
        min_area=min_area,
        max_area=max_area,
        allow_odd_labels=allow_odd_labels,
    )
    sharded = shard is not None or stage != options.Stage.all
    if sharded and (batches is not None or normalise_by_batch):
        raise InputError(
            "Shards know no batches.",
            expected="--shard, or --batches",
            fix="score each batch in a folder of its own, or without --shard (--dask works)",
        )
    if sharded:
        from panimbus.cli.shard import run_shard
        from panimbus.infer.distribute.manifest import Request

        request = Request(
            images=tuple(images),
            labels=tuple(labels or ()),
            pairs=None if pairs is None else str(pairs),
            channels=None if selected is None else tuple(selected),
            channel_names=None if channel_names is None else str(channel_names),
            channel_types=channel_types,
            mpp=mpp,
            dark_level=dark_level,
            exclude=exclude,
            model=model,
            scale=None if scale is None else scale.to_dict(),
            settings=settings,
        )
        run_shard(shard, stage.value, out, request, thresholds=thresholds, overwrite=overwrite)
        return
    fovs = open_given(
        images,
        labels,
        pairs=pairs,
        mpp=mpp,
        dark_level=dark_level,
        channels=selected,
        channel_names=channel_names,
        channel_types=channel_types,
        exclude=exclude,
        counterstains=True,
    )
    names = selected or fovs[0].channels
    if thresholds is not None:
        settings = replace(settings, thresholds=parse_thresholds(thresholds, names))
    check_layout(columns.value, names, {f.fov_id: f.mpp for f in fovs})
    batch_of = None if batches is None else read_batches(batches, [f.fov_id for f in fovs])
    asked = asked_for(
        fovs, files, settings, selected, scale, batch_of, normalise_by_batch=normalise_by_batch
    )
    check_same_run(out, asked, overwrite=overwrite)
    for note in sorted({note for fov in fovs for note in fov.notes}):
        typer.echo(f"note: {note}", err=True)
    with running("predict", workload(fovs, files, settings, selected), fovs=len(fovs)) as log:
        table = predict(
            fovs,
            model=model,
            channels=selected,
            scale=scale,
            batches=batch_of,
            normalise_by_batch=normalise_by_batch,
            out=out,
            settings=settings,
            progress=log,
        )
    save_results(table, out, kinds, fovs, asked=asked, layout=columns.value, settings=settings)
    log.end(out, next_command(out, kinds, labels))


def save_results(
    table: AnnData,
    out: Path,
    kinds: Sequence[str],
    fovs: list[Fov],
    *,
    asked: dict[str, Any],
    layout: str,
    settings: PredictSettings | None = None,
) -> None:
    """Write the tables and print their summary."""
    import json

    from panimbus.cli.console import echo_contradictions
    from panimbus.infer.output import save_run, summary

    save_run(table, out, kinds, fovs, asked=asked, layout=layout)
    provenance = table.uns["panimbus"]
    typer.echo(summary(table, out, json.loads(provenance["scale"])))
    if settings is not None and settings.map_style is not None:
        from panimbus.infer.maps import map_note

        typer.echo(
            map_note(out, fovs, settings.map_style, float(provenance["settings"]["model_mpp"]))
        )
    echo_contradictions(table)


def next_command(out: Path, kinds: Sequence[str], labels: Sequence[str] | None) -> str | None:
    """The command that assigns cell types to the table."""
    if "h5ad" not in kinds:
        return None
    words = ["panimbus", "phenotype", "run", str(out / "cells.h5ad"), "--out", str(out / "types")]
    return shlex.join([*words, *(word for path in labels or [] for word in ("--labels", path))])
