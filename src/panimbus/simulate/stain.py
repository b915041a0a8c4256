"""Staining: the distribution of a marker's antibody in the tissue, before imaging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from panimbus.core.types import Float32Array
from panimbus.simulate.haze import glow, grains, lent_rims, mesh
from panimbus.simulate.layout import Layout, ridges, smooth_noise

PATTERNS = (
    "membrane",
    "cytoplasm",
    "nuclear",
    "whole",
    "granular",
    "partial",
    "polarised",
    "processes",
    "fibrous",
    "fine_granules",
    "rim",
)
_DIM = 0.35


@dataclass(frozen=True)
class StainMarker:
    """Staining parameters of one marker.

    Parameters
    ----------
    name
        Channel name.
    level : one number per cell type
        Expression of positive cells of the type, relative to the brightest type (1.0); 0 = not
        expressed.
    fraction : one number per cell type
        Share of the cells of the type that express the marker.
    pattern
        One of `PATTERNS`.
    spread
        Log-normal sigma of the expression between cells.
    baseline
        Non-specific signal of all cells in the pattern of the marker, relative to a positive cell.
    crosstalk : one number per cell type
        Signal in cells of the type from other markers (channel crosstalk, cross-reaction); these
        cells stay negative.
    haze
        Non-specific signal of every nucleus.
    unevenness
        Log-normal sigma of baseline, crosstalk and haze between cells.
    background
        Diffuse signal of the tissue, inside and outside cells.
    fibres
        Intensity of bright fibres that cross cells.
    blobs
        Number of bright autofluorescent blobs per mm².
    glow
        Autofluorescence of most cells, relative to a positive cell: even in the body of the cell
        (`glow_pattern`: ``cytoplasm``, ``nuclear`` or ``whole``), in ``glow_share`` of the cells,
        with the log-normal sigma ``glow_spread`` between cells.
    grains
        Intensity of autofluorescent grains (lipofuscin, pigment, debris).
    grain_cells : one number per cell type
        Share of the cells of the type that are full of grains; there are few between cells.
    mesh
        Intensity of a network of matrix fibres, densest in stroma, that crosses cells.
    overhang
        Reach (µm) of a positive cell's border beyond its outline: a rim lent to the neighbours.
    """

    name: str
    level: tuple[float, ...]
    fraction: tuple[float, ...]
    pattern: str = "membrane"
    spread: float = 0.35
    baseline: float = 0.0
    crosstalk: tuple[float, ...] = ()
    haze: float = 0.0
    unevenness: float = 0.3
    background: float = 0.0
    fibres: float = 0.0
    blobs: float = 0.0
    glow: float = 0.0
    glow_pattern: str = "cytoplasm"
    glow_share: float = 0.95
    glow_spread: float = 0.3
    grains: float = 0.0
    grain_cells: tuple[float, ...] = ()
    mesh: float = 0.0
    overhang: float = 0.0

    @property
    def two_levels(self) -> bool:
        """Whether some types express less than 0.35 of what the brightest type does."""
        return any(0 < v < _DIM for v in self.level)


@dataclass(frozen=True, eq=False)
class Stain:
    """Distribution of one marker; the brightest parts of a typical positive cell are about 1.

    Attributes
    ----------
    own : (Y, X) float32
        Specific signal of positive cells, inside the cell.
    stray : (Y, X) float32
        Specific signal outside the cell (processes, lent rims), and fibres and blobs.
    base : (Y, X) float32
        Non-specific signal: baseline, crosstalk, nuclear haze, diffuse background, glow, grains,
        mesh.
    positive : (n + 1,) bool
        Cells that express the marker, by true id; entry 0 is False.
    """

    own: Float32Array
    stray: Float32Array
    base: Float32Array
    positive: npt.NDArray[np.bool_]


def pattern_map(layout: Layout, pattern: str, rng: np.random.Generator) -> Float32Array:
    """Distribution of the stain within positive cells, about 0..1.5, for all cells."""
    if pattern not in PATTERNS:
        raise ValueError(f"pattern {pattern!r} is unknown; there are {', '.join(PATTERNS)}")
    shape, mpp = layout.cells.shape, layout.mpp
    inside = layout.cells > 0
    nuclei = layout.nuclei
    membrane = np.exp(-((layout.depth / rng.uniform(0.6, 1.5)) ** 2)) + rng.uniform(0.05, 0.4)
    cytoplasm = np.where(nuclei, rng.uniform(0.2, 0.8), 1.0)
    if pattern == "membrane":
        out = membrane
    elif pattern == "nuclear":
        out = np.where(nuclei, 1.0, rng.uniform(0.0, 0.25))
    elif pattern == "rim":
        out = np.exp(-((layout.depth / rng.uniform(0.5, 0.9)) ** 2)) + rng.uniform(0.0, 0.05)
    elif pattern == "fine_granules":
        grains = smooth_noise(shape, rng.uniform(0.8, 1.3) / mpp, rng)
        out = 0.1 + 1.6 * cytoplasm * np.clip(grains - rng.uniform(0.6, 1.1), 0, 1.5)
    elif pattern == "whole":
        out = np.ones(shape)
    elif pattern == "granular":
        grains = smooth_noise(shape, rng.uniform(1.0, 3.0) / mpp, rng)
        out = cytoplasm * np.clip(grains - rng.uniform(0, 1.2), 0, 2.5)
    elif pattern == "partial":
        mix = membrane if rng.random() < 0.6 else cytoplasm
        out = mix / (1 + np.exp(-4 * (smooth_noise(shape, rng.uniform(5, 12) / mpp, rng) + 0.2)))
    elif pattern == "polarised":
        out = (membrane if rng.random() < 0.5 else cytoplasm) * _polar(layout, rng)
    elif pattern == "fibrous":
        out = 0.35 * cytoplasm + 1.2 * ridges(
            shape, rng.uniform(6, 12) / mpp, rng.uniform(0.7, 1.5) / mpp, rng
        )
    else:  # cytoplasm, processes
        out = cytoplasm
    texture = np.exp(rng.uniform(0.05, 0.5) * smooth_noise(shape, rng.uniform(1.0, 4.0) / mpp, rng))
    return np.asarray(np.where(inside, out * texture, 0), dtype=np.float32)


def _polar(layout: Layout, rng: np.random.Generator) -> Float32Array:
    """0..1.5, brighter on one side of each cell, drawn per cell."""
    n = layout.n
    ids = np.arange(1, n + 1)
    centre = np.zeros((n + 1, 2))
    if n:
        centre[1:] = np.array(
            ndi.center_of_mass(np.ones(layout.cells.shape, dtype=np.float32), layout.cells, ids)
        )
    angle = rng.uniform(0, 2 * np.pi, n + 1)
    y, x = np.indices(layout.cells.shape, dtype=np.float32)
    dy, dx = y - centre[layout.cells, 0], x - centre[layout.cells, 1]
    along = (np.sin(angle)[layout.cells] * dy + np.cos(angle)[layout.cells] * dx) * layout.mpp
    steep = np.clip(rng.uniform(0.6, 1.5) * (along - rng.uniform(-1, 1.5)), -20, 20)
    return np.asarray(1.5 / (1 + np.exp(-steep)), dtype=np.float32)


def stain(layout: Layout, marker: StainMarker, rng: np.random.Generator) -> Stain:
    """Stain a layout with one marker.

    Parameters
    ----------
    layout
    marker
    rng

    Returns
    -------
    Stain
        Signals in units of the brightest parts of a typical positive cell.
    """
    n, cells, mpp, shape = layout.n, layout.cells, layout.mpp, layout.cells.shape
    kind = layout.types
    level = np.asarray(marker.level)[kind]
    carries = (rng.random(n + 1) < np.asarray(marker.fraction)[kind]) & (level > 0) & (kind >= 0)
    expression = np.where(carries, level * rng.lognormal(0, marker.spread, n + 1), 0).astype(
        np.float32
    )
    where = pattern_map(layout, marker.pattern, rng)
    own = where * expression[cells]
    stray = np.zeros(shape, dtype=np.float32)
    if marker.pattern in ("processes", "fibrous"):
        reach = ndi.gaussian_filter(
            (expression[cells] > 0).astype(np.float32), rng.uniform(1.5, 5.0) / mpp, truncate=2.5
        )
        stray += np.clip(1.5 * reach, 0, 1) * ridges(
            shape, rng.uniform(5, 12) / mpp, rng.uniform(0.5, 1.0) / mpp, rng
        )
        stray *= np.float32(rng.uniform(0.2, 1.2)) * (expression[cells] == 0)
    if marker.fibres > 0:
        at = np.clip(
            smooth_noise(shape, rng.uniform(30, 90) / mpp, rng) - rng.uniform(-0.3, 1.0), 0, 1
        )
        stray += (
            marker.fibres
            * at
            * ridges(shape, rng.uniform(8, 20) / mpp, rng.uniform(0.5, 1.5) / mpp, rng)
        )
    if marker.blobs > 0:
        stray += _blobs(shape, mpp, marker.blobs, rng)
    base = _base(layout, marker, where, rng)
    if marker.overhang > 0:
        stray += lent_rims(layout, expression, marker.overhang)
    for add in (glow, grains, mesh):
        base += add(layout, marker, rng)
    return Stain(own, stray, base, carries)


def _blobs(
    shape: tuple[int, int], mpp: float, per_mm2: float, rng: np.random.Generator
) -> Float32Array:
    """Bright spots of 0.5 to 5 µm at random positions."""
    out = np.zeros(shape, dtype=np.float32)
    for _ in range(min(int(rng.poisson(per_mm2 * out.size * mpp**2 * 1e-6)), 400)):
        r = rng.uniform(0.5, 5.0) / mpp
        half = int(3 * r) + 1
        cy, cx = int(rng.integers(0, shape[0])), int(rng.integers(0, shape[1]))
        y0, x0 = max(cy - half, 0), max(cx - half, 0)
        box = out[y0 : cy + half, x0 : cx + half]
        y, x = np.indices(box.shape, dtype=np.float32)
        squeeze = rng.uniform(0.5, 1.0)
        spot = np.exp(-0.5 * (((y + y0 - cy) / r) ** 2 + ((x + x0 - cx) / (r * squeeze)) ** 2))
        box += np.float32(rng.uniform(0.5, 3.0)) * spot
    return out


def _base(
    layout: Layout, marker: StainMarker, where: Float32Array, rng: np.random.Generator
) -> Float32Array:
    """Non-specific signal: baseline, crosstalk, nuclear haze, diffuse background."""
    n, cells, mpp, shape = layout.n, layout.cells, layout.mpp, layout.cells.shape
    per_cell = marker.baseline * rng.lognormal(0, marker.unevenness, n + 1)
    if marker.crosstalk:
        per_cell += np.where(
            layout.types >= 0, np.asarray(marker.crosstalk)[layout.types], 0
        ) * rng.lognormal(0, marker.unevenness, n + 1)
    per_cell[0] = 0
    body = where if rng.random() < 0.6 else (cells > 0).astype(np.float32) * np.float32(0.6)
    base = per_cell.astype(np.float32)[cells] * body
    if marker.haze > 0:
        haze = (marker.haze * rng.lognormal(0, marker.unevenness, n + 1)).astype(np.float32)
        haze[0] = 0
        shade = layout.nuclei * haze[cells] + np.float32(0.35) * (cells > 0) * haze[cells]
        base += ndi.gaussian_filter(shade, rng.uniform(0.5, 1.5) / mpp, truncate=3)
    if marker.background > 0:
        tissue = np.where(layout.regions > 0, 1.0, rng.uniform(0, 0.6)).astype(np.float32)
        field = np.exp(
            rng.uniform(0.05, 0.6) * smooth_noise(shape, rng.uniform(15, 150) / mpp, rng)
        )
        fine = np.exp(rng.uniform(0.0, 0.4) * smooth_noise(shape, rng.uniform(2, 8) / mpp, rng))
        base += np.float32(marker.background) * tissue * field * fine
    return np.asarray(base, dtype=np.float32)
