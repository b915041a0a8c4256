"""Cell layouts: tissue regions, cells with nuclei and types."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from panimbus.core.labels import interior
from panimbus.core.types import Float32Array, Int64Array, UInt32Array
from panimbus.simulate.vessels import add_vessels

REGIONS = ("empty", "follicle", "epithelium", "stroma", "mixed", "tumour")
TUMOUR, MIXED = REGIONS.index("tumour"), REGIONS.index("mixed")
# spacing of cells (µm), length of the central segment (µm), extent of a cell beyond it (µm)
_GEOMETRY = {
    "follicle": ((5.5, 8.5), (0.0, 1.5), (4.0, 9.0)),
    "epithelium": ((8.0, 13.0), (0.0, 3.0), (7.0, 14.0)),
    "stroma": ((9.0, 18.0), (5.0, 16.0), (2.0, 4.5)),
    "mixed": ((6.5, 12.0), (0.0, 4.0), (3.5, 8.0)),
    "tumour": ((13.0, 21.0), (0.0, 4.0), (9.0, 16.0)),
}
_SPREAD = 1.2  # median diameter of tumour cells over their least spacing
_REGION_SHARE = (0.26, 0.2, 0.14, 0.24, 0.16)


@dataclass(frozen=True)
class Structures:
    """Parts of a layout that have parameters of their own.

    Attributes
    ----------
    vessels : float
        Vessels per mm² (`panimbus.simulate.vessels`); the cells of their walls have the last type.
    tumour_um : float
        Usual diameter of a tumour cell, µm; 0 draws it.
    """

    vessels: float = 0.0
    tumour_um: float = 0.0


@dataclass(frozen=True, eq=False)
class Layout:
    """The true cells of simulated tissue.

    Attributes
    ----------
    cells : (Y, X) uint32, 0 = between cells
        True area of each cell, ids 1..n.
    depth : (Y, X) float32, µm
        Distance from the border of the cell, 0 outside.
    core : (Y, X) float32, 0..1
        Depth relative to the cell's deepest point.
    nuclei : (Y, X) bool
    types : (n + 1,) int64
        Type of each cell; entry 0 (no cell) is -1.
    regions : (Y, X) int64
        Index in `REGIONS`.
    orientation : (Y, X) float32, radians
        Direction of fibres and of elongated cells.
    mpp : float
        µm per pixel of these arrays.
    """

    cells: UInt32Array
    depth: Float32Array
    core: Float32Array
    nuclei: npt.NDArray[np.bool_]
    types: Int64Array
    regions: Int64Array
    orientation: Float32Array
    mpp: float

    @property
    def n(self) -> int:
        """Number of cells."""
        return len(self.types) - 1


def smooth_noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> Float32Array:
    """Smooth Gaussian noise of mean 0 and standard deviation 1 that varies over ``scale`` pixels.

    Up to 4 pixels it is filtered white noise, above that it is interpolated from a coarse grid.
    """
    if scale <= 4:
        white = rng.standard_normal(shape, dtype=np.float32)
        out = ndi.gaussian_filter(white, scale / 2, truncate=3)
    else:
        step = scale / 2
        grid = (int(shape[0] / step) + 5, int(shape[1] / step) + 5)
        coarse = ndi.gaussian_filter(rng.standard_normal(grid, dtype=np.float32), 0.8)
        y = np.arange(shape[0]) / step + 1 + rng.random()
        x = np.arange(shape[1]) / step + 1 + rng.random()
        rows = _interpolate(coarse, y)
        out = _interpolate(rows.T, x).T
    return np.asarray((out - out.mean()) / (out.std() + 1e-6), dtype=np.float32)


def ridges(
    shape: tuple[int, int], scale: float, width: float, rng: np.random.Generator
) -> Float32Array:
    """Thin wavy lines, 0..1: the zero lines of smooth noise, thinned by a second noise."""
    lines = np.exp(-((smooth_noise(shape, scale, rng) * scale / (2.2 * width)) ** 2))
    return np.asarray(
        lines * np.clip(smooth_noise(shape, 2 * scale, rng) + 0.3, 0, 1.2), dtype=np.float32
    )


def _interpolate(a: Float32Array, at: npt.NDArray[np.float64]) -> Float32Array:
    """Rows of ``a`` at fractional positions, by quadratic B-splines."""
    i = np.floor(at).astype(np.int64)
    t = (at - i).astype(np.float32)[:, None]
    out = 0.5 * (1 - t) ** 2 * a[i - 1] + (0.5 + t - t**2) * a[i] + 0.5 * t**2 * a[i + 1]
    return np.asarray(out, dtype=np.float32)


def _draw_regions(
    shape: tuple[int, int],
    mpp: float,
    rng: np.random.Generator,
    kinds: tuple[str, ...] | None = None,
) -> Int64Array:
    """A random map of tissue regions: (Y, X) indices in `REGIONS`."""
    if kinds is None:
        n = int(rng.integers(1, 5))
        kinds = tuple(rng.choice(REGIONS[1:], size=n, replace=False, p=_REGION_SHARE))
        if rng.random() < 0.35:
            kinds = (*kinds, "empty")
    scale = rng.uniform(60, 200) / mpp
    best = np.full(shape, -np.inf, dtype=np.float32)
    out = np.zeros(shape, dtype=np.int64)
    for kind in kinds:
        field = smooth_noise(shape, scale, rng) + np.float32(rng.normal(0, 0.5))
        field += 0.15 * smooth_noise(shape, scale / 6, rng)
        won = field > best
        out[won] = REGIONS.index(kind)
        best[won] = field[won]
    return out


@dataclass(frozen=True, eq=False)
class _Seeds:
    """Centres of cells (n, 2) in pixels, their region, size, and whether they infiltrate."""

    points: npt.NDArray[np.float64]
    kind: Int64Array
    size: npt.NDArray[np.float64]
    small: npt.NDArray[np.bool_]


def _seeds(regions: Int64Array, mpp: float, rng: np.random.Generator, tumour_um: float) -> _Seeds:
    """Draw centres at least the spacing of their region apart.

    In tumour, small cells lie between the large ones.
    """
    scale = rng.uniform(0.85, 1.2)
    tumour = bool((regions == TUMOUR).any())
    spacing = np.full(len(REGIONS), 10.0)
    for name, (gap, _, _) in _GEOMETRY.items():
        if name != "tumour" or tumour:
            spacing[REGIONS.index(name)] = rng.uniform(*gap) * scale
    if tumour_um > 0:
        spacing[TUMOUR] = tumour_um / _SPREAD
    drawn = spacing[1:] if tumour else spacing[1:TUMOUR]
    area_um2 = regions.size * mpp**2
    points = rng.random((int(3.5 * area_um2 / drawn.min() ** 2), 2)) * (np.array(regions.shape) - 1)
    kind = regions[points[:, 0].astype(int), points[:, 1].astype(int)]
    keep = (kind > 0) & (rng.random(len(points)) < (drawn.min() / spacing[kind]) ** 2 * 1.3)
    points, kind = points[keep], kind[keep]
    size = rng.lognormal(0, 0.18, len(points))
    small = np.zeros(len(points), dtype=bool)
    if tumour:
        small = (kind == TUMOUR) & (rng.random(len(points)) < rng.uniform(0.1, 0.7))
        size[small] *= rng.uniform(6.5, 9.0) / spacing[TUMOUR]
    radius = spacing[kind] * size / mpp
    reach = float(max(drawn.max(), 10.0) / mpp * 1.2)
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    if len(pairs):
        gap_px = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
        pairs = pairs[gap_px < 0.45 * (radius[pairs[:, 0]] + radius[pairs[:, 1]])]
    chosen = _greedy(len(points), pairs, rng)
    return _Seeds(points[chosen], kind[chosen], size[chosen], small[chosen])


def _greedy(n: int, pairs: Int64Array, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Mask of a maximal set of points without pairs, chosen in random order."""
    alive = np.ones(n, dtype=bool)
    chosen = np.zeros(n, dtype=bool)
    priority = rng.permutation(n)
    while alive.any():
        excluded = np.zeros(n, dtype=bool)
        a, b = pairs[:, 0], pairs[:, 1]
        excluded[np.where(priority[a] < priority[b], a, b)] = True
        winners = alive & ~excluded
        chosen |= winners
        alive &= ~winners
        alive[a[winners[b]]] = False
        alive[b[winners[a]]] = False
        pairs = pairs[alive[a] & alive[b]]
    return chosen


