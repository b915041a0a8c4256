"""Layouts: valid cells, deterministic, and segmentations that err the way they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.simulate.layout import (
    MIXED,
    REGIONS,
    TUMOUR,
    Structures,
    make_layout,
    smooth_noise,
)
from panimbus.simulate.segmentation import OBSERVATIONS, _shift, draw_observation, observe
from panimbus.simulate.vessels import add_vessels

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


def test_tumour_is_large_cells_and_small_ones_that_infiltrate():
    only = np.zeros((len(REGIONS), 2))
    only[:, 0] = 1
    only[MIXED] = 0, 1
    a = make_layout(
        (500, 500), 0.5, np.random.default_rng(4), composition=only, kinds=("tumour",), clustering=0
    )
    diameter = np.sqrt(4 / np.pi * np.bincount(a.cells.ravel())[1:]) * a.mpp
    large, small = a.types[1:] == 0, a.types[1:] == 1
    assert large.sum() > 50
    assert small.sum() > 20
    assert np.median(diameter[large]) > 1.5 * np.median(diameter[small])
    assert 5 < np.median(diameter[small]) < 10
    assert set(np.unique(a.regions)) == {MIXED, TUMOUR}


def test_layouts_without_tumour_or_vessels_are_what_they_were():
    a = layout(0)
    assert a.cells.max() == a.n
    assert TUMOUR not in a.regions


def test_walls_of_vessels_are_thin_new_cells_of_the_last_type():
    a = make_layout(
        (400, 400),
        0.5,
        np.random.default_rng(1),
        composition=np.tile([0.5, 0.5, 0.0], (len(REGIONS), 1)),
        kinds=("mixed",),
        structures=Structures(vessels=300),
    )
    wall = a.types[a.cells] == 2
    assert 5 < len(set(a.cells[wall])) < 100
    assert a.depth[wall].max() < 3.5  # µm from the border: half the thickness
    assert np.median(a.depth[wall]) < np.median(a.depth[(a.cells > 0) & ~wall])
    empty = np.zeros((60, 60), np.uint32)
    assert not add_vessels(empty, 0.5, 0.0, np.random.default_rng(0)).any()


def test_merged_and_giant_labels_cover_several_cells():
    a = layout(shape=(300, 300))
    rng = np.random.default_rng(2)
    merged, giant = (observe(a, rng, mode, 0) for mode in ("merged", "giant"))
    for seen in (merged, giant):
        np.testing.assert_array_equal(seen > 0, a.cells > 0)
    assert merged.max() < 0.95 * a.n
    pairs = np.unique(np.stack([giant.ravel(), a.cells.ravel()]), axis=1)
    assert np.bincount(pairs[0][pairs[0] > 0]).max() >= 4
    wide = observe(a, rng, "nuclear_wide", 0)
    assert (wide > 0).sum() > a.nuclei.sum()
    assert {draw_observation(rng) for _ in range(300)} == set(OBSERVATIONS)


@pytest.mark.parametrize("tumour_um", [12, 24])
def test_tumour_cells_have_the_size_that_is_asked_for(tumour_um):
    only = np.zeros((len(REGIONS), 2))
    only[:, 0] = 1
    only[MIXED] = 0, 1
    a = make_layout(
        (400, 400),
        0.5,
        np.random.default_rng(4),
        composition=only,
        kinds=("tumour",),
        clustering=0,
        structures=Structures(tumour_um=tumour_um),
    )
    diameter = np.sqrt(4 / np.pi * np.bincount(a.cells.ravel())[1:]) * a.mpp
    assert np.median(diameter[a.types[1:] == 0]) == pytest.approx(tumour_um, rel=0.15)
