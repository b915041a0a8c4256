"""The tile renderer on literal arrays, and pixels of files at any zoom."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import panimbus
from panimbus.core.errors import InputError
from panimbus.viewer.pixels import PlaneCache, Pyramid, block_mean
from panimbus.viewer.style import (
    MODES,
    NEGATIVE_RGB,
    NO_CALL,
    POSITIVE_RGB,
    CellStyle,
    ChannelStyle,
    format_channels,
    parse_cells,
    parse_channels,
)
from panimbus.viewer.tiles import (
    blend,
    call_colours,
    edges,
    over,
    paint_overlay,
    percentile_limits,
    scale_bar,
    viridis,
)

RED, CYAN = (255, 0, 0), (0, 200, 200)


def test_channels_add_up_in_their_colours_and_stop_at_white():
    first = np.array([[0, 50, 100, 200]], np.float32)
    second = np.array([[100, 100, 0, np.nan]], np.float32)
    styles = [ChannelStyle(0, RED, 0, 100), ChannelStyle(1, CYAN, 0, 100)]
    assert blend([first, second], styles)[0].tolist() == [
        [0, 200, 200], [128, 200, 200], [255, 0, 0], [255, 0, 0],
    ]  # fmt: skip
    bright = [ChannelStyle(0, (200, 200, 200), 0, 1), ChannelStyle(1, (200, 0, 0), 0, 1)]
    assert blend([first + 9, first + 9], bright).max() == 255


def test_contrast_and_gamma():
    plane = np.array([[10, 20, 30, 110]], np.float32)
    linear = blend([plane], [ChannelStyle(0, (255, 255, 255), 10, 110)])[0, :, 0]
    bent = blend([plane], [ChannelStyle(0, (255, 255, 255), 10, 110, 0.5)])[0, :, 0]
    assert linear.tolist() == [0, 26, 51, 255]
    assert bent.tolist() == [0, 81, 114, 255]
    flat = blend([plane], [ChannelStyle(0, (255, 255, 255), 20, 20)])[0, :, 0]
    assert flat.tolist() == [0, 0, 255, 255]


ROWS = np.array(
    [
        [-1, -1, -1, -1, -1, -1],
        [-1, 0, 0, 0, 1, -1],
        [-1, 0, 0, 0, 1, -1],
        [-1, 0, 0, 0, 1, -1],
        [-1, -1, -1, -1, -1, -1],
    ],
    np.int32,
)


def test_outlines_are_pixels_that_touch_something_else():
    assert edges(ROWS).astype(int).tolist() == [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]
    beyond = np.pad(np.zeros((3, 3), np.int32), 1)  # the cell goes on beyond the tile
    assert not edges(beyond).any()


def test_cells_are_outlined_filled_or_solid():
    colours = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)[ROWS[1:-1, 1:-1]]
    outlined = paint_overlay(ROWS, colours, fill=0)
    assert outlined[1, 1].tolist() == [1, 2, 3, 0]
    assert outlined[1, 2].tolist() == [1, 2, 3, 255]
    assert outlined[0, 3].tolist() == [4, 5, 6, 255]
    assert paint_overlay(ROWS, colours, fill=0.4)[1, 1, 3] == 102
    assert set(paint_overlay(ROWS, colours, fill=0, solid=True)[..., 3].ravel()) == {153}
    assert not paint_overlay(np.full((5, 6), -1, np.int32), colours + 9, fill=1).any()


def test_colours_of_calls_and_scores():
    scores = np.array([0.2, 0.5, np.nan], np.float32)
    assert call_colours(scores >= 0.5, np.isnan(scores)).tolist() == [
        list(NEGATIVE_RGB), list(POSITIVE_RGB), list(NO_CALL),
    ]  # fmt: skip
    light = viridis(np.linspace(0, 1, 11)).astype(float) @ (0.299, 0.587, 0.114)
    assert (np.diff(light) > 0).all()
    assert viridis(np.array([np.nan])).tolist() == [list(NO_CALL)]


def test_a_picture_over_another():
    under = np.full((1, 3, 3), 100, np.uint8)
    overlay = np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [200, 0, 0, 51]]], np.uint8)
    assert over(under, overlay)[0].tolist() == [[100, 100, 100], [200, 0, 0], [120, 80, 80]]


def test_automatic_contrast_survives_blank_and_missing_pixels():
    low, high = percentile_limits(np.zeros((4, 4)))
    assert low == 0 < high
    assert percentile_limits(np.full((2, 2), np.nan)) == (0.0, 1.0)
    low, high = percentile_limits(np.append(np.arange(1000.0), np.inf))
    assert 5 < low < 15
    assert 990 < high < 1000


@given(st.floats(1e-3, 1e4), st.floats(20, 400))
def test_the_scale_bar_is_round_and_fits(um_per_pixel, most):
    length, pixels = scale_bar(um_per_pixel, most)
    assert pixels <= most * 1.0001
    assert pixels >= most / 2.51
    first = f"{length:.6e}"[0]
    assert first in "125"
    assert length == pytest.approx(pixels * um_per_pixel)


channels = st.builds(
    ChannelStyle, st.integers(0, 8), st.tuples(*[st.integers(0, 255)] * 3), st.sampled_from([0.0, 1.5, -3.0]),
    st.sampled_from([1e-6, 10.0, 65535.0]), st.sampled_from([0.25, 1.0, 4.0]),
)  # fmt: skip
cells = st.builds(
    CellStyle, st.sampled_from(MODES), st.integers(0, 4), st.sampled_from([None, 0.5, 0.123]), st.sampled_from([0.0, 0.35, 1.0])
)  # fmt: skip


@given(st.lists(channels, max_size=12), cells)
def test_styles_come_back_from_addresses(styles, style):
    assert parse_channels(format_channels(styles), 9) == tuple(styles)
    assert parse_cells(str(style), 5) == style


@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text):
    for parse in (parse_channels, parse_cells):
        with contextlib.suppress(InputError):
            parse(text, 3)


@pytest.mark.parametrize(
    "text",
    ["9,ff0000,0,1,1", "-1,ff0000,0,1,1", "0,ff00,0,1,1", "0,gg0000,0,1,1", "0,ff0000,inf,1,1", "0,ff0000,0,1,0", "0,ff0000,0,1", "٣,ff0000,0,1,1"],
)  # fmt: skip
def test_wrong_channels_are_refused(text):
    with pytest.raises(InputError, match="address of a tile"):
        parse_channels(text, 3)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 4]))
def test_block_means_keep_the_sum(height, width, step):
    plane = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    means = block_mean(plane, step)
    assert means.shape == (-(-height // step), -(-width // step))
    expected = [
        plane[y : y + step, x : x + step].mean() for y in range(0, height, step) for x in range(0, width, step)
    ]  # fmt: skip
    assert means.ravel().tolist() == pytest.approx(expected)


@pytest.fixture(params=["tiff", "zarr", "array", "kept"])
def wide(request, tmp_path, monkeypatch):
    """An image in a file with a pyramid, or an array, as a `Pyramid` that keeps no plane; or does."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4000, (2, 1500, 2100)).astype(np.uint16)
    if request.param == "kept":
        return image, Pyramid.of(image, "x", PlaneCache())
    monkeypatch.setattr("panimbus.viewer.pixels.SMALL_PLANE", 0)
    if request.param == "array":
        return image, Pyramid.of(image, "x", PlaneCache())
    path = tmp_path / f"wide.ome.{request.param}"
    write = panimbus.write_ome_tiff if request.param == "tiff" else panimbus.io.write_ome_zarr
    write(path, image, ["a", "b"], 0.5)
    (fov,) = panimbus.open_fovs(path)
    pyramid = Pyramid.of(fov.image, "x", PlaneCache())
    assert [f for f, _ in pyramid.levels] == [1, 2, 4]
    return image, pyramid