def _territories(
    regions: Int64Array,
    orientation: Float32Array,
    mpp: float,
    rng: np.random.Generator,
    *,
    tumour_um: float = 0.0,
) -> tuple[UInt32Array, Int64Array]:
    """Grow each cell from a short segment to a bounded, deformed Voronoi region.

    Small cells in tumour take their area from the large ones and have the types of mixed regions:
    (Y, X) cells, and the regions with this change.
    """
    drawn = _seeds(regions, mpp, rng, tumour_um)
    shape = regions.shape
    n = len(drawn.points)
    length, extent = np.zeros(n), np.ones(n)
    for name, (_, long_, far) in _GEOMETRY.items():
        is_kind = drawn.kind == REGIONS.index(name)
        if name == "tumour" and not is_kind.any():
            continue
        length[is_kind] = rng.uniform(*long_, size=n)[is_kind] * rng.uniform(0.6, 1.0)
        extent[is_kind] = rng.uniform(*far) * rng.lognormal(0, 0.1, n)[is_kind]
    if tumour_um > 0:
        extent[drawn.kind == TUMOUR] = 0.7 * tumour_um / _SPREAD
    length[drawn.small] = 0
    extent[drawn.small] = (
        rng.uniform(3.0, 4.2) / np.median(drawn.size[drawn.small]) if any(drawn.small) else 1
    )
    seeds = _segments(drawn, length / mpp, orientation, rng)
    if n == 0:
        return seeds, regions
    limit = np.concatenate([[0.0], extent * drawn.size]) / mpp
    wobble = 1 + 0.15 * smooth_noise(shape, 5 / mpp, rng)
    small = np.concatenate([[False], drawn.small])
    owner = _nearest(np.where(small[seeds], 0, seeds), limit, wobble)
    if small.any():
        inner = _nearest(np.where(small[seeds], seeds, 0), limit, wobble)
        owner = np.where(inner > 0, inner, owner)
    cells = warp(owner, rng.uniform(0.4, 1.1) / mpp, 5 / mpp, rng)
    return cells, np.where(small[cells], MIXED, regions)


