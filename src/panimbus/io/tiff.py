"""TIFF pages as lazy planes: pixels are read segment by segment, no file stays open."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.guard import describe_error, guarded
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.types import Array
from panimbus.io.tiff_checks import (
    check_complete,
    check_page,
    checked_segments,
    count_pages,
    damaged_page,
    segment_shape,
)

_FIX = "copy or export the file again"
_COLOUR_RATIO = 16
_AT_ONCE = (
    1 << 25
)  # bytes: where samples are interleaved, all channels are read for the sake of one
_LARGE_SEGMENT = 1 << 28


class _PageDecoder:
    """tifffile's decoder of a page, which needs no open file.

    It is a closure and cannot be pickled: another process makes its own from the page.

    Parameters
    ----------
    path, page
        File, and page (IFD) counted from 0.
    decode
        tifffile's decoder; None to create it on first use.
    """

    def __init__(self, path: Path, page: int, decode: Callable[..., Any] | None = None) -> None:
        self._path = path
        self._page = page
        self._decode = decode

    def __reduce__(self) -> tuple[type[_PageDecoder], tuple[Path, int]]:
        return _PageDecoder, (self._path, self._page)

    def __call__(self, data: bytes, index: int, jpegtables: bytes | None) -> Array:
        """Decode segment ``index`` of the page: (depth, rows, columns, samples)."""
        if self._decode is None:
            with open_tiff(self._path) as tif:
                self._decode = tif.pages[self._page].decode
        return np.asarray(self._decode(data, index, jpegtables=jpegtables)[0])


@dataclass(frozen=True, eq=False)
class TiffPlane:
    """One 2-D plane of a TIFF: positions of its segments (tiles or strips) and their decoder.

    Parameters
    ----------
    path, page, sample
        File, page (IFD) counted from 0, and sample within the page's pixels.
    shape : (Y, X)
        Size in pixels.
    dtype
        Native type of the pixels.
    segment : (rows, columns)
        Size of a tile or strip.
    first
        Index of the plane's first segment (planar files keep one run of segments a sample).
    offsets, bytecounts
        Where each of the page's segments lies; 0 for a tile that was never written, whose pixels
        are 0.
    decode
        Of the page's segments.
    planar
        Whether samples are stored apart.
    raw
        Offset of the first pixel when the plane is stored in one uncompressed run, else None.
    raw_dtype
        Type of that run, with its byte order.
    step
        Samples from one pixel to the next in that run.
    jpegtables
        Tables shared by JPEG segments.
    compression
        TIFF's number of the method.
    """

    path: Path
    page: int
    sample: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    segment: tuple[int, int]
    first: int
    offsets: Array
    bytecounts: Array
    decode: _PageDecoder
    planar: bool
    raw: int | None
    raw_dtype: np.dtype[Any]
    step: int
    jpegtables: bytes | None
    compression: int

    @property
    def unwritten(self) -> tuple[int, int]:
        """Number of tiles that were never written, and of all tiles."""
        run = math.prod(math.ceil(n / k) for n, k in zip(self.shape, self.segment, strict=True))
        own = slice(self.first, self.first + run)
        missing = (np.asarray(self.offsets[own]) == 0) | (np.asarray(self.bytecounts[own]) == 0)
        return int(missing.sum()), run

    @property
    def decoded_bytes(self) -> int:
        """Bytes decoded for the smallest window; 0 for uncompressed pixels."""
        return (
            0
            if self.raw is not None
            else math.prod(self.segment) * (1 if self.planar else self.step) * self.dtype.itemsize
        )

    def read(self, file: BinaryIO, box: tuple[int, int, int, int], out: Array) -> None:
        """Read rows y0:y1 and columns x0:x1 (``box``) of the open ``file`` into ``out``."""
        if self.raw is not None:
            self._read_raw(file, box, out)
            return
        y0, y1, x0, x1 = box
        rows, columns = self.segment
        across = math.ceil(self.shape[1] / columns)
        for r in range(y0 // rows, (y1 - 1) // rows + 1):
            for c in range(x0 // columns, (x1 - 1) // columns + 1):
                tile = self._tile(file, self.first + r * across + c)
                top, first_column = r * rows, c * columns
                a, b = max(y0, top), min(y1, top + rows)
                d, e = max(x0, first_column), min(x1, first_column + columns)
                out[a - y0 : b - y0, d - x0 : e - x0] = (
                    0
                    if tile is None
                    else tile[a - top : b - top, d - first_column : e - first_column]
                )

    def _tile(self, file: BinaryIO, index: int) -> Array | None:
        """Decode segment ``index`` to (rows, columns); None for a tile that was never written."""
        count, offset = int(self.bytecounts[index]), int(self.offsets[index])
        if count == 0 or offset == 0:
            return None
        file.seek(offset)
        data = file.read(count)
        if len(data) < count:
            raise self._broken(
                f"segment {index} should have {count} bytes, the file ends after {len(data)}"
            )
        lack = check_complete(data, self.compression)
        if lack is not None:
            raise self._broken(f"segment {index} cannot be decoded: {lack}")
        with guarded(
            self.path, f"segment {index} of page {self.page + 1} cannot be decoded.", fix=_FIX
        ):
            decoded = self.decode(data, index, self.jpegtables)
        if not np.can_cast(decoded.dtype, self.dtype, "safe"):
            raise self._broken(f"segment {index} holds {decoded.dtype}, the page says {self.dtype}")
        return np.asarray(decoded[0, :, :, 0 if self.planar else self.sample])

    def _read_raw(self, file: BinaryIO, box: tuple[int, int, int, int], out: Array) -> None:
        y0, y1, x0, x1 = box
        width = self.shape[1] * self.step
        item = self.raw_dtype.itemsize
        straight = (
            self.step == 1
            and x1 - x0 == width
            and self.raw_dtype == out.dtype
            and out.flags.c_contiguous
        )
        rows = y1 - y0 if straight else max(1, _AT_ONCE // (width * item))
        for top in range(y0, y1, rows):
            bottom = min(top + rows, y1)
            self._read_rows(
                file, (top, bottom, x0, x1), out[top - y0 : bottom - y0], straight=straight
            )

    def _read_rows(
        self, file: BinaryIO, box: tuple[int, int, int, int], out: Array, *, straight: bool
    ) -> None:
        y0, y1, x0, x1 = box
        width, item = self.shape[1] * self.step, self.raw_dtype.itemsize
        file.seek((self.raw or 0) + y0 * width * item)
        count = (y1 - y0) * width
        data = out if straight else np.empty(count, self.raw_dtype)
        got = file.readinto(data.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        if got < count * item:
            raise self._broken(
                f"rows {y0} to {y1 - 1} should have {count * item} bytes, the file ends after {got}"
            )
        if not straight:
            out[...] = data.reshape(y1 - y0, self.shape[1], self.step)[
                :, x0:x1, 0 if self.planar else self.sample
            ]

    def _broken(self, problem: str) -> ReadError:
        return damaged_page(self.path, self.page + 1, problem)


class TiffImage(LazyArray):
    """A lazy stack of TIFF planes.

    Parameters
    ----------
    planes
        The channels' planes; all of one size. Types may differ: the widest is used.
    """

    def __init__(self, planes: Sequence[TiffPlane]) -> None:
        self.planes = tuple(planes)
        dtype = np.result_type(*(p.dtype for p in self.planes))
        super().__init__((len(self.planes), *self.planes[0].shape), dtype)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user: missing tiles, huge segments."""
        sparse = [(plane, *plane.unwritten) for plane in self.planes]
        where = [f"{p.path.name} page {p.page + 1} ({n} of {total})" for p, n, total in sparse if n]
        notes = (
            [f"tiles that were never written count as 0: {format_list(where, 5)}"] if where else []
        )
        if (size := max(plane.decoded_bytes for plane in self.planes)) >= _LARGE_SEGMENT:
            notes.append(
                f"the file is compressed in pieces of {size >> 20:,} MB, each decoded whole for"
                " every window and channel: slow, and so much more memory; an OME-TIFF in tiles,"
                " channel by channel, is read fast"
            )
        return tuple(notes)

    def read_ranges(self, ranges: Ranges) -> Array:
        """Read channels, rows and columns."""
        (c0, c1), (y0, y1), (x0, x1) = ranges
        out = np.empty((c1 - c0, y1 - y0, x1 - x0), self._dtype)
        if out.size:
            with ExitStack() as stack:
                files: dict[Path, BinaryIO] = {}
                for i, plane in enumerate(self.planes[c0:c1]):
                    if plane.path not in files:
                        files[plane.path] = stack.enter_context(_open(plane.path))
                    plane.read(files[plane.path], (y0, y1, x0, x1), out[i])
        return out


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ReadError(
            f"{path}: the file cannot be read any more.", got=describe_error(error)
        ) from error


