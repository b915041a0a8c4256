"""Figures of each unit of an evaluation (a marker of a dataset, or of a FOV), with bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.stats import (
    FN,
    TP,
    UNJUDGED,
    auc,
    bootstrap_confusion,
    f1_score,
    interval,
    outcomes,
    rates,
    ratio,
    strata,
    tally,
)
from panimbus.core.types import Array
from panimbus.evaluate.settings import MODEL, ORACLES, RANKED, EvaluateSettings

RATES = ("precision", "recall", "specificity", "f1")


@dataclass(frozen=True)
class UnitScores:
    """F1 of U units and M methods, and of the units of each of D datasets pooled.

    Parameters
    ----------
    units
        One row per unit: dataset, tissue, channel, fov, unit, undetermined.
    methods
        M names.
    draws : (draws, U, M) float64
        NaN where a method judged nothing.
    markers
        One row per unit and method, with the figures of the calls themselves.
    tables : (U, M, 4) float64
        Confusion tables of the calls themselves.
    datasets
        D names.
    pooled_draws : (draws, D, M) float64
        F1 of the summed confusion tables of a dataset's units.
    """

    units: pd.DataFrame
    methods: tuple[str, ...]
    draws: npt.NDArray[np.float64]
    markers: pd.DataFrame
    tables: npt.NDArray[np.float64]
    datasets: tuple[str, ...]
    pooled_draws: npt.NDArray[np.float64]


def by_unit(calls: pd.DataFrame, methods: Sequence[str], settings: EvaluateSettings) -> UnitScores:
    """Evaluate each unit.

    Parameters
    ----------
    calls
        Scored calls with a column ``unit`` and one column per method: 1, 0 or NaN.
    methods
    settings
    """
    units, draws, rows, tables = [], [], [], []
    pooled: dict[str, npt.NDArray[np.float64]] = {}
    for number, group in calls.groupby("unit", sort=False):
        unit = {name: group[name].iloc[0] for name in ("dataset", "tissue", "channel")}
        unit["fov"] = ", ".join(dict.fromkeys(group["fov"]))
        judged = group[group["truth"] >= 0]
        unit |= {"unit": number, "undetermined": len(group) - len(judged)}
        codes = codes_of(judged, methods)
        weights = judged["weight"].to_numpy(np.float64)
        seed = [settings.seed, int(str(number))]
        drawn = bootstrap_confusion(
            codes, weights, strata(weights), draws=settings.draws, seed=seed
        )
        pooled[unit["dataset"]] = pooled.get(unit["dataset"], 0.0) + drawn
        draws.append(f1_score(drawn))
        units.append(unit)
        tables.append(np.stack([tally(codes[:, m], weights) for m in range(len(methods))]))
        for m, method in enumerate(methods):
            row = {**unit, "method": method, **figures(codes[:, m], weights)}
            row["f1_low"], row["f1_high"] = bounds(draws[-1][:, m], method)
            rows.append(row | _ranking(judged, method))
    return UnitScores(
        pd.DataFrame(units),
        tuple(methods),
        np.stack(draws, 1),
        pd.DataFrame(rows),
        np.stack(tables),
        tuple(pooled),
        np.stack([f1_score(table) for table in pooled.values()], 1),
    )


def codes_of(judged: pd.DataFrame, methods: Sequence[str]) -> npt.NDArray[np.int8]:
    """(n, M) outcomes of every method."""
    truth = judged["truth"].to_numpy()
    return np.stack([outcomes(judged[m].to_numpy(np.float64), truth) for m in methods], 1)


def figures(codes: npt.NDArray[np.int8], weights: Array) -> dict[str, float]:
    """Precision, recall, specificity, F1 of one method's outcomes; NaN where undefined."""
    table = tally(codes, weights)
    return {
        "calls": int((codes < UNJUDGED).sum()),
        "positive": float(ratio(table[TP] + table[FN], table.sum())),
        **{name: float(value) for name, value in rates(table)._asdict().items()},
    }


def _ranking(judged: pd.DataFrame, method: str) -> dict[str, float]:
    """AUC of a method that ranks cells; bias and Brier score of one that gives probabilities."""
    out = dict.fromkeys(("threshold", "auc", "bias", "brier"), float("nan"))
    column = {"mixture": "mixture_posterior"}.get(method, RANKED.get(method, ""))
    if not column or not len(judged):
        return out
    truth, weights = judged["truth"].to_numpy(), judged["weight"].to_numpy(np.float64)
    values = judged[column].to_numpy(np.float64)
    out["auc"] = auc(values, truth, weights)
    if method in ORACLES:
        out["threshold"] = float(judged[f"{method}_at"].iloc[0])
    if method in (MODEL, "mixture"):
        out["bias"] = float(np.average(values - truth, weights=weights))
        out["brier"] = float(np.average((values - truth) ** 2, weights=weights))
    return out


def bounds(draws: Array, method: str) -> tuple[float, float]:
    """Interval of the draws; none for an oracle, whose threshold was fitted to these calls."""
    return (float("nan"), float("nan")) if method in ORACLES else interval(draws)


def nanmean(values: Array, axis: int) -> Array:
    """Mean of the values that are not NaN; NaN (without a warning) where all are."""
    defined = ~np.isnan(values)
    count = defined.sum(axis)
    return np.where(
        count > 0, np.where(defined, values, 0).sum(axis) / np.maximum(count, 1), np.nan
    )
