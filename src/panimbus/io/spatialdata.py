"""Reader of images and label images in SpatialData stores, whose elements are OME-Zarr."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from panimbus.core.errors import InputError, ServerError, format_list
from panimbus.core.fov import ArrayLike
from panimbus.io import names, omezarr
from panimbus.io.location import Location
from panimbus.io.ngff import Frame, coordinate_frames, first_multiscale
from panimbus.io.read_result import ReadResult
from panimbus.io.zarr_planes import ZarrPlanes, open_group

FORMAT = "SpatialData"
IMAGE_TAIL = "_image"


@dataclass(frozen=True, eq=False)
class _Labels:
    """A label element: lazy ids, location, coordinate systems, whether a table annotates it."""

    name: str
    where: Location
    array: ZarrPlanes
    frames: tuple[Frame, ...]
    annotated: bool


def read_zarr(path: Location) -> list[ReadResult]:
    """Read the images of an OME-Zarr or of a SpatialData store."""
    group = open_group(path)
    return _read_images(group, path) if _is_store(group) else omezarr.read_ome_zarr(group, path)


def _is_store(group: Any) -> bool:
    """Whether a group is a whole SpatialData store, not one of its elements."""
    return "spatialdata_attrs" in group.attrs and "multiscales" not in omezarr.ome_metadata(group)


def _read_images(group: Any, path: Location) -> list[ReadResult]:
    """Read the metadata of a store's images and of the label images that may segment them.

    A label image belongs to an image if it has its size and lies on it in a coordinate system that
    both have, and if it does not bear another image's name. Of several, the one of the image's own
    name counts, then the one that a table annotates.
    """
    if "images" not in group or not (elements := _members(group["images"])):
        raise InputError(
            f"{path}: the SpatialData store has no images.",
            got=f"groups {format_list(sorted(group.group_keys()))}",
            fix=(
                "pass the images themselves; on a server the store must have consolidated metadata"
                " or its folders be listed"
            ),
        )
    labels, unused = _labels(group, path)
    flat, volumes = [], []
    for name in elements:
        element, where = group["images"][name], path / "images" / name
        try:
            flat.append((name, omezarr.read_ome_image(element, where), _frames(element)))
        except ServerError:
            raise
        except InputError as error:
            volumes.append(f"{name} ({error.problem})")
            if len(volumes) == len(elements):
                raise
    keys = _fov_names([name for name, _, _ in flat])
    notes: tuple[str, ...] = (
        (f"image elements that cannot be used are passed over: {format_list(volumes, 5)}",)
        if volumes
        else ()
    )
    notes += (
        (f"label elements that cannot be used are passed over: {format_list(unused, 5)}",)
        if unused
        else ()
    )
    raws = []
    for (name, raw, where_it_lies), key in zip(flat, keys, strict=True):
        fits = _fitting(key, raw, where_it_lies, labels, set(keys))
        inner: dict[str, tuple[ArrayLike, Location]] = {
            one.name: (one.array, one.where) for one in fits
        }
        raws.append(
            replace(raw, fmt=FORMAT, part=name, name=key, labels=inner, notes=raw.notes + notes)
        )
    return [replace(raw, doubt=_doubt(raw, raws, labels, path)) for raw in raws]


def label_elements(path: Location) -> list[Location] | None:
    """Locations of the label elements of a store; None if the path is not a whole store."""
    group = open_group(path)
    return [one.where for one in _labels(group, path)[0]] if _is_store(group) else None


def _members(group: Any) -> list[str]:
    return sorted(group.group_keys(), key=names.natural_key)


def _frames(element: Any) -> tuple[Frame, ...]:
    scale = first_multiscale(omezarr.ome_metadata(element), element.path)
    return coordinate_frames(scale, scale.names(len(scale.axes)))


def _labels(group: Any, path: Location) -> tuple[list[_Labels], list[str]]:
    """Usable label elements, and the reasons why others are not."""
    if "labels" not in group:
        return [], []
    regions: set[str] = set()
    for name in _members(group["tables"]) if "tables" in group else ():
        region = group["tables"][name].attrs.get("region") or []
        regions |= {region} if isinstance(region, str) else {str(r) for r in region}
    out, unused = [], []
    for name in _members(group["labels"]):
        element, where = group["labels"][name], path / "labels" / name
        try:
            out.append(
                _Labels(
                    name,
                    where,
                    omezarr.open_level0(element, where, flat=True),
                    _frames(element),
                    name in regions,
                )
            )
        except ServerError:
            raise
        except InputError as error:
            unused.append(f"{name} ({error.problem})")
    return out, unused


def _fov_names(elements: list[str]) -> list[str]:
    """FOV ids: the elements' names, without ``_image`` where that leaves them unique."""
    short = [name.removesuffix(IMAGE_TAIL) or name for name in elements]
    return [s if short.count(s) == 1 else name for s, name in zip(short, elements, strict=True)]


def _fitting(
    key: str, raw: ReadResult, lies: tuple[Frame, ...], labels: list[_Labels], keys: set[str]
) -> list[_Labels]:
    """The label elements that can be the segmentation of an image."""
    own = names.match_key(key)
    others = {names.match_key(k) for k in keys} - {own}
    fits = [
        one
        for one in labels
        if one.array.shape == raw.image.shape[1:]
        and names.match_key(one.name) not in others
        and (not lies or not one.frames or any(a.same(b) for a in lies for b in one.frames))
    ]
    named = [one for one in fits if names.match_key(one.name) == own]
    fits = named or fits
    annotated = [one for one in fits if one.annotated]
    return annotated or fits


def _doubt(
    raw: ReadResult, raws: list[ReadResult], labels: list[_Labels], path: Location
) -> str | None:
    """Message for a user who passes no label images, unless exactly one fits."""
    if len(raw.labels) == 1 or not labels:
        return None
    images = format_list([f"{r.part} {r.image.shape[1:]}" for r in raws], 10)
    shown = format_list(
        [f"{one.name} {one.array.shape}{' (annotated)' * one.annotated}" for one in labels], 10
    )
    if raw.labels:
        which = (
            f"{len(raw.labels)} label images can be the segmentation of image {raw.part!r}:"
            f" {format_list(list(raw.labels))}"
        )
    elif any(r.labels for r in raws):
        return None  # an overview or a histology image beside those that were segmented
    else:
        which = "no label image fits an image by size and place"
    return f"{path}: {which}.\n  images:    {images}\n  labels:    {shown}"
