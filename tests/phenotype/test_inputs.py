"""Preparation of a cell table."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError
from panimbus.phenotype.inputs import (
    channel_types_of,
    flag_objects,
    select_channels,
    thresholds_of,
)


def cell_table(x, channels):
    obs = pd.DataFrame(index=[str(i) for i in range(len(x))])
    return anndata.AnnData(np.array(x, np.float32), obs, pd.DataFrame(index=channels))


def test_unusable_columns_are_dropped_only_if_nothing_needs_them(caplog):
    nan = np.nan
    table = cell_table([[0.1, nan, 40, nan, 7], [0.9, 0.2, 50, 0.3, 8]], list("abcde"))
    with caplog.at_level(logging.WARNING):
        out = select_channels(table, ["d", "e"], without=[])
    assert list(out.var_names) == ["a", "d", "e"]
    assert "no score for some cells were left out: b" in caplog.text
    assert "not between 0 and 1 throughout were left out: c" in caplog.text
    assert list(select_channels(table, list("abcde"), ["a", "c"]).var_names) == ["b", "d", "e"]
    assert select_channels(table, list("abcde"), []) is table


def test_thresholds():
    table = cell_table([[0, 0, 0]], ["a", "b", "c"])
    assert thresholds_of(table, {"b": 0.7}) == {"a": 0.5, "b": 0.7, "c": 0.5}
    table.var["threshold"] = [0.3, 0.4, 0.5]
    assert thresholds_of(table, {"b": 0.7}) == {"a": 0.3, "b": 0.7, "c": 0.5}
    table.var["threshold"] = [0.3, 0.4, 1.5]
    with pytest.raises(InputError, match=r"c: 1\.5"):
        thresholds_of(table, {})


def test_channel_types():
    table = cell_table([[0, 0]], ["DAPI", "CD3"])
    assert channel_types_of(table) == {}
    table.var["channel_type"] = ["nuclear", "marker"]
    assert channel_types_of(table) == {"DAPI": "nuclear", "CD3": "marker"}


def test_objects_are_flagged_by_area():
    table = cell_table([[0]] * 4, ["a"])
    assert not flag_objects(table, None, None).any()
    assert "object" not in table.obs
    with pytest.raises(InputError, match="no areas"):
        flag_objects(table, 10, None)
    table.obs["area_um2"] = [1.0, 50.0, 60.0, 900.0]
    assert flag_objects(table, 10, 500).tolist() == [True, False, False, True]
    kept = table.obs["object"].tolist()
    assert flag_objects(table, None, None).tolist() == [True, False, False, True]  # as flagged
    assert table.obs["object"].tolist() == kept
    table.obs["area_um2"] = [-1.0, 50.0, 60.0, 900.0]
    with pytest.raises(InputError, match="1 cells"):
        flag_objects(table, 10, None)
