"""Calibration: whether about 80 % of the cells with a score of about 0.8 are positive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.stats import wilson
from panimbus.core.types import Array


@dataclass(frozen=True)
class Calibration:
    """A calibration curve over equal bins of the score; one entry per bin that holds a cell.

    Parameters
    ----------
    low, high : (b,) float64
        Edges of the bins.
    score : (b,) float64
        Mean score of the bin's cells.
    positive : (b,) float64
        Share of them that are positive.
    positive_low, positive_high : (b,) float64
        95 % interval of that share (Wilson's, with the effective number of cells).
    weight : (b,) float64
        Share of all weight; sums to 1.
    cells : (b,) int64
    error
        Expected calibration error: the mean of |score - positive|, weighted by ``weight``; NaN
        without cells.
    brier
        Mean squared difference of score and truth; NaN without cells.
    """

    low: Array
    high: Array
    score: Array
    positive: Array
    positive_low: Array
    positive_high: Array
    weight: Array
    cells: Array
    error: float
    brier: float


def calibration(
    scores: Array, truth: Array, weights: Array | None = None, *, bins: int = 10
) -> Calibration:
    """Compare scores with the share of positive cells.

    Parameters
    ----------
    scores : (n,) number, 0..1
    truth : (n,) integer
        1 positive, 0 negative, anything else not judged.
    weights : (n,) number, optional
    bins

    Examples
    --------
    >>> import numpy as np
    >>> round(calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 0])).error, 3)
    0.25
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth)
    w = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    if scores.shape != truth.shape or scores.shape != w.shape:
        raise InputError(
            "Scores, truth and weights are not aligned.",
            got=f"{scores.shape}, {truth.shape}, {w.shape}",
        )
    judged = np.isin(truth, (0, 1))
    scores, truth, w = scores[judged], truth[judged], w[judged]
    if ((scores < 0) | (scores > 1) | np.isnan(scores)).any():
        raise InputError("Scores must lie between 0 and 1.")
    at = np.minimum((scores * bins).astype(np.intp), bins - 1)
    total, plus, mean, square = (np.bincount(at, v, bins) for v in (w, w * truth, w * scores, w**2))
    used = np.flatnonzero(total > 0)
    total, plus, mean, square = total[used], plus[used], mean[used], square[used]
    score, positive, share = mean / total, plus / total, total / max(total.sum(), 1e-300)
    low, high = wilson(positive, total**2 / square)
    return Calibration(
        used / bins,
        (used + 1) / bins,
        score,
        positive,
        low,
        high,
        share,
        np.bincount(at, minlength=bins)[used],
        float((share * np.abs(score - positive)).sum()) if len(used) else float("nan"),
        float(np.average((scores - truth) ** 2, weights=w)) if len(used) else float("nan"),
    )
