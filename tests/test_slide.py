"""The synthetic slide of the benchmarks: a function of seed and position, with cells that go on
across blocks."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

from panimbus.io import open_fovs

SOURCE = Path(__file__).resolve().parents[1] / "benchmarks" / "slide" / "make.py"


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("slide_make", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_and_cells(make, tmp_path):
    slide = make.Slide(2300)
    image, labels = make.make(tmp_path, slide, 3)
    (fov,) = open_fovs(image, labels)
    assert (fov.channels, fov.mpp, fov.image.dtype, fov.image.shape) == (
        ("nuc0", "mem1", "cyt2"), 0.5, np.uint16, (3, 2300, 2300)
    )  # fmt: skip
    ids = fov.labels[:, :]
    cells = len(np.unique(ids)) - 1
    assert label(ids, connectivity=2).max() == cells, (
        "a cell is one piece, on both sides of a block's border"
    )
    assert 0.75 < (ids > 0).mean() < 0.85
    assert 17 < np.sqrt((ids > 0).sum() / cells) < 23, "about 10 µm across"
    np.testing.assert_array_equal(fov.labels[1024:2048, 0:1024], make.Slide(2300).labels(1, 0))
    np.testing.assert_array_equal(
        fov.image[1, 2048:2300, 1024:2048], make.Slide(2300).image(1, 2, 1)
    )
    assert (make.Slide(2300, seed=1).labels(0, 0) != slide.labels(0, 0)).any()


def test_stains(make):
    slide = make.Slide(1024)
    ids = slide.labels(0, 0)
    for channel in range(3):
        plane = slide.image(channel, 0, 0).astype(float)
        assert plane[ids == 0].mean() < 6
        means = np.bincount(ids.ravel(), plane.ravel())[1:] / np.maximum(
            np.bincount(ids.ravel())[1:], 1
        )
        means = means[means > 0]
        assert np.quantile(means, 0.98) > 4 * np.median(means), (
            "some cells are positive, most are not"
        )


def test_about_so_many_cells(make):
    side = make.side_of(3000)
    slide = make.Slide(side)
    ids = np.concatenate(
        [np.unique(slide.labels(y, x)) for y in range(slide.blocks) for x in range(slide.blocks)]
    )
    assert len(np.unique(ids)) == pytest.approx(3000, rel=0.15)
