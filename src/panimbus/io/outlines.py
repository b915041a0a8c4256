"""Outlines of cells: a label image as polygons on pixel edges, all cells at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.fov import ArrayLike
from panimbus.core.labels import CellIndex, unique_ids
from panimbus.core.types import Array

Ring = npt.NDArray[np.int64]
Polygons = list[list[Ring]]
_STEP = ((0, 1), (1, 0), (0, -1), (-1, 0))  # (dy, dx) of the directions right, down, left, up
_OUTSIDE = (
    (-1, 0),
    (0, 1),
    (1, 0),
    (0, -1),
)  # the pixel across the edge that runs in that direction
_START = ((0, 0), (0, 1), (1, 1), (1, 0))  # the corner of the pixel where that edge begins


def trace_outlines(labels: Array) -> dict[int, Polygons]:
    """Trace every cell of a label image along its pixels' edges.

    Pixel (y, x) covers x..x+1, y..y+1, so a cell of one pixel is a unit square and painting the
    polygons back gives the label image again. Parts of a cell that touch only at a corner are
    separate polygons; holes are kept. No ring meets itself.

    Parameters
    ----------
    labels : (Y, X) integer, 0 = background

    Returns
    -------
    dict
        For each label, sorted: its polygons; a polygon is a list of rings (outer first, then
        holes); a ring is (k, 2) int64 of x, y in pixels, corners only, not closed. Outer rings have
        a positive shoelace area, holes a negative one.

    Examples
    --------
    >>> import numpy as np
    >>> outlines = trace_outlines(np.array([[0, 7, 7]]))
    >>> [[ring.tolist() for ring in polygon] for polygon in outlines[7]]
    [[[[1, 0], [3, 0], [3, 1], [1, 1]]]]
    """
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        raise InputError(
            "a label image must be (Y, X) integers.", got=f"shape {labels.shape}, {labels.dtype}"
        )
    ids = unique_ids(labels)
    if not len(ids):
        return {}
    cell, direction, vertex, width = _edges(CellIndex(ids)(labels))
    following = _following(cell, direction, vertex, width)
    rank, root = _ranks(following)
    points, cuts = _rings(rank, root, direction, vertex, width)
    names = ids.tolist()
    out: dict[int, Polygons] = {i: [] for i in names}
    holes: dict[int, list[Ring]] = {}
    knots, area = _self_touching(points, cuts, width), _areas(points, cuts)
    for k, owner in enumerate(cell[root].tolist()):
        ring = points[cuts[k] : cuts[k + 1]]
        for simple, size in (
            [(s, float(_areas(s, [0])[0])) for s in _simple(ring)]
            if knots[k]
            else [(ring, area[k])]
        ):
            if size > 0:
                out[names[owner]].append([simple])
            else:
                holes.setdefault(names[owner], []).append(simple)
    for label, inner in holes.items():
        for ring in inner:
            _around(out[label], ring).append(ring)
    return out


def trace_outlines_by_band(labels: ArrayLike, rows: int = 1024) -> dict[int, Polygons]:
    """Trace the cells of an image that need not fit into memory, band by band.

    Parameters
    ----------
    labels : (Y, X) integer, lazy
    rows
        Height of a band. Memory holds a band and what its cells reach into.
    """
    height, width = (int(n) for n in labels.shape)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for top in range(0, height, rows):
        for label in unique_ids(
            np.asarray(labels[top : min(top + rows, height), 0:width])
        ).tolist():
            first.setdefault(label, top)
            last[label] = top
    begun: dict[int, list[int]] = {}
    for label, top in first.items():
        begun.setdefault(top, []).append(label)
    out: dict[int, Polygons] = {}
    for top, starting in begun.items():
        window = np.asarray(
            labels[top : min(max(last[label] for label in starting) + rows, height), 0:width]
        )
        alone = np.where(np.isin(window, np.array(starting, window.dtype)), window, 0)
        corner = np.array([0, top])
        for label, polygons in trace_outlines(alone).items():
            out[label] = [[ring + corner for ring in rings] for rings in polygons]
    return dict(sorted(out.items()))


def _edges(index: npt.NDArray[np.int32]) -> tuple[Array, Array, Array, int]:
    """Cell, direction and first vertex of each pixel edge, the cell on its right; sorted."""
    padded = np.pad(index, 1, constant_values=-1)
    width = index.shape[1] + 1
    parts = []
    for direction, ((oy, ox), (sy, sx)) in enumerate(zip(_OUTSIDE, _START, strict=True)):
        across = padded[1 + oy : 1 + oy + index.shape[0], 1 + ox : 1 + ox + index.shape[1]]
        y, x = np.nonzero((index >= 0) & (index != across))
        parts.append((index[y, x], np.full(len(y), direction, np.int8), (y + sy) * width + x + sx))
    cell, direction_, vertex = (np.concatenate(column) for column in zip(*parts, strict=True))
    return cell, direction_, vertex, width


def _following(cell: Array, direction: Array, vertex: Array, width: int) -> Array:
    """Next edge of each: right if the cell has one there (corners do not join), ahead or left."""
    bounds = np.searchsorted(direction, np.arange(5))
    out = np.full(len(cell), -1, np.int64)
    for d, (dy, dx) in enumerate(_STEP):
        edges = np.arange(bounds[d], bounds[d + 1])
        end = vertex[edges] + dy * width + dx
        for turn in (1, 0, 3):
            c = (d + turn) % 4
            starts = vertex[bounds[c] : bounds[c + 1]]
            at = np.minimum(np.searchsorted(starts, end), max(len(starts) - 1, 0))
            hit = (starts[at] == end) & (cell[at + bounds[c]] == cell[edges])
            out[edges[hit]] = at[hit] + bounds[c]
            edges, end = edges[~hit], end[~hit]
    return out


def _ranks(following: Array) -> tuple[Array, Array]:
    """Position of each edge in the concatenated rings, and the first edge of each ring.

    Cycles are numbered by pointer doubling, which needs as many rounds as the longest ring has
    binary digits.
    """
    n = len(following)
    lowest, jump = np.arange(n), following
    while True:
        new = np.minimum(lowest, lowest[jump])
        if np.array_equal(new, lowest) and np.array_equal(lowest, lowest[following]):
            break
        lowest, jump = new, jump[jump]
    own = lowest == np.arange(n)
    ahead = np.where(own, 0, 1)  # steps until the ring's first edge
    jump = np.where(own, np.arange(n), following)
    while not own[jump].all():
        ahead += ahead[jump]
        jump = jump[jump]
    root = np.flatnonzero(own)
    length = np.bincount(lowest, minlength=n)
    first = np.zeros(n, np.int64)
    first[root] = np.cumsum(length[root]) - length[root]
    return first[lowest] + np.where(own, 0, length[lowest] - ahead), root


def _rings(
    rank: Array, root: Array, direction: Array, vertex: Array, width: int
) -> tuple[Array, list[int]]:
    """Corners (x, y) of all rings, concatenated, and the offset of each ring and the end."""
    turn, corner = np.empty_like(direction), np.empty_like(vertex)
    turn[rank], corner[rank] = direction, vertex
    starts = rank[root]
    before = np.empty_like(turn)
    before[1:] = turn[:-1]
    before[starts] = turn[np.append(starts[1:], len(turn)) - 1]
    keep = turn != before
    points = np.stack([corner[keep] % width, corner[keep] // width], 1)
    cuts = np.concatenate([[0], np.cumsum(keep)])[np.append(starts, len(turn))]
    return points, cuts.tolist()


def _self_touching(points: Array, cuts: list[int], width: int) -> Array:
    """Mask of the rings that pass a corner twice."""
    ring = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    key = points[:, 1] * width + points[:, 0]
    order = np.lexsort((key, ring))
    twice = (np.diff(key[order]) == 0) & (np.diff(ring[order]) == 0)
    out = np.zeros(len(cuts) - 1, np.bool_)
    out[ring[order][1:][twice]] = True
    return out


def _areas(points: Array, starts: list[int]) -> Array:
    """Shoelace area of each ring; ``starts`` may end with the number of points."""
    begin = np.array([s for s in starts if s < len(points)])
    after = np.arange(1, len(points) + 1)
    after[np.append(begin[1:], len(points)) - 1] = begin
    x, y = points.T
    return np.add.reduceat(x * y[after] - x[after] * y, begin) / 2


def _simple(ring: Ring) -> list[Ring]:
    """Cut a ring that meets itself at a corner into rings that do not."""
    out: list[Ring] = []
    path: list[tuple[int, ...]] = []
    seen: dict[tuple[int, ...], int] = {}
    for point in map(tuple, ring.tolist()):
        if point in seen:
            start = seen[point]
            out.append(np.array(path[start:], np.int64))
            for gone in path[start + 1 :]:
                del seen[gone]
            del path[start + 1 :]
        else:
            seen[point] = len(path)
            path.append(point)
    return [*out, np.array(path, np.int64)]


def _around(polygons: Polygons, hole: Ring) -> list[Ring]:
    """The smallest polygon whose outer ring contains a point just outside the hole."""
    if len(polygons) == 1:
        return polygons[0]
    (x0, y0), (x1, y1) = hole[0], hole[1]  # the cell lies to the right of the edge
    dx, dy = np.sign(x1 - x0), np.sign(y1 - y0)
    px, py = x0 + 0.5 * dx - 0.25 * dy, y0 + 0.5 * dy + 0.25 * dx
    inside = [p for p in polygons if is_inside(p[0], px, py)]
    return min(inside, key=lambda p: float(_areas(p[0], [0])[0]))


def is_inside(ring: Array, x: float, y: float) -> bool:
    """Whether a point lies inside a ring of points (x, y)."""
    from skimage.measure import points_in_poly

    return bool(points_in_poly([(x, y)], ring)[0])  # type: ignore[no-untyped-call]
