"""Rim, inside and neighbours of cells: small arrays by hand, windows that cut cells, and mirror
images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from panimbus.core.evidence import (
    PixelBins,
    compass,
    evidence_layers,
    neighbour_max,
    rim_and_inside,
    touching,
)

NONE = np.zeros(0, np.intp)


def _centroids(index, n):
    return np.array(
        [np.argwhere(index == i).mean(0) if (index == i).any() else (0.0, 0.0) for i in range(n)]
    ).reshape(n, 2)


def _bins(index, core=None, *, n=None, corner=(0, 0), centroid=None):
    index = np.asarray(index, np.int32)
    n = int(index.max()) + 1 if n is None else n
    core = (0, index.shape[0], 0, index.shape[1]) if core is None else core
    return PixelBins.of(
        index,
        core,
        cells=np.arange(n),
        centroid=_centroids(index, n) if centroid is None else centroid,
        corner=corner,
    )


def _measured(index, plane):
    bins = _bins(index)
    return rim_and_inside(bins.sums(np.asarray(plane, np.float32)), bins.count)


def test_one_cell_in_the_middle():
    index = np.full((5, 5), -1)
    index[1:4, 1:4] = 0
    plane = np.arange(25).reshape(5, 5)
    bins = _bins(index)
    assert bins.count[:, 0].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert bins.sums(plane)[:, 0].tolist() == [6, 7, 8, 11, 0, 13, 16, 17, 18, 12]
    rim_mean, rim_low, inside_mean = _measured(index, plane)[:, 0]
    assert rim_mean == 12
    assert rim_low == np.percentile([6, 7, 8, 11, 13, 16, 17, 18], 25)
    assert inside_mean == 12


def test_the_image_edge_is_no_rim():
    rim_mean, rim_low, inside_mean = _measured(
        [[0, 0, 0, 1, 1, 1]], [[1, 2, 3, 40, 50, 60]]
    ).tolist()
    assert rim_mean == [3, 40]
    assert rim_low == [3, 40]
    assert inside_mean == [1.5, 55]


def test_a_cell_that_fills_the_image_has_no_rim():
    np.testing.assert_array_equal(_measured([[0, 0], [0, 0]], [[1, 2], [3, 6]]), np.full((3, 1), 3))


def test_a_cell_that_is_all_rim():
    np.testing.assert_array_equal(_measured([[-1, 0, -1]], [[5, 9, 7]]), np.full((3, 1), 9))
    rim_mean, rim_low, inside_mean = _measured(
        [[-1, -1, -1, -1, -1], [-1, 0, 0, 0, -1], [-1] * 5], [[0] * 5, [0, 2, 7, 6, 0], [0] * 5]
    )
    assert (rim_mean, rim_low, inside_mean) == (5, 3, 5), "the middle pixel is in no direction"


def test_a_signal_from_one_side_does_not_raise_the_low_rim():
    index = np.full((9, 9), -1)
    index[2:7, 2:7] = 0
    plane = np.where(np.arange(9) > 5, 100, 4)[None].repeat(9, 0)
    rim_mean, rim_low, inside_mean = _measured(index, plane)[:, 0]
    assert rim_mean == (5 * 100 + 11 * 4) / 16
    assert (rim_low, inside_mean) == (4, 4)


def test_compass():
    angle = np.deg2rad(np.arange(0, 360, 5) + 0.1)
    sector = np.round((angle + 1e-9) / (np.pi / 4)) % 8
    expected = np.array([5, 8, 7, 6, 3, 0, 1, 2])[
        sector.astype(int)
    ]  # E, SE, S ... for y that points down
    np.testing.assert_array_equal(compass(np.sin(angle), np.cos(angle)), expected)


def test_cells_without_a_pixel():
    bins = _bins([[-1, 2]], n=4)
    assert bins.count.sum(0).tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(
        rim_and_inside(bins.sums(np.array([[1.0, 8.0]])), bins.count), [[0, 0, 8, 0]] * 3
    )
    empty = _bins([[-1, -1]], n=0)
    assert rim_and_inside(empty.sums(np.ones((1, 2))), empty.count).shape == (3, 0)


def test_touching():
    index = np.array([[0, 0, 1], [2, 0, 1], [-1, 3, 3]], np.int32)
    whole = touching(index, (0, 3, 0, 3)).tolist()
    assert whole == [[0, 1], [0, 2], [0, 3], [1, 3]], (
        "edges, not corners, and not across background"
    )
    assert touching(index, (0, 1, 0, 3)).tolist() == [[0, 1], [0, 2]]
    assert touching(np.array([[-1]], np.int32), (0, 1, 0, 1)).shape == (0, 2)


def test_brightest_neighbour():
    mean = np.array([[1, 10], [5, 20], [3, 30], [9, 40]], np.float32)
    pairs = np.array([[0, 1], [2, 0], [0, 1]], np.int32)
    np.testing.assert_array_equal(neighbour_max(mean, pairs), [[5, 30], [1, 10], [1, 10], [0, 0]])
    mean[1, 0] = np.nan
    np.testing.assert_array_equal(
        neighbour_max(mean, pairs), [[np.nan, 30], [1, 10], [1, 10], [0, 0]]
    )
    np.testing.assert_array_equal(neighbour_max(mean, pairs[:0]), np.zeros((4, 2)))
    assert neighbour_max(mean[:0], pairs[:0]).shape == (0, 2)


def test_layers():
    """Cells without a pixel take their mean, blank channels 0, and what is missing stays
    missing."""
    mean = np.array([[1, 2, 3], [4, np.nan, 6]], np.float32)
    layers = evidence_layers(
        np.full((3, 2, 3), 7, np.float32),
        np.array([[0, 1]], np.int32),
        mean,
        rescued=np.array([1]),
        blank=np.array([False, False, True]),
    )
    assert list(layers) == ["rim_mean", "rim_low", "inside_mean", "neighbour_max"]
    for name in ("rim_mean", "rim_low", "inside_mean"):
        np.testing.assert_array_equal(layers[name], [[7, 7, 0], [4, np.nan, 0]])
    np.testing.assert_array_equal(layers["neighbour_max"], [[4, np.nan, 0], [1, np.nan, 0]])


PIXELS = hnp.arrays(
    np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 4)
)


@given(PIXELS, st.integers(0, 9), st.integers(0, 9), st.integers(0, 99))
def test_windows_that_cut_cells_add_up(index, row, column, seed):
    """Sums, counts and pairs of the four pieces of an image are those of the whole."""
    height, width = index.shape
    row, column, n = min(row, height), min(column, width), 5
    plane = np.random.default_rng(seed).integers(0, 1000, index.shape).astype(np.float32)
    centroid = _centroids(index, n)
    total, count, pairs = (
        np.zeros((10, n)),
        np.zeros((10, n), np.int64),
        [np.zeros((0, 2), np.int32)],
    )
    for y0, y1 in ((0, row), (row, height)):
        for x0, x1 in ((0, column), (column, width)):
            top, left = max(y0 - 1, 0), max(x0 - 1, 0)
            window = (slice(top, y1 + 1), slice(left, x1 + 1))
            core = (y0 - top, y1 - top, x0 - left, x1 - left)
            bins = _bins(index[window], core, n=n, corner=(top, left), centroid=centroid)
            total, count = total + bins.sums(plane[window]), count + bins.count
            pairs.append(touching(index[window], core))
    whole = _bins(index, n=n, centroid=centroid)
    np.testing.assert_array_equal(count, whole.count)
    np.testing.assert_array_equal(total, whole.sums(plane))
    np.testing.assert_array_equal(
        np.unique(np.concatenate(pairs), axis=0), touching(index, (0, height, 0, width))
    )


@given(PIXELS, st.sampled_from(["rows", "columns", "transposed"]), st.integers(0, 99))
def test_mirror_images(index, turn, seed):
    """Every pixel of integer intensity counts the same in a mirror image."""
    plane = np.random.default_rng(seed).integers(0, 1000, index.shape).astype(np.float32)
    turned = {
        "rows": lambda a: a[::-1],
        "columns": lambda a: a[:, ::-1],
        "transposed": lambda a: a.T,
    }[turn]
    np.testing.assert_array_equal(_measured(turned(index), turned(plane)), _measured(index, plane))


@pytest.mark.parametrize("k", range(9))
def test_low_rim_is_the_percentile_of_the_sectors(k):
    rng = np.random.default_rng(k)
    count = np.zeros((10, 1), np.int64)
    count[rng.permutation([0, 1, 2, 3, 5, 6, 7, 8])[:k], 0] = 2
    count[4] = 1
    total = rng.integers(0, 100, (10, 1)) * (count > 0.0)
    means = (total / 2)[[0, 1, 2, 3, 5, 6, 7, 8]][count[[0, 1, 2, 3, 5, 6, 7, 8]] > 0]
    expected = np.percentile(means, 25) if k else total[4, 0]
    assert rim_and_inside(total, count)[1, 0] == pytest.approx(expected)
