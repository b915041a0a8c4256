"""What a killed run leaves is removed by the next; nothing of a live one, and nothing under another
name."""

import os
import subprocess
import sys
import time

import pytest

from panimbus.io import files
from panimbus.io.files import atomic_path, remove_leftovers, temporary_name


def _other(path, pid):
    """A temporary name as another process has it."""
    name = temporary_name(path).name.replace(f"-{os.getpid()}-", f"-{pid}-")
    (path.parent / name).mkdir()
    (path.parent / name / "half.csv").write_text("half")
    return path.parent / name


@pytest.fixture
def ended():
    """Number of a process that is gone."""
    return int(
        subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
        ).stdout
    )


def test_of_a_process_that_is_gone(tmp_path, ended):
    (tmp_path / "fovs" / "fov1").mkdir(parents=True)
    (tmp_path / "fovs" / "fov1" / "scan.npz").write_text("kept")
    (tmp_path / ".cells.csv.mine").write_text("kept")
    gone = [
        _other(tmp_path / "cells.h5ad", ended),
        _other(tmp_path / "fovs" / "fov1" / "scores.npz", ended),
    ]
    assert remove_leftovers(tmp_path) == 2
    assert not any(p.exists() for p in gone)
    assert (tmp_path / ".cells.csv.mine").exists()
    assert (tmp_path / "fovs" / "fov1" / "scan.npz").exists()


def test_of_a_live_process(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        live = _other(tmp_path / "cells.h5ad", child.pid)
        assert remove_leftovers(tmp_path) == 0
        assert live.exists()
        child.communicate(b"\n")
    assert remove_leftovers(tmp_path) == 1


def test_what_this_process_is_writing_stays(tmp_path):
    with atomic_path(tmp_path / "cells.csv") as path:
        path.write_text("whole")
        assert remove_leftovers(tmp_path) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["cells.csv"]
    files.release_temporary(
        _other(tmp_path / "cells.h5ad", os.getpid())
    )  # of an earlier process with the same number, as in a container
    assert remove_leftovers(tmp_path) == 1


def test_of_another_computer(tmp_path, ended, monkeypatch):
    path = _other(tmp_path / "cells.h5ad", ended)
    monkeypatch.setattr(files, "_host", lambda: "00000000")
    assert remove_leftovers(tmp_path) == 0
    old = time.time() - files.OLD_S - 60
    os.utime(path, (old, old))
    assert remove_leftovers(tmp_path) == 1


def test_links_are_not_followed(tmp_path, ended):
    (tmp_path / "out").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.tiff").write_text("kept")
    name = _other(tmp_path / "out" / "cells.h5ad", ended)
    link = name.with_name(name.name[:-8] + "00000000")
    link.symlink_to(tmp_path / "data")
    assert remove_leftovers(tmp_path / "out") == 2
    assert (tmp_path / "data" / "precious.tiff").exists()
