"""Non-specific signal that has a structure: glowing cells, grains, matrix fibres, lent rims."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from panimbus.core.types import Float32Array
from panimbus.simulate.layout import REGIONS, Layout, ridges, smooth_noise

if TYPE_CHECKING:
    from panimbus.simulate.stain import StainMarker

_GLOW = {"cytoplasm": (1.0, 0.65), "nuclear": (0.15, 1.0), "whole": (1.0, 1.0)}
# density of the matrix per kind of region
_MATRIX = {"empty": 0.1, "follicle": 0.25, "epithelium": 0.1, "stroma": 1.0, "mixed": 0.6}


def glow(layout: Layout, marker: StainMarker, rng: np.random.Generator) -> Float32Array:
    """(Y, X) autofluorescence of most cells.

    Flavins and NAD(P)H of the cytoplasm, or nuclei that take up dye: even within a cell, different
    from cell to cell, and brighter in some parts of the tissue.

    Raises
    ------
    ValueError
        For an unknown ``glow_pattern``.
    """
    cells, mpp, n = layout.cells, layout.mpp, layout.n
    out = np.zeros(cells.shape, dtype=np.float32)
    if marker.glow_pattern not in _GLOW:
        raise ValueError(
            f"glow pattern {marker.glow_pattern!r} is unknown; there are {', '.join(_GLOW)}"
        )
    if marker.glow <= 0:
        return out
    bright = rng.lognormal(0, marker.glow_spread, n + 1) * (rng.random(n + 1) < marker.glow_share)
    bright[0] = 0
    cytoplasm, nucleus = _GLOW[marker.glow_pattern]
    body = np.where(layout.nuclei, nucleus, cytoplasm) * (cells > 0)
    texture = np.exp(0.12 * smooth_noise(cells.shape, 1.5 / mpp, rng))
    place = np.exp(rng.uniform(0, 0.2) * smooth_noise(cells.shape, 120 / mpp, rng))
    return np.asarray(marker.glow * bright[cells] * body * texture * place, dtype=np.float32)


def grains(layout: Layout, marker: StainMarker, rng: np.random.Generator) -> Float32Array:
    """(Y, X) bright grains of 0.5 to 2 µm: many in some cells, few between cells."""
    cells, mpp, n = layout.cells, layout.mpp, layout.n
    if marker.grains <= 0:
        return np.zeros(cells.shape, dtype=np.float32)
    share = np.zeros(int(layout.types.max()) + 1 if n else 1)
    share[: len(marker.grain_cells)] = marker.grain_cells[: len(share)]
    full = (rng.random(n + 1) < share[layout.types]) & (layout.types >= 0)
    amount = np.where(full, rng.lognormal(0, 0.4, n + 1), 0.0)
    matrix = _by_region(layout) * np.clip(smooth_noise(cells.shape, 25 / mpp, rng), 0, 1.5)
    density = np.where(cells > 0, amount[cells] * ~layout.nuclei, rng.uniform(0, 0.7) * matrix)
    # grains leak over the outlines of their cells, which are thin and cut obliquely
    density = ndi.gaussian_filter(density.astype(np.float32), 0.8 / mpp)
    spots = smooth_noise(cells.shape, rng.uniform(0.8, 2.0) / mpp, rng) - rng.uniform(0.5, 1.0)
    return np.asarray(marker.grains * density * np.clip(1.5 * spots, 0, 2.5), dtype=np.float32)


def mesh(layout: Layout, marker: StainMarker, rng: np.random.Generator) -> Float32Array:
    """(Y, X) network of fibres (collagen, elastin, reticulin) over and between cells."""
    shape, mpp = layout.cells.shape, layout.mpp
    if marker.mesh <= 0:
        return np.zeros(shape, dtype=np.float32)
    width = rng.uniform(0.5, 1.0) / mpp
    lines = sum(ridges(shape, rng.uniform(6, 14) / mpp, width, rng) for _ in range(2))
    where = ndi.gaussian_filter(_by_region(layout), 4 / mpp)
    inside = np.where(layout.cells > 0, rng.uniform(0.4, 0.9), 1.0)
    patchy = np.clip(0.8 + 0.5 * smooth_noise(shape, 60 / mpp, rng), 0.1, 2)
    return np.asarray(marker.mesh * lines * where * inside * patchy, dtype=np.float32)


def lent_rims(layout: Layout, expression: Float32Array, reach: float) -> Float32Array:
    """(Y, X) signal of positive borders outside their own cell, on the side where they touch.

    Parameters
    ----------
    layout
    expression : (n + 1,) float32
        Expression by true id.
    reach
        Width of the lent rim, µm.
    """
    bright = expression[layout.cells]
    out = np.zeros(layout.cells.shape, dtype=np.float32)
    if not (bright > 0).any():
        return out
    gap, (iy, ix) = ndi.distance_transform_edt(bright == 0, return_indices=True)
    rim = bright[iy, ix] * np.exp(-(((gap - 0.5) * layout.mpp / reach) ** 2))
    return np.asarray(np.where(bright > 0, 0, rim), dtype=np.float32)


def _by_region(layout: Layout) -> Float32Array:
    density = np.array([_MATRIX.get(name, 0.15) for name in REGIONS], dtype=np.float32)
    return np.asarray(density[layout.regions])
