"""What the result says of one cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from panimbus.core.table import (
    AREA,
    CELL,
    CELL_TYPE,
    CONFIDENCE,
    CONTRADICTION,
    FAINT,
    FOV,
    MEAN,
    METACLUSTER,
    MIXED,
    OBJECT,
    REASON,
    SD,
)
from panimbus.phenotype.evidence import evidence_at
from panimbus.viewer.result import Tables

_MIXED = 0.5


@dataclass(frozen=True)
class MarkerFacts:
    """A cell's values for one marker.

    Parameters
    ----------
    marker
    score, spread
        The score and its standard deviation over the views; NaN if missing.
    evidence
        Logit of the score minus logit of the threshold: above 0 is positive.
    intensity
        Mean intensity.
    positive
        None if the score is missing.
    """

    marker: str
    score: float
    spread: float
    evidence: float
    intensity: float
    positive: bool | None


@dataclass(frozen=True)
class CellFacts:
    """What the result says of one cell.

    Parameters
    ----------
    row
        In the table.
    fov_id, cell_id
    about
        Name -> value, for reading: area, type, reason and the like.
    markers
        In the table's order.
    """

    row: int
    fov_id: str
    cell_id: int
    about: dict[str, str]
    markers: tuple[MarkerFacts, ...]


def cell_facts(tables: Tables, row: int) -> CellFacts:
    """Everything known of the cell in a row of the tables."""
    obs = tables.cells.obs.iloc[row]
    score = np.asarray(tables.cells.X[row], np.float32).ravel()
    thresholds = [tables.thresholds[m] for m in tables.markers]
    layers = tables.cells.layers
    nothing = np.full(len(score), np.nan)
    spread, mean = (np.asarray(layers[k][row]) if k in layers else nothing for k in (SD, MEAN))
    weight = evidence_at(score[np.newaxis], np.array(thresholds))[0]
    markers = tuple(
        MarkerFacts(
            m, float(score[k]), float(spread[k]), float(weight[k]), float(mean[k]),
            None if np.isnan(score[k]) else bool(score[k] >= thresholds[k]),
        )
        for k, m in enumerate(tables.markers)
    )  # fmt: skip
    return CellFacts(row, str(obs[FOV]), int(obs[CELL]), _about(tables, row), markers)


def cell_line(tables: Tables, row: int, markers: Sequence[str]) -> str:
    """A cell in one line, as shown under the pointer."""
    obs = tables.cells.obs.iloc[row]
    parts = [f"cell {obs[CELL]}"]
    if tables.types is not None:
        parts.append(str(tables.types[CELL_TYPE].iloc[row]))
    for marker in markers:
        if marker in tables.markers:
            score = float(tables.cells.X[row, tables.markers.index(marker)])
            parts.append(f"{marker} {score:.2f}")
    return " · ".join(parts)


def _about(tables: Tables, row: int) -> dict[str, str]:
    obs, out = tables.cells.obs.iloc[row], {}
    if AREA in obs:
        out["area"] = f"{float(obs[AREA]):.0f} µm²"
    if OBJECT in obs and str(obs[OBJECT]) != "cell":
        out["object"] = str(obs[OBJECT])
    if tables.types is None:
        return out
    typed = tables.types.iloc[row]
    out["type"] = str(typed[CELL_TYPE])
    if CONFIDENCE in typed:
        out["type"] += f" (confidence {float(typed[CONFIDENCE]):.2f})"
    for name, column in (
        ("reason", REASON), ("cluster", METACLUSTER), ("contradiction", CONTRADICTION)
    ):  # fmt: skip
        if column in typed and str(typed[column]) not in ("", "nan"):
            out[name] = str(typed[column])
    if MIXED in typed and float(typed[MIXED]) >= _MIXED:
        out["mixed"] = f"perhaps light of its neighbours ({float(typed[MIXED]):.2f})"
    if FAINT in typed and bool(typed[FAINT]):
        out["faint"] = "no marker is clearly positive"
    return out
