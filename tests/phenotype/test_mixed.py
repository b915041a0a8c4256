"""The probability that an object is two cells."""

import numpy as np
import pytest

from panimbus.phenotype.mixed import mixed_features, mixed_probability
from panimbus.phenotype.panel import fit_panel
from panimbus.phenotype.rules import default_rules

PANEL = fit_panel(default_rules(), ["CD3", "CD20", "PanCK"])
T = PANEL.names.index("T cell")


@pytest.fixture
def table(anndata_of):
    out = anndata_of(np.full((100, 3), 0.1), channels=["CD3", "CD20", "PanCK"])
    out.obs["area_um2"] = 50.0
    return out


def against(*rows, marker="CD20", n=100):
    out = np.zeros((n, len(PANEL.markers)), bool)
    out[list(rows), [m.name for m in PANEL.markers].index(marker)] = True
    return out


def test_what_contradicts_and_what_is_large(table):
    table.obs.iloc[1, table.obs.columns.get_loc("area_um2")] = 150.0
    table.obs.iloc[2, table.obs.columns.get_loc("area_um2")] = 20.0
    features = mixed_features(table, against(0), np.full(100, T, np.int32), PANEL)
    np.testing.assert_allclose(features[:4], [[0.95, 0], [0, np.log(3)], [0, 0], [0, 0]])


def test_haze_is_no_second_cell(table):
    """A marker that contradicts a fifth of a type's cells says nothing about one of them."""
    rows = range(30)
    p = mixed_probability(table, against(*rows), np.full(100, T, np.int32), PANEL)
    assert p.max() < 0.05
    assert mixed_probability(table, against(0), np.full(100, T, np.int32), PANEL)[0] > 0.1


def test_evidence_layers_count(table):
    for layer in ("rim_mean", "rim_low", "inside_mean", "neighbour_max"):
        table.layers[layer] = np.full((100, 3), 10.0, np.float32)
    table.layers["rim_low"][0, 1] = 30.0  # bright all around, brighter than any neighbour
    table.layers["neighbour_max"][1, 1] = (
        200.0  # on the side of a bright neighbour: a piece of it was cut off with this cell
    )
    p = mixed_probability(table, against(0, 1, 2), np.full(100, T, np.int32), PANEL)
    assert p[3] < 0.05
    assert p[1] > p[2] > p[0] > p[3]
    features = mixed_features(table, against(0, 1, 2), np.full(100, T, np.int32), PANEL)
    assert features.shape == (100, 4)
    assert features[0, 2] == pytest.approx(np.log(3), abs=1e-3)
    assert features[1, 2] == pytest.approx(-np.log(20), abs=1e-3)
    assert (features[3:, 2:] == 0).all()
