"""Precision, recall, specificity and F1 of each marker, from scores and truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.stats import FN, TP, confusion, rates
from panimbus.core.types import Array


@dataclass(frozen=True)
class Metrics:
    """Rates of one marker; see `panimbus.core.stats.Rates` for their definitions.

    Parameters
    ----------
    precision, recall, specificity, f1
        NaN where undefined.
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


def metrics(
    scores: Array, truth: Array, *, threshold: float = 0.5, weights: Array | None = None
) -> Metrics:
    """Compare the scores of one marker with the truth.

    Parameters
    ----------
    scores : (n,) number
        A cell is predicted positive from ``threshold`` on; booleans are 0 and 1. NaN is refused.
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
    table = confusion(values >= threshold, truth, weights)
    judged = int(np.isin(np.asarray(truth), (0, 1)).sum())
    return Metrics(
        **{name: float(value) for name, value in rates(table)._asdict().items()},
        judged=judged,
        positives=float(table[TP] + table[FN]),
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
        One column per marker.
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
