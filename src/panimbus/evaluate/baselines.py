"""Baselines: thresholds on the cells' mean intensity ("integrated expression")."""

from __future__ import annotations

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.stats import fit_gaussians, otsu_positive
from panimbus.core.types import Array

_FLOOR = 0.01
_VARIANCE = 1e-4


def mixture_posterior(
    values: Array, normaliser: float, *, iterations: int = 200, tolerance: float = 1e-6
) -> Array:
    """Probability of the brighter of two Gaussians on the logarithm of the mean intensity.

    The probability is made monotonic below the dimmer mean and above the brighter one, where a wide
    Gaussian wins on both sides of a narrow one: it is a threshold on the intensity, as people use
    it.

    Parameters
    ----------
    values : (n,) number
        Mean intensity of each cell of one FOV in one channel.
    normaliser
        The intensity that becomes 1.0; a hundredth of it is added before the logarithm, so that
        cells without signal have one.
    iterations, tolerance
        Of the expectation-maximisation, which starts from Otsu's split.

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
    mixture, share = fit_gaussians(
        x,
        otsu_positive(x),
        iterations=iterations,
        tolerance=tolerance,
        added_variance=_VARIANCE,
    )
    (dim, bright), posterior = mixture.mean, share[1]
    order = np.argsort(x, kind="stable")
    line = posterior[order]
    above, below = x[order] >= bright, x[order] <= dim
    line[above] = np.maximum.accumulate(line[above])
    line[below] = np.minimum.accumulate(line[below][::-1])[::-1]
    posterior[order] = line
    return np.asarray(posterior)
