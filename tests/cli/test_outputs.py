"""What the verbs write, as other programs must read it."""

import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

PLAIN = {
    "anndata", "dict", "raw", "dataframe", "array", "string-array", "string", "numeric-scalar",
    "categorical",
}  # fmt: skip


def _kinds(path):
    kinds = set()
    with h5py.File(path) as file:
        file.visititems(lambda _, node: kinds.add(node.attrs["encoding-type"]))
    return kinds


@pytest.fixture
def _pandas_3():
    with pd.option_context("future.infer_string", True):
        yield


@pytest.mark.usefixtures("_pandas_3")
def test_tables_open_in_anndata_010(folder, panimbus, model, tmp_path):
    """Predict, merge and phenotype, where pandas makes strings of text as version 3 does."""
    if not pd.__version__.startswith(("2.3", "3.")):
        pytest.importorskip("pyarrow")  # earlier, pandas has such strings with it only
    folder.add("fov1")
    assert panimbus(*folder.arguments(*model)).code == 0
    shared = tmp_path / "shared"
    arguments = [a if a != folder.out else shared for a in folder.arguments(*model)]
    assert panimbus(*arguments, "--shard", "1/1").code == 0
    assert panimbus("merge", shared, "--columns", "ark").code == 0
    types = tmp_path / "types"
    done = panimbus(
        "phenotype",
        "run",
        folder.out / "cells.h5ad",
        "--out",
        types,
        "--no-report",
        "--columns",
        "scimap",
    )
    assert done.code == 0, done.err
    for path in (folder.out / "cells.h5ad", shared / "cells.h5ad", types / "types.h5ad"):
        assert _kinds(path) <= PLAIN
        table = anndata.read_h5ad(path)
        assert table.uns["X_name"] == "score"
        assert table.uns["spatial"]["fov1"]["scalefactors"]["tissue_hires_scalef"] == 2
    ark, ours = pd.read_csv(shared / "cells.csv"), pd.read_csv(folder.out / "cells.csv")
    assert list(ark) == [
        "cell_size",
        "CD3",
        "CD20",
        "DAPI",
        "label",
        "centroid-0",
        "centroid-1",
        "fov",
    ]
    np.testing.assert_allclose(ark["cell_size"], ours["area_um2"] * 4)
    np.testing.assert_allclose(ark["centroid-0"], ours["centroid_y_um"] * 2 - 0.5, atol=1e-9)
    scimap = pd.read_csv(types / "types.csv")
    assert list(scimap)[:4] == ["CellID", "X_centroid", "Y_centroid", "Area"]
    assert {"imageid", "phenotype"} <= set(scimap)
    assert json.loads((types / "run.json").read_text())["asked"]["columns"] == "scimap"


def test_the_maps_grid_is_said(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(*folder.arguments("--maps", *model))
    assert done.code == 0, done.err
    assert (
        "at 1 µm/px, the model's grid, not the images' own grid (0.5 µm/px): --maps-grid image"
        in done.out
    )
    assert "0 outside cells" in done.out
    done = panimbus(
        *folder.arguments("--maps", "--maps-grid", "image", "--maps-background", *model)
    )
    assert "at the images' own grid (0.5 µm/px); with the background" in done.out
    assert pd.read_csv(folder.out / "files.csv").to_numpy().tolist() == [
        ["fov1", "maps/fov1.ome.tiff"]
    ]


def test_images_go_along_into_spatialdata(folder, panimbus, model, tmp_path):
    import zarr

    folder.add("fov1")
    assert panimbus(*folder.arguments(*model)).code == 0
    types = tmp_path / "types"
    run = (
        "phenotype",
        "run",
        folder.out / "cells.h5ad",
        "--out",
        types,
        "--no-report",
        "--labels",
        folder.labels,
    )
    refused = panimbus(*run, "--with-images", "--spatialdata")
    assert refused.code == 2
    assert "--images" in refused.err
    done = panimbus(*run, "--with-images", "--spatialdata", "--images", folder.images)
    assert done.code == 0, done.err
    group = zarr.open_group(store=str(types / "types.zarr"), mode="r")
    omero = group["images/fov1_image"].attrs["ome"]["omero"]
    assert [c["label"] for c in omero["channels"]] == ["CD3", "CD20", "DAPI"]
