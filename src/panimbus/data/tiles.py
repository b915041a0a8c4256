"""Tiles of a training store: cells and channels of a window at the model's resolution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from panimbus.core.types import Array, Float32Array
from panimbus.core.window import Window, read_channels, read_index
from panimbus.data.planes import PLANES_PER_SHARD, write_planes
from panimbus.data.source import ScannedFov
from panimbus.data.store import CEILING

COUNT_SIDE = 2048


def local_index(scanned: ScannedFov, window: Window, side: int) -> tuple[Array, Array]:
    """Number the cells of a tile.

    Returns
    -------
    index : (S, S) int64
        0 = background, else 1 + the number of the cell in this tile.
    cells : (k,) intp
        Number in the FOV of each of them.
    """
    cells = scanned.cells
    inside = (window[0], min(window[1], cells.y.size), window[2], min(window[3], cells.x.size))
    index = read_index(scanned.fov, cells, inside)
    present = np.flatnonzero(np.bincount((index + 1).ravel(), minlength=cells.n + 1)[1:])
    table = np.zeros(cells.n + 1, np.int64)
    table[present] = np.arange(1, len(present) + 1)
    out = np.zeros((side, side), np.int64)
    out[: index.shape[0], : index.shape[1]] = table[index]  # -1 takes the table's last element, 0
    return out, present


def count_pixels(scanned: ScannedFov) -> Array:
    """(n,) pixels of each cell at the model's resolution."""
    cells = scanned.cells
    total = np.zeros(cells.n, np.int64)
    ys, xs = range(0, cells.y.size, COUNT_SIDE), range(0, cells.x.size, COUNT_SIDE)
    for y, x in product(ys, xs):
        window = (y, min(y + COUNT_SIDE, cells.y.size), x, min(x + COUNT_SIDE, cells.x.size))
        index = read_index(scanned.fov, cells, window)
        total += np.bincount((index + 1).ravel(), minlength=cells.n + 1)[1:]
    return total


def write_channels(
    path: Path,
    scanned: ScannedFov,
    windows: Sequence[Window],
    channels: Sequence[str],
    value: Float32Array,
) -> None:
    """Write the normalised channels of all tiles, one shard at a time; 0 outside the image.

    Parameters
    ----------
    path
        New folder of the array (T, C, S, S) float16.
    scanned, windows, channels
        FOV, T tiles of side S, and C channels.
    value : (C,) float32
        Normaliser of each channel.
    """
    cells, side = scanned.cells, windows[0][1] - windows[0][0]
    array = write_planes(path, (len(windows), len(channels), side, side), "float16")
    for (t, window), first in product(
        enumerate(windows), range(0, len(channels), PLANES_PER_SHARD)
    ):
        inside = (window[0], min(window[1], cells.y.size), window[2], min(window[3], cells.x.size))
        group = channels[first : first + PLANES_PER_SHARD]
        block = np.zeros((len(group), side, side), np.float16)
        for k, plane in enumerate(read_channels(scanned.fov, cells, inside, group)):
            block[k, : plane.shape[0], : plane.shape[1]] = np.clip(
                plane / value[first + k], -CEILING, CEILING
            )
        array[t, first : first + len(group)] = block
