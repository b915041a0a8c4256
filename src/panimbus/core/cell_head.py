"""Features of a cell for the last stage of a model, the cell head.

A net scores pixels, and their mean forgets where in the cell they lie. The head
(`panimbus.model.cell_head`) sees the mean beside the evidence of the cell
(`panimbus.core.evidence`: its rim, its inside, the cells that touch it). Each marker is seen alone,
so that any panel works.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import logit

from panimbus.core.table import INSIDE_MEAN, NEIGHBOUR_MAX, RIM_LOW
from panimbus.core.types import Array, Float32Array

FEATURES = ("logit", "rim_low", "inside", "neighbour")
"""Features of a cell. ``logit``: of the net's score. ``rim_low``, ``inside``, ``neighbour``: log
ratio of that evidence to the cell's mean intensity. None of them says how the channel's cells are
distributed, nor how bright the cell is: heads that were told so placed the boundary worse on
datasets that they had not seen (`benchmarks/model/head.md`)."""

_EDGE, _FAR, _LEAST = 1e-3, 3.0, 1e-4


def cell_features(
    score: Array, mean: Array, evidence: Mapping[str, Array], *, stats: Mapping[str, float]
) -> Float32Array:
    """What a head sees of the cells of one channel.

    Parameters
    ----------
    score : (n,) float
        The net's score.
    mean : (n,) float
        Mean intensity, in units of the normaliser.
    evidence
        Name of `panimbus.core.table.EVIDENCE` -> (n,) float, in the same unit.
    stats
        Of the channel, in the same unit (`panimbus.core.scale.ChannelScale.relative_stats`): the
        quartiles and ``q99`` of the cells' means. To both sides of a ratio a tenth of the distance
        between the quartiles is added, so that noise has no large ratios.

    Returns
    -------
    (n, F) float32
        `FEATURES`; NaN = missing stays.
    """
    low, high, top = (stats.get(q, 0.0) for q in ("q25", "q75", "q99"))
    floor = 0.1 * max(high - low, 0.05 * top) + _LEAST

    def above_floor(values: Array) -> Array:
        return np.maximum(np.asarray(values, np.float64), 0) + floor

    level = above_floor(mean)
    ratios = (above_floor(evidence[n]) / level for n in (RIM_LOW, INSIDE_MEAN, NEIGHBOUR_MAX))
    own = logit(np.clip(np.asarray(score, np.float64), _EDGE, 1 - _EDGE))
    columns = [own, *(np.clip(np.log(ratio), -_FAR, _FAR) for ratio in ratios)]
    return np.stack(columns, 1).astype(np.float32)
