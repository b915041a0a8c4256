"""Automatic gates: two Gaussians on transformed intensities, and an undefined band between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.stats import bic_gain, fit_mixture
from panimbus.core.types import Float64Array

_ENOUGH = 20


@dataclass(frozen=True)
class Gate:
    """Gate of one channel.

    Parameters
    ----------
    low, high
        Raw mean intensities: a cell is negative up to ``low``, positive from ``high`` on, undefined
        between. NaN without two populations.
    separation
        Ashman's D (see `panimbus.core.stats.Mixture`); above 2 the components are apart.
    reason
        Why there is no gate; empty if there is one.
    """

    low: float
    high: float
    separation: float
    reason: str = ""


def fit_gate(
    mean: npt.NDArray[np.float32],
    *,
    transform: str = "asinh",
    undefined: tuple[float, float] = (0.1, 0.9),
    separation: float = 2.0,
) -> Gate:
    """Gate one channel.

    Parameters
    ----------
    mean : (n,) float32
        Mean raw intensity of the cells.
    transform
        ``asinh``: asinh(mean / c), c = the median of the positive means, so that it does not depend
        on the unit; ``log``: log(mean + c / 100).
    undefined
        Probabilities of being positive between which a cell is undefined.
    separation
        Least separation of the components.

    Returns
    -------
    Gate
        Fitted to the cells with any signal; a mean of 0 is negative. The thresholds are where the
        probability crosses ``undefined`` between the two means, so a broad component never claims
        the far side of the other.
    """
    values = np.asarray(mean, np.float64)
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if len(positive) < _ENOUGH or positive.min() == positive.max():
        return _none("too few cells with any signal, or all alike")
    unit = float(np.median(positive))
    forward, back = _transform(transform, unit)
    # a mean of exactly 0 comes from a clipped plane: it is negative, and no population
    x = forward(positive)
    mixture = fit_mixture(x)
    apart = mixture.separation
    if apart < separation:
        return Gate(
            math.nan,
            math.nan,
            apart,
            f"no two populations (separation {apart:.2f} below {separation:g})",
        )
    if bic_gain(x, mixture) <= 0:
        return Gate(
            math.nan, math.nan, apart, "one population explains the intensities as well as two"
        )
    grid = np.linspace(mixture.mean[0], mixture.mean[1], 2049)
    probability = mixture.posterior(grid)
    # the first crossing is the low bound, the last crossing the high one
    low = float(grid[np.argmax(probability > undefined[0])])
    high = float(grid[len(grid) - 1 - np.argmax(probability[::-1] < undefined[1])])
    return Gate(float(back(np.array(low))), float(back(np.array(high))), apart)


def _transform(
    name: str, unit: float
) -> tuple[Callable[[Float64Array], Float64Array], Callable[[Float64Array], Float64Array]]:
    if name == "asinh":
        return (lambda v: np.arcsinh(v / unit)), (lambda v: np.sinh(v) * unit)
    if name == "log":
        return (lambda v: np.log(np.maximum(v, 0) + unit / 100)), (lambda v: np.exp(v) - unit / 100)
    raise InputError("Unknown transform of intensities.", got=name, available=("asinh", "log"))


def _none(reason: str) -> Gate:
    return Gate(math.nan, math.nan, math.nan, reason)
