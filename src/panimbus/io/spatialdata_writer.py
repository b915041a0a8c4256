"""Writer of a cell table, label images and images as a SpatialData store, tile by tile."""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.errors import InputError, format_list
from panimbus.core.fov import ArrayLike, Fov
from panimbus.core.table import CELL, FOV
from panimbus.io.files import atomic_path
from panimbus.io.names import fingerprint, safe_names
from panimbus.io.pyramid import CHUNK, ImageSpec, halve
from panimbus.io.segmented import Segmented
from panimbus.io.spatialdata import IMAGE_TAIL
from panimbus.io.write_table import plain_text

if TYPE_CHECKING:
    from anndata import AnnData

REGION, TABLE, TABLES = "region", "cells", "tables"
LABELS_TAIL = "_labels"
GLOBAL = "global"  # the coordinate system that SpatialData's functions take unasked
_WIDE = 16 * CHUNK  # columns at a time: a strip of a TIFF is decoded once for each
# versions of the store's, the images' and the tables' layout (spatialdata 0.5 to 0.7 writes them)
_STORE, _RASTER, _TABLE, _OME = "0.2", "0.3", "0.2", "0.5-dev-spatialdata"


def write_spatialdata(
    path: str | Path, table: AnnData, fovs: Sequence[Fov | Segmented], images: Sequence[Fov] = ()
) -> None:
    """Write a store for `spatialdata.read_zarr`, whole or not at all.

    ``labels/<fov>_labels`` are the label images as pyramids; ``tables/cells`` is the table, each
    row linked to its cell by the keys ``region`` (the label element) and ``cell_id``;
    ``images/<fov>_image`` are the images. All elements lie in the coordinate system ``global``, in
    pixels; each FOV has one of its own name besides, in µm where its pixel size is known, else in
    pixels.

    Parameters
    ----------
    path
        Name; should end in ``.zarr``.
    table
        Cell table with obs ``fov_id`` and ``cell_id``.
    fovs
        Label images: one for each FOV of the table.
    images
        FOVs whose images are copied too: those channels that the table has (all, if it has none of
        them), at full resolution.
    """
    import zarr

    labelled = {fov.fov_id: (fov, fov.labels) for fov in fovs if fov.labels is not None}
    ids = list(dict.fromkeys(table.obs[FOV].astype(str)))
    if lonely := [fov_id for fov_id in ids if fov_id not in labelled]:
        raise InputError(
            "FOVs of the table have no label image to be written with.",
            got=format_list(lonely),
            available=labelled,
        )
    names = _element_names(list(labelled))
    with atomic_path(path) as temporary:
        root = zarr.open_group(store=str(temporary), mode="w", zarr_format=3)
        root.attrs["spatialdata_attrs"] = {
            "version": _STORE,
            "spatialdata_software_version": _software_version(),
        }
        if images:
            group = root.create_group("images")
            for image in images:
                channels = [
                    c for c in map(str, table.var_names) if c in image.channels
                ] or image.channels
                _write_image(group.create_group(names[image.fov_id] + IMAGE_TAIL), image, channels)
        group = root.create_group("labels")
        for fov_id, (fov, labels) in labelled.items():
            _write_labels(group.create_group(names[fov_id] + LABELS_TAIL), fov, labels)
        group.attrs["ome"] = {"labels": [names[fov_id] + LABELS_TAIL for fov_id in labelled]}
        regions = {fov_id: names[fov_id] + LABELS_TAIL for fov_id in labelled}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Zarr and anndata, on what is not final in format 3
            _write_table(root.create_group(TABLES), table, regions)
            zarr.consolidate_metadata(str(temporary))


