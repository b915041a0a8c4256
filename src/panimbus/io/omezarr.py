"""OME-Zarr (NGFF) images and their labels, versions 0.4 and 0.5."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, takewhile
from typing import Any

from panimbus.core.errors import InputError, ReadError, listed
from panimbus.core.fov import ArrayLike
from panimbus.io.ngff import pixel_size
from panimbus.io.place import Place
from panimbus.io.raw import RawImage
from panimbus.io.zarr_planes import ZarrPlanes, open_group


def read_ome_zarr(path: Place) -> list[RawImage]:
    """Read an OME-Zarr image, each image of a bioformats2raw container, or each image of a SpatialData store."""
    from panimbus.io import spatialdata

    group = open_group(path)
    meta = ome(group)
    if "multiscales" in meta:
        return [read_image(group, path)]
    if spatialdata.is_store(group):
        return spatialdata.read_images(group, path)
    if "bioformats2raw.layout" in meta:
        names = list(takewhile(lambda name: name in group, map(str, count())))
        found = [replace(read_image(group[name], path / name), part=name) for name in names]
        if found:
            return found if len(found) > 1 else [replace(found[0], part=None)]
    raise _not_image(group, path)


def read_zarr_labels(path: Place) -> ZarrPlanes:
    """Read a label image kept as an OME-Zarr of its own, or the only one inside an image's OME-Zarr."""
    group = open_group(path)
    inner = labels_inside(group, path)
    if len(inner) == 1:
        ((only, _),) = inner.values()
        return only
    if inner:
        raise InputError(
            f"{path}: the OME-Zarr has several label images.",
            available=inner,
            fix=f"pass the one you mean, e.g. {next(iter(inner.values()))[1]}",
        )
    if "multiscales" not in ome(group):
        raise _not_image(group, path)
    return level0(group, path, flat=True)


def ome(group: Any) -> dict[str, Any]:
    """The OME metadata: under ``ome`` from 0.5 on, at the top before."""
    attrs = dict(group.attrs)
    inner = attrs.get("ome")
    return dict(inner) if isinstance(inner, dict) else attrs


def level0(group: Any, path: Place, *, flat: bool = False) -> ZarrPlanes:
    """Full-resolution array of a multiscale image, or label image (``flat``)."""
    try:
        scale = ome(group)["multiscales"][0]
        array = group[scale["datasets"][0]["path"]]
        axes = axes_of(scale, len(array.shape))
    except (KeyError, IndexError, TypeError) as error:
        raise ReadError(f"{path}: the OME-Zarr's first resolution level is missing.", got=f"{error!r}") from error
    sizes = dict(zip(axes, array.shape, strict=False))
    if len(axes) != len(array.shape) or not {"y", "x"} <= set(axes) or set(axes) - set("tczyx"):
        raise InputError(
            f"{path}: the OME-Zarr's axes are not understood.",
            expected="some of t, c, z, y, x, with y and x",
            got=f"axes {', '.join(axes)} for shape {tuple(array.shape)}",
        )
    long = [a for a in ("t", "z", *(("c",) if flat else ())) if sizes.get(a, 1) != 1]
    if long:
        raise InputError(
            f"{path}: the image is a volume or a time series." if "c" not in long else f"{path}: the label image has channels.",
            expected=" = ".join(long) + " = 1",
            got=", ".join(f"{a} {n}" for a, n in sizes.items()),
            fix="project or split it first",
        )
    return ZarrPlanes(array, axes, path, flat=flat)


def axes_of(scale: dict[str, Any], dimensions: int) -> tuple[str, ...]:
    """Names of a multiscale image's axes, in order."""
    given = scale.get("axes") or ["t", "c", "z", "y", "x"][-dimensions:]
    return tuple(str(a["name"] if isinstance(a, dict) else a).lower() for a in given)


def read_image(group: Any, path: Place) -> RawImage:
    """Read the metadata of one image, and of the label images inside it."""
    image, meta = level0(group, path), ome(group)
    scale = meta["multiscales"][0]
    size, notes = pixel_size(scale, image.axes)
    listed_channels = (meta.get("omero") or {}).get("channels") or []
    planes = image.shape[0]
    names = tuple(c.get("label") if isinstance(c, dict) else None for c in listed_channels)
    if names and len(names) != planes:
        notes += (f"the file names {len(names)} channels for {planes} planes; the names are not used",)
        names = ()
    version = meta.get("version") or scale.get("version") or "0.4"
    labels: dict[str, tuple[ArrayLike, Place]] = {**labels_inside(group, path)}
    return RawImage(image, names or (None,) * planes, f"OME-Zarr {version}", image.files, size, notes=notes, labels=labels)


def labels_inside(group: Any, path: Place) -> dict[str, tuple[ZarrPlanes, Place]]:
    """Label images inside an image's group, by name."""
    if "labels" not in group:
        return {}
    labels = group["labels"]
    names = ome(labels).get("labels") or list(labels.group_keys())
    return {name: (level0(labels[name], path / "labels" / name, flat=True), path / "labels" / name) for name in names}


def _not_image(group: Any, path: Place) -> InputError:
    meta = ome(group)
    if "plate" in meta or "well" in meta:
        kind = "plate" if "plate" in meta else "well"
        return InputError(
            f"{path}: an OME-Zarr {kind} (HCS), which is not read as a whole.",
            fix=f"pass its images one by one, e.g. {path}/{'A/1/0' if kind == 'plate' else '0'}",
        )
    return InputError(
        f"{path}: the Zarr group is not an OME-Zarr image.",
        expected="'multiscales' metadata (OME-Zarr 0.4 or 0.5)",
        got=f"attributes {listed(sorted(meta))}",
    )
