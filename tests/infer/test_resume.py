"""The output folder: what is finished is used again only where all that it depends on is the
same."""

import json
import os

import anndata
import numpy as np
import pytest
import tifffile

from panimbus.core.errors import ReadError
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale
from panimbus.core.table import to_frame
from panimbus.infer import executor as module
from panimbus.infer import passes
from panimbus.infer.output import check_kinds, read_normaliser, save_run, summary
from panimbus.infer.store import FolderStore, input_fingerprint
from panimbus.io import open_fovs
from panimbus.io.names import safe_name
from panimbus.io.write import write_labels, write_ome_tiff


@pytest.fixture
def files(tmp_path, make_tissue):
    """Three FOVs on disk; returns a function that opens them."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for k in range(3):
        image, labels = make_tissue((60, 52), 15, seed=k)
        write_ome_tiff(tmp_path / "images" / f"fov{k}.ome.tiff", image, ("a", "b"), 1.0)
        write_labels(tmp_path / "labels" / f"fov{k}.tiff", labels)
    return lambda **kwargs: open_fovs(tmp_path / "images", tmp_path / "labels", **kwargs)


@pytest.fixture
def work(monkeypatch):
    """Which FOVs were scanned and scored, in order; cleared by reading."""
    log = {"scan": [], "score": []}

    def spied(stage, real):
        def spy(fov, *args, **kwargs):
            log[stage].append(fov.fov_id)
            return real(fov, *args, **kwargs)

        return spy

    monkeypatch.setattr(module, "scan_unit", spied("scan", module.scan_unit))
    monkeypatch.setattr(module, "score_blocks", spied("score", module.score_blocks))

    def read():
        out = {k: list(v) for k, v in log.items()}
        for v in log.values():
            v.clear()
        return out

    return read


ALL = ["fov0", "fov1", "fov2"]
NOTHING = {"scan": [], "score": []}


def test_second_run_reads_no_pixels(files, run, model, work, tmp_path, same_table):
    first = run(files(), model("compact"), tta="full", out=tmp_path / "out")
    assert work() == {"scan": ALL, "score": ALL}
    second = run(files(), model("compact"), tta="full", out=tmp_path / "out")
    assert work() == NOTHING
    same_table(first, second)
    same_table(first, run(files(), model("compact"), tta="full"))
    work()
    assert first.uns["panimbus"]["scale"] == second.uns["panimbus"]["scale"]
    assert (
        run(files(), model("compact"), tta="full", out=tmp_path / "out", tile=112).n_obs
        == first.n_obs
    )
    assert work()["score"] == [], "results do not depend on the tile"


def test_what_changes_is_computed_again(files, run, model, work, tmp_path, same_table):
    out = tmp_path / "out"
    ranked = {f"q{q:02d}": float(q) for q in range(1, 100)}
    run(files(), model("compact"), out=out)
    work()
    for kwargs in (
        {"model": model("compact", 1)},
        {"tta": "full"},
        {"scale": ChannelScale(99.9, "all", {"a": 50.0, "b": 60.0}, {"a": {}, "b": {}})},
        {"scale": ChannelScale(99.9, "all", {"a": 50.0, "b": 60.0}, {"a": {"q50": 4.0}, "b": {}})},
        {"scale": ChannelScale(99.9, "all", {"a": 50.0, "b": 60.0}, {"a": ranked, "b": {}})},
        {
            "scale": ChannelScale(
                99.9, "all", {"a": 50.0, "b": 60.0}, {"a": {**ranked, "q20": 19.2}, "b": {}}
            )
        },  # of the ranks alone
    ):
        full = {"model": model("compact"), **kwargs}
        again = run(files(), out=out, **full)
        assert work() == {"scan": [], "score": ALL}
        same_table(again, run(files(), **full))
        work()
    other = run(files(), model("compact"), channels=["b"], out=out)
    assert work() == {"scan": ALL, "score": ALL}
    same_table(other, run(files(), model("compact"), channels=["b"]))
    work()
    resized = run(files(mpp=0.5), model("compact"), channels=["b"], out=out)
    assert work()["score"] == ALL
    same_table(resized, run(files(mpp=0.5), model("compact"), channels=["b"]))


def test_changed_pixels_are_seen(files, run, model, work, tmp_path, same_table):
    """A changed FOV is scored again, and the others too if the normaliser moved."""
    out = tmp_path / "out"
    scale = ChannelScale(99.9, "all", {"a": 300.0, "b": 300.0}, {"a": {}, "b": {}})
    before = run(files(), model("compact"), out=out, scale=scale)
    work()
    path = tmp_path / "images" / "fov1.ome.tiff"
    write_ome_tiff(path, tifffile.imread(path) + 30, ("a", "b"), 1.0)
    after = run(files(), model("compact"), out=out, scale=scale)
    assert work() == {"scan": ["fov1"], "score": ["fov1"]}
    assert np.abs(after.X - before.X).max() > 1e-4
    same_table(after, run(files(), model("compact"), scale=scale))
    work()
    fitted = run(files(), model("compact"), out=out)
    assert work() == {"scan": [], "score": ALL}
    same_table(fitted, run(files(), model("compact")))


def test_changed_labels_are_seen(files, run, model, work, tmp_path, same_table):
    out = tmp_path / "out"
    run(files(), model("plain"), out=out)
    work()
    path = tmp_path / "labels" / "fov2.tiff"
    labels = tifffile.imread(path)
    labels[labels == 3] = 0
    write_labels(path, labels)
    after = run(files(), model("plain"), out=out)
    assert work() == {"scan": ["fov2"], "score": ["fov2"]}
    same_table(after, run(files(), model("plain")))


def test_touching_a_file_costs_a_scan_only(files, run, model, work, tmp_path):
    run(files(), model("plain"), out=tmp_path / "out")
    work()
    os.utime(tmp_path / "images" / "fov0.ome.tiff", ns=(1, 1))
    run(files(), model("plain"), out=tmp_path / "out")
    assert work() == {"scan": ["fov0"], "score": []}


def test_renamed_channels_are_seen(fov, run, model, work, tmp_path, same_table):
    """The same file with a corrected panel: 'a' is another plane now."""
    f = fov().with_(source={"image": "x.tiff", "bytes": 1, "mtime_ns": 1})
    run(f, model("plain"), channels=["a", "b"], out=tmp_path)
    swapped = f.with_(channels=("b", "a"))
    again = run(swapped, model("plain"), channels=["a", "b"], out=tmp_path)
    same_table(again, run(swapped, model("plain"), channels=["a", "b"]))


def test_a_corrected_panel_is_seen(files, run, model, tmp_path, same_table):
    run(files(channel_names=["a", "b"], channels=["a", "b"]), model("plain"), out=tmp_path / "out")
    swapped = {"channel_names": ["b", "a"], "channels": ["a", "b"]}
    again = run(files(**swapped), model("plain"), out=tmp_path / "out")
    same_table(again, run(files(**swapped), model("plain")))


def test_arrays_in_memory(fov, run, model, work, tmp_path, same_table):
    """Nothing but their pixels tells them apart: read again, scored only if they changed."""
    fovs = [fov(), fov(fov_id="f2", seed=1)]
    scale = ChannelScale(99.9, "all", {"a": 300.0, "b": 300.0}, {"a": {}, "b": {}})
    run(fovs, model("plain"), out=tmp_path, scale=scale)
    work()
    run(fovs, model("plain"), out=tmp_path, scale=scale)
    assert work() == {"scan": ["f1", "f2"], "score": []}
    image = fovs[1].image.copy()
    image[0, 5, 5] += 1
    changed = [fovs[0], fovs[1].with_(image=image)]
    again = run(changed, model("plain"), out=tmp_path, scale=scale)
    assert work() == {"scan": ["f1", "f2"], "score": ["f2"]}
    same_table(again, run(changed, model("plain"), scale=scale))


@pytest.mark.parametrize("what", ["scan", "scores"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "flipped", "other", "folder-less"])
def test_damaged_results_are_computed_again(  # noqa: PLR0917, RUF100
    what, damage, files, run, model, work, tmp_path, same_table
):
    out = tmp_path / "out"
    first = run(files(), model("plain"), out=out)
    work()
    path = out / "fovs" / "fov1" / f"{what}.npz"
    data = path.read_bytes()
    if damage == "folder-less":
        path.unlink()
    else:
        middle = len(data) // 2
        path.write_bytes(
            {
                "empty": b"",
                "half": data[:middle],
                "noise": bytes(range(256)) * 20,
                "flipped": data[:60] + bytes(b ^ 255 for b in data[60:middle]) + data[middle:],
                "other": b"\x93NUMPY" + data,
            }[damage]
        )
    again = run(files(), model("plain"), out=out)
    assert work() == {
        "scan": ["fov1"] if what == "scan" else [],
        "score": ["fov1"] if what == "scores" else [],
    }
    same_table(first, again)
    run(files(), model("plain"), out=out)
    assert work() == NOTHING


def test_interrupted_run_continues(files, run, model, work, tmp_path, monkeypatch, same_table):
    """Ctrl-C in the middle of the second FOV: the first stays, and the end is that of an
    uninterrupted run."""
    out = tmp_path / "out"
    whole = run(files(), model("compact"), tta="full")
    work()
    real = module.score_blocks

    def broken(fov, cells, mean, scoring, blocks, *, on_pass, **kwargs):
        calls = 0

        def counting(pixels):
            nonlocal calls
            calls += 1
            if fov.fov_id == "fov1" and calls == 3:
                raise KeyboardInterrupt
            on_pass(pixels)

        return real(fov, cells, mean, scoring, blocks, on_pass=counting, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, "score_blocks", broken)
        with pytest.raises(KeyboardInterrupt):
            run(files(), model("compact"), tta="full", out=out)
    assert work() == {"scan": ALL, "score": ["fov0", "fov1"]}
    assert (out / "fovs" / "fov0" / "scores.npz").is_file()
    assert not (out / "fovs" / "fov1" / "scores.npz").exists()
    again = run(files(), model("compact"), tta="full", out=out)
    assert work() == {"scan": [], "score": ["fov1", "fov2"]}
    same_table(whole, again)
    left = [
        p.name for p in out.rglob("*") if p.is_file() and p.name not in {"scan.npz", "scores.npz"}
    ]
    assert left == [], "no temporary files"


def test_disk_full_leaves_nothing_half_written(
    files, run, model, tmp_path, monkeypatch, same_table
):
    out = tmp_path / "out"

    def full(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            run(files(), model("plain"), out=out)
    assert [p for p in out.rglob("*") if p.is_file()] == []
    same_table(run(files(), model("plain"), out=out), run(files(), model("plain")))


@pytest.mark.parametrize("mpp", [1.0, 0.5])
@pytest.mark.parametrize("tile", [112, 4096])
def test_map_mean_is_the_score(mpp, tile, fov, run, model, tmp_path, at_centres):
    f = fov((150, 110), 30, mpp=mpp, radius=9)
    image = np.concatenate([f.image, np.zeros_like(f.image[:1])])
    f = f.with_(image=image, channels=("a", "b", "blank"))
    adata = run(f, model("compact"), tta="full", maps=True, out=tmp_path, tile=tile)
    np.testing.assert_array_equal(adata.X, run(f, model("compact"), tta="full", tile=tile).X)
    with tifffile.TiffFile(tmp_path / "maps" / "f1.ome.tiff") as tiff:
        maps = tiff.asarray()
        assert "blank" in tiff.ome_metadata
    step = round(1 / mpp)
    labels = at_centres(f.labels, step)
    assert maps.shape == (3, *labels.shape)
    assert maps.dtype == np.float32
    assert not maps[2].any()
    for row, cell in enumerate(adata.obs["cell_id"]):
        if (labels == cell).any():
            np.testing.assert_allclose(maps[:, labels == cell].mean(1), adata.X[row], atol=1e-5)
    assert (maps[:2, labels > 0] > 0).all()
    assert not maps[:2, labels == 0].any(), "the net is not trained on the background"


def test_maps_without_cells(fov, run, model, tmp_path):
    f = fov().with_(labels=np.zeros((72, 56), np.uint8))
    run(f, model("compact"), maps=True, out=tmp_path)
    assert not tifffile.imread(tmp_path / "maps" / "f1.ome.tiff").any()


def test_stale_maps_are_not_kept(fov, run, model, work, tmp_path):
    """Maps of another model must not pass for this one's."""
    f, path = fov(), tmp_path / "maps" / "f1.ome.tiff"
    run(f, model("plain"), maps=True, out=tmp_path)
    old = tifffile.imread(path)
    run(f, model("plain", 1), out=tmp_path)
    assert not path.exists(), "it does not belong to these scores"
    work()
    run(f, model("plain", 1), maps=True, out=tmp_path)
    assert work()["score"] == ["f1"]
    assert np.abs(tifffile.imread(path) - old).max() > 1e-3
    run(f, model("plain", 1), maps=True, out=tmp_path)
    assert work()["score"] == []
    run(f, model("plain", 1), out=tmp_path)
    assert work()["score"] == []
    assert path.exists()
    path.unlink()
    run(f, model("plain", 1), maps=True, out=tmp_path)
    assert work()["score"] == ["f1"]


