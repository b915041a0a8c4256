"""The planes a net sees, with literal arrays."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.labels import interior
from panimbus.core.planes import PLANES, channel_planes, check_planes, extra_planes, label_planes

INDEX = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, -1]], np.int32)


def test_literal_planes():
    image = np.array([[0, 0.25, 4, -1], [0.04, 1, 0, 0], [0, 0, 0, 0.49]], np.float32)
    out = channel_planes(label_planes(PLANES, INDEX), PLANES, image, INDEX, np.array([0.36, 9.0], np.float32))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[0], [[0, 0.25, 1, 0], [np.float32(0.04), 1, 0, 0], [0, 0, 0, np.float32(0.49)]])
    np.testing.assert_allclose(out[1], [[0, 0.5, 1, 0], [0.2, 1, 0, 0], [0, 0, 0, 0.7]])
    np.testing.assert_array_equal(out[2], interior(np.where(INDEX < 0, 0, INDEX + 1)))
    np.testing.assert_array_equal(out[2], [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(out[3], [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_allclose(out[4], [[0.6, 0.6, 0.6, 1], [0.6, 0.6, 0.6, 1], [0.6, 0.6, 0.6, 0]])


def test_order_is_that_of_the_names():
    image = np.full(INDEX.shape, 0.25, np.float32)
    out = channel_planes(label_planes(("cell", "image"), INDEX), ("cell", "image"), image, INDEX, np.zeros(2, np.float32))
    np.testing.assert_array_equal(out[0], INDEX >= 0)
    np.testing.assert_array_equal(out[1], 0.25)


def test_a_channel_leaves_nothing_for_the_next():
    fixed = label_planes(PLANES, INDEX)
    dark = channel_planes(fixed.copy(), PLANES, np.zeros(INDEX.shape, np.float32), INDEX, np.zeros(2, np.float32))
    channel_planes(fixed, PLANES, np.ones(INDEX.shape, np.float32), INDEX, np.ones(2, np.float32))
    again = channel_planes(fixed, PLANES, np.zeros(INDEX.shape, np.float32), INDEX, np.zeros(2, np.float32))
    np.testing.assert_array_equal(again, dark)


def test_no_cells():
    index = np.full((3, 3), -1, np.int32)
    out = channel_planes(label_planes(PLANES, index), PLANES, np.ones((3, 3), np.float32), index, np.zeros(0, np.float32))
    np.testing.assert_array_equal(out[2:], 0)


def test_the_image_is_not_changed():
    image = np.full(INDEX.shape, 3, np.float32)
    channel_planes(label_planes(("image",), INDEX), ("image",), image, INDEX, np.zeros(2, np.float32))
    np.testing.assert_array_equal(image, 3)


def test_unknown_plane():
    with pytest.raises(InputError, match="x, y"):
        check_planes(("image", "x", "nuclear", "y"))
    with pytest.raises(InputError, match="available: image, sqrt"):
        label_planes(("x",), INDEX)


def test_planes_of_other_channels():
    names = ("image", "nuclear")
    out = extra_planes(label_planes(names, INDEX), names, {"nuclear": np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4)})
    assert out[0].max() == 0
    np.testing.assert_allclose(out[1].ravel()[[0, 4, 11]], [0, 1 / 11, 1], atol=1e-6)
    with pytest.raises(InputError, match=r"not given: nuclear\."):
        extra_planes(label_planes(names, INDEX), names, {})
