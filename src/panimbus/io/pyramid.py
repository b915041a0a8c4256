"""Image pyramids on disk: a Zarr canvas for tiles in any order, and OME-TIFF made from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from panimbus.core.errors import InputError
from panimbus.core.fov import ArrayLike
from panimbus.core.types import Array

CHUNK = 512
_SMALLEST = 1024  # viewers draw an overview of this size at once
_TIFF_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


@dataclass(frozen=True)
class ImageSpec:
    """Description of an image to write, apart from its pixels.

    Parameters
    ----------
    shape
        (C, Y, X).
    dtype
        Any integer or float type (OME-TIFF has none of 64-bit integers or 16-bit floats).
    channels
        C names.
    mpp
        Micrometres per pixel, None if unknown.
    labels
        Whether values are ids: coarser levels then take every second pixel instead of the mean of
        four.
    display
        The range a viewer first shows, the same for every channel; None takes each channel's own.
    about
        A sentence for the file's metadata.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    mpp: float | None
    labels: bool = False
    display: tuple[float, float] | None = None
    about: str = ""

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        dtype: Any,
        channels: Sequence[str],
        mpp: float | None,
        *,
        labels: bool = False,
    ) -> ImageSpec:
        """Make a checked specification."""
        dtype = np.dtype(dtype)
        if len(shape) != 3 or min(shape) < 1 or dtype.kind not in "uif":
            raise InputError(
                "an image must be (C, Y, X) numbers.", got=f"shape {tuple(shape)}, {dtype}"
            )
        if len(channels) != shape[0] or isinstance(channels, str):
            raise InputError(
                "the channel names do not fit the image.",
                expected=f"{shape[0]} names",
                got=f"{channels}",
            )
        if mpp is not None and not (np.isfinite(mpp) and mpp > 0):
            raise InputError("the pixel size must be positive.", got=f"{mpp} µm/px")
        return cls(
            (int(shape[0]), int(shape[1]), int(shape[2])), dtype, tuple(channels), mpp, labels
        )

    def check_tiff(self) -> None:
        """Refuse a type that OME-TIFF does not have."""
        if self.dtype.newbyteorder("=").name not in _TIFF_TYPES:
            raise InputError(
                "OME-TIFF has no pixels of this type.", got=str(self.dtype), available=_TIFF_TYPES
            )

    @property
    def levels(self) -> list[tuple[int, int, int]]:
        """Shapes of the levels, each half the one before, down to a side of at most 1024."""
        out = [self.shape]
        while max(out[-1][1:]) > _SMALLEST:
            c, y, x = out[-1]
            out.append((c, -(-y // 2), -(-x // 2)))
        return out


def halve(plane: Array, *, labels: bool = False) -> Array:
    """Halve a plane: the mean of 2 x 2 pixels (fewer at an odd edge), or the first of them.

    Parameters
    ----------
    plane : (Y, X)
        Pixels.
    labels
        Whether values are ids, which have no mean.

    Returns
    -------
    (ceil(Y / 2), ceil(X / 2)), the same dtype
        Means of integers are rounded, halves upwards.

    Examples
    --------
    >>> halve(np.array([[1, 3, 5], [1, 3, 6]], np.uint8))
    array([[2, 6]], dtype=uint8)
    """
    if labels:
        return np.ascontiguousarray(plane[::2, ::2])
    dtype = plane.dtype
    odd = [(0, n % 2) for n in plane.shape]
    plane = np.pad(plane, odd, mode="edge") if any(b for _, b in odd) else plane
    whole = dtype.kind != "f" and dtype.itemsize < 8
    wide = np.dtype(
        np.int64
        if whole
        else np.float64
        if dtype.kind != "f"
        else np.promote_types(dtype, np.float32)
    )
    total = plane[::2, ::2].astype(wide)
    for i, j in ((0, 1), (1, 0), (1, 1)):
        total += plane[i::2, j::2]
    if whole:
        return ((total + 2) // 4).astype(dtype)
    return (np.rint(total / 4) if dtype.kind != "f" else total / 4).astype(dtype)


def build_levels(image: Array, spec: ImageSpec) -> list[Array]:
    """All levels of an image in memory."""
    levels = [image]
    for shape in spec.levels[1:]:
        level = np.empty(shape, spec.dtype)
        for c in range(shape[0]):
            level[c] = halve(levels[-1][c], labels=spec.labels)
        levels.append(level)
    return levels


def iter_chunks(shape: tuple[int, int, int]) -> Iterator[tuple[int, slice, slice]]:
    """Chunks of a level, in the order in which TIFF keeps its tiles."""
    for c in range(shape[0]):
        for y in range(0, shape[1], CHUNK):
            for x in range(0, shape[2], CHUNK):
                yield c, slice(y, min(y + CHUNK, shape[1])), slice(x, min(x + CHUNK, shape[2]))


class ZarrCanvas:
    """An unfinished OME-Zarr whose full resolution is written in any order.

    `finish` adds the coarser levels, `describe` the metadata. Chunks that are never written cost
    nothing and read as 0. A half-written canvas of the same specification is resumed.

    Parameters
    ----------
    folder
        Where it is, or will be.
    spec
        What is written.
    version
        "0.5" (Zarr 3) or "0.4" (Zarr 2).

    Attributes
    ----------
    resumed
        Whether an earlier, half-written canvas was opened.
    """

    def __init__(self, folder: Path, spec: ImageSpec, version: str = "0.5") -> None:
        import zarr

        self.spec, self._version = spec, version
        mark = [
            list(spec.shape),
            spec.dtype.name,
            list(spec.channels),
            spec.mpp,
            spec.labels,
            version,
        ]
        try:
            self._group: Any = zarr.open_group(store=str(folder), mode="r+")
            self.resumed = self._group.attrs.get("unfinished") == mark and len(
                list(self._group.arrays())
            ) == len(spec.levels)
        except (OSError, ValueError, KeyError, TypeError):
            self.resumed = False
        if not self.resumed:
            self._group = zarr.open_group(
                store=str(folder), mode="w", zarr_format=3 if version == "0.5" else 2
            )
            for k, shape in enumerate(spec.levels):
                self._new(str(k), shape)
            self._group.attrs["unfinished"] = mark  # last: a canvas without it is begun anew
        self.levels: list[Any] = [self._group[str(k)] for k in range(len(spec.levels))]

    def _new(self, name: str, shape: tuple[int, int, int]) -> None:
        from zarr.codecs import BloscCodec

        more: dict[str, Any] = {
            "dimension_names": ["c", "y", "x"],
            "compressors": BloscCodec(cname="lz4", shuffle="shuffle"),
        }
        if self._version == "0.4":
            more = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        chunks = (1, min(CHUNK, shape[1]), min(CHUNK, shape[2]))
        self._group.create_array(
            name, shape=shape, dtype=self.spec.dtype, chunks=chunks, fill_value=0, **more
        )

    def write(self, channel: int, where: tuple[slice, slice], values: Array) -> None:
        """Write a part of a plane at full resolution."""
        self.levels[0][(channel, *where)] = values

    def finish(self) -> None:
        """Write the coarser levels from the first, chunk by chunk."""
        for finer, coarser in pairwise(self.levels):
            for c, ys, xs in iter_chunks(coarser.shape):
                part = np.asarray(finer[c, 2 * ys.start : 2 * ys.stop, 2 * xs.start : 2 * xs.stop])
                coarser[c, ys, xs] = halve(part, labels=self.spec.labels)

    def describe(self, name: str) -> None:
        """Write the OME metadata, which completes the image."""
        meta = _multiscale(self.spec, name)
        label = {"image-label": {"version": self._version}} if self.spec.labels else {}
        omero = {} if self.spec.labels else {"omero": {"channels": list(self._omero())}}
        del self._group.attrs["unfinished"]
        if self._version == "0.5":
            self._group.attrs["ome"] = {"version": "0.5", "multiscales": [meta], **omero, **label}
        else:
            versioned = {k: {"version": "0.4", **v} for k, v in omero.items()}
            self._group.attrs.update(
                {"multiscales": [{"version": "0.4", **meta}], **versioned, **label}
            )

    def _omero(self) -> Iterator[dict[str, Any]]:
        """Channel names and display ranges: specified, or up to the brightest pixel."""
        whole = np.iinfo(self.spec.dtype) if self.spec.dtype.kind in "ui" else None
        for c, label in enumerate(self.spec.channels):
            top = float(np.max(self.levels[-1][c]))
            end = (top if np.isfinite(top) else 0.0) or 1.0
            low, high = (
                (float(whole.min), float(whole.max)) if whole is not None else (0.0, max(1.0, end))
            )
            window = {"min": low, "max": high, "start": 0.0, "end": end}
            if self.spec.display is not None:
                window |= dict(zip(("start", "end"), self.spec.display, strict=True))
            yield {"label": label, "color": "FFFFFF", "active": c < 3, "window": window}


def _multiscale(spec: ImageSpec, name: str) -> dict[str, Any]:
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}]
    axes += [
        {"name": a, "type": "space", **({"unit": "micrometer"} if spec.mpp is not None else {})}
        for a in "yx"
    ]
    datasets = []
    for k in range(len(spec.levels)):
        pixel = (spec.mpp or 1.0) * 2**k
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, pixel, pixel]}]
        if (
            k and not spec.labels
        ):  # a coarse pixel's centre lies between those of the fine pixels it is the mean of
            shift = (2**k - 1) / 2 * (spec.mpp or 1.0)
            steps.append({"type": "translation", "translation": [0.0, shift, shift]})
        datasets.append({"path": str(k), "coordinateTransformations": steps})
    about = {"metadata": {"description": spec.about}} if spec.about else {}
    return {
        "name": name,
        "type": "nearest" if spec.labels else "mean",
        "axes": axes,
        "datasets": datasets,
        **about,
    }


