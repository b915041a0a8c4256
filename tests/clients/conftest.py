"""Results as `panimbus predict` and `panimbus phenotype run` write them, for the programs that open
them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import regionprops

from panimbus.core.fov import Fov
from panimbus.core.table import FovScores, to_anndata
from panimbus.infer.output import save_run
from panimbus.io import write_labels, write_ome_tiff

CHANNELS = ("CD3", "CD4/8", "µ")
MPP = 0.5


@dataclass(frozen=True)
class Results:
    """The folder, its table and its FOVs."""

    out: Path
    table: object
    fovs: tuple[Fov, ...]


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Two FOVs, one with a name that no file may have."""
    out = tmp_path_factory.mktemp("results")
    fovs, parts, rng = [], [], np.random.default_rng(0)
    for k, name in enumerate(("FOV2", "fov 1")):
        labels = _tissue(6 + k, 5)
        image = rng.integers(0, 999, (3, *labels.shape), np.uint16)
        fovs.append(Fov(name, image, CHANNELS, labels, MPP))
        cells = regionprops(labels)
        ids = np.array([c.label for c in cells])
        score = rng.random((len(ids), 3)).astype(np.float32)
        area = np.array([c.area for c in cells]) * MPP**2
        centroid = (np.array([c.centroid[::-1] for c in cells]) + 0.5) * MPP
        parts.append(FovScores(name, ids, score, score / 9, score * 99, area, centroid, mpp=MPP))
    about = {f.fov_id: {"mpp": f.mpp, "shape": [3, *f.shape_yx]} for f in fovs}
    provenance = {
        "version": "1",
        "threshold": 0.5,
        "settings": {"tta": "none"},
        "scale": "{}",
        "inputs": json.dumps(about),
    }
    table = to_anndata(
        parts,
        CHANNELS,
        normaliser=dict.fromkeys(CHANNELS, 2.0),
        provenance=provenance,
        thresholds=dict.fromkeys(CHANNELS, 0.5),
    )
    save_run(table, out, ("h5ad", "csv", "spatialdata+images"), fovs)
    write_labels(out / "labels.tiff", fovs[0].labels)
    write_ome_tiff(out / "map.ome.tiff", rng.random((3, 1100, 1300), np.float32), CHANNELS, 1.0)
    return Results(out, table, tuple(fovs))


def _tissue(rows, columns):
    """Squares of 12 pixels with 3 between them, every third id left out."""
    labels = np.zeros((15 * rows, 15 * columns), np.uint32)
    for k in range(rows * columns):
        y, x = 15 * (k // columns), 15 * (k % columns)
        labels[y : y + 12, x : x + 12] = k + 1 if k % 3 else 0
    return labels
