"""``panimbus predict --shard i/n``: one shard of a prediction, for `panimbus merge`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from panimbus.infer.distribute.manifest import Request
    from panimbus.infer.passes import Shard
    from panimbus.infer.settings import PredictSettings


def run_shard(
    text: str | None,
    stage: str,
    out: Path,
    settings: PredictSettings,
    paths: dict[str, Any],
    more: dict[str, Any],
) -> None:
    """Compute one shard; ``paths`` and ``more`` are options of `panimbus predict`."""
    from panimbus.cli.console import running
    from panimbus.cli.inputs import refuse_labels_among
    from panimbus.cli.predict import workload
    from panimbus.core.errors import InputError
    from panimbus.infer.distribute.shards import predict_shard
    from panimbus.infer.record import asked_for, check_same_run
    from panimbus.io.thresholds import parse_thresholds

    if text is None:
        raise InputError(
            f"--stage {stage} requires --shard.",
            fix="pass --shard 1/1 --stage scan, or omit --stage",
        )
    shard = parse_shard(text)
    if settings.maps or settings.dask is not None:
        option = "--maps" if settings.maps else "--dask"
        raise InputError(
            f"{option} and --shard cannot be combined.",
            fix=f"omit one of them ({option} needs one process)",
        )
    thresholds, overwrite = more.pop("thresholds"), more.pop("overwrite")
    request = _request(settings, paths, **more)
    fovs = request.open()
    if any(fov.labels is None for fov in fovs):
        refuse_labels_among(paths["images"])
    if thresholds is not None:
        names = request.channels or fovs[0].channels
        request = replace(request, thresholds=parse_thresholds(thresholds, names))
    files, scale = request.files(), request.normaliser()
    asked = asked_for(fovs, files, request.settings(), request.channels, scale)
    check_same_run(out, asked, overwrite=overwrite)
    name = f"shard {shard.number}/{shard.of}"
    about = f"{name} of {workload(fovs, files, settings, request.channels)}"
    with running("predict", about, fovs=len(fovs)) as log:
        predict_shard(
            request,
            out=out,
            shard=shard,
            stage=stage,
            threads=settings.threads,
            command=command_without_shard(sys.argv),
            progress=log,
        )
    first = "first pass of " if stage == "scan" else ""
    typer.echo(f"{first}{name} is done; when all shards are done: panimbus merge {out}")
    log.end(out)


def parse_shard(text: str) -> Shard:
    """Parse ``3/8``."""
    from panimbus.core.errors import InputError
    from panimbus.infer.passes import Shard

    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(
            f"--shard {text} is not a shard.", expected="i/n with i from 1 to n, e.g. 3/8"
        )
    return Shard(int(match[1]), int(match[2]))


def _request(settings: PredictSettings, paths: dict[str, Any], **more: Any) -> Request:
    """Everything that the shards share, with absolute paths."""
    from panimbus.core.errors import InputError
    from panimbus.infer.distribute.manifest import Request, absolute
    from panimbus.model.weights import shipped_models

    model, types = paths["model"], paths["channel_types"]
    if paths["pairs"] is not None and paths["labels"]:
        raise InputError("--labels and --pairs cannot be combined.", fix="omit one of them")
    is_file = (
        model is not None
        and model not in {*shipped_models(), "default", "nimbus"}
        and Path(model).expanduser().is_file()
    )
    channels, scale = more["channels"], more["scale"]
    optional: dict[str, Any] = {
        k: paths[k] and absolute(paths[k]) for k in ("pairs", "channel_names")
    }
    common = {f.name for f in fields(Request)} & {f.name for f in fields(settings)}
    return Request(
        **{name: getattr(settings, name) for name in common},
        images=tuple(absolute(p) for p in paths["images"]),
        labels=tuple(absolute(p) for p in paths["labels"]),
        **optional,
        channels=None if channels is None else tuple(channels),
        channel_types=absolute(types) if types is not None and Path(types).is_file() else types,
        mpp=more["mpp"],
        dark_level=more["dark_level"],
        model=absolute(Path(model).expanduser()) if is_file else model,
        scale=None if scale is None else scale.to_dict(),
    )


def command_without_shard(argv: Sequence[str]) -> list[str]:
    """The command line without its options --shard and --stage."""
    out, skip = ["panimbus"], False
    for word in argv[1:]:
        name, _, value = word.partition("=")
        if skip or name in ("--shard", "--stage"):
            skip = not skip and not value
            continue
        out.append(word)
    return out
