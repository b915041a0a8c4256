"""Annotations as truth, silver labels and cell types: what is read, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from panimbus.annotations.cells import read_cell_types, read_silver
from panimbus.annotations.matching import mismatches
from panimbus.annotations.read import read_annotations
from panimbus.annotations.table import with_truth
from panimbus.core.errors import InputError, ReadError


def written(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def read_truth(path, *, likely=True):
    return with_truth(read_annotations(path), likely=likely)


def test_likely_calls_count_or_are_left_out(tmp_path):
    lines = ["positive", "likely positive", "negative", "Likely Negative", "undetermined"]
    path = written(
        tmp_path,
        "fov,cell_id,channel,call\n"
        + "".join(f"007,{k + 1},CD3,{c}\n" for k, c in enumerate(lines)),
    )
    assert read_truth(path)["truth"].tolist() == [1, 1, 0, 0, -1]
    assert read_truth(path, likely=False)["truth"].tolist() == [1, -1, 0, -1, -1]
    frame = read_truth(path)
    assert set(frame["fov"]) == {"007"}
    assert frame["weight"].tolist() == [1.0] * 5
    assert set(frame["dataset"]) == {""}


def test_the_layout_of_pan_m(tmp_path, caplog):
    rows = "".join(
        f"m,f,{k + 1},CD3,{activity}\n" for k, activity in enumerate((1, 0, 2, 3, "1.0"))
    )
    path = written(tmp_path, "dataset,fov,cell_id,channel,activity\n" + rows)
    assert read_truth(path)["truth"].tolist() == [1, 0, -1, -1, 1]
    assert "1 annotations have activity 3, which is taken as undetermined" in caplog.text
    with pytest.raises(InputError, match=r"unknown activity(.|\n)*'4' in line 2"):
        read_truth(written(tmp_path, "dataset,fov,cell_id,channel,activity\nm,f,1,CD3,4\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fov,cell_id,channel,call\n", "no rows"),
        ("fov,cell_id,call\nf,1,positive\n", "missing: channel"),
        ("fov,cell_id,channel,call\nf,1,CD3,maybe\nf,x,CD3,positive\n", "maybe"),
        ("fov,cell_id,channel,call\nf,1,CD3,maybe\nf,x,CD3,positive\n", "cell_id"),
        ("fov,cell_id,channel,call,sampling_weight\nf,1,CD3,positive,-1\n", "sampling_weight"),
        ("fov,cell_id,channel,call\nf,1,CD3,positive\nf,1,CD3,negative\n", "annotated twice"),
        (
            "fov,cell_id,channel,call,annotator\nf,1,CD3,positive,x\nf,1,CD3,positive,y\n",
            "panimbus annotate consensus",
        ),
    ],
)
def test_bad_calls(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_truth(written(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(ReadError, match="no such file"):
        read_truth(tmp_path / "nowhere.csv")
    with pytest.raises(ReadError, match="not a table"):
        read_truth(written(tmp_path, ""))


def test_overlap_says_all_at_once():
    rows = [("f", "CD3", 1), ("f", "CD4", 1), ("f", "CD3", 99), ("g", "CD3", 1)]
    calls = pd.DataFrame(rows, columns=["fov", "channel", "cell_id"])
    problems = "\n".join(mismatches(calls, {"f": np.array([1, 2])}, {"f": ["CD3"]}))
    assert "FOVs that are not among the images: g (1 annotation; there are: f)" in problems
    assert "CD4 (it has: CD3)" in problems
    assert "FOV 'f' has no cell 99 (1 of its 3 annotations)" in problems
    shifted = pd.DataFrame(
        [("f", "CD3", 2), ("f", "CD3", 3)], columns=["fov", "channel", "cell_id"]
    )
    (problem,) = mismatches(shifted, {"f": np.array([1, 2])}, {"f": ["CD3"]})
    assert problem.endswith(
        "has no cell 3 (1 of its 2 annotations); all are there if every cell_id is one lower"
    )
    assert mismatches(calls[:1], {"f": np.array([1, 2])}, {"f": ["CD3"]}) == []


def test_silver_long_and_wide(tmp_path):
    long = read_silver(
        written(tmp_path, "fov,cell_id,channel,label\nf,1,CD3,1\nf,2,CD3,\nf,3,CD3,0.25\n")
    )
    np.testing.assert_array_equal(long["label"], [1, np.nan, 0.25])
    wide = read_silver(
        written(tmp_path, "cell_id,x,pos_CD3\n1,7,1\n2,8,\n"),
        columns={"CD3": "pos_CD3"},
        fov="core",
    )
    assert wide[["fov", "channel"]].drop_duplicates().to_numpy().tolist() == [["core", "CD3"]]
    np.testing.assert_array_equal(wide["label"], [1, np.nan])


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("cell_id,CD3\n1,1\n", {}, "columns are missing: fov"),
        ("fov,cell_id,CD3\nf,one,1\n", {}, "no whole number"),
        ("fov,cell_id,CD3\nf,1.5,1\n", {}, "no whole number"),
        ("fov,cell_id,CD3\nf,inf,1\n", {}, "no whole number"),
        ("fov,cell_id,CD3\nf,1,yes\n", {}, "line 2, CD3: 'yes'"),
        ("fov,cell_id,CD3\nf,1,1.5\n", {}, "neither 0 to 1 nor empty"),
        ("fov,cell_id,CD3\nf,1,1\nf,1,0\n", {}, "more than once"),
        ("fov,cell_id,CD3\nf,1,1\n", {"columns": {"CD4": "pos"}}, "columns are missing: pos"),
    ],
)
def test_bad_silver(tmp_path, text, options, says):
    with pytest.raises(InputError, match=says):
        read_silver(written(tmp_path, text), **options)


def test_cell_types(tmp_path):
    frame = read_cell_types(written(tmp_path, "fov,cell_id,type\nf,1,B\nf,2,\n"), column="type")
    assert frame["cell_type"].tolist() == ["B", ""]
    with pytest.raises(InputError, match="missing: cell_type"):
        read_cell_types(written(tmp_path, "fov,cell_id,type\nf,1,B\n"))
    with pytest.raises(InputError, match="more than once"):
        read_cell_types(written(tmp_path, "fov,cell_id,cell_type\nf,1,B\nf,1,T\n"))
