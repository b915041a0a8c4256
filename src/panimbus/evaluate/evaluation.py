"""From scored calls to tables: each method by marker, dataset, tissue and cell type.

The mean over markers is taken first, then the mean over datasets, so that datasets with many
markers or calls do not count more; all markers of a dataset pooled are beside it, as in the Nimbus
paper. F1 of markers without positive cells: see `panimbus.core.stats`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from panimbus.core.errors import InputError
from panimbus.core.stats import best_threshold
from panimbus.evaluate.calibration import Calibration, calibration
from panimbus.evaluate.confounders import confounder_table, public_confounder_table
from panimbus.evaluate.means import group_means, marker_means, pooled_means
from panimbus.evaluate.settings import (
    ALL,
    METHODS,
    MODEL,
    ORACLES,
    RANKED,
    SILVER,
    SILVER_CELLS,
    EvaluateSettings,
)
from panimbus.evaluate.units import by_unit


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
    pooled
        The same with all markers of a dataset pooled, as in the Nimbus paper; without ``auc``.
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
    pooled: pd.DataFrame
    groups: pd.DataFrame
    curves: dict[str, Calibration]
    confounders: pd.DataFrame
    settings: EvaluateSettings

    @property
    def headline(self) -> pd.DataFrame:
        """``means``, or ``pooled`` if the unit is the dataset."""
        return self.pooled if self.settings.unit == "dataset" else self.means

    def __repr__(self) -> str:
        means = self.headline
        model = means[(means["method"] == MODEL) & (means["dataset"] == ALL)]
        f1 = ", ".join(f"{value:.3f}" for value in model["f1"])
        return f"<Evaluation: mean F1 {f1}, {len(self.calls):,} annotations>"


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
        marker_means(drawn),
        pooled_means(drawn),
        group_means(calls, drawn, settings),
        _curves(calls),
        public_confounder_table(calls, settings.radius_px)
        if settings.confounders == "code"
        else confounder_table(calls, [m for m in (MODEL, "otsu", SILVER) if m in methods]),
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
