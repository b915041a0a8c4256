"""Confounders of errors, as the Nimbus paper defines them.

Cell size: pixels of the cell. Marker heterogeneity: coefficient of variation of the mean
intensities of a FOV's cells in a channel. Marker rarity: share of positive cells of a marker and
FOV. Marker sparsity: positive cells within 120 px. Cell density: cells within 120 px.
"""

from __future__ import annotations

import numpy as np

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
