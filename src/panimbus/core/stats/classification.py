"""Confusion tables, and precision, recall, specificity and F1."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.types import Array, BoolArray, Float64Array

TP, FP, FN, TN, UNJUDGED = range(5)


class Rates(NamedTuple):
    """Rates of one or many confusion tables (the paper's text misstates two of them).

    A ratio whose denominator is 0 is undefined and NaN; F1 follows `f1_score`.

    Parameters
    ----------
    precision
        True positives / all predicted positive.
    recall
        True positives / all positives.
    specificity
        True negatives / all negatives.
    f1
        Harmonic mean of precision and recall.
    """

    precision: Float64Array
    recall: Float64Array
    specificity: Float64Array
    f1: Float64Array


def outcomes(predicted: Array, truth: Array) -> npt.NDArray[np.int8]:
    """Outcome of each prediction.

    0 true positive, 1 false positive, 2 false negative, 3 true negative, 4 not judged.

    Parameters
    ----------
    predicted : (n,) number or bool
        1 positive, 0 negative, NaN no prediction.
    truth : (n,) integer or bool
        1 positive, 0 negative, anything else not judged.

    Examples
    --------
    >>> import numpy as np
    >>> outcomes(np.array([1, 1, 0, 0, np.nan, 1]), np.array([1, 0, 1, 0, 1, -1]))
    array([0, 1, 2, 3, 4, 4], dtype=int8)
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth)
    out = np.where(predicted == 1, np.where(truth == 1, TP, FP), np.where(truth == 1, FN, TN))
    return np.where(np.isnan(predicted) | ~np.isin(truth, (0, 1)), UNJUDGED, out).astype(np.int8)


def tally(codes: npt.NDArray[np.int8], weights: Array) -> Float64Array:
    """Sum the weights of `outcomes` to a confusion table (TP, FP, FN, TN).

    Parameters
    ----------
    codes : (n,) int8
    weights : (n,) or (r, n) number
        Several rows give several tables.

    Returns
    -------
    (4,) or (r, 4) float64
    """
    return np.stack([weights[..., codes == k].sum(-1) for k in range(TN + 1)], -1).astype(
        np.float64
    )


def confusion(predicted: Array, truth: Array, weights: Array | None = None) -> Float64Array:
    """Weight of true positives, false positives, false negatives and true negatives.

    Parameters
    ----------
    predicted, truth : (n,)
        See `outcomes`.
    weights : (n,) number, optional
        Weight of each cell, e.g. the inverse of its sampling probability.

    Returns
    -------
    (4,) float64

    Examples
    --------
    >>> import numpy as np
    >>> confusion(np.array([True, True, False, False, True]), np.array([1, 0, 1, 0, -1])).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    predicted, truth, w = aligned(predicted, truth, weights)
    return tally(outcomes(predicted, truth), w)


def rates(table: Array) -> Rates:
    """Rates of confusion tables.

    Parameters
    ----------
    table : (..., 4) number
        Weight of true positives, false positives, false negatives, true negatives.

    Returns
    -------
    Rates
        Of arrays (...).

    Examples
    --------
    >>> import numpy as np
    >>> [float(rate) for rate in rates(np.array([1, 1, 1, 1]))]
    [0.5, 0.5, 0.5, 0.5]
    """
    tp, fp, fn, tn = (np.asarray(table, np.float64)[..., k] for k in range(4))
    return Rates(ratio(tp, tp + fp), ratio(tp, tp + fn), ratio(tn, tn + fp), f1_score(table))


def f1_score(table: Array) -> Float64Array:
    """F1 of confusion tables: 2 TP / (2 TP + FP + FN).

    Where nothing is positive, F1 is 1 if nothing is predicted positive and 0 otherwise. It is NaN
    where no cell was judged.

    Parameters
    ----------
    table : (..., 4) number

    Examples
    --------
    >>> import numpy as np
    >>> f1_score(np.array([[2, 1, 1, 9], [0, 0, 0, 5], [0, 3, 0, 5], [0, 0, 0, 0]])).round(3)
    array([0.667, 1.   , 0.   ,   nan])
    """
    table = np.asarray(table, np.float64)
    tp, fp, fn = (table[..., k] for k in (TP, FP, FN))
    whole = 2 * tp + fp + fn
    f1 = np.where(whole > 0, 2 * tp / np.where(whole > 0, whole, 1), 1.0)
    return np.asarray(np.where(table.sum(-1) > 0, f1, np.nan))


def ratio(part: Any, whole: Any) -> Float64Array:
    """Elementwise ``part / whole``, NaN where ``whole`` is not above 0."""
    whole = np.asarray(whole, np.float64)
    return np.asarray(np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan))


def split_labels(target: Array) -> tuple[BoolArray, BoolArray]:
    """Positive and negative cells of silver labels: 0..1, or -1 = undefined.

    Examples
    --------
    >>> import numpy as np
    >>> [x.tolist() for x in split_labels(np.array([1, 0.5, 0.4, -1]))]
    [[True, True, False, False], [False, False, True, False]]
    """
    return np.asarray(target >= 0.5), np.asarray((target >= 0) & (target < 0.5))


def aligned(values: Array, truth: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Check that scores or predictions, truth and weights describe the same cells.

    Raises
    ------
    InputError
        If the arrays differ in shape, or weights are negative or not finite.
    """
    values, truth = np.asarray(values), np.asarray(truth)
    w = np.ones(truth.shape) if weights is None else np.asarray(weights, np.float64)
    if values.ndim != 1 or values.shape != truth.shape or w.shape != truth.shape:
        raise InputError(
            "Scores, truth and weights are not aligned.",
            expected="one-dimensional arrays of one length",
            got=f"{values.shape}, {truth.shape}, {w.shape}",
        )
    if not np.isfinite(w).all() or (w < 0).any():
        raise InputError("Weights must be finite and not negative.")
    return values, truth, w


def wilson(share: Array, n: Array) -> tuple[Array, Array]:
    """Wilson's 95 % interval of a share.

    Parameters
    ----------
    share : (k,) number
        0 to 1.
    n : (k,) number
        Number of independent cells, above 0.

    Returns
    -------
    low, high : (k,) float64

    Examples
    --------
    >>> low, high = wilson(np.array([0.0, 0.5]), np.array([10, 10]))
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.237], [0.278, 0.763])
    """
    z = 1.959964
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.minimum(np.maximum(middle - half, 0), share), np.maximum(
        np.minimum(middle + half, 1), share
    )
