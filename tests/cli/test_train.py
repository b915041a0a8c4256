"""`panimbus train` and `panimbus ablate` on a store on disk, and what they refuse."""

import csv
import sys

import numpy as np
import pytest

pytest.importorskip("torch")

TINY = """
name = "tiny"
[net]
settings = { widths = [8], blocks = 1 }
planes = ["image", "interior"]
stats = ["q50"]
[data]
crop = 32
batch = 4
[optimiser]
rate = 5e-3
[stages]
naive = 4
robust = 2
[check]
every = 3
pictures = 1
[machine]
workers = 0
device = "cpu"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_tissue):
    from panimbus.core.fov import Fov
    from panimbus.data.build import StoreSettings, write_store
    from panimbus.data.source import Source, scan_fovs

    fovs = [Fov(f"f{k}", *_swapped(make_tissue((70, 70), 40, seed=k)), 1.0) for k in range(3)]
    scanned = scan_fovs("one", fovs)
    rng = np.random.default_rng(0)
    targets = {
        f.fov.fov_id: rng.integers(-1, 2, (f.cells.n, 2)).astype(np.float32) for f in scanned.fovs
    }
    source = Source(
        scanned, ("a", "b"), targets, dict(zip(targets, ("train", "val", "test"), strict=True))
    )
    path = tmp_path_factory.mktemp("store") / "one.store"
    write_store(path, [source], StoreSettings(tile=64))
    return path


def _swapped(tissue):
    image, labels = tissue
    return image, ("a", "b"), labels


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_train(panimbus, store, config, tmp_path):
    done = panimbus("train", config, "--store", store, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "validation F1" in done.out
    for name in (
        "model.safetensors",
        "model.onnx",
        "curves.csv",
        "markers.csv",
        "result.json",
        "epochs/step_0000003.png",
    ):
        assert (tmp_path / "run" / name).exists(), name
    again = panimbus("train", config, "--store", store, "--out", tmp_path / "run")
    assert again.out == done.out


def test_the_seed_is_a_setting(panimbus, store, config, tmp_path):
    assert panimbus("train", config, "--store", store, "--out", tmp_path / "run").code == 0
    done = panimbus("train", config, "--store", store, "--out", tmp_path / "run", "--seed", "3")
    assert done.code == 2
    assert "seed: 0 -> 3" in done.err


def test_ablate(panimbus, store, config, tmp_path):
    sweep = tmp_path / "sweep.toml"
    base = TINY.replace('name = "tiny"\n', "").replace("\n[", "\n[base.")
    arms = '[[arm]]\nname = "naive"\ngroup = "schema"\nsettings = { stages = { robust = 0 } }\n'
    sweep.write_text(f'seeds = [0, 1]\n{base}\n{arms}[[arm]]\nname = "robust"\ngroup = "schema"\n')
    done = panimbus("ablate", sweep, "--store", store, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "out" / "ablation.csv").read_text().splitlines()))
    assert [(r["arm"], r["seed"]) for r in rows] == [
        ("naive", "0"),
        ("robust", "0"),
        ("naive", "1"),
        ("robust", "1"),
    ]
    assert "| schema | robust | 2 | " in (tmp_path / "out" / "ablation.md").read_text()
    assert panimbus("ablate", sweep, "--store", store, "--out", tmp_path / "out").out == done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.toml",), "no such config file"),
        (("huge",), "Unknown preset 'huge'"),
        (("small",), "crop: 128 px is more than the store's tiles of 64 px"),
        (("paper",), "crop: 512 px"),
        (("paper",), "percentile: the settings want 99.99"),
    ],
)
def test_configs_that_cannot_be_used(panimbus, store, tmp_path, arguments, words):
    done = panimbus("train", *arguments, "--store", store, "--out", tmp_path / "run")
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_no_store(panimbus, config, tmp_path):
    done = panimbus("train", config, "--store", tmp_path / "nothing", "--out", tmp_path / "run")
    assert done.code == 2
    assert "is not a store of training examples" in done.err


def test_out_is_a_file(panimbus, store, config):
    done = panimbus("train", config, "--store", store, "--out", config)
    assert done.code == 2
    assert "is a file" in done.err


def test_a_damaged_checkpoint(panimbus, store, config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    done = panimbus("train", config, "--store", store, "--out", tmp_path / "run")
    assert done.code == 2
    assert "the checkpoint is damaged" in done.err


def test_torch_is_missing(panimbus, store, config, tmp_path, monkeypatch):
    for name in [m for m in sys.modules if m.startswith("panimbus.train.loop")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    done = panimbus("train", config, "--store", store, "--out", tmp_path / "run")
    assert done.code == 2
    assert 'pip install "panimbus[train]"' in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds = [0]\n", "arm: Field required"),
        ('[[arm]]\nname = "a"\n[[arm]]\nname = "a"\n', "two arms have one name"),
        (
            (
                '[[arm]]\nname = "a"\n[arm.settings.data]\nbatch = 0\n[[arm]]\nname ='
                ' "b"\n[arm.settings]\nnet = 3\n'
            ),
            "arm 'b'",
        ),
        ('[[arm]]\nname = "a"\n[arm.settings]\nextends = "nothing"\n', "Unknown preset 'nothing'"),
        ('[[arm]]\nname = "a"\n', "crop: 256 px is more"),
    ],
)
def test_sweeps_that_cannot_be_used(panimbus, store, tmp_path, text, words):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    done = panimbus("ablate", path, "--store", store, "--out", tmp_path / "out")
    assert done.code == 2
    assert words in done.err
    assert "Traceback" not in done.err
