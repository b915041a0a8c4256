"""The cell head of a card: what it computes, and which heads are refused."""

import numpy as np
import pytest
from pydantic import ValidationError

from panimbus.core.cell_head import FEATURES
from panimbus.model.card import ModelCard
from panimbus.model.cell_head import CellHead

EVIDENCE = {n: np.array([0.5, 0.5]) for n in ("rim_mean", "rim_low", "inside_mean")}
EVIDENCE["neighbour_max"] = np.array([0.5, 5.0])
STATS = {"q25": 0.0, "q75": 1.0, "q99": 1.0}
MEAN = np.array([0.5, 0.5])


def head(offset=0.5, **weights):
    given = {"logit": 1.0} | weights
    return CellHead(offset=offset, weights=[given.get(name, 0.0) for name in FEATURES])


def test_by_hand():
    scores = head(neighbour=-2.0).scores(np.array([0.9, 0.9]), MEAN, EVIDENCE, stats=STATS)
    odds = np.log(9) + 0.5 + np.array([0, -2 * np.log(5.1001 / 0.6001)])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-odds)), rtol=1e-5)


def test_many_cells_in_parts(monkeypatch):
    n = 7
    score, mean = np.linspace(0.1, 0.9, n), np.linspace(0.1, 1, n)
    evidence = {name: np.linspace(0, 2, n) for name in EVIDENCE}
    whole = head(inside=1.0).scores(score, mean, evidence, stats=STATS)
    monkeypatch.setattr("panimbus.model.cell_head._CELLS", 3)
    in_parts = head(inside=1.0).scores(score, mean, evidence, stats=STATS)
    np.testing.assert_array_equal(in_parts, whole)


def test_missing_stays_missing():
    scores = head().scores(np.array([0.9, np.nan]), MEAN, EVIDENCE, stats=STATS)
    assert np.isnan(scores).tolist() == [False, True]


@pytest.mark.parametrize("weights", [(1.0,) * 3, (1.0,) * 5, (1.0, 0.0, 0.0, float("nan"))])
def test_refused(weights):
    with pytest.raises(ValidationError):
        CellHead(offset=0.0, weights=weights)


def test_part_of_the_card():
    card = ModelCard(
        name="a",
        architecture="compact_unet",
        settings={"widths": (4,)},
        planes=("image",),
        mpp=1.0,
        percentile=99.9,
        cell_head=head(),
    )
    assert ModelCard.from_json(card.to_json()) == card
