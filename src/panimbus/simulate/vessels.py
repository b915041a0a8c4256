"""Small vessels: rings of thin cells around a lumen, and capillaries cut lengthwise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from skimage.draw import polygon

from panimbus.core.types import UInt32Array

_MOST = 400  # vessels of a FOV


def add_vessels(
    cells: UInt32Array, mpp: float, per_mm2: float, rng: np.random.Generator
) -> UInt32Array:
    """Put vessels into a layout.

    A capillary is 5 to 10 µm wide and its endothelium under 1 µm thick except at the nuclei; the
    walls are 1 to 3 µm here, as they appear in a section of 4 µm. In a third of the vessels the
    section runs along the vessel and shows no lumen.

    Parameters
    ----------
    cells : (Y, X) uint32, 0 = between cells
    mpp
        µm per pixel.
    per_mm2
        Vessels per mm².
    rng

    Returns
    -------
    (Y, X) uint32
        The cells of the walls have new ids above those of ``cells``; a lumen is 0.
    """
    shape = (cells.shape[0], cells.shape[1])
    out = cells.copy()
    line = np.zeros(shape, dtype=np.uint32)
    half = [0.0]
    first = int(cells.max()) + 1
    count = min(int(rng.poisson(per_mm2 * cells.size * mpp**2 * 1e-6)), _MOST)
    for _ in range(count):
        ring = rng.random() < 0.67
        path = _ring(shape, mpp, rng) if ring else _capillary(shape, mpp, rng)
        if ring:
            out[polygon(path[:, 0], path[:, 1], shape)] = 0  # type: ignore[no-untyped-call]
        piece = _pieces(path, mpp, rng)
        inside = ((path >= 0) & (path < np.array(shape))).all(1)
        y, x = path[inside].astype(int).T
        line[y, x] = len(half) + piece[inside]
        wall = rng.uniform(0.6, 1.5) / mpp
        half += [float(wall * v) for v in rng.lognormal(0, 0.15, int(piece.max()) + 1)]
    if line.any():
        distance, (iy, ix) = ndi.distance_transform_edt(line == 0, return_indices=True)
        owner = line[iy, ix]
        on_wall = distance <= np.maximum(np.array(half)[owner], 0.7)
        out[on_wall] = owner[on_wall] + np.uint32(first - 1)
    return out


def _ring(shape: tuple[int, int], mpp: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """(n, 2) points half a pixel apart on a deformed ellipse, radius 2.5 to 20 µm."""
    radius = 2.5 * 8 ** rng.random() / mpp
    squeeze, turn = rng.uniform(0.4, 1.0), rng.uniform(0, np.pi)
    t = np.linspace(0, 2 * np.pi, int(4 * np.pi * radius) + 8, endpoint=False)
    wave = 1 + 0.12 * np.sin(2 * t + rng.uniform(0, 6)) + 0.08 * np.sin(3 * t + rng.uniform(0, 6))
    u, v = radius * wave * np.cos(t), radius * squeeze * wave * np.sin(t)
    y = u * np.sin(turn) + v * np.cos(turn)
    x = u * np.cos(turn) - v * np.sin(turn)
    return np.asarray(np.stack([y, x], axis=1) + rng.random(2) * np.array(shape))


def _capillary(
    shape: tuple[int, int], mpp: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(n, 2) points half a pixel apart on a winding line of 25 to 120 µm."""
    n = int(rng.uniform(25, 120) / mpp * 2)
    bend = rng.normal(0, 0.35 * np.sqrt(0.5 * mpp / 5), n)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend)
    steps = 0.5 * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    return np.asarray(np.cumsum(steps, axis=0) + rng.random(2) * np.array(shape))


def _pieces(
    path: npt.NDArray[np.float64], mpp: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(n,) the cell of each point of a path, 0, 1, ...; cells are 10 to 25 µm long."""
    length = len(path) * 0.5 * mpp
    count = max(round(length / rng.uniform(10, 25)), 1)
    return np.minimum(np.arange(len(path)) * count // len(path), count - 1)
