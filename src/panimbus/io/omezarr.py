"""OME-Zarr (NGFF) images and their labels, versions 0.4 and 0.5."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from panimbus.core.errors import InputError, ReadError, ServerError, format_list
from panimbus.core.fov import ArrayLike
from panimbus.core.guard import guarded
from panimbus.io.documents import read_text
from panimbus.io.location import Location
from panimbus.io.ngff import channel_names, first_multiscale, label_names, pixel_size
from panimbus.io.ome import parse_ome
from panimbus.io.read_result import ReadResult
from panimbus.io.zarr_planes import ZarrPlanes, open_group, open_planes

_MOST_CHANNELS = 10_000
_ASIDE = ("thumbnail", "label", "macro", "overview", "preview")


def read_ome_zarr(group: Any, path: Location) -> list[ReadResult]:
    """Read an OME-Zarr image, or each image of a bioformats2raw container."""
    meta = ome_metadata(group)
    if "multiscales" in meta:
        return [read_ome_image(group, path)]
    if "bioformats2raw.layout" in meta and (images := _series(group, path)):
        return images
    raise _not_image(group, path)


def _series(group: Any, path: Location) -> list[ReadResult]:
    """Images of a bioformats2raw container; photographs of the slide are left out with a note."""
    listed_ = ome_metadata(group["OME"]).get("series") if "OME" in group else None
    if not (
        isinstance(listed_, list) and listed_ and all(isinstance(name, str) for name in listed_)
    ):
        listed_ = list(takewhile(lambda name: name in group, map(str, count())))
    there = [name for name in listed_ if name in group]
    notes = tuple(
        f"series {name} is listed, but not there" for name in listed_ if name not in there
    )
    titles = _titles(path, listed_)
    proper = [
        name for name in there if not titles.get(name, "").strip().lower().startswith(_ASIDE)
    ] or there
    if proper != there:
        aside = [f"{name} ({titles[name]})" for name in there if name not in proper]
        notes += (f"the store holds {len(there)} images; not used: {format_list(aside, 5)}",)
    images = [replace(read_ome_image(group[name], path / name), part=name) for name in proper]
    if len(images) == 1:
        images = [replace(images[0], part=None)]
    return [replace(image, notes=image.notes + notes) for image in images]


def _titles(path: Location, series: list[str]) -> dict[str, str]:
    """Names of the series in bioformats2raw's OME-XML (local stores only)."""
    if not isinstance(path, Path):
        return {}
    document = path / "OME" / "METADATA.ome.xml"
    if not document.is_file():
        return {}
    images = parse_ome(read_text(document, "OME-XML"), document).images
    return {name: image.name for name, image in zip(series, images, strict=False)}


def read_zarr_labels(path: Location) -> ZarrPlanes:
    """Read a label image: an OME-Zarr of its own, or the only one inside an image."""
    group = open_group(path)
    inner, notes = _labels_inside(group, path)
    if len(inner) == 1:
        ((only, _),) = inner.values()
        return only
    if inner:
        raise InputError(
            f"{path}: the OME-Zarr has several label images.",
            available=inner,
            fix=f"pass the one you mean, e.g. {next(iter(inner.values()))[1]}",
        )
    if notes:
        raise ReadError(
            f"{path}: none of the label images inside can be used.", got="; ".join(notes)[:1000]
        )
    if "multiscales" not in ome_metadata(group):
        raise _not_image(group, path)
    return open_level0(group, path, flat=True)


def ome_metadata(group: Any) -> dict[str, Any]:
    """OME metadata: under ``ome`` since 0.5, at the top level before."""
    attrs = dict(group.attrs)
    inner = attrs.get("ome")
    return dict(inner) if isinstance(inner, dict) else attrs