def test_files_of_a_run(files, run, model, tmp_path):
    adata = run(files(), model("compact"), out=tmp_path / "out")
    save_run(adata, tmp_path / "out", ("h5ad", "csv", "parquet"))
    back = anndata.read_h5ad(tmp_path / "out" / "cells.h5ad")
    np.testing.assert_array_equal(back.X, adata.X)
    import pandas as pd

    for frame in (
        pd.read_csv(tmp_path / "out" / "cells.csv"),
        pd.read_parquet(tmp_path / "out" / "cells.parquet"),
    ):
        assert list(frame.columns) == list(to_frame(adata).columns)
        np.testing.assert_allclose(frame[["a", "b"]], adata.X, atol=1e-6)
    scale = read_normaliser(tmp_path / "out" / "normaliser.json")
    assert [scale.value(c) for c in "ab"] == list(adata.var["normaliser"])
    np.testing.assert_array_equal(run(files(), model("compact"), scale=scale).X, adata.X)
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["model"] == "compact-0"
    assert set(about["inputs"]) == set(ALL)
    assert about["inputs"]["fov0"]["shape"] == [2, 60, 52]
    text = summary(adata, tmp_path / "out", scale.to_dict())
    assert f"{adata.n_obs:,} cells in 3 FOVs" in text


