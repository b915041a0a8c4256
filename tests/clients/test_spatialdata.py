"""spatialdata and spatialdata-plot on `cells.zarr`."""

import re
from pathlib import Path

import numpy as np
import pytest

import panimbus

pytestmark = pytest.mark.filterwarnings("ignore")  # of their own dependencies
sd = pytest.importorskip("spatialdata")


@pytest.fixture
def store(results):
    return sd.read_zarr(results.out / "cells.zarr")


def test_circles(store, results):
    fov = results.fovs[0]
    circles = sd.to_circles(store.labels[f"{fov.fov_id}_labels"])
    ids = np.unique(fov.labels)[1:]
    assert sorted(circles.index) == ids.tolist()
    np.testing.assert_allclose(circles["radius"], (144 / np.pi) ** 0.5)
    assert sd.transformations.get_transformation(circles) == sd.transformations.Identity()


def test_aggregate(store, results):
    fov = results.fovs[0]
    image, labels = store.images[f"{fov.fov_id}_image"], store.labels[f"{fov.fov_id}_labels"]
    done = sd.aggregate(values=image, by=labels, agg_func="mean", target_coordinate_system="global")
    (table,) = done.tables.values()
    mean = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    expected = [
        [plane[fov.labels == cell].mean() for plane in fov.image]
        for cell in table.obs["instance_id"]
    ]
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_micrometres(store, results):
    from spatialdata.transformations import Scale, get_transformation

    both = get_transformation(store.labels["FOV2_labels"], get_all=True)
    assert set(both) == {"global", "FOV2"}
    assert both["FOV2"] == Scale([0.5, 0.5], axes=("y", "x"))
    extent = sd.get_extent(store, coordinate_system="FOV2", elements=["FOV2_labels"])
    assert extent["x"] == (0.0, results.fovs[0].labels.shape[1] * 0.5)


def test_picture(store, tmp_path):
    pytest.importorskip("spatialdata_plot")
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    made = store.pl.render_images("FOV2_image", channel="CD3").pl.render_labels(
        "FOV2_labels", color="CD3", table_name="cells"
    )
    made.pl.show(coordinate_systems="global", save=tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 3000
    plt.close("all")


def test_squidpy_reads_the_store(store):
    sq = pytest.importorskip("squidpy")
    table = store.tables["cells"]
    sq.gr.spatial_neighbors(table, library_key="region", coord_type="generic", n_neighs=4)
    assert table.obsp["spatial_connectivities"].nnz > 0


def test_polygons_become_the_labels_that_predict_reads(tmp_path):
    """The recipe for stores of sopa (docs/howto/servers.md)."""
    spatialdata = pytest.importorskip("spatialdata")
    tissue = panimbus.simulate_tissue((160, 160), panel=2, seed=3)
    image = spatialdata.models.Image2DModel.parse(
        tissue.image, dims=("c", "y", "x"), c_coords=["CD3", "CD20"]
    )
    labels = spatialdata.models.Labels2DModel.parse(tissue.labels.astype(np.int32), dims=("y", "x"))
    sdata = spatialdata.SpatialData(images={"tissue": image})
    sdata["cellpose_boundaries"] = spatialdata.to_polygons(labels)
    sdata.write(tmp_path / "study.zarr")
    page = (Path(__file__).parents[2] / "docs" / "howto" / "servers.md").read_text("utf-8")
    (recipe,) = [c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "rasterize" in c]
    exec(recipe.replace('"study.zarr"', repr(str(tmp_path / "study.zarr"))), {})  # noqa: S102
    (fov,) = panimbus.open_fovs(tmp_path / "study.zarr", mpp=0.5)
    drawn = np.asarray(fov.labels[:])
    there = (drawn > 0) == (tissue.labels > 0)
    assert there.mean() > 0.95
    pairs = np.unique(
        np.stack([drawn, tissue.labels])[:, (drawn > 0) & (tissue.labels > 0)], axis=1
    )
    table = panimbus.predict(fov, settings=panimbus.PredictSettings("none"))
    assert table.n_obs == len(np.unique(tissue.labels)) - 1
    assert pairs.shape[1] < 2.5 * table.n_obs  # each polygon lies on its own cell
