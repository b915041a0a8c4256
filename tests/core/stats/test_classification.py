"""Confusion tables and rates: literals, and scikit-learn as the oracle."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.stats import confusion, f1_score, outcomes, rates, ratio, split_labels, tally

metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, predicted, weights = rng.integers(0, 2, 50), rng.integers(0, 2, 50), rng.random(50)
    tp, fp, fn, tn = table = confusion(predicted, truth, weights)
    expected = metrics.confusion_matrix(truth, predicted, labels=[1, 0], sample_weight=weights)
    np.testing.assert_allclose([[tp, fn], [fp, tn]], expected)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=[0, 1], sample_weight=weights
    )
    np.testing.assert_allclose(rates(table), [precision[1], recall[1], recall[0], f1[1]])


def test_many_tables_at_once():
    codes = outcomes(np.array([1, 0, np.nan]), np.array([1, 1, 0]))
    tables = tally(codes, np.array([[1.0, 2, 4], [0, 0, 1], [3, 0, 0]]))
    assert tables.tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 0, 0]]
    np.testing.assert_array_equal(rates(tables).recall, [1 / 3, np.nan, 1])
    np.testing.assert_array_equal(f1_score(tables), [0.5, np.nan, 1])


@pytest.mark.parametrize(
    ("table", "f1"),
    [((0, 0, 0, 9), 1), ((0, 1, 0, 8), 0), ((0, 0, 1, 8), 0), ((0, 0, 0, 0), np.nan)],
)
def test_markers_without_positives(table, f1):
    np.testing.assert_equal(float(f1_score(np.array(table))), f1)


def test_undefined_ratios():
    np.testing.assert_array_equal(ratio([1, 0], [2, 0]), [0.5, np.nan])
    assert np.isnan(rates(np.array([0, 0, 3, 0])).precision)
    assert np.isnan(rates(np.array([0, 0, 3, 0])).specificity)


def test_labels_are_positive_from_one_half_on():
    positive, negative = split_labels(np.array([1, 0.5, 0.49, 0, -1]))
    assert positive.tolist() == [True, True, False, False, False]
    assert negative.tolist() == [False, False, True, True, False]


def test_bad_input():
    with pytest.raises(InputError, match="not aligned"):
        confusion(np.zeros(2), np.zeros(3))
    with pytest.raises(InputError, match="Weights"):
        confusion(np.zeros(1), np.zeros(1), np.array([np.nan]))
