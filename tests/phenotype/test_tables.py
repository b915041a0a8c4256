"""Tables in, and the comparison of FOVs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.phenotype.batch import compare_fovs
from panimbus.phenotype.tables import checked, read_scores


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
        ({"CD3": [0.1]}, r"which cell a row is(.|\n)*fov and label"),
        ({"fov": ["a"], "CD3": [0.1]}, "which cell a row is"),
        ({"fov": ["a", "a"], "label": [1, 1], "CD3": [0, 1]}, r"more than once(.|\n)*a:1"),
        ({"fov": ["a"] * 3, "label": [1, 1.5, None], "CD3": [0, 0, 0]}, r"whole numbers(.|\n)*1\.5 \(row 2\), nan \(row 3\)"),
        ({"fov": ["a"] * 2, "label": [1, 2], "CD3": [0.5, "n/d"]}, r"text among the numbers(.|\n)*CD3: 'n/d' \(1 of 2 cells\)"),
        ({"fov": ["a"], "label": ["x"], "CD3": [0]}, "whole numbers"),
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
    with pytest.raises(ReadError, match="no such table"):
        read_scores(tmp_path / "nowhere.csv")


def test_sparse_scores(anndata_of):
    from scipy import sparse

    table = anndata_of([[0, 0.5]], ["CD3", "CD4"])
    table.X = sparse.csr_matrix(table.X)
    np.testing.assert_array_equal(checked(table).X, [[0, 0.5]])


def fovs(shares, n=400):
    scores = np.concatenate([(np.arange(n)[:, None] < n * np.array(row)[None]).astype(np.float32) for row in shares])
    return scores, np.repeat([f"f{i}" for i in range(len(shares))], n)


def test_a_fov_that_stands_out():
    scores, fov = fovs([(0.3, 0.1), (0.32, 0.11), (0.28, 0.09), (0.31, 0.1), (0.9, 0.1)])
    found = compare_fovs(scores, fov, ("CD3", "CD20"))
    assert np.argwhere(found.outlying.to_numpy()).tolist() == [[4, 0]]
    assert found.warnings == ("FOV f4 stands out in 1 of 2 markers: CD3 90.0 % (others 31.0 %)",)
    assert found.fraction.loc["f4", "CD3"] == 0.9


def test_a_fov_in_which_all_is_shifted():
    scores, fov = fovs([(0.3, 0.1, 0.2), (0.32, 0.11, 0.21), (0.28, 0.09, 0.19), (0.31, 0.1, 0.2), (0.9, 0.8, 0.9)])
    assert any("most markers are shifted the same way" in w for w in compare_fovs(scores, fov, ("a", "b", "c")).warnings)


def test_too_few_fovs_to_tell():
    scores, fov = fovs([(0.3,), (0.9,)])
    found = compare_fovs(scores, fov, ("CD3",))
    assert not found.outlying.to_numpy().any()
    assert "only 2 FOVs" in found.warnings[0]
    assert compare_fovs(*fovs([(0.3,)]), ("CD3",)).warnings == ()


@given(st.integers(4, 8), st.integers(0, 10))
def test_equal_fovs_never_stand_out(n, tenth):
    scores, fov = fovs([(tenth / 10,)] * n, 20)
    assert compare_fovs(scores, fov, ("CD3",)).warnings == ()
