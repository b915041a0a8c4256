"""Imperfect segmentations of a layout: the label images that people bring."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi
from scipy.spatial import cKDTree
from skimage.segmentation import expand_labels

from panimbus.core.types import UInt32Array
from panimbus.simulate.layout import Layout, warp

_PLAIN = ("exact", "full", "grown", "eroded", "nuclear", "nuclear_grown", "shifted", "warped")
OBSERVATIONS = (*_PLAIN, "nuclear_wide", "merged", "giant")
_SHARE = (0.13, 0.16, 0.12, 0.07, 0.07, 0.15, 0.06, 0.08, 0.07, 0.05, 0.04)


def draw_observation(rng: np.random.Generator) -> str:
    """Draw the kind of a label image for training, rare kinds included."""
    return str(rng.choice(OBSERVATIONS, p=_SHARE))


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
        One of `OBSERVATIONS`: how outlines deviate. ``nuclear_wide``: nuclei grown by 3 to 8 µm;
        ``merged``: many cells share a label with a neighbour; ``giant``: objects that span many
        cells. None draws one of the others.
    errors
        Factor on the frequency of merged, split, missed and invented cells; 0 = none.

    Returns
    -------
    (Y, X) uint32
        Observed labels with ids 1..m, which differ from the true ids.
    """
    if mode is None:
        mode = str(rng.choice(_PLAIN, p=(0.15, 0.2, 0.12, 0.08, 0.07, 0.2, 0.08, 0.1)))
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
    elif mode == "nuclear_wide":
        out[~layout.nuclei] = 0
        out = _grow(out, rng.uniform(3.0, 8.0) / mpp)
    elif mode == "merged":
        out = _merge(cells, int(rng.uniform(0.2, 0.5) * layout.n), rng)
    elif mode == "giant":
        out = _giants(cells, mpp, rng)
    elif mode == "shifted":
        step = np.rint(rng.uniform(-1.5, 1.5, 2) / mpp).astype(int)
        out = _shift(cells, int(step[0]), int(step[1]))
    elif mode == "warped":
        out = warp(cells, rng.uniform(0.4, 1.2) / mpp, 6 / mpp, rng)
    return out


def _grow(labels: UInt32Array, pixels: float) -> UInt32Array:
    return np.asarray(expand_labels(labels, pixels), dtype=np.uint32)  # type: ignore[no-untyped-call]


def _shift(labels: UInt32Array, down: int, right: int) -> UInt32Array:
    """Shift labels; new pixels are background."""
    return np.asarray(ndi.shift(labels, (down, right), order=0), dtype=np.uint32)


def _add_errors(
    seen: UInt32Array, mpp: float, errors: float, rng: np.random.Generator
) -> UInt32Array:
    """Merge, split, remove and invent cells, and add tiny fragments."""
    n = int(seen.max())
    if n == 0:
        return seen
    seen = seen.copy()
    table = _merged_ids(seen, None, 0.02 * errors * n, rng)
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


def _merged_ids(
    seen: UInt32Array, count: int | None, mean: float, rng: np.random.Generator
) -> UInt32Array:
    """(n + 1,) new id of each label after ``count`` (None: about ``mean``) pairs are merged."""
    right = (seen[:, 1:] != seen[:, :-1]) & (seen[:, 1:] > 0) & (seen[:, :-1] > 0)
    at = np.flatnonzero(right.ravel())
    table = np.arange(int(seen.max()) + 1, dtype=np.uint32)
    if len(at):
        picked = rng.choice(at, size=rng.poisson(mean) if count is None else count)
        y, x = np.unravel_index(picked, right.shape)
        table[seen[y, x]] = seen[y, x + 1]
    return table


def _merge(cells: UInt32Array, count: int, rng: np.random.Generator) -> UInt32Array:
    return np.asarray(_merged_ids(cells, count, 0, rng)[cells])


def _giants(cells: UInt32Array, mpp: float, rng: np.random.Generator) -> UInt32Array:
    """Merge all cells within 10 to 30 µm of some points: clumps that were not split."""
    n = int(cells.max())
    if n == 0:
        return cells
    centre = np.array(ndi.center_of_mass(cells > 0, cells, np.arange(1, n + 1)))
    radius = rng.uniform(10, 30) / mpp
    share = rng.uniform(0.05, 0.4)
    count = int(share * cells.size / (np.pi * radius**2)) + 1
    gap, at = cKDTree(rng.random((count, 2)) * cells.shape).query(centre)
    nearest = np.atleast_1d(at)
    joined = np.atleast_1d(gap) < radius
    table = np.arange(n + 1, dtype=np.uint32)
    first = np.zeros(count, dtype=np.uint32)
    first[nearest[joined]] = table[1:][joined]
    table[1:][joined] = first[nearest[joined]]
    return np.asarray(table[cells])
