"""Scored calls and the tables made of them."""

import math

import numpy as np
import pandas as pd
import pytest

from panimbus.annotations.table import check_annotations, with_truth
from panimbus.core.errors import InputError
from panimbus.core.stats import otsu_positive
from panimbus.evaluate.evaluation import evaluate_calls
from panimbus.evaluate.inputs import evaluate_scores
from panimbus.evaluate.metrics import metrics
from panimbus.evaluate.scored import CellMetadata, match_scores
from panimbus.evaluate.settings import ALL, EvaluateSettings

FAST = EvaluateSettings(draws=50)


def test_lookup_and_surroundings(scene):
    table, calls, _ = scene
    shuffled = with_truth(check_annotations(calls.sample(frac=1, random_state=0)))
    scored = match_scores(table, shuffled, CellMetadata("skin", radius_px=8.5))
    assert len(scored) == len(calls)
    for row in scored.sample(20, random_state=1).itertuples():
        cell = table[
            (table.obs["fov_id"] == row.fov) & (table.obs["cell_id"] == row.cell_id), row.channel
        ]
        assert row.score == cell.X[0, 0]
        assert row.intensity == pytest.approx(cell.layers["intensity_mean"][0, 0] / 100)
    assert set(scored["cell_size"]) == {64.0}
    corner = scored[(scored["cell_id"] == 1)].iloc[0]
    inner = scored[scored["cell_id"] == 10].iloc[0]
    assert (corner["density"], inner["density"]) == (2, 4)
    one = scored[(scored["fov"] == "a") & (scored["channel"] == "CD3")]
    mean = table[table.obs["fov_id"] == "a", "CD3"].layers["intensity_mean"][:, 0].astype(float)
    assert one["heterogeneity"].iloc[0] == pytest.approx(mean.std() / mean.mean())
    np.testing.assert_array_equal(one.sort_values("cell_id")["otsu"], otsu_positive(mean))
    judged = one[one["truth"] >= 0]
    assert one["rarity"].iloc[0] == pytest.approx(
        np.average(judged["truth"], weights=judged["weight"])
    )


def test_positive_neighbours_go_by_call_then_silver_then_score(scene):
    table, calls, _ = scene
    chosen = (calls["fov"] == "a") & (calls["channel"] == "CD3") & calls["cell_id"].isin([10, 11])
    few = with_truth(check_annotations(calls[chosen]))
    few["truth"] = [0, 1]
    positive = table[table.obs["fov_id"] == "a", "CD3"].X[:, 0] >= 0.5
    expected = int(positive[[9 - 8, 9 + 8, 9 - 1]].sum()) + 1  # cell 11 by its call
    assert match_scores(table, few, CellMetadata(radius_px=8.5)).iloc[0]["sparsity"] == expected
    silver = pd.DataFrame(
        {"fov": "a", "channel": "CD3", "cell_id": [2, 18, 9, 999], "label": [1.0, 1.0, np.nan, 1.0]}
    )
    scored = match_scores(table, few, CellMetadata(radius_px=8.5, silver=silver))
    assert scored.iloc[0]["sparsity"] == 3 + int(positive[8])
    assert np.isnan(scored["silver"]).all()


def test_calls_that_do_not_fit(scene):
    table, calls, _ = scene
    bad = calls[:3].assign(fov=["a", "c", "a"], channel=["CD8", "CD3", "CD3"], cell_id=[1, 1, 99])
    with pytest.raises(InputError, match="do not fit the cell table") as error:
        match_scores(table, with_truth(check_annotations(bad)))
    for words in ("CD8", "not among the images: c", "99"):
        assert words in str(error.value)
    broken = table.copy()
    del broken.layers["intensity_mean"]
    with pytest.raises(InputError, match="intensity_mean"):
        match_scores(broken, with_truth(check_annotations(calls)))


