"""Tile and stitch: the result does not depend on the tile size, the reading blocks, the bands or
the threads."""

import numpy as np
import pytest

from panimbus.core import scan
from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.infer import blocks

WHOLE = 8192


@pytest.mark.parametrize("kind", ["compact", "same", "valid"])
@pytest.mark.parametrize("n", [319, 501, 750, 1663])
def test_tiled_equals_whole(kind, n, model, fov, run):
    f = fov((n, 61), n // 8, channels=1)
    flat = Fov("f1", f.image.transpose(0, 2, 1), f.channels, np.ascontiguousarray(f.labels.T), 1.0)
    small = 112 if kind == "compact" else 304
    whole = run(f, model(kind), tile=WHOLE)
    assert whole.X.std() > 0.01
    np.testing.assert_allclose(run(f, model(kind), tile=small).X, whole.X, atol=1e-5)
    np.testing.assert_allclose(run(f, model(kind), tile=2 * small + 5).X, whole.X, atol=1e-5)
    np.testing.assert_allclose(
        run(flat, model(kind), tile=small).X, run(flat, model(kind), tile=WHOLE).X, atol=1e-5
    )


@pytest.mark.parametrize("mpp", [0.377, 0.4999999, 1.0000003, 1.7])
def test_tiled_equals_whole_when_resampled(mpp, model, fov, run):
    f = fov((int(319 / mpp), int(201 / mpp) + 1), 300, mpp=mpp, channels=1, radius=int(8 / mpp))
    whole = run(f, model("compact"), tile=WHOLE, tta="full")
    tiled = run(f, model("compact"), tile=112, tta="full")
    np.testing.assert_allclose(tiled.X, whole.X, atol=1e-5)
    np.testing.assert_allclose(tiled.layers["score_sd"], whole.layers["score_sd"], atol=1e-5)


def test_published_net_with_its_own_tiles(model, fov, run):
    f = fov((601, 640), 400, channels=1)
    whole = run(f, model("valid"), tile=WHOLE)
    np.testing.assert_allclose(run(f, model("valid"), tile=560).X, whole.X, atol=1e-5)


def test_reading_blocks_and_bands_do_not_matter(model, fov, run, monkeypatch, tmp_path):
    """Small bands in the first pass and small blocks in the second: also where cells are rescued
    and the grid is resampled."""
    f = fov((331, 270), 900, mpp=0.3, radius=4, ids=np.arange(900) + 70_000)
    whole = run(f, model("compact"), tile=112, tta="full")
    monkeypatch.setattr(scan, "BAND_PIXELS", 270 * 7 + 3)
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    assert len(scan.bands(f.shape_yx)) > 40
    parts = run(f, model("compact"), tile=112, tta="full")
    np.testing.assert_array_equal(parts.obs["cell_id"], whole.obs["cell_id"])
    np.testing.assert_array_equal(parts.var["normaliser"], whole.var["normaliser"])
    np.testing.assert_allclose(parts.obsm["spatial"], whole.obsm["spatial"], rtol=1e-12)
    np.testing.assert_allclose(
        parts.layers["intensity_mean"], whole.layers["intensity_mean"], rtol=1e-6
    )
    np.testing.assert_allclose(parts.X, whole.X, atol=2e-6)


@pytest.mark.parametrize("kind", ["compact", "same"])
def test_threads_do_not_matter(kind, model, fov, run):
    f = (
        fov((160, 90), 80, channels=3) if kind == "compact" else fov((60, 64), 20, channels=3)
    )  # square: compiled once
    tile = 112 if kind == "compact" else 304
    one = run(f, model(kind), tta="full", tile=tile, threads=1)
    two = run(f, model(kind), tta="full", tile=tile, threads=2)
    np.testing.assert_allclose(two.X, one.X, atol=1e-6)
    np.testing.assert_allclose(two.layers["score_sd"], one.layers["score_sd"], atol=1e-6)
    again = run(f, model(kind), tta="full", tile=tile, threads=2)
    np.testing.assert_array_equal(again.X, two.X)


@pytest.mark.parametrize("mpp", [1.0, 0.5])
def test_flipped_image_same_scores(model, fov, run, mpp):
    """With all views, and sides on the stride, turning the image changes nothing; nor does
    shrinking shift labels and image."""
    f = fov((round(64 / mpp), round(96 / mpp)), 30, mpp=mpp, radius=9)
    plain = run(f, model("compact"), tta="full")
    for turn in (
        lambda a: a[..., ::-1, :],
        lambda a: a[..., ::-1],
        lambda a: np.rot90(a, 1, (-2, -1)),
    ):
        turned = Fov(
            "f1",
            np.ascontiguousarray(turn(f.image)),
            f.channels,
            np.ascontiguousarray(turn(f.labels)),
            mpp,
        )
        np.testing.assert_allclose(run(turned, model("compact"), tta="full").X, plain.X, atol=1e-5)
    one = run(f, model("compact"))
    turned = Fov("f1", f.image[..., ::-1].copy(), f.channels, f.labels[..., ::-1].copy(), mpp)
    assert np.abs(run(turned, model("compact")).X - one.X).max() > 1e-4, (
        "one view alone is not symmetric"
    )


def test_deviation_over_views(model, fov, run):
    assert not run(fov(), model("compact")).layers["score_sd"].any()
    assert (run(fov(), model("compact"), tta="full").layers["score_sd"] > 0).all()


def test_a_tile_too_small_for_the_net(model, fov, run):
    with pytest.raises(InputError, match="tile is smaller"):
        run(fov((40, 40), 9), model("same"), tile=16)
