"""The markers of a result, the worst first."""

import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panimbus.core.doubts import near_threshold
from panimbus.core.scale import ChannelScale
from panimbus.evaluate.markers import (
    BINS,
    positive_calls,
    score_histogram,
    share_by_fov,
    summarise_markers,
)


def cell_table(scores, fov=None, *, types=None, thresholds=None, alike=None, spread=0.0):
    """A cell table of ``scores``: marker -> one score a cell."""
    n = len(next(iter(scores.values())))
    names = list(scores)
    obs = pd.DataFrame(
        {"fov_id": fov if fov is not None else ["a"] * n, "cell_id": np.arange(1, n + 1)},
        index=[str(i) for i in range(n)],
    )
    var = pd.DataFrame({"normaliser": 1.0}, index=names)
    var["threshold"] = [(thresholds or {}).get(c, 0.5) for c in names]
    if types is not None:
        var["channel_type"] = [types.get(c, "marker") for c in names]
    x = np.array(list(scores.values()), np.float32).T
    stats = {c: {"counterstain": (alike or {}).get(c, 0.0)} for c in names}
    scale = ChannelScale(99.9, "all", dict.fromkeys(names, 1.0), stats)
    uns = {"panimbus": {"scale": json.dumps(scale.to_dict())}}
    return AnnData(x, obs, var, uns, layers={"score_sd": np.full_like(x, spread)})


def split(positive, n=100, high=0.9, low=0.1):
    """``n`` scores, the first ``positive`` of them high."""
    return [high] * positive + [low] * (n - positive)


def test_numbers_of_a_marker():
    table = cell_table(
        {"CD3": [0.9, 0.55, 0.45, 0.1], "CD20": [0.2, 0.61, 0.6, 0.59]},
        ["a", "a", "b", "b"],
        thresholds={"CD20": 0.6},
    )
    summary = summarise_markers(table)
    one = {m.marker: m for m in summary.markers}
    cd3, cd20 = one["CD3"], one["CD20"]
    assert summary.fovs == ("a", "b")
    assert summary.fov_cells.tolist() == [2, 2]
    assert (cd3.threshold, cd3.cells, cd3.positive, cd3.share) == (0.5, 4, 2, 0.5)
    assert cd3.share_by_fov.tolist() == [1.0, 0.0]
    assert cd3.near == 0.5
    assert cd3.doubtful == pytest.approx(2 / 3)
    assert np.flatnonzero(cd3.histogram).tolist() == [5, 22, 27, 45]
    assert (cd20.threshold, cd20.positive) == (0.6, 2)  # 0.6 itself is positive
    assert cd20.share_by_fov.tolist() == [0.5, 0.5]
    frame = summary.frame()
    assert frame.set_index("marker").loc["CD3", ["positive a", "positive b"]].tolist() == [1.0, 0.0]


def test_the_calls_of_the_table_are_taken_as_they_are():
    table = cell_table({"CD3": [0.9, 0.1]})
    table.layers["positive"] = np.array([[0], [1]], np.uint8)
    assert positive_calls(table).tolist() == [[0], [1]]
    table.layers["positive"] = np.array([[np.nan], [1]], np.float32)
    (one,) = summarise_markers(table).markers
    assert (one.cells, one.positive) == (1, 1)
    assert "1 cells have no score" in [c.text for c in one.concerns]


