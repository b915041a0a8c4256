"""The store: what is written is what prediction would see, at random, and whole or not at all."""

import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
import zarr

from panimbus.core.errors import InputError, ReadError
from panimbus.core.resample import Axis, shrink
from panimbus.data import build
from panimbus.data.build import StoreSettings, origins, write_store
from panimbus.data.store import Store

SMALL = StoreSettings(tile=48, overlap=8)


@pytest.fixture(scope="module")
def source(make_source):
    return make_source()


@pytest.fixture(scope="module")
def store(source, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "s", [source], SMALL)


def test_examples_are_cut_from_the_image(store, source):
    """Pixels, cells, means and targets of every example equal those of the FOV itself."""
    fovs = {f.fov.fov_id: f for f in source.scanned.fovs}
    for row, facts in enumerate(store.examples.itertuples()):
        example, scanned = store.read(row), fovs[facts.fov]
        fov, k = scanned.fov, source.markers.index(facts.marker)
        window = np.s_[facts.y0 : facts.y0 + 48, facts.x0 : facts.x0 + 48]
        labels = fov.labels[window]
        ids = np.concatenate([[0], example.cell_id])[example.index + 1]
        np.testing.assert_array_equal(ids[: labels.shape[0], : labels.shape[1]], labels)
        value = source.scanned.scale.value(facts.marker)
        image = np.minimum(fov.image[(k, *window)] / value, 8)
        np.testing.assert_allclose(
            example.image[: image.shape[0], : image.shape[1]], image, rtol=1e-3, atol=1e-6
        )
        at = np.searchsorted(scanned.cell_id, example.cell_id)
        np.testing.assert_allclose(example.mean, scanned.mean[at, k] / value, rtol=1e-6)
        np.testing.assert_array_equal(example.target, source.targets[facts.fov][at, k])
        area = np.bincount(fov.labels.ravel())[example.cell_id]
        np.testing.assert_allclose(
            example.share, np.bincount(example.index[example.index >= 0]) / area, rtol=1e-6
        )
        assert facts.known == (example.target >= 0).sum()
        assert facts.positive == (example.target > 0.5).sum()
        assert example.stats["q50"] == pytest.approx(
            source.scanned.scale.stats[facts.marker]["q50"] / value
        )
        assert example.image.dtype == example.target.dtype == example.mean.dtype == np.float32
        assert example.index.dtype == np.int32


def test_tiles_cover_every_cell(store, source):
    for scanned in source.scanned.fovs:
        rows = np.flatnonzero(
            (store.examples.fov == scanned.fov.fov_id) & (store.examples.marker == "a")
        )
        seen = np.unique(np.concatenate([store.read(r).cell_id for r in rows]))
        np.testing.assert_array_equal(seen, scanned.cell_id)


def test_resampled_as_prediction_does(make_source, tmp_path):
    source = make_source(mpp=0.5, shape=(101, 97), fovs=1)
    store = write_store(tmp_path / "s", [source], StoreSettings(tile=64))
    fov = source.scanned.fovs[0].fov
    y, x = Axis(101, 2.0), Axis(97, 2.0)
    expected = shrink(fov.image[0], y, x, (0, y.size, 0, x.size)) / source.scanned.scale.value("a")
    np.testing.assert_allclose(store.read(0).image[: y.size, : x.size], expected, rtol=1e-3)
    assert not store.read(0).image[y.size :].any()
    assert (store.read(0).index[y.size :] == -1).all()


def test_any_zarr_reader_opens_it(store):
    folder = store.path / store.examples.folder[0]
    image = zarr.open_array(store=str(folder / "image"), mode="r")
    assert image.shards == (1, 2, 48, 48)
    for row in np.flatnonzero(store.examples.folder == store.examples.folder[0]):
        facts = store.examples.loc[row]
        np.testing.assert_array_equal(
            store.read(row).image, image[facts.tile, facts.plane].astype(np.float32)
        )
    with pytest.raises(IndexError):
        store._folder(store.examples.folder[0]).image[99, 0]


def test_splits_and_leaving_one_out(make_source, tmp_path):
    both = [
        make_source(name="one", fovs=3),
        make_source(name="two", fovs=3, channels=("b", "c", "d")),
    ]
    store = write_store(tmp_path / "s", both, SMALL)
    by = {s: set(store.examples.loc[store.rows(s), "fov"]) for s in ("train", "val", "test")}
    assert by == {"train": {"one0", "two0"}, "val": {"one1", "two1"}, "test": {"one2", "two2"}}
    assert set(store.examples.loc[store.rows("train", leave_out="two"), "fov"]) == {"one0"}
    assert set(store.examples.loc[store.rows("test", leave_out="two"), "fov"]) == {
        "two0",
        "two1",
        "two2",
    }
    shares = {d.name: d.share for d in store.info.datasets}
    assert shares["two"] == pytest.approx(1.5 * shares["one"], rel=0.1)
    assert sum(shares.values()) == pytest.approx(1)
    with pytest.raises(InputError, match="no such dataset"):
        store.rows("test", leave_out="three")
    with pytest.raises(InputError, match="no such name"):
        store.rows("training")


def test_set_proportions(make_source, tmp_path):
    both = [make_source(name="one", fovs=1, share=3.0), make_source(name="two", fovs=1, share=1.0)]
    assert [d.share for d in write_store(tmp_path / "s", both, SMALL).info.datasets] == [0.75, 0.25]


def test_stores_from_before_the_planes_of_other_channels_went(source, tmp_path):
    """A store without such planes is read as it was; one that holds some is refused."""
    path = write_store(tmp_path / "s", [source], SMALL).path / "store.json"
    data = json.loads(path.read_text())
    data["info"]["extra"], data["info"]["datasets"][0]["extra"] = [], {}
    path.write_text(json.dumps(data))
    assert Store.open(path.parent).info.tile == 48
    data["info"]["extra"] = ["nuclear"]
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="holds the planes nuclear"):
        Store.open(path.parent)


