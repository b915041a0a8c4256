"""Consensus clustering of the nodes of a self-organising map into metaclusters.

After Monti et al. (2003): many subsamples of the nodes are grouped; how often
two nodes end up in one group is their co-association, and the metaclusters are a linkage on that.
The proportion of ambiguous pairs (PAC) is that of Şenbabaoğlu et al. (2014), the stability of a
metacluster the mean Jaccard index of Hennig (2007).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import cdist, pdist, squareform
from threadpoolctl import threadpool_limits

from panimbus.core.errors import InputError
from panimbus.core.types import Float32Array, Float64Array, Int32Array

SHARE = 0.8  # of the nodes in a run, on average
_RANGE = (0.5, 0.95)  # no node is in fewer or more of the runs
_HANDFUL = (
    5  # cells; a node of fewer is an outlier, and average linkage would spend a metacluster on each
)
_BORROWED = 20  # cells' worth that a node's profile takes from the nodes next to it
_NEXT = 0.02  # of the nodes with cells
_AMBIGUOUS = (0.1, 0.9)
_TOLERANCE = 0.1  # of the widest silhouette
_FLOOR = 0.5  # of the largest standard deviation: z-scoring would inflate the noise of rare markers


@dataclass(frozen=True, eq=False)
class Consensus:
    """Metaclusters of nodes.

    Attributes
    ----------
    labels : (n_nodes,) int32
        Metacluster of each node, 0..k-1, the one with most cells first; -1 = a node without cells,
        which belongs nowhere.
    k : int
    stability : (k,) float64, 0..1
        Mean over the runs of the Jaccard index, in cells, between the metacluster and its best
        match. Above 0.75 it is found whichever nodes are left out; below 0.5 it is an accident.
    co_association : (n_nodes, n_nodes) float32, 0..1
        Share of the runs with both nodes that put them together, at this k; 0 for nodes that took
        no part.
    pac, silhouette : number of metaclusters -> 0..1, -1..1
        Share of the pairs of nodes that are neither nearly always nor nearly never together; mean
        silhouette width of the nodes' profiles, from which the number of metaclusters is proposed.
    profiles : (n_nodes, C) float32
        z-scores the grouping was done on: of `shrunken` codes.
    """

    labels: Int32Array = field(repr=False)
    k: int
    stability: Float64Array
    co_association: Float32Array = field(repr=False)
    pac: Mapping[int, float] = field(repr=False)
    silhouette: Mapping[int, float] = field(repr=False)
    profiles: Float32Array = field(repr=False)


def node_profiles(codes: npt.ArrayLike, sizes: npt.ArrayLike, *, cap: float = 3.0) -> Float32Array:
    """z-score of each marker over the cells that the nodes stand for, clipped to ± ``cap``.

    Parameters
    ----------
    codes : (n_nodes, C) float
    sizes : (n_nodes,) int
        Cells of each node: its weight in mean and standard deviation.
    cap

    Returns
    -------
    (n_nodes, C) float32
        0 in constant markers. A standard deviation below half the largest counts as that half.

    Examples
    --------
    >>> node_profiles([[0.0, 5.0], [1.0, 5.0]], [3, 1]).astype(float).round(3).tolist()
    [[-0.577, 0.0], [1.732, 0.0]]
    """
    values, weight = np.asarray(codes, np.float64), np.asarray(sizes, np.float64)
    values = values - np.average(values, axis=0, weights=weight)
    spread = np.sqrt(np.average(values**2, axis=0, weights=weight))
    floor = max(_FLOOR * float(spread.max()), 1e-12)
    return np.asarray(np.clip(values / np.maximum(spread, floor), -cap, cap), np.float32)


def shrunken(codes: npt.ArrayLike, sizes: npt.ArrayLike) -> Float64Array:
    """Codes shrunken towards their neighbours, as the mean of a few cells is noisy.

    Each node with cells is averaged with the mean of the cells of its neighbours (the nearest 2 %
    of the nodes with cells), which counts as 20 cells: much where nodes have tens of cells, nothing
    where they have thousands. A map of fewer than 50 nodes is left as it is: the nearest ones may
    well be another population there.

    Parameters
    ----------
    codes : (n_nodes, C) float
    sizes : (n_nodes,) int
        Cells of each node.

    Returns
    -------
    (n_nodes, C) float64

    Examples
    --------
    >>> codes = np.append(np.zeros(50), [0.7, 9.0])[:, None]
    >>> shrunken(codes, [*[5] * 50, 5, 10_000])[-2:, 0].round(2).tolist()
    [0.14, 8.98]
    """
    values, weight = np.array(codes, np.float64), np.asarray(sizes, np.float64)
    live = np.flatnonzero(weight > 0)
    count = int(_NEXT * len(live))
    if count < 1:
        return values
    distance = squareform(pdist(values[live]))
    np.fill_diagonal(distance, np.inf)
    near = live[np.argsort(distance, axis=1, kind="stable")[:, :count]]  # (n_live, count)
    mean = (weight[near][..., None] * values[near]).sum(1) / weight[near].sum(1)[:, None]
    own = weight[live][:, None]
    values[live] = (own * values[live] + _BORROWED * mean) / (own + _BORROWED)
    return values


def consensus(
    codes: npt.ArrayLike,
    sizes: npt.ArrayLike,
    k: int | None = None,
    *,
    k_min: int = 2,
    k_max: int = 30,
    runs: int = 100,
    seed: int = 0,
) -> Consensus:
    """Group the nodes of a map into metaclusters.

    Each run draws about 80 % of the nodes (a node's chance grows with the root of its number of
    cells, from 50 to 95 %) and groups the z-scores of their `shrunken` codes by average linkage,
    which keeps a small group apart if it is far from all others. The co-association of the runs is
    linked by the average as well. Nodes of fewer than 5 cells take no part and join the metacluster
    of the node most like them.

    Parameters
    ----------
    codes : (n_nodes, C) float
    sizes : (n_nodes,) int
        Cells of each node.
    k
        Number of metaclusters; None proposes the largest, up to ``k_max``, whose silhouette is
        within 10 % of the widest: two metaclusters of one type are merged by giving them one name,
        two types in one metacluster are lost. PAC is reported beside it; its minimum is at either
        very few metaclusters or as many as there may be.
    k_min, k_max
        Smallest and largest number to propose: never fewer than there are types to tell.
    runs
        Subsamples.
    seed

    Returns
    -------
    Consensus

    Examples
    --------
    >>> result = consensus([[0.0], [0.1], [1.0], [0.9], [0.5]], [9, 9, 5, 5, 0])
    >>> result.k, result.labels.tolist()
    (2, [0, 0, 1, 1, -1])
    """
    values, weight = _checked(codes, sizes, runs)
    live = np.flatnonzero(weight > 0)
    if k_max < 2 or (k is not None and not 1 <= k <= len(live)):
        raise InputError(
            "The map has no such number of metaclusters.",
            expected=f"k from 1 to {len(live)} (nodes with cells), k_max at least 2",
            got=f"k = {k}, k_max = {k_max}",
        )
    profiles = _profiles(values, weight)
    part = _taking_part(weight, k or 2)
    largest = min(max(k_max, k_min, k or 0), len(part))
    with threadpool_limits(
        1, user_api="blas"
    ):  # as in the map: the same numbers on any machine's number of cores
        grouped = _Runs.draw(
            values[part], weight[part], profiles[part], largest=largest, runs=runs, seed=seed
        )
        pac, silhouette = {}, {}
        for n in range(2, largest + 1):
            together = grouped.together(n)
            pac[n] = _pac(together)
            silhouette[n] = _silhouette(grouped.distance, grouped.groups(together, n), n)
        if k is None:
            k = _proposed(silhouette, k_min) if grouped.distance.any() else 1
        together = grouped.together(k)
        group = grouped.groups(together, k)
        stability = grouped.stability(group, k)
    whole = np.zeros((len(weight), len(weight)), np.float32)
    whole[np.ix_(part, part)] = together
    labels = np.full(len(weight), -1, np.int32)
    labels[live] = group[cdist(profiles[live], profiles[part]).argmin(1)]
    labels[part] = group
    order = np.argsort(-np.bincount(labels[live], weight[live], k), kind="stable")
    labels[live] = np.argsort(order)[labels[live]]
    return Consensus(labels, k, stability[order], whole, pac, silhouette, profiles)


def _profiles(codes: Float64Array, weight: Float64Array) -> Float32Array:
    return node_profiles(shrunken(codes, weight), weight)


def _taking_part(weight: Float64Array, k: int) -> npt.NDArray[np.intp]:
    """Nodes that take part: those with a handful of cells, unless too few have that many."""
    part = np.flatnonzero(weight >= _HANDFUL)
    live = np.flatnonzero(weight > 0)
    return part if len(part) >= max(k, len(live) / 2) else live


@dataclass(frozen=True, eq=False)
class _Runs:
    """Groupings of subsamples of the nodes that have cells.

    Attributes
    ----------
    weight : (n,) float64
        Cells of each node.
    distance : (n, n) float64
        Of the profiles.
    drawn : (runs, n) bool
    cuts : (runs, largest, n) int16
        Cluster of each node when the run is cut into 1, 2, ... clusters; -1 = not drawn.
    """

    weight: Float64Array
    distance: Float64Array
    drawn: npt.NDArray[np.bool_]
    cuts: npt.NDArray[np.int16]

    @property
    def largest(self) -> int:
        return int(self.cuts.shape[1])

    @classmethod
    def draw(
        cls,
        codes: Float64Array,
        weight: Float64Array,
        profiles: Float32Array,
        *,
        largest: int,
        runs: int,
        seed: int,
    ) -> _Runs:
        """Each run has profiles of its own, as if the map had no other nodes.

        What is borrowed is resampled, too.
        """
        rng = np.random.default_rng(seed)
        n = len(weight)
        chance = np.clip(SHARE * np.sqrt(weight) / np.sqrt(weight).mean(), *_RANGE)
        distance = np.asarray(squareform(pdist(profiles)), np.float64)
        drawn = rng.random((runs, n)) < chance
        drawn[drawn.sum(1) < 2] = True
        cuts = np.full((runs, largest, n), -1, np.int16)
        for r in range(runs):
            at = np.flatnonzero(drawn[r])
            cuts[r][:, at] = _cut(squareform(pdist(_profiles(codes[at], weight[at]))), largest)
        return cls(weight, distance, drawn, cuts)

    def together(self, k: int) -> Float32Array:
        """(n, n) share of the runs with both nodes in which they were in one of k clusters."""
        member = (self.cuts[:, k - 1, :, None] == np.arange(k, dtype=np.int16)).astype(np.float32)
        member = np.ascontiguousarray(member.transpose(1, 0, 2)).reshape(len(self.weight), -1)
        drawn = self.drawn.astype(np.float32)
        share = (member @ member.T) / np.maximum(drawn.T @ drawn, 1)
        np.fill_diagonal(share, 1)
        return np.asarray(share, np.float32)

    def groups(self, together: Float32Array, k: int) -> Int32Array:
        """(n,) k clusters of the co-association; equal shares are told apart by distance."""
        apart = 1 - together.astype(np.float64)
        if self.distance.any():
            apart += 1e-3 * self.distance / self.distance.max()
        groups: Int32Array = _cut(apart, k)[k - 1].astype(np.int32)
        return groups

    def stability(self, groups: Int32Array, k: int) -> Float64Array:
        """(k,) mean over the runs of each cluster's best Jaccard index with one of the run."""
        own = np.eye(k)[groups] * self.weight[:, None]  # (n, k)
        total, seen = np.zeros(k), np.zeros(k)
        for drawn, cut in zip(self.drawn, self.cuts[:, k - 1], strict=True):
            run = cut[drawn][:, None] == np.arange(k)
            both = own[drawn].T @ run
            either = both.sum(1, keepdims=True) + (self.weight[drawn] @ run) - both
            present = both.sum(1) > 0
            total[present] += (both[present] / np.maximum(either[present], 1e-300)).max(1)
            seen += present
        return total / np.maximum(seen, 1)


