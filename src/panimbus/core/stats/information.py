"""Mutual information of a quantity and errors.

The estimator is that of Ross (PLoS One 9, e87357, 2014), as in scikit-learn's
``mutual_info_classif``.
"""

from __future__ import annotations

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.types import Array


def mutual_information(values: Array, errors: Array, *, k: int = 3, seed: int = 0) -> float:
    """Mutual information (nats) of a continuous quantity and a class, such as errors.

    Parameters
    ----------
    values : (n,) number
        Scaled by their standard deviation; noise of 1e-10 of the mean breaks ties, as in
        scikit-learn.
    errors : (n,) bool or integer
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

    x, classes = np.asarray(values, np.float64), np.asarray(errors)
    if x.shape != classes.shape or x.ndim != 1:
        raise InputError("Values and errors are not aligned.", got=f"{x.shape} and {classes.shape}")
    spread = float(x.std()) if len(x) else 0.0
    x = x / spread if spread > 0 else x
    noise = np.random.default_rng(seed).standard_normal(len(x))
    x = x + 1e-10 * max(1.0, float(np.abs(x).mean()) if len(x) else 1.0) * noise
    radius, members, used = np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x), np.int64)
    for one in np.unique(classes):
        same = classes == one
        count = int(same.sum())
        if count > 1:
            used[same] = min(k, count - 1)
            radius[same] = np.nextafter(_kth_distance(x[same], min(k, count - 1)), 0)
            members[same] = count
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


def permuted_information(values: Array, errors: Array, *, rounds: int = 50, seed: int = 0) -> float:
    """95th percentile of the mutual information with shuffled errors: what chance gives."""
    rng = np.random.default_rng(seed)
    return float(
        np.percentile(
            [mutual_information(values, rng.permutation(errors), seed=seed) for _ in range(rounds)],
            95,
        )
    )


def entropy(errors: Array) -> float:
    """Entropy (nats) of errors: the most that a confounder can explain."""
    p = float(np.mean(np.asarray(errors, bool))) if len(errors) else 0.0
    return 0.0 if p in (0.0, 1.0) else float(-(p * np.log(p) + (1 - p) * np.log(1 - p)))
