"""The cell table in, metaclusters in the same table."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from panimbus.clustering.cluster import ClusterSettings, cluster
from panimbus.core.errors import ChannelError, InputError

metrics = pytest.importorskip("sklearn.metrics")

SMALL = ClusterSettings(grid=(6, 6), epochs=6, runs=20)
MARKERS = ("CD3", "CD8", "CD20", "PanCK", "blank")


def cell_table(n=900, *, seed=0):
    rng = np.random.default_rng(seed)
    of = rng.integers(0, 4, n)
    carries = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], bool)[of]
    scores = np.where(carries, rng.beta(8, 2, (n, 4)), rng.beta(1, 12, (n, 4)))
    obs = pd.DataFrame(
        {"fov_id": "f1", "cell_id": np.arange(1, n + 1), "truth": of},
        index=[f"f1:{i}" for i in range(1, n + 1)],
    )
    table = anndata.AnnData(
        np.c_[scores, np.zeros(n)].astype(np.float32),
        obs=obs,
        var=pd.DataFrame(index=list(MARKERS)),
    )
    table.layers["intensity_mean"] = table.X * np.array([3, 900, 40, 1e4, 1], np.float32)
    return table


def test_finds_the_types_and_writes_them(tmp_path, caplog):
    table = cell_table()
    with caplog.at_level(logging.WARNING):
        result = cluster(table, k=4, settings=SMALL)
    assert "blank" in caplog.text
    assert result.markers == MARKERS[:4]
    assert metrics.adjusted_rand_score(table.obs["truth"], table.obs["metacluster"]) > 0.95
    assert list(table.obs["metacluster"].cat.categories) == ["1", "2", "3", "4"]
    assert table.obs["metacluster"].value_counts(sort=False).is_monotonic_decreasing
    assert table.obs["som_node"].dtype == np.int32
    np.testing.assert_array_equal(
        table.uns["clustering"]["node_metacluster"][table.obs["som_node"]],
        table.obs["metacluster"].astype(int),
    )
    table.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert list(back.obs["metacluster"]) == list(table.obs["metacluster"])
    assert list(back.uns["clustering"]["markers"]) == list(MARKERS[:4])
    assert back.uns["clustering"]["k"] == 4
    np.testing.assert_allclose(back.uns["clustering"]["stability"], result.consensus.stability)


def test_same_seed_same_columns_on_any_number_of_threads():
    one, two = cell_table(), cell_table()
    for table, threads in ((one, 1), (two, 2)):
        cluster(
            table,
            MARKERS[:4],
            seed=7,
            settings=ClusterSettings(grid=(6, 6), epochs=6, runs=20, threads=threads),
        )
    pd.testing.assert_frame_equal(one.obs, two.obs)


def test_only_the_markers_that_were_asked_for():
    table = cell_table()
    cluster(table, ["CD3", "CD20"], k=3, settings=SMALL)
    group = table.obs["metacluster"]
    assert (
        metrics.adjusted_rand_score(table.obs["truth"].map({0: 0, 1: 0, 2: 1, 3: 2}), group) > 0.95
    )


def test_sparse_scores():
    table, thin = cell_table(), cell_table()
    thin.X = sparse.csr_matrix(thin.X)
    cluster(table, MARKERS[:4], settings=SMALL)
    cluster(thin, MARKERS[:4], settings=SMALL)
    pd.testing.assert_frame_equal(table.obs, thin.obs)


def without_cells(t):
    return t[:0].copy()


def one_cell(t):
    return t[:1].copy()


def few_cells(t):
    return t[:30].copy()


def with_nan(t):
    t.X[3, 1] = np.nan
    return t


def same_id(t):
    t.obs.loc["f1:3", "cell_id"] = 4
    return t


def same_marker(t):
    t.var_names = ["CD3", "CD3", "CD20", "PanCK", "blank"]
    return t


def same_rows(t):
    t.obs = t.obs.drop(columns="cell_id")
    t.obs_names = ["a"] * len(t)
    return t


@pytest.mark.filterwarnings("ignore:.* names are not unique")
@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (without_cells, {}, InputError, "no cells"),
        (one_cell, {}, InputError, "A single cell cannot be clustered"),
        (few_cells, {}, InputError, "fewer cells than nodes"),
        (with_nan, {}, InputError, r"CD8 \(1 cells\)"),
        (same_id, {}, InputError, "f1:4"),
        (same_rows, {}, InputError, "899 cells"),
        (same_marker, {}, ChannelError, "repeated markers: CD3"),
        (None, {"markers": ["blank"]}, InputError, "nothing to group"),
        (None, {"markers": []}, ChannelError, "no marker was requested"),
        (None, {"markers": "CD33"}, ChannelError, r"does not have: CD33\n  available: CD3, CD8"),
        (
            None,
            {"markers": ["CD3", "CD3", "x"]},
            ChannelError,
            "does not have: x; repeated markers: CD3",
        ),
        (None, {"k": 99}, InputError, "k from 1 to 36"),
    ],
)
def test_bad_input(change, options, error, message):
    table = cell_table()
    if change is not None:
        table = change(table)
    with pytest.raises(error, match=message):
        cluster(table, **{"settings": SMALL, **options})
    assert "metacluster" not in table.obs


def test_repr_is_short():
    assert len(repr(cluster(cell_table(), MARKERS[:4], k=4, settings=SMALL))) < 300
