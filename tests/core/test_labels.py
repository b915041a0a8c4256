"""Label images: interiors, ids of any size, sampling and the rescue of small cells."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.segmentation import find_boundaries

from panimbus.core.labels import CellIndex, interior, sample_labels, unique_ids, vote
from panimbus.core.resample import Axis

BIG = 3_000_000_000


def test_literal_interior():
    labels = np.array(
        [
            [1, 1, 1, 2, 2, 2],
            [1, 1, 1, 2, 2, 2],
            [1, 1, 1, 2, 2, 2],
            [0, 0, 0, 0, 3, 0],
        ]
    )
    expected = [
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(interior(labels), np.array(expected, bool))


@given(
    arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))
)
def test_interior_is_skimage_inner_boundaries(labels):
    expected = (labels > 0) & ~find_boundaries(labels, mode="inner", connectivity=1)
    np.testing.assert_array_equal(interior(labels), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.int64, np.uint64])
def test_interior_of_any_integer_type(dtype):
    labels = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 5, 0), 5, 1).astype(dtype)
    expected = (labels > 0) & ~find_boundaries(labels.astype(int), mode="inner", connectivity=1)
    np.testing.assert_array_equal(interior(labels), expected)
    assert not np.shares_memory(interior(labels), labels)


def test_touching_cells_stay_apart_when_shrunk():
    """The published tool shrinks before it separates: 1,200 touching cells became 17 components."""
    from scipy import ndimage

    ids = np.arange(1, 1201, dtype=np.uint32).reshape(30, 40)
    labels = np.kron(ids, np.ones((24, 24), np.uint32))
    y, x = Axis(labels.shape[0], 4.0), Axis(labels.shape[1], 4.0)
    small = sample_labels(labels, y, x, (0, y.size, 0, x.size))
    assert small.shape == (180, 240)
    inside = interior(small)
    _, n = ndimage.label(inside)
    assert n == 1200
    np.testing.assert_array_equal(unique_ids(np.where(inside, small, 0)), ids.ravel())


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [
        ([1, 2, 3], np.uint8),
        ([7, 65_536, 70_000], np.uint32),
        ([5, 2**24, 2**24 + 1], np.int32),
        ([1, BIG, 2**32 - 1], np.uint32),
        ([1, BIG, 2**40], np.int64),
        ([2, BIG, 2**63 - 1], np.uint64),
        ([2**53, 2**53 + 1, 2**63 - 1], np.uint64),
    ],
)
def test_cell_index(ids, dtype):
    ids = np.array(ids, dtype)
    labels = np.array([[0, ids[2], ids[0]], [ids[1], 0, ids[2]]], dtype)
    np.testing.assert_array_equal(unique_ids(labels), ids)
    assert unique_ids(labels).dtype == dtype
    index = CellIndex(ids)
    assert len(index) == 3
    out = index(labels)
    assert out.dtype == np.int32
    np.testing.assert_array_equal(out, [[-1, 2, 0], [1, -1, 2]])


def test_cell_index_of_another_type_than_the_labels():
    """uint64 ids in a part of the image that has small labels only, and so on."""
    index = CellIndex(np.array([3, BIG], np.uint64))
    np.testing.assert_array_equal(index(np.array([[0, 3]], np.uint8)), [[-1, 0]])
    index = CellIndex(np.array([3, 9], np.uint16))
    np.testing.assert_array_equal(index(np.array([[0, 9]], np.uint64)), [[-1, 1]])


def test_no_cells():
    assert len(unique_ids(np.zeros((3, 4), np.uint16))) == 0
    assert len(unique_ids(np.zeros((0, 4), np.uint16))) == 0
    np.testing.assert_array_equal(
        CellIndex(np.zeros(0, np.uint16))(np.zeros((2, 2), np.uint16)), np.full((2, 2), -1)
    )


@given(
    st.lists(st.integers(1, 2**63 - 1), min_size=1, max_size=30, unique=True), st.integers(0, 99)
)
def test_both_paths_of_the_index_agree(values, seed):
    ids = np.sort(np.array(values, np.uint64))
    labels = np.random.default_rng(seed).choice(np.append(ids, np.uint64(0)), (6, 6))
    out = CellIndex(ids)(labels)
    back = np.where(out >= 0, ids[np.maximum(out, 0)], np.uint64(0))
    np.testing.assert_array_equal(back, labels)


def test_few_cells_with_large_ids_take_little_memory():
    """QuPath's 24-bit colours: 64 MB a FOV would add up."""
    index = CellIndex(np.array([5, 2**24 - 1], np.uint32))
    assert index._table is None
    np.testing.assert_array_equal(index(np.array([[0, 5, 2**24 - 1]], np.uint32)), [[-1, 0, 1]])
    assert CellIndex(np.arange(1, 300_000))._table is not None


