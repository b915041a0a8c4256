"""Small labelled datasets."""

import numpy as np
import pytest

from panimbus.core.fov import Fov
from panimbus.core.normaliser import Normalisation
from panimbus.data.source import Source, scan_fovs


def _source(
    make_tissue,
    *,
    name="one",
    fovs=3,
    shape=(70, 90),
    n=30,
    channels=("a", "b"),
    mpp=1.0,
    splits=None,
    **more,
):
    made = []
    for k in range(fovs):
        image, labels = make_tissue(shape, n, seed=k, channels=len(channels))
        made.append(Fov(f"{name}{k}", image, channels, labels, mpp))
    scanned = scan_fovs(name, made, spec=Normalisation(1.0, 99.0))
    rng = np.random.default_rng(0)
    targets = {
        f.fov.fov_id: rng.choice([-1, 0, 1], (f.cells.n, len(channels))).astype(np.float32)
        for f in scanned.fovs
    }
    order = splits or ("train", "val", "test")
    return Source(
        scanned,
        tuple(channels),
        targets,
        {f.fov.fov_id: order[k % len(order)] for k, f in enumerate(scanned.fovs)},
        **more,
    )


@pytest.fixture(scope="session")
def make_source(make_tissue):
    """``make_source(name=, fovs=, shape=, n=, channels=, mpp=, splits=, ...)``: a labelled dataset
    of random tissue."""

    def make(**settings):
        return _source(make_tissue, **settings)

    return make
