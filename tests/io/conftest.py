"""Shared by the readers' tests: real data where it is, a watch on open files, small files of each
format."""

import time
from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture(autouse=True)
def no_open_files(tmp_path):
    """Fail where a test leaves a file in its folder open."""
    yield
    until = time.monotonic() + 5
    while (left := _open_files(tmp_path)) and time.monotonic() < until:
        time.sleep(
            0.01
        )  # the test server may still be answering what was asked beside a chunk that failed
    assert not left


def _open_files(folder):
    fds = Path("/proc/self/fd")
    targets = []
    for fd in fds.iterdir() if fds.is_dir() else ():
        try:
            targets.append(str(fd.readlink()))
        except OSError:
            continue
    return [t for t in targets if t.startswith(str(folder)) and not t.endswith("(deleted)")]


@pytest.fixture
def stack():
    """(C, Y, X) = (3, 70, 50) uint16, every pixel different."""
    return np.arange(3 * 70 * 50, dtype=np.uint16).reshape(3, 70, 50)


@pytest.fixture
def ome(tmp_path, stack):
    """Write an OME-TIFF and return its path."""

    def write(
        name="fov1.ome.tiff", data=stack, channels=("CD3", "CD20", "DAPI"), mpp=0.5, **options
    ):
        meta = {
            "axes": "CYX",
            "PhysicalSizeX": mpp,
            "PhysicalSizeY": mpp,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
        }
        meta |= {"Channel": {"Name": list(channels)}} if channels else {}
        meta |= options.pop("metadata", {})
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, data, ome=True, metadata=meta, photometric="minisblack", **options)
        return path

    return write


@pytest.fixture
def labels():
    """(70, 50) uint16 with cells 1 and 2."""
    out = np.zeros((70, 50), np.uint16)
    out[2:10, 3:9], out[20:40, 30:45] = 1, 2
    return out
