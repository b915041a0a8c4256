"""Sums over the pixels of each cell against a Python loop."""

import numpy as np
import pytest

from panimbus.core.regions import CellGeometry, cell_sums

INDEX = np.array([[0, 0, -1], [0, 2, 2]], np.int32)


def test_literal_sums():
    values = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    np.testing.assert_array_equal(cell_sums(values, INDEX, 3), [3, 7, 0, 11])
    assert cell_sums(values, INDEX, 3).dtype == np.float64


@pytest.mark.parametrize(
    "dtype",
    [np.uint8, np.int16, np.uint32, np.int64, np.uint64, np.float16, np.float32, np.float64, ">u2"],
)
def test_sums_of_every_type(dtype):
    values = np.array([[1, 2, 3], [4, 5, 6]]).astype(dtype)
    np.testing.assert_array_equal(cell_sums(values, INDEX, 3), [3, 7, 0, 11])


def test_no_cells():
    np.testing.assert_array_equal(cell_sums(np.ones((2, 2)), np.full((2, 2), -1, np.int32), 0), [4])
    assert CellGeometry(np.zeros(0, np.int64), np.zeros(0), np.zeros(0)).centroids().shape == (0, 2)


def test_sums_do_not_wrap():
    assert (
        cell_sums(np.full((100, 100), 65_535, np.uint16), np.zeros((100, 100), np.int32), 1)[1]
        == 655_350_000
    )


def test_literal_centroids():
    geometry = CellGeometry(
        np.array([2, 0, 3]), np.array([5.0, 0.0, 3.0]), np.array([1.0, 0.0, 6.0])
    )
    np.testing.assert_array_equal(geometry.centroids(), [[2.5, 0.5], [0, 0], [1, 2]])
