"""Layouts: valid cells, deterministic, and segmentations that err the way they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.simulate.layout import (
    OBSERVATIONS,
    REGIONS,
    _shift,
    make_layout,
    observe,
    smooth_noise,
)

UNIFORM = np.full((len(REGIONS), 3), 1 / 3)


def layout(seed=0, kinds=("mixed",), shape=(200, 180), mpp=0.5):
    return make_layout(shape, mpp, np.random.default_rng(seed), composition=UNIFORM, kinds=kinds)


def test_layout_is_consistent():
    a = layout()
    assert a.n > 20
    assert set(np.unique(a.cells)) == set(range(a.n + 1))
    assert a.types[0] == -1
    assert set(a.types[1:]) <= {0, 1, 2}
    assert not a.nuclei[a.cells == 0].any()
    assert (a.depth[a.cells == 0] == 0).all()
    assert (a.depth[a.cells > 0] > 0).all()
    assert a.core.max() <= 1.0


SIZES = [("follicle", 4, 11), ("epithelium", 6, 16), ("stroma", 4, 16), ("mixed", 4, 14)]


@pytest.mark.parametrize(("kind", "low", "high"), SIZES)
def test_cells_have_the_size_of_cells(kind, low, high):
    a = layout(kinds=(kind,), shape=(400, 400))
    area = np.bincount(a.cells.ravel())[1:] * a.mpp**2
    assert low < np.sqrt(4 * np.median(area) / np.pi) < high


def test_same_seed_same_layout():
    np.testing.assert_array_equal(layout(3).cells, layout(3).cells)
    assert not np.array_equal(layout(3).cells, layout(4).cells)


def test_empty_region_has_no_cells():
    a = layout(kinds=("empty",))
    assert a.n == 0
    assert observe(a, np.random.default_rng(0)).max() == 0


@pytest.mark.parametrize("mode", OBSERVATIONS)
def test_observed_ids_are_compact(mode):
    seen = observe(layout(), np.random.default_rng(0), mode)
    assert seen.dtype == np.uint32
    assert set(np.unique(seen)) | {0} == set(range(int(seen.max()) + 1))


def test_observation_modes_do_what_they_say():
    a, rng = layout(), np.random.default_rng(0)
    true = (a.cells > 0).sum()
    np.testing.assert_array_equal(observe(a, rng, "exact", 0), a.cells)
    assert (observe(a, rng, "grown", 0) > 0).sum() > true
    assert (observe(a, rng, "eroded", 0) > 0).sum() < true
    assert (observe(a, rng, "full", 0) > 0).mean() > 0.9
    np.testing.assert_array_equal(observe(a, rng, "nuclear", 0) > 0, a.nuclei)


def test_unknown_observation_lists_the_known():
    with pytest.raises(ValueError, match="nuclear_grown"):
        observe(layout(), np.random.default_rng(0), "perfect")


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(1, 60), st.tuples(st.integers(16, 70), st.integers(16, 70))
)
def test_smooth_noise_has_its_shape_and_scale(seed, scale, shape):
    noise = smooth_noise(shape, scale, np.random.default_rng(seed))
    assert noise.shape == shape
    assert np.isfinite(noise).all()
    assert abs(noise.mean()) < 1e-3


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(OBSERVATIONS), st.floats(0, 5))
def test_any_observation_fits_the_image(seed, mode, errors):
    a = layout(seed % 3, shape=(90, 110))
    seen = observe(a, np.random.default_rng(seed), mode, errors)
    assert seen.shape == (90, 110)


def test_a_shifted_segmentation_does_not_come_in_at_the_other_side():
    labels = np.arange(1, 13, dtype=np.uint32).reshape(3, 4)
    assert _shift(labels, 1, -2).tolist() == [[0, 0, 0, 0], [3, 4, 0, 0], [7, 8, 0, 0]]
    assert _shift(labels, -1, 1).tolist() == [[0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]]
    assert _shift(labels, 0, 0).tolist() == labels.tolist()
