"""Tables of scores in: formats, columns, ids."""

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.io.scores import check_cell_table, read_scores


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
    pd.DataFrame(
        {"fov_id": ["a"], "cell_id": [3], "CD3": [0.5], "comment": ["x"], "flag": [True]}
    ).to_csv(path, index=False)
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
        (
            {"fov": ["a"] * 3, "label": [1, 1.5, None], "CD3": [0, 0, 0]},
            r"no whole number(.|\n)*'1\.5', '' in lines 3, 4",
        ),
        (
            {"fov": ["a"] * 2, "label": [1, 2], "CD3": [0.5, "n/d"]},
            r"text among the numbers(.|\n)*line 3, CD3: 'n/d' \(1 of 2\)",
        ),
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
    np.testing.assert_array_equal(check_cell_table(table).X, [[0, 0.5]])


def test_ids_above_the_precision_of_floats(tmp_path, anndata_of):
    ids = [2**53 + 1, 2**62 + 1, 3]
    scores = np.full((3, 6), 0.5)
    assert check_cell_table(anndata_of(scores, cells=ids)).obs["cell_id"].tolist() == ids
    table = check_cell_table(anndata_of(scores, cells=[str(i) for i in ids]))
    assert table.obs["cell_id"].tolist() == ids
    assert table.obs_names[0] == f"f:{2**53 + 1}"
    table.write_h5ad(tmp_path / "t.h5ad")
    assert read_scores(tmp_path / "t.h5ad").obs["cell_id"].tolist() == ids
    pd.DataFrame({"fov": ["a"] * 3, "label": ids, "CD3": 0.5}).to_csv(
        tmp_path / "t.csv", index=False
    )
    assert read_scores(tmp_path / "t.csv").obs["cell_id"].tolist() == ids


@pytest.mark.parametrize(
    "cells",
    [["1", "x"], [1.5, 2.0], [2.0**53 + 2, 1.0], ["99999999999999999999", "2"], [np.inf, 1.0]],
)
def test_ids_that_are_none(anndata_of, cells):
    with pytest.raises(InputError, match="no whole number"):
        check_cell_table(anndata_of(np.full((2, 6), 0.5), cells=cells))


def _scores(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return tmp_path / "t.csv"


def test_a_marker_of_text_that_is_needed(tmp_path):
    path = _scores(tmp_path, "fov,label,CD3,CD20,comment\na,1,50%,0.5,x\na,2,60%,0.5,y\n")
    assert list(read_scores(path, needed=["CD20"]).var_names) == ["CD20"]
    with pytest.raises(
        InputError, match=r"text among the numbers(.|\n)*lines 2, 3, CD3: '50%', '60%' \(2 of 2\)"
    ):
        read_scores(path, needed=["cd3"])
    with pytest.raises(InputError, match="CD3: '50%'"):
        read_scores(path, ["CD3"])


def test_all_markers_are_text(tmp_path):
    path = _scores(tmp_path, 'fov,label,CD3,CD20\na,1,"53,1 %","1,2 %"\n')
    with pytest.raises(
        InputError, match=r"text among the numbers(.|\n)*line 2, CD3: '53,1 %'(.|\n)*CD20: '1,2 %'"
    ):
        read_scores(path)


def test_an_ordinary_export_of_qupath(tmp_path):
    head = "Image\tObject ID\tObject type\tName\tClassification\tParent\tROI\tCentroid X µm\tCD3\n"
    rows = "a.tif\t{0}5aaeb6c-73a1\tCell\t{1}\t\tRoot object\tPolygon\t1.5\t0.25\n"
    with pytest.raises(
        InputError, match=r"column 'Name' is empty(.|\n)*column `label`(.|\n)*panimbus wrote"
    ):
        read_scores(_scores(tmp_path, head + rows.format(1, "") + rows.format(2, "")))
    table = read_scores(_scores(tmp_path, head + rows.format(1, 1) + rows.format(2, 2)))
    assert list(table.var_names) == ["CD3"]


@pytest.mark.parametrize("wrong", ["1.918", "1E+05", "2,5E+07"])
def test_ids_that_a_spreadsheet_changed(tmp_path, wrong):
    with pytest.raises(
        InputError, match="whole numbers without separators, or as text, in the spreadsheet"
    ):
        read_scores(_scores(tmp_path, f"fov;label;CD3\na;12;0\na;{wrong};1\n"))


@pytest.mark.parametrize(
    ("other", "warned"), [((1, 2), False), ((7, 8), True), (("x", "y"), False)]
)
def test_two_columns_of_ids(tmp_path, caplog, other, warned):
    table = read_scores(
        _scores(tmp_path, f"fov,label,CellID,CD3\na,1,{other[0]},0\na,2,{other[1]},1\n")
    )
    assert table.obs["cell_id"].tolist() == [1, 2]
    assert ("the column CellID names other cells" in caplog.text) == warned


@pytest.mark.parametrize("wrong", [pd.DataFrame({"CD3": [1.0]}), "cells.h5ad", None])
def test_what_is_no_anndata(wrong):
    with pytest.raises(InputError, match="this is no AnnData"):
        check_cell_table(wrong)
