"""Whole FOVs as training examples, alone, simulated, and mixed with a store."""

import json

import numpy as np
import pytest

from panimbus.core.errors import InputError, ReadError
from panimbus.simulate.optics import PLATFORMS
from panimbus.train.config import SimulationConfig
from panimbus.train.examples import Examples, mirrored
from panimbus.train.fovs import (
    FovStore,
    LabelledFov,
    MixedStore,
    cell_quantiles,
    open_store,
    write_info,
)
from panimbus.train.simulation import draw_tissue, likely_counterstain, simulated_store


def labelled(seed=0, shape=(40, 60)):
    """Two channels of cells of 6 x 6 px; a third of them carry the first, all the second."""
    rng = np.random.default_rng(seed)
    index = np.full(shape, -1, np.int32)
    boxes = [(y, x) for y in range(0, shape[0] - 5, 8) for x in range(0, shape[1] - 5, 8)]
    for k, (y, x) in enumerate(boxes):
        index[y : y + 6, x : x + 6] = k
    n = len(boxes)
    target = np.stack([np.arange(n) % 3 == 0, np.ones(n)]).astype(np.int8)
    mean = np.where(target, 0.6, 0.1).astype(np.float16)
    image = np.concatenate([mean, np.zeros((2, 1), np.float16)], 1)[:, index]
    image += rng.uniform(0, 0.01, image.shape).astype(np.float16)
    return LabelledFov(image, index, mean, target, ("CD3", "DNA"), np.array([np.nan, 1.0]))


@pytest.fixture
def folder(tmp_path):
    for k, split in enumerate(("train", "train", "val")):
        labelled(k).save(tmp_path / "one" / split / f"f{k}.npz")
    labelled(3, (24, 24)).save(tmp_path / "two" / "train" / "small.npz")
    write_info(tmp_path, {"one": 3.0, "two": 1.0}, mpp=1.0, percentile=99.9)
    return tmp_path


def test_one_example_per_channel_and_fov(folder):
    store = open_store(folder)
    assert isinstance(store, FovStore)
    assert [d.share for d in store.info.datasets] == [0.75, 0.25]
    assert store.examples["fov"].tolist() == ["f0", "f0", "f1", "f1", "f2", "f2", "small", "small"]
    assert store.rows("train").tolist() == [0, 1, 2, 3, 6, 7]
    assert store.rows("val").tolist() == [4, 5]
    example, fov = store.read(2), labelled(1)
    np.testing.assert_array_equal(example.image, fov.image[0].astype(np.float32))
    np.testing.assert_array_equal(example.index, fov.index)
    assert (example.dataset, example.marker, example.fov) == ("one", "CD3", "f1")
    assert example.stats["q99"] == pytest.approx(0.6, abs=1e-3)
    assert example.stats["outside"] == pytest.approx(0.005, abs=1e-3)
    assert "counterstain" not in example.stats
    assert store.read(3).stats["counterstain"] == 1


def test_folders_that_are_no_store(folder):
    (folder / "one" / "extra").mkdir()
    labelled().save(folder / "one" / "extra" / "f9.npz")
    with pytest.raises(InputError, match="not the folder of a split"):
        FovStore(folder)
    (folder / "fovs.json").write_text(json.dumps({"mpp": 1}))
    with pytest.raises(ReadError, match="shares of the datasets are missing"):
        FovStore(folder)


def test_a_damaged_fov(folder):
    path = folder / "one" / "train" / "f0.npz"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ReadError, match=r"f0.npz: the FOV cannot be read"):
        FovStore(folder)


def test_quantiles_of_literal_means():
    values = cell_quantiles(np.arange(101, dtype=np.float32))
    assert (values["q01"], values["q50"], values["q99"]) == (1, 50, 99)
    assert set(cell_quantiles(np.zeros(0, np.float32)).values()) == {0}


