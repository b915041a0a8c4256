"""Shared by all tests: deterministic hypothesis, small segmentations."""

import signal

import numpy as np
import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job ignores Ctrl-C, and so would the programs tested
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("panimbus", max_examples=50, deadline=None, derandomize=True, database=None)
settings.load_profile("panimbus")


def _tissue(shape, n, *, seed=0, channels=2, radius=6, ids=None, dtype=np.uint16):
    """``n`` touching cells grown from random seeds, and one dim-and-bright gamma noise a channel: (C, Y, X) and (Y, X)."""
    from skimage.segmentation import expand_labels

    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int64)
    labels[rng.integers(0, shape[0], n), rng.integers(0, shape[1], n)] = np.arange(1, n + 1)
    labels = expand_labels(labels, radius)
    bright = rng.random((channels, n + 1)) < 0.4
    image = rng.gamma(2.0, 20.0 + 100.0 * bright[:, labels])
    if ids is not None:
        labels = np.where(labels > 0, np.asarray(ids)[labels - 1], 0)
    return image.astype(dtype), labels.astype(np.uint32 if ids is None else np.asarray(ids).dtype)


@pytest.fixture(scope="session")
def make_tissue():
    """``make_tissue((Y, X), n, seed=, channels=, radius=, ids=, dtype=)``: an image and its label image."""
    return _tissue
