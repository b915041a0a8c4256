"""Label images of opened FOVs: finding, pairing and attaching them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.core.fov import ArrayLike, Fov
from panimbus.core.guard import GuardedArray, guarded
from panimbus.io import names
from panimbus.io.discover import DetectedImage, check_exists
from panimbus.io.label_matching import draft_pairs_csv, match_by_name, match_mapping
from panimbus.io.labels import SUPPORTED, label_locations, open_labels
from panimbus.io.location import Location, Paths, Url, parse_location, parse_locations
from panimbus.io.read_result import FileStamp, ReadResult
from panimbus.io.zarr_planes import ZarrPlanes, is_zarr

_STRIP_PIXELS = 1 << 24  # of a label image that are read at once


def draft_pairs(fovs: Sequence[Fov], labels: Paths) -> str:
    """Draft a CSV file of pairs for ``open_fovs(pairs=...)``, by the likeness of names."""
    files: list[Location] = []
    for path in parse_locations(list(labels.values()) if isinstance(labels, Mapping) else labels):
        check_exists(path)
        files += label_locations(path)
    return draft_pairs_csv({fov.fov_id: str(fov.source.get("image", "")) for fov in fovs}, files)


def attach_labels(fovs: Sequence[Fov], labels: Paths) -> list[Fov]:
    """Attach label images to FOVs by name; a FOV without one stays as it is.

    Parameters
    ----------
    fovs
        Open FOVs.
    labels
        Files or folders, or a mapping from FOV ids to files, as for `open_fovs`.

    Raises
    ------
    MatchError
        If a label image belongs to none of the FOVs, or to several.
    """
    if isinstance(labels, Mapping):
        given = {str(k): parse_location(v) for k, v in labels.items()}
        match_mapping([fov.fov_id for fov in fovs if fov.fov_id in given], given)
    else:
        for path in parse_locations(labels):
            check_exists(path)
        files = [f for path in parse_locations(labels) for f in label_locations(path)]
        keys = {names.match_key(names.stem(file)) for file in files}
        given = match_by_name(
            [fov.fov_id for fov in fovs if names.match_key(fov.fov_id) in keys], files, subset=False
        )
    return [attach_file(fov, given[fov.fov_id]) if fov.fov_id in given else fov for fov in fovs]


def attach_inner_labels(fov: Fov, raw: ReadResult) -> Fov:
    """Labels stored with the image, if there is just one."""
    if raw.doubt is not None:
        raise MatchError(
            raw.doubt,
            fix=(
                "pass one image (<store>/images/<name>) and its label image (--labels"
                " <store>/labels/<name>)"
            ),
        )
    if len(raw.labels) > 1:
        paths = ", ".join(str(path) for _, path in raw.labels.values())
        return fov.with_(
            notes=(
                *fov.notes,
                f"the image has several label images, none is used; pass one as labels: {paths}",
            )
        )
    if raw.masks and not raw.labels:
        return _attach_neighbour(fov, raw.masks)
    if not raw.labels:
        return fov
    ((name, (array, path)),) = raw.labels.items()
    notes = (*getattr(array, "notes", ()), f"labels are the image's own, {name!r}")
    return _attach_array(fov, array, path, "OME-Zarr labels", notes)


def _attach_neighbour(fov: Fov, masks: Sequence[Path]) -> Fov:
    """Attach the label image in the folder of the channels, if only one qualifies."""
    several = ", ".join(p.name for p in masks)
    masks = [
        p for p in masks if names.match_key(names.stem(p)) not in fov.channels
    ]  # CD3_mask is of one marker
    named = [
        p for p in masks if names.is_label_name(names.stem(p))
    ]  # of others only the pixels say it
    masks = named or masks
    whole = [p for p in masks if names.stem(p).lower().endswith(("whole_cell", "feature_0"))]
    chosen = masks if len(masks) == 1 else whole
    if len(chosen) != 1:
        note = (
            "it is not clear which label image beside the channels is meant, none is used; pass"
            f" one: {several}"
        )
        return fov.with_(notes=(*fov.notes, note))
    return attach_file(
        fov, chosen[0], (f"labels are {chosen[0].name}, which lies beside the channels",)
    )


def find_label_files(labels: Paths, images: Sequence[Location]) -> list[Location]:
    """Label images at the given paths, without the images of the same call."""
    files: list[Location] = []
    for path in [] if isinstance(labels, Mapping) else parse_locations(labels):
        check_exists(path)
        places = label_locations(path)
        files += [p for p in places if p == path or p not in images]
    return files


def pair_labels(
    fov_ids: Sequence[str],
    labels: Paths,
    files: list[Location],
    *,
    images: Paths,
    recognised: list[DetectedImage],
) -> dict[str, Location]:
    """Label file of each FOV."""
    if isinstance(labels, Mapping):
        return match_mapping(fov_ids, {str(k): parse_location(v) for k, v in labels.items()})
    given = parse_locations(labels)
    if not files:
        raise ReadError(
            f"{given[0] if given else 'labels'}: no label image was found.", expected=SUPPORTED
        )
    single = _is_single(images, recognised)
    if len(fov_ids) == len(files) == 1 and single and _named_itself(given[0], files[0]):
        return {fov_ids[0]: files[0]}
    return match_by_name(fov_ids, files, subset=single or not isinstance(images, (str, Path, Url)))


def choice_notes(fov: Fov, chosen: Location, labels: Paths) -> tuple[str, ...]:
    """Notes on a label image chosen from a folder: rivals, or a name in another case."""
    if (
        isinstance(labels, Mapping)
        or isinstance(chosen, Url)
        or chosen in parse_locations(labels)
        or chosen.parent not in parse_locations(labels)
    ):
        return ()
    key = names.match_key(names.stem(chosen))
    others = [
        p.name
        for p in names.list_folder(chosen.parent)
        if p != chosen
        and names.is_tiff_name(p)
        and names.match_key(names.stem(p)) == key
        and names.stem(p) != names.stem(chosen)
    ]
    others = [
        name
        for name in others
        if names.may_be_label_name(names.stem(name)) or names.is_label_name(names.stem(name))
    ]
    notes: tuple[str, ...] = (
        (f"labels are {chosen.name}, not {', '.join(others)}",) if others else ()
    )
    if key != (own := names.match_key(fov.fov_id)) and key.casefold() == own.casefold():
        notes += (
            f"labels are {chosen.name}: its name differs from the FOV's in upper and lower case",
        )
    return notes


def _is_single(images: Paths, recognised: list[DetectedImage]) -> bool:
    """Whether the user named a single image, not a folder that happens to hold one."""
    if isinstance(images, Mapping):
        return len(images) == 1
    return len(recognised) == 1 and [recognised[0].path] == parse_locations(images)


def _named_itself(given: Location, file: Location) -> bool:
    """Whether the user named a label image itself (a Zarr store included), not its folder."""
    return given == file or isinstance(given, Url) or is_zarr(given)


def attach_file(fov: Fov, path: Location, notes: tuple[str, ...] = ()) -> Fov:
    """The FOV with the label image of a file; errors name the file."""
    check_exists(path)
    with guarded(path, "the label image cannot be read."):
        opened = open_labels(path, fov.shape_yx)
    try:
        return _attach_array(fov, opened.labels, path, opened.fmt, notes + opened.notes)
    except InputError as error:
        raise type(error)(f"{error}\n  file:      {path}") from None


def _attach_array(fov: Fov, array: Any, path: Location, fmt: str, notes: tuple[str, ...]) -> Fov:
    files = tuple(array.files) if isinstance(array, ZarrPlanes) else (path,)
    own = FileStamp((("labels_", files),))
    source = {**fov.source, "labels": str(path), "labels_format": fmt, **own()}
    stamp = FileStamp((*(fov.stamp.parts if isinstance(fov.stamp, FileStamp) else ()), *own.parts))
    return fov.with_(
        labels=GuardedArray(array, path), source=source, notes=(*fov.notes, *notes), stamp=stamp
    )


def validate_labels(labels: ArrayLike, fov_id: str) -> None:
    """Read a label image in strips and refuse negative ids.

    Parameters
    ----------
    labels : (Y, X) integer
        May be lazy. Unsigned types are not read: they cannot be negative.
    fov_id
        For the message.
    """
    if labels.dtype.kind != "i":
        return
    height, width = labels.shape
    rows = max(1, _STRIP_PIXELS // max(width, 1))
    count, lowest, where = 0, 0, (0, 0)
    for y in range(0, height, rows):
        strip = labels[y : min(y + rows, height), 0:width]
        if int(strip.min(initial=0)) < 0:
            ys, xs = np.nonzero(strip < 0)
            where = where if count else (y + int(ys[0]), int(xs[0]))
            count, lowest = count + len(ys), min(lowest, int(strip.min()))
    if count:
        raise InputError(
            f"FOV {fov_id!r}: the label image has negative ids.",
            expected="ids from 1, 0 = background",
            got=f"{count} pixels below 0 (lowest {lowest}, first at y={where[0]}, x={where[1]})",
            fix=(
                "save it with an unsigned type that is wide enough (uint32): ids above 32,767 wrap"
                " in int16"
            ),
        )