def test_kinds_of_tables():
    from panimbus.core.errors import InputError

    assert check_kinds("csv, h5ad,csv") == ("csv", "h5ad")
    for text in ("xlsx", "", "csv,feather"):
        with pytest.raises(InputError, match="Unknown kind of table"):
            check_kinds(text)


def test_not_a_normaliser_file(tmp_path):
    from panimbus.core.errors import InputError, ReadError

    with pytest.raises(ReadError, match="no such file"):
        read_normaliser(tmp_path / "none.json")
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ReadError, match="not text in UTF-8"):
        read_normaliser(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text('{"channels": {"a": {}, "a": {}}}')
    with pytest.raises(ReadError, match="'a' is there twice"):
        read_normaliser(tmp_path / "bad.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match="not a normaliser"):
        read_normaliser(tmp_path / "other.json")


def test_fingerprint():
    assert input_fingerprint({"a": 1, "b": (1, 2)}) == input_fingerprint({"b": [1, 2], "a": 1})
    assert input_fingerprint({"a": 1}) != input_fingerprint({"a": 2})


def test_scan_round_trip(fov, tmp_path):
    from panimbus.core.scan import scan_fov

    image = fov().image
    for dtype in (np.uint16, np.float32):
        f = Fov("f", image.astype(dtype), ("a", "b"), fov().labels, 1.0)
        cells, scanned = scan_fov(f, f.channels, 1.0)
        store = FolderStore(tmp_path)
        store.save_scan(f, "key", cells, scanned)
        assert store.load_scan(f, "other", 1.0) is None
        same, back = store.load_scan(f, "key", 1.0)
        np.testing.assert_array_equal(same.index.ids, cells.index.ids)
        np.testing.assert_array_equal(same.geometry.centroids(), cells.geometry.centroids())
        np.testing.assert_array_equal(same.pixels, cells.pixels)
        np.testing.assert_array_equal(same.rescued, cells.rescued)
        assert same.shape == cells.shape
        assert back.digest == scanned.digest
        np.testing.assert_array_equal(back.mean, scanned.mean)
        for c in f.channels:
            for mine, theirs in (
                (back.stats[c].pixels, scanned.stats[c].pixels),
                (back.stats[c].cell_means, scanned.stats[c].cell_means),
            ):
                assert mine.is_float == theirs.is_float
                np.testing.assert_array_equal(mine.keys, theirs.keys)
                np.testing.assert_array_equal(mine.counts, theirs.counts)
            assert back.stats[c].outside_sum == scanned.stats[c].outside_sum
            assert back.stats[c].outside_count == scanned.stats[c].outside_count


@pytest.fixture
def slide(tmp_path, make_tissue, monkeypatch):
    """One file of several bands and blocks; returns a function that opens it."""
    from panimbus.core import scan
    from panimbus.infer import blocks

    monkeypatch.setattr(scan, "BAND_PIXELS", 230 * 60)
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    image, labels = make_tissue((260, 230), 300, seed=3)
    write_ome_tiff(tmp_path / "slide.ome.tiff", image, ("a", "b"), 1.0)
    write_labels(tmp_path / "slide_labels.tiff", labels)
    return lambda: open_fovs(tmp_path / "slide.ome.tiff", tmp_path / "slide_labels.tiff")


@pytest.mark.parametrize("stage", ["scan", "score"])
def test_a_slide_continues_where_it_was(
    slide, run, model, tmp_path, monkeypatch, same_table, stage
):
    """Stopped after some bands or blocks: these are not done again, and the table is the same to
    the last bit."""
    out, seen = tmp_path / "out", []
    whole = run(slide(), model("compact"), tta="full", tile=208)
    real = passes._Parts.put

    def counted(parts, number, part):
        seen.append((type(part).__name__, number))
        real(parts, number, part)
        if (
            broken
            and [kind for kind, _ in seen].count("BandScan" if stage == "scan" else "BlockPart")
            == 2
        ):
            raise KeyboardInterrupt

    monkeypatch.setattr(passes._Parts, "put", counted)
    broken = True
    with pytest.raises(KeyboardInterrupt):
        run(slide(), model("compact"), tta="full", tile=208, out=out)
    first, broken = set(seen), False
    seen.clear()
    folder = out / "fovs" / "slide" / ("bands" if stage == "scan" else "blocks")
    assert sorted(p.stem for p in folder.iterdir()) == ["000000", "000001"]
    again = run(slide(), model("compact"), tta="full", tile=208, out=out)
    same_table(whole, again)
    assert not first & set(seen)
    assert len(first | set(seen)) == 4 + 4 == len(first) + len(seen)
    assert not folder.exists()


def test_parts_of_other_settings_are_not_taken(
    slide, run, model, tmp_path, monkeypatch, same_table
):
    out = tmp_path / "out"
    real = passes._Parts.put

    def stop(parts, number, part):
        real(parts, number, part)
        if type(part).__name__ == "BlockPart":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(passes._Parts, "put", stop)
        with pytest.raises(KeyboardInterrupt):
            run(slide(), model("compact"), tta="full", tile=208, out=out)
    same_table(
        run(slide(), model("compact", 1), tta="full", tile=208, out=out),
        run(slide(), model("compact", 1), tta="full", tile=208),
    )


def test_a_damaged_part_is_computed_again(slide, run, model, tmp_path, monkeypatch, same_table):
    out = tmp_path / "out"
    real = passes._Parts.put

    def stop(parts, number, part):
        real(parts, number, part)
        if number == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(passes._Parts, "put", stop)
        with pytest.raises(KeyboardInterrupt):
            run(slide(), model("compact"), tile=208, out=out)
    for path in (out / "fovs" / "slide" / "bands").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    same_table(
        run(slide(), model("compact"), tile=208, out=out), run(slide(), model("compact"), tile=208)
    )


@pytest.mark.parametrize("how", ["replaced", "touched"])
@pytest.mark.parametrize("stage", ["scan", "score"])
@pytest.mark.parametrize("which", ["images", "labels"])
def test_a_file_that_changes_during_the_run(files, run, model, tmp_path, which, stage, how):
    """What was read of it may be of both versions, whether a reader stumbles or not."""
    path = tmp_path / which / ("fov1.tiff" if which == "labels" else "fov1.ome.tiff")
    done = []

    def change_once(progress):
        if progress.stage != stage or done:
            return
        done.append(stage)
        if how == "touched":
            os.utime(path, ns=(1, 1))
        elif which == "labels":
            write_labels(path, np.ones((60, 52), np.uint32))
        else:
            write_ome_tiff(path, np.full((2, 60, 52), 7, np.uint16), ("a", "b"), 1.0)

    words = "label image" if which == "labels" else "image"
    with pytest.raises(ReadError, match=f"FOV 'fov1': the {words} changed while it was being read"):
        run(files(), model("compact"), out=tmp_path / "out", progress=change_once)
    again, fresh = (
        run(files(), model("compact"), out=tmp_path / "out"),
        run(files(), model("compact")),
    )
    np.testing.assert_array_equal(again.X, fresh.X)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "pickle"])
def test_kept_files_that_are_damaged_are_computed_anew(fov, tmp_path, damage):
    """Never used, never a traceback: whatever is wrong with a file, it counts as not there."""
    from panimbus.infer.blocks import BlockPart

    store, one = FolderStore(tmp_path), fov()
    path = tmp_path / "fovs" / safe_name(one.fov_id) / "blocks" / "000003.npz"
    FolderStore._save(path, "key", {"score": np.arange(5000.0)})
    assert store.parts(one, BlockPart, "key") == {3}
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "pickle":
        np.savez(path, key="key", score=np.array([{"a": 1}], dtype=object), allow_pickle=True)
        content = bytearray(path.read_bytes())
    path.write_bytes({"cut": content[:-30], "empty": b"", "other": b"[1, 2]"}.get(damage, content))
    if damage != "pickle":
        assert store.parts(one, BlockPart, "key") == set()
    with pytest.raises(ReadError, match="was removed"):
        store.load_part(one, BlockPart, "key", 3)
    assert not path.exists()
    path.parent.parent.joinpath("scores.npz").write_bytes(bytes(content[: len(content) // 2]))
    assert store.load_scores(one, "key", maps=None) is None
