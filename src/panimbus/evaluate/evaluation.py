"""From scored calls to tables: each method by marker, dataset, tissue and cell type.

The mean over markers is taken first, then the mean over datasets, so that datasets with many
markers or calls do not count more. F1 of markers without positive cells: see
`panimbus.core.stats`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.errors import InputError
from panimbus.core.stats import (
    FN,
    TP,
    UNJUDGED,
    auc,
    best_threshold,
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
from panimbus.evaluate.calibration import Calibration, calibration
from panimbus.evaluate.confounders import confounder_table

MODEL, SILVER, SILVER_CELLS = "model", "silver", "model_silver"
METHODS = {
    MODEL: "model",
    "otsu": "Otsu on mean intensity",
    "mixture": "two-component mixture on log mean intensity",
    SILVER: "silver labels",
    SILVER_CELLS: "model, on the cells with silver labels",
    "model_best": "model, best threshold per marker (oracle)",
    "intensity_best": "mean intensity, best threshold per marker (oracle)",
}
ORACLES = ("model_best", "intensity_best")
RANKED = {
    MODEL: "score",
    "otsu": "intensity",
    "mixture": "mixture",
    "model_best": "score",
    "intensity_best": "intensity",
}
ALL = "mean"
MIN_CALLS = 10
"""A cell type with fewer calls has no interval: so few cells do not show how much others vary."""


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of an evaluation.

    Parameters
    ----------
    unit
        ``marker``: all FOVs of a dataset together; ``fov``: each FOV by itself.
    threshold
        Lowest score at which a cell is predicted positive.
    draws
        Number of bootstrap draws.
    seed
        Random seed of the bootstrap.
    """

    unit: Literal["marker", "fov"] = "marker"
    threshold: float = 0.5
    draws: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Parameters
    ----------
    calls
        The scored calls, with ``unit`` (number of the unit) and one column per method: 1, 0 or
        NaN.
    markers
        One row per unit and method.
    means
        One row per dataset (and `ALL`: the mean over datasets) and method; ``gain`` is the F1 of
        the model minus that of the method, on the same cells.
    groups
        One row per tissue or cell type and method.
    curves
        Dataset, or `ALL` -> calibration of the scores, every unit with the same total weight.
    confounders
        One row per confounder and method.
    settings
        Settings with which it was computed.
    """

    calls: pd.DataFrame
    markers: pd.DataFrame
    means: pd.DataFrame
    groups: pd.DataFrame
    curves: dict[str, Calibration]
    confounders: pd.DataFrame
    settings: EvaluateSettings

    def __repr__(self) -> str:
        model = self.means[(self.means["method"] == MODEL) & (self.means["dataset"] == ALL)]
        f1 = ", ".join(f"{value:.3f}" for value in model["f1"])
        return f"<Evaluation: mean F1 {f1}, {len(self.calls):,} annotations>"


@dataclass(frozen=True)
class UnitScores:
    """F1 of U units and M methods.

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
    """

    units: pd.DataFrame
    methods: tuple[str, ...]
    draws: npt.NDArray[np.float64]
    markers: pd.DataFrame


def evaluate_calls(scored: pd.DataFrame, settings: EvaluateSettings | None = None) -> Evaluation:
    """Evaluate scored calls.

    Parameters
    ----------
    scored
        From `match_scores`, of one dataset or of several one below the other.
    settings

    Raises
    ------
    InputError
        If no call is positive or negative.
    """
    settings = settings or EvaluateSettings()
    if not (scored["truth"] >= 0).any():
        raise InputError(
            "No call is positive or negative: there is nothing to judge.",
            got=f"{len(scored):,} calls",
        )
    calls = _answers(scored, settings)
    methods = tuple(m for m in METHODS if m in calls)
    drawn = by_unit(calls, methods, settings)
    return Evaluation(
        calls,
        drawn.markers,
        _means(drawn),
        _groups(calls, drawn, settings),
        _curves(calls),
        confounder_table(calls, [m for m in (MODEL, "otsu", SILVER) if m in methods]),
        settings,
    )


def _answers(scored: pd.DataFrame, settings: EvaluateSettings) -> pd.DataFrame:
    """Units, and the predictions of each method: 1, 0, NaN."""
    keys = ["dataset", "channel", *(["fov"] if settings.unit == "fov" else [])]
    out = scored.sort_values(
        ["dataset", "fov", "channel", "cell_id"], kind="stable", ignore_index=True
    )
    out["unit"] = out.groupby(keys, sort=False).ngroup()
    out[MODEL] = (out["score"] >= settings.threshold).astype(np.float64)
    out["mixture_posterior"] = out["mixture"]
    out["mixture"] = (out["mixture"] >= 0.5).astype(np.float64)
    if out["silver"].notna().any():
        defined = out["silver"].notna()
        out["silver_label"] = out["silver"]
        out[SILVER] = np.where(defined, (out["silver"] >= 0.5).astype(np.float64), np.nan)
        out[SILVER_CELLS] = np.where(defined, out[MODEL], np.nan)
    else:
        out = out.drop(columns=SILVER)
    for name in ORACLES:
        out[name], out[f"{name}_at"] = 0.0, np.nan
        for _, rows in out.groupby("unit", sort=False):
            values = rows[RANKED[name]].to_numpy(np.float64)
            cut, _ = best_threshold(values, rows["truth"].to_numpy(), rows["weight"].to_numpy())
            out.loc[rows.index, name] = (values >= cut).astype(np.float64)
            out.loc[rows.index, f"{name}_at"] = cut
    return out


def by_unit(calls: pd.DataFrame, methods: Sequence[str], settings: EvaluateSettings) -> UnitScores:
    """Evaluate each unit.

    Parameters
    ----------
    calls
        Scored calls with a column ``unit`` and one column per method: 1, 0 or NaN.
    methods
    settings
    """
    units, draws, rows = [], [], []
    for number, group in calls.groupby("unit", sort=False):
        unit = {name: group[name].iloc[0] for name in ("dataset", "tissue", "channel")}
        unit["fov"] = ", ".join(dict.fromkeys(group["fov"]))
        judged = group[group["truth"] >= 0]
        unit |= {"unit": number, "undetermined": len(group) - len(judged)}
        codes = _codes(judged, methods)
        weights = judged["weight"].to_numpy(np.float64)
        seed = [settings.seed, int(str(number))]
        drawn = bootstrap_confusion(
            codes, weights, strata(weights), draws=settings.draws, seed=seed
        )
        draws.append(f1_score(drawn))
        units.append(unit)
        for m, method in enumerate(methods):
            row = {**unit, "method": method, **_figures(codes[:, m], weights)}
            row["f1_low"], row["f1_high"] = _bounds(draws[-1][:, m], method)
            rows.append(row | _ranking(judged, method))
    return UnitScores(pd.DataFrame(units), tuple(methods), np.stack(draws, 1), pd.DataFrame(rows))


def _codes(judged: pd.DataFrame, methods: Sequence[str]) -> npt.NDArray[np.int8]:
    """(n, M) outcomes of every method."""
    truth = judged["truth"].to_numpy()
    return np.stack([outcomes(judged[m].to_numpy(np.float64), truth) for m in methods], 1)


def _figures(codes: npt.NDArray[np.int8], weights: Array) -> dict[str, float]:
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


def _means(drawn: UnitScores) -> pd.DataFrame:
    """Mean over the markers of each dataset, then over datasets."""
    datasets = list(dict.fromkeys(drawn.units["dataset"]))
    draws = np.stack(
        [nanmean(drawn.draws[:, (drawn.units["dataset"] == d).to_numpy()], 1) for d in datasets], 1
    )
    rows = []
    for d, dataset in enumerate([*datasets, ALL]):
        part = draws[:, d] if d < len(datasets) else nanmean(draws, 1)
        for m, method in enumerate(drawn.methods):
            rows_of = drawn.markers[drawn.markers["method"] == method]
            row = {
                "dataset": dataset,
                "method": method,
                **_mean_of(rows_of if dataset == ALL else rows_of[rows_of["dataset"] == dataset]),
            }
            row["f1_low"], row["f1_high"] = _bounds(part[:, m], method)
            rows.append(row)
        _add_gains(rows[-len(drawn.methods) :], part, drawn.methods)
    return pd.DataFrame(rows)


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
        row["gain_low"], row["gain_high"] = _bounds(
            draws[:, methods.index(other)] - draws[:, m], method
        )


def _mean_of(rows: pd.DataFrame) -> dict[str, float]:
    """Mean over the markers, then over datasets; undefined figures are left out."""
    figures = ["precision", "recall", "specificity", "f1", "auc"]
    mean = rows.groupby("dataset", sort=False)[figures].mean().mean()
    return {
        "markers": int(rows["f1"].notna().sum()),
        "calls": int(rows["calls"].sum()),
        **{k: float(mean[k]) for k in figures},
    }


def _groups(calls: pd.DataFrame, drawn: UnitScores, settings: EvaluateSettings) -> pd.DataFrame:
    """Tissues: means over markers, then datasets.

    Cell types: all calls of a dataset's type together, then over datasets.
    """
    rows = []
    units, methods = drawn.units, drawn.methods
    for tissue in [t for t in dict.fromkeys(units["tissue"]) if t]:
        part = drawn.markers[drawn.markers["tissue"] == tissue]
        sets = dict.fromkeys(part["dataset"])
        inside = [((units["tissue"] == tissue) & (units["dataset"] == d)).to_numpy() for d in sets]
        draws = nanmean(np.stack([nanmean(drawn.draws[:, m], 1) for m in inside], 1), 1)
        for m, method in enumerate(methods):
            row = {"kind": "tissue", "group": tissue, "method": method, "datasets": len(sets)}
            row |= _mean_of(part[part["method"] == method])
            row["f1_low"], row["f1_high"] = _bounds(draws[:, m], method)
            rows.append(row)
    judged = calls[(calls["truth"] >= 0) & (calls["cell_type"] != "")]
    for number, (kind, part) in enumerate(judged.groupby("cell_type")):
        rows += _cell_type(str(kind), part, methods, settings, [settings.seed, 1, number])
    return pd.DataFrame(rows)


def _cell_type(
    name: str,
    part: pd.DataFrame,
    methods: Sequence[str],
    settings: EvaluateSettings,
    seed: list[int],
) -> list[dict[str, Any]]:
    figures, draws = [], []
    for _, rows in part.groupby("dataset", sort=False):
        codes, weights = _codes(rows, methods), rows["weight"].to_numpy(np.float64)
        level = np.zeros(len(rows), np.intp)
        for unit in rows["unit"].unique():
            inside = (rows["unit"] == unit).to_numpy()
            level[inside] = level.max() + 1 + strata(weights[inside])
        figures.append([_figures(codes[:, m], weights) for m in range(len(methods))])
        draws.append(
            f1_score(bootstrap_confusion(codes, weights, level, draws=settings.draws, seed=seed))
        )
    mean = nanmean(np.stack(draws, 1), 1)
    out = []
    for m, method in enumerate(methods):
        frame = pd.DataFrame([f[m] for f in figures])
        row: dict[str, Any] = {
            "kind": "cell type",
            "group": name,
            "method": method,
            "datasets": len(figures),
        }
        row |= {"markers": part["channel"].nunique(), "calls": int(frame["calls"].sum())}
        row |= {k: float(frame[k].mean()) for k in ("precision", "recall", "specificity", "f1")}
        bounds = _bounds(mean[:, m], method) if row["calls"] >= MIN_CALLS else (float("nan"),) * 2
        out.append(row | {"f1_low": bounds[0], "f1_high": bounds[1]})
    return out


def _curves(calls: pd.DataFrame) -> dict[str, Calibration]:
    judged = calls[calls["truth"] >= 0]
    weight = judged["weight"] / judged.groupby("unit")["weight"].transform("sum")
    out = {}
    for name in [ALL, *dict.fromkeys(judged["dataset"])]:
        inside = judged["dataset"].isin([name]).to_numpy() | (name == ALL)
        out[name] = calibration(
            judged["score"].to_numpy()[inside],
            judged["truth"].to_numpy()[inside],
            weight.to_numpy()[inside],
        )
    return out


def _bounds(draws: Array, method: str) -> tuple[float, float]:
    """Interval of the draws; none for an oracle, whose threshold was fitted to these calls."""
    return (float("nan"), float("nan")) if method in ORACLES else interval(draws)


def nanmean(values: Array, axis: int) -> Array:
    """Mean of the values that are not NaN; NaN (without a warning) where all are."""
    defined = ~np.isnan(values)
    count = defined.sum(axis)
    return np.where(
        count > 0, np.where(defined, values, 0).sum(axis) / np.maximum(count, 1), np.nan
    )
