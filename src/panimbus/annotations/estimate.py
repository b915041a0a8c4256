"""Precision and recall of a marker, estimated from the answers to cells drawn at random.

Positive and negative cells are drawn apart, so the estimate puts each back to its share: with the
share p of the answered predicted-positive cells that are positive, the share q of the
predicted-negative ones, and their numbers N+ and N-, precision is p and recall
N+ p / (N+ p + N- q) (post-stratification; Hajek 1971 where weights differ within a stratum). The
intervals come from draws of p and q from their posterior under the prior of Jeffreys, which stays
honest with a handful of answers (Brown, Cai and DasGupta 2001): after five right answers of five,
precision is not known to be 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from panimbus.core.stats import interval, ratio
from panimbus.core.types import Array, BoolArray, Float64Array

_DRAWS = 4000


class Estimate(NamedTuple):
    """A figure with its 95 % interval; NaN where nothing can be known."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "not known"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


class RateEstimates(NamedTuple):
    """Estimates of one marker.

    Parameters
    ----------
    answers
        Number of answers that count: drawn at random and determined.
    precision, recall, f1
        Of the predicted positive cells.
    share
        Of positive cells among all.
    """

    answers: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    share: Estimate

    def columns(self) -> dict[str, float]:
        """The figures as columns: ``precision``, ``precision_low``, ``precision_high``, ..."""
        return {
            f"{name}{end}": value
            for name in ("precision", "recall", "f1", "share")
            for end, value in zip(("", "_low", "_high"), getattr(self, name), strict=True)
        }


def estimate_rates(
    predicted: BoolArray,
    truth: Array,
    *,
    cells: tuple[int, int],
    weights: Array | None = None,
    seed: int = 0,
) -> RateEstimates:
    """Estimate precision, recall, F1 and the share of positive cells.

    Parameters
    ----------
    predicted : (k,) bool
        Of the cells drawn at random: whether they are predicted positive (now).
    truth : (k,) float
        1 positive, 0 negative, NaN undetermined: such an answer does not count.
    cells
        Number of predicted-positive and of predicted-negative cells in all.
    weights : (k,) float, optional
        Sampling weights; they matter where cells of one prediction have different ones.
    seed

    Returns
    -------
    RateEstimates
        NaN where cells of a prediction exist, but none of them was answered.

    Examples
    --------
    >>> made = estimate_rates(
    ...     np.array([True, True, False, False]), np.array([1, 0, 0, 0]), cells=(10, 90)
    ... )
    >>> made.precision.value, made.recall.value, made.share.value
    (0.5, 1.0, 0.05)
    """
    truth = np.asarray(truth, np.float64)
    counted = ~np.isnan(truth)
    predicted, truth = np.asarray(predicted, bool)[counted], truth[counted]
    weight = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)[counted]
    rng = np.random.default_rng(seed)
    sides = [_share(truth[s], weight[s], rng) for s in (predicted, ~predicted)]
    true_of = [np.zeros(_DRAWS + 1) if not n else n * s for n, s in zip(cells, sides, strict=True)]
    right, missed = true_of
    positive = right + missed
    none = np.full(_DRAWS + 1, np.nan)
    precision = sides[0] if cells[0] else none
    recall = ratio(right, positive)
    f1 = ratio(2 * right, cells[0] + positive)
    share = ratio(positive, np.full(_DRAWS + 1, sum(cells)))
    return RateEstimates(len(truth), *(_estimate(v) for v in (precision, recall, f1, share)))


def _share(truth: Float64Array, weight: Float64Array, rng: np.random.Generator) -> Float64Array:
    """(1 + draws,) share of positive cells: the estimate, then draws from its posterior."""
    if not len(truth):
        return np.full(_DRAWS + 1, np.nan)
    share = float(np.average(truth, weights=weight))
    effective = float(weight.sum() ** 2 / (weight**2).sum())  # Kish 1965
    drawn = rng.beta(0.5 + share * effective, 0.5 + (1 - share) * effective, _DRAWS)
    return np.concatenate([[share], drawn])


def _estimate(values: Float64Array) -> Estimate:
    value, draws = float(values[0]), values[1:]
    if np.isnan(value):
        return Estimate(value, float("nan"), float("nan"))
    low, high = interval(draws)
    return Estimate(value, min(low, value), max(high, value))
