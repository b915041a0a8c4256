"""Two processes under torchrun take the step that one takes with the same batch; they share the
noise rules."""

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from panimbus.core.errors import InputError  # noqa: E402
from panimbus.train.distributed import ProcessGroup, process_group  # noqa: E402
from panimbus.train.loop import train  # noqa: E402

HERE = Path(__file__).parent
NETS = {
    "compact": {},
    "paper": {
        "architecture": "paper_unet",
        "settings": {"depth": 2, "root": 4},
        "stats": [],
        "frozen_norm": True,
    },
}
STEPS = {
    "stages": {"naive": 3, "robust": 3},
    "check": {"every": 3, "pictures": 0},
    "loss": {"weighting": "pixel", "f1": 1.0},
}
SCRIPT = """
import sys, torch
sys.path.insert(0, {here!r})
from conftest import TINY, FakeStore
from test_distributed import NETS, STEPS
from panimbus.train.config import make_config, overlaid
from panimbus.train.loop import train

torch.set_num_threads(1)
for name, net in NETS.items():
    config = make_config(overlaid(overlaid(TINY, STEPS), {{"net": net}}), source="x")
    train(config, FakeStore(shares=(0.5, 0.5)), {out!r} + "/" + name)
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    script = out / "script.py"
    script.write_text(SCRIPT.format(here=str(HERE), out=str(out)))
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=300)  # noqa: RUF100, S603
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("name", list(NETS))
def test_two_processes_take_the_same_steps_as_one(two_processes, tiny, fake_store, tmp_path, name):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train(tiny(**STEPS, net=NETS[name]), fake_store(shares=(0.5, 0.5)), tmp_path)
    torch.set_num_threads(before)
    one, two = (
        torch.load(p / "last.pt", weights_only=True) for p in (tmp_path, two_processes / name)
    )
    for key, value in one["net"].items():
        torch.testing.assert_close(two["net"][key], value, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(
        two["threshold"], one["threshold"], rtol=1e-5, atol=1e-6, equal_nan=True
    )
    assert two["best"] == pytest.approx(one["best"])
    assert (two_processes / name / "model.onnx").exists()


def test_a_batch_must_be_shared_evenly():
    group = ProcessGroup(1, 3, torch.device("cpu"))
    assert list(group.slots(12)) == [4, 5, 6, 7]
    with pytest.raises(InputError, match="A batch of 16 cannot be shared by 3 processes"):
        group.slots(16)


def test_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match="torch sees no cuda device"), process_group("cuda"):
        pass


def test_alone():
    with process_group("cpu") as group:
        assert group.is_main
        assert group.total(torch.tensor([1.0, 2.0])).tolist() == [1, 2]
        assert group.gathered(torch.tensor([3.0])).tolist() == [3]
        group.wait()
