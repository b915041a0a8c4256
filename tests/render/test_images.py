"""Images as PNG files and addresses."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from panimbus.render.images import data_uri, encode_png, enlarge, fit


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_holds_the_pixels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = encode_png(image)
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(
            np.asarray(picture.convert("L" if image.ndim == 2 else "RGB")), image
        )
    assert encode_png(image) == data
    assert base64.b64decode(data_uri(data).removeprefix("data:image/png;base64,")) == data


def test_fit():
    assert fit(np.full((50, 100), 9, np.uint8), 20).size == (20, 10)
    out = np.asarray(fit(np.full((10, 5, 3), 9, np.uint8), 20))
    assert out.shape == (20, 10, 3)
    assert (out == 9).all()


def test_few_colours_are_a_palette():
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    image = colours[np.random.default_rng(2).integers(0, 256, (60, 70))]
    data = encode_png(image, palette=True)
    assert data[25] == 3  # the PNG's colour type: a palette
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), image)
    assert len(data) < image.nbytes / 2


def test_enlarge():
    assert enlarge(np.array([[1, 2], [3, 4]]), 2).tolist() == [
        [1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]
    ]  # fmt: skip
