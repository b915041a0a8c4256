"""Pictures of where silver labels and image disagree."""

import numpy as np

from panimbus.core.fov import Fov
from panimbus.data.source import Source, scan_fovs
from panimbus.evaluate.silver_page import NEGATIVE_EDGE, POSITIVE_EDGE, worst_crop


def _source(target):
    """Two FOVs of 4 x 4 square cells of 20 px; cell k has brightness k."""
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((20, 20), int))
    fovs = [Fov(name, labels.astype(np.uint16)[None], ("a",), labels, 1.0) for name in ("x", "y")]
    scanned = scan_fovs("one", fovs)
    return Source(scanned, ("a",), target, {"x": "train", "y": "train"})


def test_the_window_with_the_most_contradictions():
    right = np.r_[np.zeros(8), np.ones(8)].astype(np.float32)[:, None]
    crop = worst_crop(_source({"x": right, "y": 1 - right}), "a")
    assert crop.fov_id == "y"
    assert crop.odd > 0
    colours = {tuple(int(v) for v in c) for c in crop.picture.reshape(-1, 3)}
    assert {POSITIVE_EDGE, NEGATIVE_EDGE} <= colours


def test_nothing_to_show():
    none = np.full((16, 1), -1, np.float32)
    assert worst_crop(_source({"x": none, "y": none}), "a") is None


def test_one_class_alone_is_shown():
    ones = np.ones((16, 1), np.float32)
    crop = worst_crop(_source({"x": ones, "y": ones}), "a")
    assert (crop.positive, crop.negative, crop.odd) == (16, 0, 0)