def test_what_is_wrong_comes_first_and_in_words():
    table = cell_table(
        {
            "clear": split(30),
            "IgG": split(10),
            "haze": split(30),
            "vague": [0.45] * 30 + [0.55] * 30 + [0.1] * 40,
            "none": split(0),
            "all": split(95),
            "DAPI": split(100),
        },
        types={"IgG": "isotype", "DAPI": "counterstain"},
        alike={"haze": 0.82, "DAPI": 1.0},
    )
    markers = summarise_markers(table).markers
    assert [m.marker for m in markers] == ["haze", "IgG", "vague", "all", "none", "clear", "DAPI"]
    texts = {m.marker: " | ".join(c.text for c in m.concerns) for m in markers}
    assert texts["haze"].startswith(
        "bright in the same cells as the counterstain (rank correlation 0.82)"
    )
    assert texts["IgG"] == "a control (isotype), yet 10.0 % of its cells are positive"
    assert texts["vague"] == "60.0 % of the cells are near the threshold, 30.0 % positive"
    assert texts["all"] == "95.0 % of the cells are positive"
    assert texts["none"].startswith("no cell is positive")
    assert texts["clear"] == texts["DAPI"] == ""
    assert markers[-2].worry == 0
    assert markers[0].worry == pytest.approx(0.82)


def test_views_that_disagree():
    scores = {"CD3": split(30)}
    (calm,), (shaky,) = (
        summarise_markers(cell_table(scores, spread=sd)).markers for sd in (0.01, 0.12)
    )
    assert calm.concerns == ()
    assert shaky.spread == pytest.approx(0.12)
    assert "0.12" in shaky.concerns[0].text
    table = cell_table(scores)
    del table.layers["score_sd"]
    assert np.isnan(summarise_markers(table).markers[0].spread)


def test_exclusive_markers():
    n = 400
    table = cell_table(
        {
            "CD3": split(200, n),
            "CD20": [0.1] * 150 + [0.9] * 100 + [0.1] * 150,
            "CD68": [0.1] * 300 + [0.9] * 100,
        }
    )
    texts = {m.marker: [c.text for c in m.concerns] for m in summarise_markers(table).markers}
    assert texts["CD20"] == ["its positive cells carry markers that exclude it: CD3 50.0 %"]
    assert texts["CD3"] == ["its positive cells carry markers that exclude it: CD20 25.0 %"]
    assert texts["CD68"] == []


def test_fovs_that_differ():
    shares = (30, 32, 28, 31, 90)
    table = cell_table(
        {"CD3": [x for s in shares for x in split(s)]}, np.repeat([f"r{k}" for k in range(5)], 100)
    )
    (one,) = summarise_markers(table).markers
    assert [c.text for c in one.concerns] == [
        "FOVs differ in their share of positive cells: r4 90.0 % (median 31.0 %)"
    ]


def test_a_blank_channel_is_no_worry():
    table = cell_table({"CD3": split(0)})
    table.var["normaliser"] = np.nan
    (one,) = summarise_markers(table).markers
    assert [c.text for c in one.concerns] == ["blank: nothing to score"]
    assert one.worry == 0


def test_a_table_of_another_program_has_fewer_concerns():
    obs = pd.DataFrame({"fov_id": ["a", "b"], "cell_id": [1, 1]}, index=["a:1", "b:1"])
    table = AnnData(np.array([[0.9], [0.2]], np.float32), obs, pd.DataFrame(index=["X"]))
    (one,) = summarise_markers(table).markers
    assert (one.threshold, one.positive, one.channel_type) == (0.5, 1, "marker")


@given(
    arrays(np.float32, st.integers(0, 40), elements=st.floats(0, 1, width=32)),
    st.floats(0.05, 0.95),
)
def test_counts_add_up(scores, threshold):
    histogram = score_histogram(scores)
    assert histogram.sum() == len(scores)
    edges = np.arange(BINS + 1, dtype=np.float32) / np.float32(BINS)
    inside = np.abs(scores[:, None] - edges).min(1, initial=1) > 1e-6  # edges may fall either way
    np.testing.assert_array_equal(
        score_histogram(scores[inside]), np.histogram(scores[inside], edges)[0]
    )
    near = near_threshold(scores, threshold)
    assert near.sum() <= len(scores)
    fov = np.arange(len(scores)) % 2
    share = share_by_fov((scores >= threshold).astype(np.uint8), fov, 2)
    for k in range(2):
        inside = scores[fov == k] >= threshold
        np.testing.assert_equal(share[k], inside.mean() if len(inside) else np.nan)
