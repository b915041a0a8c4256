"""The probability that an object is two cells, or badly cut.

From what contradicts its type, and from its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.table import AREA, EVIDENCE, FOV, INSIDE_MEAN, NEIGHBOUR_MAX, RIM_LOW, RIM_MEAN
from panimbus.io.scores import to_dense
from panimbus.phenotype.panel import Panel

if TYPE_CHECKING:
    from anndata import AnnData

MOST = 3
"""Contradicting markers that count."""
HAZE = 0.2
"""Share of a type's cells contradicted by a marker from which it no longer counts."""
# Fitted by benchmarks/phenotype/mixed.py on simulated tissue whose segmentation errors are exact
# (seeds 200 to 208). Intercept, then the columns of `mixed_features`; without evidence layers the
# last two are not there.
WITH_EVIDENCE = (-3.98, 1.40, 1.42, -0.76, -0.62)
WITHOUT_EVIDENCE = (-3.94, 2.40, 1.37)


def mixed_features(
    table: AnnData, contradicting: npt.NDArray[np.bool_], kind: npt.NDArray[np.int32], panel: Panel
) -> npt.NDArray[np.float64]:
    """Features of `mixed_probability`.

    Parameters
    ----------
    table
        With obs ``area_um2`` and the evidence layers, as far as they are there.
    contradicting : (n, M) bool
        `panimbus.phenotype.contradictions.contradicting`.
    kind : (n,) int32
        Each cell's type.
    panel

    Returns
    -------
    (n, 2 or 4) float64
        Contradicting markers (at most `MOST`; a marker that contradicts a fifth of a type's cells
        is haze and does not count, one that contradicts a tenth counts half); how much larger than
        the FOV's median cell (log of the areas' ratio, at least 0); and of the commonest
        contradicting marker the logs of its rim beside its brightest neighbour (low: lent by that
        neighbour) and of its inside beside its rim. The last two are 0 where nothing contradicts.
    """
    import pandas as pd

    number = np.zeros(table.n_obs)
    for i in np.unique(kind).tolist():
        rows = kind == i
        rare = np.clip(1 - contradicting[rows].mean(0) / HAZE, 0, 1)
        number[rows] = np.minimum(contradicting[rows] @ rare, MOST)
    larger = np.zeros(table.n_obs)
    if AREA in table.obs:
        area = table.obs[AREA].to_numpy(np.float64)
        median = (
            pd.Series(area)
            .groupby(table.obs[FOV].astype(str).to_numpy())
            .transform("median")
            .to_numpy()
        )
        larger = np.maximum(np.log(np.maximum(area, 1e-9) / np.maximum(median, 1e-9)), 0)
    columns = [number, larger]
    if all(layer in table.layers for layer in EVIDENCE):
        rows = np.arange(table.n_obs)
        order = np.argsort(-contradicting.sum(0), kind="stable")
        channels = np.array([panel.markers[m].channel for m in order.tolist()])[
            contradicting[:, order].argmax(1)
        ]
        rim_low, rim, inside, neighbour = (
            np.nan_to_num(
                np.asarray(to_dense(table.layers[layer]))[rows, channels].astype(np.float64)
            )
            for layer in (RIM_LOW, RIM_MEAN, INSIDE_MEAN, NEIGHBOUR_MAX)
        )
        lent, filled = (
            np.log((a + 1e-3) / (b + 1e-3)) for a, b in ((rim_low, neighbour), (inside, rim))
        )
        columns += [
            np.where(number > 0, np.clip(lent, -3, 3), 0),
            np.where(number > 0, np.clip(filled, -2, 2), 0),
        ]
    return np.stack(columns, 1)


def mixed_probability(
    table: AnnData, contradicting: npt.NDArray[np.bool_], kind: npt.NDArray[np.int32], panel: Panel
) -> npt.NDArray[np.float32]:
    """(n,) probability that a quarter or more of the object's cell pixels belong to another cell.

    See `mixed_features`.
    """
    features = mixed_features(table, contradicting, kind, panel)
    intercept, *slopes = WITH_EVIDENCE if features.shape[1] == 4 else WITHOUT_EVIDENCE
    return np.asarray(1 / (1 + np.exp(-(intercept + features @ np.array(slopes)))), np.float32)
