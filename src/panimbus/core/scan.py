"""First pass over a FOV: its cells, their mean intensities, and histograms for the normaliser.

A FOV is read in bands of rows (`scan_band`). The result of a band is small, independent of the
other bands and can be saved, so bands may be scanned in sequence, on several machines or in several
runs; `join_bands` gives the same result.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.band import (
    BandScan,
    nearest_pixels,
)
from panimbus.core.band_reader import Box, scan_labels, scan_plane
from panimbus.core.channel_types import find_counterstains
from panimbus.core.counterstain import counterstain_correlation
from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.histogram import Histogram
from panimbus.core.labels import CellIndex, unique_ids
from panimbus.core.resample import Axis
from panimbus.core.scale import ChannelStats
from panimbus.core.types import Array, Float64Array

BAND_PIXELS = 1 << 23
ON_ERROR = ("raise", "skip")
_THREADS = 2  # channels of a band at a time: one is read while the other is counted


@dataclass(frozen=True)
class CellGeometry:
    """Pixel counts and coordinate sums of n cells, in pixels of the whole image."""

    count: npt.NDArray[np.int64]
    sum_y: Float64Array
    sum_x: Float64Array

    def centroids(self) -> Float64Array:
        """(n, 2) y, x in pixels; the centre of the first pixel is (0, 0)."""
        return np.stack([self.sum_y, self.sum_x], 1) / np.maximum(self.count, 1)[:, None]


@dataclass(frozen=True)
class FovCells:
    """The cells of a FOV and their position on the model's grid.

    Parameters
    ----------
    index
        Label value -> 0 .. n-1.
    geometry
        Pixel counts and coordinate sums at the image's own resolution.
    y, x
        The two axes.
    rescued : (k, 3) intp
        Cells too small to contain the centre of a model pixel, each with the model pixel (y, x)
        that stands for it. Of several cells in one model pixel the first is shown there.
    pixels : (n,) int64
        Model pixels of each cell: those whose centre it contains, or the one that stands for it.
    spread : (n,) float64
        Mean squared distance of each cell's pixels from its centroid, over that of a disc of its
        area: 1 for a disc, about 5 for one ten times as long as wide, hundreds for pixels in places
        far apart.
    excluded : (n,) bool
        Cells more than half of whose pixels lie in excluded regions; None without such regions.
    excluded_pixels
        Pixels of the image in excluded regions.
    """

    index: CellIndex
    geometry: CellGeometry
    y: Axis
    x: Axis
    rescued: npt.NDArray[np.intp]
    pixels: npt.NDArray[np.int64]
    spread: npt.NDArray[np.float64]
    excluded: npt.NDArray[np.bool_] | None = None
    excluded_pixels: int = 0

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the model's grid, in its pixels."""
        return self.y.size, self.x.size


def model_axes(fov: Fov, mpp: float) -> tuple[Axis, Axis]:
    """Both axes between a FOV's pixels and the model's grid."""
    if fov.mpp is None:
        raise InputError(
            f"FOV {fov.fov_id!r}: the file does not say how large a pixel is.",
            fix=(
                "pass --mpp (Python: mpp=) with the micrometres per pixel: about 0.5 for 20x, 0.25"
                " for 40x, 1.0 for IMC"
            ),
        )
    scale = mpp / fov.mpp
    return Axis(fov.shape_yx[0], scale), Axis(fov.shape_yx[1], scale)


