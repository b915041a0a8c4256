"""A correction of scores: temperature and offset on their logit (Platt 1999; Guo et al. 2017)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from panimbus.core.types import Array

Correction = tuple[float, float]
"""(temperature, offset): a logit z becomes ``z / temperature + offset``."""
NONE: Correction = (1.0, 0.0)
_EDGE = 1e-6  # scores are float32: nearer to 0 or 1 the logit is rounding


def corrected(scores: Array, correction: Correction) -> npt.NDArray[np.float32]:
    """Scores whose logits are divided by the temperature and moved by the offset.

    Parameters
    ----------
    scores : any shape, float
        0..1.
    correction
        (temperature, offset).

    Returns
    -------
    float32, same shape

    Examples
    --------
    >>> import numpy as np
    >>> corrected(np.array([0.5, 0.5]), (2.0, 0.0)).tolist()
    [0.5, 0.5]
    >>> corrected(np.array([0.2]), (1.0, np.log(4))).round(3).tolist()
    [0.5]
    """
    temperature, offset = correction
    p = np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(expit(logit(p) / temperature + offset), np.float32)
