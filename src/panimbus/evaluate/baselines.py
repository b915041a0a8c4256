"""What the scores are compared with.

Thresholds on the cells' mean intensity ("integrated expression").
"""

from __future__ import annotations

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.types import Array
from panimbus.evaluate.metrics import otsu_positive

_FLOOR = 0.01
_VARIANCE = 1e-4


def mixture_posterior(
    values: Array, normaliser: float, *, iterations: int = 200, tolerance: float = 1e-6
) -> Array:
    """Probability that a cell belongs to the brighter of two Gaussians on the logarithm of the mean
    intensity.

    A wide Gaussian wins on both sides of a narrow one; here the probability does not turn back
    below the dimmer mean or above the brighter one, so it is a threshold on the intensity, as
    people use it.

    Parameters
    ----------
    values : (n,) number
        Mean intensity of each cell of one FOV in one channel.
    normaliser
        The intensity that becomes 1.0; a hundredth of it is added before the logarithm, so that
        cells without signal have one.
    iterations, tolerance
        Of the expectation-maximisation, which starts from Otsu's split and ends when the mean
        log-likelihood stands still.

    Returns
    -------
    (n,) float64
        All 0 where the values are all equal, or the channel is blank.
    """
    values = np.asarray(values, np.float64)
    if values.size and not np.isfinite(values).all():
        raise InputError("Mean intensities must be finite.")
    if values.size == 0 or values.min() == values.max() or not normaliser > 0:
        return np.zeros(values.shape)
    x = np.log(np.maximum(values, 0) + _FLOOR * normaliser)
    if np.ptp(x) == 0:
        return np.zeros(values.shape)
    bright = otsu_positive(x).astype(np.float64)
    share = np.stack([1 - bright, bright])
    before = -np.inf
    for _ in range(iterations):
        share, likelihood, means = _step(x, share)
        if abs(likelihood - before) < tolerance:
            break
        before = likelihood
    dim, bright_one = np.sort(means)
    posterior = share[int(np.argmax(means))]
    order = np.argsort(x, kind="stable")
    line = posterior[order]
    above, below = x[order] >= bright_one, x[order] <= dim
    line[above] = np.maximum.accumulate(line[above])
    line[below] = np.minimum.accumulate(line[below][::-1])[::-1]
    posterior[order] = line
    return np.asarray(posterior)


def _step(x: Array, share: Array) -> tuple[Array, float, Array]:
    """One step of expectation-maximisation.

    Shares (2, n) in, shares, mean log-likelihood and means (2,) out.
    """
    weight = share.sum(1) + 10 * np.finfo(np.float64).eps
    means = (share @ x) / weight
    variance = (share * (x - means[:, None]) ** 2).sum(1) / weight + _VARIANCE
    log = np.log(weight / len(x))[:, None] - 0.5 * (
        np.log(2 * np.pi * variance)[:, None] + (x - means[:, None]) ** 2 / variance[:, None]
    )
    total = np.logaddexp(log[0], log[1])
    return np.exp(log - total), float(total.mean()), means
