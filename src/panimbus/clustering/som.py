"""A self-organising map in batches: a few hundred nodes that stand for all cells.

The map is Kohonen's batch SOM: in each epoch every cell goes to its nearest node, then every node
becomes the mean of its own and its neighbours' cells. The neighbourhood shrinks to zero, so the
last epochs are k-means. FlowSOM (Van Gassen et al., 2015) moves nodes after every single cell
instead; in batches the search is a matrix product and the order of the cells does not matter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from threadpoolctl import threadpool_limits

from panimbus.core.errors import InputError
from panimbus.core.types import Float32Array, Float64Array, Int32Array, Int64Array

_Map = Callable[..., Iterator[Any]]

_CHUNK = 4096  # cells whose distances to all nodes fit the cache
_BLOCK = (
    16 * _CHUNK
)  # cells of one task: fixed, so that sums do not depend on the number of threads
_ORDERING = 100  # cells per node that the ordering epochs look at
_LARGEST = 1e15  # the square fits float32


@dataclass(frozen=True, eq=False)
class Som:
    """A fitted map.

    Attributes
    ----------
    codes : (n_nodes, C) float32
        Profile of each node, in the units of the data; node ``r * grid[1] + c`` sits in row r,
        column c of the grid.
    sizes : (n_nodes,) int64
        Cells of the fit that are nearest to each node; 0 = the node stands for nothing.
    nodes : (n,) int32
        Node of each cell of the fit.
    quantisation_error : float
        Mean Euclidean distance of the fit's cells to their nodes.
    grid : (rows, columns)
    """

    codes: Float32Array = field(repr=False)
    sizes: Int64Array = field(repr=False)
    nodes: Int32Array = field(repr=False)
    quantisation_error: float
    grid: tuple[int, int]


@dataclass
class _Sums:
    """Sums of one pass over cells.

    Per node: the number of its cells, the sum of their squared norms, and their sum.
    """

    count: npt.NDArray[Any]
    squares: npt.NDArray[Any]
    total: npt.NDArray[Any]

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> _Sums:
        return cls(np.zeros(shape[0], np.int64), np.zeros(shape[0]), np.zeros(shape))

    def add(self, other: _Sums) -> None:
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def means(self, codes: Float32Array) -> Float32Array:
        """(n_nodes, C) mean of each node's cells; a node without cells keeps its code."""
        mean = self.total / np.maximum(self.count, 1)[:, None]
        return np.where(self.count[:, None] > 0, mean, codes).astype(np.float32)

    def spread(self) -> Float64Array:
        """(n_nodes,) squared distances of each node's cells to their mean, summed."""
        norm: Float64Array = (self.total**2).sum(1) / np.maximum(self.count, 1)
        return np.maximum(self.squares - norm, 0)


