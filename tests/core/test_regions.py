"""Sums over the pixels of each cell against a Python loop."""

import numpy as np
import pytest

from panimbus.core.regions import CellGeometry, cell_sums

INDEX = np.array([[0, 0, -1], [0, 2, 2]], np.int32)


def test_literal_sums():
    values = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    np.testing.assert_array_equal(cell_sums(values, INDEX, 3), [3, 7, 0, 11])
    assert cell_sums(values, INDEX, 3).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64, np.float16, np.float32, np.float64, ">u2"])
def test_sums_of_every_type(dtype):
    values = np.array([[1, 2, 3], [4, 5, 6]]).astype(dtype)
    np.testing.assert_array_equal(cell_sums(values, INDEX, 3), [3, 7, 0, 11])


def test_no_cells():
    np.testing.assert_array_equal(cell_sums(np.ones((2, 2)), np.full((2, 2), -1, np.int32), 0), [4])
    assert CellGeometry.zeros(0).centroids().shape == (0, 2)


def test_sums_do_not_wrap():
    assert cell_sums(np.full((100, 100), 65_535, np.uint16), np.zeros((100, 100), np.int32), 1)[1] == 655_350_000


def test_geometry_over_windows_is_that_of_the_whole():
    rng = np.random.default_rng(0)
    index = rng.integers(-1, 6, (17, 23)).astype(np.int32)
    whole, parts = CellGeometry.zeros(6), CellGeometry.zeros(6)
    whole.add(index, (0, 0))
    for y0, y1 in ((0, 5), (5, 6), (6, 17)):
        for x0, x1 in ((0, 11), (11, 23)):
            parts.add(index[y0:y1, x0:x1], (y0, x0))
    np.testing.assert_array_equal(parts.count, whole.count)
    np.testing.assert_allclose(parts.centroids(), whole.centroids(), rtol=1e-13)
    for cell in range(6):
        ys, xs = np.nonzero(index == cell)
        np.testing.assert_allclose(whole.centroids()[cell], [ys.mean(), xs.mean()])
        assert whole.count[cell] == len(ys)
