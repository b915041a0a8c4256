"""Mantis Viewer's files of channels: one a channel, whatever its name."""

import numpy as np
import pandas as pd

from panimbus.core.fov import Fov
from panimbus.io.mantis import write_mantis
from panimbus.io.segmented import Segmented


def test_channels_with_alike_names_have_files_of_their_own(stack, labels, tmp_path):
    channels = ("CD3/a", "CD3:a", "cd3_A")
    fov = Fov("fov1", stack, channels, labels, 0.5)
    cells = pd.DataFrame({"fov": ["fov1"], "label": [1], "n": [0.5]})
    write_mantis(tmp_path / "mantis", [Segmented("fov1", labels, 0.5, fov)], cells, cells)
    files = [p.name for p in (tmp_path / "mantis" / "fov1" / "markers").iterdir()]
    assert len({f.lower() for f in files}) == 3


def test_names_as_they_are_where_they_can_be(stack, labels, tmp_path):
    fov = Fov("fov1", stack, ("CD3 µ", "x" * 400, "."), labels, 0.5)
    cells = pd.DataFrame({"fov": ["fov1"], "label": [1], "n": [0.5]})
    long = Segmented("y" * 300, np.zeros((4, 4), np.uint8), None)
    write_mantis(tmp_path / "mantis", [Segmented("fov1", labels, 0.5, fov), long], cells, cells)
    files = {p.name for p in (tmp_path / "mantis" / "fov1" / "markers").iterdir()}
    assert "CD3 µ.tiff" in files
    assert len(files) == 3
    assert {p.name for p in (tmp_path / "mantis").iterdir() if p.is_dir()} == {"fov1"}