def fit_som(
    x: npt.ArrayLike,
    grid: tuple[int, int] = (15, 15),
    *,
    seed: int = 0,
    epochs: int = 20,
    threads: int = 0,
) -> Som:
    """Fit a batch self-organising map.

    Parameters
    ----------
    x : (n, C) float
        One row per cell; columns on comparable scales (scores are). Taken as float32.
    grid
        Rows and columns of the map.
    seed
        The same seed gives the same map, on any number of threads.
    epochs
        Passes over the cells. The first half orders the map, on a sample of the cells if there are
        many, with a Gaussian neighbourhood that shrinks from a quarter of the grid; the second half
        has no neighbourhood and sees all cells.
    threads
        0 = all cores.

    Returns
    -------
    Som

    Examples
    --------
    >>> som = fit_som([[0.0, 0.1], [0.1, 0.0], [0.9, 1.0], [1.0, 0.9]], grid=(1, 2))
    >>> som.sizes.tolist(), bool(som.nodes[0] == som.nodes[1])
    ([2, 2], True)
    """
    cells = _checked(x)
    n_nodes = _check_grid(grid, epochs, len(cells))
    rng = np.random.default_rng(seed)
    centre = cells.mean(0, dtype=np.float64).astype(
        np.float32
    )  # distances by a product lose digits far from 0
    with _workers(threads) as run:
        few = _sample(cells, _ORDERING * n_nodes, rng)
        codes = _ordered(few, centre, grid, epochs // 2, run)
        for last in range(epochs - epochs // 2 - 1, -1, -1):
            sums = _pass(cells, centre, codes, run)
            codes = sums.means(codes)
            if last:
                codes = _revived(sums, codes, rng)
        nodes, error = _nearest(cells, centre, codes, run)
    sizes = np.bincount(nodes, minlength=n_nodes).astype(np.int64)
    return Som(codes + centre, sizes, nodes, error, (int(grid[0]), int(grid[1])))


def _checked(x: npt.ArrayLike) -> npt.NDArray[Any]:
    cells = np.asarray(x)
    if cells.ndim != 2 or cells.shape[1] == 0 or cells.dtype.kind not in "fiub":
        raise InputError(
            "A map needs a table of numbers.",
            expected="(cells, markers)",
            got=f"{cells.dtype} {cells.shape}",
        )
    for start in range(0, len(cells), _BLOCK):
        block = cells[start : start + _BLOCK]
        bad = ~(np.abs(block.max(0)) < _LARGEST) | ~(
            np.abs(block.min(0)) < _LARGEST
        )  # NaN spreads to both
        if bad.any():
            column = int(np.flatnonzero(bad)[0])
            rows = np.flatnonzero(~(np.abs(block[:, column]) < _LARGEST))
            raise InputError(
                f"Column {column} of the table has values that are NaN, infinite or too large.",
                expected="finite numbers",
                got=f"{block[rows[0], column]} in row {start + rows[0]}",
                fix="leave those cells or that marker out",
            )
    return cells if cells.dtype == np.float32 else cells.astype(np.float32)


def _check_grid(grid: tuple[int, int], epochs: int, n: int) -> int:
    if len(grid) != 2 or min(grid) < 1:
        raise InputError(
            "The grid of the map is not valid.",
            expected="two numbers of at least 1, e.g. (15, 15)",
            got=str(grid),
        )
    if epochs < 2:
        raise InputError("The map needs more epochs.", expected="at least 2", got=str(epochs))
    n_nodes = int(grid[0]) * int(grid[1])
    if n < n_nodes:
        side = max(int(np.sqrt(n / 10)), 1)
        raise InputError(
            "There are fewer cells than nodes of the map.",
            expected=f"at least {n_nodes:,} cells for a grid of {grid[0]} x {grid[1]}",
            got=f"{n:,} cells",
            fix=f"choose a smaller grid, e.g. {side}x{side}" if n > 1 else "pass more cells",
        )
    return n_nodes


def _sample(cells: Float32Array, size: int, rng: np.random.Generator) -> Float32Array:
    if len(cells) <= size:
        return cells
    return cells[np.sort(rng.choice(len(cells), size, replace=False))]


def _plane(cells: Float32Array, centre: Float32Array, grid: tuple[int, int]) -> Float32Array:
    """Nodes on the plane of the first two principal components, up to two standard deviations."""
    values, vectors = np.linalg.eigh(
        np.cov(cells - centre, rowvar=False).reshape(cells.shape[1], -1)
    )
    axes = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))  # (C, C), largest first
    axes *= np.where(
        axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1
    )  # a sign is arbitrary in LAPACK
    long, short = axes[:, 0], axes[:, 1] if axes.shape[1] > 1 else np.zeros_like(axes[:, 0])
    if grid[0] < grid[1]:
        long, short = short, long
    r, c = (np.linspace(-2, 2, k) if k > 1 else np.zeros(1) for k in grid)
    plane = r[:, None, None] * long + c[None, :, None] * short
    return np.asarray(plane.reshape(-1, cells.shape[1]), np.float32)


def _ordered(
    cells: Float32Array, centre: Float32Array, grid: tuple[int, int], epochs: int, run: _Map
) -> Float32Array:
    """Epochs with a neighbourhood.

    Each node becomes the mean of all cells, weighted by the kernel at their nodes.
    """
    codes = _plane(cells, centre, grid)
    rows, cols = np.divmod(np.arange(len(codes)), grid[1])
    apart = ((rows[:, None] - rows) ** 2 + (cols[:, None] - cols) ** 2).astype(np.float64)
    for sigma in np.geomspace(max(*grid, 2) / 4, 0.4, epochs):
        sums = _pass(cells, centre, codes, run)
        kernel = np.exp(-apart / (2 * sigma**2))
        weight = kernel @ sums.count
        mean = (kernel @ sums.total) / np.maximum(weight, 1e-9)[:, None]
        codes = np.where(weight[:, None] > 1e-9, mean, codes).astype(np.float32)
    return codes


