"""The cell table as AnnData, as .h5ad and as plain columns."""

import json

import anndata
import numpy as np
import pytest

from panimbus.core.table import FovScores, positive_frame, to_anndata, to_frame


def part(fov_id, ids, channels=2, dtype=np.uint32):
    n = len(ids)
    grid = np.arange(n * channels, dtype=np.float32).reshape(n, channels)
    return FovScores(
        fov_id,
        np.array(ids, dtype),
        grid / 10,
        grid / 100,
        grid * 5,
        np.arange(n) + 0.5,
        np.arange(2 * n).reshape(n, 2) + 0.25,
    )


def table(*parts, channels=("CD3", "CD8 / β"), thresholds=None):
    provenance = {"model": "m", "settings": {"tile": 3}, "scale": json.dumps({"a": None})}
    return to_anndata(
        parts,
        channels,
        normaliser={"CD3": 7.0, "CD8 / β": float("nan")},
        provenance=provenance,
        thresholds=thresholds,
    )


def check(adata):
    assert adata.X.dtype == np.float32
    np.testing.assert_allclose(adata.X, [[0, 0.1], [0.2, 0.3], [0, 0.1]])
    np.testing.assert_allclose(adata.layers["score_sd"], adata.X / 10)
    np.testing.assert_allclose(adata.layers["intensity_mean"], adata.X * 50)
    assert list(adata.obs["fov_id"]) == ["f1", "f1", "f10"]
    assert list(adata.obs["fov_id"].cat.categories) == ["f1", "empty", "f10"]
    assert list(adata.obs["cell_id"]) == [3, 2**40, 3]
    assert list(adata.obs["area_um2"]) == [0.5, 1.5, 0.5]
    np.testing.assert_array_equal(adata.obsm["spatial"], [[0.25, 1.25], [2.25, 3.25], [0.25, 1.25]])
    assert list(adata.var_names) == ["CD3", "CD8 / β"]
    np.testing.assert_array_equal(adata.var["normaliser"], [7, np.nan])
    assert adata.uns["panimbus"]["model"] == "m"
    assert adata.uns["panimbus"]["settings"]["tile"] == 3
    assert adata.obs_names.is_unique


PARTS = (part("f1", [3, 2**40], dtype=np.uint64), part("empty", []), part("f10", [3]))


def test_columns():
    check(table(*PARTS))


def test_h5ad_round_trip(tmp_path):
    table(*PARTS).write_h5ad(tmp_path / "cells.h5ad", compression="lzf")
    check(anndata.read_h5ad(tmp_path / "cells.h5ad"))


@pytest.mark.parametrize(
    "parts", [(), (part("empty", []),), (part("e1", []), part("e2", [], dtype=np.uint8))]
)
def test_no_cells(parts, tmp_path):
    adata = table(*parts)
    assert adata.shape == (0, 2)
    assert adata.obsm["spatial"].shape == (0, 2)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert back.shape == (0, 2)
    assert list(to_frame(back).columns) == list(to_frame(adata).columns)


def test_plain_columns(tmp_path):
    frame = to_frame(table(*PARTS))
    assert list(frame.columns) == [
        "fov",
        "label",
        "CD3",
        "CD8 / β",
        "area_um2",
        "centroid_x_um",
        "centroid_y_um",
    ]
    assert list(frame["fov"]) == ["f1", "f1", "f10"]
    assert list(frame["label"]) == [3, 2**40, 3]
    assert list(frame["centroid_x_um"]) == [0.25, 2.25, 0.25]
    assert list(frame["centroid_y_um"]) == [1.25, 3.25, 1.25]
    frame.to_csv(tmp_path / "cells.csv", index=False)
    import pandas as pd

    back = pd.read_csv(tmp_path / "cells.csv")
    assert back["label"].dtype == np.int64
    np.testing.assert_allclose(back["CD3"], frame["CD3"], rtol=1e-6)


def test_largest_id():
    adata = table(part("f", [2**63 - 1], dtype=np.uint64))
    assert int(adata.obs["cell_id"].iloc[0]) == 2**63 - 1


def test_a_frame_of_a_subset():
    assert list(to_frame(table(*PARTS)[1:])["label"]) == [2**40, 3]


def test_a_missing_score_stays_missing(tmp_path):
    """Never 0: a cell of which a pixel could not be read is not negative."""
    one = part("f1", [3, 5])
    one.score[1, 0] = one.score_sd[1, 0] = one.intensity_mean[1, 0] = np.nan
    adata = table(one)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for read in (adata, anndata.read_h5ad(tmp_path / "cells.h5ad")):
        for values in (read.X, read.layers["score_sd"], read.layers["intensity_mean"]):
            np.testing.assert_array_equal(np.isnan(values), [[False, False], [True, False]])
    frame = to_frame(adata)
    frame.to_csv(tmp_path / "cells.csv", index=False)
    assert (tmp_path / "cells.csv").read_text().splitlines()[2].split(",")[2] == ""
    np.testing.assert_array_equal(np.isnan(frame["CD3"]), [False, True])


THRESHOLDS = {"CD3": 0.2, "CD8 / β": 0.3}


def test_calls(tmp_path):
    adata = table(*PARTS, thresholds=THRESHOLDS)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for read in (adata, anndata.read_h5ad(tmp_path / "cells.h5ad")):
        assert read.layers["positive"].dtype == np.uint8
        assert read.layers["positive"].tolist() == [[0, 0], [1, 1], [0, 0]]
        assert read.var["threshold"].tolist() == [0.2, 0.3]
    positive_frame(adata).to_csv(tmp_path / "positive.csv", index=False)
    assert (tmp_path / "positive.csv").read_text(encoding="utf-8").splitlines() == [
        "fov,label,CD3,CD8 / β", "f1,3,0,0", f"f1,{2**40},1,1", "f10,3,0,0"
    ]  # fmt: skip
    assert "positive" not in table(*PARTS).layers
    assert "threshold" not in table(*PARTS).var


def test_calls_where_scores_are_missing(tmp_path):
    one = part("f1", [3, 2**62 + 1], dtype=np.uint64)
    one.score[1, 0] = np.nan
    adata = table(one, thresholds=THRESHOLDS)
    assert adata.layers["positive"].dtype == np.float32
    np.testing.assert_array_equal(adata.layers["positive"], [[0, 0], [np.nan, 1]])
    positive_frame(adata).to_csv(tmp_path / "positive.csv", index=False)
    rows = (tmp_path / "positive.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["fov,label,CD3,CD8 / β", "f1,3,0,0", f"f1,{2**62 + 1},,1"]


def test_no_calls_without_cells():
    adata = table(part("empty", []), thresholds=THRESHOLDS)
    assert adata.layers["positive"].shape == (0, 2)
    assert list(positive_frame(adata)) == ["fov", "label", "CD3", "CD8 / β"]
