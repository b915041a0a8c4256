"""OME-Zarr (NGFF) images and their labels, versions 0.4 and 0.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import InputError, ReadError, listed
from panimbus.core.fov import Array
from panimbus.io.keys import bounds
from panimbus.io.ome import microns
from panimbus.io.raw import PixelSize, RawImage

_DAMAGE = (ValueError, RuntimeError, OSError, KeyError, TypeError)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and (
        path.name.lower().endswith(".zarr")
        or any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))
    )


class ZarrPlanes:
    """A Zarr array of any subset of the axes t, c, z, y, x (t and z of length 1), seen as (C, Y, X) or (Y, X).

    Parameters
    ----------
    array
        The Zarr array.
    axes
        Its axes' names, in order.
    flat
        Whether the channel axis, of length 1, is dropped too (labels).
    where
        For messages.
    """

    def __init__(self, array: Any, axes: tuple[str, ...], where: Path, *, flat: bool = False) -> None:
        self._array = array
        self._axes = axes
        self._where = where
        self._order = ("y", "x") if flat else ("c", "y", "x")
        sizes = dict(zip(axes, array.shape, strict=True))
        self._shape = tuple(int(sizes.get(axis, 1)) for axis in self._order)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, Y, X), or (Y, X) for labels."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        dtype: np.dtype[Any] = np.dtype(self._array.dtype).newbyteorder("=")
        return dtype

    def __getitem__(self, key: Any, /) -> Array:
        ranges, dropped = bounds(key, self._shape)
        wanted = dict(zip(self._order, ranges, strict=True))
        index = tuple(slice(*wanted[a]) if a in wanted else slice(0, 1) for a in self._axes)
        try:
            part = np.asarray(self._array[index])
        except _DAMAGE as error:
            raise ReadError(f"{self._where}: a chunk cannot be read.", got=f"{type(error).__name__}: {error}") from error
        kept = [axis for axis in self._axes if axis in wanted]
        part = part.reshape([n for n, axis in zip(part.shape, self._axes, strict=True) if axis in wanted])
        if "c" in wanted and "c" not in kept:
            part, kept = part[np.newaxis], ["c", *kept]
        part = part.transpose([kept.index(axis) for axis in self._order])
        return np.ascontiguousarray(part.astype(self.dtype, copy=False)).squeeze(axis=dropped)


def read_ome_zarr(path: Path) -> list[RawImage]:
    """Read an OME-Zarr image, or each image of a bioformats2raw container."""
    group = _open(path)
    meta = _ome(group)
    if "multiscales" in meta:
        return [_image(group, meta, path)]
    if "bioformats2raw.layout" in meta:
        found = [path / name for name in sorted((n for n, _ in group.groups() if n.isdigit()), key=int)]
        if found:
            parts = [read_ome_zarr(p)[0] for p in found]
            if len(parts) == 1:
                return parts
            return [
                RawImage(r.image, r.names, r.fmt, r.files, r.size, part=p.name, notes=r.notes, labels=r.labels)
                for p, r in zip(found, parts, strict=True)
            ]
    raise _not_image(path, meta, dict(group.attrs))


def read_zarr_labels(path: Path) -> ZarrPlanes:
    """Read a label image kept as an OME-Zarr of its own, or the only one inside an image's OME-Zarr."""
    group = _open(path)
    meta = _ome(group)
    inner = _labels(group, path)
    if len(inner) == 1:
        only: ZarrPlanes = next(iter(inner.values()))[0]
        return only
    if inner:
        raise InputError(
            f"{path}: the OME-Zarr has several label images.",
            available=inner,
            fix=f"pass the one you mean, e.g. {next(iter(inner.values()))[1]}",
        )
    if "multiscales" not in meta:
        raise _not_image(path, meta, dict(group.attrs))
    return _level0(group, meta, path, flat=True)[0]


def _open(path: Path) -> Any:
    import zarr

    try:
        group = zarr.open(store=str(path), mode="r")
    except _DAMAGE as error:
        raise ReadError(f"{path}: the Zarr store cannot be opened.", got=f"{type(error).__name__}: {error}") from error
    if not isinstance(group, zarr.Group):
        raise ReadError(
            f"{path}: a bare Zarr array, not an OME-Zarr image.",
            expected="a group with 'multiscales' metadata (OME-Zarr 0.4 or 0.5)",
            fix="write it with panimbus.io.write_ome_zarr, or pass the array with panimbus.io.from_array",
        )
    return group


