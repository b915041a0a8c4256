"""Metrics against scikit-learn, and their rules where a ratio is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.stats import confusion
from panimbus.evaluate.metrics import (
    mean_f1,
    metrics,
    metrics_by_marker,
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
    if not truth.any() and not called.any():
        f[1] = 1
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
    assert nothing_there.f1 == 1
    assert math.isnan(nothing_there.recall)
    assert nothing_there.specificity == 1
    assert math.isnan(metrics(np.ones(2), np.ones(2, int)).specificity)
    assert nothing_there.to_dict()["recall"] is None
    assert metrics(np.ones(3), np.zeros(3, int)).f1 == 0
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
    assert table["c"].f1 == 1
    assert mean_f1(table) == pytest.approx(2 / 3)
    unjudged = metrics(np.zeros(1), np.array([-1]))
    assert mean_f1({"a": table["a"], "d": unjudged}) == 1
    assert math.isnan(mean_f1({"d": unjudged}))


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
