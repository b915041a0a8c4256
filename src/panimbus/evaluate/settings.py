"""Settings of an evaluation, and the names of what it compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
AGAINST_SILVER = "model_against_silver"
CONFOUNDED_METHODS = METHODS | {AGAINST_SILVER: "model against silver labels (not the truth)"}
"""Methods whose errors are compared with confounders; the last is what the public code shows."""
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
RADIUS_PX = 120.0
Unit = Literal["marker", "fov", "dataset"]
Rule = Literal["text", "code"]


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of an evaluation.

    Parameters
    ----------
    unit
        What the mean is over. ``marker``: the markers of a dataset, all its FOVs together;
        ``fov``: the markers of each FOV; ``dataset``: all markers of a dataset pooled, as in the
        Nimbus paper.
    threshold
        Lowest score at which a cell is predicted positive.
    draws
        Number of bootstrap draws.
    seed
        Random seed of the bootstrap.
    confounders
        ``text``: confounders as the paper's text defines them; ``code``: as its public code
        computes them (see `panimbus.evaluate.confounders.public_confounders`).
    radius_px
        Of a cell's surroundings, for ``code``.
    """

    unit: Unit = "marker"
    threshold: float = 0.5
    draws: int = 1000
    seed: int = 0
    confounders: Rule = "text"
    radius_px: float = RADIUS_PX
