"""From tiles to crops: who carries a loss, and that (seed, step, slot) decides everything."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.train.examples import Examples, check_fits, validation_rows


def made(config, store):
    return Examples(config, config.card(mpp=1.0, percentile=99.9, over="all"), store)


def test_undefined_cells_and_background_carry_no_loss(tiny, fake_store):
    store = fake_store()
    item, example = made(tiny(), store).whole(0), store.read(0)
    undefined = np.append(example.target < 0, True)[example.index]
    assert undefined.any()
    np.testing.assert_array_equal(item.cells == 0, undefined)
    assert len(item.target) == item.cells.max() == (example.target >= 0).sum()


def test_cells_keep_their_labels(tiny, fake_store):
    store = fake_store()
    examples = made(tiny(augment={"rotate": 90.0, "elastic": 1.0, "probability": 1.0}), store)
    bright = 0
    for slot in range(20):
        item = examples[3, slot][0]
        for c in range(1, len(item.target) + 1):
            inside = item.planes[0][item.cells == c]
            bright += (inside.mean() > 0.4) == (item.target[c - 1] > 0.5)
    assert bright > 0.95 * sum(len(examples[3, slot][0].target) for slot in range(20))


def test_cells_cut_by_the_crop_are_left_out(tiny, fake_store):
    store = fake_store()
    strict, all_of_them = (made(tiny(data={"least_share": share}), store) for share in (0.999, 0.0))
    a, b = strict[0, 0][0], all_of_them[0, 0][0]
    assert len(a.target) < len(b.target)
    edge = np.concatenate([b.cells[0], b.cells[-1], b.cells[:, 0], b.cells[:, -1]])
    assert (edge > 0).any()


def test_step_and_slot_decide(tiny, fake_store):
    store = fake_store()
    a, b = made(tiny(), store), made(tiny(machine={"cache_mb": 0}), store)
    for key in ((0, 0), (5, 3)):
        for x, y in zip(vars(a[key][0]).values(), vars(b[key][0]).values(), strict=True):
            np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a[0, 0][0].planes, a[0, 1][0].planes)
    assert not np.array_equal(a[0, 0][0].planes, made(tiny(seed=1), store)[0, 0][0].planes)


def test_datasets_come_in_their_shares(tiny, fake_store):
    examples = made(tiny(), fake_store(shares=(0.8, 0.2)))
    of = [examples.pairs[examples[s, 0][0].group[0] // 2][0] for s in range(200)]
    assert 0.7 < of.count("d0") / 200 < 0.9


def test_a_dataset_is_left_out(tiny, fake_store):
    examples = made(tiny(data={"leave_out": "d1"}), fake_store(shares=(0.5, 0.5)))
    assert {examples.pairs[examples[s, 0][0].group[0] // 2][0] for s in range(50)} == {"d0"}


def test_groups_are_dataset_marker_and_class(tiny, fake_store):
    store = fake_store(shares=(0.5, 0.5))
    examples = made(tiny(), store)
    item = examples.whole(len(store.examples) - 1)
    assert examples.pairs == [("d0", "a"), ("d0", "b"), ("d1", "a"), ("d1", "b")]
    np.testing.assert_array_equal(item.group, 2 * 3 + (item.target > 0.5))


def test_weights(tiny, fake_store):
    store = fake_store()
    by_cell, by_pixel = (
        made(tiny(loss={"weighting": w}), store).whole(0) for w in ("cell", "pixel")
    )
    np.testing.assert_allclose(
        by_cell.weight, min(len(by_cell.target), 40) ** 0.5 / len(by_cell.target), rtol=1e-6
    )
    np.testing.assert_array_equal(by_pixel.weight, np.bincount(by_pixel.cells.ravel())[1:])


def test_an_unpadded_net_is_asked_about_its_centre(tiny, fake_store):
    net = {
        "architecture": "paper_unet",
        "settings": {"depth": 2, "root": 4},
        "padding": "valid",
        "stats": [],
    }
    examples = made(tiny(net=net), fake_store())
    item = examples[0, 0][0]
    assert item.planes.shape[1:] == (32, 32)
    assert item.cells.shape == (32 - 2 * examples.margin,) * 2
    assert set(np.unique(item.cells)) <= set(range(len(item.target) + 1))


def test_statistics_of_the_tile_vary_with_the_share_of_positive_cells(tiny, fake_store):
    examples = made(tiny(data={"statistics": "tile", "odds": 1.0}), fake_store())
    q50 = {float(examples[s, 0][0].stats[0]) for s in range(10)}
    assert len(q50) > 5
    assert all(0 <= q <= 1 for q in q50)


@pytest.mark.parametrize("statistics", ["tile", "store"])
def test_otsu_is_between_the_outer_percentiles(tiny, fake_store, statistics):
    net = {"stats": ["q10", "otsu", "q97"]}
    low, otsu, high = made(tiny(net=net, data={"statistics": statistics}), fake_store())[0, 0][
        0
    ].stats
    assert low < otsu < high


@pytest.mark.parametrize(
    ("changes", "store", "words"),
    [
        ({"data": {"mpp": 0.5}}, {}, "the settings want 0.5, the store has 1"),
        ({"data": {"percentile": 99.99}}, {}, "want 99.99, the store has 99.9"),
        ({"data": {"crop": 128}}, {}, "more than the store's tiles of 64 px"),
        ({"data": {"leave_out": "dx"}}, {}, "no dataset 'dx', only d0"),
        ({}, {"per_split": {"train": 2}}, "no labelled cell in 'val'"),
        ({"data": {"leave_out": "d0"}}, {}, "no labelled cell in 'train'"),
    ],
)
def test_a_store_that_does_not_fit(tiny, fake_store, changes, store, words):
    with pytest.raises(InputError, match=words):
        check_fits(tiny(**changes), fake_store(**store))


def test_all_misfits_in_one_message(tiny, fake_store):
    with pytest.raises(InputError, match=r"mpp[^$]*crop"):
        check_fits(tiny(data={"mpp": 2.0, "crop": 96}), fake_store())


def test_validation_takes_a_few_tiles_of_every_marker(fake_store):
    store = fake_store(shares=(0.5, 0.5), per_split={"train": 1, "val": 7})
    rows = validation_rows(store, "val", leave_out=None, tiles=3)
    table = store.examples.iloc[rows]
    assert (table.groupby(["dataset", "marker"]).size() == 3).all()
    assert set(table["split"]) == {"val"}
    assert len(validation_rows(store, "test", leave_out=None, tiles=3)) == 0


def test_no_cell_fits_the_crop(tiny, fake_store):
    store = fake_store()
    for example in store.tiles:
        object.__setattr__(example, "share", example.share * 0.1)
    with pytest.raises(InputError, match="No crop with a labelled cell"):
        made(tiny(), store)[0, 0]
