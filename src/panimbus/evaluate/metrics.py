"""Precision, recall, specificity and F1 of positivity calls, and the baseline everyone starts from
(Otsu on mean intensity).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.types import Array

UNDETERMINED = -1


@dataclass(frozen=True)
class Metrics:
    """How good the calls of one marker are (standard definitions.

    The paper's text misstates two of them).

    A ratio whose denominator is 0 is undefined and NaN: precision where nothing is called positive,
    recall where nothing is positive, specificity where nothing is negative, F1 where nothing is
    positive and nothing is called so.

    Parameters
    ----------
    precision
        True positives / all called positive.
    recall
        True positives / all positives.
    specificity
        True negatives / all negatives.
    f1
        Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN): 0, not NaN, where positives
        exist and none is called.
    judged
        Number of cells with a truth.
    positives
        Weight of the positives among them (their number, without weights).
    """

    precision: float
    recall: float
    specificity: float
    f1: float
    judged: int
    positives: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON-able: an undefined value is None."""
        values = {
            k: float(getattr(self, k))
            for k in ("precision", "recall", "specificity", "f1", "positives")
        }
        return {**{k: None if np.isnan(v) else v for k, v in values.items()}, "judged": self.judged}


def confusion(
    called: Array, truth: Array, weights: Array | None = None
) -> tuple[float, float, float, float]:
    """Weight of true positives, false positives, false negatives and true negatives.

    Parameters
    ----------
    called : (n,) bool
    truth : (n,) integer or bool
        1 positive, 0 negative; anything else (-1) is not judged and counts nowhere.
    weights : (n,) number, optional
        Weight of each cell, e.g. the inverse of how likely it was to be drawn.

    Examples
    --------
    >>> import numpy as np
    >>> confusion(np.array([True, True, False, False, True]), np.array([1, 0, 1, 0, -1]))
    (1.0, 1.0, 1.0, 1.0)
    """
    called, truth = np.asarray(called, bool), np.asarray(truth)
    if (
        called.ndim != 1
        or called.shape != truth.shape
        or (weights is not None and np.shape(weights) != truth.shape)
    ):
        got = f"{called.shape}, {truth.shape}" + (
            "" if weights is None else f", {np.shape(weights)}"
        )
        raise InputError(
            "Calls, truth and weights are not aligned.",
            expected="one-dimensional arrays of one length",
            got=got,
        )
    w = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    if not np.isfinite(w).all() or (w < 0).any():
        raise InputError("Weights must be finite and not negative.")
    positive, negative = truth == 1, truth == 0
    return (
        float(w[called & positive].sum()),
        float(w[called & negative].sum()),
        float(w[~called & positive].sum()),
        float(w[~called & negative].sum()),
    )


def metrics(
    scores: Array, truth: Array, *, threshold: float = 0.5, weights: Array | None = None
) -> Metrics:
    """Judge scores (or calls: booleans are 0 and 1) of one marker.

    Parameters
    ----------
    scores : (n,) number
        A cell is called positive from ``threshold`` on; NaN is no score and refused.
    truth : (n,) integer or bool
        1 positive, 0 negative, anything else not judged.
    threshold
    weights : (n,) number, optional

    Examples
    --------
    >>> import numpy as np
    >>> m = metrics(np.array([0.9, 0.5, 0.2, 0.1]), np.array([1, 0, 1, 0]))
    >>> m.precision, m.recall, m.specificity, m.f1
    (0.5, 0.5, 0.5, 0.5)
    """
    values = np.asarray(scores, np.float64)
    if np.isnan(values).any():
        raise InputError(
            "There are cells without a score.",
            got=f"{int(np.isnan(values).sum()):,} NaN of {values.size:,}",
        )
    tp, fp, fn, tn = confusion(values >= threshold, truth, weights)
    judged = int(np.isin(np.asarray(truth), (0, 1)).sum())
    return Metrics(
        _ratio(tp, tp + fp),
        _ratio(tp, tp + fn),
        _ratio(tn, tn + fp),
        _ratio(2 * tp, 2 * tp + fp + fn),
        judged,
        tp + fn,
    )


