"""Means over markers and datasets, and figures of all markers of a dataset pooled.

Two means of the same calls differ. The mean over markers gives a rare marker the weight of a common
one. The Nimbus paper sums the confusion tables of all markers of a dataset, then takes the mean
over datasets: there a marker weighs as much as it has positive cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.stats import bootstrap_confusion, f1_score, rates, strata
from panimbus.core.types import Array
from panimbus.evaluate.settings import (
    ALL,
    MIN_CALLS,
    MODEL,
    SILVER,
    SILVER_CELLS,
    EvaluateSettings,
)
from panimbus.evaluate.units import RATES, UnitScores, bounds, codes_of, figures, nanmean


def marker_means(drawn: UnitScores) -> pd.DataFrame:
    """Mean over the markers of each dataset, then over datasets."""
    return _with_gains(drawn, *dataset_means(drawn, pooled=False))


def pooled_means(drawn: UnitScores) -> pd.DataFrame:
    """All markers of each dataset as one table of calls, then the mean over datasets.

    Returns
    -------
    DataFrame
        The columns of `marker_means` but ``auc``.
    """
    return _with_gains(drawn, *dataset_means(drawn, pooled=True))


def dataset_means(
    drawn: UnitScores, *, pooled: bool
) -> tuple[list[dict[str, Any]], npt.NDArray[np.float64]]:
    """Figures of each dataset, and of their mean, and method.

    Parameters
    ----------
    drawn
        D datasets, M methods.
    pooled
        All markers of a dataset pooled; otherwise the mean over them.

    Returns
    -------
    rows
        One per dataset (`ALL`, the mean, is the last) and method.
    draws : (draws, D + 1, M) float64
        F1.
    """
    rows: list[dict[str, Any]] = []
    sets = {name: (drawn.units["dataset"] == name).to_numpy() for name in drawn.datasets}
    draws = (
        drawn.pooled_draws
        if pooled
        else np.stack([nanmean(drawn.draws[:, inside], 1) for inside in sets.values()], 1)
    )
    draws = np.concatenate([draws, nanmean(draws, 1)[:, None]], 1)
    by_dataset = {name: _pooled(drawn, name) for name in drawn.datasets}
    for d, dataset in enumerate([*drawn.datasets, ALL]):
        names = drawn.datasets if dataset == ALL else (dataset,)
        for m, method in enumerate(drawn.methods):
            units = drawn.markers[drawn.markers["method"] == method]
            means = (
                _mean_over([by_dataset[n][m] for n in names])
                if pooled
                else _mean_of(units[units["dataset"].isin(names)])
            )
            row = {"dataset": dataset, "method": method, **means}
            row["f1_low"], row["f1_high"] = bounds(draws[:, d, m], method)
            rows.append(row)
    return rows, draws


def _with_gains(
    drawn: UnitScores, rows: list[dict[str, Any]], draws: npt.NDArray[np.float64]
) -> pd.DataFrame:
    for d in range(draws.shape[1]):
        some = slice(d * len(drawn.methods), (d + 1) * len(drawn.methods))
        _add_gains(rows[some], draws[:, d], drawn.methods)
    return pd.DataFrame(rows)


def _pooled(drawn: UnitScores, dataset: str) -> list[dict[str, float]]:
    """Figures of each method over all units of a dataset."""
    inside = (drawn.units["dataset"] == dataset).to_numpy()
    out = []
    for m, method in enumerate(drawn.methods):
        rows = drawn.markers[drawn.markers["method"] == method][inside]
        table = rates(drawn.tables[inside, m].sum(0))
        out.append(
            {
                "markers": int(rows["f1"].notna().sum()),
                "calls": int(rows["calls"].sum()),
                **{name: float(value) for name, value in table._asdict().items()},
            }
        )
    return out


def _mean_over(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Sums of numbers and means of rates over datasets; undefined rates are left out."""
    frame = pd.DataFrame(rows)
    counts = {name: int(frame[name].sum()) for name in ("markers", "calls")}
    return {**counts, **{name: float(frame[name].mean()) for name in RATES}}


