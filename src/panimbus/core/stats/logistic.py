"""Logistic regression with Gaussian priors on its coefficients."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from panimbus.core.types import Float64Array


def fit_logistic(
    design: Float64Array,
    target: Float64Array,
    *,
    mean: Float64Array,
    precision: Float64Array,
    weights: Float64Array | None = None,
) -> Float64Array:
    """The likeliest coefficients under a Gaussian prior, by Newton's method.

    Parameters
    ----------
    design : (n, p) float64
        No rows at all give the prior's mean.
    target : (n,) float64
        0 to 1.
    mean, precision : (p,) float64
        Of the prior; precision is one over the variance.
    weights : (n,) float64, optional
        How often each row counts.

    Returns
    -------
    (p,) float64

    Examples
    --------
    >>> x, y = np.ones((4, 1)), np.array([1.0, 1, 1, 0])
    >>> fit_logistic(x, y, mean=np.zeros(1), precision=np.full(1, 1e-9)).round(3).item()
    1.099
    """
    w = np.ones(len(target)) if weights is None else np.asarray(weights, np.float64)
    b = np.array(mean, np.float64)
    for _ in range(50):
        p = expit(design @ b)
        gradient = design.T @ (w * (p - target)) + precision * (b - mean)
        hessian = (design.T * (w * p * (1 - p))) @ design + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        longest = float(np.abs(step).max())
        b -= step * (3 / longest if longest > 3 else 1.0)
        if longest < 1e-8:
            break
    return b
