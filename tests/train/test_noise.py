"""The rules of the noise-robust stage, on literal losses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panimbus.train import noise

LOSSES = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.floats(0, 10)),
        arrays(np.int64, n, elements=st.integers(0, 4)),
    )
)


def test_a_group_starts_with_the_batch_and_then_moves_by_a_hundredth():
    one = noise.moved_thresholds(
        noise.unseen(2), np.zeros(11, int), np.arange(11.0), percentile=85, keep=0.99
    )
    assert one[0] == 8.5
    assert np.isnan(one[1])
    two = noise.moved_thresholds(one, np.zeros(11, int), np.zeros(11), percentile=85, keep=0.99)
    assert two[0] == pytest.approx(0.99 * 8.5)


def test_groups_do_not_mix():
    group = np.array([0, 1, 0, 1, 0, 1])
    moved = noise.moved_thresholds(
        noise.unseen(3), group, np.array([1.0, 100, 1, 200, 1, 300]), percentile=50, keep=0.99
    )
    np.testing.assert_array_equal(moved, [1, 200, np.nan])


@given(LOSSES, st.sampled_from([50, 85, 90]))
def test_the_first_batch_keeps_about_the_percentile_of_each_group(cells, percentile):
    loss, group = cells
    threshold = noise.moved_thresholds(
        noise.unseen(5), group, loss, percentile=percentile, keep=0.99
    )
    kept = noise.small_loss(loss, group, threshold)
    for g in np.unique(group):
        assert kept[group == g].sum() >= np.floor(percentile / 100 * ((group == g).sum() - 1)) + (
            percentile == 100
        )
    assert kept[np.argmin(loss)]


@given(LOSSES, st.randoms(use_true_random=False))
def test_the_order_of_cells_does_not_matter(cells, random):
    loss, group = cells
    order = list(range(len(loss)))
    random.shuffle(order)
    old = np.array([0.5, np.nan, 1.0, np.nan, 2.0])
    a = noise.moved_thresholds(old, group, loss, percentile=85, keep=0.99)
    b = noise.moved_thresholds(old, group[order], loss[order], percentile=85, keep=0.99)
    np.testing.assert_array_equal(a, b)


def test_the_old_thresholds_stay_as_they_are():
    old = np.array([1.0])
    noise.moved_thresholds(old, np.array([0]), np.array([9.0]), percentile=85, keep=0.5)
    assert old[0] == 1.0


def test_no_cells_move_nothing():
    old = np.array([1.0, np.nan])
    out = noise.moved_thresholds(old, np.zeros(0, int), np.zeros(0), percentile=85, keep=0.99)
    np.testing.assert_array_equal(out, old)


def test_matched_high_confidence_is_strict_at_its_bounds():
    score, target = np.array([0.9, 0.91, 0.1, 0.09, 0.91, 0.09]), np.array([1.0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(
        noise.matched_confidence(score, target), [False, True, False, True, False, False]
    )


@given(arrays(np.bool_, 8), arrays(np.bool_, 8))
def test_a_cell_counts_if_either_rule_takes_it(a, b):
    np.testing.assert_array_equal(noise.trusted(a, b), [x or y for x, y in zip(a, b, strict=True)])


def test_the_percentile_rises_in_a_straight_line_and_stays():
    found = [noise.percentile_at(s, 10, 50, 90) for s in (0, 5, 10, 20)]
    assert found == [50, 70, 90, 90]
    assert noise.percentile_at(3, 0, 50, 90) == 90
