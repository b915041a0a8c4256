"""Label images for some of the FOVs."""

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import MatchError, ReadError
from panimbus.core.fov import Fov
from panimbus.io import attach_labels


@pytest.fixture
def fovs():
    return [
        Fov(name, np.zeros((1, 8, 8), np.uint8), ("x",), None, 1.0)
        for name in ("fov1", "fov2", "fov10")
    ]


def test_by_name(fovs, tmp_path):
    for name in ("fov1_whole_cell.tiff", "fov10.tif"):
        tifffile.imwrite(tmp_path / name, np.ones((8, 8), np.uint16))
    got = attach_labels(fovs, tmp_path)
    assert [f.fov_id for f in got] == ["fov1", "fov2", "fov10"]
    assert [f.labels is not None for f in got] == [True, False, True]
    got = attach_labels(fovs, {"fov2": tmp_path / "fov10.tif"})
    assert [f.labels is not None for f in got] == [False, True, False]


def test_labels_of_nothing(fovs, tmp_path):
    tifffile.imwrite(tmp_path / "fov3.tif", np.ones((8, 8), np.uint16))
    with pytest.raises(MatchError, match="fov3"):
        attach_labels(fovs, tmp_path)
    with pytest.raises(MatchError, match="fov9"):
        attach_labels(fovs, {"fov9": tmp_path / "fov3.tif"})
    with pytest.raises(ReadError, match="nowhere"):
        attach_labels(fovs, tmp_path / "nowhere")