def test_unique_ids_both_paths():
    rng = np.random.default_rng(0)
    for top in (10, 1 << 20, (1 << 20) + 5, 1 << 30):
        labels = rng.integers(0, top, (40, 40), dtype=np.uint32)
        labels[0, 0] = top
        expected = np.unique(labels)
        np.testing.assert_array_equal(unique_ids(labels), expected[expected > 0])


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_sampling_mirrors_with_the_image(factor):
    """Labels stay in register with intensities: no shift by half a pixel at even factors."""
    labels = np.random.default_rng(factor).integers(0, 4, (6 * factor, 8 * factor))
    y, x = Axis(labels.shape[0], factor), Axis(labels.shape[1], factor)
    window = (0, y.size, 0, x.size)
    out = sample_labels(labels, y, x, window)
    np.testing.assert_array_equal(sample_labels(labels[::-1, ::-1], y, x, window), out[::-1, ::-1])
    np.testing.assert_array_equal(sample_labels(labels[:, ::-1], y, x, window), out[:, ::-1])
    np.testing.assert_array_equal(sample_labels(labels.T, x, y, (0, x.size, 0, y.size)), out.T)


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([1, 2, 3, 4, 6, 1.7, 0.6]),
    st.integers(0, 10**6),
)
def test_sampling_does_not_depend_on_the_numbers_of_the_cells(height, width, scale, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, (height, width))
    labels = np.repeat(np.repeat(labels, 2, 0), 3, 1)[:height, :width]
    other = np.concatenate([[0], rng.permutation(900)[:6] + 1])
    y, x = Axis(height, scale), Axis(width, scale)
    window = (0, y.size, 0, x.size)
    part = (slice(*y.span(0, y.size)), slice(*x.span(0, x.size)))
    np.testing.assert_array_equal(
        sample_labels(other[labels][part], y, x, window),
        other[sample_labels(labels[part], y, x, window)],
    )


def test_ties_shift_labels_to_neither_side():
    """Of stripes that part every model pixel in two, one half goes to the left cell and one to the
    right."""
    labels = np.repeat(np.arange(1, 402), 2)[1:801][None].repeat(4, 0)
    y, x = Axis(4, 2), Axis(800, 2)
    out = sample_labels(labels, y, x, (0, 2, 0, 400))
    right = out - np.arange(1, 401)
    assert set(np.unique(right)) == {0, 1}
    assert right.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("decides", range(4))
def test_vote_is_the_mode_and_a_pixel_decides_between_cells(decides):
    four = np.array(list(product(range(4), repeat=4))).T
    expected = []
    for column in four.T.tolist():
        most = max(column.count(v) for v in column)
        winners = {v for v in column if column.count(v) == most}
        if len(winners) == 1 or winners == {0, max(winners)}:
            expected.append(max(winners))
        else:
            expected.append(column[decides] or column[3 - decides])
    later_y, later_x = np.array([decides >= 2]), np.full(four.shape[1], decides % 2 == 1)
    np.testing.assert_array_equal(vote([one[None] for one in four], later_y, later_x)[0], expected)
