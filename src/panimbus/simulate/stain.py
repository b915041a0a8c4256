"""Staining: the distribution of a marker's antibody in the tissue, before imaging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi

from panimbus.core.types import Float32Array
from panimbus.simulate.layout import Layout, smooth_noise

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
)


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


@dataclass(frozen=True, eq=False)
class Stain:
    """Distribution of one marker; the brightest parts of a typical positive cell are about 1.

    Attributes
    ----------
    own : (Y, X) float32
        Specific signal of positive cells, inside the cell.
    stray : (Y, X) float32
        Specific signal outside the cell (processes), and fibres and blobs.
    base : (Y, X) float32
        Non-specific signal: baseline, crosstalk, nuclear haze, diffuse background.
    positive : (n + 1,) bool
        Cells that express the marker, by true id; entry 0 is False.
    """

    own: Float32Array
    stray: Float32Array
    base: Float32Array
    positive: npt.NDArray[np.bool_]


def _ridges(
    shape: tuple[int, int], scale: float, width: float, rng: np.random.Generator
) -> Float32Array:
    """Thin wavy lines, 0..1: the zero lines of smooth noise, thinned by a second noise."""
    lines = np.exp(-((smooth_noise(shape, scale, rng) * scale / (2.2 * width)) ** 2))
    return np.asarray(
        lines * np.clip(smooth_noise(shape, 2 * scale, rng) + 0.3, 0, 1.2), dtype=np.float32
    )


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
        out = 0.35 * cytoplasm + 1.2 * _ridges(
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
        stray += np.clip(1.5 * reach, 0, 1) * _ridges(
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
            * _ridges(shape, rng.uniform(8, 20) / mpp, rng.uniform(0.5, 1.5) / mpp, rng)
        )
    if marker.blobs > 0:
        stray += _blobs(shape, mpp, marker.blobs, rng)
    return Stain(own, stray, _base(layout, marker, where, rng), carries)


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


def _carriers(
    n_types: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw the level and the fraction of a random marker per cell type.

    10 % of the markers are on no type, 16 % on all.
    """
    u = rng.random()
    if u < 0.10:
        k = 0
    elif u < 0.26:
        k = n_types
    else:
        k = int(np.clip(rng.geometric(0.45), 1, n_types - 1))
    level, fraction = np.zeros(n_types, dtype=np.float64), np.zeros(n_types, dtype=np.float64)
    carriers = rng.permutation(n_types)[:k]
    level[carriers] = rng.uniform(0.4, 1.0, k) if rng.random() < 0.5 else 1.0
    if k:
        level /= level.max()
    fraction[carriers] = (
        rng.uniform(0.1, 1.0, k) if rng.random() < 0.35 else rng.uniform(0.85, 1.0, k)
    )
    if k == n_types:
        fraction[:] = rng.uniform(0.9, 1.0)
        level = np.maximum(level, 0.5)
    return level, fraction


CONTAMINATION = {
    "codex": (0.2, 0.5, 0.9, 1.4),
    "imc": (0.0, 0.25, 0.6, 1.0),
    "mibi": (0.0, 0.1, 0.3, 0.8),
}


def draw_marker(
    name: str, n_types: int, rng: np.random.Generator, platform: str = "imc"
) -> StainMarker:
    """Draw a marker with a random pattern, random cell types and random confounders.

    Structured non-specific signal is weaker than the signal of a positive cell. In a channel
    without positive cells it is also weak relative to the diffuse background; otherwise it could
    not be distinguished from a marker of all cells. In fluorescence (``codex``) nuclei may be
    visible in such a channel (haze), but only on a diffuse background.
    """
    level, fraction = _carriers(n_types, rng)
    k = int((level > 0).sum())
    crosstalk = np.zeros(n_types)
    contamination = rng.choice(CONTAMINATION[platform])
    counterstain = k == n_types and rng.random() < 0.6
    if counterstain:
        contamination = min(
            CONTAMINATION[platform]
        )  # clean and on every cell: mostly a nuclear stain
    if rng.random() < 0.5:
        others = level == 0
        crosstalk[others] = (
            rng.uniform(0, 0.4, int(others.sum()))
            * (rng.random(int(others.sum())) < 0.5)
            * contamination
        )
    floor = 0.35 if k == n_types else 1.0
    background = float(contamination * floor * rng.uniform(0, 0.6) ** 1.5)
    haze = float(contamination * floor * rng.uniform(0, 0.45) * (rng.random() < 0.6))
    baseline = float(contamination * floor * rng.uniform(0, 0.35) * (rng.random() < 0.7))
    unevenness, spread = float(rng.uniform(0.2, 0.65)), float(rng.uniform(0.15, 0.65))
    if k == 0:
        background = (
            max(background, 0.35 * haze) + 0.05 if platform == "codex" else background + 0.05
        )
        haze, baseline = (
            haze if platform == "codex" else min(haze, 0.7 * background),
            min(baseline, background),
        )
        crosstalk = np.minimum(crosstalk, 0.5 * background)
    elif k == n_types:
        spread = 0.6 * spread
    elif rng.random() < (0.45 if platform == "codex" else 0.2):
        # a weak antibody: few positive cells above an uneven non-specific signal
        fraction *= rng.uniform(0.05, 0.6)
        unevenness = float(rng.uniform(0.35, 0.65))
        strength = (
            rng.uniform(0.1, 0.5, 2)
            * rng.permutation([1.0, 0.4])
            * (0.4 if platform == "mibi" else 1.0)
        )
        haze, baseline = float(strength[0]), float(strength[1])
    pattern = str(rng.choice(PATTERNS, p=(0.33, 0.12, 0.14, 0.07, 0.08, 0.08, 0.05, 0.08, 0.05)))
    return StainMarker(
        name,
        tuple(level),
        tuple(fraction),
        pattern="nuclear" if counterstain and rng.random() < 0.7 else pattern,
        spread=spread,
        baseline=baseline,
        crosstalk=tuple(crosstalk),
        haze=haze,
        unevenness=unevenness,
        background=background,
        fibres=float(rng.uniform(0.2, 1.2) * (rng.random() < 0.12)),
        blobs=float(rng.uniform(20, 600) * (rng.random() < 0.3)),
    )
