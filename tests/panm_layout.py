"""A tiny Pan-M: folders, names of files and columns of tables as the authors' scripts read them
(angelolab/Nimbus prepare_data_script_*.py and configs, angelolab/publications
2024-Rumberger_etal_Nimbus); pixels and cells are made up."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from panimbus.data.panm import FILES, SPLIT_FILES

COLON = "{} Colon P20 CD3, Foxp1, PDL1, ICOS, CD8, panCK+CK7+CAM5.2__[{}]_image"
PANCREAS = "{} Pancreas_PANEL7-10_CD40L,_CD40,_PD1,_PDL1,CD8,CK_[{}]_component_data.tif_image"
SIDE = 64


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk; ``{}`` of ``mask`` is the FOV.

    Attributes
    ----------
    fovs
        The first is a gold FOV.
    images, ending, mask
        Folder of the FOVs, ending of a channel's file, label image.
    table, fov, cell, type, matrix
        Table of cells and its columns; vectra has labels of markers instead of types.
    suffix
        Of the columns of labels.
    types
        Cell types as the table spells them.
    """

    fovs: tuple
    images: str
    ending: str
    mask: str
    table: str
    fov: str
    cell: str
    type: str = ""
    matrix: str = ""
    suffix: str = ""
    types: tuple = ()
    more: dict = field(default_factory=dict)


LAYOUTS = {
    "codex_colon": Layout(
        tuple(f"{d}_{r}_X01_Y01_Z01" for d, r in (
            ("B010A", "reg003"), ("B010A", "reg001"), ("B011B", "reg002"), ("B012B", "reg004"))),
        "raw_structured", ".ome.tif", "masks/{donor}/{donor}_CL_{reg}_stitched_labeled.ome.tif",
        "cell_table.csv", "fov", "labels", "Cell Type", "conversion_matrix.csv",
        types=("CD8+ T", "CD4+ T cell", "Enterocyte", "Smooth muscle"),
    ),
    "mibi_breast": Layout(
        ("TONIC_TMA10_R1C1", "TONIC_TMA4_R5C3", "TONIC_TMA1_R1C2", "TONIC_TMA13_R10C4"),
        "image_data/samples", ".tiff", "segmentation_data/deepcell_output/{fov}_feature_0.tif",
        "combined_cell_table_normalized_cell_labels_updated.csv", "fov", "label",
        "cell_meta_cluster", "TONIC_conversion_matrix.csv",
        types=("CD8T", "CD20", "tumor_ecad", "FAP_SMA"),
    ),
    "mibi_decidua": Layout(
        ("12_31750_16_12", "8_31736_12_16", "12_31750_1_11", "6_31728_9_2"),
        "image_data", ".tif", "segmentation_data/{fov}_segmentation_labels.tiff",
        "Supplementary_table_3_single_cells_updated.csv", "Point", "cell_ID_in_Point", "lineage",
        "conversion_matrix.csv", types=("NK1", "CD8T", "Glandular", "EVT1a"),
    ),
    "vectra_colon": Layout(
        (COLON.format("3e507f0a3dd2", "54006,21157"), COLON.format("5e1b6c32494c", "43798,14482"),
         COLON.format("aaf09873497f_", "44316,15594"), COLON.format("2629d8f77baf", "57747,14381")),
        "raw_structured", ".ome.tif", "segmentation/{fov}feature_0.ome.tif",
        "cell_table.csv", "fov", "labels", suffix="_gt",
    ),
    "vectra_pancreas": Layout(
        tuple(PANCREAS.format(*a) for a in (
            ("0852a4103bed", "61352,11423"), ("00b32dc1bb7f", "56834,16557"),
            ("34ae99f8e690", "50111,14188"), ("fb3624741204", "60924,17854"))),
        "raw_structured", ".ome.tif", "segmentation/{fov}feature_0.ome.tif",
        "cell_table.csv", "fov", "labels",
    ),
}  # fmt: skip


def markers_of(name):
    """Markers of the dataset file that comes with panimbus."""
    silver = tomllib.loads((FILES / f"{name}.toml").read_text(encoding="utf-8"))["silver"]
    return silver.get("markers") or list(silver["columns"])


