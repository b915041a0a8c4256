"""Calls of other cells: ids off by one, swapped FOVs, other label images; and no doubt where there
is none."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from panimbus.evaluate.misfit import doubts


def cells(seed, n=400):
    """A FOV of which a third of the cells is positive; model and intensity see them well, and
    neighbours are alike."""
    rng = np.random.default_rng(seed)
    positive = rng.random((n, 2)) < np.repeat([[0.1], [0.6]], [n // 2, n - n // 2], axis=0)
    obs = pd.DataFrame(
        {"fov_id": "f", "cell_id": np.arange(1, n + 1)}, index=np.arange(n).astype(str)
    )
    score = np.clip(0.25 + 0.5 * positive + rng.normal(0, 0.15, (n, 2)), 0, 1).astype(np.float32)
    table = AnnData(score, obs=obs, var=pd.DataFrame(index=["CD3", "CD20"]))
    table.layers["intensity_mean"] = (50 + 100 * positive + rng.normal(0, 40, (n, 2))).astype(
        np.float32
    )
    return table, positive


def calls(fov, positive, seed=0, n=60):
    rng = np.random.default_rng(seed)
    rows = [
        (fov, channel, cell, int(positive[cell - 1, k]))
        for k, channel in enumerate(("CD3", "CD20"))
        for cell in rng.choice(np.arange(2, len(positive)), n, replace=False).tolist()
    ]
    return pd.DataFrame(rows, columns=["fov", "channel", "cell_id", "truth"]).assign(dataset="")


@pytest.fixture(scope="module")
def two():
    made = {name: cells(seed) for seed, name in enumerate("ab")}
    rows = pd.concat(
        [calls(name, positive) for name, (_, positive) in made.items()], ignore_index=True
    )
    return rows, {name: table for name, (table, _) in made.items()}


def test_calls_that_fit_are_not_doubted(two):
    rows, tables = two
    assert doubts(rows, tables) == []
    assert doubts(rows.iloc[:5], tables) == []
    assert doubts(rows.assign(truth=-1), tables) == []


@pytest.mark.parametrize(
    ("shift", "words"), [(1, "every cell_id is one lower"), (-1, "every cell_id is one higher")]
)
def test_ids_off_by_one(two, shift, words):
    rows, tables = two
    (sentence,) = doubts(rows.assign(cell_id=rows["cell_id"] + shift), tables)
    assert words in sentence
    one = rows["fov"] == "a"
    (sentence,) = doubts(rows.assign(cell_id=rows["cell_id"] + shift * one), tables)
    assert words in sentence
    assert "FOV 'a'" in sentence


def test_swapped_fovs(two):
    rows, tables = two
    (sentence,) = doubts(rows.assign(fov=rows["fov"].map({"a": "b", "b": "a"})), tables)
    assert "those of 'b' fit the cells of 'a'" in sentence
    assert "those of 'a' fit the cells of 'b'" in sentence


def test_other_label_images(two):
    rows, tables = two
    rng = np.random.default_rng(1)
    (sentence,) = doubts(rows.assign(truth=rng.permutation(rows["truth"])), tables)
    assert "other label images" in sentence


def test_a_model_that_fails_is_no_reason(two):
    rows, tables = two
    bad = {name: table.copy() for name, table in tables.items()}
    for table in bad.values():
        table.X = np.random.default_rng(0).random(table.shape).astype(np.float32)
    assert doubts(rows, bad) == []
