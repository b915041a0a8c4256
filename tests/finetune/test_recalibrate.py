"""A result recalibrated by answers, taken back, and refused."""

import numpy as np
import pandas as pd
import pytest

from panimbus.annotations.table import check_annotations
from panimbus.core.errors import InputError
from panimbus.core.table import EVIDENCE, FovScores, recalibrated_markers, to_anndata
from panimbus.finetune.recalibrate import recalibrate, recalibration_sentence, take_back
from panimbus.infer.output import save_run
from panimbus.infer.rewrite import open_result

MARKERS = ("CD3", "CD20", "blank")
N = 400


def make(folder, *, model="compact-7", evidence=True, shift=-1.5):
    """A result whose scores of CD3 and CD20 are too low: the calls are right at ``shift``."""
    rng = np.random.default_rng(0)
    truth = rng.random((N, 3)) < [0.3, 0.2, 0.0]
    z = np.where(truth, 2.0, -2.0) + rng.standard_normal((N, 3)) + shift
    score = (1 / (1 + np.exp(-z))).astype(np.float32)
    score[:, 2] = 0
    score[7, 0] = np.nan
    mean = np.where(truth, 40, 10) + rng.gamma(2, 1, (N, 3))
    mean[:, 2] = 0
    mean = mean.astype(np.float32)
    layers = {n: mean * np.float32(0.9) for n in EVIDENCE} if evidence else {}
    xy = rng.uniform(0, 200, (N, 2))
    part = FovScores(
        "a", np.arange(1, N + 1), score, 0.05 + 0 * score, mean, np.full(N, 60.0), xy, layers, 1.0
    )
    about = {
        "model": model,
        "threshold": 0.5,
        "settings": {"tta": "none"},
        "scale": '{"percentile": 99.9, "over": "all", "fov_ids": [], "channels": {}}',
        "inputs": '{"a": {"mpp": 1.0}}',
    }
    table = to_anndata(
        [part], MARKERS, normaliser=dict.fromkeys(MARKERS, 1.0), provenance=about,
        thresholds=dict.fromkeys(MARKERS, 0.5),
    )  # fmt: skip
    save_run(table, folder, ("h5ad", "csv"))
    return truth


def ask(truth, channel, ids, **columns):
    k = MARKERS.index(channel)
    call = np.where(truth[np.array(ids) - 1, k], "positive", "negative")
    frame = pd.DataFrame({"fov": "a", "cell_id": ids, "channel": channel, "call": call})
    return check_annotations(frame.assign(**columns))


def f1(folder, truth, k):
    called = np.asarray(open_result(folder).layers["positive"])[:, k] == 1
    return 2 * (called & truth[:, k]).sum() / (called.sum() + truth[:, k].sum())


@pytest.mark.parametrize(
    ("about", "prior"),
    [({}, "evidence"), ({"evidence": False}, "plain"), ({"model": "other"}, "offset")],
)
def test_a_few_answers_right_a_marker_and_can_be_taken_back(tmp_path, about, prior):
    truth = make(tmp_path, **about)
    first = open_result(tmp_path)
    before = f1(tmp_path, truth, 0)
    result = recalibrate(tmp_path, ask(truth, "CD3", range(1, 31)))
    assert result.prior == prior
    assert f1(tmp_path, truth, 0) > before + 0.03
    row = result.markers.iloc[0]
    assert (row["marker"], row["answers"], row["kept"]) == ("CD3", 29, "new")
    assert row["log_loss_after"] < row["log_loss_before"]
    assert row["changed"] > 5
    assert any("1 annotations of cells without a score" in note for note in result.notes)
    after = open_result(tmp_path)
    assert recalibrated_markers(after) == ["CD3"]
    np.testing.assert_array_equal(after.X[:, 1], first.X[:, 1])
    assert np.isnan(after.X[7, 0])
    assert pd.read_csv(tmp_path / "recalibration.csv")["marker"].tolist() == ["CD3"]
    assert "1 of 1 markers recalibrated" in recalibration_sentence(result)
    back = take_back(tmp_path)
    np.testing.assert_array_equal(back.X, first.X)
    with pytest.raises(InputError, match="no marker is recalibrated"):
        take_back(tmp_path)


def test_the_same_answers_give_the_same_scores_however_often(tmp_path):
    truth = make(tmp_path)
    one = recalibrate(tmp_path, ask(truth, "CD3", range(1, 21))).table.X
    two = recalibrate(tmp_path, ask(truth, "CD3", range(1, 21))).table
    np.testing.assert_array_equal(one, two.X)
    assert two.var["threshold_before"].tolist()[0] == 0.5


def test_a_marker_that_is_clearly_worse_keeps_its_own_scores(tmp_path, monkeypatch):
    truth = make(tmp_path)
    first = open_result(tmp_path).X
    recalibrate(tmp_path, ask(truth, "CD20", range(1, 21)))
    worse = "panimbus.finetune.recalibrate.clearly_worse"
    monkeypatch.setattr(worse, lambda old, _new, _target: len(old) == 20)
    both = [ask(truth, "CD20", range(1, 21)), ask(truth, "CD3", range(20, 50))]
    result = recalibrate(tmp_path, pd.concat(both))
    assert dict(zip(result.markers["marker"], result.markers["kept"], strict=True)) == {
        "CD20": "old",
        "CD3": "new",
    }
    assert "unchanged: CD20" in recalibration_sentence(result)
    after = open_result(tmp_path)
    assert recalibrated_markers(after) == ["CD3"]  # the earlier one of CD20 is taken back
    np.testing.assert_array_equal(after.X[:, 1], first[:, 1])


def test_weights_count_in_the_figures(tmp_path):
    truth = make(tmp_path)
    heavy = np.where(np.arange(1, 41) == 3, 1000.0, 1.0)
    plain = recalibrate(tmp_path, ask(truth, "CD3", range(1, 41))).markers
    weighted = recalibrate(tmp_path, ask(truth, "CD3", range(1, 41), sampling_weight=heavy)).markers
    assert weighted["log_loss_before"].iloc[0] != plain["log_loss_before"].iloc[0]
    assert weighted["kept"].tolist() == plain["kept"].tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channel": "CD4"}, "no channel CD4"),
        ({"fov": "b"}, "b"),
        ({"cell_id": 9000}, "no cell 9000"),
        ({"channel": "blank"}, "There is no annotation to recalibrate by"),
        ({"call": "undetermined"}, "There is no annotation to recalibrate by"),
    ],
)
def test_answers_that_do_not_fit_change_nothing(tmp_path, change, words):
    truth = make(tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    with pytest.raises(InputError, match=words):
        recalibrate(tmp_path, ask(truth, "CD3", [1]).assign(**change))
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
