"""Area under the ROC curve and the best threshold, against scikit-learn and by trial."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.core.stats import auc, auc_interval, best_threshold, confusion, f1_score

metrics = pytest.importorskip("sklearn.metrics")

values = st.lists(st.integers(0, 6), min_size=2, max_size=30)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weighted", [False, True])
def test_auc_equals_scikit_learn(seed: int, weighted: bool):
    rng = np.random.default_rng(seed)
    truth = np.append(rng.integers(0, 2, 40), [0, 1])
    scores = np.round(rng.random(42), 1 if seed % 2 else 6)  # with and without ties
    weights = rng.random(42) + 0.01 if weighted else None
    assert auc(scores, truth, weights) == pytest.approx(
        metrics.roc_auc_score(truth, scores, sample_weight=weights), abs=1e-12
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
    every = [float(f1_score(confusion(scores >= t, truth, weights))) for t in np.unique(scores)]
    assert f1 == pytest.approx(max(every), abs=1e-12)
    assert float(f1_score(confusion(scores >= cut, truth, weights))) == pytest.approx(f1, abs=1e-12)
    assert cut not in scores or cut == scores.min()


def test_ranking_without_both_classes():
    assert math.isnan(auc(np.array([0.1, 0.2]), np.zeros(2, int)))
    assert math.isnan(auc(np.array([0.1, 0.2]), np.ones(2, int)))
    assert best_threshold(np.array([0.1, 0.2]), np.zeros(2, int))[0] == math.inf
    with pytest.raises(InputError, match="without a score"):
        auc(np.array([np.nan, 1]), np.array([0, 1]))


@given(values, values)
def test_auc_is_scikit_learns(positive, negative):
    p, q = np.array(positive, float), np.array(negative, float)
    value, low, high = auc_interval(p, q)
    assert value == pytest.approx(metrics.roc_auc_score([1] * len(p) + [0] * len(q), [*p, *q]))
    assert 0 <= low <= value <= high <= 1
    # DeLong's variance by its definition
    above = np.array([(a > q).mean() + 0.5 * (a == q).mean() for a in p])
    below = np.array([(p > b).mean() + 0.5 * (p == b).mean() for b in q])
    half = 1.959964 * np.sqrt(above.var(ddof=1) / len(p) + below.var(ddof=1) / len(q))
    assert high == pytest.approx(min(value + half, 1), abs=1e-6)
    assert auc_interval(q, p)[0] == pytest.approx(1 - value)


def test_auc_without_a_class():
    assert np.isnan(auc_interval(np.zeros(0), np.ones(3))).all()
    assert auc_interval(np.ones(1), np.zeros(3))[0] == 1