def _ome(group: Any) -> dict[str, Any]:
    """The OME metadata: under ``ome`` from 0.5 on, at the top before."""
    attrs = dict(group.attrs)
    inner = attrs.get("ome")
    return dict(inner) if isinstance(inner, dict) else attrs


def _not_image(path: Path, meta: dict[str, Any], attrs: dict[str, Any]) -> InputError:
    if "plate" in meta or "well" in meta:
        kind = "plate" if "plate" in meta else "well"
        return InputError(
            f"{path}: an OME-Zarr {kind} (HCS), which is not read as a whole.",
            fix=f"pass its images one by one, e.g. {path}/{'A/1/0' if kind == 'plate' else '0'}",
        )
    if "spatialdata_attrs" in attrs:
        names = [p.name for p in (path / "images").iterdir()] if (path / "images").is_dir() else []
        return InputError(
            f"{path}: a SpatialData store, not one image.",
            available=[f"{path}/images/{name}" for name in names],
            fix="pass one of its images, and its labels (…/labels/<name>) as labels",
        )
    return InputError(
        f"{path}: the Zarr group is not an OME-Zarr image.",
        expected="'multiscales' metadata (OME-Zarr 0.4 or 0.5)",
        got=f"attributes {listed(sorted(meta))}",
    )


def _level0(
    group: Any, meta: dict[str, Any], path: Path, *, flat: bool = False
) -> tuple[ZarrPlanes, dict[str, Any], tuple[str, ...]]:
    """Full-resolution array, its multiscale's metadata and its axes."""
    try:
        scale = meta["multiscales"][0]
        array = group[scale["datasets"][0]["path"]]
    except (KeyError, IndexError, TypeError) as error:
        raise ReadError(f"{path}: the OME-Zarr's first resolution level is missing.", got=f"{error!r}") from error
    given = scale.get("axes") or ["t", "c", "z", "y", "x"][-len(array.shape) :]
    axes = tuple(str(a["name"] if isinstance(a, dict) else a).lower() for a in given)
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
    return ZarrPlanes(array, axes, path, flat=flat), scale, axes


def _image(group: Any, meta: dict[str, Any], path: Path) -> RawImage:
    image, scale, axes = _level0(group, meta, path)
    size, notes = _pixel_size(scale, axes)
    listed_channels = (meta.get("omero") or {}).get("channels") or []
    count = image.shape[0]
    names = tuple(c.get("label") if isinstance(c, dict) else None for c in listed_channels)
    if names and len(names) != count:
        notes += (f"the file names {len(names)} channels for {count} planes; the names are not used",)
        names = ()
    version = meta.get("version") or scale.get("version") or "0.4"
    return RawImage(
        image, names or (None,) * count, f"OME-Zarr {version}", (path,), size, notes=notes, labels=_labels(group, path)
    )


def _pixel_size(scale: dict[str, Any], axes: tuple[str, ...]) -> tuple[PixelSize, tuple[str, ...]]:
    factor = [1.0] * len(axes)
    known = False
    for step in (*scale.get("coordinateTransformations", ()), *scale["datasets"][0].get("coordinateTransformations", ())):
        if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
            factor = [a * float(b) for a, b in zip(factor, step["scale"], strict=True)]
            known = True
    units = {str(a.get("name")).lower(): a.get("unit") for a in scale.get("axes", ()) if isinstance(a, dict)}
    x, y = (factor[axes.index(axis)] for axis in "xy")
    if not known or (not units.get("x") and x == y == 1.0):
        return PixelSize(), ()
    notes = () if units.get("x") else ("the pixel size has no unit; micrometres are assumed",)
    return PixelSize(microns(x, units.get("x")), microns(y, units.get("y") or units.get("x"))), notes


def _labels(group: Any, path: Path) -> dict[str, tuple[Any, Path]]:
    """Label images inside an image's group, by name."""
    if "labels" not in group:
        return {}
    labels = group["labels"]
    names = _ome(labels).get("labels") or [name for name, _ in labels.groups()]
    out: dict[str, tuple[Any, Path]] = {}
    for name in names:
        inner = labels[name]
        where = path / "labels" / name
        out[name] = (_level0(inner, _ome(inner), where, flat=True)[0], where)
    return out
