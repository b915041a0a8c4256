"""First pass over a FOV: which cells there are, where, how bright, and the histograms the normaliser is made of."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.labels import CellIndex, closest_members, sample_at, unique_ids
from panimbus.core.regions import CellGeometry, cell_sums
from panimbus.core.resample import Axis
from panimbus.core.scale import ChannelStats, Histogram

Array = npt.NDArray[Any]
BAND_PIXELS = 1 << 23


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
        Cells too small to hold the centre of any model pixel, with the model pixel (y, x) that stands for them.
    """

    index: CellIndex
    geometry: CellGeometry
    y: Axis
    x: Axis
    rescued: npt.NDArray[np.intp]

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.index)


def model_axes(fov: Fov, mpp: float) -> tuple[Axis, Axis]:
    """The axes of a FOV between its own pixels and the model's."""
    if fov.mpp is None:
        raise InputError(
            f"FOV {fov.fov_id!r}: the file does not say how large a pixel is.",
            fix="pass --mpp (Python: mpp=) with the micrometres per pixel: about 0.5 for 20x, 0.25 for 40x, 1.0 for IMC",
        )
    scale = mpp / fov.mpp
    return Axis(fov.shape_yx[0], scale), Axis(fov.shape_yx[1], scale)


def bands(shape_yx: tuple[int, int], multiple: int = 1) -> list[tuple[int, int]]:
    """Row ranges of at most about 8 million pixels, that begin on a multiple (so that no model pixel's centre is cut)."""
    rows = max(1, BAND_PIXELS // max(1, shape_yx[1]))
    count = max(1, math.ceil(shape_yx[0] / rows))
    edges = np.unique(np.linspace(0, shape_yx[0], count + 1).astype(int)[:-1] // multiple * multiple)
    return [(int(a), int(b)) for a, b in pairwise([*edges, shape_yx[0]])]


def prefetched(image: Any, keys: Sequence[tuple[int, slice, slice]]) -> Iterator[Array]:
    """Planes of an image in order; the next is read while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(image.__getitem__, key) for key in keys[:1])
        for key in [*keys[1:], None] if keys else []:
            plane = coming.popleft().result()
            if key is not None:
                coming.append(pool.submit(image.__getitem__, key))
            yield np.asarray(plane)


def scan_cells(fov: Fov, mpp: float) -> FovCells:
    """Find the cells of a FOV.

    Raises
    ------
    InputError
        If the FOV has no pixel size or no label image, or labels are negative.
    """
    if fov.labels is None:
        raise InputError(f"FOV {fov.fov_id!r} has no label image.", fix="pass --labels (Python: labels=)")
    y, x = model_axes(fov, mpp)
    strips = bands(fov.shape_yx, y.factor or 1)
    keep = len(strips) == 1
    parts: list[Array | None] = []
    ids = []
    for r0, r1 in strips:
        part = np.asarray(fov.labels[r0:r1, 0 : fov.shape_yx[1]])
        _check_values(part, fov.fov_id)
        ids.append(unique_ids(part))
        parts.append(part if keep else None)
    index = CellIndex(np.unique(np.concatenate(ids)))
    geometry, sampled = CellGeometry.zeros(len(index)), np.zeros(len(index), np.bool_)
    rows, cols = y.centres(0, y.size), x.centres(0, x.size)
    for (r0, r1), kept in zip(strips, parts, strict=True):
        cells = index(np.asarray(fov.labels[r0:r1, 0 : fov.shape_yx[1]]) if kept is None else kept)
        geometry.add(cells, (r0, 0))
        mine = (rows[1] >= r0) & (rows[1] < r1)
        seen = sample_at(cells, [r[mine] - r0 for r in rows], cols)
        sampled[seen[seen >= 0]] = True
    rescued = _rescue(fov, index, geometry, ~sampled, (y, x)) if not sampled.all() else np.zeros((0, 3), np.intp)
    return FovCells(index, geometry, y, x, rescued)


def _check_values(labels: Array, fov_id: str) -> None:
    if labels.dtype.kind == "i" and labels.size and int(labels.min()) < 0:
        raise InputError(
            f"FOV {fov_id!r}: the label image has negative ids.",
            expected="0 for background and positive ids",
            got=f"{int((labels < 0).sum()):,} pixels below 0, the lowest {int(labels.min())}",
            fix="set what is not a cell to 0",
        )
    if labels.dtype == np.uint64 and labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(f"FOV {fov_id!r}: label ids above 2^63 - 1 do not fit the cell table.", got=str(int(labels.max())))


def _rescue(
    fov: Fov, index: CellIndex, geometry: CellGeometry, lost: npt.NDArray[np.bool_], axes: tuple[Axis, Axis]
) -> npt.NDArray[np.intp]:
    """For each lost cell the model pixel that holds its own pixel nearest to its centroid."""
    centroids = geometry.centroids()
    best = np.full(len(index), np.inf)
    where = np.zeros((len(index), 2), np.intp)
    for r0, r1 in bands(fov.shape_yx):
        labels = fov.labels[r0:r1, 0 : fov.shape_yx[1]] if fov.labels is not None else np.zeros((0, 0), int)
        cells, pixels, d2 = closest_members(index(labels), lost, centroids, (r0, 0))
        better = d2 < best[cells]
        best[cells[better]], where[cells[better]] = d2[better], pixels[better]
    found = np.flatnonzero(lost)
    out = np.empty((len(found), 3), np.intp)
    out[:, 0] = found
    for k, axis in enumerate(axes):
        out[:, k + 1] = np.minimum(((where[found, k] + 0.5) / axis.scale).astype(np.intp), axis.size - 1)
    return out


@dataclass(frozen=True)
class FovScan:
    """What the first pass learned of the channels of a FOV.

    Parameters
    ----------
    stats
        Channel -> `ChannelStats`.
    mean : (n, C) float32
        Mean raw intensity of each cell, at the image's own resolution.
    digest
        BLAKE2 of the pixels of the channels and of the label image, whatever file they came from.
    """

    stats: dict[str, ChannelStats]
    mean: npt.NDArray[np.float32]
    digest: str


def scan_channels(fov: Fov, cells: FovCells, channels: Sequence[str]) -> FovScan:
    """Histograms and cell means of every channel, read once."""
    n, width = cells.n, fov.shape_yx[1]
    sums = np.zeros((len(channels), n + 1))
    pixels = [Histogram.empty()] * len(channels)
    planes = [fov.index(c) for c in channels]
    digest = hashlib.blake2b(repr((fov.shape_yx, tuple(channels), str(fov.image.dtype))).encode(), digest_size=16)
    for r0, r1 in bands(fov.shape_yx):
        if fov.labels is None:  # pragma: no cover - scan_cells has refused it
            break
        labels = np.asarray(fov.labels[r0:r1, 0:width])
        digest.update(np.ascontiguousarray(labels).data)
        index = cells.index(labels)
        keys = [(p, slice(r0, r1), slice(0, width)) for p in planes]
        for k, plane in enumerate(prefetched(fov.image, keys)):
            digest.update(np.ascontiguousarray(plane).data)
            try:
                pixels[k] = pixels[k].merge(Histogram.of(plane))
            except InputError as error:
                raise InputError(f"FOV {fov.fov_id!r}, channel {channels[k]!r}: {error}") from None
            sums[k] += cell_sums(plane, index, n)
    mean = (sums[:, 1:] / np.maximum(cells.geometry.count, 1)).astype(np.float32)
    outside = fov.shape_yx[0] * width - int(cells.geometry.count.sum())
    stats = {c: ChannelStats(pixels[k], Histogram.of(mean[k]), float(sums[k, 0]), outside) for k, c in enumerate(channels)}
    return FovScan(stats, np.ascontiguousarray(mean.T), digest.hexdigest())


def pool(
    fovs: Sequence[Fov], channels: Sequence[str], mpp: float, *, seen: Callable[[Fov], None] | None = None
) -> dict[str, ChannelStats]:
    """Histograms of a whole dataset, for a normaliser that later serves some of its FOVs.

    Parameters
    ----------
    fovs
        FOVs without a label image count with their pixels; the cells' statistics are those of the others.
    channels
    mpp
        The model's µm per pixel.
    seen
        Called when a FOV is done.
    """
    pooled = {c: ChannelStats() for c in channels}
    for fov in fovs:
        if fov.labels is not None:
            stats = scan_channels(fov, scan_cells(fov, mpp), channels).stats
        else:
            stats = {c: ChannelStats(pixels=_pixels(fov, c)) for c in channels}
        for channel, one in stats.items():
            pooled[channel] = pooled[channel].merge(one)
        if seen is not None:
            seen(fov)
    return pooled


def _pixels(fov: Fov, channel: str) -> Histogram:
    plane, out = fov.index(channel), Histogram.empty()
    for part in prefetched(fov.image, [(plane, slice(r0, r1), slice(0, fov.shape_yx[1])) for r0, r1 in bands(fov.shape_yx)]):
        try:
            out = out.merge(Histogram.of(part))
        except InputError as error:
            raise InputError(f"FOV {fov.fov_id!r}, channel {channel!r}: {error}") from None
    return out
