"""``panimbus predict``: image files and label images in, a cell table out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(  # noqa: PLR0913 (one parameter an option)
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images: files or folders (TIFF, OME-TIFF, QPTIFF, OME-Zarr, SpatialData, IMC), https:// or s3:// (Zarr)."
        ),
    ],
    *,
    labels: Annotated[list[str] | None, typer.Option("--labels", help="Label images: a file, or a folder.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; a second run continues there.")],
    channels: Annotated[str | None, typer.Option(help="Channels to score, comma-separated; all of them if left away.")] = None,
    channel_names: Annotated[
        Path | None, typer.Option(help="Text or CSV file of channel names, for images that do not name theirs.")
    ] = None,
    channel_types: Annotated[
        str | None,
        typer.Option(
            help="What channels are: DNA1=counterstain,Blank1=blank (autofluorescence, isotype), or a CSV (channel,type)."
        ),
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel, if the files do not say or are wrong.")] = None,
    dark_level: Annotated[
        float | None, typer.Option(help="What the camera adds to every pixel; it is subtracted. `panimbus inspect` tells.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of a model (see `panimbus models`) or path of a model file.")] = None,
    tta: Annotated[
        str | None, typer.Option(help="Views: full (8), auto (as many as needed), none. [default: the model's]")
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Also write pixel score maps, with a pyramid.")] = False,
    maps_format: Annotated[str, typer.Option(help="Format of the score maps: tiff (OME-TIFF) or zarr (OME-Zarr).")] = "tiff",
    normaliser: Annotated[
        Path | None, typer.Option(help="normaliser.json of an earlier run on the same dataset, used as it is.")
    ] = None,
    tables: Annotated[
        str, typer.Option(help="Which tables to write, comma-separated: h5ad, csv, parquet, spatialdata, spatialdata+images.")
    ] = "h5ad,csv",
    tile: Annotated[int | None, typer.Option(help="Longest side of a tile, in model pixels. [default: the model's]")] = None,
    precision: Annotated[str, typer.Option(help="auto, or float32 for exact results.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 takes all cores.")] = 0,
    on_error: Annotated[
        str, typer.Option(help="Pixels of a channel that cannot be read: raise, or skip (scores of their cells are missing).")
    ] = "raise",
    dask: Annotated[
        str | None, typer.Option(help="Let a Dask cluster do the work: tcp://host:port, a scheduler file (.json), or local:N.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Do share i of n, as i/n, and write no table: `panimbus merge` does, when all are done.")
    ] = None,
    stage: Annotated[str, typer.Option(help="With --shard: all, or scan to end after the first pass.")] = "all",
    evidence: Annotated[
        bool, typer.Option("--evidence/--no-evidence", help="Also measure rim, inside and neighbours of each cell, as layers.")
    ] = True,
    thresholds: Annotated[
        str | None,
        typer.Option(
            help="Scores from which markers are positive: CD20=0.7,CD4=0.6, or a CSV (marker,threshold). [default: the model's]"
        ),
    ] = None,
    min_area: Annotated[
        float | None, typer.Option(help="Smallest area of a cell, in µm²; smaller objects are marked as slivers. [default: 5]")
    ] = None,
    max_area: Annotated[
        float | None,
        typer.Option(help="Largest area of a cell, in µm²; larger objects are marked. [default: 1000, or 10 times the median]"),
    ] = None,
) -> None:
    """Score every cell and every marker; write cells.h5ad, cells.csv, positive.csv and normaliser.json into --out."""
    import json
    from dataclasses import replace

    from panimbus.cli.console import echo_contradictions, names_in, progress_bar
    from panimbus.core.errors import InputError
    from panimbus.infer.output import check_kinds, load_scale, save_run, summary
    from panimbus.infer.predict import PredictSettings, predict
    from panimbus.io import open_fovs
    from panimbus.io.thresholds import parse_thresholds
    from panimbus.model.weights import resolve_model

    kinds = check_kinds(tables)
    scale = load_scale(normaliser) if normaliser is not None else None
    resolve_model(model)  # an unknown model is said before the files are opened
    wanted = names_in(channels)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file.", expected="a folder, new or of an earlier run")
    settings = PredictSettings(
        tta=tta, tile=tile, precision=precision, device=device, threads=threads, maps=maps, on_error=on_error,
        maps_format=maps_format, dask=dask, evidence=evidence, min_area=min_area, max_area=max_area,
    )  # fmt: skip
    if shard is not None or stage != "all":
        from panimbus.cli.merge import do_share

        do_share(
            shard, stage, out, settings,
            {"images": images, "labels": labels or [], "channel_names": channel_names, "model": model,
             "channel_types": channel_types},
            {"channels": wanted, "mpp": mpp, "dark_level": dark_level, "scale": scale, "thresholds": thresholds},
        )  # fmt: skip
        return
    fovs = open_fovs(
        images if len(images) > 1 else images[0],
        None if not labels else labels if len(labels) > 1 else labels[0],
        mpp=mpp,
        dark_level=dark_level,
        channels=wanted,
        channel_names=channel_names,
        channel_types=channel_types,
        counterstains=True,
    )
    if thresholds is not None:
        settings = replace(settings, thresholds=parse_thresholds(thresholds, wanted or fovs[0].channels))
    for note in sorted({note for fov in fovs for note in fov.notes}):
        typer.echo(f"note: {note}", err=True)
    with progress_bar() as show:
        table = predict(fovs, model=model, channels=wanted, scale=scale, out=out, settings=settings, progress=show)
    save_run(table, out, kinds, fovs)
    typer.echo(summary(table, out, json.loads(table.uns["panimbus"]["scale"])))
    echo_contradictions(table)
