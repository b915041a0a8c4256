"""Whose cells the net is told of: the FOV's own, or those of the dataset."""

from dataclasses import replace

import numpy as np
import pytest

import panimbus
from panimbus.core.normaliser import fit_normaliser
from panimbus.core.scale import FEWEST_CELLS, ChannelStats, PackedStatistics, own_statistics
from panimbus.model.weights import resolve_model

FAST = panimbus.PredictSettings("none", evidence=False)


@pytest.fixture(scope="module")
def fovs():
    """Two FOVs of which the second is three times as bright, with the counterstain."""
    out = []
    for seed, gain in ((1, 1), (2, 3)):
        tissue = panimbus.simulate_tissue((240, 240), panel=2, seed=seed, platform="codex")
        nuclei = (20 + tissue.labels % 50) * (tissue.labels > 0)
        image = np.concatenate([gain * tissue.image, nuclei[None]])
        names = ["CD3", "CD20", "DAPI"]
        out.append(
            panimbus.from_array(
                image.astype(np.float32), tissue.labels, channels=names, mpp=0.5, fov_id=f"f{seed}"
            )
        )
    return out


def test_the_default_model_is_told_of_the_fov(fovs):
    card = resolve_model(None).card
    assert card.statistics == "fov"
    scale = fit_normaliser(fovs, fovs[0].channels, card, reference=())
    table = panimbus.predict(fovs, scale=scale, settings=FAST)
    first = (table.obs["fov_id"] == "f1").to_numpy()
    assert first.sum() >= FEWEST_CELLS
    alone = panimbus.predict(fovs[0], scale=scale, settings=FAST)
    np.testing.assert_array_equal(table[first].X, alone.X)
    # the normaliser matters, the dataset's statistics do not
    other = {c: {k: 5 * v for k, v in of.items()} for c, of in scale.stats.items()}
    same = panimbus.predict(fovs[0], scale=replace(scale, stats=other), settings=FAST)
    np.testing.assert_array_equal(same.X, alone.X)
    brighter = replace(scale, normaliser={c: 4 * v for c, v in scale.normaliser.items()})
    assert not np.array_equal(panimbus.predict(fovs[0], scale=brighter, settings=FAST).X, alone.X)


def test_a_fov_of_few_cells_is_described_by_the_dataset(fovs):
    labels = np.array(fovs[0].labels[:])
    labels[labels > FEWEST_CELLS - 1] = 0
    few = fovs[0].with_(labels=labels)
    scale = fit_normaliser(fovs, few.channels, resolve_model(None).card)
    plain = panimbus.predict(few, scale=scale, settings=FAST)
    other = {c: {k: 5 * v for k, v in of.items()} for c, of in scale.stats.items()}
    told = panimbus.predict(few, scale=replace(scale, stats=other), settings=FAST)
    assert not np.array_equal(plain.X, told.X)


def test_the_counterstain_is_looked_at_where_only_other_channels_are_scored(fovs):
    scale = fit_normaliser(fovs, ["CD3"], resolve_model(None).card, reference=("DAPI",))
    assert "counterstain" in scale.stats["CD3"]
    table = panimbus.predict(fovs[0], channels=["CD3"], scale=scale, settings=FAST)
    without = {c: {k: v for k, v in of.items() if k != "counterstain"}
               for c, of in scale.stats.items()}  # fmt: skip
    same = panimbus.predict(
        fovs[0], channels=["CD3"], scale=replace(scale, stats=without), settings=FAST
    )
    np.testing.assert_array_equal(same.X, table.X)


def test_nothing_is_known_of_no_cells():
    assert own_statistics({"CD3": ChannelStats()}).unpack() == {}


def test_packed_statistics_are_the_same():
    stats = {"CD3": {"q01": 0.1, "q99": 1 / 3, "counterstain": 0.0}, "CD20": {"q01": 2.0}}
    packed = PackedStatistics.of(stats)
    assert packed.values.shape == (2, 3)
    assert packed.unpack() == stats
    assert PackedStatistics.of({}).unpack() == {}