def write_panm(root, datasets=tuple(LAYOUTS), *, splits=True):
    """Write datasets of Pan-M under a folder, and the authors' splits in ``configs``.

    Returns
    -------
    dict
        Dataset -> DataFrame of its cells: fov, cell_id, and 0, 1 or 2 (undecided) per marker.
    """
    return {name: _dataset(Path(root), name, splits=splits) for name in datasets}


def _dataset(root, name, *, splits):
    one, markers = LAYOUTS[name], markers_of(name)
    folder, rng = root / name, np.random.default_rng(sorted(LAYOUTS).index(name))
    labels = _cells()
    ids = np.unique(labels)[1:]
    values = rng.choice([0, 1, 2], (max(len(one.types), 1), len(markers)), p=(0.5, 0.4, 0.1))
    values[0], values[-1] = 1, 0  # every marker has positive and negative cells
    rows = []
    for fov in one.fovs:
        types = rng.integers(0, len(values), len(ids))
        truth = values[types]
        if not one.types:
            truth = rng.choice([0, 1, 2], (len(ids), len(markers)), p=(0.6, 0.3, 0.1))
        _write_fov(folder, one, fov, markers, labels, truth, rng)
        rows.append(pd.DataFrame({"fov": fov, "cell_id": ids, "type": types}).join(
            pd.DataFrame(truth, columns=markers)))  # fmt: skip
    cells = pd.concat(rows, ignore_index=True)
    _write_tables(folder, one, cells, markers, values)
    if splits:
        (root / "configs").mkdir(parents=True, exist_ok=True)
        order = {"test": [one.fovs[0]], "validation": [one.fovs[1]], "train": list(one.fovs[2:])}
        order["train"].append("a_FOV_that_was_not_copied")
        (root / "configs" / SPLIT_FILES[name]).write_text(json.dumps(order))
    return cells.drop(columns="type")


def _cells():
    """(64, 64) uint16: 49 square cells."""
    labels = np.zeros((SIDE, SIDE), np.uint16)
    for k in range(49):
        y, x = 1 + 9 * (k // 7), 1 + 9 * (k % 7)
        labels[y : y + 8, x : x + 8] = k + 1
    return labels


def _write_fov(folder, one, fov, markers, labels, truth, rng):
    place = folder / one.images / fov
    place.mkdir(parents=True)
    level = np.append(5.0, np.zeros(len(truth)))
    for k, marker in enumerate([*markers, "DAPI"]):
        level[1:] = 60.0 if marker == "DAPI" else np.choose(truth[:, k], (6.0, 90.0, 40.0))
        plane = (level[labels] + rng.normal(0, 3, labels.shape).clip(-5)).astype(np.float32)
        _tiff(place / f"{marker}{one.ending}", plane)
    donor, _, rest = fov.partition("_")
    fields = {"fov": fov, "donor": donor, "reg": rest.split("_")[0]}
    mask = folder / one.mask.format(**fields)
    mask.parent.mkdir(parents=True, exist_ok=True)
    _tiff(mask, labels[None].astype(np.int32))
    if "_labeled" in mask.name:  # a second file of the region, which is no label image
        _tiff(mask.with_name(mask.name.replace("_labeled", "")), labels.astype(np.uint8))


def _tiff(path, plane):
    kind = {"ome": True, "metadata": {"axes": "CYX"[-plane.ndim :]}} if ".ome." in path.name else {}
    tifffile.imwrite(path, plane, **kind)


def _write_tables(folder, one, cells, markers, values):
    table = pd.DataFrame({one.fov: cells["fov"], one.cell: cells["cell_id"]})
    table["cell_size"] = 64.0
    table["comment"] = np.where(np.arange(len(table)) % 3, "12", "checked by N. N.")
    if one.types:
        table[one.type] = np.array(one.types)[cells["type"]]
        matrix = pd.DataFrame(values, [t.lower() for t in one.types], markers)
        matrix.assign(nobody=0).to_csv(folder / one.matrix)
    else:
        for marker in markers:
            table[f"{marker}{one.suffix}"] = cells[marker].astype(float)
    table.to_csv(folder / one.table, index=False)
