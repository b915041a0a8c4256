"""Writers of images and label images; files are written whole or not at all."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from panimbus.core.errors import InputError
from panimbus.core.types import Array
from panimbus.io.files import atomic_path
from panimbus.io.pyramid import ImageSpec, ZarrCanvas, build_levels, iter_chunks, save_ome_tiff

_TILE = 256
_WAITING = 4


class TileWriter:
    """Writer of tiles in any order; made by `tile_writer`.

    Tiles are written in a background thread, whose errors are raised by the next call or `flush`.

    Attributes
    ----------
    resumed
        Whether tiles of an interrupted run were there.
    """

    def __init__(self, canvas: ZarrCanvas, pool: ThreadPoolExecutor) -> None:
        self.resumed = canvas.resumed
        self._canvas = canvas
        self._pool = pool
        self._waiting: deque[Future[None]] = deque()

    def __call__(self, channel: int, where: tuple[slice, slice], values: Array) -> None:
        """Write a tile.

        Parameters
        ----------
        channel
            Position of the plane.
        where
            (rows, columns) of the image, inside it.
        values : (rows, columns)
            Pixels; copied. Where tiles overlap, the last one stays.
        """
        spec = self._canvas.spec
        box = tuple(
            (s.start or 0, n if s.stop is None else s.stop)
            for s, n in zip(where, spec.shape[1:], strict=True)
        )
        inside = all(0 <= a < b <= n for (a, b), n in zip(box, spec.shape[1:], strict=True))
        if not (
            0 <= channel < spec.shape[0] and inside and values.shape == tuple(b - a for a, b in box)
        ):
            raise InputError(
                "a tile does not fit the image.",
                expected=f"a part of (C, Y, X) = {spec.shape}",
                got=f"channel {channel}, rows and columns {box}, values of shape {values.shape}",
            )
        while len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        part = np.array(values, spec.dtype)
        self._waiting.append(
            self._pool.submit(self._canvas.write, channel, (slice(*box[0]), slice(*box[1])), part)
        )

    def flush(self) -> None:
        """Wait until every tile so far is written."""
        while self._waiting:
            self._waiting.popleft().result()


@contextmanager
def tile_writer(
    path: str | Path,
    shape: Sequence[int],
    dtype: Any,
    *,
    channels: Sequence[str],
    mpp: float | None,
    labels: bool = False,
    canvas: str | Path | None = None,
) -> Iterator[TileWriter]:
    """Write a pyramidal OME-Zarr (``.zarr``) or OME-TIFF (``.ome.tiff``) tile by tile.

    Tiles come in any order; only a few are in memory. Parts that no tile covers are 0. The file
    exists only if the block ends without an exception.

    Parameters
    ----------
    path
        Name; its ending says the format.
    shape
        (C, Y, X).
    dtype
        Type of the pixels.
    channels
        C names.
    mpp
        Micrometres per pixel, None if unknown.
    labels
        Whether values are ids: coarser levels then take every second pixel, not means.
    canvas
        Folder on the same disk that keeps the tiles of an interrupted run: a later call with the
        same arguments resumes it (`TileWriter.resumed`). Its name should encode everything the
        pixels depend on. Default: nothing is kept.

    Yields
    ------
    TileWriter
        Call it with (channel, (rows, columns), values).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, tile_writer(
    ...     Path(folder) / "maps.ome.zarr", (1, 600, 900), "uint8", channels=["CD3"], mpp=0.5
    ... ) as put:
    ...     put(0, (slice(100, 102), slice(7, 9)), np.array([[1, 2], [3, 4]]))
    """
    with image_writer(
        path, ImageSpec.of(shape, dtype, channels, mpp, labels=labels), canvas=canvas
    ) as put:
        yield put


@contextmanager
def image_writer(
    path: str | Path, spec: ImageSpec, *, canvas: str | Path | None = None
) -> Iterator[TileWriter]:
    """`tile_writer` for an image described by an `ImageSpec`."""
    as_tiff = _is_tiff(Path(path))
    if as_tiff:
        spec.check_tiff()
    with atomic_path(path) as temporary:
        folder = temporary.with_name("canvas.zarr") if canvas is None else Path(canvas)
        folder.parent.mkdir(parents=True, exist_ok=True)
        paper = ZarrCanvas(folder, spec)
        with ThreadPoolExecutor(1, thread_name_prefix="panimbus-write") as pool:
            put = TileWriter(paper, pool)
            yield put
            put.flush()
        paper.finish()
        if as_tiff:
            save_ome_tiff(temporary, paper.levels, spec)
        else:
            paper.describe(_stem(path))
            shutil.move(folder, temporary)
    if as_tiff:
        shutil.rmtree(folder, ignore_errors=True)


def _is_tiff(path: Path) -> bool:
    name = path.name.lower()
    if not name.endswith((".zarr", ".tif", ".tiff")):
        raise InputError(
            f"{path}: the ending does not say the format.", available=[".ome.zarr", ".ome.tiff"]
        )
    return not name.endswith(".zarr")


def _stem(path: str | Path) -> str:
    return Path(path).name.removesuffix(".zarr").removesuffix(".ome")


def write_ome_tiff(
    path: str | Path,
    image: Array,
    channels: Sequence[str],
    mpp: float | None,
    *,
    labels: bool = False,
) -> None:
    """Write a stack as a tiled, deflate-compressed, pyramidal OME-TIFF (QuPath, ImageJ, napari).

    Parameters
    ----------
    path
        Name; should end in ``.ome.tiff``.
    image : (C, Y, X), any integer of up to 32 bits, float32 or float64
        Pixels.
    channels
        C names.
    mpp
        Micrometres per pixel, None if unknown.
    labels
        Whether values are ids: coarser levels then take every second pixel, not means.

    Examples
    --------
    >>> import tempfile, numpy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_ome_tiff(f"{folder}/a.ome.tiff", numpy.zeros((1, 8, 8), "uint8"), ["CD3"], 0.5)
    """
    spec = ImageSpec.of(image.shape, image.dtype, channels, mpp, labels=labels)
    spec.check_tiff()
    with atomic_path(path) as temporary:
        save_ome_tiff(temporary, build_levels(image, spec), spec)


def write_labels(path: str | Path, labels: Array) -> None:
    """Write a label image as a tiled, deflate-compressed TIFF of the array's own integer type.

    64-bit ids become uint32 if they fit: Bio-Formats (QuPath, Fiji) reads no 64-bit images.

    Parameters
    ----------
    path
        Name; should end in ``.tiff``.
    labels : (Y, X) integer, 0 = background
        Segmentation.

    Examples
    --------
    >>> import tempfile, numpy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_labels(f"{folder}/a.tiff", numpy.zeros((8, 8), "uint32"))
    """
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise InputError(
            "a label image must be (Y, X) integers.", got=f"shape {labels.shape}, {labels.dtype}"
        )
    if (
        labels.dtype.itemsize == 8
        and labels.size
        and int(labels.min()) >= 0
        and int(labels.max()) < 2**32
    ):
        labels = labels.astype(np.uint32)
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels,
            tile=(_TILE, _TILE),
            compression="zlib",
            photometric="minisblack",
            bigtiff=labels.nbytes > 2**31,
        )


def write_ome_zarr(
    path: str | Path,
    image: Array,
    channels: Sequence[str],
    mpp: float | None,
    *,
    version: str = "0.5",
) -> None:
    """Write a stack as a pyramidal OME-Zarr.

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

    Examples
    --------
    >>> import tempfile, numpy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_ome_zarr(f"{folder}/a.zarr", numpy.zeros((1, 8, 8), "uint8"), ["CD3"], 0.5)
    """
    spec = ImageSpec.of(image.shape, image.dtype, channels, mpp)
    if version not in ("0.4", "0.5"):
        raise InputError(
            "the OME-Zarr version is not one that is written.",
            got=version,
            available=["0.4", "0.5"],
        )
    with atomic_path(path) as temporary:
        canvas = ZarrCanvas(temporary, spec, version)
        for c, ys, xs in iter_chunks(spec.shape):
            canvas.write(c, (ys, xs), image[c, ys, xs])
        canvas.finish()
        canvas.describe(_stem(path))
