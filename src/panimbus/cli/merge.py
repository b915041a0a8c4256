"""``panimbus merge``: one cell table from the shards of ``panimbus predict --shard i/n``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from panimbus.cli import options

if TYPE_CHECKING:
    from panimbus.core.scale import ChannelScale
    from panimbus.infer.distribute.manifest import Request
    from panimbus.infer.passes import Shard
    from panimbus.infer.settings import PredictSettings


def command(
    out: Annotated[
        Path,
        typer.Argument(
            parser=options.path, metavar="FOLDER", help="The --out folder of the shards."
        ),
    ],
    *,
    tables: options.Tables = "h5ad,csv",
    columns: options.Columns = options.Layout.PANIMBUS,
    overwrite: options.Overwrite = False,
) -> None:
    """Put the shards of `panimbus predict --shard i/n` together.

    Nothing is scored, and what is missing is said.
    """
    import json

    from panimbus.cli.console import RunLog, echo_contradictions, on_terminal
    from panimbus.cli.predict import next_command
    from panimbus.core.layouts import check_layout
    from panimbus.infer.distribute.manifest import read_manifest
    from panimbus.infer.distribute.shards import merge
    from panimbus.infer.output import check_kinds, save_run, summary
    from panimbus.infer.record import asked_for, check_same_run

    kinds = check_kinds(tables)
    request, shards = (told := read_manifest(out)).request, told.shards
    log = RunLog("merge", f"{shards} shard{'s' * (shards != 1)} in {out}", quiet=on_terminal())
    table, fovs = merge(out)
    asked = asked_for(
        fovs, request.files(), request.settings(), request.channels, request.normaliser()
    )
    check_same_run(out, asked, overwrite=overwrite)
    check_layout(columns.value, list(map(str, table.var_names)), {f.fov_id: f.mpp for f in fovs})
    log.line(
        f"{len(fovs)} FOV{'s' * (len(fovs) != 1)}, {table.n_obs:,} cells, {table.n_vars} channels"
        " put together"
    )
    save_run(table, out, kinds, fovs, asked=asked, layout=columns.value)
    typer.echo(summary(table, out, json.loads(table.uns["panimbus"]["scale"])))
    echo_contradictions(table)
    log.end(out, next_command(out, kinds, request.labels))


def do_shard(
    text: str | None,
    stage: str,
    out: Path,
    settings: PredictSettings,
    paths: dict[str, Any],
    what: dict[str, Any],
) -> None:
    """Do a shard of a prediction; ``paths`` and ``what`` are options of `panimbus predict`."""
    from dataclasses import replace

    from panimbus.cli.console import running
    from panimbus.cli.inputs import refuse_labels_among
    from panimbus.cli.predict import work_in_words
    from panimbus.core.errors import InputError
    from panimbus.infer.distribute.shards import predict_shard
    from panimbus.infer.record import asked_for, check_same_run
    from panimbus.io.thresholds import parse_thresholds

    if text is None:
        raise InputError(
            f"--stage {stage} goes with --shard.",
            fix="pass --shard 1/1 --stage scan, or leave --stage away",
        )
    shard = parse_shard(text)
    if settings.maps or settings.dask is not None:
        option = "--maps" if settings.maps else "--dask"
        raise InputError(
            f"{option} and --shard do not go together.",
            fix=f"leave one of them away ({option} needs one process)",
        )
    written, overwrite = what.pop("thresholds"), what.pop("overwrite")
    request = _request(settings, paths, **what)
    fovs = request.open()
    if any(fov.labels is None for fov in fovs):
        refuse_labels_among(paths["images"])
    if written is not None:
        request = replace(
            request, thresholds=parse_thresholds(written, request.channels or fovs[0].channels)
        )
    files, scale = request.files(), request.normaliser()
    check_same_run(
        out,
        asked_for(fovs, files, request.settings(), request.channels, scale),
        overwrite=overwrite,
    )
    about = (
        f"shard {shard.number}/{shard.of} of"
        f" {work_in_words(fovs, files, settings, request.channels)}"
    )
    with running("predict", about, fovs=len(fovs)) as log:
        predict_shard(
            request,
            out=out,
            shard=shard,
            stage=stage,
            threads=settings.threads,
            command=_command(sys.argv),
            progress=log,
        )
    done = "first pass of " if stage == "scan" else ""
    typer.echo(f"{done}shard {shard.number}/{shard.of} is done; when all are: panimbus merge {out}")
    log.end(out)


def parse_shard(text: str) -> Shard:
    """A `Shard` from ``3/8``."""
    from panimbus.core.errors import InputError
    from panimbus.infer.passes import Shard

    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(
            f"--shard {text}: which shard of how many?", expected="i/n with i from 1 to n, e.g. 3/8"
        )
    return Shard(int(found[1]), int(found[2]))


def _request(
    settings: PredictSettings,
    paths: dict[str, Any],
    *,
    channels: list[str] | None,
    mpp: float | None,
    dark_level: float | None,
    scale: ChannelScale | None,
) -> Request:
    from panimbus.core.errors import InputError
    from panimbus.infer.distribute.manifest import Request, absolute
    from panimbus.model.weights import shipped_models

    model, names, pairs, types = (
        paths["model"],
        paths["channel_names"],
        paths["pairs"],
        paths["channel_types"],
    )
    if pairs is not None and paths["labels"]:
        raise InputError("--labels and --pairs do not go together.", fix="leave one of them away")
    named = (
        model is None
        or model in {*shipped_models(), "default", "nimbus"}
        or not Path(model).expanduser().is_file()
    )
    return Request(
        images=tuple(absolute(p) for p in paths["images"]),
        labels=tuple(absolute(p) for p in paths["labels"]),
        pairs=None if pairs is None else absolute(pairs),
        channels=None if channels is None else tuple(channels),
        channel_names=None if names is None else absolute(names),
        channel_types=absolute(types) if types is not None and Path(types).is_file() else types,
        mpp=mpp,
        dark_level=dark_level,
        model=model if named else absolute(Path(model).expanduser()),
        scale=None if scale is None else scale.to_dict(),
        tta=settings.tta,
        tile=settings.tile,
        precision=settings.precision,
        device=settings.device,
        on_error=settings.on_error,
        evidence=settings.evidence,
        min_area=settings.min_area,
        max_area=settings.max_area,
        allow_odd_labels=settings.allow_odd_labels,
    )


def _command(argv: Sequence[str]) -> list[str]:
    """The command line without its shard and stage."""
    out, skip = ["panimbus"], False
    for word in argv[1:]:
        name, _, value = word.partition("=")
        if skip or name in ("--shard", "--stage"):
            skip = not skip and not value
            continue
        out.append(word)
    return out
