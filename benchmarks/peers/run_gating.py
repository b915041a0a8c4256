"""Runs under the Python that has scimap or Starling, never imported by us: calls from the table of
mean intensities that `steps.py means` wrote.

    python run_gating.py scimap FOLDER      scimap.pp.rescale with its defaults: a gate per channel by
                                            a mixture of three Gaussians on log(1 + mean)
    python run_gating.py starling FOLDER    Starling on initial clusters by k-means, as its tutorial
                                            does; a cluster, with all its cells, is positive in the
                                            channels where its centre is above Otsu's threshold of
                                            the cells (Starling itself calls no markers)

Writes calls, (cells, channels) bool, as scimap.npy or starling.npy.
"""

import sys
from pathlib import Path

import numpy as np


def table(folder):
    import anndata
    import pandas as pd

    data = np.load(folder / "means.npz")
    mean = data["mean"].astype(np.float32)
    names = [f"channel_{k}" for k in range(mean.shape[1])]
    obs = pd.DataFrame({"imageid": data["fov"].astype(str), "area": data["area"].astype(float)})
    obs.index = obs.index.astype(str)
    return anndata.AnnData(mean, obs=obs, var=pd.DataFrame(index=names))


def scimap_calls(folder):
    import scimap

    cells = table(folder)
    cells.raw = cells
    scaled = scimap.pp.rescale(cells, verbose=False)
    return np.asarray(scaled.X) > 0.5


def starling_calls(folder):
    import pytorch_lightning as pl
    from skimage.filters import threshold_otsu
    from starling import starling, utility

    pl.seed_everything(0)
    cells = table(folder)
    cells.X = np.arcsinh(cells.X / 5)
    cells.X /= np.maximum(np.percentile(cells.X, 99.9, axis=0), 1e-6)
    k = int(min(20, max(len(cells) // 50, 2)))
    cells = utility.init_clustering("KM", cells, k=k)
    model = starling.ST(cells)
    model.train_and_fit(
        max_epochs=20, enable_progress_bar=False, logger=False, enable_checkpointing=False
    )
    model.result()
    done = model.adata
    centre = np.asarray(done.varm["st_exp_centroids"]).T
    border = np.array([threshold_otsu(column) for column in np.asarray(cells.X).T])
    label = np.asarray(done.obs["st_label"]).astype(int)
    return (centre > border)[label]


if __name__ == "__main__":
    method, where = sys.argv[1], Path(sys.argv[2])
    calls = {"scimap": scimap_calls, "starling": starling_calls}[method](where)
    np.save(where / f"{method}.npy", calls)
