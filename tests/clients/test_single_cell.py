"""scanpy, squidpy, MuData and geopandas on the tables and outlines."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # of their own dependencies


def test_scanpy(results, tmp_path):
    sc = pytest.importorskip("scanpy")
    table = sc.read_h5ad(results.out / "cells.h5ad")
    assert table.uns["X_name"] == "score"
    np.testing.assert_array_equal(table.X, results.table.X)
    sc.pp.neighbors(table, n_neighbors=5, use_rep="X", metric="manhattan", random_state=0)
    sc.tl.umap(table, maxiter=5)
    assert table.obsm["X_umap"].shape == (table.n_obs, 2)
    sc.tl.rank_genes_groups(table, "fov_id", layer="intensity_mean", method="t-test")
    assert set(table.uns["rank_genes_groups"]["names"]["FOV2"]) == {"CD3", "CD4/8", "µ"}
    table.write_h5ad(tmp_path / "again.h5ad")


def test_squidpy_graphs(results):
    sc, sq = pytest.importorskip("scanpy"), pytest.importorskip("squidpy")
    table = sc.read_h5ad(results.out / "cells.h5ad")
    sq.gr.spatial_neighbors(table, library_key="fov_id", coord_type="generic", n_neighs=4)
    linked = table.obsp["spatial_connectivities"].tocoo()
    fov = table.obs["fov_id"].astype(str).to_numpy()
    assert linked.nnz > 0
    assert (fov[linked.row] == fov[linked.col]).all()  # no neighbours in another FOV
    sq.gr.nhood_enrichment(
        table,
        cluster_key="object",
        library_key="fov_id",
        n_perms=5,
        seed=0,
        show_progress_bar=False,
    )


def test_squidpy_pictures(results):
    sc, sq = pytest.importorskip("scanpy"), pytest.importorskip("squidpy")
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot as plt

    table = sc.read_h5ad(results.out / "cells.h5ad")
    assert set(table.uns["spatial"]) == set(table.obs["fov_id"].cat.categories)
    axes = sq.pl.spatial_scatter(
        table, color="CD3", library_key="fov_id", img=False, return_ax=True
    )
    (first, *_) = np.ravel(axes)
    circles = first.collections[0]
    assert first.get_title() == "CD3"
    cells = table.obs["fov_id"].to_numpy() == "FOV2"
    pixels = table.obsm["spatial"][cells] / 0.5
    np.testing.assert_allclose(
        [p.get_extents().get_points().mean(0) for p in circles.get_paths()], pixels, atol=1e-6
    )
    segments = [fov.labels.astype(np.int64) for fov in results.fovs]
    sq.pl.spatial_segment(
        table,
        seg=segments,
        seg_cell_id="cell_id",
        color="CD3",
        library_key="fov_id",
        img=False,
        return_ax=True,
    )
    plt.close("all")


def test_mudata(results, tmp_path):
    md = pytest.importorskip("mudata")
    ad = pytest.importorskip("anndata")
    table = ad.read_h5ad(results.out / "cells.h5ad")
    both = md.MuData(
        {
            "protein": table,
            "intensity": ad.AnnData(table.layers["intensity_mean"], obs=table.obs, var=table.var),
        }
    )
    both.write_h5mu(tmp_path / "both.h5mu")
    back = md.read_h5mu(tmp_path / "both.h5mu")
    assert (back.n_obs, sorted(back.mod)) == (table.n_obs, ["intensity", "protein"])
    np.testing.assert_array_equal(back["protein"].X, table.X)


def test_geopandas(results, tmp_path):
    gpd = pytest.importorskip("geopandas")
    from panimbus.io.outlines import trace_outlines_by_band
    from panimbus.io.qupath import CellObjects, write_qupath

    fov = results.fovs[0]
    ids = np.unique(fov.labels)[1:].astype(np.int64)
    cells = CellObjects(
        ids, ["T cell"] * len(ids), {"T cell": (1, 2, 3)}, {"CD3": np.arange(len(ids)) / 9}, {}
    )
    path = tmp_path / "cells.geojson"
    write_qupath(path, trace_outlines_by_band(fov.labels, 1024), cells, fov_id=fov.fov_id)
    frame = gpd.read_file(path)
    assert len(frame) == len(ids)
    assert (frame.geometry.area == 144).all()
    assert frame.geometry.is_valid.all()
    first = frame["classification"].iloc[0]
    assert (json.loads(first) if isinstance(first, str) else first)["name"] == "T cell"


def test_cells_are_in_the_spreadsheet_too(results):
    pd = pytest.importorskip("pandas")
    frame = pd.read_csv(results.out / "cells.csv")
    np.testing.assert_allclose(frame[["CD3", "CD4/8", "µ"]], results.table.X, atol=1e-6)
