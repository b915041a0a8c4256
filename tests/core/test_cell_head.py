"""Features of a cell for the cell head."""

import numpy as np
import pytest

from panimbus.core.cell_head import FEATURES, cell_features
from panimbus.core.scale import CELL_QUANTILES

STATS = dict(zip(CELL_QUANTILES, np.linspace(0.01, 0.99, 99).tolist(), strict=True))
FLOOR = 0.1 * (0.75 - 0.25) + 1e-4
EVIDENCE = {
    "rim_low": np.array([0.2, 0.0]),
    "inside_mean": np.array([0.4, 0.0]),
    "neighbour_max": np.array([0.8, 0.0]),
}


def features(**changes):
    given = {"score": np.array([0.9, 0.5]), "mean": np.array([0.5, 0.0]), **changes}
    out = cell_features(given["score"], given["mean"], EVIDENCE, stats=STATS)
    return {name: out[:, k] for k, name in enumerate(FEATURES)}


def test_by_hand():
    seen = features()
    assert seen["logit"].tolist() == pytest.approx([np.log(9), 0])
    for name, layer in (
        ("rim_low", "rim_low"),
        ("inside", "inside_mean"),
        ("neighbour", "neighbour_max"),
    ):
        expected = np.log((EVIDENCE[layer] + FLOOR) / (np.array([0.5, 0.0]) + FLOOR))
        np.testing.assert_allclose(seen[name], expected, rtol=1e-5)


def test_bounded_and_missing_stay_missing():
    seen = features(score=np.array([0.0, np.nan]), mean=np.array([np.nan, 1e9]))
    assert seen["logit"][0] == pytest.approx(np.log(0.001 / 0.999), rel=1e-4)
    assert np.isnan(seen["logit"][1])
    assert np.isnan(seen["rim_low"][0])
    assert seen["inside"][1] == -3


def test_normaliser_off_by_two():
    """Ratios hardly depend on the normaliser."""
    plain = cell_features(np.full(2, 0.3), np.full(2, 0.5), EVIDENCE, stats=STATS)
    evidence = {name: values * 2 for name, values in EVIDENCE.items()}
    stats = {name: value * 2 for name, value in STATS.items()}
    twice = cell_features(np.full(2, 0.3), np.full(2, 1.0), evidence, stats=stats)
    np.testing.assert_allclose(plain, twice, rtol=0.01)


def test_channel_that_most_cells_do_not_show():
    """All percentiles are 0: ratios stay finite."""
    stats = dict.fromkeys(STATS, 0.0)
    seen = cell_features(np.array([0.9, 0.1]), np.array([0.5, 0.0]), EVIDENCE, stats=stats)
    assert np.isfinite(seen).all()
    assert seen[1, 1:].tolist() == [0.0] * 3
