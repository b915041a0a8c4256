"""Training runs of a second: they learn, they go on exactly where they were killed, they refuse
what is not theirs."""

import importlib.util
import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError, MissingExtraError, ReadError

torch = pytest.importorskip("torch")

from panimbus.model.weights import load_torch, read_card  # noqa: E402
from panimbus.train.loop import train  # noqa: E402

HERE = Path(__file__).parent
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # forks of a process with threads (Python 3.12 on)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(run):
    return load_torch(run / "model.safetensors")[0].state_dict()


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def last(run):
    return torch.load(run / "last.pt", weights_only=True)


def test_it_learns_and_writes_all_files(tiny, fake_store, tmp_path):
    seen = []
    long = tiny(stages={"naive": 60, "robust": 30}, check={"every": 30})
    result = train(long, fake_store(), tmp_path / "run", seen.append)
    assert result["val_f1"] > 0.9
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    assert [p.step for p in seen] == list(range(1, 91))
    assert [p.stage for p in seen if p.loss == p.loss] == ["naive", "naive", "robust"]
    assert seen[-1].kept < 1
    curves = pd.read_csv(tmp_path / "run" / "curves.csv")
    assert curves["step"].tolist() == [30, 60, 90]
    assert curves["val_f1"].max() == pytest.approx(result["val_f1"], abs=1e-5)
    assert len(list((tmp_path / "run" / "epochs").glob("*.png"))) == 3
    card = read_card(tmp_path / "run" / "model.onnx")
    assert card.planes == ("image", "interior")
    assert card.metrics["val_f1"] == result["val_f1"]
    assert set(pd.read_csv(tmp_path / "run" / "markers.csv")["split"]) == {"val", "test"}


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {here!r})
from conftest import TINY, FakeStore
from panimbus.train.config import make_config
from panimbus.train.loop import train

def tell(p):
    if p.step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