def open_level0(group: Any, path: Location, *, flat: bool = False) -> ZarrPlanes:
    """Full-resolution array of a multiscale image, or label image (``flat``)."""
    scale = first_multiscale(ome_metadata(group), path)
    array = _first(group, scale.datasets[0].path, path)
    axes = scale.names(len(array.shape))
    sizes = dict(zip(axes, array.shape, strict=False))
    wrong = len(axes) != len(array.shape) or len(sizes) < len(axes)
    if wrong or not {"y", "x"} <= set(axes) or set(axes) - set("tczyx"):
        raise InputError(
            f"{path}: the OME-Zarr's axes are not understood.",
            expected="some of t, c, z, y, x, with y and x, each once",
            got=f"axes {format_list(axes, 10)} for shape {tuple(array.shape)}",
        )
    long = [a for a in ("t", "z", *(("c",) if flat else ())) if sizes.get(a, 1) != 1]
    if long:
        raise InputError(
            f"{path}: the image is a volume or a time series."
            if "c" not in long
            else f"{path}: the label image has channels.",
            expected=" = ".join(long) + " = 1",
            got=", ".join(f"{a} {n}" for a, n in sizes.items()),
            fix="project or split it first",
        )
    if sizes.get("c", 1) > _MOST_CHANNELS:
        raise ReadError(
            f"{path}: the image has an impossible number of channels.",
            expected=f"at most {_MOST_CHANNELS:,}",
            got=f"{sizes['c']:,}",
        )
    return open_planes(group, [one.path for one in scale.datasets], axes, path, flat=flat)


def _first(group: Any, inner: str, path: Location) -> Any:
    """The array of the first resolution level."""
    with guarded(
        path,
        "the OME-Zarr's first resolution level cannot be opened.",
        fix="copy or write the store again",
    ):
        array = group.get(inner)
    if not hasattr(array, "chunks"):
        raise ReadError(
            f"{path}: the OME-Zarr's first resolution level is missing.",
            expected=f"an array at {inner!r}",
            got="no array there" if array is None else "a group",
            fix="copy or write the store again (is the copy complete?)",
        )
    return array


def read_ome_image(group: Any, path: Location) -> ReadResult:
    """Read the metadata of an image and of the label images inside it."""
    image, meta = open_level0(group, path), ome_metadata(group)
    scale = first_multiscale(meta, path)
    size, notes = pixel_size(scale, image.axes)
    names, named = channel_names(meta)
    planes = image.shape[0]
    notes += image.notes + named
    if names and len(names) != planes:
        notes += (
            f"the file names {len(names)} channels for {planes} planes; the names are not used",
        )
        names = ()
    version = meta.get("version") or scale.version or "0.4"
    inside, left_out = _labels_inside(group, path)
    labels: dict[str, tuple[ArrayLike, Location]] = {**inside}
    return ReadResult(
        image,
        names or (None,) * planes,
        f"OME-Zarr {version}",
        image.files,
        size,
        notes=notes + left_out,
        labels=labels,
    )


def _labels_inside(
    group: Any, path: Location
) -> tuple[dict[str, tuple[ZarrPlanes, Location]], tuple[str, ...]]:
    """Label images inside an image by name, and notes on unusable ones."""
    if "labels" not in group:
        return {}, ()
    out: dict[str, tuple[ZarrPlanes, Location]] = {}
    notes: tuple[str, ...] = ()
    labels = group["labels"]
    for name in label_names(ome_metadata(labels), path / "labels") or list(labels.group_keys()):
        where = path / "labels" / name
        try:
            with guarded(where):
                if name not in labels:
                    notes += (f"the label image {name!r} is listed, but not there",)
                    continue
                out[name] = (open_level0(labels[name], where, flat=True), where)
        except ServerError:
            raise
        except InputError as error:
            notes += (f"the label image {name!r} cannot be used: {error.problem}",)
    return out, notes


def _not_image(group: Any, path: Location) -> InputError:
    meta = ome_metadata(group)
    if "plate" in meta or "well" in meta:
        kind = "plate" if "plate" in meta else "well"
        return InputError(
            f"{path}: an OME-Zarr {kind} (HCS), which is not read as a whole.",
            fix=f"pass its images one by one, e.g. {path}/{'A/1/0' if kind == 'plate' else '0'}",
        )
    return InputError(
        f"{path}: the Zarr group is not an OME-Zarr image.",
        expected="'multiscales' metadata (OME-Zarr 0.4 or 0.5)",
        got=f"attributes {format_list(sorted(meta))}",
    )
