"""``panimbus predict``: image files and label images in, a cell table out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from panimbus.core.fov import Fov
    from panimbus.infer.settings import PredictSettings
    from panimbus.model.weights import ModelFiles


def command(  # noqa: PLR0913 (one parameter an option)
    images: options.Images,
    *,
    labels: options.Labels = None,
    pairs: options.Pairs = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            parser=options.path,
            metavar="FOLDER",
            help="Folder for the results; after an interruption it continues there.",
        ),
    ],
    channels: options.Channels = None,
    channel_names: options.ChannelNames = None,
    channel_types: options.ChannelTypes = None,
    mpp: options.Mpp = None,
    dark_level: options.DarkLevel = None,
    model: options.Model = None,
    tta: options.Views = None,
    maps: Annotated[
        bool, typer.Option("--maps", help="Also write pixel score maps, with a pyramid.")
    ] = False,
    maps_format: Annotated[
        options.MapsFormat,
        typer.Option(
            "--maps-format",
            case_sensitive=False,
            help="Format of the score maps: tiff (OME-TIFF) or zarr (OME-Zarr).",
        ),
    ] = options.MapsFormat.TIFF,
    maps_grid: Annotated[
        options.MapsGrid,
        typer.Option(
            "--maps-grid",
            case_sensitive=False,
            help=(
                "Grid of the score maps: model (1 µm/px, as computed) or image (each image's own)."
            ),
        ),
    ] = options.MapsGrid.MODEL,
    maps_background: Annotated[
        bool,
        typer.Option(
            "--maps-background",
            help="Keep the score maps outside cells, where the net is not trained.",
        ),
    ] = False,
    normaliser: options.Normaliser = None,
    tables: options.Tables = "h5ad,csv",
    columns: options.Columns = options.Layout.PANIMBUS,
    tile: options.Tile = None,
    precision: Annotated[
        options.Precision,
        typer.Option(
            "--precision", case_sensitive=False, help="auto, or float32 for exact results."
        ),
    ] = options.Precision.AUTO,
    device: Annotated[
        options.Device, typer.Option("--device", case_sensitive=False, help="What runs the net.")
    ] = options.Device.AUTO,
    threads: options.Threads = 0,
    on_error: Annotated[
        options.OnError,
        typer.Option(
            "--on-error",
            case_sensitive=False,
            help=(
                "Pixels of a channel that cannot be read: raise, or skip (scores of their cells are"
                " missing)."
            ),
        ),
    ] = options.OnError.RAISE,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help=(
                "Let a Dask cluster do the work: tcp://host:port, a scheduler file (.json), or"
                " local:N."
            ),
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help=(
                "Do shard i of n, as i/n, and write no table: `panimbus merge` does, when all are"
                " done."
            ),
        ),
    ] = None,
    stage: Annotated[
        options.Stage,
        typer.Option(
            "--stage",
            case_sensitive=False,
            help="With --shard: all, or scan to end after the first pass.",
        ),
    ] = options.Stage.ALL,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence/--no-evidence",
            help="Also measure rim, inside and neighbours of each cell, as layers.",
        ),
    ] = True,
    thresholds: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|FILE",
            help=(
                "Scores from which markers are positive: CD20=0.7,CD4=0.6, or a CSV"
                " (marker,threshold). [default: the model's]"
            ),
        ),
    ] = None,
    min_area: options.MinArea = None,
    max_area: options.MaxArea = None,
    allow_odd_labels: options.AllowOddLabels = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Score every cell and every marker.

    Write cells.h5ad, cells.csv, positive.csv and normaliser.json into --out.
    """
    import json
    from dataclasses import replace

    from panimbus.cli.console import echo_contradictions, running
    from panimbus.cli.inputs import open_given, prepare_out, refuse_labels_among
    from panimbus.core.layouts import check_layout
    from panimbus.infer.output import check_kinds, load_scale, save_run, summary
    from panimbus.infer.predict import PredictSettings, predict
    from panimbus.infer.record import asked_for, check_same_run
    from panimbus.io.thresholds import parse_thresholds
    from panimbus.model.weights import resolve_model

    kinds = check_kinds(tables)
    scale = load_scale(normaliser) if normaliser is not None else None
    files = resolve_model(model)  # an unknown model is said before the files are opened
    wanted = options.names_in(channels)
    prepare_out(out, shared=shard is not None)
    settings = PredictSettings(
        tta=options.value(tta), tile=tile, precision=precision.value, device=device.value, threads=threads, maps=maps,
        on_error=on_error.value, maps_format=maps_format.value, maps_grid=maps_grid.value, maps_background=maps_background,
        dask=dask, evidence=evidence, min_area=min_area, max_area=max_area,
        allow_odd_labels=allow_odd_labels,
    )  # fmt: skip
    if shard is not None or stage != options.Stage.ALL:
        from panimbus.cli.merge import do_shard

        do_shard(
            shard, stage.value, out, settings,
            {"images": images, "labels": labels or [], "pairs": pairs, "channel_names": channel_names, "model": model,
             "channel_types": channel_types},
            {
                "channels": wanted, "mpp": mpp, "dark_level": dark_level, "scale": scale, "thresholds": thresholds,
                "overwrite": overwrite,
            },
        )  # fmt: skip
        return
    fovs = open_given(
        images, labels, pairs=pairs, mpp=mpp, dark_level=dark_level, channels=wanted, channel_names=channel_names,
        channel_types=channel_types, counterstains=True,
    )  # fmt: skip
    if any(fov.labels is None for fov in fovs):
        refuse_labels_among(images)
    if thresholds is not None:
        settings = replace(
            settings, thresholds=parse_thresholds(thresholds, wanted or fovs[0].channels)
        )
    check_layout(columns.value, wanted or fovs[0].channels, {f.fov_id: f.mpp for f in fovs})
    asked = asked_for(fovs, files, settings, wanted, scale)
    check_same_run(out, asked, overwrite=overwrite)
    for note in sorted({note for fov in fovs for note in fov.notes}):
        typer.echo(f"note: {note}", err=True)
    with running("predict", work_in_words(fovs, files, settings, wanted), fovs=len(fovs)) as log:
        table = predict(
            fovs,
            model=model,
            channels=wanted,
            scale=scale,
            out=out,
            settings=settings,
            progress=log,
        )
    save_run(table, out, kinds, fovs, asked=asked, layout=columns.value)
    typer.echo(summary(table, out, json.loads(table.uns["panimbus"]["scale"])))
    if settings.map_style is not None:
        from panimbus.infer.maps import map_note

        typer.echo(
            map_note(
                out, fovs, settings.map_style, float(table.uns["panimbus"]["settings"]["model_mpp"])
            )
        )
    echo_contradictions(table)
    log.end(out, next_command(out, kinds, labels))


def work_in_words(
    fovs: Sequence[Fov],
    files: ModelFiles,
    settings: PredictSettings,
    channels: Sequence[str] | None,
) -> str:
    """How much there is to do; how long it takes is known when the first of it is done."""
    card = files.card
    count = len(fovs[0].channels if channels is None else channels)
    area = sum(
        fov.shape_yx[0] * fov.shape_yx[1] * ((fov.mpp or card.mpp) / card.mpp) ** 2 for fov in fovs
    )
    return (
        f"{len(fovs)} FOV{'s' * (len(fovs) != 1)}, {count} channel{'s' * (count != 1)}, model"
        f" {card.name}, tta {settings.tta_for(card)}; {area * count / 1e6:,.1f} million pixels to"
        " score (each line gives the time left)"
    )


def next_command(out: Path, kinds: Sequence[str], labels: Sequence[str] | None) -> str | None:
    """What one does with the table."""
    import shlex

    if "h5ad" not in kinds:
        return None
    words = ["panimbus", "phenotype", "run", str(out / "cells.h5ad"), "--out", str(out / "types")]
    return shlex.join([*words, *(word for path in labels or [] for word in ("--labels", path))])
