"""Tables of scores in: formats, columns, ids."""

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.io.scores import checked, read_scores


def test_csv_and_h5ad_agree(tissue, tmp_path):
    table = tissue.table
    table.write_h5ad(tmp_path / "t.h5ad")
    other = read_scores(tmp_path / "t.h5ad")
    np.testing.assert_array_equal(table.X, other.X)
    assert other.obs_names.tolist() == table.obs_names.tolist()
    assert table.obs_names[0] == f"fov1:{table.obs['cell_id'].iloc[0]}"
    assert list(table.var_names) == ["CD45", "CD3", "CD20", "CD68", "PanCK", "DAPI"]
    assert table.obsm["spatial"].shape == (table.n_obs, 2)


def test_columns_under_other_names(tmp_path, caplog):
    path = tmp_path / "t.csv"
    pd.DataFrame({"fov_id": ["a"], "cell_id": [3], "CD3": [0.5], "comment": ["x"], "flag": [True]}).to_csv(path, index=False)
    assert list(read_scores(path).var_names) == ["CD3"]
    assert "not numbers were left out: comment, flag" in caplog.text


def test_parquet_and_markers(tissue, tmp_path):
    pytest.importorskip("pyarrow")
    tissue.frame.to_parquet(tmp_path / "t.parquet")
    assert list(read_scores(tmp_path / "t.parquet", ["CD20", "CD3"]).var_names) == ["CD20", "CD3"]
    with pytest.raises(ChannelError, match=r"CD99 is not in the table(.|\n)*CD45, CD3"):
        read_scores(tmp_path / "t.parquet", ["CD99"])


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"CD3": [0.1]}, r"columns are missing: fov, label"),
        ({"fov": ["a"], "CD3": [0.1]}, "columns are missing: label"),
        ({"fov": ["a", "a"], "label": [1, 1], "CD3": [0, 1]}, r"more than once(.|\n)*a:1"),
        ({"fov": ["a"] * 3, "label": [1, 1.5, None], "CD3": [0, 0, 0]}, r"no whole number(.|\n)*'1\.5', '' in lines 3, 4"),
        ({"fov": ["a"] * 2, "label": [1, 2], "CD3": [0.5, "n/d"]}, r"text among the numbers(.|\n)*line 3, CD3: 'n/d' \(1 of 2\)"),
        ({"fov": ["a"], "label": ["x"], "CD3": [0]}, "no whole number"),
        ({"fov": ["a"], "label": [1]}, "empty"),
        ({"fov": [], "label": [], "CD3": []}, "empty"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, columns, says):
    path = tmp_path / "t.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    with pytest.raises(InputError, match=says):
        read_scores(path)


def test_files_that_are_no_tables(tmp_path):
    for name, text in (("a.h5ad", "hello"), ("a.csv", ""), ("a.xlsx", "x")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(ReadError, match=name):
            read_scores(tmp_path / name)
    with pytest.raises(ReadError, match="no such file"):
        read_scores(tmp_path / "nowhere.csv")


def test_sparse_scores(anndata_of):
    from scipy import sparse

    table = anndata_of([[0, 0.5]], ["CD3", "CD4"])
    table.X = sparse.csr_matrix(table.X)
    np.testing.assert_array_equal(checked(table).X, [[0, 0.5]])


def test_ids_above_the_precision_of_floats(tmp_path, anndata_of):
    ids = [2**53 + 1, 2**62 + 1, 3]
    scores = np.full((3, 6), 0.5)
    assert checked(anndata_of(scores, cells=ids)).obs["cell_id"].tolist() == ids
    table = checked(anndata_of(scores, cells=[str(i) for i in ids]))
    assert table.obs["cell_id"].tolist() == ids
    assert table.obs_names[0] == f"f:{2**53 + 1}"
    table.write_h5ad(tmp_path / "t.h5ad")
    assert read_scores(tmp_path / "t.h5ad").obs["cell_id"].tolist() == ids
    pd.DataFrame({"fov": ["a"] * 3, "label": ids, "CD3": 0.5}).to_csv(tmp_path / "t.csv", index=False)
    assert read_scores(tmp_path / "t.csv").obs["cell_id"].tolist() == ids


@pytest.mark.parametrize("cells", [["1", "x"], [1.5, 2.0], [2.0**53 + 2, 1.0], ["99999999999999999999", "2"], [np.inf, 1.0]])
def test_ids_that_are_none(anndata_of, cells):
    with pytest.raises(InputError, match="no whole number"):
        checked(anndata_of(np.full((2, 6), 0.5), cells=cells))
