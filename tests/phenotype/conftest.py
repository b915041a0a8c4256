"""A small tissue of plain cells, with its scores."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from anndata import AnnData

CHANNELS = ("CD45", "CD3", "CD20", "CD68", "PanCK", "DAPI")
TYPES = {"T cell": (0, 1), "B cell": (0, 2), "macrophage": (0, 3), "epithelial cell": (4,), "unassigned": ()}


class Tissue:
    """Label images on disk, and the table of their cells; ``truth`` holds the types."""

    def __init__(self, folder, make_tissue, *, fovs=2, n=60, seed=0):
        rng = np.random.default_rng(seed)
        self.folder, self.labels, parts = folder, {}, []
        (folder / "labels").mkdir(parents=True)
        for k in range(fovs):
            labels = make_tissue((90, 80), n, seed=seed + k)[1]
            self.labels[f"fov{k + 1}"] = labels
            tifffile.imwrite(folder / "labels" / f"fov{k + 1}.tiff", labels)
            ids = np.unique(labels)[1:]
            ys, xs = (np.array([np.nonzero(labels == i)[a].mean() for i in ids]) for a in (0, 1))
            parts.append(pd.DataFrame({"fov": f"fov{k + 1}", "label": ids, "centroid_x_um": xs / 2, "centroid_y_um": ys / 2}))
        self.frame = pd.concat(parts, ignore_index=True)
        names = list(TYPES)
        which = rng.integers(0, len(names), len(self.frame))
        self.truth = np.array(names, object)[which]
        carried = np.zeros((len(names), len(CHANNELS)), bool)
        for i, columns in enumerate(TYPES.values()):
            carried[i, list(columns)] = True
        scores = np.where(
            carried[which],
            rng.uniform(0.85, 0.99, (len(which), len(CHANNELS))),
            rng.uniform(0, 0.08, (len(which), len(CHANNELS))),
        )
        scores[:, -1] = 0.9
        self.frame[list(CHANNELS)] = scores
        self.csv = folder / "scores.csv"
        self.save()

    def save(self):
        self.frame.to_csv(self.csv, index=False)

    @property
    def table(self):
        from panimbus.phenotype.tables import read_scores

        return read_scores(self.csv)


@pytest.fixture
def tissue(tmp_path, make_tissue):
    """Two FOVs of about 50 cells each."""
    return Tissue(tmp_path / "data", make_tissue)


@pytest.fixture
def anndata_of():
    """``anndata_of(scores, channels=, fov=, cells=)``: a table."""

    def make(scores, channels=CHANNELS, fov=None, cells=None):
        n = len(scores)
        obs = pd.DataFrame(
            {"fov_id": fov or ["f"] * n, "cell_id": cells or list(range(1, n + 1))}, index=[str(i) for i in range(n)]
        )
        return AnnData(X=np.asarray(scores, np.float32), obs=obs, var=pd.DataFrame(index=list(channels)))

    return make
