"""Precision and recall from random answers: right values, and intervals that hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.annotations.estimate import Estimate, estimate_rates


def test_values_by_hand():
    """6 of 8 positive calls right, 1 of 10 negative ones wrong, of 100 and 900 cells."""
    predicted = np.r_[np.ones(8, bool), np.zeros(10, bool)]
    truth = np.r_[np.ones(6), np.zeros(2), np.ones(1), np.zeros(9)]
    made = estimate_rates(predicted, truth, cells=(100, 900))
    assert made.answers == 18
    assert made.precision.value == pytest.approx(0.75)
    assert made.recall.value == pytest.approx(75 / (75 + 90))
    assert made.f1.value == pytest.approx(2 * 75 / (100 + 165))
    assert made.share.value == pytest.approx(165 / 1000)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Coverage over 300 simulated samples of 20 and 20 cells: at least 90 % of 95 %."""
    rng = np.random.default_rng(0)
    p, q, cells = 0.8, 0.1, (400, 600)
    recall = p * 400 / (p * 400 + q * 600)
    hits = {"precision": 0, "recall": 0}
    for k in range(300):
        truth = np.r_[rng.random(20) < p, rng.random(20) < q].astype(float)
        made = estimate_rates(np.repeat([True, False], 20), truth, cells=cells, seed=k)
        hits["precision"] += made.precision.low <= p <= made.precision.high
        hits["recall"] += made.recall.low <= recall <= made.recall.high
    assert min(hits.values()) >= 270


def test_all_right_is_not_certain():
    made = estimate_rates(np.array([True] * 5 + [False] * 5), np.r_[np.ones(5), np.zeros(5)],
                          cells=(50, 950))  # fmt: skip
    assert made.precision.value == 1
    assert 0.5 < made.precision.low < 0.75
    assert made.recall.low < 0.5  # five negative cells say little about 950


def test_weights_count_where_a_threshold_was_moved():
    """Of the cells now positive, one stands for 90 and is right, one for 10 and is wrong."""
    predicted, truth = np.array([True, True, False]), np.array([1.0, 0.0, 0.0])
    made = estimate_rates(predicted, truth, cells=(100, 10), weights=np.array([90, 10, 10]))
    assert made.precision.value == pytest.approx(0.9)


def test_undetermined_answers_do_not_count():
    predicted, truth = np.array([True, True, False]), np.array([1.0, np.nan, 0.0])
    assert estimate_rates(predicted, truth, cells=(5, 5)).answers == 2


def test_what_cannot_be_known():
    nothing = estimate_rates(np.zeros(0, bool), np.zeros(0), cells=(5, 5))
    assert all(np.isnan(e.value) for e in nothing[1:])
    assert str(nothing.recall) == "not known"
    half = estimate_rates(np.array([True, True]), np.array([1.0, 1.0]), cells=(5, 5))
    assert half.precision.value == 1
    assert np.isnan(half.recall.value)
    none = estimate_rates(np.array([False] * 4), np.zeros(4), cells=(0, 50))
    assert np.isnan(none.precision.value)
    assert none.share.value == 0
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.50 (0.25 to 0.75)"


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1.0, np.nan])), max_size=20),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_every_value_lies_in_its_interval(pairs, positive, negative):
    predicted = np.array([p[0] for p in pairs], bool)
    truth = np.array([p[1] for p in pairs], float)
    for made in estimate_rates(predicted, truth, cells=(positive, negative))[1:]:
        assert np.isnan(made.value) or 0 <= made.low <= made.value <= made.high <= 1
