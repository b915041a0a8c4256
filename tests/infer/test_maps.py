"""Score maps of a run that is cut off: taken up where their parts were, never with holes."""

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from panimbus.core.errors import InputError
from panimbus.infer import blocks, maps
from panimbus.infer.passes import Progress
from panimbus.infer.predict import PredictSettings, predict
from panimbus.infer.store import FolderStore
from panimbus.io import open_fovs
from panimbus.io.names import safe_name

TILE = 112


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "READ_SIDE", TILE)


@pytest.fixture
def f(fov):
    """A FOV of several blocks."""
    return fov((220, 180), 60)


class Stop(Exception):  # noqa: N818
    """Cuts a run off."""


def _run(f, model, out, *, maps=None, stop=None, **style):
    """Predict; with ``stop`` cut off when so many tiles were scored. Returns the table and how many
    were."""
    scored = 0

    def watch(progress: Progress):
        nonlocal scored
        scored += progress.stage == "score" and progress.done < progress.total
        if stop is not None and scored > stop:
            raise Stop

    settings = PredictSettings(
        "none", TILE, "float32", "cpu", 1, maps is not None, maps_format=maps or "tiff", **style
    )
    return predict(f, model=model, settings=settings, out=out, progress=watch), scored


def _map(path):
    return open_fovs(path)[0].image[:]


