"""Cell layouts: tissue regions, cells with nuclei and types, and their imperfect segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from scipy.spatial import cKDTree
from skimage.segmentation import expand_labels

from panimbus.core.labels import interior
from panimbus.core.types import Float32Array, Int64Array, UInt32Array

REGIONS = ("empty", "follicle", "epithelium", "stroma", "mixed")
# spacing of cells (µm), length of the central segment (µm), extent of a cell beyond it (µm)
_GEOMETRY = {
    "follicle": ((5.5, 8.5), (0.0, 1.5), (4.0, 9.0)),
    "epithelium": ((8.0, 13.0), (0.0, 3.0), (7.0, 14.0)),
    "stroma": ((9.0, 18.0), (5.0, 16.0), (2.0, 4.5)),
    "mixed": ((6.5, 12.0), (0.0, 4.0), (3.5, 8.0)),
}
OBSERVATIONS = ("exact", "full", "grown", "eroded", "nuclear", "nuclear_grown", "shifted", "warped")


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
        kinds = tuple(rng.choice(REGIONS[1:], size=n, replace=False, p=(0.3, 0.25, 0.15, 0.3)))
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


def _seeds(
    regions: Int64Array, mpp: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], Int64Array, npt.NDArray[np.float64]]:
    """Centres (n, 2) in pixels, at least the spacing of their region apart; regions; sizes."""
    scale = rng.uniform(0.85, 1.2)
    spacing = np.full(len(REGIONS), 10.0)
    for name, (gap, _, _) in _GEOMETRY.items():
        spacing[REGIONS.index(name)] = rng.uniform(*gap) * scale
    area_um2 = regions.size * mpp**2
    points = rng.random((int(3.5 * area_um2 / spacing[1:].min() ** 2), 2)) * (
        np.array(regions.shape) - 1
    )
    kind = regions[points[:, 0].astype(int), points[:, 1].astype(int)]
    keep = (kind > 0) & (rng.random(len(points)) < (spacing[1:].min() / spacing[kind]) ** 2 * 1.3)
    points, kind = points[keep], kind[keep]
    size = rng.lognormal(0, 0.18, len(points))
    radius = spacing[kind] * size / mpp
    pairs = cKDTree(points).query_pairs(float(spacing.max() / mpp * 1.2), output_type="ndarray")
    if len(pairs):
        gap_px = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
        pairs = pairs[gap_px < 0.45 * (radius[pairs[:, 0]] + radius[pairs[:, 1]])]
    chosen = _greedy(len(points), pairs, rng)
    return points[chosen], kind[chosen], size[chosen]


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
    regions: Int64Array, orientation: Float32Array, mpp: float, rng: np.random.Generator
) -> UInt32Array:
    """Grow each cell from a short segment to a bounded, deformed Voronoi region."""
    points, kind, size = _seeds(regions, mpp, rng)
    shape = regions.shape
    n = len(points)
    length, extent = np.zeros(n), np.ones(n)
    for name, (_, long_, far) in _GEOMETRY.items():
        is_kind = kind == REGIONS.index(name)
        length[is_kind] = rng.uniform(*long_, size=n)[is_kind] * rng.uniform(0.6, 1.0)
        extent[is_kind] = rng.uniform(*far) * rng.lognormal(0, 0.1, n)[is_kind]
    angle = orientation[points[:, 0].astype(int), points[:, 1].astype(int)] + rng.normal(0, 0.25, n)
    seeds = np.zeros(shape, dtype=np.uint32)
    for t in np.linspace(-0.5, 0.5, 13):
        y = np.clip(points[:, 0] + t * length / mpp * np.sin(angle), 0, shape[0] - 1).astype(int)
        x = np.clip(points[:, 1] + t * length / mpp * np.cos(angle), 0, shape[1] - 1).astype(int)
        seeds[y, x] = np.arange(1, n + 1)
    if n == 0:
        return seeds
    distance, (iy, ix) = ndi.distance_transform_edt(seeds == 0, return_indices=True)
    owner = seeds[iy, ix]
    limit = np.concatenate([[0.0], extent * size]) / mpp
    wobble = 1 + 0.15 * smooth_noise(shape, 5 / mpp, rng)
    owner[distance > limit[owner] * wobble] = 0
    return _warp(owner, rng.uniform(0.4, 1.1) / mpp, 5 / mpp, rng)


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
    """
    regions = _draw_regions(shape, mpp, rng, kinds)
    orientation = np.asarray(np.pi * smooth_noise(shape, 120 / mpp, rng), dtype=np.float32)
    cells = _territories(regions, orientation, mpp, rng)
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
    return Layout(cells, depth, core, nuclei, types, regions, orientation, mpp)


