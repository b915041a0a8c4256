"""Confounders of errors, as the Nimbus paper defines them.

Cell size: pixels of the cell. Marker heterogeneity: coefficient of variation of the mean
intensities of a FOV's cells in a channel. Marker rarity: share of positive cells of a marker and
FOV. Marker sparsity: positive cells within 120 px. Cell density: cells within 120 px.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from panimbus.core.stats import entropy, mutual_information, permuted_information
from panimbus.core.types import Array

RADIUS_PX = 120.0
CONFOUNDERS = ("cell_size", "heterogeneity", "rarity", "sparsity", "density")


def heterogeneity(intensity: Array) -> float:
    """Coefficient of variation (standard deviation / mean) of the cells' mean intensities (n,).

    NaN for a mean of 0.
    """
    values = np.asarray(intensity, np.float64)
    mean = float(values.mean()) if values.size else 0.0
    return float(values.std() / mean) if mean > 0 else float("nan")


def neighbours(
    xy: Array, rows: Array, positive: Array, radius: float = RADIUS_PX
) -> tuple[Array, Array]:
    """Count the cells, and the positive cells, within ``radius`` of a cell's centroid.

    The cell itself is not counted.

    Parameters
    ----------
    xy : (n, 2) number
        Centroids of all cells of a FOV in pixels.
    rows : (k,) integer
        The cells in question.
    positive : (n,) bool
    radius
        Pixels.

    Returns
    -------
    cells, positives : (k,) int64

    Examples
    --------
    >>> import numpy as np
    >>> xy = np.array([[0, 0], [0, 50], [0, 300]])
    >>> neighbours(xy, np.array([0, 2]), np.array([True, True, False]))
    (array([1, 0]), array([1, 0]))
    """
    from scipy.spatial import cKDTree

    xy, rows, positive = np.asarray(xy, np.float64), np.asarray(rows), np.asarray(positive, bool)
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = xy[rows]
    cells = np.asarray(cKDTree(xy).query_ball_point(at, radius, return_length=True), np.int64) - 1
    plus = np.zeros(len(rows), np.int64)
    if positive.any():
        plus = (
            np.asarray(
                cKDTree(xy[positive]).query_ball_point(at, radius, return_length=True), np.int64
            )
            - positive[rows]
        )
    return cells, plus


def confounder_table(calls: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Mutual information of confounders and errors, and the error rate in each third.

    Parameters
    ----------
    calls
        Scored calls with one column per method: 1, 0 or NaN.
    methods
        Names of these columns.

    Returns
    -------
    DataFrame
        One row per confounder and method.
    """
    rows = []
    for method in methods:
        part = calls[(calls["truth"] >= 0) & calls[method].notna()]
        wrong_calls = (part[method] != part["truth"]).to_numpy()
        for name in CONFOUNDERS:
            values = part[name].to_numpy(np.float64)
            keep = np.isfinite(values)
            values, errors = values[keep], wrong_calls[keep]
            row = {
                "confounder": name,
                "method": method,
                "calls": len(values),
                "wrong": float(errors.mean()) if len(values) else 0.0,
            }
            row |= {"information": mutual_information(values, errors), "entropy": entropy(errors)}
            row["chance"] = permuted_information(values, errors) if len(values) else 0.0
            cuts = np.quantile(values, [1 / 3, 2 / 3]) if len(values) else [0, 0]
            third = np.digitize(values, cuts, right=True)
            row |= {
                f"wrong_{n}": _error_rate(errors[third == k])
                for k, n in enumerate(("low", "middle", "high"))
            }
            rows.append(row)
    return pd.DataFrame(rows)


def _error_rate(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