def _segments(
    drawn: _Seeds,
    length: npt.NDArray[np.float64],
    orientation: Float32Array,
    rng: np.random.Generator,
) -> UInt32Array:
    """(Y, X) image of a short segment per cell, ``length`` (n,) in pixels; ids 1..n."""
    shape, points, n = orientation.shape, drawn.points, len(drawn.points)
    angle = orientation[points[:, 0].astype(int), points[:, 1].astype(int)] + rng.normal(0, 0.25, n)
    seeds = np.zeros(shape, dtype=np.uint32)
    for t in np.linspace(-0.5, 0.5, 13):
        y = np.clip(points[:, 0] + t * length * np.sin(angle), 0, shape[0] - 1).astype(int)
        x = np.clip(points[:, 1] + t * length * np.cos(angle), 0, shape[1] - 1).astype(int)
        seeds[y, x] = np.arange(1, n + 1)
    return seeds


def _nearest(
    seeds: UInt32Array, limit: npt.NDArray[np.float64], wobble: Float32Array
) -> UInt32Array:
    """Each pixel's nearest seed, up to the limit (pixels) of that seed."""
    if not seeds.any():
        return seeds
    distance, (iy, ix) = ndi.distance_transform_edt(seeds == 0, return_indices=True)
    owner = seeds[iy, ix]
    owner[distance > limit[owner] * wobble] = 0
    return np.asarray(owner, dtype=np.uint32)


