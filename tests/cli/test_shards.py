"""`panimbus predict --shard i/n` and `panimbus merge`: the table of one process, byte for byte."""

import json
import threading

import numpy as np
import pytest

from panimbus.cli.shard import command_without_shard, parse_shard
from panimbus.core import scan
from panimbus.core.errors import InputError
from panimbus.infer import blocks

SMALL = ("--tile", "256", "--precision", "float32", "--threads", "1")


@pytest.fixture
def dataset(folder, monkeypatch, model):
    """Three FOVs in many bands and blocks; ``dataset("--shard", ...)``: arguments of predict."""
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    monkeypatch.setattr(scan, "BAND_PIXELS", 64 * 230)
    for k, fov in enumerate(("fov1", "fov2", "fov10")):
        folder.add(fov, shape=(260 + 30 * k, 230), n=70, seed=k)
    folder.small = lambda *more: folder.arguments(*SMALL, *model, *more)
    return folder


@pytest.fixture
def alone(dataset, panimbus):
    """The table that one process writes, as bytes."""
    arguments = [dataset.root / "alone" if a == dataset.out else a for a in dataset.small()]
    assert panimbus(*arguments).code == 0
    return (dataset.root / "alone" / "cells.csv").read_bytes()


def _rows(folder):
    return (folder.out / "cells.csv").read_bytes()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_in_any_order(order, dataset, panimbus, alone):
    for i in order:
        done = panimbus(*dataset.small("--shard", f"{i}/3"))
        assert done.code == 0, done.err
        assert "panimbus merge" in done.out
    assert not (dataset.out / "cells.csv").exists()
    done = panimbus("merge", dataset.out)
    assert done.code == 0, done.err
    assert "positive" in done.out
    assert _rows(dataset) == alone
    assert not list(dataset.out.rglob("bands")), "parts are not needed any more"
    assert not list(dataset.out.rglob("blocks"))
    assert panimbus("merge", dataset.out, "--tables", "h5ad").code == 0, "and once more"
    assert (dataset.out / "cells.h5ad").is_file()


def test_two_arrays(dataset, panimbus, alone, monkeypatch):
    """First all shards of the first pass, then all of the second; the merge from another folder."""
    read = []
    real = scan.scan_band
    monkeypatch.setattr(
        "panimbus.infer.executor.scan_band", lambda *a, **k: read.append(a[3]) or real(*a, **k)
    )
    monkeypatch.chdir(dataset.root)
    relative = [str(a).replace(f"{dataset.root}/", "") for a in dataset.small()]
    for i in (1, 2):
        assert panimbus(*relative, "--shard", f"{i}/2", "--stage", "scan").code == 0
    bands = len(read)
    assert bands > 9
    for i in (2, 1):
        done = panimbus(*relative, f"--shard={i}/2")
        assert (done.code, done.err) == (0, ""), done.err
    assert len(read) == bands, "each band was read once"
    (dataset.root / "elsewhere").mkdir()
    monkeypatch.chdir(dataset.root / "elsewhere")
    assert panimbus("merge", dataset.out).code == 0
    assert _rows(dataset) == alone


def test_shards_at_the_same_time(dataset, process, panimbus, model):
    """They write the same files at once, and nothing comes of it."""
    children = [process(*dataset.small("--shard", f"{i}/3")) for i in (1, 2, 3, 1)]
    for child in children:
        _, err = child.communicate(timeout=300)
        assert child.returncode == 0, err
    done = panimbus("merge", dataset.out)
    assert done.code == 0, done.err
    arguments = [dataset.root / "alone" if a == dataset.out else a for a in dataset.small()]
    assert panimbus(*arguments).code == 0
    assert _rows(dataset) == (dataset.root / "alone" / "cells.csv").read_bytes()


def test_what_is_missing(dataset, panimbus, alone, monkeypatch):
    panimbus(*dataset.small("--shard", "2/4", "--stage", "scan"))
    done = panimbus("merge", dataset.out)
    assert done.code == 2
    assert "bands of the first pass are missing: shard 1/4, 3/4, 4/4" in done.err
    for i in (1, 2, 4):
        assert panimbus(*dataset.small("--shard", f"{i}/4")).code == 0
    done = panimbus("merge", dataset.out)
    assert done.code == 2
    assert "blocks are missing: shard 3/4" in done.err
    assert "Traceback" not in done.err
    (command,) = [line.strip() for line in done.err.splitlines() if line.endswith("--shard 3/4")]
    assert not (dataset.out / "cells.csv").exists()
    words = [str(a) for a in dataset.small()]
    assert command.split() == ["panimbus", *words, "--shard", "3/4"]
    assert panimbus(*command.split()[1:]).code == 0
    assert panimbus("merge", dataset.out).code == 0
    assert _rows(dataset) == alone


