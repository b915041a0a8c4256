"""First pass over a FOV.

Which cells there are, where, how bright, and the histograms the normaliser is made of.

A FOV is read in bands of rows (`scan_band`). What a band gives is small, does not depend on the
other bands and can be kept, so the bands may be scanned one after the other, on several machines,
or in several runs: `join_bands` makes the same of them.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.band import (
    BandScan,
    LabelBand,
    PlaneBand,
    look_at_labels,
    look_at_plane,
    nearest_pixels,
)
from panimbus.core.channel_types import find_counterstains
from panimbus.core.counterstain import counterstain_correlation
from panimbus.core.errors import InputError, ReadError
from panimbus.core.fov import ArrayLike, Fov
from panimbus.core.labels import CellIndex, unique_ids
from panimbus.core.regions import CellGeometry
from panimbus.core.resample import Axis
from panimbus.core.scale import ChannelStats, Histogram
from panimbus.core.types import Array

Box = tuple[int, int, int, int]
BAND_PIXELS = 1 << 23
SKIP = (
    "`panimbus predict --on-error skip` leaves these pixels out (Python:"
    ' PredictSettings(on_error="skip"))'
)
ON_ERROR = ("raise", "skip")
_PATCH = 256  # rows and columns of the squares in which an unreadable part is looked for
_THREADS = 2  # channels of a band at a time: one is read while the other is counted


@dataclass(frozen=True)
class FovCells:
    """The cells of a FOV and how they lie on the model's grid.

    Parameters
    ----------
    index
        Label value -> 0 .. n-1.
    geometry
        Pixel counts and coordinate sums at the image's own resolution.
    y, x
        The two axes.
    rescued : (k, 3) intp
        Cells too small to hold the centre of any model pixel, with the model pixel (y, x) that
        stands for them; of several in one model pixel the first is shown there.
    pixels : (n,) int64
        Model pixels of each cell: those whose centre it holds, or the one that stands for it.
    spread : (n,) float64
        Mean squared distance of each cell's pixels from its centroid, over that of a disc of its
        area: 1 for a disc, about 5 for one ten times as long as wide, hundreds for pixels in places
        far apart.
    """

    index: CellIndex
    geometry: CellGeometry
    y: Axis
    x: Axis
    rescued: npt.NDArray[np.intp]
    pixels: npt.NDArray[np.int64]
    spread: npt.NDArray[np.float64]

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the model's grid, in its pixels."""
        return self.y.size, self.x.size


def model_axes(fov: Fov, mpp: float) -> tuple[Axis, Axis]:
    """The axes of a FOV between its own pixels and the model's."""
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

    They begin on a power of two, as the tiles and chunks of files do (none is decoded for two
    bands).

    Parameters
    ----------
    shape_yx
        Of the image.
    multiple
        Pixels of the image in one of the model: where it is even, four pixels at the corner of
        which a model pixel's centre lies vote, and no band parts them.
    """
    height, width = shape_yx
    even = multiple & -multiple  # rows that are multiples of this lie on no centre
    rows = max(even, 1 << max(0, round(math.log2(max(1, BAND_PIXELS / max(1, width))))))
    edges = list(range(0, height, rows)) or [0]
    if len(edges) > 1 and height - edges[-1] < max(even, rows // 8):  # no band of a few rows
        del edges[-1]
    return list(pairwise([*edges, height]))


def fov_bands(fov: Fov, mpp: float) -> list[tuple[int, int]]:
    """The bands of a FOV: a function of its shape and of the two pixel sizes."""
    return bands(fov.shape_yx, model_axes(fov, mpp)[0].factor or 1)


def prefetched(image: Any, keys: Sequence[tuple[int, slice, slice]]) -> Iterator[Array]:
    """Planes of an image in order; the next is read while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(image.__getitem__, key) for key in keys[:1])
        for key in [*keys[1:], None] if keys else []:
            plane = coming.popleft().result()
            if key is not None:
                coming.append(pool.submit(image.__getitem__, key))
            yield np.asarray(plane)


