"""Batches: which FOVs they hold, and how they differ."""

import numpy as np
import pytest

from panimbus.core.batches import check_batches, compare_batches, describe_batches, fov_shifts
from panimbus.core.errors import InputError
from panimbus.core.table import BATCH, FOV, MEAN, POSITIVE

DAYS = {f"{day}_{k}": day for day in ("mon", "tue", "wed") for k in range(4)}


def table_of(change=None, days=DAYS, cells=80, seed=0):
    """FOVs with two markers whose share of bright cells varies from FOV to FOV.

    ``change``: (batch, marker) -> factor.
    """
    anndata, pd = pytest.importorskip("anndata"), pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    means, positives = [], []
    for day in days.values():
        bright = rng.random((cells, 2)) < rng.uniform(0.05, 0.5, 2)
        light = rng.lognormal(0, 0.3, (cells, 2)) * np.where(bright, 10, 1) * rng.lognormal(0, 0.1)
        for (batch, marker), factor in (change or {}).items():
            light[:, marker] *= factor if batch == day else 1
        means.append(light)
        positives.append(bright)
    obs = pd.DataFrame(
        {FOV: np.repeat(list(days), cells), BATCH: np.repeat(list(days.values()), cells)}
    )
    obs.index = obs.index.astype(str)
    layers = {MEAN: np.concatenate(means), POSITIVE: np.concatenate(positives).astype(np.uint8)}
    var = pd.DataFrame(index=["CD3", "CD20"])
    return anndata.AnnData(np.zeros((len(obs), 2), np.float32), obs=obs, var=var, layers=layers)


def test_a_day_that_is_three_times_as_bright_in_one_marker_is_the_only_one_named():
    found = compare_batches(table_of({("tue", 1): 3.0}))
    assert len(found) == 3 * 2
    (row,) = found[found["stands_out"]].to_dict("records")
    assert (row["batch"], row["marker"], row["fovs"]) == ("tue", "CD20", 4)
    assert row["ratio"] == pytest.approx(3, rel=0.25)
    (line,) = describe_batches(found)
    assert line.startswith("batch tue differs in 1 of 2 channels: CD20 ")


@pytest.mark.parametrize("seed", range(12))
def test_other_mixtures_of_cells_are_no_difference(seed):
    assert not compare_batches(table_of(seed=seed))["stands_out"].any()


def test_of_two_batches_each_is_compared_with_the_other():
    days = {fov: day for fov, day in DAYS.items() if day != "wed"}
    found = compare_batches(table_of({("tue", 1): 3.0}, days))
    assert found[found["stands_out"]]["batch"].tolist() == ["mon", "tue"]
    mon, tue = found[found["marker"] == "CD20"]["ratio"]
    assert mon * tue == pytest.approx(1)


def test_a_batch_of_one_fov_says_so():
    days = {**{k: v for k, v in DAYS.items() if v != "tue"}, "tue_0": "tue"}
    (line,) = describe_batches(compare_batches(table_of({("tue", 0): 4.0}, days)))
    assert line.startswith("batch tue, which is one FOV, differs in 1 of 2 channels: CD3 ")


def test_nothing_is_said_where_the_spread_within_batches_is_unknown():
    days = {"a": "mon", "b": "tue", "c": "wed"}
    found = compare_batches(table_of({("tue", 0): 5.0}, days))
    assert not found["stands_out"].any()
    assert found["p_value"].isna().all()
    assert found.loc[(found["batch"] == "tue") & (found["marker"] == "CD3"), "ratio"].item() > 3


def test_shifts_follow_all_quantiles_and_not_a_few_bright_cells():
    fov = np.array(["a"] * 100 + ["b"] * 100)
    same = np.tile(np.arange(1.0, 101), 2)
    few = same.copy()
    few[195:] *= 100
    assert np.diff(fov_shifts(few, fov, ["a", "b"])) == pytest.approx(0)
    twice = np.where(fov == "b", 2 * same, same)
    assert np.exp(np.diff(fov_shifts(twice, fov, ["a", "b"]))) == pytest.approx(2)
    assert np.isnan(fov_shifts(0 * same, fov, ["a", "b"])).all()
    missing = np.where(fov == "b", np.nan, same)
    assert np.isnan(fov_shifts(missing, fov, ["a", "b"])).tolist() == [False, True]


def test_messages():
    with pytest.raises(InputError, match=r"no batch of b; there is no FOV 'bb' .did you mean 'b'"):
        check_batches({"a": "1", "bb": "2"}, ["a", "b"])
    with pytest.raises(InputError, match="all 2 FOVs are of '1'"):
        check_batches({"a": "1", "b": "1"}, ["a", "b"])
    table = table_of()
    del table.obs[BATCH]
    with pytest.raises(InputError, match="--batches"):
        compare_batches(table)


def test_a_fov_without_signal_does_not_hide_a_difference():
    table = table_of({("tue", 1): 3.0})
    table.layers[MEAN][(table.obs[FOV] == "mon_0").to_numpy(), 1] = 0
    found = compare_batches(table)
    assert found[found["stands_out"]][["batch", "marker"]].to_numpy().tolist() == [["tue", "CD20"]]
