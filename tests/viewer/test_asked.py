"""Pictures of a cell that is asked."""

import numpy as np
import pytest
from scipy import ndimage

from panimbus.viewer.asked import OUTLINE, AskedPictures
from panimbus.viewer.pictures import Pictures
from panimbus.viewer.result import Result


@pytest.fixture(scope="module")
def result(made_result):
    return Result(made_result)


@pytest.fixture
def asked(result):
    return AskedPictures(Pictures(result), "CD20")


def cells(result):
    """A few cells: in the middle, and the one nearest to a corner of the image."""
    fov = result.fovs[0]
    labels = np.asarray(result.fov(fov).labels[:, :])
    middle = labels[tuple(n // 2 for n in labels.shape)] or labels[labels > 0][0]
    y, x = np.nonzero(labels)
    return fov, labels, [int(middle), int(labels[y, x][(y + x).argmin()])]


def outlined(picture):
    return (picture == OUTLINE).all(-1)


def test_the_outline_lies_around_the_cell_and_not_on_it(result, asked):
    fov, labels, ids = cells(result)
    for cell in ids:
        plain = asked.close_up(fov, cell, pixels=240, outline=False)
        drawn = asked.close_up(fov, cell, pixels=240, outline=True, others=False)
        assert plain.shape == drawn.shape
        assert not outlined(plain).any()
        ring = outlined(drawn)
        assert ring.any()
        assert np.array_equal(plain[~ring], drawn[~ring])
        mpp = result.fov(fov).mpp
        times = plain.shape[0] / round(30 / mpp)
        inside = ndimage.binary_fill_holes(ring) & ~ring
        assert inside.sum() == pytest.approx((labels == cell).sum() * times**2, rel=0.15)


def test_beyond_the_image_it_is_black(result, asked):
    fov, _, (_, corner) = cells(result)
    picture = asked.context(fov, corner, pixels=240)
    assert picture.shape[0] == picture.shape[1]
    assert not picture[0].any()
    assert picture.any()


def test_gain_brightens(result, asked):
    fov, _, (cell, _) = cells(result)
    dark, bright = (
        asked.close_up(fov, cell, pixels=60, outline=False, gain=g).mean() for g in (0.5, 4)
    )
    assert bright > 2 * dark


def test_nothing_of_the_model_is_shown(result, asked):
    """The same pixels whatever the scores are."""
    fov, _, (cell, _) = cells(result)
    before = [
        asked.close_up(fov, cell, pixels=120, outline=True), asked.context(fov, cell, pixels=120)
    ]  # fmt: skip
    other = Result(result.folder)
    other.tables.cells.X[:] = 1 - other.tables.cells.X
    changed = AskedPictures(Pictures(other), "CD20")
    after = [
        changed.close_up(fov, cell, pixels=120, outline=True),
        changed.context(fov, cell, pixels=120),
    ]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