def test_tables(scene):
    table, calls, _ = scene
    scored = match_scores(table, with_truth(check_annotations(calls)), CellMetadata("skin"))
    result = evaluate_calls(scored, FAST)
    markers = result.markers.set_index(["channel", "method"])
    assert markers.loc[("CD3", "model"), "f1"] == 1
    judged = scored[(scored["channel"] == "CD20") & (scored["truth"] >= 0)]
    expected = metrics(
        judged["score"], judged["truth"].to_numpy(), weights=judged["weight"].to_numpy()
    )
    row = markers.loc[("CD20", "model")]
    assert row[["precision", "recall", "specificity", "f1"]].tolist() == pytest.approx(
        [expected.precision, expected.recall, expected.specificity, expected.f1]
    )
    assert row["calls"] == 122
    assert row["undetermined"] == 6
    assert row["f1_low"] < row["f1"] < row["f1_high"]
    otsu = markers.loc[("CD20", "otsu"), "f1"]
    assert otsu > 0.85
    means = result.means.set_index(["dataset", "method"])
    assert means.loc[(ALL, "model"), "f1"] == pytest.approx((1 + expected.f1) / 2)
    assert means.loc[(ALL, "otsu"), "gain"] == pytest.approx(
        means.loc[(ALL, "model"), "f1"] - means.loc[(ALL, "otsu"), "f1"]
    )
    assert (
        means.loc[(ALL, "otsu"), "gain_low"]
        < means.loc[(ALL, "otsu"), "gain"]
        < means.loc[(ALL, "otsu"), "gain_high"]
    )
    assert math.isnan(means.loc[(ALL, "model_best"), "f1_low"])
    assert result.groups["group"].unique().tolist() == ["skin"]
    assert set(result.confounders["confounder"]) == {
        "cell_size",
        "heterogeneity",
        "rarity",
        "sparsity",
        "density",
    }
    assert result.curves[ALL].cells.sum() == 244


def test_units(scene):
    table, calls, _ = scene
    scored = match_scores(table, with_truth(check_annotations(calls)))
    assert len(evaluate_calls(scored, FAST).markers["unit"].unique()) == 2
    by_fov = evaluate_calls(scored, EvaluateSettings("fov", draws=50))
    assert len(by_fov.markers["unit"].unique()) == 4
    assert by_fov.markers["fov"].unique().tolist() == ["a", "b"]


def scored_of(rows):
    """A scored table written by hand: (dataset, channel, cell, truth, score[, silver])."""
    columns = ["dataset", "channel", "cell_id", "truth", "score"]
    frame = pd.DataFrame([r[:5] for r in rows], columns=columns)
    more = {
        "fov": "f",
        "call": "",
        "weight": 1.0,
        "tissue": "",
        "cell_type": "",
        "intensity": frame["score"],
        "otsu": 0.0,
    }
    more |= dict.fromkeys(
        ("mixture", "cell_size", "heterogeneity", "rarity", "sparsity", "density"), 0.0
    )
    return frame.assign(**more, silver=[r[5] if len(r) > 5 else np.nan for r in rows])


def test_mean_over_markers_then_datasets():
    rows = [
        ("d", "A", 1, 1, 0.9),
        ("d", "A", 2, 0, 0.1),
        ("d", "B", 1, 1, 0.1),
        ("d", "B", 2, 0, 0.2),
        ("e", "A", 1, 1, 0.9),
    ]
    means = evaluate_calls(scored_of(rows), FAST).means.set_index(["dataset", "method"])
    assert means.loc[("d", "model"), "f1"] == 0.5
    assert means.loc[("e", "model"), "f1"] == 1
    assert means.loc[(ALL, "model"), "f1"] == 0.75


def test_markers_of_a_dataset_pooled():
    """By hand: dataset d has TP 3, FP 1, FN 1 in all; its markers alone have F1 6/7 and 0."""
    right = [("d", "A", k, 1, 0.9) for k in range(3)]
    wrong = [("d", "A", 3, 0, 0.9), ("d", "B", 1, 1, 0.1), ("d", "B", 2, 0, 0.2)]
    scored = scored_of([*right, *wrong, ("e", "A", 1, 1, 0.9)])
    result = evaluate_calls(scored, FAST)
    pooled = result.pooled.set_index(["dataset", "method"])
    row = pooled.loc[("d", "model")]
    assert row[["precision", "recall", "specificity", "f1"]].tolist() == [0.75, 0.75, 0.5, 0.75]
    assert row[["markers", "calls"]].tolist() == [2, 6]
    assert pooled.loc[(ALL, "model"), "f1"] == pytest.approx((0.75 + 1) / 2)
    means = result.means.set_index(["dataset", "method"])
    assert means.loc[("d", "model"), "f1"] == pytest.approx(6 / 7 / 2)
    assert result.headline is result.means
    assert "0.714" in repr(result)
    by_dataset = evaluate_calls(scored, EvaluateSettings("dataset", draws=50))
    assert by_dataset.headline is by_dataset.pooled
    assert "0.875" in repr(by_dataset)
    pd.testing.assert_frame_equal(by_dataset.pooled, result.pooled)
    pd.testing.assert_frame_equal(by_dataset.markers, result.markers)