@pytest.mark.parametrize(("first", "then"), [("tiff", "tiff"), ("zarr", "zarr"), ("tiff", "zarr")])
def test_a_run_that_was_cut_off_goes_on(f, model, tmp_path, same_table, first, then):
    whole, count = _run(f, model("compact"), tmp_path / "whole", maps=then)
    with pytest.raises(Stop):
        _run(f, model("compact"), tmp_path / "out", maps=first, stop=count // 2)
    assert list((tmp_path / "out" / "maps").iterdir()) == []
    again, rest = _run(f, model("compact"), tmp_path / "out", maps=then)
    assert 0 < rest < count * 0.8
    same_table(again, whole)
    path = tmp_path / "out" / "maps" / f"f1.ome.{then}"
    expected = _map(tmp_path / "whole" / "maps" / path.name)
    np.testing.assert_array_equal(_map(path), expected)
    assert (expected[:, f.labels > 0] > 0).all()
    assert (expected[:, f.labels == 0] == 0).all()
    assert [p.name for p in (tmp_path / "out" / "maps").iterdir()] == [path.name]
    assert sorted(p.name for p in (tmp_path / "out" / "fovs" / "f1").iterdir()) == ["scores.npz"]


def test_parts_without_maps_do_not_count_for_maps(f, model, tmp_path, same_table):
    whole, count = _run(f, model("compact"), tmp_path / "whole", maps="tiff")
    out = tmp_path / "out"
    with pytest.raises(Stop):
        _run(f, model("compact"), out, maps="tiff", stop=count // 3)
    with pytest.raises(Stop):
        _run(f, model("compact"), out, stop=2 * count // 3)
    again, _ = _run(f, model("compact"), out, maps="tiff")
    same_table(again, whole)
    np.testing.assert_array_equal(
        _map(out / "maps" / "f1.ome.tiff"), _map(tmp_path / "whole" / "maps" / "f1.ome.tiff")
    )


@pytest.mark.parametrize("lost", ["canvas", "nothing"])
def test_cut_off_between_the_map_and_the_scores(f, model, tmp_path, monkeypatch, same_table, lost):
    """All parts are there and so is the map: only the table is missing. If the map is gone, all is
    done again."""
    whole, count = _run(f, model("compact"), tmp_path / "whole", maps="zarr")
    out = tmp_path / "out"

    def stop(*_args, **_kwargs):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "save_scores", stop)
        with pytest.raises(Stop):
            _run(f, model("compact"), out, maps="zarr")
    path = out / "maps" / "f1.ome.zarr"
    assert path.is_dir()
    if lost == "canvas":
        path.rename(tmp_path / "elsewhere")
    again, scored = _run(f, model("compact"), out, maps="zarr")
    assert scored == (count if lost == "canvas" else 0)
    same_table(again, whole)
    np.testing.assert_array_equal(_map(path), _map(tmp_path / "whole" / "maps" / path.name))


def test_one_format_at_a_time(f, model, tmp_path):
    _run(f, model("compact"), tmp_path, maps="tiff")
    old = tifffile.imread(tmp_path / "maps" / "f1.ome.tiff")
    _run(f, model("compact"), tmp_path, maps="zarr")
    assert [p.name for p in (tmp_path / "maps").iterdir()] == ["f1.ome.zarr"]
    group = zarr.open_group(store=str(tmp_path / "maps" / "f1.ome.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][:], old)
    assert [c["label"] for c in group.attrs["ome"]["omero"]["channels"]] == ["a", "b"]
    assert _run(f, model("compact"), tmp_path, maps="zarr")[1] == 0
    _run(f, model("compact", 1), tmp_path)
    assert list((tmp_path / "maps").iterdir()) == []


def test_a_canvas_nobody_needs_is_removed(f, model, tmp_path):
    _, count = _run(f, model("compact"), None)
    with pytest.raises(Stop):
        _run(f, model("compact"), tmp_path, maps="tiff", stop=count // 2)
    assert [p.name for p in (tmp_path / "fovs" / "f1").glob("maps-*")] != []
    _run(f, model("compact"), tmp_path)
    assert sorted(p.name for p in (tmp_path / "fovs" / "f1").iterdir()) == ["scores.npz"]


def test_background_is_kept_if_asked(f, model, tmp_path):
    _run(f, model("compact"), tmp_path / "cells", maps="tiff")
    _run(f, model("compact"), tmp_path / "all", maps="tiff", maps_background=True)
    cells, whole = (_map(tmp_path / name / "maps" / "f1.ome.tiff") for name in ("cells", "all"))
    assert (whole > 0).all()
    np.testing.assert_array_equal(cells, np.where(f.labels > 0, whole, 0))


@pytest.mark.parametrize("mpp", [0.4, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("background", [False, True])
def test_the_images_own_grid(fov, model, tmp_path, monkeypatch, mpp, background):
    """Each pixel has the score of the model pixel in which its centre lies, in strips of chunks
    that are cut anywhere."""
    monkeypatch.setattr(maps, "CHUNK", 50)
    f = fov((231, 190), 40, mpp=mpp)
    _run(f, model("compact"), tmp_path / "model", maps="tiff", maps_background=True)
    _run(
        f,
        model("compact"),
        tmp_path / "own",
        maps="zarr",
        maps_grid="image",
        maps_background=background,
    )
    (coarse,), (fine,) = (
        open_fovs(tmp_path / name / "maps" / f"f1.ome.{end}")
        for name, end in (("model", "tiff"), ("own", "zarr"))
    )
    assert (coarse.mpp, fine.mpp, fine.shape_yx) == (1.0, mpp, (231, 190))
    y, x = (
        np.minimum(((np.arange(n) + 0.5) * mpp + 1e-6).astype(int), m - 1)
        for n, m in zip(fine.shape_yx, coarse.shape_yx, strict=True)
    )
    expected = coarse.image[:][:, y[:, None], x]
    np.testing.assert_array_equal(
        fine.image[:], expected if background else np.where(f.labels > 0, expected, 0)
    )


def test_masks_of_few_tiles_are_kept(fov, model, tmp_path, monkeypatch):
    f = fov((220, 180), 60)
    _run(f, model("compact"), tmp_path / "a", maps="tiff")
    monkeypatch.setattr(maps, "_KEPT", 1)
    _run(f, model("compact"), tmp_path / "b", maps="tiff")
    np.testing.assert_array_equal(
        *(_map(tmp_path / name / "maps" / "f1.ome.tiff") for name in "ab")
    )


def test_maps_of_another_style_are_made_anew(f, model, tmp_path):
    _, count = _run(f, model("compact"), tmp_path, maps="tiff")
    for style in ({"maps_background": True}, {"maps_grid": "image"}, {}):
        assert _run(f, model("compact"), tmp_path, maps="tiff", **style)[1] > 0
        assert _run(f, model("compact"), tmp_path, maps="tiff", **style)[1] == 0
    with pytest.raises(Stop):
        _run(f, model("compact"), tmp_path, maps="tiff", maps_background=True, stop=count // 2)
    _run(f, model("compact"), tmp_path, maps="tiff")
    assert (_map(tmp_path / "maps" / "f1.ome.tiff")[:, f.labels == 0] == 0).all()


def test_names_that_are_alike_have_files_of_their_own(fov, model, tmp_path):
    twins = [
        fov(fov_id=name, seed=k)
        for k, name in enumerate(("a b", "a_b-fbd987", "A_b-fbd987", "a_b"))
    ]
    assert safe_name("a b") == "a_b-fbd987"
    _run(twins, model("compact"), tmp_path, maps="tiff")
    listing = pd.read_csv(tmp_path / "files.csv")
    assert listing["fov"].tolist() == [f.fov_id for f in twins]
    assert listing["map"].str.lower().is_unique
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == sorted(
        p.removeprefix("maps/") for p in listing["map"]
    )
    for twin, path in zip(twins, listing["map"], strict=True):
        alone = tmp_path / twin.fov_id.replace(" ", "+")
        _run(
            twin, model("compact"), alone, maps="tiff"
        )  # not the same normaliser: where it is 0 must agree
        (one,) = (alone / "maps").iterdir()
        np.testing.assert_array_equal(_map(tmp_path / path) > 0, _map(one) > 0)


def test_what_a_map_says_of_itself(f, model, tmp_path):
    _run(f, model("compact"), tmp_path, maps="tiff")
    with tifffile.TiffFile(tmp_path / "maps" / "f1.ome.tiff") as tif:
        page = tif.pages[0]
        assert page.predictor == 1  # Bio-Formats knows no other for floats
        assert (page.tags[340].value, page.tags[341].value) == (0, 1)
        assert 'PhysicalSizeX="1.0"' in tif.ome_metadata
        assert "at 1 µm/px; 0 outside cells" in tif.ome_metadata
    _run(f, model("compact"), tmp_path, maps="zarr")
    ome = zarr.open_group(store=str(tmp_path / "maps" / "f1.ome.zarr"), mode="r").attrs["ome"]
    assert [(c["window"]["start"], c["window"]["end"]) for c in ome["omero"]["channels"]] == [
        (0, 1)
    ] * 2
    assert "0 outside cells" in ome["multiscales"][0]["metadata"]["description"]


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ({"maps": True, "maps_format": "png"}, "Unknown format of score maps 'png'"),
        ({"maps": True, "maps_grid": "mine"}, "Unknown grid of score maps 'mine'"),
        ({"maps_grid": "image"}, "no score maps are asked for"),
        ({"maps_background": True}, "no score maps are asked for"),
    ],
)
def test_unknown_styles(style, message):
    with pytest.raises(InputError, match=message):
        PredictSettings(**style)
