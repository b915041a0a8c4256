"""The bootstrap keeps strata and weights, and its spread is the right one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.core.stats import (
    FN,
    FP,
    TN,
    TP,
    UNJUDGED,
    bootstrap_confusion,
    f1_score,
    interval,
    outcomes,
    strata,
)


def test_outcomes():
    called = np.array([1, 1, 0, 0, np.nan, 1])
    assert outcomes(called, np.array([1, 0, 1, 0, 1, -1])).tolist() == [
        TP,
        FP,
        FN,
        TN,
        UNJUDGED,
        UNJUDGED,
    ]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1, 1, 1, 5, 5, 5], [0, 0, 0, 1, 1, 1]),
        (
            [1, 1, 1, 1, 1, 1, 5, 9, 9],
            [0, 0, 0, 0, 0, 0, 1, 1, 1],
        ),  # one cell joins the next stratum
        (
            [1, 1, 1, 1, 1, 1, 5, 5, 9],
            [0, 0, 0, 0, 0, 0, 1, 1, 1],
        ),  # the last one joins the one before
        ([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]),  # weights that never repeat are no strata
        ([3], [0]),
        ([], []),
    ],
)
def test_strata(weights, expected):
    assert strata(np.array(weights, float)).tolist() == expected


@given(
    st.lists(
        st.tuples(st.sampled_from([1.0, 4.0, 9.0]), st.integers(0, 3)), min_size=2, max_size=40
    ),
    st.integers(0, 99),
)
def test_every_draw_keeps_the_weight_of_each_stratum(cells, seed):
    weights, codes = np.array([c[0] for c in cells]), np.array([c[1] for c in cells], np.int8)
    groups = np.unique(weights, return_inverse=True)[1]
    drawn = bootstrap_confusion(codes[:, None], weights, groups, draws=5, seed=seed)
    np.testing.assert_allclose(drawn.sum((1, 2)), weights.sum(), rtol=1e-9)


def test_methods_are_paired():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (50, 1)).astype(np.int8)
    drawn = bootstrap_confusion(np.repeat(codes, 2, 1), np.ones(50), np.zeros(50, int), draws=20)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    assert len(np.unique(drawn[:, 0], axis=0)) > 10


def test_spread_is_that_of_stratified_sampling():
    """The variance of the estimated share of true positives is the textbook's for two strata."""
    codes = np.repeat([TP, TN, TP, TN], [6, 4, 3, 17]).astype(np.int8)
    weights = np.repeat([10.0, 1.0], [10, 20])
    drawn = bootstrap_confusion(codes[:, None], weights, strata(weights), draws=20_000)[:, 0, TP]
    expected = 10**2 * 10 * (0.6 * 0.4) * 10 / 9 + 20 * (0.15 * 0.85) * 20 / 19
    assert drawn.mean() == pytest.approx(63, rel=0.01)
    assert drawn.var() == pytest.approx(expected, rel=0.05)


def test_f1_rules():
    tables = np.array([[2.0, 1, 1, 5], [0, 0, 0, 5], [0, 1, 0, 5], [0, 0, 1, 5]])
    np.testing.assert_allclose(f1_score(tables), [4 / 6, 1, 0, 0])
    assert np.isnan(f1_score(np.zeros(4)))


def test_interval():
    low, high = interval(np.append(np.arange(1001.0), np.nan))
    assert (low, high) == (pytest.approx(25), pytest.approx(975))
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_not_aligned():
    with pytest.raises(InputError, match="not aligned"):
        bootstrap_confusion(np.zeros((3, 1), np.int8), np.ones(2), np.zeros(3))