@contextmanager
def open_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF to parse its metadata; any error of tifffile becomes a `ReadError`."""
    count_pages(path)
    with (
        guarded(
            path, "the TIFF's structure cannot be read.", fix=f"{_FIX} (is the copy complete?)"
        ),
        tifffile.TiffFile(path) as tif,
    ):
        yield tif


def read_pages(tif: tifffile.TiffFile, path: Path) -> list[tifffile.TiffPage]:
    """All pages (IFDs) of the main chain; a broken chain is an error, not a shorter file."""
    pages = [p for p in tif.pages if isinstance(p, tifffile.TiffPage)]
    if len(pages) != count_pages(path):
        raise ReadError(
            f"{path}: the TIFF's pages cannot be read.",
            got=f"{len(pages)} of {count_pages(path)}",
            fix=_FIX,
        )
    if not pages:
        raise ReadError(f"{path}: the TIFF has no pages.", fix=_FIX)
    return pages


def page_planes(page: tifffile.TiffPage, path: Path, size: int) -> list[TiffPlane]:
    """Planes of a page, one per sample; usable after the file is closed.

    Segments outside the ``size`` bytes of the file are an error.
    """
    dtype = check_page(page, path, size)
    offsets, bytecounts = checked_segments(page, path, size)
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    segment = segment_shape(page)
    shape = (page.imagelength, page.imagewidth)
    run = math.ceil(shape[0] / segment[0]) * math.ceil(shape[1] / segment[1])
    raw = (
        page.is_contiguous
        and page.predictor == 1
        and page.fillorder == 1
        and bool(np.all(np.diff(offsets) == bytecounts[:-1]))
    )
    raw_dtype = dtype.newbyteorder(page.parent.byteorder)
    decode = _PageDecoder(path, page.index, page.decode)
    return [
        TiffPlane(
            path=path,
            page=page.index,
            sample=sample,
            shape=shape,
            dtype=dtype,
            segment=segment,
            first=sample * run if planar else 0,
            offsets=offsets,
            bytecounts=bytecounts,
            decode=decode,
            planar=planar,
            raw=(
                int(offsets[0]) + (sample * math.prod(shape) * dtype.itemsize if planar else 0)
                if raw
                else None
            ),
            raw_dtype=raw_dtype,
            step=1 if planar else page.samplesperpixel,
            jpegtables=page.jpegtables,
            compression=int(page.compression),
        )
        for sample in range(page.samplesperpixel)
    ]


def is_colour(page: tifffile.TiffPage) -> bool:
    """Whether a page is a colour image (RGB, YCbCr), not a stack of channels."""
    return page.samplesperpixel in (3, 4) and int(page.photometric) in (2, 6)


def is_reduced(page: tifffile.TiffPage) -> bool:
    """Whether a page is a thumbnail or pyramid level (NewSubfileType bit 0, or SubfileType 2)."""
    old = page.tags.valueof(255)
    return bool(page.subfiletype & 1) or old == 2


def is_main_in_colour(colour: Sequence[tuple[int, int]], grey: Sequence[tuple[int, int]]) -> bool:
    """Whether colour images are the image itself, not photographs, judged by sizes (Y, X)."""
    return bool(colour) and max(map(math.prod, colour)) >= _COLOUR_RATIO * max(
        map(math.prod, grey), default=0
    )


def colour_error(path: Path, page: tifffile.TiffPage) -> InputError:
    """Error for a colour image."""
    return InputError(
        f"{path}: the image is a picture in colours (RGB), as of H&E or IHC, not a stack of"
        " markers.",
        expected="one plane a marker",
        got=f"{page.samplesperpixel} samples a pixel, {page.dtype}",
        fix=(
            "give the fluorescence, mass or ion image; if the samples are markers after all, name"
            " them with --channel-names (Python: channel_names)"
        ),
    )
