"""Confounders of errors, as the Nimbus paper defines them.

Cell size: pixels of the cell. Marker heterogeneity: coefficient of variation of the mean
intensities of a FOV's cells in a channel. Marker rarity: share of positive cells of a marker and
FOV. Marker sparsity: positive cells within 120 px. Cell density: cells within 120 px.

That is the paper's text. Its public code (``figure_4_error_analysis_supp2.ipynb``) computes other
things; `public_confounders` follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from panimbus.core.stats import entropy, mutual_information, permuted_information
from panimbus.core.types import Array
from panimbus.evaluate.settings import AGAINST_SILVER, MODEL, RADIUS_PX, SILVER

CONFOUNDERS = ("cell_size", "heterogeneity", "rarity", "sparsity", "density")
_DECIDUA, _MISLABELLED = ("decidua", "mibi_decidua"), ("Ki67", "IDO", "PDL1")


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
    xy, rows, positive = np.asarray(xy, np.float64), np.asarray(rows), np.asarray(positive, bool)
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    at = xy[rows]
    cells = count_within(xy, at, radius) - 1
    return cells, count_within(xy[positive], at, radius) - positive[rows]


def count_within(xy: Array, at: Array, radius: float, *, square: bool = False) -> Array:
    """Count the points ``xy`` (n, 2) within ``radius`` of each of the points ``at`` (k, 2).

    Parameters
    ----------
    xy, at : (n, 2), (k, 2) number
    radius
        Distances equal to it count.
    square
        Within a square of twice the radius instead of a circle.

    Returns
    -------
    (k,) int64

    Examples
    --------
    >>> import numpy as np
    >>> corner = np.array([[3.0, 4.0]])
    >>> origin = np.zeros((1, 2))
    >>> count_within(corner, origin, 4.5), count_within(corner, origin, 4.5, square=True)
    (array([0]), array([1]))
    """
    from scipy.spatial import cKDTree

    if not len(xy) or not len(at):
        return np.zeros(len(at), np.int64)
    tree = cKDTree(xy)
    counted = tree.query_ball_point(at, radius, p=np.inf if square else 2, return_length=True)
    return np.asarray(counted, np.int64)


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
        wrong = (part[method] != part["truth"]).to_numpy()
        rows += [_row(name, method, part[name].to_numpy(np.float64), wrong) for name in CONFOUNDERS]
    return _measured(rows)


def public_confounders(calls: pd.DataFrame, radius: float = RADIUS_PX) -> pd.DataFrame:
    """Scored calls with the confounders of the paper's public code.

    They differ from those of the text: cells without a silver label are left out of everything;
    heterogeneity is that of the annotated positive cells alone (with n - 1, nothing where there are
    fewer than two); sparsity and density are counted in a square of twice the radius, among the
    annotated cells of the marker instead of all cells, the cell itself included. Calls of Ki67, IDO
    and PDL1 in the decidua are left out ("labelling errors").

    Parameters
    ----------
    calls
        Scored calls with x, y (pixels; NaN: unknown) and, if there are silver labels, ``silver``.
    radius
        Half the side of the square, in pixels.

    Returns
    -------
    DataFrame
        The calls that count, with other `CONFOUNDERS`.
    """
    keep = calls["truth"] >= 0
    if SILVER in calls:
        keep &= calls[SILVER].notna()
    keep &= ~(calls["dataset"].isin(_DECIDUA) & calls["channel"].isin(_MISLABELLED))
    part = calls[keep].reset_index(drop=True)
    keys = [part[k] for k in ("dataset", "channel", "fov")]
    plus = part["intensity"].where(part["truth"] == 1).groupby(keys, sort=False)
    spread, mean = plus.transform("std"), plus.transform("mean")
    truth = part["truth"].astype(np.float64)
    out = part.assign(
        heterogeneity=(spread / (mean + 1e-8)).abs(),
        rarity=truth.groupby(keys, sort=False).transform("mean"),
        sparsity=np.nan,
        density=np.nan,
    )
    if "x" not in part:
        return out
    sparsity, density = np.full(len(part), np.nan), np.full(len(part), np.nan)
    xy, positive = part[["x", "y"]].to_numpy(np.float64), (truth == 1).to_numpy()
    for rows in part.groupby(keys, sort=False).indices.values():
        at = rows[np.isfinite(xy[rows]).all(1)]
        density[at] = count_within(xy[at], xy[at], radius, square=True)
        sparsity[at] = count_within(xy[at[positive[at]]], xy[at], radius, square=True)
    return out.assign(sparsity=sparsity, density=density)


def public_confounder_table(calls: pd.DataFrame, radius: float = RADIUS_PX) -> pd.DataFrame:
    """`confounder_table` of `public_confounders`: errors of the model, and what its figure shows.

    The second column of the paper's Figure 4d ("integrated expression") is how often the model
    differs from the silver labels, which need not be an error. It is named `AGAINST_SILVER`.
    """
    part = public_confounders(calls, radius)
    against = {MODEL: "truth"} | ({AGAINST_SILVER: SILVER} if SILVER in part else {})
    rows = []
    for method, other in against.items():
        wrong = (part[MODEL] != part[other]).to_numpy()
        rows += [_row(name, method, part[name].to_numpy(np.float64), wrong) for name in CONFOUNDERS]
    return _measured(rows)


def _row(confounder: str, method: str, values: Array, errors: Array) -> dict[str, Any]:
    """Figures of one confounder and method; ``values`` that are not finite do not count."""
    keep = np.isfinite(values)
    values, errors = values[keep], errors[keep]
    cuts = np.quantile(values, [1 / 3, 2 / 3]) if len(values) else [0, 0]
    third = np.digitize(values, cuts, right=True)
    return {
        "confounder": confounder,
        "method": method,
        "calls": len(values),
        "wrong": float(errors.mean()) if len(values) else 0.0,
        "information": mutual_information(values, errors),
        "entropy": entropy(errors),
        "chance": permuted_information(values, errors) if len(values) else 0.0,
        **{
            f"wrong_{n}": _error_rate(errors[third == k])
            for k, n in enumerate(("low", "middle", "high"))
        },
    }


def _measured(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows, without confounders that no call has, such as those that need positions."""
    table = pd.DataFrame(rows)
    measured = table.groupby("confounder")["calls"].transform("sum") > 0
    return table[measured].reset_index(drop=True)


def _error_rate(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