def _cut(distance: Float64Array, largest: int) -> npt.NDArray[np.int16]:
    """(largest, n) clusters of the average linkage of an (n, n) distance.

    Row k - 1 has exactly k of them, or n if that is fewer.

    As ``scipy.cluster.hierarchy.cut_tree``, which takes ten times as long; ``fcluster`` makes fewer
    clusters where heights tie.
    """
    n = len(distance)
    tree = (
        linkage(squareform(distance, checks=False), "average")[:, :2].astype(np.int64)
        if n > 1
        else np.zeros((0, 2), np.int64)
    )
    out = np.empty((largest, n), np.int16)
    owner = np.arange(n)
    for merged in range(n):
        if n - merged <= largest:
            out[n - merged - 1 : None if merged == 0 else n - merged] = np.unique(
                owner, return_inverse=True
            )[1]
        if merged < n - 1:
            owner[(owner == tree[merged, 0]) | (owner == tree[merged, 1])] = n + merged
    return out


def _proposed(silhouette: Mapping[int, float], k_min: int = 2) -> int:
    """Largest number of clusters from ``k_min`` on with a silhouette within 10 % of the best."""
    enough = {n: width for n, width in silhouette.items() if n >= min(k_min, max(silhouette))}
    widest = max(enough.values())
    return max(n for n, width in enough.items() if width >= widest - _TOLERANCE * abs(widest))


