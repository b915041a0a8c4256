"""Columns of ark and scimap: names, order and pixels."""

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import ChannelError, InputError
from panimbus.core.layouts import check_layout, to_layout

FRAME = pd.DataFrame(
    {
        "fov": ["a", "b"], "label": [3, 7], "CD3": [0.5, 0.25], "CD20": [1.0, 0.0], "area_um2": [9.0, 8.0],
        "centroid_x_um": [10.0, 1.0], "centroid_y_um": [20.0, 2.0], "cell_type": ["T", "B"],
    }
)  # fmt: skip
MARKERS, MPP = ["CD3", "CD20"], {"a": 0.5, "b": 2.0}


def test_ark():
    out = to_layout(FRAME, "ark", MARKERS, MPP)
    assert list(out) == [
        "cell_size",
        "CD3",
        "CD20",
        "label",
        "centroid-0",
        "centroid-1",
        "cell_meta_cluster",
        "fov",
    ]
    assert out["cell_size"].tolist() == [36, 2]
    assert out["centroid-0"].tolist() == [39.5, 0.5]
    assert out["centroid-1"].tolist() == [19.5, 0]
    assert out["fov"].tolist() == ["a", "b"]


def test_scimap():
    out = to_layout(FRAME, "scimap", MARKERS, MPP)
    assert list(out) == [
        "CellID",
        "CD3",
        "CD20",
        "X_centroid",
        "Y_centroid",
        "Area",
        "phenotype",
        "imageid",
    ]
    assert out["CellID"].tolist() == [3, 7]
    assert out["X_centroid"].tolist() == [19.5, 0]
    assert out["Y_centroid"].tolist() == [39.5, 0.5]


def test_tables_without_places():
    calls = FRAME[["fov", "label", "CD3"]]
    assert list(to_layout(calls, "ark", MARKERS, {})) == ["CD3", "label", "fov"]
    assert to_layout(FRAME, "panimbus", MARKERS, {}) is FRAME
    empty = to_layout(FRAME[:0], "ark", MARKERS, {})
    assert (len(empty), empty["cell_size"].dtype) == (0, np.float64)


def test_what_cannot_be_is_refused():
    check_layout("panimbus", ["label"], {"a": None})
    check_layout("ark", MARKERS, MPP)
    with pytest.raises(InputError, match=r"Unknown column names 'qupath'(.|\n)*scimap"):
        check_layout("qupath", MARKERS, MPP)
    with pytest.raises(ChannelError, match="cell_size"):
        check_layout("ark", ["CD3", "cell_size"], MPP)
    with pytest.raises(InputError, match=r"pixels(.|\n)*FOVs b(.|\n)*--columns"):
        check_layout("scimap", MARKERS, {"a": 0.5, "b": None})