def bands(shape_yx: tuple[int, int], multiple: int = 1) -> list[tuple[int, int]]:
    """Row ranges of about 8 million pixels.

    Their height is a power of two, like the tiles and chunks of files, so that none is decoded for
    two bands.

    Parameters
    ----------
    shape_yx
        Of the image.
    multiple
        Image pixels per model pixel. Where it is even, the centre of a model pixel lies at the
        corner of four image pixels, which must be in one band.
    """
    height, width = shape_yx
    even = multiple & -multiple  # rows that are multiples of this lie on no centre
    rows = max(even, 1 << max(0, round(math.log2(max(1, BAND_PIXELS / max(1, width))))))
    edges = list(range(0, height, rows)) or [0]
    if len(edges) > 1 and height - edges[-1] < max(even, rows // 8):  # no band of a few rows
        del edges[-1]
    return list(pairwise([*edges, height]))


def fov_bands(fov: Fov, mpp: float) -> list[tuple[int, int]]:
    """Bands of a FOV; they depend on its shape and the two pixel sizes alone."""
    return bands(fov.shape_yx, model_axes(fov, mpp)[0].factor or 1)


def prefetched(image: Any, keys: Sequence[tuple[int, slice, slice]]) -> Iterator[Array]:
    """Parts of an image in order; the next is read while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(image.__getitem__, key) for key in keys[:1])
        for key in [*keys[1:], None] if keys else []:
            plane = coming.popleft().result()
            if key is not None:
                coming.append(pool.submit(image.__getitem__, key))
            yield np.asarray(plane)


@dataclass(frozen=True)
class FovScan:
    """The channels of a FOV after the first pass.

    Parameters
    ----------
    stats
        Channel -> `ChannelStats`.
    mean : (n, C) float32
        Mean raw intensity of each cell, at the image's own resolution; NaN where one of its pixels
        could not be read, and for excluded cells.
    digest
        Hash of the pixels of the channels and the label image, independent of file formats.
    skipped
        (channel, (first row, behind the last, first column, behind the last)) of the parts that
        could not be read.
    """

    stats: dict[str, ChannelStats]
    mean: npt.NDArray[np.float32]
    digest: str
    skipped: tuple[tuple[str, Box], ...] = ()


def scan_band(
    fov: Fov,
    channels: Sequence[str],
    mpp: float,
    rows: tuple[int, int],
    *,
    on_error: str = "raise",
    reference: Sequence[str] = (),
) -> BandScan:
    """Read a band: the labels once and each channel once.

    Parameters
    ----------
    fov
    channels
        Channels to read; empty for the cells alone.
    mpp
        The model's µm per pixel.
    rows
        One of `fov_bands`.
    on_error
        ``skip``: pixels of a channel that cannot be read are missing (the labels must be readable).
    reference
        Those of the channels that are only compared with; their invalid pixels are missing.

    Raises
    ------
    InputError
        If the FOV has no pixel size or no label image, labels are negative, or pixels are NaN.
    ReadError
        If a part of the file cannot be read.
    """
    if on_error not in ON_ERROR:
        raise InputError(
            f"Unknown way to treat unreadable pixels: {on_error!r}.", available=ON_ERROR
        )
    axes = model_axes(fov, mpp)
    if fov.labels is None:
        raise InputError(
            f"FOV {fov.fov_id!r} has no label image.", fix="pass --labels (Python: labels=)"
        )
    image = fov.labels
    for channel in channels:
        fov.index(channel)
    with ThreadPoolExecutor(_THREADS) as pool:
        finding = pool.submit(scan_labels, image, fov, axes, rows)
        planes = list(
            pool.map(
                lambda c: scan_plane(
                    fov, c, rows, on_error, finding.result, lenient=c in reference
                ),
                channels,
            )
        )
        labels = finding.result()
    sums = np.stack([p.sums for p, _ in planes]) if planes else np.zeros((0, len(labels.ids)))
    holes = [(k, *hole) for k, (_, parts) in enumerate(planes) for hole in parts]
    return BandScan(
        **labels.cells(),
        rows=rows,
        sums=sums,
        outside_sum=np.array([p.outside_sum for p, _ in planes], np.float64),
        outside_count=np.array([p.outside_count for p, _ in planes], np.int64),
        pixels=tuple(p.pixels for p, _ in planes),
        digests=(labels.digest, *(p.digest for p, _ in planes)),
        holes=np.array(holes, np.int64).reshape(-1, 5),
    )


def join_bands(
    fov: Fov, channels: Sequence[str], mpp: float, parts: Iterable[BandScan]
) -> tuple[FovCells, FovScan]:
    """Join all bands of a FOV, given in any order, to its cells and channels."""
    axes = model_axes(fov, mpp)
    parts = sorted(parts, key=lambda p: p.rows)
    if [p.rows for p in parts] != fov_bands(fov, mpp) or any(
        len(p.pixels) != len(channels) for p in parts
    ):
        raise ValueError(
            f"FOV {fov.fov_id!r}: these are not all of its bands: {[p.rows for p in parts]}"
        )
    index = CellIndex(unique_ids(np.concatenate([p.ids for p in parts])))
    where = [np.searchsorted(index.ids, p.ids) for p in parts]
    count, sum_y, sum_x, pixels, hidden = np.zeros((5, len(index)), np.int64)
    sum_square = np.zeros(len(index))
    for part, at in zip(parts, where, strict=True):
        count[at] += part.count
        sum_y[at] += part.sum_y
        sum_x[at] += part.sum_x
        sum_square[at] += part.sum_square
        pixels[at] += part.centres
        hidden[at] += part.excluded[1:]
    geometry = CellGeometry(count, sum_y.astype(np.float64), sum_x.astype(np.float64))
    rescued = _rescue(parts, where, geometry, pixels, axes)
    pixels[rescued[:, 0]] = 1
    spread = (sum_square / count - (geometry.centroids() ** 2).sum(axis=1)) * (2 * np.pi) / count
    excluded = None if fov.excluded is None else 2 * hidden > count
    total = sum(int(part.excluded.sum()) for part in parts)
    cells = FovCells(index, geometry, *axes, rescued, pixels, spread, excluded, total)
    return cells, _join_channels(fov, channels, parts, where, cells)


def scan_fov(
    fov: Fov,
    channels: Sequence[str],
    mpp: float,
    *,
    on_error: str = "raise",
    reference: Sequence[str] = (),
) -> tuple[FovCells, FovScan]:
    """Scan all bands of a FOV in sequence: ``channels``, then ``reference``."""
    looked_at = (*channels, *reference)
    parts = [
        scan_band(fov, looked_at, mpp, rows, on_error=on_error, reference=reference)
        for rows in fov_bands(fov, mpp)
    ]
    return join_bands(fov, looked_at, mpp, parts)


def scan_cells(fov: Fov, mpp: float) -> FovCells:
    """Find the cells of a FOV without reading its channels.

    Raises
    ------
    InputError
        If the FOV has no pixel size or no label image, or labels are negative.
    """
    return scan_fov(fov, (), mpp)[0]


def _join_channels(
    fov: Fov,
    channels: Sequence[str],
    parts: Sequence[BandScan],
    where: Sequence[Array],
    cells: FovCells,
) -> FovScan:
    count = cells.geometry.count
    mean = np.empty((len(count), len(channels)), np.float32)
    stats = {}
    for k in range(len(channels)):
        total = np.zeros(len(count))
        for part, at in zip(parts, where, strict=True):
            total[at] += part.sums[k]
        mean[:, k] = total / np.maximum(count, 1)
    if cells.excluded is not None:
        mean[cells.excluded] = np.nan
    for k, (channel, alike) in enumerate(
        zip(
            channels,
            counterstain_correlation(
                mean, channels, find_counterstains(channels, fov.channel_types)
            ),
            strict=True,
        )
    ):
        stats[channel] = ChannelStats(
            Histogram.pool([p.pixels[k] for p in parts]),
            Histogram.of(mean[np.isfinite(mean[:, k]), k]),
            float(sum(p.outside_sum[k] for p in parts)),
            int(sum(p.outside_count[k] for p in parts)),
            *((0, 0) if alike is None else (round(1000 * alike) * len(count), len(count))),
        )
    digest = hashlib.sha256(repr((fov.shape_yx, tuple(channels), str(fov.image.dtype))).encode())
    for part in parts:
        digest.update(repr((part.rows, part.digests)).encode())
    skipped = tuple(
        (channels[k], (y0, y1, x0, x1)) for p in parts for k, y0, y1, x0, x1 in p.holes.tolist()
    )
    return FovScan(stats, mean, digest.hexdigest()[:32], skipped)


def _rescue(
    parts: Sequence[BandScan],
    where: Sequence[Array],
    geometry: CellGeometry,
    pixels: npt.NDArray[np.int64],
    axes: tuple[Axis, Axis],
) -> npt.NDArray[np.intp]:
    """Model pixel of each cell without one: that of the cell's pixel nearest to its centroid.

    Cells nearest to the middle of their model pixel come first: they are shown where several share
    it, whatever their ids.
    """
    runs = [
        np.concatenate([at[p.lost[:, :1]], p.lost[:, 1:]], 1)
        for p, at in zip(parts, where, strict=True)
    ]
    lost = np.concatenate(runs).astype(np.int64)
    cells, chosen = nearest_pixels(lost[pixels[lost[:, 0]] == 0], geometry.centroids())
    out = np.empty((len(cells), 3), np.intp)
    out[:, 0] = cells
    aside = np.zeros(len(cells))
    for k, axis in enumerate(axes):
        place = (chosen[:, k] + 0.5) / axis.scale
        out[:, k + 1] = np.minimum(place.astype(np.intp), axis.size - 1)
        aside += (place - out[:, k + 1] - 0.5) ** 2
    return out[np.lexsort((chosen[:, 1], chosen[:, 0], aside))]
