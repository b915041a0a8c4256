"""The normaliser of a dataset of which only some FOVs have label images."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale, ChannelStats
from panimbus.core.scan import pool, scan_cells, scan_channels


def test_fovs_without_labels_count_with_their_pixels(make_tissue):
    image, labels = make_tissue((60, 50), 20, seed=1)
    other, _ = make_tissue((40, 70), 20, seed=2)
    fovs = [Fov("a", image, ("x", "y"), labels, 1.0), Fov("b", other, ("x", "y"), None, 1.0)]
    seen = []
    pooled = pool(fovs, ("y",), 1.0, seen=lambda fov: seen.append(fov.fov_id))
    assert seen == ["a", "b"]
    both = np.concatenate([image[1].ravel(), other[1].ravel()])
    scale = ChannelScale.fit(pooled, percentile=99)
    assert scale.value("y") == pytest.approx(np.percentile(both, 99))
    alone = scan_channels(fovs[0], scan_cells(fovs[0], 1.0), ("y",)).stats["y"]
    assert scale.stats["y"] == ChannelScale.fit({"y": alone}, percentile=99).stats["y"]


def test_all_labelled_is_the_merge_of_scans(make_tissue):
    fovs = [Fov(n, *_swapped(make_tissue((50, 50), 15, seed=k))) for k, n in enumerate("ab")]
    stats = ChannelStats()
    for fov in fovs:
        stats = stats.merge(scan_channels(fov, scan_cells(fov, 1.0), ("x",)).stats["x"])
    whole, merged = (
        ChannelScale.fit({"x": s}, percentile=99.9) for s in (pool(fovs, ("x",), 1.0)["x"], stats)
    )
    assert whole == merged


def _swapped(tissue):
    image, labels = tissue
    return image, ("x", "y"), labels, 0.5


def test_the_fov_is_named(make_tissue):
    image, _ = make_tissue((20, 20), 3, dtype=np.float32)
    image[0, 3, 3] = np.nan
    with pytest.raises(InputError, match="FOV 'a', channel 'x'"):
        pool([Fov("a", image, ("x", "y"))], ("x",), 1.0)


def test_what_is_only_looked_at_stops_nothing(make_tissue):
    image, labels = make_tissue((60, 50), 30, dtype=np.float32)
    fov = Fov("a", image, ("DAPI", "x"), labels, 1.0)
    whole = pool([fov], ("DAPI", "x"), 1.0)
    fit = {"percentile": 99.0}
    assert ChannelScale.fit(
        pool([fov], ("x",), 1.0, reference=("DAPI",)), **fit
    ) == ChannelScale.fit({c: whole[c] for c in ("x", "DAPI")}, **fit)
    holed = image.copy()
    holed[0, 3, 3] = np.nan
    damaged = [fov.with_(image=holed), fov.with_(fov_id="b", labels=None)]
    found = pool(damaged, ("x",), 1.0, reference=("DAPI",))
    assert ChannelScale.fit(found, **fit).value("x") == pytest.approx(
        np.percentile(image[1], 99), rel=1e-4
    )
    with pytest.raises(InputError, match="'DAPI': 1 of"):
        pool(damaged, ("DAPI", "x"), 1.0)
