"""Images as PNG files and addresses."""

import base64

import imagecodecs
import numpy as np
import pytest

from panimbus.render.images import data_uri, encode_png, fit, font


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_holds_the_pixels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = encode_png(image)
    np.testing.assert_array_equal(imagecodecs.png_decode(data), image)
    assert encode_png(image) == data
    for uri in (data_uri(image), data_uri(data)):
        assert base64.b64decode(uri.removeprefix("data:image/png;base64,")) == data


def test_fit():
    assert fit(np.full((50, 100), 9, np.uint8), 20).size == (20, 10)
    out = np.asarray(fit(np.full((10, 5, 3), 9, np.uint8), 20))
    assert out.shape == (20, 10, 3)
    assert (out == 9).all()


def test_font():
    assert font(20).getlength("iiii") < font(20).getlength("WWWW")
    assert font(20).getlength("CD3 µm é γδ") > 0
