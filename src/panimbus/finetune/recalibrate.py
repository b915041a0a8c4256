"""Recalibration.

Temperature and offset on the logits of a model's pixel scores, fitted to tens of calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from panimbus.core.correction import NONE, Correction, after
from panimbus.core.types import Array, Float64Array

_EDGE = 1e-6


@dataclass(frozen=True)
class Prior:
    """How far a correction may go.

    Standard deviations of log(temperature) and of the offset, around ``centre``.
    """

    log_temperature: float
    offset: float
    centre: Correction = NONE


GLOBAL = Prior(0.5, 3.0)
MARKER = Prior(0.25, 1.5)


@dataclass(frozen=True)
class CellLogits:
    """The logits of the pixels of n cells, from all views, one after another.

    Parameters
    ----------
    values : (m,) float64
    cell : (m,) intp
        To which cell each belongs.
    n
        Number of cells.
    """

    values: Float64Array
    cell: npt.NDArray[np.intp]
    n: int

    @classmethod
    def of(cls, parts: Sequence[Array]) -> CellLogits:
        """From one array a cell, of any shape, none of them empty."""
        sizes = [p.size for p in parts]
        flat = (
            np.concatenate([p.ravel() for p in parts]).astype(np.float64) if parts else np.zeros(0)
        )
        return cls(flat, np.repeat(np.arange(len(parts)), sizes), len(parts))

    def only(self, keep: npt.NDArray[np.bool_]) -> CellLogits:
        """Some of the cells, (n,) bool."""
        pixels, number = keep[self.cell], np.cumsum(keep) - 1
        return CellLogits(self.values[pixels], number[self.cell[pixels]], int(keep.sum()))

    def mean(self, values: Float64Array) -> Float64Array:
        """(n,) mean over each cell's pixels."""
        size = np.bincount(self.cell, minlength=self.n)
        return np.asarray(np.bincount(self.cell, values, self.n) / np.maximum(size, 1))

    def scores(self, correction: Correction = NONE) -> Float64Array:
        """(n,) the cells' scores under a correction: the mean over their pixels and views."""
        return self.mean(expit(self.values / correction[0] + correction[1]))


def fit_corrections(logits: CellLogits, target: Float64Array, prior: Prior = GLOBAL) -> Correction:
    """The correction under which the calls are most likely.

    The cells' scores are means over pixels, so this is no logistic regression; the function is
    smooth and has two unknowns.

    Parameters
    ----------
    logits
        Of the n called cells.
    target : (n,) float64
        0..1.
    prior
        Gaussian; with few calls, or calls of one sign only, it keeps the correction near its
        centre.
    """
    centre = np.array([np.log(prior.centre[0]), prior.centre[1]])
    width = np.array([prior.log_temperature, prior.offset])

    def loss(x: Float64Array) -> tuple[float, Float64Array]:
        slope = np.exp(-x[0])
        p = expit(logits.values * slope + x[1])
        s = np.clip(logits.mean(p), _EDGE, 1 - _EDGE)
        change = (s - target) / (s * (1 - s))
        steep = p * (1 - p)
        by_offset = logits.mean(steep)
        by_temperature = logits.mean(-steep * logits.values * slope)
        step = (x - centre) / width
        value = -(target * np.log(s) + (1 - target) * np.log1p(-s)).sum() + (step**2).sum() / 2
        return float(value), np.array([change @ by_temperature, change @ by_offset]) + step / width

    bounds = list(zip(centre - 4 * width, centre + 4 * width, strict=True))
    best = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(best[0])), float(best[1])


def fit_markers(logits: CellLogits, target: Float64Array, marker: Array) -> dict[str, Correction]:
    """A correction per marker; the fewer its annotations, the nearer to that of all markers."""
    common = fit_corrections(logits, target)
    near = Prior(MARKER.log_temperature, MARKER.offset, common)
    return {
        str(m): fit_corrections(logits.only(marker == m), target[marker == m], near)
        for m in np.unique(marker)
    }


def combined(old: dict[str, Correction], new: dict[str, Correction]) -> dict[str, Correction]:
    """Corrections a marker of a card, and then new ones on top."""
    return {**old, **{m: after(old.get(m, NONE), c) for m, c in new.items()}}


def behind(old: dict[str, Correction], folded: Correction) -> dict[str, Correction]:
    """Corrections per marker that give the same scores once a common one is in the net.

    The common one was meant to follow them; the net runs before them.

    ``z / T1 + b1`` and then ``/ T + b`` is to equal ``z / T + b`` and then ``/ T1 + b1'``.
    """
    temperature, offset = folded
    return {m: (t, b / temperature + offset - offset / t) for m, (t, b) in old.items()}
