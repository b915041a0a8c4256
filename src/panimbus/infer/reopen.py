"""Open the images of a finished run again, from what its `run.json` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from panimbus.core.errors import ChannelError, ReadError, format_list
from panimbus.core.fov import Fov
from panimbus.infer.record import RUN
from panimbus.io import open_fovs
from panimbus.io.attach import attach_file
from panimbus.io.documents import read_json, validate
from panimbus.io.location import Location, Url, parse_location
from panimbus.io.panel import select

_FIX = "pass --images (and --labels) with the place where they are now"


class _Origin(BaseModel):
    image: str | None = None
    labels: str | None = None
    part: str | None = None
    mpp: float | None = None
    dark_level: float | None = None
    types: dict[str, str] = Field(default_factory=dict)
    planes: list[int] | None = None


class _Request(BaseModel):
    fovs: dict[str, _Origin] = Field(default_factory=dict)
    channels: list[str] | None = None


class _Run(BaseModel):
    request: _Request = Field(default_factory=_Request)
    inputs: dict[str, _Origin] = Field(default_factory=dict)


@dataclass(frozen=True)
class RecordedFov:
    """Where a FOV of a run came from.

    Parameters
    ----------
    fov_id
    image, labels
        Places of the image and its label image; None where arrays were scored.
    part
        Acquisition or series within the image file.
    mpp
        Micrometres per pixel.
    dark_level
        Subtracted from every pixel, in the image's units.
    types
        Channel -> declared type.
    channels
        Names of the scored channels.
    planes
        Positions in the file of the planes that the run used; None: all of them.
    """

    fov_id: str
    image: Location | None
    labels: Location | None
    part: str | None = None
    mpp: float | None = None
    dark_level: float | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    planes: tuple[int, ...] | None = None

    @property
    def missing(self) -> list[str]:
        """Files of it that are not there any more."""
        places = [p for p in (self.image, self.labels) if p is not None]
        return [str(p) for p in places if not isinstance(p, Url) and not p.exists()]


def recorded_fovs(folder: str | Path) -> dict[str, RecordedFov]:
    """The FOVs of a result, in the order in which they were scored.

    Parameters
    ----------
    folder
        Output folder of `panimbus predict` or `merge`.

    Raises
    ------
    ReadError
        If its ``run.json`` is missing or is not that of `predict`.
    """
    path = Path(folder) / RUN
    data = read_json(path, "run.json of `panimbus predict`")
    run = validate(
        _Run, data, f"{path}: this is no run.json of `panimbus predict`.", kind=ReadError
    )
    if not run.inputs and not run.request.fovs:
        raise ReadError(
            f"{path}: the file does not say which images were scored.",
            expected="run.json of `panimbus predict` or `panimbus merge`",
        )
    out = {}
    for fov_id in run.inputs or run.request.fovs:
        seen = run.inputs.get(fov_id, _Origin())
        first = run.request.fovs.get(fov_id, seen)
        out[fov_id] = RecordedFov(
            fov_id,
            None if first.image is None else parse_location(first.image),
            None if first.labels is None else parse_location(first.labels),
            first.part,
            first.mpp if first.mpp is not None else seen.mpp,
            first.dark_level,
            first.types,
            tuple(run.request.channels or ()),
            None if seen.planes is None else tuple(seen.planes),
        )
    return out


def check_present(fovs: Sequence[RecordedFov]) -> None:
    """Raise an error if images or label images of a run are not where they were.

    Raises
    ------
    ReadError
        That names some of the missing files.
    """
    gone = [file for fov in fovs for file in fov.missing]
    bare = [fov.fov_id for fov in fovs if fov.image is None]
    if gone:
        raise ReadError(
            "Files of this result are not where they were when it was scored.",
            expected="the images and label images that run.json names",
            got=f"not there: {format_list(list(dict.fromkeys(gone)), 3)}",
            fix=_FIX,
        )
    if bare:
        raise ReadError(
            "run.json does not say where the images of this result are.",
            got=f"no file for {format_list(bare, 5)} (scored from arrays)",
            fix=_FIX,
        )


def reopen_fov(recorded: RecordedFov) -> Fov:
    """Open one FOV of a run as it was scored, with all channels of its image.

    Raises
    ------
    ReadError
        If a file is missing or is another one now.
    ChannelError
        If the image lacks a scored channel, by name.
    """
    check_present([recorded])
    opened = open_fovs(
        _paths(recorded.image),
        None if recorded.part is not None else _paths(recorded.labels),
        mpp=recorded.mpp,
        dark_level=recorded.dark_level,
    )
    fov = _part(opened, recorded)
    if any(c not in fov.channels for c in recorded.channels):
        fov = _renamed(fov, recorded)
    types = {c: t for c, t in recorded.types.items() if c in fov.channels}
    fov = fov.with_(fov_id=recorded.fov_id, channel_types=types)
    if recorded.part is not None and recorded.labels is not None:
        fov = attach_file(fov, recorded.labels)
    return fov


def _paths(place: Location | None) -> Any:
    return place.full if isinstance(place, Url) else place


def _part(opened: Sequence[Fov], recorded: RecordedFov) -> Fov:
    """The FOV among those of its file."""
    if len(opened) == 1:
        return opened[0]
    by_part = [f for f in opened if recorded.part in (f.source.get("part"), None)]
    named = [f for f in opened if f.fov_id == recorded.fov_id]
    for some in (by_part if recorded.part is not None else [], named):
        if len(some) == 1:
            return some[0]
    raise ReadError(
        f"{recorded.image}: FOV {recorded.fov_id!r} is not among the images of this file.",
        available=[f.fov_id for f in opened],
        fix=_FIX,
    )


def _renamed(fov: Fov, recorded: RecordedFov) -> Fov:
    """The FOV with the names of the run, where a file of names or a panel gave them."""
    planes = recorded.planes or tuple(range(len(fov.channels)))
    if len(planes) != len(recorded.channels) or max(planes, default=0) >= len(fov.channels):
        lost = [c for c in recorded.channels if c not in fov.channels]
        raise ChannelError(
            f"FOV {recorded.fov_id!r}: the image does not name all channels that were scored.",
            expected=format_list(lost, 10),
            available=fov.channels,
            fix=(
                "score it again with names in the file, or with all of its channels (without"
                " --channels), so that their order tells the names"
            ),
        )
    chosen = fov if recorded.planes is None else select(fov, [fov.channels[k] for k in planes])
    return chosen.with_(channels=recorded.channels, channel_types={})