def _revived(sums: _Sums, codes: Float32Array, rng: np.random.Generator) -> Float32Array:
    """Move nodes without cells next to those with the largest spread, to share their cells."""
    empty = np.flatnonzero(sums.count == 0)
    spread = sums.spread()
    worst = np.argsort(-spread, kind="stable")[: len(empty)]
    worst = worst[spread[worst] > 1e-6 * sums.squares[worst]]
    codes = codes.copy()
    for node, crowded in zip(empty, worst, strict=False):
        step = rng.standard_normal(codes.shape[1])
        step *= 0.5 * np.sqrt(spread[crowded] / sums.count[crowded]) / np.linalg.norm(step)
        codes[node] = codes[crowded] + step
    return codes


def _pass(cells: Float32Array, centre: Float32Array, codes: Float32Array, run: _Map) -> _Sums:
    """Sums of one pass over all cells."""
    nearest = _searcher(codes)

    def work(start: int) -> _Sums:
        sums = _Sums.zeros(codes.shape)
        for chunk in _chunks(cells, start, centre):
            nodes = nearest(chunk)
            at = (np.ones(len(nodes), np.float32), nodes, np.arange(len(nodes) + 1))
            total = sparse.csr_array(at, (len(nodes), len(codes))).T @ chunk
            norms = np.einsum("ij,ij->i", chunk, chunk)
            sums.add(
                _Sums(
                    np.bincount(nodes, minlength=len(codes)),
                    np.bincount(nodes, norms, len(codes)),
                    total,
                )
            )
        return sums

    out = _Sums.zeros(codes.shape)
    for part in run(work, range(0, len(cells), _BLOCK)):
        out.add(part)
    return out


def _nearest(
    cells: Float32Array, centre: Float32Array, codes: Float32Array, run: _Map
) -> tuple[Int32Array, float]:
    """Node of each cell, and the mean distance between them."""
    nearest = _searcher(codes)
    nodes = np.empty(len(cells), np.int32)

    def work(start: int) -> float:
        distance = 0.0
        for k, chunk in enumerate(_chunks(cells, start, centre)):
            closest = nearest(chunk)
            nodes[start + k * _CHUNK :][: len(closest)] = closest
            off = chunk - codes[closest]
            distance += float(np.sqrt(np.einsum("ij,ij->i", off, off)).sum(dtype=np.float64))
        return distance

    total = sum(run(work, range(0, len(cells), _BLOCK)))
    return nodes, total / max(len(cells), 1)


def _searcher(codes: Float32Array) -> Callable[[Float32Array], npt.NDArray[np.intp]]:
    """A function that finds the nearest of ``codes``.

    The largest x.w - |w|²/2, as |x|² is the same for all.
    """
    across = np.ascontiguousarray(codes.T)
    half = (0.5 * np.einsum("ij,ij->i", codes, codes)).astype(np.float32)

    def nearest(chunk: Float32Array) -> npt.NDArray[np.intp]:
        likeness = chunk @ across
        likeness -= half
        nodes: npt.NDArray[np.intp] = likeness.argmax(1)
        return nodes

    return nearest


def _chunks(cells: Float32Array, start: int, centre: Float32Array) -> Iterator[Float32Array]:
    """The block of cells that begins at ``start``, centred, in chunks."""
    stop = min(start + _BLOCK, len(cells))
    for at in range(start, stop, _CHUNK):
        yield cells[at : min(at + _CHUNK, stop)] - centre


@contextmanager
def _workers(threads: int) -> Iterator[_Map]:
    """A ``map`` on threads, in order.

    BLAS itself gets one thread: its sums would change with their number.
    """
    available = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or available) as pool:
        yield pool.map
