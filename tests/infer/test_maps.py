"""Score maps of a run that is cut off: taken up where their parts were, never with holes."""

import numpy as np
import pytest
import tifffile
import zarr

from panimbus.core.errors import InputError
from panimbus.infer import blocks
from panimbus.infer.predict import PredictSettings, predict
from panimbus.infer.stages import Progress
from panimbus.infer.store import FolderStore
from panimbus.io import open_fovs

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


def _run(f, model, out, *, maps=None, stop=None):
    """Predict; with ``stop`` cut off when so many tiles were scored. Returns the table and how many were."""
    scored = 0

    def watch(progress: Progress):
        nonlocal scored
        scored += progress.stage == "score" and progress.done < progress.total
        if stop is not None and scored > stop:
            raise Stop

    settings = PredictSettings("none", TILE, "float32", "cpu", 1, maps is not None, maps_format=maps or "tiff")
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
    assert (expected > 0).all()
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
    np.testing.assert_array_equal(_map(out / "maps" / "f1.ome.tiff"), _map(tmp_path / "whole" / "maps" / "f1.ome.tiff"))


@pytest.mark.parametrize("lost", ["canvas", "nothing"])
def test_cut_off_between_the_map_and_the_scores(f, model, tmp_path, monkeypatch, same_table, lost):
    """All parts are there and so is the map: only the table is missing. If the map is gone, all is done again."""
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


def test_unknown_format():
    with pytest.raises(InputError, match="Unknown format of score maps 'png'"):
        PredictSettings(maps=True, maps_format="png")
