"""Which cells count when the labels are noisy.

Pure functions on arrays of losses, one entry a cell.

The rules are those of Rumberger, Greenwald et al. (*Nimbus*), after ProMix (Wang et al.): cells
with a small loss for their group, and cells of whose label the net is convinced. A group is one
class of one marker of one dataset.
"""

from __future__ import annotations

import numpy as np

from panimbus.core.types import BoolArray, Float64Array, Int64Array


def unseen(groups: int) -> Float64Array:
    """(G,) thresholds before the first step: NaN, which every loss passes."""
    return np.full(groups, np.nan)


def percentile_at(step: int, steps: int, start: float, end: float) -> float:
    """The percentile at a step of the robust stage: a straight line from ``start`` to ``end``.

    Examples
    --------
    >>> percentile_at(0, 100, 50, 90), percentile_at(50, 100, 50, 90), percentile_at(7, 100, 85, 85)
    (50.0, 70.0, 85.0)
    """
    return float(start + (end - start) * min(step / max(steps, 1), 1.0))


def moved_thresholds(
    threshold: Float64Array,
    group: Int64Array,
    loss: Float64Array,
    *,
    percentile: float,
    keep: float,
) -> Float64Array:
    """The exponential moving percentile of each group's losses after one more batch.

    Parameters
    ----------
    threshold : (G,) float64
        State before; NaN = never seen.
    group : (k,) int64
        Group of each cell of the batch.
    loss : (k,) float64
        Its loss.
    percentile
        Of the losses of one group in the batch.
    keep
        Share of the old value (0.99); a group that is seen for the first time takes the batch's
        value.

    Examples
    --------
    >>> import numpy as np
    >>> old = np.array([1.0, np.nan, 3.0])
    >>> group, loss = np.array([0, 0, 1]), np.array([2.0, 2.0, 5.0])
    >>> moved_thresholds(old, group, loss, percentile=85, keep=0.9)
    array([1.1, 5. , 3. ])
    """
    out = threshold.copy()
    order = np.argsort(group, kind="stable")
    present, first = np.unique(group[order], return_index=True)
    for g, begin, end in zip(present, first, [*first[1:], len(loss)], strict=bool(len(loss))):
        value = float(np.percentile(loss[order[begin:end]], percentile))
        out[g] = value if np.isnan(out[g]) else keep * out[g] + (1 - keep) * value
    return out


def small_loss(loss: Float64Array, group: Int64Array, threshold: Float64Array) -> BoolArray:
    """(k,) cells whose loss is at most their group's threshold.

    A group that was never seen lets all pass.

    Examples
    --------
    >>> import numpy as np
    >>> small_loss(np.array([0.1, 0.9, 9.0]), np.array([0, 0, 1]), np.array([0.5, np.nan])).tolist()
    [True, False, True]
    """
    limit = threshold[group]
    return np.asarray(np.isnan(limit) | (loss <= limit))


def matched_confidence(
    score: Float64Array, target: Float64Array, *, high: float = 0.9, low: float = 0.1
) -> BoolArray:
    """(k,) cells of whose label the net is sure.

    Positive and score > ``high``, or negative and score < ``low``.

    Examples
    --------
    >>> import numpy as np
    >>> score, target = np.array([0.95, 0.95, 0.05, 0.5]), np.array([1.0, 0.0, 0.0, 1.0])
    >>> matched_confidence(score, target).tolist()
    [True, False, True, False]
    """
    positive = target >= 0.5
    return np.asarray((positive & (score > high)) | (~positive & (score < low)))


def trusted(small: BoolArray, matched: BoolArray) -> BoolArray:
    """(k,) the union: a cell counts if either rule takes it."""
    return np.asarray(small | matched)
