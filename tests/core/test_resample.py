"""Resampling: no stretch, no lost strip, and a window is a window of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import downscale_local_mean

from panimbus.core.labels import sample_labels
from panimbus.core.resample import Axis, shrink

SCALES = (0.25, 1 / 3, 0.5, 0.77, 1.0, 1.0 / 0.9, 1.5, 1.9999, 2.0, 1 / 0.377, 3.0, 1 / 0.325, 4.0)
sides = st.integers(1, 60)
scales = st.one_of(st.sampled_from(SCALES), st.floats(0.25, 4))


def whole(image, scale):
    y, x = Axis(image.shape[0], scale), Axis(image.shape[1], scale)
    return shrink(image, y, x, (0, y.size, 0, x.size))


def test_literal_axes():
    axis = Axis(5, 2.0)
    assert (axis.size, axis.factor, axis.span(0, 3), axis.span(1, 2)) == (3, 2, (0, 5), (2, 4))
    assert Axis(5, 2.5).size == 2
    assert Axis(5, 0.5).size == 10
    assert Axis(1, 4.0).size == 1
    assert Axis(7, 1.0).factor == 1
    assert Axis(7, 1.5).factor is None
    assert Axis(7, 0.5).factor is None


def test_literal_area_weights():
    np.testing.assert_allclose(
        Axis(5, 2.0).weights(0, 3).toarray(),
        [[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 1]],
    )
    np.testing.assert_allclose(
        Axis(3, 1.5).weights(0, 2).toarray(), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6
    )


def test_literal_linear_weights():
    np.testing.assert_allclose(
        Axis(2, 0.5).weights(0, 4).toarray(), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    )


def test_literal_shrink():
    image = np.array([[0, 2, 4], [2, 4, 6], [8, 8, 1]], np.uint16)
    np.testing.assert_array_equal(whole(image, 2.0), [[2, 5], [8, 1]])
    np.testing.assert_array_equal(whole(image, 1.0), image)
    assert whole(image, 2.0).dtype == np.float32


@given(sides, scales)
def test_size_covers_the_image(n, scale):
    axis = Axis(n, scale)
    assert axis.size >= 1
    assert axis.size * axis.scale >= n - 1e-4 * axis.scale, "no strip is lost"
    assert (axis.size - 1) * axis.scale < n, "no model pixel lies outside"


@given(sides, scales, st.data())
def test_weights_rows_sum_to_one(n, scale, data):
    axis = Axis(n, scale)
    start = data.draw(st.integers(0, axis.size - 1))
    stop = data.draw(st.integers(start + 1, axis.size))
    lo, hi = axis.span(start, stop)
    assert 0 <= lo < hi <= n
    weights = axis.weights(start, stop).toarray()
    assert weights.shape == (stop - start, hi - lo)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    low, high = axis.centres(start, stop)
    assert low.min() >= lo
    assert high.max() < hi
    assert (np.diff(high) >= 0).all()
    assert set(high - low) <= ({0, 1} if axis.factor is not None and axis.factor % 2 == 0 else {0})


@given(
    sides,
    sides,
    scales,
    st.sampled_from([np.uint8, np.uint16, np.int32, np.uint64, np.float16, np.float32, np.float64]),
)
def test_a_constant_stays_constant(h, w, scale, dtype):
    out = whole(np.full((h, w), 7, dtype), scale)
    np.testing.assert_allclose(out, 7, rtol=1e-6)
    assert out.dtype == np.float32


@given(st.integers(2, 40), st.integers(2, 40), scales, st.data())
def test_a_window_is_a_window_of_the_whole(h, w, scale, data):
    rng = np.random.default_rng(h * 100 + w)
    image, labels = rng.random((h, w)).astype(np.float32), rng.integers(0, 9, (h, w))
    y, x = Axis(h, scale), Axis(w, scale)
    y0 = data.draw(st.integers(0, y.size - 1))
    y1 = data.draw(st.integers(y0 + 1, y.size))
    x0 = data.draw(st.integers(0, x.size - 1))
    x1 = data.draw(st.integers(x0 + 1, x.size))
    part = (slice(*y.span(y0, y1)), slice(*x.span(x0, x1)))
    window = (y0, y1, x0, x1)
    np.testing.assert_allclose(
        shrink(image[part], y, x, window), whole(image, scale)[y0:y1, x0:x1], atol=2e-6
    )
    sampled = sample_labels(labels, y, x, (0, y.size, 0, x.size))
    np.testing.assert_array_equal(sample_labels(labels[part], y, x, window), sampled[y0:y1, x0:x1])


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("shape", [(12, 24), (13, 26), (7, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_whole_factor_is_the_block_mean(factor, shape, dtype):
    image = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    inner = tuple(n // factor * factor for n in shape)
    expected = downscale_local_mean(
        image[: inner[0], : inner[1]].astype(np.float64), (factor, factor)
    )
    np.testing.assert_allclose(
        whole(image, factor)[: expected.shape[0], : expected.shape[1]], expected, rtol=1e-6
    )


@given(sides, sides, st.floats(1, 4))
def test_shrinking_preserves_mass(h, w, scale):
    image = np.random.default_rng(h + 61 * w).random((h, w))
    y, x = Axis(h, scale), Axis(w, scale)
    area_y, area_x = (np.diff(np.minimum(np.arange(a.size + 1) * a.scale, a.n)) for a in (y, x))
    np.testing.assert_allclose(area_y @ whole(image, scale) @ area_x, image.sum(), rtol=2e-5)


@given(st.integers(3, 60), st.integers(3, 60), scales, st.data())
def test_no_stretch(h, w, scale, data):
    """A dot at a known place (µm) is found there, whatever the size of the image and the scale."""
    y, x = Axis(h, scale), Axis(w, scale)
    at = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    image, labels = np.zeros((h, w), np.float32), np.zeros((h, w), np.uint8)
    image[at] = 1
    labels[at] = 1
    out = whole(image, scale)
    peak = np.unravel_index(out.argmax(), out.shape)
    sampled = np.argwhere(sample_labels(labels, y, x, (0, y.size, 0, x.size)))
    for k, axis in enumerate((y, x)):
        assert abs((peak[k] + 0.5) * scale - (at[k] + 0.5)) <= scale / 2 + 0.5 + 1e-4, (
            "half a pixel of either grid"
        )
        if at[k] < axis.n - 1:
            assert (np.abs((sampled[:, k] + 0.5) * scale - (at[k] + 0.5)) <= 0.5 + 1e-4).all(), (
                "the label under the centre"
            )
        if (
            scale >= 1 and at[k] + 0.5 < (axis.size - 1) * scale
        ):  # the last model pixel may lie half outside
            profile = out.sum(1 - k)
            centre = profile @ (np.arange(axis.size) + 0.5) * scale / profile.sum()
            assert abs(centre - (at[k] + 0.5)) <= scale / 2 + 1e-4


@pytest.mark.parametrize("n", [319, 501, 750, 1663])
@pytest.mark.parametrize("mpp", [0.25, 0.377, 0.5, 0.65, 1.0, 1.3, 2.0])
def test_a_ramp_stays_a_ramp(n, mpp):
    """The value of each inner model pixel is the µm position of its centre: no stretch, not even by
    a part of a pixel."""
    axis = Axis(n, 1.0 / mpp)
    ramp = ((np.arange(n) + 0.5) * mpp)[None].repeat(3, 0)
    out = shrink(ramp, Axis(3, 1.0), axis, (0, 3, 0, axis.size))
    error = (out[1] - (np.arange(axis.size) + 0.5))[2:-2]
    assert np.abs(error).max() < 0.15 * mpp, "a ramp of steps, averaged over parts of steps"
    assert abs(error.mean()) < 2e-3, "no shift"
    assert abs(np.polyfit(np.arange(error.size), error, 1)[0]) * n < 0.01, "no stretch"


@pytest.mark.parametrize(
    "mpp", [0.4999999, 0.50000007, 0.9999996, 1.0000003, 0.24999995, 1 / 3 + 3e-8]
)
def test_a_rounded_pixel_size_is_a_whole_factor(mpp):
    """Files store 0.49999999 µm: each window must still have exactly the pixels that it says."""
    axis = Axis(2048, 1.0 / mpp)
    assert axis.factor == round(1.0 / mpp)
    for window in ((0, 400), (8, 392), (100, 101), (axis.size - 3, axis.size)):
        lo, hi = axis.span(*window)
        out = shrink(np.ones((hi - lo, hi - lo), np.uint16), axis, axis, (*window, *window))
        assert out.shape == (window[1] - window[0],) * 2
        np.testing.assert_allclose(out, 1)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_last_pixels_of_an_enlarged_image(n):
    """A window behind the last input pixel's centre needs the last two input pixels."""
    axis = Axis(n, 0.25)
    stop = axis.size
    lo, hi = axis.span(stop - 1, stop)
    out = shrink(np.full((hi - lo, hi - lo), 3.0), axis, axis, (stop - 1, stop, stop - 1, stop))
    np.testing.assert_allclose(out, [[3.0]])