def metrics_by_marker(
    scores: Array,
    truth: Array,
    markers: Sequence[str],
    *,
    threshold: float = 0.5,
    weights: Array | None = None,
) -> dict[str, Metrics]:
    """`metrics` of each marker.

    Parameters
    ----------
    scores, truth : (n, C)
        One column a marker.
    markers
        C names.
    threshold
    weights : (n,) or (n, C), optional
    """
    scores, truth = np.asarray(scores), np.asarray(truth)
    if scores.shape != truth.shape or scores.ndim != 2 or scores.shape[1] != len(markers):
        raise InputError(
            "Scores, truth and markers are not aligned.",
            expected=f"two arrays (cells, {len(markers)})",
            got=f"{scores.shape} and {truth.shape}",
        )
    w = (
        None
        if weights is None
        else np.broadcast_to(np.asarray(weights).reshape(len(scores), -1), scores.shape)
    )
    return {
        name: metrics(
            scores[:, k], truth[:, k], threshold=threshold, weights=None if w is None else w[:, k]
        )
        for k, name in enumerate(markers)
    }


def mean_f1(table: dict[str, Metrics]) -> float:
    """Macro F1: the mean over the markers where it is defined; NaN if it is nowhere."""
    values = np.array([m.f1 for m in table.values()], np.float64)
    return float(values[~np.isnan(values)].mean()) if (~np.isnan(values)).any() else float("nan")


def otsu_positive(values: Array) -> npt.NDArray[np.bool_]:
    """The baseline.

    Cells whose mean intensity is above Otsu's threshold of all the cells' mean intensities.

    Parameters
    ----------
    values : (n,) number
        Mean intensity of each cell in one channel.

    Returns
    -------
    (n,) bool
        All False where the values are all equal: there is nothing to split.

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


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")


def auc(scores: Array, truth: Array, weights: Array | None = None) -> float:
    """Area under the ROC curve.

    How likely a positive cell scores above a negative one (a tie counts one half).

    Parameters
    ----------
    scores : (n,) number
    truth : (n,) integer or bool
        1 positive, 0 negative, anything else not judged.
    weights : (n,) number, optional

    Returns
    -------
    float
        NaN with one class only.

    Examples
    --------
    >>> import numpy as np
    >>> auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1, 1, 0, 0]))
    0.875
    """
    _, plus, minus = _by_value(scores, truth, weights)
    if plus.sum() <= 0 or minus.sum() <= 0:
        return float("nan")
    below = np.cumsum(minus) - minus
    return float((plus * (below + minus / 2)).sum() / (plus.sum() * minus.sum()))


def best_threshold(
    scores: Array, truth: Array, weights: Array | None = None
) -> tuple[float, float]:
    """The threshold with the highest F1, found by looking at the truth: an oracle, no method.

    Parameters
    ----------
    scores : (n,) number
    truth : (n,) integer or bool
        1 positive, 0 negative, anything else not judged.
    weights : (n,) number, optional

    Returns
    -------
    threshold, f1 : float
        Cells from ``threshold`` on are positive: it lies in the middle between two scores. Where
        nothing is positive it is infinite, and F1 NaN.

    Examples
    --------
    >>> import numpy as np
    >>> best_threshold(np.array([0.9, 0.4, 0.2, 0.1]), np.array([1, 1, 0, 0]))[1]
    1.0
    """
    values, plus, minus = _by_value(scores, truth, weights)
    total = plus.sum()
    if not total > 0:
        return float("inf"), float("nan")
    tp, fp = np.cumsum(plus[::-1])[::-1], np.cumsum(minus[::-1])[::-1]
    f1 = 2 * tp / (tp + fp + total)
    at = int(np.argmax(f1))
    cut = values[at] if at == 0 else (values[at] + values[at - 1]) / 2
    return float(cut if cut > values[at - 1] or at == 0 else values[at]), float(f1[at])


def _by_value(scores: Array, truth: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Each score there is, in order, and the weight of the positives and of the negatives that have
    it.
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth)
    confusion(np.zeros(scores.shape, bool), truth, weights)  # refuses what is not aligned
    if np.isnan(scores).any():
        raise InputError(
            "There are cells without a score.",
            got=f"{int(np.isnan(scores).sum()):,} NaN of {scores.size:,}",
        )
    w = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    values, at = np.unique(scores, return_inverse=True)
    plus, minus = (np.bincount(at, w * (truth == t), len(values)) for t in (1, 0))
    return values, plus, minus