@dataclass(frozen=True)
class FovScan:
    """What the first pass learned of the channels of a FOV.

    Parameters
    ----------
    stats
        Channel -> `ChannelStats`.
    mean : (n, C) float32
        Mean raw intensity of each cell, at the image's own resolution; NaN where one of its pixels
        could not be read.
    digest
        Hash of the pixels of the channels and of the label image, whatever file they came from.
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
    """Read the rows of a band, the labels once and each channel once.

    Parameters
    ----------
    fov
    channels
        Which to read; none for the cells alone.
    mpp
        The model's µm per pixel.
    rows
        One of `fov_bands`.
    on_error
        ``skip``: pixels of a channel that cannot be read are missing (the labels must be readable).
    reference
        Those of the channels that are only looked at: what is wrong with them is missing.

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
        finding = pool.submit(_scan_labels, image, fov, axes, rows)
        planes = list(
            pool.map(
                lambda c: _scan_plane(
                    fov, c, rows, on_error, finding.result, lenient=c in reference
                ),
                channels,
            )
        )
        labels = finding.result()
    sums = np.stack([p.sums for p, _ in planes]) if planes else np.zeros((0, len(labels.ids)))
    holes = [(k, *hole) for k, (_, found) in enumerate(planes) for hole in found]
    return BandScan(
        rows=rows,
        ids=labels.ids,
        count=labels.count,
        sum_y=labels.sum_y,
        sum_x=labels.sum_x,
        sum_square=labels.sum_square,
        centres=labels.centres,
        lost=labels.lost,
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
    """The cells and channels of a FOV from all of its bands, in any order."""
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
    count, sum_y, sum_x, pixels = np.zeros((4, len(index)), np.int64)
    sum_square = np.zeros(len(index))
    for part, at in zip(parts, where, strict=True):
        count[at] += part.count
        sum_y[at] += part.sum_y
        sum_x[at] += part.sum_x
        sum_square[at] += part.sum_square
        pixels[at] += part.centres
    geometry = CellGeometry(count, sum_y.astype(np.float64), sum_x.astype(np.float64))
    rescued = _rescue(parts, where, geometry, pixels, axes)
    pixels[rescued[:, 0]] = 1
    spread = (sum_square / count - (geometry.centroids() ** 2).sum(axis=1)) * (2 * np.pi) / count
    return FovCells(index, geometry, *axes, rescued, pixels, spread), _join_channels(
        fov, channels, parts, where, count
    )


def scan_fov(
    fov: Fov,
    channels: Sequence[str],
    mpp: float,
    *,
    on_error: str = "raise",
    reference: Sequence[str] = (),
) -> tuple[FovCells, FovScan]:
    """Scan all bands of a FOV, one after the other.

    The channels, and behind them those that are only looked at.
    """
    looked_at = (*channels, *reference)
    parts = [
        scan_band(fov, looked_at, mpp, rows, on_error=on_error, reference=reference)
        for rows in fov_bands(fov, mpp)
    ]
    return join_bands(fov, looked_at, mpp, parts)


def scan_cells(fov: Fov, mpp: float) -> FovCells:
    """Find the cells of a FOV, without looking at its channels.

    Raises
    ------
    InputError
        If the FOV has no pixel size or no label image, or labels are negative.
    """
    return scan_fov(fov, (), mpp)[0]


def _scan_labels(
    image: ArrayLike, fov: Fov, axes: tuple[Axis, Axis], rows: tuple[int, int]
) -> LabelBand:
    try:
        labels = np.asarray(image[rows[0] : rows[1], 0 : fov.shape_yx[1]])
    except ReadError as error:
        raise ReadError(
            f"FOV {fov.fov_id!r}, label image, rows {rows[0]} to {rows[1] - 1}: {error}"
        ) from error
    _check_values(labels, fov.fov_id)
    return look_at_labels(labels, *axes, rows[0])


def _scan_plane(
    fov: Fov,
    channel: str,
    rows: tuple[int, int],
    on_error: str,
    labels: Callable[[], LabelBand],
    *,
    lenient: bool,
) -> tuple[PlaneBand, list[Box]]:
    plane, width = fov.index(channel), fov.shape_yx[1]
    holes: list[Box] = []
    try:
        pixels = np.asarray(fov.image[plane, rows[0] : rows[1], 0:width])
    except ReadError as error:
        if on_error == "raise" and not lenient:
            where = f"FOV {fov.fov_id!r}, channel {channel!r}, rows {rows[0]} to {rows[1] - 1}"
            raise ReadError(f"{where}: {error}\n  or:        {SKIP}") from error
        pixels, holes = _read_around(fov, plane, rows)
    found = labels()
    try:
        return look_at_plane(pixels, found, rows[0], holes), holes
    except InputError as error:
        if lenient:
            holes = [(*rows, 0, width)]
            return look_at_plane(np.zeros_like(pixels), found, rows[0], holes), holes
        raise InputError(f"FOV {fov.fov_id!r}, channel {channel!r}: {error}") from None


def _read_around(fov: Fov, plane: int, rows: tuple[int, int]) -> tuple[Array, list[Box]]:
    """What can be read of a band, 0 elsewhere; and the squares that cannot."""
    width = fov.shape_yx[1]
    out = np.zeros((rows[1] - rows[0], width), fov.image.dtype)
    holes: list[Box] = []

    def read(y0: int, y1: int, x0: int, x1: int) -> bool:
        try:
            out[y0 - rows[0] : y1 - rows[0], x0:x1] = fov.image[plane, y0:y1, x0:x1]
        except ReadError:
            return False
        return True

    for y0, y1 in _steps(*rows):
        if not read(y0, y1, 0, width):
            holes += [(y0, y1, x0, x1) for x0, x1 in _steps(0, width) if not read(y0, y1, x0, x1)]
    return out, holes


def _steps(start: int, stop: int) -> list[tuple[int, int]]:
    """A range cut at the multiples of `_PATCH`."""
    return list(pairwise([start, *range((start // _PATCH + 1) * _PATCH, stop, _PATCH), stop]))


def _check_values(labels: Array, fov_id: str) -> None:
    if labels.dtype.kind == "i" and labels.size and int(labels.min()) < 0:
        raise InputError(
            f"FOV {fov_id!r}: the label image has negative ids.",
            expected="0 for background and positive ids",
            got=f"{int((labels < 0).sum()):,} pixels below 0, the lowest {int(labels.min())}",
            fix="set what is not a cell to 0",
        )
    if labels.dtype == np.uint64 and labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(
            f"FOV {fov_id!r}: label ids above 2^63 - 1 do not fit the cell table.",
            got=str(int(labels.max())),
        )


def _join_channels(
    fov: Fov,
    channels: Sequence[str],
    parts: Sequence[BandScan],
    where: Sequence[Array],
    count: npt.NDArray[np.int64],
) -> FovScan:
    mean = np.empty((len(count), len(channels)), np.float32)
    stats = {}
    for k in range(len(channels)):
        total = np.zeros(len(count))
        for part, at in zip(parts, where, strict=True):
            total[at] += part.sums[k]
        mean[:, k] = total / np.maximum(count, 1)
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
    """For each cell without a model pixel, the one that holds its own pixel nearest to its
    centroid.

    Cells that lie nearest to the middle of their model pixel come first: of several that share it
    one is shown, whatever their numbers are.
    """
    runs = [
        np.concatenate([at[p.lost[:, :1]], p.lost[:, 1:]], 1)
        for p, at in zip(parts, where, strict=True)
    ]
    found = np.concatenate(runs).astype(np.int64)
    cells, chosen = nearest_pixels(found[pixels[found[:, 0]] == 0], geometry.centroids())
    out = np.empty((len(cells), 3), np.intp)
    out[:, 0] = cells
    aside = np.zeros(len(cells))
    for k, axis in enumerate(axes):
        place = (chosen[:, k] + 0.5) / axis.scale
        out[:, k + 1] = np.minimum(place.astype(np.intp), axis.size - 1)
        aside += (place - out[:, k + 1] - 0.5) ** 2
    return out[np.lexsort((chosen[:, 1], chosen[:, 0], aside))]