def test_a_shard_goes_on(dataset, panimbus, alone, monkeypatch):
    """A shard that was killed, and another number of shards for the rest."""
    from panimbus.infer import store

    saved, real = [], store.FolderStore.save_part

    def dying(self, fov, key, number, part):
        real(self, fov, key, number, part)
        saved.append(part)
        if len(saved) == 14:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.FolderStore, "save_part", dying)
        assert panimbus(*dataset.small("--shard", "1/2")).code == 130
    for i in (1, 2, 3):
        assert panimbus(*dataset.small("--shard", f"{i}/3")).code == 0
    assert json.loads((dataset.out / "request.json").read_text())["shards"] == 3
    assert panimbus("merge", dataset.out).code == 0
    assert _rows(dataset) == alone


def test_other_settings_are_refused(dataset, panimbus):
    assert panimbus(*dataset.small("--shard", "1/2", "--stage", "scan")).code == 0
    done = panimbus(*dataset.small("--shard", "2/2", "--channels", "CD3", "--tile", "272"))
    assert done.code == 2
    assert 'channels: null there, ["CD3"] here' in done.err
    assert "tile: 256 there, 272 here" in done.err
    assert "another --out" in done.err


def test_other_arithmetic_is_refused(dataset, panimbus):
    assert panimbus(*dataset.small("--shard", "1/1")).code == 0
    path = dataset.out / "backend.json"
    path.write_text(path.read_text().replace("float32", "bfloat16"))
    done = panimbus(*dataset.small("--shard", "1/1"))
    assert done.code == 2
    assert "openvino-cpu-bfloat16" in done.err
    assert "--precision float32" in done.err


def test_changed_images_are_missing(dataset, panimbus):
    """Parts of other pixels are not taken."""
    for i in (1, 2):
        assert panimbus(*dataset.small("--shard", f"{i}/2")).code == 0
    dataset.channel("fov1", "CD3", np.ones((260, 230), np.float32))
    done = panimbus("merge", dataset.out)
    assert done.code == 2
    assert "missing" in done.err


def test_unreadable_settings(dataset, panimbus):
    done = panimbus("merge", dataset.root)
    assert done.code == 2
    assert "--shard" in done.err
    dataset.out.mkdir()
    for text in ("{", "[]", '{"format": 0}', "\xff"):
        (dataset.out / "request.json").write_text(text, encoding="latin-1")
        for words in (("merge", dataset.out), dataset.small("--shard", "1/1")):
            done = panimbus(*words)
            assert done.code == 2
            assert "request.json" in done.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--shard", "0/3"), "from 1 to n"),
        (("--shard", "4/3"), "from 1 to n"),
        (("--shard", "a"), "from 1 to n"),
        (("--shard", "1/0"), "from 1 to n"),
        (("--stage", "scan"), "requires --shard"),
        (("--shard", "1/2", "--stage", "score"), "'scan'"),
        (("--shard", "1/2", "--maps"), "--maps and --shard"),
        (("--shard", "1/2", "--dask", "local:2"), "--dask and --shard"),
        (("--shard", "1/2", "--on-error", "ignore"), "'skip'"),
        (("--dask", "local:2", "--maps"), "one process"),
    ],
)
def test_bad_options(words, told, folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(*folder.arguments(*model, *words))
    assert done.code == 2, done.out
    assert told in done.err
    assert "Traceback" not in done.err


def test_tokens_are_not_written_down():
    from panimbus.infer.distribute.manifest import shared_path

    assert shared_path("s3://bucket/a.zarr") == "s3://bucket/a.zarr"
    for address in ("https://me:secret@host/a.zarr", "https://host/a.zarr?token=secret"):
        with pytest.raises(InputError, match="would be written down") as raised:
            shared_path(address)
        assert "secret" not in str(raised.value)


def test_the_command_without_its_share():
    words = [
        "/bin/panimbus",
        "predict",
        "a b",
        "--shard",
        "1/2",
        "--stage=scan",
        "--out",
        "x",
        "--stage",
        "all",
        "--shard=2/2",
    ]
    assert command_without_shard(words) == ["panimbus", "predict", "a b", "--out", "x"]


def test_shares_are_all_units():
    for total, of in ((0, 3), (1, 3), (7, 3), (64, 8)):
        taken = [k for i in range(1, of + 1) for k in parse_shard(f"{i}/{of}").takes(total)]
        assert taken == list(range(total))


def test_just_one_process_writes_what_was_told(tmp_path):
    from panimbus.infer.distribute.manifest import _create

    found, barrier = [], threading.Barrier(8)

    def go(k):
        barrier.wait()
        found.append(_create(tmp_path / "backend.json", {"format": 1, "backend": str(k)}))

    threads = [threading.Thread(target=go, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    kept = json.loads((tmp_path / "backend.json").read_text())
    assert found.count(None) == 1
    assert all(f in (None, kept) for f in found)
    assert [p.name for p in tmp_path.iterdir()] == ["backend.json"]