def _draw_types(
    cells: UInt32Array,
    regions: Int64Array,
    composition: npt.NDArray[np.float64],
    clustering: float,
    rng: np.random.Generator,
) -> Int64Array:
    """Draw the type of each cell from the composition of its region and smooth random fields.

    Parameters
    ----------
    composition : (regions, types) float
    clustering
        Weight of the random fields.

    Returns
    -------
    (n + 1,) int64
        Entry 0 is -1.
    """
    n = int(cells.max())
    first = np.full(n + 1, -1, dtype=np.int64)
    flat = cells.ravel()
    first[flat] = np.arange(flat.size)
    ids = np.flatnonzero(first >= 0)
    ids = ids[ids > 0]
    at = first[ids]
    logit = np.log(composition[regions.ravel()[at]] + 1e-6)
    for t in range(composition.shape[1]):
        logit[:, t] += (
            clustering * smooth_noise(cells.shape, float(rng.uniform(15, 120)), rng).ravel()[at]
        )
    types = np.full(n + 1, -1, dtype=np.int64)
    types[ids] = np.argmax(logit + rng.gumbel(size=logit.shape), axis=1)
    return types


def make_layout(
    shape: tuple[int, int],
    mpp: float,
    rng: np.random.Generator,
    *,
    composition: npt.NDArray[np.float64],
    kinds: tuple[str, ...] | None = None,
    clustering: float = 1.0,
    structures: Structures | None = None,
) -> Layout:
    """Draw tissue regions, cells, nuclei and cell types.

    Parameters
    ----------
    shape, mpp
        Size in pixels, and µm per pixel.
    composition : (len(REGIONS), types) float
        Frequency of each cell type per kind of region.
    kinds
        Kinds of regions; None draws them.
    clustering
        Strength of the spatial clustering of cell types; 0 = independent.
    structures
        Vessels and the size of tumour cells; None: no vessels, any size.
    """
    structures = structures or Structures()
    regions = _draw_regions(shape, mpp, rng, kinds)
    orientation = np.asarray(np.pi * smooth_noise(shape, 120 / mpp, rng), dtype=np.float32)
    cells, regions = _territories(regions, orientation, mpp, rng, tumour_um=structures.tumour_um)
    first_wall = int(cells.max()) + 1
    if structures.vessels > 0:
        cells = add_vessels(cells, mpp, structures.vessels, rng)
    ids, compact = np.unique(cells, return_inverse=True)
    cells = compact.reshape(shape).astype(np.uint32)
    if ids[0] != 0:
        cells += 1
    n = int(cells.max())
    depth = np.asarray(
        ndi.distance_transform_edt(interior(cells)) + 0.5, dtype=np.float32
    ) * np.float32(mpp)
    depth[cells == 0] = 0
    deepest = np.zeros(n + 1, dtype=np.float32)
    if n:
        deepest[1:] = ndi.maximum(depth, cells, np.arange(1, n + 1))
    core = np.asarray(depth / np.maximum(deepest, 1e-3)[cells], dtype=np.float32)
    threshold = rng.normal(rng.uniform(0.2, 0.4), 0.05, n + 1).astype(np.float32)
    nuclei = (cells > 0) & (core > threshold[cells])
    types = _draw_types(cells, regions, composition, clustering, rng)
    types[1:][ids[ids > 0] >= first_wall] = composition.shape[1] - 1
    return Layout(cells, depth, core, nuclei, types, regions, orientation, mpp)


def warp(labels: UInt32Array, amount: float, scale: float, rng: np.random.Generator) -> UInt32Array:
    """Displace pixels by smooth noise of ``amount`` pixels."""
    shape = (labels.shape[0], labels.shape[1])
    y, x = np.indices(shape)
    y = np.clip(y + amount * smooth_noise(shape, scale, rng), 0, shape[0] - 1).astype(np.int64)
    x = np.clip(x + amount * smooth_noise(shape, scale, rng), 0, shape[1] - 1).astype(np.int64)
    return np.asarray(labels[y, x])
