"""Writers: a file is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from panimbus.core.errors import InputError
from panimbus.core.fov import Array

_TILE = 256
_CHUNK = 1024


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write under a temporary name in the same folder; on success it takes the final name, on failure it is removed.

    Parameters
    ----------
    path
        Final name; a file that is there is replaced. A folder (a Zarr store) may be written too.

    Yields
    ------
    Path
        The name to write to; it ends like ``path`` and does not exist yet.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        temporary = room / final.name
        yield temporary
        if not temporary.is_dir():
            _sync(temporary)
        elif final.is_dir():
            shutil.move(final, room / "replaced")
        temporary.replace(final)
        _sync_folder(final.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # a full disk is noticed in the middle of a file: say which
            raise OSError(error.errno, error.strerror, str(final)) from error
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make the new name last; not every system can open a folder."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_ome_tiff(path: str | Path, image: Array, channels: Sequence[str], mpp: float | None) -> None:
    """Write a stack as a tiled, deflate-compressed OME-TIFF that QuPath, ImageJ and napari open.

    Parameters
    ----------
    path
        Name; should end in ``.ome.tiff``.
    image : (C, Y, X), any integer or float dtype
        Pixels.
    channels
        C names.
    mpp
        Micrometres per pixel, None if unknown.
    """
    _check(image, channels)
    meta: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": list(channels)}}
    if mpp is not None:
        meta |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            image,
            ome=True,
            metadata=meta,
            tile=(_TILE, _TILE),
            compression="zlib",
            predictor=3 if image.dtype.kind == "f" else 2,
            photometric="minisblack",
            bigtiff=image.nbytes > 2**31,
        )


def write_labels(path: str | Path, labels: Array) -> None:
    """Write a label image as a tiled, deflate-compressed TIFF of the array's own integer type.

    Parameters
    ----------
    path
        Name; should end in ``.tiff``.
    labels : (Y, X) integer, 0 = background
        Segmentation.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise InputError("a label image must be (Y, X) integers.", got=f"shape {labels.shape}, {labels.dtype}")
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary, labels, tile=(_TILE, _TILE), compression="zlib", photometric="minisblack", bigtiff=labels.nbytes > 2**31
        )


def write_ome_zarr(path: str | Path, image: Array, channels: Sequence[str], mpp: float | None, *, version: str = "0.5") -> None:
    """Write a stack as an OME-Zarr of one resolution level.

    Parameters
    ----------
    path
        Name; should end in ``.zarr``.
    image : (C, Y, X), any integer or float dtype
        Pixels.
    channels
        C names, kept as omero channel labels.
    mpp
        Micrometres per pixel, None if unknown.
    version
        OME-Zarr version: "0.5" (Zarr 3) or "0.4" (Zarr 2).
    """
    import zarr

    _check(image, channels)
    if version not in ("0.4", "0.5"):
        raise InputError("the OME-Zarr version is not one that is written.", got=version, available=["0.4", "0.5"])
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", **({"unit": "micrometer"} if mpp is not None else {})} for a in "yx"]
    scale = [1.0, mpp or 1.0, mpp or 1.0]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    multiscale: dict[str, Any] = {"name": Path(path).stem, "axes": axes, "datasets": [level]}
    top = int(np.iinfo(image.dtype).max) if image.dtype.kind in "ui" else 1
    window = {"min": 0, "max": top, "start": 0, "end": top}
    omero = {"channels": [{"label": c, "color": "FFFFFF", "active": i < 3, "window": window} for i, c in enumerate(channels)]}
    with atomic_path(path) as temporary:
        group: Any = zarr.open_group(store=str(temporary), mode="w", zarr_format=3 if version == "0.5" else 2)
        chunks = (1, min(_CHUNK, image.shape[1]), min(_CHUNK, image.shape[2]))
        keys = (
            {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == "0.4" else {"dimension_names": ["c", "y", "x"]}
        )
        array: Any = group.create_array("0", shape=image.shape, dtype=image.dtype, chunks=chunks, **keys)
        for c in range(image.shape[0]):
            array[c] = image[c]
        if version == "0.5":
            group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], "omero": omero}
        else:
            group.attrs.update({"multiscales": [{"version": "0.4", **multiscale}], "omero": {"version": "0.4", **omero}})


def _check(image: Array, channels: Sequence[str]) -> None:
    if image.ndim != 3 or image.dtype.kind not in "uif":
        raise InputError("an image must be (C, Y, X) numbers.", got=f"shape {image.shape}, {image.dtype}")
    if len(channels) != image.shape[0] or isinstance(channels, str):
        raise InputError("the channel names do not fit the image.", expected=f"{image.shape[0]} names", got=f"{channels}")
