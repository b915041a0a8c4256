"""Annotations joined with scores, baselines and confounders: one row per call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.annotations.matching import mismatches, raise_mismatches
from panimbus.annotations.table import TRUTH_KEY
from panimbus.core.errors import InputError
from panimbus.core.stats import otsu_positive
from panimbus.core.table import AREA, BATCH, CELL, FOV, MEAN, NORMALISER, PROVENANCE, SPATIAL
from panimbus.core.types import Array
from panimbus.evaluate.baselines import mixture_posterior
from panimbus.evaluate.confounders import heterogeneity, neighbours
from panimbus.evaluate.settings import RADIUS_PX
from panimbus.io.segmented import pixel_sizes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True)
class CellMetadata:
    """What is known of a dataset's cells besides annotations and scores, for tables by group.

    Parameters
    ----------
    tissue
        Name of the tissue, "" if unknown.
    cell_types
        From `read_cell_types`.
    silver
        From `read_silver`.
    radius_px
        Radius of a cell's surroundings, in pixels of the image.
    """

    tissue: str = ""
    cell_types: pd.DataFrame | None = None
    silver: pd.DataFrame | None = None
    radius_px: float = RADIUS_PX


@dataclass(frozen=True)
class _Cells:
    """All cells of one FOV and channel: n rows in the table's order."""

    cell_id: Array
    xy_px: Array
    size_px: Array
    score: Array
    intensity: Array
    normaliser: float
    threshold: float


def match_scores(
    table: AnnData, calls: pd.DataFrame, metadata: CellMetadata | None = None
) -> pd.DataFrame:
    """Look up the score of each call, and compute the baselines on all cells of its FOV.

    Parameters
    ----------
    table
        From `panimbus.predict`.
    calls
        From `panimbus.annotations.table.with_truth`.
    metadata

    Returns
    -------
    DataFrame
        One row per call: dataset, fov, channel, cell_id, call, truth, weight, tissue, cell_type;
        score; intensity (mean intensity in units of the normaliser); otsu (0 or 1); mixture
        (posterior); silver (NaN = undefined); x, y (centroid in pixels); and the confounders
        cell_size, heterogeneity, rarity, sparsity, density; batch, if the table has it. Positive
        neighbours are positive by their call, else by their silver label, else by their score.

    Raises
    ------
    InputError
        If the calls name FOVs, channels or cells that are not in the table.
    """
    import pandas as pd

    _check_table(table)
    metadata = metadata or CellMetadata()
    fovs = table.obs[FOV].astype(str).to_numpy()
    ids = table.obs[CELL].to_numpy()
    cells = {f: ids[fovs == f] for f in dict.fromkeys(fovs)}
    raise_mismatches(
        mismatches(calls, cells, {key: list(table.var_names) for key in cells}), "the cell table"
    )
    sizes = pixel_sizes(table)
    parts = []
    for (_, fov, channel), rows in calls.groupby(["dataset", "fov", "channel"], sort=False):
        scored = _cells(table, fovs == fov, str(channel), sizes.get(str(fov), 1.0))
        parts.append(_one(rows, scored, metadata))
    out = pd.concat(parts)
    if BATCH in table.obs:
        of_fov = dict(zip(fovs, table.obs[BATCH].astype(str), strict=True))
        out[BATCH] = out["fov"].map(of_fov)
    return _with_types(out, metadata).sort_values(list(TRUTH_KEY), kind="stable", ignore_index=True)


def _check_table(table: AnnData) -> None:
    missing = [f"obs[{c!r}]" for c in (FOV, CELL, AREA) if c not in table.obs]
    missing += [] if MEAN in table.layers else [f"layers[{MEAN!r}]"]
    missing += [] if SPATIAL in table.obsm else [f"obsm[{SPATIAL!r}]"]
    missing += [] if NORMALISER in table.var else [f"var[{NORMALISER!r}]"]
    missing += [] if PROVENANCE in table.uns else [f"uns[{PROVENANCE!r}]"]
    if missing:
        raise InputError(
            "This is not a cell table that panimbus predict wrote.",
            got=f"it lacks {', '.join(missing)}",
        )


def _cells(table: AnnData, rows: Array, channel: str, mpp: float) -> _Cells:
    k = list(table.var_names).index(channel)
    return _Cells(
        table.obs[CELL].to_numpy()[rows],
        np.asarray(table.obsm[SPATIAL])[rows] / mpp,
        table.obs[AREA].to_numpy()[rows] / mpp**2,
        np.asarray(table.X)[rows, k].astype(np.float64),
        np.asarray(table.layers[MEAN])[rows, k].astype(np.float64),
        float(table.var[NORMALISER].to_numpy()[k]),
        float(table.uns[PROVENANCE].get("threshold", 0.5)),
    )


def _one(rows: pd.DataFrame, cells: _Cells, metadata: CellMetadata) -> pd.DataFrame:
    """The calls of one FOV and channel."""
    fov, channel = str(rows["fov"].iloc[0]), str(rows["channel"].iloc[0])
    at = _positions(cells.cell_id, rows["cell_id"].to_numpy())
    silver = _silver(cells, fov, channel, metadata)
    truth, weight = rows["truth"].to_numpy(), rows["weight"].to_numpy(np.float64)
    positive = np.where(np.isnan(silver), cells.score >= cells.threshold, silver >= 0.5)
    positive[at[truth >= 0]] = truth[truth >= 0] == 1
    density, sparsity = neighbours(cells.xy_px, at, positive, metadata.radius_px)
    judged = truth >= 0
    unit = cells.normaliser if cells.normaliser > 0 else float("nan")
    return rows.assign(
        tissue=metadata.tissue,
        score=cells.score[at],
        intensity=np.nan_to_num(cells.intensity[at] / unit),
        otsu=otsu_positive(cells.intensity)[at].astype(np.float64),
        mixture=mixture_posterior(cells.intensity, cells.normaliser)[at],
        silver=silver[at],
        x=cells.xy_px[at, 0],
        y=cells.xy_px[at, 1],
        cell_size=cells.size_px[at],
        heterogeneity=heterogeneity(cells.intensity),
        rarity=float(np.average(truth[judged] == 1, weights=weight[judged]))
        if judged.any()
        else float("nan"),
        sparsity=sparsity,
        density=density,
    )


def _positions(cell_id: Array, wanted: Array) -> npt.NDArray[np.intp]:
    order = np.argsort(cell_id)
    return np.asarray(order[np.searchsorted(cell_id, wanted, sorter=order)], np.intp)


def _silver(cells: _Cells, fov: str, channel: str, metadata: CellMetadata) -> Array:
    """Silver label of each cell of a FOV, NaN where there is none."""
    out = np.full(len(cells.cell_id), np.nan)
    if metadata.silver is not None:
        labels = metadata.silver[
            (metadata.silver["fov"] == fov) & (metadata.silver["channel"] == channel)
        ]
        labels = labels[labels["cell_id"].isin(cells.cell_id)]
        out[_positions(cells.cell_id, labels["cell_id"].to_numpy())] = labels["label"].to_numpy()
    return out


def _with_types(frame: pd.DataFrame, metadata: CellMetadata) -> pd.DataFrame:
    if metadata.cell_types is None:
        return frame.assign(cell_type="")
    merged = frame.merge(metadata.cell_types, on=["fov", "cell_id"], how="left")
    return merged.assign(cell_type=merged["cell_type"].fillna(""))
