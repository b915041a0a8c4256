"""SIGTERM and SIGHUP, as SLURM, Docker and a closed terminal send them; streams that end or take no
text; our own faults."""

import os
import signal
import subprocess
import sys
import time

import pytest

SLOW = """
import os, sys, time
from pathlib import Path
from panimbus.infer import store
real, log = store.FolderStore.save_scores, Path(sys.argv[1])
def noted(self, fov, key, scored, *, maps):
    real(self, fov, key, scored, maps=maps)
    with log.open("a") as file:
        file.write(fov.fov_id + "\\n")
    time.sleep(0.5)
store.FolderStore.save_scores = noted
sys.argv = ["panimbus", *sys.argv[2:]]
from panimbus.cli import main
main()
"""
"""`panimbus` that notes each finished FOV, and rests."""
FOVS = ("fov1", "fov2", "fov3", "fov4")


@pytest.fixture
def dataset(folder, model):
    for k, fov in enumerate(FOVS):
        folder.add(fov, seed=k)
    folder.log = folder.root / "finished.txt"
    folder.run = [
        str(a) for a in folder.arguments("--precision", "float32", "--threads", "1", *model)
    ]
    return folder


def _start(dataset, *before):
    command = [*before, sys.executable, "-c", SLOW, str(dataset.log), *dataset.run]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: RUF100, S603


def _finished(dataset):
    return dataset.log.read_text().split() if dataset.log.exists() else []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_stopped_and_continued(name, dataset, panimbus):
    """Two of four FOVs are finished: they stay, nothing half-written does, and the end is that of a
    calm run."""
    child = _start(dataset)
    while len(_finished(dataset)) < 2:
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    child.send_signal(getattr(signal, name))
    _, err = child.communicate(timeout=60)
    assert child.returncode == 128 + getattr(signal, name), err
    assert f"Interrupted by {name}. Finished parts are kept" in err
    assert "Traceback" not in err
    assert not list(dataset.out.rglob(".*"))
    assert not (dataset.out / "cells.csv").exists()
    child = _start(dataset)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert sorted(_finished(dataset)) == list(FOVS), "none was done twice"
    calm = [str(dataset.root / "calm") if a == str(dataset.out) else a for a in dataset.run]
    assert panimbus(*calm).code == 0
    assert (dataset.out / "cells.csv").read_bytes() == (
        dataset.root / "calm" / "cells.csv"
    ).read_bytes()


def test_nohup(dataset):
    """A run that is to outlive its terminal is not ended by it."""
    child = _start(dataset, "nohup")
    while not _finished(dataset):
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    child.send_signal(signal.SIGHUP)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err


def test_killed_then_tidied(dataset, panimbus):
    """The temporary files of a run that was killed at once are removed by the next one."""
    child = _start(dataset)
    while not _finished(dataset):
        time.sleep(0.02)
    child.kill()
    child.communicate()
    from panimbus.io.files import temporary_name

    name = temporary_name(dataset.out / "cells.h5ad").name.replace(
        f"-{os.getpid()}-", f"-{child.pid}-"
    )
    (dataset.out / name).mkdir()
    assert panimbus(*dataset.run).code == 0
    assert not list(dataset.out.rglob(".*"))


def _run(*arguments, env=None, **more):
    done = subprocess.run(  # noqa: RUF100, S603
        [sys.executable, "-m", "panimbus", *map(str, arguments)],
        check=False, capture_output="stdout" not in more, stderr=subprocess.PIPE if "stdout" in more else None,
        text=True, timeout=120, env={**os.environ, **(env or {})}, **more,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


def test_nobody_reads():
    """| head"""
    reader, writer = os.pipe()
    os.close(reader)
    done = _run("models", "compact-7", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_standard_output_is_full():
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = _run("models", stdout=full)
    assert done.returncode == 2
    assert "disk is full" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437"])
def test_terminals_that_lack_letters(encoding, folder, model):
    folder.add("fov1")
    arguments = ("inspect", folder.images, "--labels", folder.labels, "--mpp", "0.5", *model)
    done = subprocess.run(  # noqa: RUF100, S603
        [sys.executable, "-m", "panimbus", *map(str, arguments)],
        check=False, capture_output=True, timeout=120, env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "m/px" in done.stdout.decode(encoding)
    if encoding == "ascii":
        assert "um/px" in done.stdout.decode(encoding)


FAULT = """
import sys
from panimbus.model import weights
def broken(spec=None):
    raise AttributeError("'NoneType' object has no attribute 'card'")
weights.resolve_model = broken
sys.argv = ["panimbus", "models", "compact-7"]
from panimbus.cli import main
main()
"""


def test_our_own_fault(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", FAULT], check=False, capture_output=True, text=True, env=env
    )  # noqa: RUF100, S603
    assert done.returncode == 1
    assert "This is a bug in panimbus" in done.stderr
    assert "AttributeError: 'NoneType' object" in done.stderr
    assert "Traceback" not in done.stderr
    (file,) = tmp_path.glob("panimbus-fault-*.txt")
    assert str(file) in done.stderr
    assert "Traceback" in file.read_text()
    assert "panimbus models compact-7" in file.read_text()
    done = subprocess.run(  # noqa: RUF100, S603
        [sys.executable, "-c", FAULT],
        check=False,
        capture_output=True,
        text=True,
        env={**env, "PANIMBUS_DEBUG": "1"},
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
