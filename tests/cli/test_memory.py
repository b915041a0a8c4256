"""Memory that does not suffice: one message that names the options that take less."""

import os
import subprocess
import sys

import numpy as np
import pytest


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.20 GiB for an array"),
        RuntimeError("Exception from src/plugin.cpp:54:\nstd::bad_alloc"),
        RuntimeError(
            "Exception from src/core.cpp:117:\nException from src/plugin.cpp:54:\ncan't alloc\n\n"
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
        ),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_one_message(panimbus, folder, monkeypatch, error):
    from panimbus.infer import predict as module

    folder.add("fov1")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module, "make_plan", fail)
    done = panimbus(*folder.arguments())
    assert done.code == 2
    assert "There is not enough memory" in done.err
    assert "a smaller --tile" in done.err
    assert "--channels" in done.err


def test_the_options_are_those_of_the_verb(panimbus, tmp_path, monkeypatch):
    from panimbus import simulate

    def fail(*_, **__):
        np.zeros((1 << 20, 1 << 20, 1 << 10))

    monkeypatch.setattr(simulate, "simulate_dataset", fail)
    done = panimbus("simulate", "--out", tmp_path / "out")
    assert done.code == 2
    assert "Unable to allocate" in done.err
    assert "a smaller --side" in done.err
    assert "--tile" not in done.err


@pytest.mark.skipif(sys.platform != "linux", reason="limits of POSIX, and of this loader")
@pytest.mark.parametrize("megabytes", [480, 650])
def test_a_real_limit(folder, megabytes):
    """Not even the libraries fit: what fails first differs, and some of them say so themselves."""
    folder.add("fov1")
    code = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, ({megabytes} << 20,)"
        " * 2); "
    )
    code += "sys.argv[0] = 'panimbus'; runpy.run_module('panimbus', run_name='__main__')"
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, folder.arguments("--threads", "1"))]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=env
    )  # noqa: RUF100, S603
    assert "Traceback" not in done.stderr
    if (
        done.returncode >= 0
    ):  # below 0 a library in C++ ended the process, and no Python was left to say anything
        assert done.returncode == 2, done.stderr
        assert "not enough memory" in done.stderr or "more memory than there is" in done.stderr