def _pac(together: Float32Array) -> float:
    pairs = together[np.triu_indices(len(together), 1)]
    return float(((pairs > _AMBIGUOUS[0]) & (pairs < _AMBIGUOUS[1])).mean())


def _silhouette(distance: Float64Array, groups: Int32Array, k: int) -> float:
    """Mean silhouette width (Rousseeuw 1987); 0 for a node alone in its cluster."""
    member = np.eye(k)[groups]
    size = member.sum(0)
    total = distance @ member
    own = np.arange(len(groups)), groups
    within = total[own] / np.maximum(size[groups] - 1, 1)
    mean = total / size
    mean[own] = np.inf
    nearest = mean.min(1)
    width = (nearest - within) / np.maximum(np.maximum(nearest, within), 1e-12)
    return float(np.where(size[groups] > 1, width, 0).mean())


def _checked(
    codes: npt.ArrayLike, sizes: npt.ArrayLike, runs: int
) -> tuple[Float64Array, Float64Array]:
    values, weight = np.asarray(codes, np.float64), np.asarray(sizes, np.float64)
    problems = []
    if values.ndim != 2 or weight.shape != values.shape[:1]:
        problems.append(
            f"codes are {values.shape} and sizes {weight.shape}; they should be (n_nodes, markers)"
            " and (n_nodes,)"
        )
    if not (np.isfinite(values).all() and np.isfinite(weight).all() and (weight >= 0).all()):
        problems.append("codes or sizes are NaN, infinite or negative numbers of cells")
    elif not (weight > 0).any():
        problems.append("no node has cells")
    if runs < 10:
        problems.append(
            f"{runs} runs are too few to count in how many of them two nodes are together; 10 is"
            " the least"
        )
    if problems:
        raise InputError("The nodes cannot be grouped.", got="; ".join(problems))
    return values, weight
