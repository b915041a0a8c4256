"""Two populations of intensities: Otsu's threshold and a mixture of two Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from panimbus.core.types import Array, BoolArray, Float64Array


def otsu_positive(values: Array) -> BoolArray:
    """Cells above Otsu's threshold of the cells' mean intensities.

    Parameters
    ----------
    values : (n,) number
        Mean intensity of each cell in one channel.

    Returns
    -------
    (n,) bool
        All False where the values are all equal.

    Examples
    --------
    >>> import numpy as np
    >>> otsu_positive(np.array([1.0, 1.1, 0.9, 9.0]))
    array([False, False, False,  True])
    """
    values = np.asarray(values, np.float64)
    if values.size == 0 or values.min() == values.max():
        return np.zeros(values.shape, np.bool_)
    from skimage.filters import threshold_otsu

    return np.asarray(values > threshold_otsu(values), np.bool_)  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians.

    Parameters
    ----------
    weight, mean, variance : (k,) float64
    """

    weight: Float64Array
    mean: Float64Array
    variance: Float64Array

    @property
    def separation(self) -> float:
        """Ashman's D: distance of two means in units of the root mean square spread."""
        return float(abs(self.mean[1] - self.mean[0]) / np.sqrt(self.variance.mean()))

    def log_densities(self, x: Float64Array) -> Float64Array:
        """(k, n) logarithm of each component's weighted density."""
        square = (x - self.mean[:, None]) ** 2 / self.variance[:, None]
        return np.asarray(
            np.log(self.weight)[:, None]
            - 0.5 * (np.log(2 * np.pi * self.variance)[:, None] + square)
        )

    def log_likelihood(self, x: Float64Array) -> float:
        """Log-likelihood of n values."""
        return float(np.logaddexp.reduce(self.log_densities(x), axis=0).sum())

    def posterior(self, x: Float64Array) -> Float64Array:
        """(n,) probability of the last component."""
        log = self.log_densities(x)
        return np.asarray(np.exp(log[-1] - np.logaddexp.reduce(log, axis=0)))


def fit_gaussians(
    x: Float64Array,
    split: BoolArray,
    *,
    iterations: int,
    tolerance: float,
    added_variance: float = 0.0,
    least_spread: float = 0.0,
) -> tuple[Mixture, Float64Array]:
    """Fit two Gaussians by expectation-maximisation.

    Parameters
    ----------
    x : (n,) float64
    split : (n,) bool
        Values of the second component at the start.
    iterations, tolerance
        At most so many steps; earlier if the mean log-likelihood changes by less.
    added_variance, least_spread
        Added to each variance, and the least standard deviation: keeps components from collapsing.

    Returns
    -------
    mixture : Mixture
        The component of the lower mean first.
    share : (2, n) float64
        Probability of each component.
    """
    share = np.stack([~split, split]).astype(np.float64)
    before = -math.inf
    for _ in range(iterations):
        mixture = _maximise(x, share, added_variance, least_spread)
        log = mixture.log_densities(x)
        total = np.logaddexp(log[0], log[1])
        share, likelihood = np.exp(log - total), float(total.mean())
        if abs(likelihood - before) < tolerance:
            break
        before = likelihood
    order = np.argsort(mixture.mean, kind="stable")
    ordered = Mixture(mixture.weight[order], mixture.mean[order], mixture.variance[order])
    return ordered, share[order]


def _maximise(x: Float64Array, share: Float64Array, added: float, least: float) -> Mixture:
    weight = share.sum(1) + 10 * np.finfo(np.float64).eps
    mean = (share @ x) / weight
    variance = (share * (x - mean[:, None]) ** 2).sum(1) / weight + added
    return Mixture(weight / len(x), mean, np.maximum(variance, least**2))


def fit_mixture(x: Float64Array) -> Mixture:
    """Fit two Gaussians, beginning at the split of least variance within the halves (Otsu's).

    Parameters
    ----------
    x : (n,) float64

    Returns
    -------
    Mixture
        The component of the lower mean first.
    """
    ordered = np.sort(x)
    n = len(x)
    sums = np.cumsum(ordered)
    k = np.arange(1, n)
    between = k * (n - k) * (sums[:-1] / k - (sums[-1] - sums[:-1]) / (n - k)) ** 2
    low = ordered[int(np.argmax(between))]
    least = max(1e-3 * float(ordered[-1] - ordered[0]), 1e-12)
    _, share = fit_gaussians(x, x > low, iterations=500, tolerance=1e-9, least_spread=least)
    return _maximise(x, share, 0.0, least)


def bic_gain(x: Float64Array, mixture: Mixture) -> float:
    """Gain of a mixture of two over one Gaussian in the Bayesian information criterion.

    Above 0, the two explain ``x`` better.
    """
    one = Mixture(np.ones(1), np.array([x.mean()]), np.array([x.var()]))
    return 2 * (mixture.log_likelihood(x) - one.log_likelihood(x)) - 3 * math.log(len(x))