def test_goes_to_workers(store):
    other = pickle.loads(pickle.dumps(store))  # noqa: S301 (as worker processes get it)
    np.testing.assert_array_equal(other.read(3).image, store.read(3).image)


def test_interrupted_and_continued(source, tmp_path, monkeypatch):
    """What was finished is not written again, and the result is the same."""
    written = []
    real = build._write_fov

    def counted(folder, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(folder.name)
        real(folder, *rest)

    monkeypatch.setattr(build, "_write_fov", counted)
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "s", [source], SMALL)
    assert not (tmp_path / "s").exists()
    with pytest.raises(InputError, match="not finished"):
        Store.open(tmp_path / ".s.partial")
    written.clear()
    store = write_store(tmp_path / "s", [source], SMALL)
    assert written == ["one2"]
    whole = write_store(tmp_path / "t", [source], SMALL, progress=lambda _: written.clear())
    assert store.info == whole.info
    assert store.examples.equals(whole.examples)
    np.testing.assert_array_equal(store.read(0).image, whole.read(0).image)


def test_changed_labels_are_written_again(make_source, tmp_path, monkeypatch):
    source = make_source()
    real = build._write_fov
    monkeypatch.setattr(build, "_write_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "s", [source], SMALL)
    monkeypatch.undo()
    source.targets["one1"][:] = 1
    again = []
    monkeypatch.setattr(
        build, "_write_fov", lambda folder, *rest: (again.append(folder.name), real(folder, *rest))
    )
    store = write_store(tmp_path / "s", [source], SMALL)
    assert again == ["one1"]
    rows = store.examples[store.examples.fov == "one1"]
    assert (rows.known == rows.positive).all()


def test_bad_stores(store, source, tmp_path):
    with pytest.raises(InputError, match="exists already"):
        write_store(store.path, [source], SMALL)
    with pytest.raises(InputError, match="not a store"):
        Store.open(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Store.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="different names"):
        write_store(tmp_path / "x", [source, source], SMALL)
    with pytest.raises(InputError, match="cannot be cut"):
        write_store(tmp_path / "x", [source], StoreSettings(tile=16, overlap=16))


@pytest.mark.parametrize("break_it", ["version", "rows", "json", "shard", "cells"])
def test_damaged(source, tmp_path, break_it):
    store = write_store(tmp_path / "s", [source], SMALL)
    path = store.path
    if break_it == "version":
        data = json.loads((path / "store.json").read_text())
        data["info"]["version"] = 99
        (path / "store.json").write_text(json.dumps(data))
    elif break_it == "rows":
        lines = (path / "examples.csv").read_text().splitlines()
        (path / "examples.csv").write_text("\n".join(lines[:-1]))
    elif break_it == "json":
        (path / "store.json").write_text("{")
        with pytest.raises(ReadError, match="this is not JSON"):
            Store.open(path)
        return
    elif break_it == "shard":
        shard = path / store.examples.folder[0] / "image" / "c" / "0" / "0" / "0" / "0"
        shard.write_bytes(shard.read_bytes()[:300])
        with pytest.raises(ReadError, match="cannot be read"):
            Store.open(path).read(0)
        return
    else:
        (path / store.examples.folder[0] / "mean.npy").unlink()
        with pytest.raises(ReadError, match="cannot be read"):
            Store.open(path).read(0)
        return
    with pytest.raises(InputError, match=r"version|cannot be read|not the table"):
        Store.open(path)


def test_blank_markers_are_left_away(make_source, tmp_path):
    source = make_source(fovs=1)
    image = source.scanned.fovs[0].fov.image
    image[1] = 7
    from dataclasses import replace

    from panimbus.data.source import scan_fovs

    blank = replace(source, scanned=scan_fovs("one", [source.scanned.fovs[0].fov]))
    store = write_store(tmp_path / "s", [blank], SMALL)
    assert store.info.datasets[0].markers == ("a",)
    assert any("blank" in note for note in store.info.datasets[0].notes)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [(1, 16, 0), (16, 16, 15), (17, 16, 15), (1000, 512, 16), (1008, 512, 16)],
)
def test_origins(size, tile, overlap):
    starts = origins(size, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] + tile >= size
    assert all(b - a <= tile - overlap for a, b in pairwise(starts))


def test_a_field_of_view_without_cells(make_source, tmp_path):
    from dataclasses import replace

    from panimbus.core.fov import Fov
    from panimbus.data.source import scan_fovs

    source = make_source(fovs=1)
    empty = Fov(
        "empty", source.scanned.fovs[0].fov.image, ("a", "b"), np.zeros((70, 90), np.uint8), 1.0
    )
    scanned = scan_fovs("one", [source.scanned.fovs[0].fov, empty])
    targets = {**source.targets, "empty": np.zeros((0, 2), np.float32)}
    both = replace(
        source, scanned=scanned, targets=targets, splits={"one0": "train", "empty": "train"}
    )
    store = write_store(tmp_path / "s", [both], SMALL)
    row = int(store.examples.index[store.examples.fov == "empty"][0])
    assert (store.read(row).index == -1).all()
    assert store.read(row).target.shape == (0,)
    assert row not in store.rows("train")


def test_threads_read_the_same(store):
    from concurrent.futures import ThreadPoolExecutor

    rows = np.random.default_rng(0).integers(0, len(store), 200).tolist()
    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(lambda r: float(store.read(r).image.sum()), rows))
    assert sums == [float(store.read(r).image.sum()) for r in rows]
