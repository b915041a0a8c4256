r"""Evidence of markers for or against types, and how reliable each marker is.

The evidence of marker m in a cell is the logit of its score less the logit of its threshold,

    e = logit(score) - logit(threshold),    times r^2 of the marker where it is positive,

with r, the *reliability*, measured on the dataset (`reliability`): a marker that contradicts many
others is weaker evidence for a type; its absence counts in full.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from panimbus.core.types import Array, BoolArray, Float32Array, Float64Array
from panimbus.phenotype.panel import Panel

LIMIT = 5.0
"""Largest evidence of one marker, either way: scores are not surer than 0.993."""
_FEW = 30.0  # double positives of fewer expected cells say little
_CHUNK = 1 << 15


def evidence(
    scores: Float32Array, panel: Panel, thresholds: Mapping[str, float] | None = None
) -> Float32Array:
    """Evidence of each marker of a panel.

    Parameters
    ----------
    scores : (n, C) float32
        Of the panel's channels.
    panel
    thresholds
        Channel -> score from which it is positive; 0.5 for the others. A level of the table stands
        in place of it.

    Returns
    -------
    (n, M) float32
        Logit of the score less that of the threshold, within ``LIMIT``.
    """
    columns = [m.channel for m in panel.markers]
    at = [
        m.level if m.level is not None else (thresholds or {}).get(panel.channels[m.channel], 0.5)
        for m in panel.markers
    ]
    return evidence_at(scores[:, columns], np.array(at))


def evidence_at(scores: Float32Array, at: Array) -> Float32Array:
    """Evidence of scores (n, M) against thresholds (M,).

    Logit of the score less that of the threshold, within ``LIMIT``.

    Examples
    --------
    >>> evidence_at(np.array([[0.5, 0.9]], np.float32), np.array([0.5, 0.5])).round(1).tolist()
    [[0.0, 2.200000047683716]]
    """
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logit = np.log(clipped) - np.log1p(-clipped) - np.float32(np.log(at) - np.log1p(-at))
    # below as `panimbus.core.thresholds.calls` has it, to the last bit
    below = scores < np.asarray(at, np.float32)
    logit = np.where(below, np.minimum(logit, -1e-6), np.maximum(logit, 0))
    return np.asarray(np.clip(logit, -LIMIT, LIMIT), np.float32)


def double_positives(evidence_of: Float32Array) -> Float64Array:
    """(M, M) expected number of cells that are positive for two markers.

    The diagonal is that for one.
    """
    out = np.zeros((evidence_of.shape[1],) * 2)
    for start in range(0, len(evidence_of), _CHUNK):
        positive = sigmoid(evidence_of[start : start + _CHUNK]).astype(np.float64)
        both = positive.T @ positive
        np.fill_diagonal(both, positive.sum(0))
        out += both
    return out


def reliability(both: Array, exclusive: BoolArray, cells: int) -> Float64Array:
    """Reliability of each marker where it is positive.

    1 = it never contradicts a reliable marker.

    A pair of exclusive markers contradicts itself in the share of the rarer one's cells that are
    positive for both. A marker's reliability is one minus the mean share over the markers that
    exclude it, each weighted by its own reliability and by how common the commoner of the two is
    (that two rare markers hardly meet says nothing). It is found by iteration, as a page's rank is
    among pages.

    Parameters
    ----------
    both : (M, M) float64
        `double_positives`.
    exclusive : (M, M) bool
        Pairs that no type carries together.
    cells
        How many cells were counted.

    Returns
    -------
    (M,) float64
        Relative to the most reliable marker; 1 for markers that exclude no other.

    Examples
    --------
    CD3 and PAX5 hardly meet, but most CD3+ cells are CD20+: it is CD20 that cannot be trusted.

    >>> import numpy as np
    >>> both = np.array([[360, 40, 260], [40, 630, 600], [260, 600, 820]])  # CD3, PAX5, CD20
    >>> exclusive = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], bool)
    >>> reliability(both, exclusive, 1000).round(2)
    array([0.8 , 1.  , 0.31])
    """
    number = np.diagonal(both)
    rarer, commoner = np.minimum.outer(number, number), np.maximum.outer(number, number)
    apart = 1 - np.divide(both, rarer, out=np.zeros_like(rarer, dtype=float), where=rarer > 0)
    weight = np.where(exclusive, commoner / max(cells, 1) * rarer / (rarer + _FEW), 0)
    out = np.ones(len(number))
    for _ in range(30):
        total = weight @ out
        out = np.divide(
            (weight * np.clip(apart, 0, 1)) @ out, total, out=np.ones_like(out), where=total > 1e-6
        )
    return np.asarray(out / max(out.max(initial=0), 1e-9))


def weighed(evidence_of: Float32Array, reliabilities: Array) -> Float32Array:
    """Evidence times the square of each marker's reliability where it is positive."""
    return np.where(evidence_of > 0, evidence_of * np.float32(reliabilities) ** 2, evidence_of)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-x)))
