"""Thresholds per marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import ChannelError, InputError
from panimbus.core.naming import did_you_mean
from panimbus.core.types import Array


def check_thresholds(thresholds: Mapping[str, float], channels: Sequence[str]) -> None:
    """Refuse thresholds of unknown markers, or outside 0 to 1; lists all problems."""
    unknown = [name for name in thresholds if name not in channels]
    wrong = {
        n: v
        for n, v in thresholds.items()
        if not isinstance(v, int | float | np.number) or not 0 < v < 1
    }
    got = "; ".join(
        [f"no marker {n!r}{did_you_mean(n, channels)}" for n in unknown]
        + [f"{n}: {v}" for n, v in wrong.items()]
    )
    if unknown:
        raise ChannelError("Thresholds that cannot be used.", got=got, available=channels)
    if wrong:
        raise InputError(
            "Thresholds that cannot be used.", expected="each above 0 and below 1", got=got
        )


def calls(scores: Array, thresholds: npt.ArrayLike) -> Array:
    """Which cells are positive: those whose score is at least the marker's threshold.

    Parameters
    ----------
    scores : (n, C) float
        NaN = missing.
    thresholds : (C,) float
        Rounded to the scores' precision first, so that a float32 score written as 0.7 reaches a
        threshold of 0.7.

    Returns
    -------
    (n, C) uint8
        0 or 1; where scores are missing float32, with NaN in their places.

    Examples
    --------
    >>> calls(np.array([[0.4, 0.7]], np.float32), [0.5, 0.7])
    array([[0, 1]], dtype=uint8)
    >>> calls(np.array([[np.nan, 0.7]], np.float32), [0.5, 0.7])
    array([[nan,  1.]], dtype=float32)
    """
    positive = (scores >= np.asarray(thresholds, scores.dtype)).astype(np.uint8)
    missing = np.isnan(scores)
    return (
        np.where(missing, np.float32(np.nan), positive.astype(np.float32))
        if missing.any()
        else positive
    )
