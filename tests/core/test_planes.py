"""The planes a net sees, with literal arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.core.labels import interior
from panimbus.core.planes import (
    PLANES,
    channel_planes,
    check_planes,
    label_planes,
    rank_by_quantiles,
)
from panimbus.core.scale import stat_vector

STATS = {f"q{q:02d}": q / 100 for q in range(1, 100)}  # Otsu's threshold is 0.495
INDEX = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, -1]], np.int32)


def test_literal_planes():
    image = np.array([[0, 0.25, 4, -1], [0.04, 1, 0, 0], [0, 0, 0, 0.49]], np.float32)
    out = channel_planes(
        label_planes(PLANES, INDEX),
        PLANES,
        image,
        index=INDEX,
        cell_mean=np.array([0.36, 9.0], np.float32),
        stats=STATS,
    )
    assert out.dtype == np.float32
    np.testing.assert_array_equal(
        out[0], [[0, 0.25, 1, 0], [np.float32(0.04), 1, 0, 0], [0, 0, 0, np.float32(0.49)]]
    )
    np.testing.assert_allclose(out[1], [[0, 0.5, 1, 0], [0.2, 1, 0, 0], [0, 0, 0, 0.7]])
    np.testing.assert_array_equal(out[2], interior(np.where(INDEX < 0, 0, INDEX + 1)))
    np.testing.assert_array_equal(out[2], [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(out[3], [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_allclose(out[4], [[0.6, 0.6, 0.6, 1], [0.6, 0.6, 0.6, 1], [0.6, 0.6, 0.6, 0]])
    np.testing.assert_allclose(
        out[5][[0, 0, 1, 2], [1, 2, 3, 3]], [0.25 / 0.745, 4 / 4.495, 0, 0.49 / 0.985], atol=1e-6
    )
    low, high = 0.36 / 0.855, 9 / 9.495
    np.testing.assert_allclose(
        out[6], [[low, low, low, high], [low, low, low, high], [low, low, low, 0]], atol=1e-6
    )
    low, high = 0.36, 1 - 0.01 * 0.99 / 9
    np.testing.assert_allclose(
        out[7], [[low, low, low, high], [low, low, low, high], [low, low, low, 0]], atol=1e-6
    )


def test_ranks_where_percentiles_are_equal():
    ranks = rank_by_quantiles(
        np.array([0, 1, 2, 4], np.float32), np.r_[np.zeros(60), np.full(39, 2.0)]
    )
    np.testing.assert_allclose(ranks, [0, 0.305, 0.61, 0.995])
    np.testing.assert_allclose(
        rank_by_quantiles(np.array([0, 1], np.float32), np.zeros(99)), [0, 1]
    )


@given(st.floats(0.1, 10), st.integers(0, 99))
def test_some_planes_and_statistics_do_not_hang_on_the_normaliser(factor, seed):
    rng = np.random.default_rng(seed)
    means = rng.gamma(0.5, 0.2, 400).astype(np.float32)
    known = dict(zip(STATS, np.percentile(means, np.arange(1, 100)).tolist(), strict=True)) | {
        "outside": 0.02
    }
    image, names = (
        rng.gamma(0.5, 0.2, INDEX.shape).astype(np.float32),
        ("relative", "cell_relative", "cell_rank"),
    )
    told = ("otsu/otsu", "q50/otsu", "q99/otsu", "outside/otsu")

    def seen(norm):
        of = {k: v / norm for k, v in known.items()}
        empty = label_planes(names, INDEX)
        norm = np.float32(norm)
        planes = channel_planes(
            empty, names, image / norm, index=INDEX, cell_mean=means[:2] / norm, stats=of
        )
        return planes, stat_vector(of, told)

    for one, other in zip(seen(1), seen(factor), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert seen(1)[1][0] == 0.5


def test_order_is_that_of_the_names():
    image = np.full(INDEX.shape, 0.25, np.float32)
    out = channel_planes(
        label_planes(("cell", "image"), INDEX),
        ("cell", "image"),
        image,
        index=INDEX,
        cell_mean=np.zeros(2, np.float32),
        stats=STATS,
    )
    np.testing.assert_array_equal(out[0], INDEX >= 0)
    np.testing.assert_array_equal(out[1], 0.25)


def test_a_channel_leaves_nothing_for_the_next():
    fixed = label_planes(PLANES, INDEX)
    dark = channel_planes(
        fixed.copy(),
        PLANES,
        np.zeros(INDEX.shape, np.float32),
        index=INDEX,
        cell_mean=np.zeros(2, np.float32),
        stats=STATS,
    )
    channel_planes(
        fixed,
        PLANES,
        np.ones(INDEX.shape, np.float32),
        index=INDEX,
        cell_mean=np.ones(2, np.float32),
        stats=STATS,
    )
    again = channel_planes(
        fixed,
        PLANES,
        np.zeros(INDEX.shape, np.float32),
        index=INDEX,
        cell_mean=np.zeros(2, np.float32),
        stats=STATS,
    )
    np.testing.assert_array_equal(again, dark)


def test_no_cells():
    index = np.full((3, 3), -1, np.int32)
    nobody = np.zeros(0, np.float32)
    out = channel_planes(
        label_planes(PLANES, index),
        PLANES,
        np.ones((3, 3), np.float32),
        index=index,
        cell_mean=nobody,
        stats={},
    )
    np.testing.assert_array_equal(np.delete(out, (0, 1, PLANES.index("relative")), 0), 0)


def test_the_image_is_not_changed():
    image = np.full(INDEX.shape, 3, np.float32)
    channel_planes(
        label_planes(("image",), INDEX),
        ("image",),
        image,
        index=INDEX,
        cell_mean=np.zeros(2, np.float32),
        stats=STATS,
    )
    np.testing.assert_array_equal(image, 3)


def test_unknown_plane():
    with pytest.raises(InputError, match="x, nuclear, y"):
        check_planes(("image", "x", "nuclear", "y"))
    with pytest.raises(InputError, match="available: image, sqrt"):
        label_planes(("x",), INDEX)
