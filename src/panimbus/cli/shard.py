"""``panimbus predict --shard i/n``: one shard of a prediction, for `panimbus merge`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from panimbus.infer.distribute.manifest import Request
    from panimbus.infer.passes import Shard


def run_shard(
    text: str | None,
    stage: str,
    out: Path,
    request: Request,
    *,
    thresholds: str | None,
    overwrite: bool,
) -> None:
    """Compute one shard.

    Parameters
    ----------
    text, stage, out, thresholds, overwrite
        Options of `panimbus predict`; ``text`` is that of ``--shard``.
    request
        The other options.
    """
    from panimbus.cli.console import running, workload
    from panimbus.cli.inputs import refuse_labels_among
    from panimbus.core.errors import InputError
    from panimbus.infer.distribute.shards import predict_shard
    from panimbus.infer.record import asked_for, check_same_run
    from panimbus.io.assignments import parse_thresholds

    if text is None:
        raise InputError(
            f"--stage {stage} requires --shard.",
            fix="pass --shard 1/1 --stage scan, or omit --stage",
        )
    shard = parse_shard(text)
    if request.settings.maps or request.settings.dask is not None:
        option = "--maps" if request.settings.maps else "--dask"
        raise InputError(
            f"{option} and --shard cannot be combined.",
            fix=f"omit one of them ({option} needs one process)",
        )
    request = request.absolute()
    fovs = request.open()
    if any(fov.labels is None for fov in fovs):
        refuse_labels_among(request.images)
    if thresholds is not None:
        parsed = parse_thresholds(thresholds, request.channels or fovs[0].channels)
        request = replace(request, settings=replace(request.settings, thresholds=parsed))
    files, settings, scale = request.files(), request.settings, request.normaliser()
    asked = asked_for(fovs, files, settings, request.channels, scale)
    check_same_run(out, asked, overwrite=overwrite)
    name = f"shard {shard.number}/{shard.of}"
    about = f"{name} of {workload(fovs, files, settings, request.channels)}"
    with running("predict", about, fovs=len(fovs)) as log:
        predict_shard(
            request,
            out=out,
            shard=shard,
            stage=stage,
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