train(make_config(TINY, source="x"), FakeStore(), {out!r}, tell)
"""


def test_a_run_that_was_stopped_and_killed_ends_with_the_same_weights(tiny, fake_store, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(tiny(), fake_store(), whole)
    with pytest.raises(KeyboardInterrupt):  # between two checkpoints of the naive stage
        train(
            tiny(),
            fake_store(),
            broken,
            lambda p: signal.raise_signal(signal.SIGINT) if p.step == 5 else None,
        )
    assert last(broken)["step"] == 3
    code = KILLED.format(here=str(HERE), step=17, out=str(broken))  # of the robust stage
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: RUF100, S603
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (broken / "result.json").exists()
    assert last(broken)["step"] == 15
    train(tiny(), fake_store(), broken)
    assert equal(weights(whole), weights(broken))
    a, b = last(whole), last(broken)
    assert equal(a["net"], b["net"])
    assert equal(a["ema"], b["ema"])
    assert torch.equal(a["threshold"], b["threshold"])
    assert not torch.isnan(a["threshold"]).any()
    steps = [pd.read_csv(run / "curves.csv")["step"].tolist() for run in (whole, broken)]
    assert steps[0] == steps[1]


def test_a_finished_run_is_not_done_again(tiny, fake_store, tmp_path):
    first = train(tiny(), fake_store(), tmp_path)
    before = (tmp_path / "model.onnx").stat().st_mtime_ns
    assert train(tiny(machine={"workers": 1}), fake_store(), tmp_path) == first
    assert (tmp_path / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tiny, fake_store, tmp_path, workers):
    short = {
        "stages": {"naive": 4, "robust": 2},
        "check": {"pictures": 0},
        "augment": {"elastic": 1.0},
    }
    train(tiny(**short), fake_store(), tmp_path / "thread")
    train(tiny(**short, machine={"workers": workers}), fake_store(), tmp_path / "workers")
    assert equal(last(tmp_path / "thread")["net"], last(tmp_path / "workers")["net"])


@pytest.mark.parametrize(
    "net",
    [
        {"architecture": "paper_unet", "settings": {"depth": 2, "root": 4}, "stats": []},
        {
            "architecture": "paper_unet",
            "settings": {"depth": 2, "root": 4},
            "stats": [],
            "padding": "valid",
        },
        {
            "architecture": "paper_unet",
            "settings": {"depth": 2, "root": 4},
            "stats": [],
            "frozen_norm": True,
        },
        {"settings": {"widths": [8], "norm": True}, "stats": []},
    ],
)
def test_every_family_trains_in_the_same_loop(tiny, fake_store, tmp_path, net):
    config = tiny(
        net=net,
        stages={"naive": 3, "robust": 2},
        loss={"pixel": 1.0, "cell": 0.0, "weighting": "pixel"},
    )
    result = train(config, fake_store(), tmp_path)
    assert 0 <= result["val_f1"] <= 1
    norms = {k: v for k, v in last(tmp_path)["net"].items() if k.endswith("running_mean")}
    assert all((v == 0).all() == net.get("frozen_norm", False) for v in norms.values())


def test_the_model_of_a_run_predicts(tiny, fake_store, tmp_path, make_tissue):
    from panimbus import from_array, predict

    train(tiny(stages={"naive": 3, "robust": 0}), fake_store(), tmp_path)
    image, labels = make_tissue((60, 50), 20)
    table = predict(
        from_array(image, labels, channels=["a", "b"], mpp=1.0),
        model=tmp_path / "model.safetensors",
    )
    assert table.X.shape == (len(np.unique(labels)) - 1, 2)


def test_another_config_is_refused(tiny, fake_store, tmp_path):
    train(tiny(stages={"naive": 2, "robust": 0}), fake_store(), tmp_path)
    with pytest.raises(InputError, match=r"optimiser.rate: 0.005 -> 0.001, stages.naive: 2 -> 9"):
        train(
            tiny(stages={"naive": 9, "robust": 0}, optimiser={"rate": 1e-3}), fake_store(), tmp_path
        )


def test_a_run_goes_on_that_began_before_there_was_a_setting(tiny, fake_store, tmp_path):
    begun = tiny(stages={"naive": 2, "robust": 0}, loss={"f1": 0.0})
    train(begun, fake_store(), tmp_path)
    state = last(tmp_path)
    old = json.loads(state["identity"]["config"])
    del old["loss"]["f1"]
    state["identity"]["config"] = json.dumps(old)
    torch.save(state, tmp_path / "last.pt")
    (tmp_path / "result.json").unlink()
    train(begun, fake_store(), tmp_path)
    with pytest.raises(InputError, match=r"loss.f1: 0.0 -> 1.0"):
        train(tiny(stages={"naive": 2, "robust": 0}), fake_store(), tmp_path)


def test_another_store_is_refused(tiny, fake_store, tmp_path):
    train(tiny(stages={"naive": 2, "robust": 0}), fake_store(), tmp_path)
    with pytest.raises(InputError, match="trained on another store"):
        train(tiny(stages={"naive": 2, "robust": 0}), fake_store(seed=1), tmp_path)


@pytest.mark.parametrize(
    "damage", ["cut", "text", "code", "other", "flipped", "no optimiser", "no tensor"]
)
def test_a_damaged_checkpoint(tiny, fake_store, tmp_path, damage):
    path = tmp_path / "last.pt"
    if damage == "cut":
        train(tiny(stages={"naive": 2, "robust": 0}), fake_store(), tmp_path)
        path.write_bytes(path.read_bytes()[:2000])
    elif damage in ("flipped", "no optimiser", "no tensor"):
        train(tiny(stages={"naive": 2, "robust": 0}), fake_store(), tmp_path)
        data = bytearray(path.read_bytes())
        state = torch.load(path, weights_only=True)
        if damage == "flipped":  # inside a weight, which torch reads without a word
            weight = next(w for w in state["net"].values() if w.numel() > 4)
            place = bytes(data).index(weight.numpy().tobytes())
            data[place] ^= 255
            path.write_bytes(data)
        else:
            state["net"].popitem() if damage == "no tensor" else state.pop("optimiser")
            torch.save(state, path)
    elif damage == "text":
        path.write_text("hello")
    elif damage == "code":
        torch.save({"identity": Path}, path)
    else:
        torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ReadError, match="the checkpoint is damaged"):
        train(tiny(stages={"naive": 2, "robust": 0}), fake_store(), tmp_path)


def test_a_marker_without_positive_cells_has_no_f1(tiny, fake_store, tmp_path):
    store = fake_store()
    for example in store.tiles:
        example.target[example.target > 0] = 0
    result = train(tiny(stages={"naive": 2, "robust": 0}), store, tmp_path)
    assert result["val_f1"] != result["val_f1"]  # NaN
    assert read_card(tmp_path / "model.onnx").metrics["val_f1"] is None
    assert json.loads((tmp_path / "result.json").read_text())["val_f1"] is None
    again = train(tiny(stages={"naive": 2, "robust": 0}), store, tmp_path)
    assert again["val_f1"] != again["val_f1"]


def test_tensorboard(tiny, fake_store, tmp_path, monkeypatch):
    config = tiny(stages={"naive": 2, "robust": 0}, machine={"tensorboard": True})
    if importlib.util.find_spec("tensorboard"):
        with warnings.catch_warnings(action="ignore"):
            train(config, fake_store(), tmp_path / "a")
        assert list((tmp_path / "a" / "tensorboard").glob("events*"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"panimbus\[tensorboard\]"):
        train(config, fake_store(), tmp_path / "b")


def test_a_loss_that_is_no_number_stops_the_run(tiny, fake_store, tmp_path):
    with pytest.raises(
        InputError, match=r"not a number any more at step 6[^$]*a smaller optimiser.rate"
    ):
        train(tiny(optimiser={"rate": 1e30}), fake_store(), tmp_path)


DEFAULT = {
    "simulation": {"seeds": [[0, 1]], "held_out": [9, 1], "side_um": 140, "markers": 2},
    "data": {"statistics": "tile", "by_fov": True, "hide_counterstain": 0.2},
    "net": {"stats": ["q50", "counterstain"]},
    "augment": {"zoom": 0.2, "normaliser": 0.6, "normaliser_limit": 0.9},
    "loss": {"agreement": 0.3},
    "optimiser": {"precision": "bfloat16"},
    "stages": {"naive": 3, "robust": 0},
    "check": {"every": 3, "pictures": 1},
    "average": [{"seed": 5, "data": {"crop": 24}, "loss": {"f1": 3.0}}],
    "logit_offset": -0.5,
}


def test_two_equal_trainings_by_the_default_recipe_give_equal_files(tiny, fake_store, tmp_path):
    for name in ("one", "two"):
        result = train(tiny(**DEFAULT), fake_store(), tmp_path / name)
    for file in ("model.safetensors", "model.onnx", "markers.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert set(pd.read_csv(tmp_path / "one" / "markers.csv")["dataset"]) <= {"d0", "simulated"}
    card = read_card(tmp_path / "one" / "model.onnx")
    assert card.trained_on.startswith("The mean of the weights of 2 runs.")
    assert card.metrics["val_f1"] == result["val_f1"]
    runs = [weights(tmp_path / "one" / f"run{k}") for k in (1, 2)]
    mean = 0.5 * runs[0]["head.bias"] + 0.5 * runs[1]["head.bias"] - 0.5
    torch.testing.assert_close(weights(tmp_path / "one")["head.bias"], mean)


def test_simulated_tissue_alone_is_enough(tiny, tmp_path):
    config = tiny(**DEFAULT | {"average": [], "logit_offset": 0.0})
    train(config, None, tmp_path)
    tables = pd.read_csv(tmp_path / "markers.csv")
    assert set(tables["dataset"]) == {"simulated"}
    with pytest.raises(InputError, match="There is nothing to train on"):
        train(tiny(), None, tmp_path / "other")
