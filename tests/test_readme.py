"""The README's commands and Python, run as a reader would run them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"
SETUP = ("make ", "pip install")  # what has brought this environment about


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the demonstration has been run."""
    path = tmp_path_factory.mktemp("readme")
    run(path, sys.executable, "-m", "panimbus", "demo", "--out", "demo")
    return path


def run(folder, *command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(  # noqa: RUF100, S603
        command,
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"


def test_commands(folder):
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if not line.startswith(SETUP)]
    assert [c[1] for c in commands if c] == ["inspect", "predict", "phenotype"]
    for command in commands:
        run(folder, *command)
    assert {"cells.h5ad", "cells.csv", "normaliser.json", "run.json"} <= {
        p.name for p in (folder / "results").iterdir()
    }
    assert {"types.h5ad", "types.csv", "report.html"} <= {
        p.name for p in (folder / "types").iterdir()
    }


def test_python(folder):
    (code,) = blocks("python")
    run(
        folder,
        sys.executable,
        "-c",
        code + "\nassert positive.shape == table.shape\nassert positive.to_numpy().any()",
    )