def observe(
    layout: Layout, rng: np.random.Generator, mode: str | None = None, errors: float = 1.0
) -> UInt32Array:
    """Simulate an imperfect segmentation of a layout.

    Outlines are inexact, and cells are merged, split, missed or invented.

    Parameters
    ----------
    layout
    rng
    mode
        One of `OBSERVATIONS`: how outlines deviate; None draws one.
    errors
        Factor on the frequency of merged, split, missed and invented cells; 0 = none.

    Returns
    -------
    (Y, X) uint32
        Observed labels with ids 1..m, which differ from the true ids.
    """
    if mode is None:
        mode = str(rng.choice(OBSERVATIONS, p=(0.15, 0.2, 0.12, 0.08, 0.07, 0.2, 0.08, 0.1)))
    if mode not in OBSERVATIONS:
        raise ValueError(
            f"observation mode {mode!r} is unknown; there are {', '.join(OBSERVATIONS)}"
        )
    seen = _outline(layout, mode, rng)
    if errors > 0:
        seen = _add_errors(seen, layout.mpp, errors, rng)
    ids, compact = np.unique(seen, return_inverse=True)
    out = compact.reshape(seen.shape).astype(np.uint32)
    return out if ids[0] == 0 else out + 1


def _outline(layout: Layout, mode: str, rng: np.random.Generator) -> UInt32Array:
    """The outlines of one kind of segmentation, with the true ids."""
    cells, mpp = layout.cells, layout.mpp
    out = cells.copy()
    if mode == "grown":
        out = _grow(cells, rng.uniform(0.5, 2.0) / mpp)
    elif mode == "full":
        out = _grow(cells, rng.uniform(4, 25) / mpp)
    elif mode == "eroded":
        out[layout.depth <= rng.uniform(0.5, 1.2)] = 0
    elif mode == "nuclear":
        out[~layout.nuclei] = 0
    elif mode == "nuclear_grown":
        out[~(layout.nuclei & (layout.core > 0.3))] = 0
        out = _grow(out, rng.uniform(1.5, 4.0) / mpp)
    elif mode == "shifted":
        step = np.rint(rng.uniform(-1.5, 1.5, 2) / mpp).astype(int)
        out = _shift(cells, int(step[0]), int(step[1]))
    elif mode == "warped":
        out = _warp(cells, rng.uniform(0.4, 1.2) / mpp, 6 / mpp, rng)
    return out


def _grow(labels: UInt32Array, pixels: float) -> UInt32Array:
    return np.asarray(expand_labels(labels, pixels), dtype=np.uint32)  # type: ignore[no-untyped-call]


def _shift(labels: UInt32Array, down: int, right: int) -> UInt32Array:
    """Shift labels; new pixels are background."""
    return np.asarray(ndi.shift(labels, (down, right), order=0), dtype=np.uint32)


def _warp(
    labels: UInt32Array, amount: float, scale: float, rng: np.random.Generator
) -> UInt32Array:
    """Displace pixels by smooth noise of ``amount`` pixels."""
    shape = (labels.shape[0], labels.shape[1])
    y, x = np.indices(shape)
    y = np.clip(y + amount * smooth_noise(shape, scale, rng), 0, shape[0] - 1).astype(np.int64)
    x = np.clip(x + amount * smooth_noise(shape, scale, rng), 0, shape[1] - 1).astype(np.int64)
    return np.asarray(labels[y, x])


def _add_errors(
    seen: UInt32Array, mpp: float, errors: float, rng: np.random.Generator
) -> UInt32Array:
    """Merge, split, remove and invent cells, and add tiny fragments."""
    n = int(seen.max())
    if n == 0:
        return seen
    seen = seen.copy()
    right = (seen[:, 1:] != seen[:, :-1]) & (seen[:, 1:] > 0) & (seen[:, :-1] > 0)
    at = np.flatnonzero(right.ravel())
    table = np.arange(n + 1, dtype=np.uint32)
    if len(at):
        picked = rng.choice(at, size=rng.poisson(0.02 * errors * n))
        y, x = np.unravel_index(picked, right.shape)
        table[seen[y, x]] = seen[y, x + 1]
    table[1:][rng.random(n) < 0.03 * errors] = 0
    seen = table[seen]
    rows, cols = np.indices(seen.shape, dtype=np.float32)
    period = rng.uniform(8, 14) / mpp
    angle = rng.uniform(0, np.pi)
    side = (
        np.floor((np.cos(angle) * cols + np.sin(angle) * rows) / period).astype(np.int64) % 2 == 0
    )
    is_split = np.concatenate([[False], rng.random(n) < 0.03 * errors])
    seen = np.where(is_split[seen] & side, seen + np.uint32(n), seen)
    for k in range(int(rng.poisson(0.02 * errors * n))):
        cy, cx = rng.integers(0, seen.shape[0] - 1), rng.integers(0, seen.shape[1] - 1)
        tiny = rng.random() < 0.6
        r = 1 if tiny else int(rng.uniform(3, 5) / mpp)
        box = seen[max(cy - r, 0) : cy + r, max(cx - r, 0) : cx + r]
        if tiny or not box.any():
            box[:] = np.uint32(2 * n + 1 + k)
    return seen
