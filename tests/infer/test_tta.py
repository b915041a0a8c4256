"""The 8 views are a group with true inverses. Published bug: a late-bound loop variable made all
rotations 270°."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.infer.tta import VIEWS, views

FULL = views("full")
PATCH = np.arange(6).reshape(1, 2, 3)


def key(array):
    return array.shape, array.tobytes()


def test_literal():
    """The four rotations (0°, 90°, 180°, 270° against the clock) and their mirror images, in any
    order."""
    found = [v.apply(PATCH)[0].tolist() for v in FULL]
    expected = [
        [[0, 1, 2], [3, 4, 5]],
        [[2, 5], [1, 4], [0, 3]],
        [[5, 4, 3], [2, 1, 0]],
        [[3, 0], [4, 1], [5, 2]],
        [[2, 1, 0], [5, 4, 3]],
        [[5, 2], [4, 1], [3, 0]],
        [[3, 4, 5], [0, 1, 2]],
        [[0, 3], [1, 4], [2, 5]],
    ]
    assert sorted(found) == sorted(expected)


def test_eight_distinct_views_the_plain_one_first():
    assert len(FULL) == 8
    assert len({key(np.ascontiguousarray(v.apply(PATCH))) for v in FULL}) == 8
    np.testing.assert_array_equal(FULL[0].apply(PATCH), PATCH)
    assert views("none") == (FULL[0],)


@given(st.integers(1, 7), st.integers(1, 7))
def test_inverses(h, w):
    array = np.random.default_rng(0).random((2, 3, h, w))
    for view in FULL:
        np.testing.assert_array_equal(view.undo(view.apply(array)), array)
        np.testing.assert_array_equal(view.apply(view.undo(array)), array)


def test_closed_under_composition():
    all_views = {key(np.ascontiguousarray(v.apply(PATCH))) for v in FULL}
    for first in FULL:
        composed = {key(np.ascontiguousarray(second.apply(first.apply(PATCH)))) for second in FULL}
        assert composed == all_views


def test_planes_stay_in_order():
    array = np.stack([np.zeros((2, 3)), np.ones((2, 3))])
    for view in FULL:
        np.testing.assert_array_equal(view.apply(array)[0], 0)
        np.testing.assert_array_equal(view.apply(array)[1], 1)


def test_unknown():
    with pytest.raises(InputError, match="'twice'") as error:
        views("twice")
    assert all(name in str(error.value) for name in VIEWS)