def test_pooled_figures_are_those_of_scikit_learn(scene):
    sklearn = pytest.importorskip("sklearn.metrics")
    table, calls, _ = scene
    scored = match_scores(table, with_truth(check_annotations(calls)), CellMetadata("skin"))
    result = evaluate_calls(scored, EvaluateSettings("dataset", draws=200))
    judged = result.calls[result.calls["truth"] >= 0]
    row = result.pooled.set_index(["dataset", "method"]).loc[(ALL, "model")]
    expected = sklearn.precision_recall_fscore_support(
        judged["truth"], judged["model"], sample_weight=judged["weight"], average="binary"
    )
    assert row[["precision", "recall", "f1"]].tolist() == pytest.approx(expected[:3])
    assert row["f1_low"] < row["f1"] < row["f1_high"]
    tissue = result.groups.set_index(["group", "method"]).loc[("skin", "model")]
    assert tissue[["f1", "f1_low"]].tolist() == pytest.approx(row[["f1", "f1_low"]].tolist())


def test_nothing_to_find():
    right = scored_of([("d", "A", 1, 0, 0.1), ("d", "A", 2, 0, 0.2)])
    wrong = scored_of([("d", "A", 1, 0, 0.1), ("d", "A", 2, 0, 0.9)])
    f1 = [
        evaluate_calls(s, FAST).markers.set_index("method").loc["model", "f1"]
        for s in (right, wrong)
    ]
    assert f1 == [1, 0]
    assert evaluate_calls(wrong, FAST).markers.set_index("method").loc["model_best", "f1"] == 1
    with pytest.raises(InputError, match="nothing to judge"):
        evaluate_calls(right.assign(truth=-1), FAST)


def test_silver_is_judged_where_it_is_defined():
    rows = [
        ("d", "A", 1, 1, 0.9, 1.0),
        ("d", "A", 2, 0, 0.9, 0.0),
        ("d", "A", 3, 0, 0.9),
        ("d", "B", 1, 1, 0.1),
    ]
    result = evaluate_calls(scored_of(rows), FAST)
    markers = result.markers.set_index(["channel", "method"])
    assert markers.loc[("A", "silver"), ["calls", "f1"]].tolist() == [2, 1]
    assert markers.loc[("A", "model_silver"), "f1"] == pytest.approx(2 / 3)
    assert math.isnan(markers.loc[("B", "silver"), "f1"])
    means = result.means.set_index(["dataset", "method"])
    assert means.loc[(ALL, "silver"), "markers"] == 1
    assert means.loc[(ALL, "silver"), "gain"] == pytest.approx(2 / 3 - 1)


def test_cell_types():
    rows = [("d", "A", k, k % 2, 0.9 if k % 2 else 0.1) for k in range(20)]
    scored = scored_of(rows).assign(cell_type=["B"] * 12 + ["T"] * 4 + [""] * 4)
    groups = evaluate_calls(scored, FAST).groups.set_index(["group", "method"])
    assert groups.loc[("B", "model"), ["calls", "f1", "f1_low"]].tolist() == [12, 1, 1]
    assert math.isnan(groups.loc[("T", "model"), "f1_low"])  # four calls have no interval
    assert "" not in groups.index


def test_evaluate_scores_is_the_evaluation_of_a_table(scene):
    table, calls, _ = scene
    result = evaluate_scores(table, check_annotations(calls))
    expected = evaluate_calls(match_scores(table, with_truth(check_annotations(calls))))
    pd.testing.assert_frame_equal(result.markers, expected.markers)
    quick = evaluate_scores(table, check_annotations(calls), settings=EvaluateSettings(draws=2))
    assert quick.settings.draws == 2


def test_cells_asked_because_doubtful_are_warned_of(scene, caplog):
    _, calls, _ = scene
    few = calls.iloc[:5].assign(sampling=["boundary", "random", "intensity", "by hand", ""])
    with_truth(check_annotations(few), source="calls.csv")
    assert "calls.csv: 2 of 5 cells were asked because they are doubtful" in caplog.text
    caplog.clear()
    with_truth(check_annotations(few[few["sampling"] == "random"]))
    assert not caplog.text