def test_a_small_fov_continues_as_its_mirror_image(folder, tiny):
    plane = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(
        mirrored(plane, 4), [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]]
    )
    assert mirrored(plane, 2) is plane
    store, config = FovStore(folder), tiny(data={"crop": 48}, augment={"zoom": 0.2})
    card = config.card(mpp=1.0, percentile=99.9, over="all")
    rng = np.random.default_rng(0)
    (item,) = Examples(config, card, store).random_crop(store.read(6), rng)
    assert item.planes.shape[1:] == (48, 48)


def test_stores_are_mixed_in_their_shares(folder, tiny, fake_store):
    store = MixedStore([(FovStore(folder), 0.5), (fake_store(), 0.5)])
    assert [d.name for d in store.info.datasets] == ["one", "two", "d0"]
    assert store.info.tile == 64
    config = tiny()
    examples = Examples(config, config.card(mpp=1.0, percentile=99.9, over="all"), store)
    names = [examples.pairs[examples[s, 0][0].group[0] // 2][0] for s in range(200)]
    assert 0.35 < names.count("d0") / 200 < 0.65
    assert 0.25 < names.count("one") / 200 < 0.5
    assert store.read(8).dataset == "d0"
    with pytest.raises(InputError, match="datasets of the same name"):
        MixedStore([(fake_store(), 0.5), (fake_store(), 0.5)])
    with pytest.raises(InputError, match="made for different settings"):
        MixedStore([(fake_store(mpp=0.5), 0.5), (fake_store(), 0.5)])


def test_by_fov_draws_every_fov_alike(folder, tiny):
    config = tiny(data={"by_fov": True, "crop": 16})
    card = config.card(mpp=1.0, percentile=99.9, over="all")
    examples = Examples(config, card, FovStore(folder))
    assert [[len(rows) for rows in groups] for groups in examples._groups] == [[2, 2], [2]]


SMALL = SimulationConfig(seeds=((0, 1),), held_out=(9, 1), side_um=140, markers=2)


def test_simulated_tissue_is_made_once_and_alike(tmp_path):
    reports = []
    stores = [
        simulated_store(
            SMALL,
            tmp_path / name,
            mpp=1.0,
            percentile=99.9,
            report=lambda k, n: reports.append((k, n)),
        )
        for name in ("a", "b", "a")
    ]
    assert reports == [(1, 2), (2, 2)] * 2
    assert stores[0].examples.equals(stores[1].examples)
    assert set(stores[0].examples["split"]) == {"train", "val"}
    assert set(stores[0].examples["marker"]) <= set(PLATFORMS)
    for row in range(len(stores[0].examples)):
        a, b = stores[0].read(row), stores[1].read(row)
        np.testing.assert_array_equal(a.image, b.image)
        assert a.image.shape == (140, 140)
        assert np.percentile(a.image, 99.9) == pytest.approx(1, abs=0.1)
        assert set(np.unique(a.target)) <= {-1, 0, 1}
        assert 0 <= a.stats["counterstain"] <= 1


def test_correlation_with_a_counterstain_that_is_not_there():
    rng = np.random.default_rng(0)
    assert likely_counterstain(np.array([1] * 19 + [-1, 0], np.int8), rng) == 1
    none, some = (likely_counterstain(np.array(t, np.int8), rng) for t in ([0, 0, -1], [0, 1]))
    assert none > 0.6 > some
    glowing = [likely_counterstain(np.array([0, 1], np.int8), rng, glow=True) for _ in range(50)]
    assert max(glowing) > 0.6 > min(glowing)


def test_a_wrong_pixel_size_makes_cells_look_larger_or_smaller():
    right = SimulationConfig(side_um=140, markers=1, platforms={"codex": 1}, wrong_mpp=0)
    wrong = right.model_copy(update={"wrong_mpp": 1.0})
    size = {}
    for name, config in (("right", right), ("wrong", wrong)):
        tissues = [draw_tissue(seed, config) for seed in range(6)]
        assert {t.mpp for t in tissues} == {0.5}
        assert {t.image.shape for t in tissues} == {(1, 280, 280)}
        size[name] = [np.median(np.bincount(t.labels.ravel())[1:]) for t in tissues]
    ratio = np.sqrt(np.array(size["wrong"]) / size["right"])
    assert ratio.min() < 0.9
    assert ratio.max() > 1.1
