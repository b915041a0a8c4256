"""FOVs and output folders from the arguments of a command; the same for every command."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panimbus.core.fov import Fov

_LABEL_ENDINGS = (".geojson", ".json", ".png", ".npy")
_TRIED = 3  # files of a folder that are opened


def open_given(  # noqa: PLR0913 (those of `open_fovs`)
    images: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    pairs: Path | None = None,
    mpp: float | None = None,
    dark_level: float | None = None,
    channels: Sequence[str] | None = None,
    channel_names: Path | None = None,
    channel_types: str | None = None,
    exclude: str | None = None,
    counterstains: bool = False,
    images_only: bool = False,
) -> list[Fov]:
    """`panimbus.open_fovs` for arguments, where one path stands alone and several are a list.

    Unless ``images_only``, label images that were passed as images are an error that says so.
    """
    from panimbus.core.errors import InputError
    from panimbus.io import open_fovs

    if labels and pairs is not None:
        raise InputError("--labels and --pairs cannot be combined.", fix="omit one of them")
    try:
        fovs = open_fovs(
            images[0] if len(images) == 1 else list(images),
            None if not labels else labels[0] if len(labels) == 1 else list(labels),
            pairs=pairs,
            mpp=mpp,
            dark_level=dark_level,
            channels=channels,
            channel_names=channel_names,
            channel_types=channel_types,
            exclude=exclude,
            counterstains=counterstains,
        )
    except InputError:
        if not labels and pairs is None:
            refuse_labels_among(images)
        raise
    if not images_only and any(fov.labels is None for fov in fovs):
        refuse_labels_among(images)
    return fovs


def refuse_labels_among(images: Sequence[str]) -> None:
    """Raise an error if label images were passed as images: ``predict image.tif mask.tif``."""
    from panimbus.core.errors import InputError

    masks = [path for path in images if len(images) > 1 and _looks_like_labels(path)]
    if not masks or len(masks) == len(images):
        return
    rest = [path for path in images if path not in masks]
    options = " ".join(f"--labels {shlex.quote(path)}" for path in masks[:5])
    raise InputError(
        f"{', '.join(masks[:5])}: {'this looks' if len(masks) == 1 else 'these look'} like label"
        " images, not like images.",
        expected="images, and their label images after --labels",
        fix=f"{shlex.join(rest[:5])} {options}",
    )


def _looks_like_labels(path: str) -> bool:
    """Whether a file, or a folder of files, seems to be a label image.

    Either its ending says so, or it is one plane of few integers in large patches.
    """
    import numpy as np

    from panimbus.core.errors import PanimbusError
    from panimbus.io import open_fovs
    from panimbus.io.location import Url, parse_location
    from panimbus.io.names import match_key, stem

    location = parse_location(path)
    if isinstance(location, Url):
        return False
    if not location.is_file():
        return location.suffix.lower() != ".zarr" and location.is_dir() and _holds_labels(location)
    if location.suffix.lower() in (".geojson", ".json") or match_key(stem(location)) != stem(
        location
    ):
        return True
    try:
        (fov,) = open_fovs(path)
        if len(fov.channels) != 1 or fov.image.dtype.kind not in "iub":
            return False
        height, width = (min(n, 512) for n in fov.shape_yx)
        part = np.asarray(fov.image[0, 0:height, 0:width])
    except (PanimbusError, ValueError):
        return False
    return bool((part[:, 1:] == part[:, :-1]).mean() > 0.7) and len(np.unique(part)) > 1


def _holds_labels(folder: Path) -> bool:
    """Whether a folder seems to hold label images, by the names or the first few files."""
    from panimbus.core.errors import PanimbusError
    from panimbus.io.names import (
        is_label_name,
        is_tiff_name,
        list_folder,
        match_key,
        may_be_label_name,
        stem,
    )

    try:
        files = [
            path
            for path in list_folder(folder)
            if is_tiff_name(path) or path.suffix.lower() in _LABEL_ENDINGS
        ]
    except (PanimbusError, OSError):
        return False
    if not files or all(match_key(stem(path)) != stem(path) for path in files):
        return bool(files)
    named = is_label_name(folder.name) or may_be_label_name(folder.name)
    return named and all(_looks_like_labels(str(path)) for path in files[:_TRIED])


def prepare_out(out: Path, *, shared: bool = False) -> None:
    """Refuse an output folder that cannot be written, before anything is computed.

    Leftovers of a killed run are removed, and a replacement that it began is ended. A folder that
    other processes may be creating (``shared``) is not tested for writing.
    """
    from panimbus.core.errors import InputError
    from panimbus.io.files import check_folder, remove_leftovers
    from panimbus.io.replace import finish_replacing

    nearest = next((p for p in (out, *out.parents) if os.path.lexists(p)), Path())
    if not nearest.is_dir():
        broken = nearest.is_symlink() and not nearest.exists()
        raise InputError(
            f"--out {out}: {nearest} is a {'broken link' if broken else 'file'}.",
            expected="a new folder, or the folder of an earlier run",
        )
    if not shared:
        check_folder(out)
    if nearest == out:
        remove_leftovers(out)
        if not shared:
            finish_replacing(out)


def check_new_file(out: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file, unless asked to."""
    from panimbus.core.errors import InputError

    if out.is_dir():
        raise InputError(f"--out {out} is a folder.", expected="the name of a CSV file")
    if out.exists() and not overwrite:
        raise InputError(
            f"--out {out} already exists.", fix="choose another name, or pass --overwrite"
        )


def command_line() -> str:
    """The command line as typed, for reports."""
    return shlex.join(["panimbus", *sys.argv[1:]])
