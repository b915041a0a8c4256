"""Channels in which the model does not know."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import spearmanr

from panimbus.core.doubts import Signs, describe_doubts, doubts, flag_doubts, signs_of
from panimbus.core.scale import ChannelScale

CLEAR = {"cells": 1000, "positive": 200, "asked": 210, "near": 0.02, "doubtful": 0.1}


def signs(kind="marker", **other):
    return Signs(kind, **({**CLEAR, "spread": 0.03, "separation": 0.99} | other))


def cell_table(scores, means, *, fov=None, types=None, sd=None):
    """A table as `panimbus.predict` makes it: marker -> one score, and one intensity, a cell."""
    names, x = list(scores), np.array(list(scores.values()), np.float32).T
    obs = pd.DataFrame({"fov_id": pd.Categorical(["a"] * len(x) if fov is None else fov)})
    obs.index = obs.index.astype(str)
    var = pd.DataFrame({"normaliser": 1.0, "threshold": 0.5}, index=names)
    var["channel_type"] = [(types or {}).get(c, "marker") for c in names]
    positive = (x >= 0.5).astype(np.uint8)
    layers = {
        "intensity_mean": np.array([means[c] for c in names], np.float32).T,
        "score_sd": np.zeros_like(x) if sd is None else np.array([sd[c] for c in names]).T,
        "positive": positive,
    }
    return AnnData(x, obs, var, layers=layers)


def all_signs(table):
    return signs_of(
        table,
        table.layers["positive"],
        thresholds=[0.5] * table.n_vars,
        types=list(table.var["channel_type"]),
        scale=None,
    )


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({}, None),
        ({"near": 0.1, "doubtful": 0.4}, "10.0 % of the cells are near the threshold"),
        ({"near": 0.015, "doubtful": 0.4}, None),  # too few cells
        ({"asked": 19, "near": 0.1, "doubtful": 0.4}, None),
        ({"spread": 0.12}, "scores vary between views (standard deviation 0.12)"),
        ({"spread": 0.12, "asked": 20}, None),
        ({"separation": 0.95}, "one population: positive and negative cells overlap"),
        ({"separation": 0.95, "positive": 40}, None),
        ({"separation": float("nan")}, None),
        ({"counterstain": 0.8}, "as the counterstain (rank correlation 0.80)"),
        ({"counterstain": 0.8, "positive": 10}, None),  # the haze has called nobody
        ({"control": 0.8, "control_name": "AF1"}, "as the control AF1 (rank correlation 0.80)"),
        ({"crowd": 0.4}, "as 40.0 % of the other markers"),
        ({"kind": "isotype"}, "a control (isotype), yet 20.0 % of its cells are positive"),
        ({"kind": "isotype", "positive": 10}, None),
        ({"kind": "counterstain", "near": 0.5, "doubtful": 0.9}, None),
        ({"cells": 0, "near": 0.5, "doubtful": 0.9}, None),
    ],
)
def test_reasons(other, text):
    reasons = doubts(signs(**other))
    assert [text in r.text for r in reasons] == ([] if text is None else [True])
    assert all(0 < r.weight <= 1 for r in reasons)


def test_several_reasons_come_by_weight():
    both = doubts(signs(separation=0.9, near=0.1, doubtful=0.4))
    assert [r.weight for r in both] == [0.6, pytest.approx(0.24)]


def test_signs_of_a_channel():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores = {"A": rng.random(400), "B": np.r_[[np.nan] * 10, rng.random(390)]}
    means = {"A": scores["A"] + rng.normal(0, 0.3, 400), "B": np.r_[[np.nan] * 20, np.arange(380)]}
    table = cell_table(scores, means, sd={"A": scores["A"] / 10, "B": scores["B"] / 10})
    table.layers["positive"] = np.where(np.isnan(table.X), np.nan, table.X >= 0.5)
    a, b = all_signs(table)
    x, called = table.X[:, 0], table.X[:, 0] >= 0.5
    asked = called | (np.abs(x - 0.5) < 0.1)
    assert (a.cells, a.positive, a.asked) == (400, called.sum(), asked.sum())
    assert a.near == pytest.approx((np.abs(x - 0.5) < 0.1).mean())
    assert a.spread == pytest.approx(x[asked].mean() / 10, rel=1e-5)
    assert a.separation == pytest.approx(
        metrics.roc_auc_score(called, table.layers["intensity_mean"][:, 0])
    )
    assert b.cells == 390
    assert b.near == pytest.approx((np.abs(table.X[10:, 1] - 0.5) < 0.1).mean())


def test_likeness_to_a_control_and_to_the_panel():
    rng = np.random.default_rng(1)
    haze = rng.random(300)
    means = {f"M{k}": rng.random(300) for k in range(10)}
    means |= {"H": haze + rng.normal(0, 0.05, 300), "AF": haze, "Blank": rng.random(300)}
    for k in range(4):
        means[f"M{k}"] = haze + rng.normal(0, 0.1, 300)
    kinds = {"AF": "autofluorescence", "Blank": "blank"}
    table = cell_table({c: np.zeros(300) for c in means}, means, types=kinds)
    of = dict(zip(table.var_names, all_signs(table), strict=True))
    assert of["H"].crowd == 0.4  # of ten markers; controls do not count
    assert of["H"].control_name == "AF"
    assert of["H"].control == pytest.approx(
        spearmanr(means["H"].astype(np.float32), haze.astype(np.float32))[0], abs=1e-6
    )
    assert of["M9"].crowd == 0
    assert of["M9"].control < 0.3
    few = table[:, ["H", "M0", "M1", "AF"]].copy()
    assert all_signs(few)[0].crowd == 0  # too small a panel


def test_fovs_of_different_brightness_are_not_alike():
    rng = np.random.default_rng(2)
    bright = np.repeat([1.0, 100.0], 200)
    means = {f"M{k}": bright * (1 + rng.random(400)) for k in range(11)}
    table = cell_table(
        {c: np.zeros(400) for c in means}, means, fov=np.repeat(["dim", "bright"], 200)
    )
    assert [s.crowd for s in all_signs(table)] == [0] * 11


def test_the_column_of_the_table_and_its_warning():
    half = np.r_[np.full(50, 0.9), np.full(150, 0.1)]
    rng = np.random.default_rng(3)
    scores = {"clear": half, "haze": half, "IgG": half, "DAPI": half, "blank": half}
    means = dict.fromkeys(scores, half) | {"haze": rng.random(200), "IgG": rng.random(200)}
    kinds = {"IgG": "isotype", "DAPI": "counterstain"}
    table = cell_table(scores, means, types=kinds)
    table.var.loc["blank", "normaliser"] = np.nan
    flag_doubts(table, None)
    reasons = table.var["doubt"].to_dict()
    assert [c for c, r in reasons.items() if r] == ["haze", "IgG"]
    assert reasons["haze"].startswith("one population")
    lines = describe_doubts(table)
    assert lines[0].startswith("doubtful: 2 of 5 channels")
    assert lines[1:] == [f"  {c}: {reasons[c]}" for c in ("haze", "IgG")]
    table.var["doubt"] = ""
    assert describe_doubts(table) == []
    del table.var["doubt"]
    assert describe_doubts(table) == []


def test_a_long_list_is_cut():
    var = pd.DataFrame({"doubt": "why"}, index=[f"M{k}" for k in range(12)])
    lines = describe_doubts(AnnData(np.zeros((1, 12), np.float32), var=var))
    assert len(lines) == 12
    assert lines[-1] == "  and 2 more: M10, M11"


def test_the_same_for_scales_and_order_of_channels():
    rng = np.random.default_rng(4)
    scores = {f"M{k}": rng.random(200) for k in range(12)}
    means = {c: s + rng.random(200) for c, s in scores.items()}
    table = cell_table(scores, means)
    scale = ChannelScale(99.9, "all", dict.fromkeys(scores, 1.0), {c: {} for c in scores})
    flag_doubts(table, scale)
    turned = table[:, ::-1].copy()
    turned.layers["intensity_mean"] = turned.layers["intensity_mean"] * 8
    flag_doubts(turned, scale)
    assert turned.var["doubt"].to_dict() == table.var["doubt"].to_dict()