def _add_gains(rows: list[dict[str, Any]], draws: Array, methods: Sequence[str]) -> None:
    """Add the F1 of the model minus that of each method, paired.

    Silver labels are compared on the cells that have one.
    """
    for m, (method, row) in enumerate(zip(methods, rows, strict=True)):
        other = SILVER_CELLS if method == SILVER else MODEL
        row.update(dict.fromkeys(("gain", "gain_low", "gain_high"), float("nan")))
        if method in (MODEL, SILVER_CELLS):
            continue
        row["gain"] = rows[methods.index(other)]["f1"] - row["f1"]
        row["gain_low"], row["gain_high"] = bounds(
            draws[:, methods.index(other)] - draws[:, m], method
        )


def _mean_of(rows: pd.DataFrame) -> dict[str, float]:
    """Mean over the markers, then over datasets; undefined figures are left out."""
    columns = [*RATES, "auc"]
    mean = rows.groupby("dataset", sort=False)[columns].mean().mean()
    return {
        "markers": int(rows["f1"].notna().sum()),
        "calls": int(rows["calls"].sum()),
        **{k: float(mean[k]) for k in columns},
    }


def group_means(calls: pd.DataFrame, drawn: UnitScores, settings: EvaluateSettings) -> pd.DataFrame:
    """Tissues, as the unit is; cell types: all calls of a dataset's type, then over datasets."""
    rows = _tissues(drawn, pooled=settings.unit == "dataset")
    judged = calls[(calls["truth"] >= 0) & (calls["cell_type"] != "")]
    for number, (kind, part) in enumerate(judged.groupby("cell_type")):
        seed = [settings.seed, 1, number]
        rows += _cell_type(str(kind), part, drawn.methods, settings, seed)
    return pd.DataFrame(rows)


def _tissues(drawn: UnitScores, *, pooled: bool) -> list[dict[str, Any]]:
    """Mean over markers (or all markers pooled), then over datasets, of each tissue."""
    rows = []
    units = drawn.units
    for tissue in [t for t in dict.fromkeys(units["tissue"]) if t]:
        part = drawn.markers[drawn.markers["tissue"] == tissue]
        sets = dict.fromkeys(part["dataset"])
        inside = [((units["tissue"] == tissue) & (units["dataset"] == d)).to_numpy() for d in sets]
        if pooled:
            draws = nanmean(
                np.stack([drawn.pooled_draws[:, drawn.datasets.index(d)] for d in sets], 1), 1
            )
            figures_of = [_pooled(drawn, d) for d in sets]
        else:
            draws = nanmean(np.stack([nanmean(drawn.draws[:, m], 1) for m in inside], 1), 1)
        for m, method in enumerate(drawn.methods):
            row = {"kind": "tissue", "group": tissue, "method": method, "datasets": len(sets)}
            row |= (
                _mean_over([f[m] for f in figures_of])
                if pooled
                else _mean_of(part[part["method"] == method])
            )
            row["f1_low"], row["f1_high"] = bounds(draws[:, m], method)
            rows.append(row)
    return rows


def _cell_type(
    name: str,
    part: pd.DataFrame,
    methods: Sequence[str],
    settings: EvaluateSettings,
    seed: list[int],
) -> list[dict[str, Any]]:
    by_dataset, draws = [], []
    for _, rows in part.groupby("dataset", sort=False):
        codes, weights = codes_of(rows, methods), rows["weight"].to_numpy(np.float64)
        level, units = np.zeros(len(rows), np.intp), rows["unit"].to_numpy()
        for unit in dict.fromkeys(units.tolist()):
            inside = units == unit
            level[inside] = level.max() + 1 + strata(weights[inside])
        by_dataset.append([figures(codes[:, m], weights) for m in range(len(methods))])
        draws.append(
            f1_score(bootstrap_confusion(codes, weights, level, draws=settings.draws, seed=seed))
        )
    mean = nanmean(np.stack(draws, 1), 1)
    out = []
    for m, method in enumerate(methods):
        frame = pd.DataFrame([f[m] for f in by_dataset])
        row: dict[str, Any] = {
            "kind": "cell type",
            "group": name,
            "method": method,
            "datasets": len(by_dataset),
        }
        row |= {"markers": part["channel"].nunique(), "calls": int(frame["calls"].sum())}
        row |= {k: float(frame[k].mean()) for k in RATES}
        limits = bounds(mean[:, m], method) if row["calls"] >= MIN_CALLS else (float("nan"),) * 2
        out.append(row | {"f1_low": limits[0], "f1_high": limits[1]})
    return out
