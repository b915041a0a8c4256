"""Metrics against scikit-learn, and their rules where a ratio is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.evaluate.metrics import (
    auc,
    best_threshold,
    confusion,
    mean_f1,
    metrics,
    metrics_by_marker,
    otsu_positive,
)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn(seed: int, weighted: bool):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    scores, truth = rng.random(n), rng.integers(0, 2, n)
    weights = rng.random(n) + 0.01 if weighted else None
    threshold = float(rng.choice([0.2, 0.5, 0.8]))
    called = (scores >= threshold).astype(int)
    got = metrics(scores, truth, threshold=threshold, weights=weights)
    p, r, f, _ = sk.precision_recall_fscore_support(
        truth, called, labels=[0, 1], sample_weight=weights, zero_division=np.nan
    )
    np.testing.assert_allclose(
        [got.precision, got.recall, got.f1, got.specificity], [p[1], r[1], f[1], r[0]], rtol=1e-12
    )


def test_undetermined_cells_count_nowhere():
    scores, truth = np.array([0.9, 0.9, 0.1, 0.1, 0.9, 0.1]), np.array([1, 0, 1, 0, -1, -1])
    assert metrics(scores, truth) == metrics(scores[:4], truth[:4])
    assert metrics(scores, truth).judged == 4


def test_undefined_is_nan_and_zero_is_zero():
    nothing_called = metrics(np.zeros(3), np.array([1, 0, 0]))
    assert math.isnan(nothing_called.precision)
    assert nothing_called.f1 == 0
    nothing_there = metrics(np.zeros(3), np.zeros(3, int))
    assert math.isnan(nothing_there.f1)
    assert math.isnan(nothing_there.recall)
    assert nothing_there.specificity == 1
    assert math.isnan(metrics(np.ones(2), np.ones(2, int)).specificity)
    assert nothing_there.to_dict()["f1"] is None
    empty = metrics(np.zeros(0), np.zeros(0, int))
    assert math.isnan(empty.f1)
    assert empty.judged == 0


def test_threshold_is_inclusive_and_booleans_are_calls():
    assert metrics(np.array([0.5]), np.array([1])).recall == 1
    assert metrics(np.array([True, False]), np.array([1, 0])).f1 == 1


def test_weights_are_repetitions():
    scores, truth, weights = (
        np.array([0.9, 0.8, 0.1, 0.3]),
        np.array([1, 0, 0, 1]),
        np.array([3, 1, 2, 1]),
    )
    a = metrics(scores, truth, weights=weights)
    b = metrics(np.repeat(scores, weights), np.repeat(truth, weights))
    assert (a.precision, a.recall, a.specificity, a.f1) == (
        b.precision,
        b.recall,
        b.specificity,
        b.f1,
    )


def test_by_marker_and_mean():
    scores = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.2]])
    truth = np.array([[1, 0, 0], [0, 0, 0]])
    table = metrics_by_marker(scores, truth, ["a", "b", "c"], weights=np.array([1.0, 2.0]))
    assert list(table) == ["a", "b", "c"]
    assert (table["a"].f1, table["b"].f1) == (1, 0)
    assert math.isnan(table["c"].f1)
    assert mean_f1(table) == 0.5
    assert math.isnan(mean_f1({"c": table["c"]}))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics(np.zeros(2), np.zeros(3, int)), "not aligned"),
        (lambda: metrics(np.array([np.nan]), np.zeros(1, int)), "without a score"),
        (lambda: confusion(np.zeros(1, bool), np.zeros(1, int), np.array([-1.0])), "Weights"),
        (lambda: metrics_by_marker(np.zeros((2, 2)), np.zeros((2, 2)), ["a"]), "not aligned"),
    ],
)
def test_bad_input(call, says: str):
    with pytest.raises(InputError, match=says):
        call()


def test_otsu_baseline():
    skimage = pytest.importorskip("skimage.filters")
    values = np.random.default_rng(0).gamma(2, 3, 500)
    np.testing.assert_array_equal(otsu_positive(values), values > skimage.threshold_otsu(values))
    assert not otsu_positive(np.full(5, 3)).any()
    assert otsu_positive(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weighted", [False, True])
def test_auc_equals_scikit_learn(seed: int, weighted: bool):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    truth = np.append(rng.integers(0, 2, 40), [0, 1])
    scores = np.round(rng.random(42), 1 if seed % 2 else 6)  # with and without ties
    weights = rng.random(42) + 0.01 if weighted else None
    assert auc(scores, truth, weights) == pytest.approx(
        sk.roc_auc_score(truth, scores, sample_weight=weights), abs=1e-12
    )
    unknown = (
        np.append(truth, -1),
        np.append(scores, 0.5),
        None if weights is None else np.append(weights, 9),
    )
    assert auc(unknown[1], unknown[0], unknown[2]) == pytest.approx(
        auc(scores, truth, weights), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(8))
def test_best_threshold_is_the_best_of_all(seed: int):
    rng = np.random.default_rng(seed)
    scores, truth, weights = (
        np.round(rng.random(30), 1),
        rng.integers(0, 2, 30),
        rng.random(30) + 0.1,
    )
    cut, f1 = best_threshold(scores, truth, weights)
    every = [metrics(scores, truth, threshold=t, weights=weights).f1 for t in np.unique(scores)]
    assert f1 == pytest.approx(max(every), abs=1e-12)
    assert metrics(scores, truth, threshold=cut, weights=weights).f1 == pytest.approx(f1, abs=1e-12)
    assert cut not in scores or cut == scores.min()


def test_ranking_without_both_classes():
    assert math.isnan(auc(np.array([0.1, 0.2]), np.zeros(2, int)))
    assert math.isnan(auc(np.array([0.1, 0.2]), np.ones(2, int)))
    assert best_threshold(np.array([0.1, 0.2]), np.zeros(2, int))[0] == math.inf
    with pytest.raises(InputError, match="without a score"):
        auc(np.array([np.nan, 1]), np.array([0, 1]))
