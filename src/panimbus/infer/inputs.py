"""The input of `predict` and `inspect_fovs`: opened where it is paths, and checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from panimbus.core.counterstain import reference_channels
from panimbus.core.errors import ChannelError, InputError, format_list
from panimbus.core.fov import Fov
from panimbus.core.normaliser import check_normaliser
from panimbus.core.scale import ChannelScale
from panimbus.core.thresholds import check_thresholds
from panimbus.core.tiles import plan_tiles
from panimbus.infer.executor import Plan
from panimbus.infer.settings import PredictSettings
from panimbus.infer.tta import views
from panimbus.io import open_fovs
from panimbus.io.files import check_names
from panimbus.model.weights import ModelFiles

Images = Fov | str | Path | Sequence[Fov] | Sequence[str | Path]
"""FOVs, or paths or addresses of images."""
Labels = str | Path | Sequence[str | Path]


def resolve_fovs(
    images: Images,
    labels: Labels | None = None,
    mpp: float | None = None,
    channels: Sequence[str] | None = None,
) -> list[Fov]:
    """The FOVs as they are, or opened where paths are given.

    Parameters
    ----------
    images
        FOVs, or what `open_fovs` takes.
    labels, mpp
        As `open_fovs` takes them; only for paths.
    channels
        Names of the channels to open, besides the counterstains; default: all channels.

    Raises
    ------
    InputError
        If something is neither a FOV nor a path, or names of channels are not text.
    """
    alone = isinstance(images, str | Path | Fov) or not isinstance(images, Iterable)
    items: list[Any] = [images] if alone else list(images)  # type: ignore[arg-type]
    if channels is not None and not (
        isinstance(channels, Iterable) and all(isinstance(c, str) for c in channels)
    ):
        available = [c for f in items[:1] if isinstance(f, Fov) for c in f.channels]
        raise ChannelError(
            "Names of channels are text.", got=repr(channels)[:200], available=available
        )
    if items and all(isinstance(item, str | Path) for item in items):
        return open_fovs(
            items[0] if alone else items,
            labels,
            mpp=mpp,
            channels=channels,
            counterstains=True,
        )
    if wrong := [item for item in items if not isinstance(item, Fov)]:
        raise InputError(
            "The input is no FOV and no path.",
            expected="what panimbus.open_fovs or panimbus.from_array returned, or paths of images",
            got=f"{type(wrong[0]).__name__} {wrong[0]!r}"[:200],
            fix="pass arrays through panimbus.from_array first",
        )
    if labels is not None or mpp is not None:
        raise InputError(
            "labels= and mpp= go with paths of images, not with FOVs.",
            fix="open the images with panimbus.open_fovs(images, labels=..., mpp=...)",
        )
    return items


def check_fovs(fovs: Sequence[Fov], channels: Sequence[str] | None) -> None:
    """Refuse FOVs that cannot be scored, before any pixel is read."""
    if not fovs:
        raise InputError("There is no FOV to score.")
    ids = [f.fov_id for f in fovs]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise InputError("FOV names are not unique.", got=format_list(twice))
    if missing := [f.fov_id for f in fovs if f.labels is None]:
        raise InputError(
            "There are FOVs without a label image.",
            got=format_list(missing),
            fix="pass --labels (Python: labels=)",
        )
    if missing := [f.fov_id for f in fovs if f.mpp is None]:
        raise InputError(
            f"The files of {len(missing)} FOVs do not say how large a pixel is.",
            got=format_list(missing),
            fix=(
                "pass --mpp (Python: mpp=) with the micrometres per pixel: about 0.5 for 20x, 0.25"
                " for 40x, 1.0 for IMC"
            ),
        )
    check_names(ids, "FOVs")
    check_names(dict.fromkeys(channels if channels is not None else fovs[0].channels), "channels")
    wanted = tuple(channels) if channels is not None else fovs[0].channels
    if not wanted:
        raise ChannelError("No channel was asked for.", available=fovs[0].channels)
    if twice := sorted({c for c in wanted if wanted.count(c) > 1}):
        raise ChannelError("A channel was asked for twice.", got=format_list(twice))
    for fov in fovs:
        for channel in wanted:
            fov.index(channel)


def make_plan(
    files: ModelFiles,
    settings: PredictSettings,
    fovs: Sequence[Fov],
    channels: Sequence[str] | None,
    scale: ChannelScale | None,
) -> Plan:
    """Plan a run; settings and a normaliser that the model cannot use are refused here."""
    card, wanted = files.card, tuple(fovs[0].channels if channels is None else channels)
    plan = Plan(
        files,
        settings,
        wanted,
        reference_channels(wanted, fovs, card.stats)
        if scale is None or card.statistics == "fov"
        else (),
    )
    check_thresholds(settings.thresholds, wanted)
    views(settings.tta_for(card))
    plan_tiles((1, 1), size=settings.tile_for(card), reach=card.reach + 1, stride=card.stride)
    if scale is not None:
        for channel in wanted:
            scale.value(channel)
        check_normaliser(scale, card, card.name)
    return plan
