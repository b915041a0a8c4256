"""The way back to the tissue: tables, label images of types, QuPath objects, a Mantis Viewer project."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from panimbus.core.fov import Array
from panimbus.core.labels import CellIndex, unique_ids
from panimbus.core.table import (
    AREA,
    CELL,
    CELL_TYPE,
    CONFIDENCE,
    CSV_FOV,
    CSV_LABEL,
    CSV_X,
    CSV_Y,
    FOV,
    METACLUSTER,
    REASON,
    SOM_NODE,
    SPATIAL,
)
from panimbus.io.names import safe_name
from panimbus.io.outlines import outlines_by_band
from panimbus.io.qupath import CellObjects, write_qupath
from panimbus.io.write import atomic_path, tile_writer
from panimbus.phenotype.images import BAND, Segmented, check_cells
from panimbus.phenotype.summary import Summary

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

logger = logging.getLogger(__name__)


def type_frame(table: AnnData) -> pd.DataFrame:
    """Plain columns: fov, label, cell_type, confidence, reason, metacluster, som_node, rule_type, area and centroid if known."""
    import pandas as pd

    obs = table.obs
    frame = pd.DataFrame({CSV_FOV: obs[FOV].astype(str).to_numpy(), CSV_LABEL: obs[CELL].to_numpy()})
    for column in (CELL_TYPE, CONFIDENCE, REASON, METACLUSTER, SOM_NODE, "rule_type"):
        frame[column] = obs[column].to_numpy()
    if AREA in obs:
        frame[AREA] = obs[AREA].to_numpy()
    if SPATIAL in table.obsm:
        frame[CSV_X], frame[CSV_Y] = np.asarray(table.obsm[SPATIAL])[:, :2].T
    return frame


def write_tables(table: AnnData, summary: Summary, out: Path) -> None:
    """``types.h5ad``, ``types.csv``, ``metaclusters.csv``, ``legend.csv``, ``composition.csv``, ``fov_shift.csv``."""
    with atomic_path(out / "types.h5ad") as path:
        table.write_h5ad(path, compression="lzf")
    legend = summary.types.assign(
        value=np.arange(1, len(summary.types) + 1), colour=["#{:02x}{:02x}{:02x}".format(*c) for c in summary.types["colour"]]
    )
    batch = summary.batch
    shift = batch.fraction.reset_index().melt("fov", var_name="marker", value_name="positive")
    shift["log_odds_shift"] = batch.shift.to_numpy().ravel(order="F")
    shift["stands_out"] = batch.outlying.to_numpy().ravel(order="F")
    frames = {
        "types.csv": type_frame(table),
        "metaclusters.csv": summary.metaclusters.round(4),
        "legend.csv": legend[["value", *[c for c in legend.columns if c != "value"]]].round(4),
        "composition.csv": summary.composition.round(5).reset_index(names="fov"),
        "fov_shift.csv": shift.round(4),
    }
    for name, frame in frames.items():
        with atomic_path(out / name) as path:
            frame.to_csv(path, index=False)


def paint_types(labels: Array, ids: Array, codes: Array) -> Array:
    """Label image of types: each cell filled with its code.

    Parameters
    ----------
    labels : (Y, X) integer, 0 = background
    ids : (n,) integer
        Cells that have a code; others are painted 0.
    codes : (n,) integer from 1

    Returns
    -------
    (Y, X) uint8, or uint16 if there are more than 255 codes
    """
    return _painter(unique_ids(labels), ids, codes)(labels)


def _painter(known: Array, ids: Array, codes: Array) -> Callable[[Array], Array]:
    """`paint_types` for parts of a label image whose labels are ``known``."""
    value = np.zeros(len(known) + 1, np.uint8 if int(np.max(codes, initial=0)) <= 255 else np.uint16)  # the last serves -1
    value[np.searchsorted(known, ids.astype(known.dtype))] = codes
    index = CellIndex(known)
    return lambda labels: np.asarray(value[index(labels)])


def write_fov(table: AnnData, summary: Summary, one: Segmented, out: Path) -> None:
    """``labels/<fov>.ome.tiff`` (value = row of legend.csv) and ``qupath/<fov>.geojson`` of one FOV, read band by band."""
    name = safe_name(one.fov_id)
    rows, ids = check_cells(table, one)
    part = table[rows]
    order = list(summary.types[CELL_TYPE])
    types = part.obs[CELL_TYPE].astype(str).tolist()
    codes = np.array([order.index(t) + 1 for t in types], np.int64)
    _write_types(out / "labels" / f"{name}.ome.tiff", one, _painter(one.ids, ids, codes), len(order))
    numbers: dict[str, Any] = {str(c): np.asarray(part.X)[:, i] for i, c in enumerate(part.var_names)}
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
    write_qupath(out / "qupath" / f"{name}.geojson", outlines_by_band(one.labels, BAND), cells, fov_id=one.fov_id)


def _write_types(path: Path, one: Segmented, paint: Callable[[Array], Array], types: int) -> None:
    height, width = one.labels.shape
    dtype = np.uint8 if types <= 255 else np.uint16
    with tile_writer(path, (1, height, width), dtype, channels=["cell_type"], mpp=one.mpp, labels=True) as put:
        for rows, band in one.bands():
            put(0, (rows, slice(0, width)), paint(band))


def write_mantis(table: AnnData, segmented: Sequence[Segmented], out: Path) -> None:
    """A project folder that Mantis Viewer opens ("New Project").

    ``mantis/<fov>/cell_segmentation.tiff`` and, where there are images, ``mantis/<fov>/markers/<channel>.tiff``;
    ``mantis/populations.csv`` (FOV, cell, type; no header) and ``mantis/segment_features.csv`` (FOV, cell, scores). The
    folders have the FOVs' own names, because the tables refer to them. TIFFs are plain strips, which every version reads, and
    have no description: Mantis Viewer looks for a marker's name there before it takes the file's.
    """
    with atomic_path(out / "mantis") as project:
        project.mkdir()
        for one in segmented:
            if not _is_folder_name(one.fov_id):
                logger.warning("FOV %r has a name that cannot be a folder's: it is left out of the Mantis project", one.fov_id)
                continue
            folder = project / one.fov_id
            folder.mkdir()
            labels = one.read()
            narrow = np.uint16 if int(labels.max(initial=0)) < 2**16 else np.uint32
            tifffile.imwrite(folder / "cell_segmentation.tiff", labels.astype(narrow), photometric="minisblack", metadata=None)
            if one.image is not None:
                (folder / "markers").mkdir()
                for i, channel in enumerate(one.image.channels):
                    plane = one.image.image[i, 0 : labels.shape[0], 0 : labels.shape[1]]
                    tifffile.imwrite(
                        folder / "markers" / f"{_file_name(channel)}.tiff", plane, photometric="minisblack", metadata=None
                    )
        frame = type_frame(table)
        frame[[CSV_FOV, CSV_LABEL, CELL_TYPE]].to_csv(project / "populations.csv", index=False, header=False)
        scores = frame[[CSV_FOV, CSV_LABEL, CONFIDENCE]].fillna({CONFIDENCE: 0})
        for i, channel in enumerate(table.var_names):
            scores[str(channel)] = np.asarray(table.X)[:, i]
        scores.round(4).to_csv(project / "segment_features.csv", index=False)


def _is_folder_name(name: str) -> bool:
    return Path(name).name == name and name not in ("", ".", "..")


def _file_name(channel: str) -> str:
    return "".join("_" if c in '/\\:*?"<>|' else c for c in channel)


def write_run(table: AnnData, out: Path, about: dict[str, Any]) -> None:
    """``run.json``: version, settings, edits and what was asked, enough to do it again."""
    from panimbus import __version__

    phenotype = table.uns["phenotype"]
    data = {
        "version": __version__,
        **about,
        "by": str(phenotype["by"]),
        "rules": str(phenotype["rules"]),
        "settings": json.loads(str(phenotype["settings"])),
        "notes": [str(n) for n in phenotype["notes"]],
        "edits": json.loads(str(phenotype["edits"])),
        "standing": [int(i) + 1 for i in np.asarray(phenotype["standing"]).ravel()],
    }
    with atomic_path(out / "run.json") as path:
        path.write_text(json.dumps(data, indent=1), encoding="utf-8")
