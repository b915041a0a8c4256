"""Mutual information against the paper's equations and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import cKDTree
from scipy.special import digamma

from panimbus.core.errors import InputError
from panimbus.core.stats import entropy, mutual_information, permuted_information
from panimbus.core.stats.information import _count_within


def by_brute_force(x, classes, k=3):
    """Ross (2014), equations 1 and 2, with every distance written out."""
    n, members, used, around = len(x), [], [], []
    distance = np.abs(x[:, None] - x[None])
    for i in range(n):
        same = classes == classes[i]
        if same.sum() > 1:
            used.append(min(k, same.sum() - 1))
            members.append(same.sum())
            around.append((distance[i] < np.sort(distance[i][same])[used[-1]]).sum())
    return max(
        0,
        digamma(len(used))
        + digamma(used).mean()
        - digamma(members).mean()
        - digamma(around).mean(),
    )


def drawn(n, shift):
    rng = np.random.default_rng(n)
    wrong = np.append(rng.random(n - 4) < 0.3, [True, True, False, False])
    return rng.normal(size=n) * 40 + 300 + shift * 40 * wrong, wrong


@pytest.mark.parametrize("n", [12, 19, 24, 100, 400])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_mutual_information_is_that_of_the_paper(n, shift):
    values, wrong = drawn(n, shift)
    assert mutual_information(values, wrong) == pytest.approx(
        by_brute_force(values, wrong), abs=1e-9
    )


def test_mutual_information_is_about_that_of_scikit_learn():
    """Not to the last bit: scikit-learn counts a neighbour that lies at the radius itself now and
    then (squares are rounded)."""
    selection = pytest.importorskip("sklearn.feature_selection")
    off = []
    for n in range(200, 220):
        values, wrong = drawn(n, 1.0)
        off.append(
            abs(
                mutual_information(values, wrong)
                - selection.mutual_info_classif(values[:, None], wrong, random_state=0)[0]
            )
        )
    assert np.median(off) < 1e-9
    assert max(off) < 0.03


def test_mutual_information_of_what_tells_all_and_nothing():
    wrong = np.arange(400) % 4 == 0
    assert mutual_information(
        wrong * 10.0 + np.random.default_rng(0).random(400), wrong
    ) == pytest.approx(entropy(wrong), abs=0.05)
    assert mutual_information(np.ones(400), wrong) < 0.05
    assert mutual_information(np.arange(5.0), np.zeros(5, bool)) == 0
    assert (
        mutual_information(np.arange(5.0), np.array([True, False, False, False, False])) == 0
    )  # one error alone says nothing
    assert mutual_information(np.zeros(0), np.zeros(0, bool)) == 0
    with pytest.raises(InputError, match="not aligned"):
        mutual_information(np.zeros(3), np.zeros(2))


def test_chance_is_small_and_the_same_each_time():
    rng = np.random.default_rng(0)
    values, wrong = rng.random(500), rng.random(500) < 0.1
    assert 0 < permuted_information(values, wrong) < 0.05
    assert permuted_information(values, wrong) == permuted_information(values, wrong)


@given(
    arrays(np.float64, 12, elements=st.floats(-9, 9)),
    arrays(np.float64, 12, elements=st.floats(0, 5)),
)
def test_counts_are_those_of_a_tree(x, radius):
    x, points = np.sort(x), np.sort(x)[:, None]
    tree = cKDTree(points).query_ball_point(points, radius, p=np.inf, return_length=True)
    assert _count_within(x, radius).tolist() == tree.tolist()


def test_numbers_at_the_radius_itself_are_counted():
    """0.3 - 0.2 and 0.3 - 0.1 are a little less than 0.1 and a little more than 0.2."""
    x = np.array([0.1, 0.2, 0.3, 0.4])
    gaps = np.abs(x[:, None] - x)
    for radius in np.unique(gaps):
        expected = (gaps <= radius).sum(1).tolist()
        assert _count_within(x, np.full(4, radius)).tolist() == expected


def test_chance_of_a_subsample_is_that_of_all():
    rng = np.random.default_rng(0)
    values, wrong = rng.random(8000), rng.random(8000) < 0.1
    every = np.mean([permuted_information(values, wrong, seed=s) for s in range(4)])
    some = np.mean([permuted_information(values, wrong, seed=s, most=2000) for s in range(4)])
    assert some == pytest.approx(every, rel=0.35)
    assert permuted_information(values, wrong, most=8000) == permuted_information(values, wrong)


def test_entropy():
    assert entropy(np.array([True, False])) == pytest.approx(np.log(2))
    assert entropy(np.zeros(3, bool)) == 0
    assert entropy(np.zeros(0, bool)) == 0
