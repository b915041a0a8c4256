"""Automatic gates.

Two Gaussians on the transformed mean intensities of a channel, and an undefined band between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.types import Float64Array

_STEPS, _TOLERANCE, _FLOOR = 500, 1e-9, 1e-3
_ENOUGH = 20


@dataclass(frozen=True)
class Gate:
    """A fitted channel.

    Parameters
    ----------
    low, high
        Raw mean intensities: a cell is negative up to ``low``, positive from ``high`` on, undefined
        between. NaN without two populations.
    weight, centre, spread
        Of the two components (negative, positive) after the transform.
    separation
        Ashman's D: the distance of the centres in units of the root mean square spread; above 2 the
        components are apart.
    reason
        Why there is no gate; empty if there is one.
    """

    low: float
    high: float
    weight: tuple[float, float]
    centre: tuple[float, float]
    spread: tuple[float, float]
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
        Fitted to the cells with any signal; a mean of 0 is negative. Its thresholds are where the
        probability, which rises between the two centres, crosses ``undefined``, so a broad
        component never claims the other's far side.
    """
    values = np.asarray(mean, np.float64)
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if len(positive) < _ENOUGH or positive.min() == positive.max():
        return _none("too few cells with any signal, or all alike")
    unit = float(np.median(positive))
    forward, back = _transform(transform, unit)
    x = forward(
        positive
    )  # a mean of exactly 0 is a clipped plane's, not the centre of a population: it is negative
    weight, centre, spread = fit_mixture(x)
    apart = abs(centre[1] - centre[0]) / math.sqrt((spread[0] ** 2 + spread[1] ** 2) / 2)
    parts = (_pair(weight), _pair(centre), _pair(spread), float(apart))
    if apart < separation:
        return Gate(
            math.nan,
            math.nan,
            *parts,
            f"no two populations (separation {apart:.2f} below {separation:g})",
        )
    if bic_gain(x, weight, centre, spread) <= 0:
        return Gate(
            math.nan, math.nan, *parts, "one population explains the intensities as well as two"
        )
    grid = np.linspace(centre[0], centre[1], 2049)
    probability = posterior(grid, weight, centre, spread)
    # rising from the negative centre on: what is crossed first for the low bound, last for the high
    # one
    low = float(grid[np.argmax(probability > undefined[0])])
    high = float(grid[len(grid) - 1 - np.argmax(probability[::-1] < undefined[1])])
    return Gate(float(back(np.array(low))), float(back(np.array(high))), *parts)


def fit_mixture(x: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Two Gaussians by expectation maximisation, begun at the best split in two by variance (as
    Otsu's).

    Parameters
    ----------
    x : (n,) float64

    Returns
    -------
    weight, centre, spread : (2,) float64
        The component of the lower centre first.
    """
    ordered = np.sort(x)
    n = len(x)
    floor = max(_FLOOR * float(ordered[-1] - ordered[0]), 1e-12)
    sums = np.cumsum(ordered)
    k = np.arange(1, n)
    between = k * (n - k) * (sums[:-1] / k - (sums[-1] - sums[:-1]) / (n - k)) ** 2
    cut = int(np.argmax(between)) + 1
    parts = ordered[:cut], ordered[cut:]
    weight = np.array([len(p) / n for p in parts])
    centre = np.array([p.mean() for p in parts])
    spread = np.maximum([p.std() for p in parts], floor)
    last = -math.inf
    for _ in range(_STEPS):
        density = _densities(x, weight, centre, spread)
        total = density.sum(0)
        likelihood = float(np.log(np.maximum(total, 1e-300)).mean())
        share = density / np.maximum(total, 1e-300)
        mass = np.maximum(share.sum(1), 1e-9)
        weight = mass / mass.sum()
        centre = (share @ x) / mass
        spread = np.sqrt(np.maximum((share * (x - centre[:, None]) ** 2).sum(1) / mass, floor**2))
        if abs(likelihood - last) < _TOLERANCE:
            break
        last = likelihood
    order = np.argsort(centre, kind="stable")
    return weight[order], centre[order], spread[order]


def posterior(
    x: Float64Array, weight: Float64Array, centre: Float64Array, spread: Float64Array
) -> Float64Array:
    """(n,) probability of the second component."""
    density = _densities(x, weight, centre, spread)
    return np.asarray(density[1] / np.maximum(density.sum(0), 1e-300))


def bic_gain(
    x: Float64Array, weight: Float64Array, centre: Float64Array, spread: Float64Array
) -> float:
    """How much the Bayesian information criterion prefers the two components to one Gaussian (above
    0: it does).
    """
    two = float(np.log(np.maximum(_densities(x, weight, centre, spread).sum(0), 1e-300)).sum())
    one = float(
        np.log(
            np.maximum(_densities(x, np.ones(1), np.array([x.mean()]), np.array([x.std()])), 1e-300)
        ).sum()
    )
    return 2 * (two - one) - 3 * math.log(len(x))


def _densities(
    x: Float64Array, weight: Float64Array, centre: Float64Array, spread: Float64Array
) -> Float64Array:
    z = (x[None] - centre[:, None]) / spread[:, None]
    return np.asarray(
        weight[:, None] / (spread[:, None] * math.sqrt(2 * math.pi)) * np.exp(-0.5 * z**2)
    )


def _transform(
    name: str, unit: float
) -> tuple[Callable[[Float64Array], Float64Array], Callable[[Float64Array], Float64Array]]:
    if name == "asinh":
        return (lambda v: np.arcsinh(v / unit)), (lambda v: np.sinh(v) * unit)
    if name == "log":
        return (lambda v: np.log(np.maximum(v, 0) + unit / 100)), (lambda v: np.exp(v) - unit / 100)
    raise InputError("Unknown transform of intensities.", got=name, available=("asinh", "log"))


def _pair(values: Float64Array) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _none(reason: str) -> Gate:
    nan = (math.nan, math.nan)
    return Gate(math.nan, math.nan, nan, nan, nan, math.nan, reason)