@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_any_zoom_is_the_mean_of_its_pixels(wide, step):
    image, pyramid = wide
    box = (256, 256 + 64 * step, 512, 512 + 64 * step)
    got = pyramid.read(1, box, step)
    expected = block_mean(image[1, box[0] : box[1], box[2] : box[3]], step)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1.5  # levels are rounded
    edge = pyramid.read(0, (1496, 1500, 2096, 2100), step)
    assert edge.shape == (-(-4 // step),) * 2


def test_labels_are_sampled_never_averaged(monkeypatch):
    labels = np.kron(np.array([[1, 900], [7, 0]]), np.ones((8, 8), int)).astype(np.uint32)
    for limit in (0, 1 << 20):
        monkeypatch.setattr("panimbus.viewer.pixels.SMALL_PLANE", limit)
        pyramid = Pyramid.of(labels, limit, PlaneCache())
        assert pyramid.read(None, (0, 16, 0, 16), 8).tolist() == [[1, 900], [7, 0]]


def test_the_cache_of_planes_is_bounded():
    reads, cache = [], PlaneCache(250)

    def read(channel):
        reads.append(channel)
        return np.full((10, 10), channel, np.uint8)

    for channel in (0, 1, 0, 2, 0, 1):
        assert cache.get(("k", channel), lambda c=channel: read(c))[0, 0] == channel
    assert reads == [0, 1, 2, 1]
