"""What makes calls go wrong.

Mutual information between a cell's surroundings and the errors (definitions of the Nimbus paper).

Cell size: pixels of the cell. Marker heterogeneity: coefficient of variation of the mean
intensities of a FOV's cells in a channel. Marker rarity: share of positive cells of a marker and
FOV. Marker sparsity: positive cells within 120 px. Cell density: cells within 120 px. The estimator
is that of Ross (PLoS One 9, e87357, 2014), as scikit-learn's ``mutual_info_classif`` has it.
"""

from __future__ import annotations

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.types import Array

RADIUS_PX = 120.0
CONFOUNDERS = ("cell_size", "heterogeneity", "rarity", "sparsity", "density")


def heterogeneity(intensity: Array) -> float:
    """Coefficient of variation (standard deviation / mean) of the cells' mean intensities (n,).

    NaN for a mean of 0.
    """
    values = np.asarray(intensity, np.float64)
    mean = float(values.mean()) if values.size else 0.0
    return float(values.std() / mean) if mean > 0 else float("nan")


def neighbours(
    xy: Array, rows: Array, positive: Array, radius: float = RADIUS_PX
) -> tuple[Array, Array]:
    """Cells, and positive cells, whose centroid lies within ``radius`` of a cell's, the cell itself
    not counted.

    Parameters
    ----------
    xy : (n, 2) number
        Centroids of all cells of a FOV in pixels.
    rows : (k,) integer
        The cells to look at.
    positive : (n,) bool
    radius
        Pixels.

    Returns
    -------
    cells, positives : (k,) int64

    Examples
    --------
    >>> import numpy as np
    >>> xy = np.array([[0, 0], [0, 50], [0, 300]])
    >>> neighbours(xy, np.array([0, 2]), np.array([True, True, False]))
    (array([1, 0]), array([1, 0]))
    """
    from scipy.spatial import cKDTree

    xy, rows, positive = np.asarray(xy, np.float64), np.asarray(rows), np.asarray(positive, bool)
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = xy[rows]
    cells = np.asarray(cKDTree(xy).query_ball_point(at, radius, return_length=True), np.int64) - 1
    plus = np.zeros(len(rows), np.int64)
    if positive.any():
        plus = (
            np.asarray(
                cKDTree(xy[positive]).query_ball_point(at, radius, return_length=True), np.int64
            )
            - positive[rows]
        )
    return cells, plus


def mutual_information(values: Array, wrong: Array, *, k: int = 3, seed: int = 0) -> float:
    """Mutual information (nats) of a continuous quantity and a class, here whether the call was
    wrong.

    Parameters
    ----------
    values : (n,) number
        Scaled by their standard deviation; noise of 1e-10 of the mean breaks ties, as in
        scikit-learn.
    wrong : (n,) bool or integer
    k
        Neighbours.
    seed
        Of the noise.

    Returns
    -------
    float
        Not below 0; 0 where there are fewer than two classes with more than one member.
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    x, classes = np.asarray(values, np.float64), np.asarray(wrong)
    if x.shape != classes.shape or x.ndim != 1:
        raise InputError("Values and errors are not aligned.", got=f"{x.shape} and {classes.shape}")
    spread = float(x.std()) if len(x) else 0.0
    x = x / spread if spread > 0 else x
    noise = np.random.default_rng(seed).standard_normal(len(x))
    x = x + 1e-10 * max(1.0, float(np.abs(x).mean()) if len(x) else 1.0) * noise
    radius, members, used = np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x), np.int64)
    for one in np.unique(classes):
        mine = classes == one
        count = int(mine.sum())
        if count > 1:
            used[mine] = min(k, count - 1)
            radius[mine] = np.nextafter(_kth_distance(x[mine], min(k, count - 1)), 0)
            members[mine] = count
    keep = members > 0
    if len(np.unique(classes[keep])) < 2:
        return 0.0
    x, radius = x[keep], radius[keep]
    points = x[:, None]
    around = np.asarray(
        cKDTree(points).query_ball_point(points, radius, p=np.inf, return_length=True)
    )  # p: nothing is squared
    information = (
        digamma(len(x))
        + digamma(used[keep]).mean()
        - digamma(members[keep]).mean()
        - digamma(around).mean()
    )
    return max(0.0, float(information))


def _kth_distance(x: Array, k: int) -> Array:
    """Distance of each of n numbers to its k-th nearest other one."""
    order = np.argsort(x)
    line = np.concatenate([np.full(k, -np.inf), x[order], np.full(k, np.inf)])
    n = len(x)
    gaps = np.stack([np.abs(line[k + s : k + s + n] - x[order]) for s in range(-k, k + 1) if s])
    out = np.empty(n)
    out[order] = np.partition(gaps, k - 1, axis=0)[k - 1]
    return out


def chance(values: Array, wrong: Array, *, rounds: int = 50, seed: int = 0) -> float:
    """The 95th percentile of the mutual information when the errors are dealt out anew, ``rounds``
    times: what chance gives.
    """
    rng = np.random.default_rng(seed)
    return float(
        np.percentile(
            [mutual_information(values, rng.permutation(wrong), seed=seed) for _ in range(rounds)],
            95,
        )
    )


def entropy(wrong: Array) -> float:
    """Entropy (nats) of right and wrong: no confounder can tell more."""
    p = float(np.mean(np.asarray(wrong, bool))) if len(wrong) else 0.0
    return 0.0 if p in (0.0, 1.0) else float(-(p * np.log(p) + (1 - p) * np.log(1 - p)))
