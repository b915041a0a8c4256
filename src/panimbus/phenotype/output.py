"""Write types to files: tables, label images, QuPath objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.labels import label_painter
from panimbus.core.layouts import to_layout
from panimbus.core.table import (
    AREA,
    CELL,
    CELL_TYPE,
    CONFIDENCE,
    CONTRADICTION,
    CSV_FOV,
    CSV_LABEL,
    CSV_X,
    CSV_Y,
    FAINT,
    FOV,
    METACLUSTER,
    MIXED,
    OBJECT,
    PHENOTYPE,
    REASON,
    SOM_NODE,
    SPATIAL,
    positive_frame,
)
from panimbus.core.types import Array
from panimbus.io.files import write_json
from panimbus.io.outlines import trace_outlines_by_band
from panimbus.io.qupath import CellObjects, write_qupath
from panimbus.io.segmented import BAND, Segmented, check_cells
from panimbus.io.write import tile_writer
from panimbus.io.write_table import write_csv, write_h5ad
from panimbus.phenotype.summary import Summary
from panimbus.render.palette import hex_colour

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def type_frame(table: AnnData) -> pd.DataFrame:
    """Cell types as plain columns, with area and centroid where the table has them."""
    import pandas as pd

    obs = table.obs
    frame = pd.DataFrame(
        {CSV_FOV: obs[FOV].astype(str).to_numpy(), CSV_LABEL: obs[CELL].to_numpy()}
    )
    for column in (
        CELL_TYPE,
        CONFIDENCE,
        REASON,
        CONTRADICTION,
        FAINT,
        MIXED,
        METACLUSTER,
        SOM_NODE,
    ):
        frame[column] = obs[column].to_numpy()
    if OBJECT in obs:
        frame[OBJECT] = obs[OBJECT].to_numpy()
    if AREA in obs:
        frame[AREA] = obs[AREA].to_numpy()
    if SPATIAL in table.obsm:
        frame[CSV_X], frame[CSV_Y] = np.asarray(table.obsm[SPATIAL])[:, :2].T
    return frame


def write_type_tables(
    table: AnnData, summary: Summary, out: Path, *, layout: str, mpp: Mapping[str, float | None]
) -> None:
    """Write ``types.h5ad``, ``types.csv`` and the small tables.

    ``layout`` and ``mpp`` are those of `panimbus.core.layouts.to_layout`, for the tables of cells.
    """
    write_h5ad(out / "types.h5ad", table)
    basic = [CELL_TYPE, "cells", "percent", CONFIDENCE, "contradictory", MIXED]
    legend = summary.types[basic].assign(
        value=np.arange(1, len(summary.types) + 1),
        colour=[hex_colour(c) for c in summary.types["colour"]],
    )
    batch = summary.batch
    shift = batch.fraction.reset_index().melt("fov", var_name="marker", value_name="positive")
    shift["log_odds_shift"] = batch.shift.to_numpy().ravel(order="F")
    shift["stands_out"] = batch.outlying.to_numpy().ravel(order="F")
    markers = list(map(str, table.var_names))
    frames = {
        "types.csv": to_layout(type_frame(table), layout, markers, mpp),
        "positive.csv": to_layout(positive_frame(table), layout, markers, mpp),
        "type_means.csv": summary.types[[CELL_TYPE, *table.var_names]].round(4),
        "metaclusters.csv": summary.metaclusters.round(4),
        "exclusive_pairs.csv": summary.pairs.round(4),
        "reliability.csv": summary.reliability.round(4),
        "legend.csv": legend[["value", *basic, "colour"]].round(4),
        "composition.csv": summary.composition.round(5).reset_index(names="fov"),
        "fov_shift.csv": shift.round(4),
    }
    for name, frame in frames.items():
        write_csv(out / name, frame)


def write_fov(table: AnnData, summary: Summary, one: Segmented, out: Path, name: str) -> None:
    """Write the types of a FOV, read band by band.

    ``labels/<name>.ome.tiff`` (value = row of legend.csv) and ``qupath/<name>.geojson``.
    """
    rows, ids = check_cells(table, one)
    part = table[rows]
    order = list(summary.types[CELL_TYPE])
    types = part.obs[CELL_TYPE].astype(str).tolist()
    codes = np.array([order.index(t) + 1 for t in types], np.int64)
    _write_types(
        out / "labels" / f"{name}.ome.tiff", one, label_painter(one.ids, ids, codes), len(order)
    )
    numbers: dict[str, Any] = {
        str(c): np.asarray(part.X)[:, i] for i, c in enumerate(part.var_names)
    }
    numbers["confidence"] = part.obs[CONFIDENCE].to_numpy(np.float64)
    numbers["metacluster"] = part.obs[METACLUSTER].astype(int).to_numpy()
    numbers["SOM node"] = part.obs[SOM_NODE].to_numpy()
    if AREA in part.obs:
        numbers["area µm^2"] = part.obs[AREA].to_numpy(np.float64)
    cells = CellObjects(
        ids,
        types,
        dict(zip(order, summary.types["colour"], strict=True)),
        numbers,
        {"reason": part.obs[REASON].astype(str).tolist(), "fov": [one.fov_id] * len(ids)},
    )
    write_qupath(
        out / "qupath" / f"{name}.geojson",
        trace_outlines_by_band(one.labels, BAND),
        cells,
        fov_id=one.fov_id,
    )


def _write_types(path: Path, one: Segmented, paint: Callable[[Array], Array], types: int) -> None:
    height, width = one.labels.shape
    dtype = np.uint8 if types <= 255 else np.uint16
    with tile_writer(
        path, (1, height, width), dtype, channels=["cell_type"], mpp=one.mpp, labels=True
    ) as put:
        for rows, band in one.bands():
            put(0, (rows, slice(0, width)), paint(band))


def mantis_frames(table: AnnData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Populations and features of cells for `panimbus.io.mantis.write_mantis`."""
    frame = type_frame(table)
    features = frame[[CSV_FOV, CSV_LABEL, CONFIDENCE]].fillna({CONFIDENCE: 0})
    for i, channel in enumerate(table.var_names):
        features[str(channel)] = np.asarray(table.X)[:, i]
    return frame[[CSV_FOV, CSV_LABEL, CELL_TYPE]], features


def write_run(table: AnnData, out: Path, about: dict[str, Any]) -> None:
    """Write ``run.json``: version, settings, edits and options, enough to repeat the run."""
    from panimbus import __version__

    phenotype = table.uns[PHENOTYPE]
    data = {
        "version": __version__,
        **about,
        "by": str(phenotype["by"]),
        "rules": str(phenotype["rules"]),
        "thresholds": json.loads(str(phenotype["thresholds"])),
        "without": [str(m) for m in phenotype["without"]],
        "settings": json.loads(str(phenotype["settings"])),
        "notes": [str(n) for n in phenotype["notes"]],
        "edits": json.loads(str(phenotype["edits"])),
        "standing": [int(i) + 1 for i in np.asarray(phenotype["standing"]).ravel()],
    }
    write_json(out / "run.json", data)
