"""Leave one batch out: whether what holds on some staining days holds on another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from panimbus.core.errors import InputError
from panimbus.core.stats import best_threshold
from panimbus.core.table import BATCH
from panimbus.evaluate.metrics import metrics
from panimbus.evaluate.settings import MODEL

FROM_OTHERS = {
    "model_others": ("score", "model, threshold of the others"),
    "intensity_others": ("intensity", "intensity, threshold of the others"),
}
"""Method -> the column that it ranks by, and its name in words."""
_KEYS = ["dataset", "channel"]


def leave_one_batch_out(scored: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """F1 of each marker in each batch, with nothing chosen on that batch.

    Parameters
    ----------
    scored
        From `match_scores`, with the column ``batch``.
    threshold
        Of the model.

    Returns
    -------
    DataFrame
        One row per dataset, batch, marker and method: the model at its threshold (``model``), and
        the scores and mean intensities at the threshold with the highest F1 on the other batches
        (``model_others``, ``intensity_others``); threshold, f1, cells and positive (cells that are
        so). Markers without positive cells in the other batches, or without annotations in the
        batch, are left out.

    Raises
    ------
    InputError
        If there are fewer than two batches with annotations.
    """
    judged = scored[scored["truth"] >= 0]
    if judged[BATCH].nunique() < 2:
        raise InputError(
            "Leaving one batch out needs two batches with annotations.",
            got=f"annotations of {', '.join(map(str, sorted(set(judged[BATCH])))) or 'no batch'}",
        )
    rows = []
    for (dataset, marker), of_marker in judged.groupby(_KEYS, sort=False):
        for batch, inside in of_marker.groupby(BATCH, sort=True):
            others = of_marker[of_marker[BATCH] != batch]
            if not (others["truth"] == 1).any():
                continue
            cuts = {MODEL: ("score", threshold)}
            for method, (column, _) in FROM_OTHERS.items():
                cut, _ = best_threshold(
                    others[column].to_numpy(),
                    others["truth"].to_numpy(),
                    others["weight"].to_numpy(),
                )
                cuts[method] = (column, cut)
            for method, (column, cut) in cuts.items():
                judgement = metrics(
                    inside[column].to_numpy(),
                    inside["truth"].to_numpy(),
                    threshold=cut,
                    weights=inside["weight"].to_numpy(),
                )
                positive = int((inside["truth"] == 1).sum())
                rows.append(
                    (dataset, batch, marker, method, cut, judgement.f1, len(inside), positive)
                )
    names = ["dataset", "batch", "marker", "method", "threshold", "f1", "cells", "positive"]
    return pd.DataFrame(rows, columns=names)


def batch_table(left_out: pd.DataFrame) -> list[Sequence[str]]:
    """Mean F1 over markers of each batch and method, and the marker that is worst, as a table."""
    methods = {MODEL: "model", **{name: words for name, (_, words) in FROM_OTHERS.items()}}
    table: list[Sequence[str]] = [["batch", "markers", *methods.values(), "worst marker"]]
    means = left_out.groupby(["batch", "method"])["f1"].mean()
    for batch, rows in left_out.groupby("batch", sort=True):
        of_model = rows[rows["method"] == MODEL]
        worst = of_model.sort_values("f1", kind="stable").iloc[0]
        figures = [f"{means[batch, method]:.3f}" for method in methods]
        count = str(of_model["marker"].nunique())
        table.append([str(batch), count, *figures, f"{worst['marker']} {worst['f1']:.2f}"])
    spread = []
    for method in methods:
        of_batches = means.xs(method, level="method").to_numpy(np.float64)
        deviation = of_batches.std(ddof=1) if len(of_batches) > 1 else np.nan
        spread.append(f"{of_batches.mean():.3f} ± {deviation:.3f}")
    return [*table, ["mean ± SD of batches", "", *spread, ""]]
