"""The normaliser of a dataset: all FOVs are scanned and pooled; some may lack a label image."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.histogram import Histogram
from panimbus.core.normaliser import Normalisation, PooledStats, check_normaliser, fit_normaliser
from panimbus.core.progress import Progress
from panimbus.core.scale import ChannelScale, ChannelStats
from panimbus.core.scan import scan_fov


def _fit(fovs, channels, percentile=99.0, **kwargs):
    return fit_normaliser(fovs, channels, Normalisation(1.0, percentile), **kwargs)


def test_fovs_without_labels_count_with_their_pixels(make_tissue):
    image, labels = make_tissue((60, 50), 20, seed=1)
    other, _ = make_tissue((40, 70), 20, seed=2)
    fovs = [Fov("a", image, ("x", "y"), labels, 1.0), Fov("b", other, ("x", "y"), None, 1.0)]
    progress, scans = [], []
    scale = _fit(
        fovs,
        ("y",),
        progress=progress.append,
        on_scan=lambda fov, cells, scan: scans.append((fov.fov_id, cells.n, scan.mean.shape)),
    )
    assert progress == [Progress("scan", "a", 0, 2), Progress("scan", "b", 1, 2)]
    assert scans == [("a", len(np.unique(labels)) - 1, (len(np.unique(labels)) - 1, 1))]
    both = np.concatenate([image[1].ravel(), other[1].ravel()])
    assert scale.value("y") == pytest.approx(np.percentile(both, 99))
    assert scale.fov_ids == ("a", "b")
    alone = scan_fov(fovs[0], ("y",), 1.0)[1].stats["y"]
    assert scale.stats["y"] == ChannelScale.fit({"y": alone}, percentile=99).stats["y"]


def test_all_labelled_is_the_merge_of_scans(make_tissue):
    fovs = [Fov(n, *_swapped(make_tissue((50, 50), 15, seed=k))) for k, n in enumerate("ab")]
    stats = ChannelStats()
    for fov in fovs:
        stats = stats.merge(scan_fov(fov, ("x",), 1.0)[1].stats["x"])
    merged = ChannelScale.fit({"x": stats}, percentile=99.9, fov_ids=["a", "b"])
    assert _fit(fovs, ("x",), 99.9) == merged


def _swapped(tissue):
    image, labels = tissue
    return image, ("x", "y"), labels, 0.5


def test_the_fov_is_named(make_tissue):
    image, _ = make_tissue((20, 20), 3, dtype=np.float32)
    image[0, 3, 3] = np.nan
    with pytest.raises(InputError, match="FOV 'a', channel 'x'"):
        _fit([Fov("a", image, ("x", "y"))], ("x",))


def test_a_reference_channel_stops_nothing(make_tissue):
    image, labels = make_tissue((60, 50), 30, dtype=np.float32)
    fov = Fov("a", image, ("DAPI", "x"), labels, 1.0)
    whole = _fit([fov], ("DAPI", "x"))
    one = _fit([fov], ("x",), reference=("DAPI",))
    assert one.normaliser == whole.normaliser
    assert one.stats == whole.stats
    holed = image.copy()
    holed[0, 3, 3] = np.nan
    damaged = [fov.with_(image=holed), fov.with_(fov_id="b", labels=None)]
    scale = _fit(damaged, ("x",), reference=("DAPI",))
    assert scale.value("x") == pytest.approx(np.percentile(image[1], 99), rel=1e-4)
    with pytest.raises(InputError, match="'DAPI': 1 of"):
        _fit(damaged, ("DAPI", "x"))


def test_the_order_of_fovs_changes_nothing():
    """To the last bit, though sums of floats depend on their order."""
    parts = [
        {"x": ChannelStats(Histogram.of(np.array([k])), outside_sum=v, outside_count=1)}
        for k, v in enumerate((1e16, 1.0, -1e16, 0.1))
    ]
    pooled = [PooledStats(), PooledStats()]
    for part in parts:
        pooled[0].add(part)
    for part in reversed(parts):
        pooled[1].add(part)
    first, second = (p.to_dict()["x"] for p in pooled)
    assert first.outside_sum == second.outside_sum == 1.1
    np.testing.assert_array_equal(first.pixels.keys, [0, 1, 2, 3])
    assert pooled[0].to_dict(["y"])["y"].pixels.total == 0


def test_a_normaliser_of_another_percentile_is_refused():
    scale = ChannelScale(99.9, "nonzero", {"x": 1.0}, {"x": {}})
    check_normaliser(scale, Normalisation(1.0, 99.9, "nonzero"), "m")
    with pytest.raises(InputError, match=r"not made for this model(.|\n)*'m'(.|\n)*nonzero"):
        check_normaliser(scale, Normalisation(1.0, 99.9), "m")
