"""Augmentation: labels stay labels, what comes in from outside has none, statistics follow the
intensities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from panimbus.data.augment import AugmentSettings, augment, crop_coordinates, smooth_field, warp

NONE = AugmentSettings(flips=False, probability=0)
ALL = AugmentSettings(
    probability=1,
    rotate=180,
    elastic=2,
    elastic_scale=16,
    brightness=0.1,
    contrast=0.3,
    noise=0.05,
    blur=1,
    normaliser=0.3,
)


@pytest.fixture
def tile(make_tissue):
    image, labels = make_tissue((48, 48), 30, seed=3, channels=1)
    return (image[0] / 200).astype(np.float32), labels.astype(np.int32) - 1


def run(tile, settings, seed=0, size=32, extra=None):
    image, index = tile
    extra = np.zeros((0, 48, 48), np.float32) if extra is None else extra
    return augment(
        image, extra, index=index, settings=settings, size=size, rng=np.random.default_rng(seed)
    )


def test_nothing_asked_is_a_plain_crop(tile):
    view = run(tile, NONE)
    at = [
        (y, x)
        for y in range(17)
        for x in range(17)
        if np.array_equal(tile[0][y : y + 32, x : x + 32], view.image)
    ]
    (y, x) = at[0]
    np.testing.assert_array_equal(view.index, tile[1][y : y + 32, x : x + 32])
    assert (view.gain, view.offset) == (1, 0)


@given(st.integers(0, 1000))
def test_no_new_label_arises(seed):
    rng = np.random.default_rng(seed)
    index = np.kron(rng.integers(-1, 9, (6, 6)), np.ones((8, 8), int)).astype(np.int32)
    view = run((np.ones((48, 48), np.float32), index), ALL, seed)
    assert set(np.unique(view.index)) <= set(np.unique(index)) | {-1}
    assert view.image.shape == view.index.shape == (32, 32)
    assert np.isfinite(view.image).all()
    assert view.image.min() >= 0


def test_what_rotates_in_has_neither_signal_nor_cell(tile):
    image, index = np.ones((48, 48), np.float32), np.zeros((48, 48), np.int32)
    at = crop_coordinates([0, 0], 48, np.pi / 4)
    planes, labels = warp(image[None], index, at)
    outside = ((at < 0) | (at > 47)).any(0)
    assert 0.1 < outside.mean() < 0.3
    np.testing.assert_array_equal(labels, np.where(outside, -1, 0))
    np.testing.assert_array_equal(planes[0], np.where(outside, 0, 1))


def test_image_and_labels_move_together():
    index = np.kron(np.arange(36).reshape(6, 6), np.ones((8, 8), int)).astype(np.int32)
    for seed in range(10):
        geometry = AugmentSettings(probability=1, rotate=180, elastic=1.5)
        view = run((index.astype(np.float32), index), geometry, seed)
        same = (view.image == view.index) & (view.index >= 0)
        assert same.sum() > 0.5 * (view.index >= 0).sum()  # but where two cells are interpolated


def test_other_planes_take_the_geometry_alone(tile):
    view = run(tile, ALL, extra=tile[0][None])
    plain = run(
        tile,
        ALL.model_copy(
            update={"brightness": 0, "contrast": 0, "noise": 0, "blur": 0, "normaliser": 0}
        ),
    )
    np.testing.assert_array_equal(view.extra[0], plain.image)


@given(st.integers(0, 200))
def test_levels_follow_the_linear_part(seed):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.5, 1, (48, 48)).astype(np.float32)
    linear = AugmentSettings(
        probability=1, brightness=0.2, contrast=0.3, normaliser=0.3, flips=False
    )
    view = run((image, np.zeros((48, 48), np.int32)), linear, seed)
    plain = run(
        (image, np.zeros((48, 48), np.int32)), NONE.model_copy(update={"probability": 1}), seed
    )
    np.testing.assert_allclose(view.image, view.level(plain.image), atol=1e-5)


def test_a_quarter_turn_is_exact():
    index = np.arange(25, dtype=np.int32).reshape(5, 5)
    planes, labels = warp(
        index[None].astype(np.float32), index, np.round(crop_coordinates([0, 0], 5, np.pi / 2), 9)
    )
    np.testing.assert_array_equal(labels, np.rot90(index, -1))
    np.testing.assert_array_equal(planes[0], labels)


def test_displacements_have_the_size_that_was_asked():
    field = np.stack([smooth_field(64, 2.0, 16, np.random.default_rng(k)) for k in range(100)])
    assert 1.2 < field.std() < 2.2
    assert np.abs(np.diff(field, axis=-1)).max() < 1.5


def test_the_seed_decides(tile):
    a, b, c = (run(tile, ALL, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.image, b.image)
    assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize(
    "wrong",
    [{"probability": 1.5}, {"blur": -1}, {"contrast": 1.0}, {"zoom": 2}, {"elastic_scale": 0}],
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValidationError):
        AugmentSettings(**wrong)


def test_a_zoom_changes_the_size_of_cells_and_keeps_their_labels():
    index = np.kron(np.arange(36).reshape(6, 6), np.ones((8, 8), int)).astype(np.int32)
    tile = (index / 36).astype(np.float32), index
    settings = AugmentSettings(flips=False, probability=0, zoom=0.3)
    assert settings.least_side(32) == 45
    zooms = []
    for seed in range(8):
        view = run(tile, settings, seed)
        assert set(np.unique(view.index)) <= set(range(36))
        inside = np.abs(view.image * 36 - view.index) < 1e-4  # not between two cells
        assert inside.mean() > 0.5
        whole = np.bincount(view.index.ravel(), minlength=36).max()
        assert whole == pytest.approx(64 * view.zoom**2, rel=0.35)
        zooms.append(view.zoom)
    assert min(zooms) < 0.95
    assert max(zooms) > 1.05


def test_two_views_differ_in_the_normaliser_alone(tile):
    settings = AugmentSettings(normaliser=0.6, normaliser_limit=0.9, contrast=0.3, brightness=0.1)
    first = run(tile, settings)
    second = first.renormalised(settings, np.random.default_rng(9))
    change = first.normaliser / second.normaliser
    assert abs(change - 1) > 0.01
    np.testing.assert_allclose(second.image, first.image * change, rtol=1e-5)
    np.testing.assert_allclose(second.level(np.ones(1)), first.level(np.ones(1)) * change)
    np.testing.assert_array_equal(second.index, first.index)
