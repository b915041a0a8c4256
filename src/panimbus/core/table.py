"""Column names of the cell table, and the table as AnnData or as plain columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.channel_types import CHANNEL_TYPES
from panimbus.core.objects import EXCLUDED, OBJECT_KINDS, object_kinds
from panimbus.core.thresholds import calls
from panimbus.core.types import Array

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

FOV, CELL, AREA = "fov_id", "cell_id", "area_um2"
MEAN, SD = "intensity_mean", "score_sd"
RIM_MEAN, RIM_LOW, INSIDE_MEAN, NEIGHBOUR_MAX = EVIDENCE = (
    "rim_mean",
    "rim_low",
    "inside_mean",
    "neighbour_max",
)
POSITIVE, THRESHOLD, CHANNEL_TYPE = "positive", "threshold", "channel_type"
DOUBT = "doubt"
SCORE_BEFORE, THRESHOLD_BEFORE = "score_before", "threshold_before"  # before recalibration
OBJECT = "object"
BATCH = "batch"
SOM_NODE, METACLUSTER, CLUSTERING = "som_node", "metacluster", "clustering"
CELL_TYPE, CONFIDENCE, REASON, PHENOTYPE = "cell_type", "confidence", "reason", "phenotype"
CONTRADICTION, MIXED, FAINT = "contradiction", "mixed", "faint"
UNASSIGNED, NOT_TYPED = "unassigned", "not typed"
SPATIAL, NORMALISER, PROVENANCE = "spatial", "normaliser", "panimbus"
X_NAME = "X_name"  # the name of X, as zellkonverter reads it
CSV_FOV, CSV_LABEL, CSV_Y, CSV_X = "fov", "label", "centroid_y_um", "centroid_x_um"


@dataclass(frozen=True)
class FovScores:
    """Scores and measurements of the cells of one FOV.

    Parameters
    ----------
    fov_id
    cell_id : (n,) integer
        Label values, sorted.
    score, score_sd, intensity_mean : (n, C) float32
        Positivity score, its standard deviation over the TTA views, mean raw intensity. NaN =
        missing (unreadable pixels), which tables store as NaN or an empty field.
    area_um2 : (n,) float64
    centroid_um : (n, 2) float64
        x, y in µm from the corner of the image; the centre of the first pixel is at 0.5 pixels.
    evidence
        Name of `EVIDENCE` -> (n, C) float32: further measurements (`panimbus.core.evidence`).
    mpp
        Micrometres per pixel of the image; None = unknown.
    excluded : (n,) bool
        Cells in excluded regions; None without such regions.
    """

    fov_id: str
    cell_id: Array
    score: npt.NDArray[np.float32]
    score_sd: npt.NDArray[np.float32]
    intensity_mean: npt.NDArray[np.float32]
    area_um2: npt.NDArray[np.float64]
    centroid_um: npt.NDArray[np.float64]
    evidence: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    mpp: float | None = None
    excluded: npt.NDArray[np.bool_] | None = None


def to_anndata(
    parts: Sequence[FovScores],
    channels: Sequence[str],
    *,
    normaliser: Mapping[str, float],
    provenance: Mapping[str, Any],
    thresholds: Mapping[str, float] | None = None,
    area_limits: tuple[float | None, float | None] = (None, None),
    channel_types: Sequence[str] | None = None,
) -> AnnData:
    """Combine the cells of FOVs into one cell table.

    Parameters
    ----------
    parts
        One element per FOV.
    channels
        Column names.
    normaliser
        Channel -> normaliser.
    provenance
        Stored in ``uns``.
    thresholds
        Channel -> score from which a cell is positive. None adds no layer ``positive``.
    area_limits
        Minimum and maximum cell area in µm², for `panimbus.core.objects.object_kinds`.
    channel_types
        Type of each channel (`panimbus.core.channel_types`), for var ``channel_type``.

    Returns
    -------
    AnnData
        X = score float32; layers ``intensity_mean``, ``score_sd`` and those of `EVIDENCE` that all
        parts have; obs ``fov_id``, ``cell_id``, ``area_um2``, ``object``; obsm ``spatial`` (x, y in
        µm); var ``normaliser``; uns ``panimbus`` = provenance, ``X_name`` = score, ``spatial`` =
        the libraries of squidpy (``library_key="fov_id"``). With thresholds also
        layer ``positive`` (`panimbus.core.thresholds.calls`) and var ``threshold``.
    """
    import pandas as pd
    from anndata import AnnData

    n_channels = len(channels)
    fovs = (
        np.repeat([p.fov_id for p in parts], [len(p.cell_id) for p in parts])
        if parts
        else np.zeros(0, str)
    )
    cells = (
        np.concatenate([p.cell_id.astype(np.int64) for p in parts])
        if parts
        else np.zeros(0, np.int64)
    )
    area = _stack([p.area_um2 for p in parts], (0,), np.float64)
    kinds = object_kinds(area, *area_limits).astype(object)
    kinds[_stack([_excluded(p) for p in parts], (0,), np.bool_)] = EXCLUDED
    obs = pd.DataFrame(
        {
            FOV: pd.Categorical(fovs.astype(str), categories=[p.fov_id for p in parts]),
            CELL: cells,
            AREA: area,
            OBJECT: pd.Categorical(kinds, categories=OBJECT_KINDS),
        },
        index=pd.Index([f"{f}:{c}" for f, c in zip(fovs, cells, strict=True)], dtype=str),
    )
    var = pd.DataFrame(
        {NORMALISER: [float(normaliser[c]) for c in channels]},
        index=pd.Index(list(channels), dtype=str),
    )
    if channel_types is not None:
        var[CHANNEL_TYPE] = pd.Categorical(list(channel_types), categories=list(CHANNEL_TYPES))
    empty = (0, n_channels)
    score = _stack([p.score for p in parts], empty, np.float32)
    called = {}
    if thresholds is not None:
        var[THRESHOLD] = [float(thresholds[c]) for c in channels]
        called = {POSITIVE: calls(score, var[THRESHOLD].to_numpy())}
    measured = [name for name in EVIDENCE if parts and all(name in p.evidence for p in parts)]
    return AnnData(
        X=score,
        obs=obs,
        var=var,
        layers={
            MEAN: _stack([p.intensity_mean for p in parts], empty, np.float32),
            SD: _stack([p.score_sd for p in parts], empty, np.float32),
            **{
                name: _stack([p.evidence[name] for p in parts], empty, np.float32)
                for name in measured
            },
            **called,
        },
        obsm={SPATIAL: _stack([p.centroid_um for p in parts], (0, 2), np.float64)},
        uns={PROVENANCE: dict(provenance), X_NAME: "score", SPATIAL: _spatial_libraries(parts)},
    )


def _spatial_libraries(parts: Sequence[FovScores]) -> dict[str, Any]:
    """``uns["spatial"]`` of scanpy and squidpy: one library per FOV.

    ``tissue_hires_scalef`` converts coordinates (µm) to image pixels (1 if the pixel size is
    unknown); ``spot_diameter_fullres`` is the diameter in µm of a circle with the median cell area.
    FOVs whose names cannot be keys of an HDF5 file are omitted.
    """
    out: dict[str, Any] = {}
    for part in parts:
        if "/" in part.fov_id or part.fov_id.strip(".") == "":
            continue
        area = float(np.median(part.area_um2)) if len(part.area_um2) else 1.0
        factors = {
            "tissue_hires_scalef": 1 / part.mpp if part.mpp else 1.0,
            "spot_diameter_fullres": 2 * (area / np.pi) ** 0.5,
        }
        out[part.fov_id] = {"images": {}, "scalefactors": factors}
    return out


def _excluded(part: FovScores) -> npt.NDArray[np.bool_]:
    return np.zeros(len(part.cell_id), np.bool_) if part.excluded is None else part.excluded


def _stack(arrays: Sequence[Array], empty: tuple[int, ...], dtype: Any) -> Array:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(empty, dtype)


def recalibrated_markers(table: AnnData) -> list[str]:
    """Markers whose scores are recalibrated."""
    if THRESHOLD_BEFORE not in table.var:
        return []
    return [str(m) for m in table.var_names[table.var[THRESHOLD_BEFORE].notna()]]


def to_frame(table: AnnData) -> pd.DataFrame:
    """Convert a cell table to plain columns, as in Nimbus-Inference.

    Parameters
    ----------
    table
        Cell table of `panimbus.predict`.

    Returns
    -------
    pandas.DataFrame
        ``fov``, ``label``, the scores (one column per marker), ``area_um2``, ``centroid_x_um`` and
        ``centroid_y_um``.

    Examples
    --------
    >>> scores = np.array([[0.25]], np.float32)
    >>> part = FovScores("a", np.array([7]), scores, scores, scores, np.ones(1), np.ones((1, 2)))
    >>> to_frame(to_anndata([part], ["CD3"], normaliser={"CD3": 1.0}, provenance={}))
      fov  label   CD3  area_um2  centroid_x_um  centroid_y_um
    0   a      7  0.25       1.0            1.0            1.0
    """
    import pandas as pd

    frame = pd.DataFrame(np.asarray(table.X), columns=list(table.var_names))
    frame.insert(0, CSV_FOV, table.obs[FOV].astype(str).to_numpy())
    frame.insert(1, CSV_LABEL, table.obs[CELL].to_numpy())
    frame[AREA] = table.obs[AREA].to_numpy()
    frame[CSV_X] = table.obsm[SPATIAL][:, 0]
    frame[CSV_Y] = table.obsm[SPATIAL][:, 1]
    return frame


def positive_frame(table: AnnData) -> pd.DataFrame:
    """Convert the layer ``positive`` to plain columns.

    ``fov``, ``label``, and one column per marker: 1 = positive, 0 = negative, missing like the
    score.
    """
    import pandas as pd

    values = np.asarray(table.layers[POSITIVE])
    missing = np.isnan(values)
    whole = np.where(missing, 0, values).astype(np.uint8)
    columns: dict[str, Any] = {
        CSV_FOV: table.obs[FOV].astype(str).to_numpy(),
        CSV_LABEL: table.obs[CELL].to_numpy(),
    }
    frame = pd.DataFrame(columns)
    markers = {
        name: pd.arrays.IntegerArray(whole[:, k].copy(), missing[:, k].copy())
        if missing[:, k].any()
        else whole[:, k]
        for k, name in enumerate(table.var_names)
    }
    return pd.concat([frame, pd.DataFrame(markers)], axis=1)