def _display_tags(spec: ImageSpec) -> list[tuple[int, str, int, float, bool]]:
    """SMinSampleValue and SMaxSampleValue, as OME-XML has no display range."""
    return [
        (tag, "f", 1, value, True)
        for tag, value in zip((340, 341), spec.display or (), strict=False)
    ]


def save_ome_tiff(path: Path, levels: Sequence[ArrayLike], spec: ImageSpec) -> None:
    """Write levels as a tiled, deflate-compressed OME-TIFF with the coarser ones as SubIFDs.

    A tile at a time is in memory.

    Parameters
    ----------
    path
        The file.
    levels
        Arrays of ``spec.levels``; each tile is read once.
    spec
        What they are.
    """
    meta: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": list(spec.channels)}}
    if spec.mpp is not None:
        meta |= {
            "PhysicalSizeX": spec.mpp,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": spec.mpp,
            "PhysicalSizeYUnit": "µm",
        }
    if spec.about:
        meta["Description"] = spec.about
    size = sum(int(np.prod(shape)) for shape in spec.levels) * spec.dtype.itemsize
    options: dict[str, Any] = {
        "dtype": spec.dtype,
        "tile": (CHUNK, CHUNK),
        "compression": "zlib",
        "compressionargs": {
            "level": 1
        },  # higher levels of noisy images: 2 % smaller for twice the time
        "predictor": 1
        if spec.dtype.kind == "f"
        else 2,  # Bio-Formats (QuPath, Fiji, OMERO) knows no floating-point predictor
        "photometric": "minisblack",
        "maxworkers": min(8, os.cpu_count() or 1),
        "extratags": _display_tags(spec),
        "buffersize": 1 << 24,
    }
    with tifffile.TiffWriter(path, ome=True, bigtiff=size > 2**31) as file:
        for k, (level, shape) in enumerate(zip(levels, spec.levels, strict=True)):
            place = (
                {"metadata": meta, "subifds": len(levels) - 1}
                if k == 0
                else {"metadata": None, "subfiletype": 1}
            )
            file.write(
                (np.asarray(level[key]) for key in iter_chunks(shape)),
                shape=shape,
                **place,
                **options,
            )
