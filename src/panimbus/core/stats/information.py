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
    from scipy.special import digamma

    x, classes = np.asarray(values, np.float64), np.asarray(errors)
    if x.shape != classes.shape or x.ndim != 1:
        raise InputError("Values and errors are not aligned.", got=f"{x.shape} and {classes.shape}")
    spread = float(x.std()) if len(x) else 0.0
    x = x / spread if spread > 0 else x
    noise = np.random.default_rng(seed).standard_normal(len(x))
    x = x + 1e-10 * max(1.0, float(np.abs(x).mean()) if len(x) else 1.0) * noise
    order = np.argsort(x)  # in one dimension neighbours are found by sorting, with no tree
    x, classes = x[order], classes[order]
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
    around = _count_within(x[keep], radius[keep])
    information = (
        digamma(len(around))
        + digamma(used[keep]).mean()
        - digamma(members[keep]).mean()
        - digamma(around).mean()
    )
    return max(0.0, float(information))


def _kth_distance(x: Array, k: int) -> Array:
    """Distance of each of n sorted numbers to its k-th nearest other one."""
    line = np.concatenate([np.full(k, -np.inf), x, np.full(k, np.inf)])
    n = len(x)
    gaps = np.stack([np.abs(line[k + s : k + s + n] - x) for s in range(-k, k + 1) if s])
    return np.asarray(np.partition(gaps, k - 1, axis=0)[k - 1])


def _count_within(x: Array, radius: Array) -> Array:
    """Count the numbers within ``radius`` (n,) of each of n sorted numbers, itself included.

    A pair counts if its rounded difference is at most the radius, as in a search by a tree.
    ``x - radius`` is rounded, too, so the ends are moved until the differences decide them.
    """
    n = len(x)
    first, last = np.searchsorted(x, x - radius), np.searchsorted(x, x + radius, "right") - 1

    def move(ends: Array, step: int, *, while_inside: bool) -> None:
        """Move the ends by one while the next one (or the end itself) is (not) inside."""
        rows = np.arange(n)
        while rows.size:
            tested = ends[rows] + step if while_inside else ends[rows]
            valid = (tested >= 0) & (tested < n)
            rows, tested = rows[valid], tested[valid]
            inside = np.abs(x[tested] - x[rows]) <= radius[rows]
            rows = rows[inside == while_inside]
            ends[rows] += step

    move(first, 1, while_inside=False)
    move(first, -1, while_inside=True)
    move(last, -1, while_inside=False)
    move(last, 1, while_inside=True)
    return np.asarray(last - first + 1)


def permuted_information(
    values: Array, errors: Array, *, rounds: int = 50, seed: int = 0, most: int = 20_000
) -> float:
    """95th percentile of the mutual information with shuffled errors: what chance gives.

    Above ``most`` calls, a random subsample of that size is shuffled. The spread of the estimate
    goes with one over the root of the number of calls; the result is scaled by that.
    """
    rng = np.random.default_rng(seed)
    values, errors = np.asarray(values), np.asarray(errors)
    n = len(values)
    if n > most:
        chosen = rng.choice(n, most, replace=False)
        values, errors = values[chosen], errors[chosen]
    drawn = [mutual_information(values, rng.permutation(errors), seed=seed) for _ in range(rounds)]
    return float(np.percentile(drawn, 95) * np.sqrt(len(values) / max(n, 1)))


def entropy(errors: Array) -> float:
    """Entropy (nats) of errors: the most that a confounder can explain."""
    p = float(np.mean(np.asarray(errors, bool))) if len(errors) else 0.0
    return 0.0 if p in (0.0, 1.0) else float(-(p * np.log(p) + (1 - p) * np.log(1 - p)))
