"""What `accuracy.py` runs as processes of their own under panimbus' Python, to time each.

    python steps.py means FOLDER       mean intensity of each cell by scikit-image -> means.npz
    python steps.py table DATA OUT     the same for a dataset of `data.py`, TIFFs to CSV
    python steps.py otsu FOLDER        Otsu's threshold per channel on means.npz -> otsu.npz
    python steps.py panimbus FOLDER    scores of the default model -> panimbus.npz; with a model file
                                       as third argument, of that -> nimbus_mended.npz

``FOLDER`` holds the FOVs of a dataset, ``fov*.npz``. The table of cells and the calls are NumPy
arrays in one order: FOVs by file name, cells by id.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def fovs(folder: Path) -> list[Path]:
    return sorted(folder.glob("fov*.npz"))


def means(folder: Path) -> None:
    from skimage.measure import regionprops_table

    columns = ("label", "area", "mean_intensity")
    parts, names, ids, areas = [], [], [], []
    for path in fovs(folder):
        with np.load(path) as data:
            image, labels, fov = data["image"], data["labels"], str(data["fov"])
        found = regionprops_table(labels, np.moveaxis(image, 0, -1), properties=columns)
        parts.append(np.stack([found[f"mean_intensity-{k}"] for k in range(len(image))], axis=1))
        ids.append(found["label"])
        areas.append(found["area"])
        names += [fov] * len(found["label"])
    np.savez(
        folder / "means.npz",
        mean=np.concatenate(parts).astype(np.float32),
        cell_id=np.concatenate(ids),
        area=np.concatenate(areas),
        fov=np.array(names),
    )


def table(data: Path, out: str) -> None:
    import pandas as pd
    import tifffile
    from skimage.measure import regionprops_table

    labels = tifffile.imread(next((data / "segmentation" / "deepcell_output").iterdir()))
    planes = [tifffile.imread(path) for path in sorted((data / "image_data" / "fov0").iterdir())]
    columns = ("label", "area", "centroid", "mean_intensity")
    found = regionprops_table(labels, np.stack(planes, axis=-1), properties=columns)
    pd.DataFrame(found).to_csv(out, index=False)


def otsu(folder: Path) -> None:
    from skimage.filters import threshold_otsu

    mean = np.load(folder / "means.npz")["mean"]
    calls = [column > threshold_otsu(column) for column in mean.T]
    np.save(folder / "otsu.npy", np.stack(calls, axis=1))


def predicted(folder: Path, model: str | None) -> None:
    from panimbus import from_array, predict
    from panimbus.core.table import CELL, FOV

    opened = []
    for path in fovs(folder):
        with np.load(path) as data:
            opened.append(
                from_array(
                    data["image"],
                    data["labels"],
                    channels=[str(c) for c in data["channels"]],
                    mpp=float(data["mpp"]),
                    fov_id=str(data["fov"]),
                )
            )
    table = predict(opened, model=model)
    places = {fov.fov_id: k for k, fov in enumerate(opened)}
    order = np.lexsort([table.obs[CELL], table.obs[FOV].astype(str).map(places)])
    calls = np.asarray(table.X) >= table.uns["panimbus"]["threshold"]
    np.save(folder / ("panimbus.npy" if model is None else "mended.npy"), calls[order])


def main() -> None:
    step, folder = sys.argv[1], Path(sys.argv[2])
    if step == "table":
        table(folder, sys.argv[3])
    elif step == "panimbus":
        predicted(folder, sys.argv[3] if len(sys.argv) > 3 else None)
    else:
        {"means": means, "otsu": otsu}[step](folder)


if __name__ == "__main__":
    main()
