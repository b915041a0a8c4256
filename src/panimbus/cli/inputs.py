"""From arguments to FOVs, and to an output folder that can be used; the same in every verb."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panimbus.core.fov import Fov


_LABEL_ENDINGS = (".geojson", ".json", ".png", ".npy")
_TRIED = 3  # files of a folder that are looked at


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
    counterstains: bool = False,
) -> list[Fov]:
    """`panimbus.io.open_fovs` for arguments: one path is a path, several are a list."""
    from panimbus.core.errors import InputError
    from panimbus.io import open_fovs

    if labels and pairs is not None:
        raise InputError("--labels and --pairs do not go together.", fix="leave one of them away")
    try:
        return open_fovs(
            images[0] if len(images) == 1 else list(images),
            None if not labels else labels[0] if len(labels) == 1 else list(labels),
            pairs=pairs,
            mpp=mpp,
            dark_level=dark_level,
            channels=channels,
            channel_names=channel_names,
            channel_types=channel_types,
            counterstains=counterstains,
        )
    except InputError:
        if not labels and pairs is None:
            refuse_labels_among(images)
        raise


def refuse_labels_among(images: Sequence[str]) -> None:
    """Say so where label images were given like images, without --labels.

    ``predict image.tif mask.tif``.
    """
    import shlex

    from panimbus.core.errors import InputError

    masks = [path for path in images if len(images) > 1 and _looks_like_labels(path)]
    if not masks or len(masks) == len(images):
        return
    rest = [path for path in images if path not in masks]
    raise InputError(
        f"{', '.join(masks[:5])}: {'this looks' if len(masks) == 1 else 'these look'} like label"
        " images, not like images.",
        expected="images, and their label images after --labels",
        fix=(
            f"{shlex.join(rest[:5])}"
            f" {' '.join(f'--labels {shlex.quote(path)}' for path in masks[:5])}"
        ),
    )


def _looks_like_labels(path: str) -> bool:
    """Whether a file has a label image's ending, or is one plane of few whole values in large
    patches; or a folder of such.
    """
    import numpy as np

    from panimbus.core.errors import PanimbusError
    from panimbus.io import open_fovs
    from panimbus.io.names import match_key, stem
    from panimbus.io.place import Url, parse_location

    where = parse_location(path)
    if isinstance(where, Url) or not where.is_file():
        return (
            not isinstance(where, Url)
            and where.suffix.lower() != ".zarr"
            and where.is_dir()
            and _holds_labels(where)
        )
    if where.suffix.lower() in (".geojson", ".json") or match_key(stem(where)) != stem(where):
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
    """Whether the files of a folder have label images' endings.

    Or its name is that of label images, and the first look so.
    """
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
    """Refuse a folder that cannot be written to, before anything is computed.

    Remove what a killed run left in it.

    Where other processes may be making the folder (``shared``), it is not tried out.
    """
    from panimbus.core.errors import InputError
    from panimbus.io.leftovers import remove_leftovers
    from panimbus.io.room import check_folder

    there = next((p for p in (out, *out.parents) if os.path.lexists(p)), Path())
    if not there.is_dir():
        what = "is a link to nothing" if there.is_symlink() and not there.exists() else "is a file"
        raise InputError(
            f"--out {out}: {there} {what}.", expected="a folder, new or of an earlier run"
        )
    if not shared:
        check_folder(out)
    if there == out:
        remove_leftovers(out)


def command_line() -> str:
    """The command as it was given, for reports."""
    import shlex
    import sys

    return shlex.join(["panimbus", *sys.argv[1:]])
