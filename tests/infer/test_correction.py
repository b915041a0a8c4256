"""A card with corrections a marker: every pixel score is corrected before the cells' means, and
nothing else changes."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.correction import NONE, corrected
from panimbus.model.weights import save_model

corrections = st.tuples(st.floats(0.2, 5), st.floats(-3, 3))


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20), corrections, corrections)
def test_correction_laws(scores, one, two):
    p = np.array(scores)
    np.testing.assert_allclose(corrected(p, NONE), p, atol=1e-6)
    logit = np.log(p / (1 - p)) / one[0] + one[1]
    np.testing.assert_allclose(corrected(p, one), 1 / (1 + np.exp(-logit)), atol=1e-6)
    first = corrected(p, one).astype(float)
    inside = (first > 1e-4) & (first < 1 - 1e-4)  # nearer to the ends, float32 has lost the logit
    both = (one[0] * two[0], one[1] / two[0] + two[1])  # one after the other
    np.testing.assert_allclose(corrected(first[inside], two), corrected(p[inside], both), atol=2e-3)
    assert (np.diff(corrected(np.sort(p), one)) >= 0).all()


def test_ends_stay_finite():
    assert np.isfinite(corrected(np.array([0.0, 1.0, 0.5]), (0.01, 50.0))).all()


def test_prediction_applies_the_cards_correction(fov, model, net, run, tmp_path):
    plain = model("plain")
    module, card = net(plain)
    better = card.model_copy(
        update={"calibration": {"b": (2.0, -1.0), "other": (3.0, 1.0)}, "name": "corrected"}
    )
    path = save_model(tmp_path / "corrected", module, better).onnx
    one = fov(channels=2)
    before = run(one, plain, out=tmp_path / "before", maps=True)
    table = run(one, path, out=tmp_path / "after", maps=True)
    np.testing.assert_array_equal(table.X[:, 0], before.X[:, 0])
    maps = [tifffile.imread(tmp_path / k / "maps" / "f1.ome.tiff") for k in ("before", "after")]
    inside = maps[0][1] > 0  # maps are empty outside cells
    np.testing.assert_allclose(
        maps[1][1][inside], corrected(maps[0][1][inside], (2.0, -1.0)), atol=1e-6
    )
    assert not maps[1][1][~inside].any()
    expected = [maps[1][1][one.labels == i].mean() for i in table.obs["cell_id"]]
    np.testing.assert_allclose(table.X[:, 1], expected, atol=1e-5)
    assert not np.allclose(table.X[:, 1], before.X[:, 1])
    assert json.loads(table.uns["panimbus"]["settings"]["calibration"]) == {"b": [2.0, -1.0]}
    assert "calibration" not in before.uns["panimbus"]["settings"]


def test_spread_over_views_is_that_of_corrected_scores(fov, model, net, run, tmp_path):
    module, card = net(model("plain"))
    flat = card.model_copy(update={"calibration": {"a": (50.0, 0.0)}, "name": "flat"})
    table = run(fov(), save_model(tmp_path / "flat", module, flat).onnx, tta="full")
    assert table.layers["score_sd"][:, 0].max() < 0.1 * table.layers["score_sd"][:, 1].max()


@pytest.mark.parametrize("value", [(0.0, 1.0), (-1.0, 0.0), (1.0,), (1.0, float("nan"))])
def test_a_wrong_correction_is_refused(model, net, value):
    from pydantic import ValidationError

    _, card = net(model("plain"))
    with pytest.raises(ValidationError):
        type(card).model_validate({**card.model_dump(), "calibration": {"a": value}})