def replace_table(old: Path, new: Path, table: AnnData) -> None:
    """Write a copy of a store of `write_spatialdata` that holds another table of the same cells.

    Parameters
    ----------
    old
        The store; it is not changed. Its images and labels are linked, or copied where the disk
        knows no links.
    new
        Name of the copy; does not exist yet.
    table
        As for `write_spatialdata`.
    """
    import zarr

    def copy(source: str, target: str) -> str:
        if Path(source).name != "zarr.json":  # those are written to, and a link is the same file
            with suppress(OSError):
                os.link(source, target)
                return target
        return str(shutil.copy2(source, target))

    shutil.copytree(
        old,
        new,
        copy_function=copy,
        ignore=lambda folder, _: [TABLES] if Path(folder) == old else [],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in `write_spatialdata`
        root = zarr.open_group(store=str(new), mode="r+", use_consolidated=False)
        fovs = list(dict.fromkeys(table.obs[FOV].astype(str)))
        names = _element_names(fovs)
        regions = {fov_id: names[fov_id] + LABELS_TAIL for fov_id in fovs}
        _write_table(root.create_group(TABLES), table, regions)
        zarr.consolidate_metadata(str(new))


def _element_names(fov_ids: Sequence[str]) -> dict[str, str]:
    """Element names that SpatialData allows and that differ in more than case."""
    files = {fov_id: name.lstrip("_") or "fov" for fov_id, name in safe_names(fov_ids).items()}
    count = Counter(name.casefold() for name in files.values())
    return {f: n if count[n.casefold()] == 1 else f"{n}-{fingerprint(f)}" for f, n in files.items()}


def _write_labels(group: Any, fov: Fov | Segmented, labels: ArrayLike) -> None:
    dtype = np.dtype(
        np.uint32 if labels.dtype.itemsize <= 4 else np.int64
    )  # int64, as the table's ids are
    count = _pixels(
        group, [labels], (int(labels.shape[0]), int(labels.shape[1])), dtype, labels=True
    )
    group.attrs["ome"] = {**_multiscale(group, "yx", fov, count), "image-label": {"version": "0.5"}}
    group.attrs["spatialdata_attrs"] = {"version": _RASTER}


def _write_image(group: Any, fov: Fov, channels: Sequence[str]) -> None:
    planes = [_Plane(fov.image, fov.index(c)) for c in channels]
    count = _pixels(group, planes, (len(channels), *fov.shape_yx), fov.image.dtype, labels=False)
    omero = {"channels": [{"label": c} for c in channels]}
    group.attrs["ome"] = {**_multiscale(group, "cyx", fov, count), "omero": omero}
    group.attrs["spatialdata_attrs"] = {"version": _RASTER}


class _Plane:
    """One channel of an image as (Y, X)."""

    def __init__(self, image: ArrayLike, channel: int) -> None:
        self._image, self._channel = image, channel

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        return self._image[(self._channel, *key)]


def _pixels(
    group: Any, planes: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype[Any], *, labels: bool
) -> int:
    """Write lazy planes and their coarser levels; returns the number of levels."""
    height, width = shape[-2:]
    spec = ImageSpec.of(
        (len(planes), height, width),
        dtype,
        [str(k) for k in range(len(planes))],
        None,
        labels=labels,
    )
    axes = ("c", "y", "x")[-len(shape) :]
    levels = []
    for k, level in enumerate(spec.levels):
        chunks = (1, min(CHUNK, level[1]), min(CHUNK, level[2]))[-len(shape) :]
        size = level[-len(shape) :]
        levels.append(
            group.create_array(
                str(k), shape=size, dtype=dtype, chunks=chunks, fill_value=0, dimension_names=axes
            )
        )
    for k, plane in enumerate(planes):
        lead = (k,) if len(shape) == 3 else ()
        for box in _boxes(height, width, _WIDE):
            levels[0][(*lead, *box)] = np.asarray(plane[box]).astype(dtype, copy=False)
        for fine, coarse in pairwise(levels):
            for ys, xs in _boxes(coarse.shape[-2], coarse.shape[-1], _WIDE // 2):
                part = fine[
                    (*lead, slice(2 * ys.start, 2 * ys.stop), slice(2 * xs.start, 2 * xs.stop))
                ]
                coarse[(*lead, ys, xs)] = halve(np.asarray(part), labels=labels)
    return len(levels)


def _boxes(height: int, width: int, wide: int) -> Iterator[tuple[slice, slice]]:
    for y in range(0, height, CHUNK):
        for x in range(0, width, wide):
            yield slice(y, min(y + CHUNK, height)), slice(x, min(x + wide, width))


def _multiscale(group: Any, axes: str, fov: Fov | Segmented, levels: int) -> dict[str, Any]:
    """OME metadata with SpatialData's transformation to the FOV's coordinate system."""
    kinds = {"c": "channel", "y": "space", "x": "space"}
    plain = [{"name": a, "type": kinds[a]} for a in axes]

    def system(name: str, unit: str) -> dict[str, Any]:
        return {
            "name": name,
            "axes": [{**a, **({"unit": unit} if a["type"] == "space" else {})} for a in plain],
        }

    datasets, full = [], group["0"].shape
    for k in range(levels):
        ratio = [
            1.0 if a == "c" else n / m
            for a, n, m in zip(axes, full, group[str(k)].shape, strict=True)
        ]
        datasets.append(
            {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": ratio}]}
        )
    pixels = {"type": "identity", "input": system(axes, "unit"), "output": system(GLOBAL, "unit")}
    mapped: dict[str, Any] = {"type": "identity"}
    if fov.mpp is not None:
        mapped = {"type": "scale", "scale": [1.0 if a == "c" else float(fov.mpp) for a in axes]}
    unit = "unit" if fov.mpp is None else "micrometer"
    mapped |= {
        "input": system(axes, "unit"),
        "output": system(fov.fov_id if fov.fov_id != GLOBAL else f"{GLOBAL} (µm)", unit),
    }
    multiscale = {
        "name": group.basename,
        "axes": plain,
        "datasets": datasets,
        "coordinateTransformations": [pixels, mapped],
    }
    return {"version": _OME, "multiscales": [multiscale]}


def _write_table(group: Any, table: AnnData, regions: dict[str, str]) -> None:
    import pandas as pd
    from anndata import AnnData as Table
    from anndata.io import write_elem

    fovs = table.obs[FOV].astype(str)
    used = [region for fov_id, region in regions.items() if (fovs == fov_id).any()]
    obs = table.obs.copy()
    obs[REGION] = pd.Categorical([regions[f] for f in fovs], categories=used)
    obs[CELL] = obs[CELL].astype(np.int64)
    keys = {REGION: used, "region_key": REGION, "instance_key": CELL}
    linked = Table(
        table.X,
        obs=obs,
        var=table.var,
        obsm=dict(table.obsm),
        varm=dict(table.varm),
        layers=dict(table.layers),
        uns={**table.uns, "spatialdata_attrs": keys},
    )
    write_elem(group, TABLE, plain_text(linked))
    group[TABLE].attrs.update(
        {"spatialdata-encoding-type": "ngff:regions_table", "version": _TABLE, **keys}
    )


def _software_version() -> str:
    from panimbus import __version__

    return f"panimbus {__version__}"
