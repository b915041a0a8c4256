"""The cell head of a card: what it computes, and which heads are refused."""

import numpy as np
import pytest
from pydantic import ValidationError

from panimbus.core.cell_head import FEATURES
from panimbus.model.card import ModelCard
from panimbus.model.cell_head import CellHead

WIDTH = len(FEATURES)
EVIDENCE = {n: np.array([0.5, 0.5]) for n in ("rim_mean", "rim_low", "inside_mean")}
EVIDENCE["neighbour_max"] = np.array([0.5, 5.0])
STATS = {"q25": 0.0, "q75": 1.0, "q99": 1.0, "outside": 0.5}


def head(weights=None, offsets=((0.0,),), **changes):
    row = [0.0] * WIDTH
    row[FEATURES.index("neighbour")] = -2.0
    given = {"centre": [0.0] * WIDTH, "scale": [1.0] * WIDTH, **changes}
    return CellHead(weights=weights or [[row]], offsets=offsets, **given)


def test_adds_to_the_logit():
    scores = head().scores(np.array([0.9, 0.9]), np.array([0.5, 0.5]), EVIDENCE, stats=STATS)
    shift = -2 * np.log(5.1001 / 0.6001)
    expected = [0.9, 1 / (1 + np.exp(-(np.log(9) + shift)))]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_two_layers_by_hand():
    features = np.array([[1, 2, 3, 4, 5, 6.0]], np.float32)
    first = [[1.0, 0, 0, 0, 0, 0], [0, -1.0, 0, 0, 0, 0]]
    two = head([first, [[3.0, 5.0]]], [[0.5, 0.5], [1.0]], centre=[1.0] * 6, scale=[2.0] * 6)
    # ((1-1)/2 + .5, -(2-1)/2 + .5) = (.5, 0) -> 3 * .5 + 5 * 0 + 1
    assert two.shift(features).tolist() == [2.5]


def test_many_cells_in_parts(monkeypatch):
    n = 7
    score, mean = np.linspace(0.1, 0.9, n), np.linspace(0.1, 1, n)
    evidence = {name: np.linspace(0, 2, n) for name in EVIDENCE}
    whole = head().scores(score, mean, evidence, stats=STATS)
    monkeypatch.setattr("panimbus.model.cell_head._CELLS", 3)
    np.testing.assert_array_equal(head().scores(score, mean, evidence, stats=STATS), whole)


def test_missing_stays_missing():
    scores = head().scores(np.array([0.9, np.nan]), np.full(2, 0.5), EVIDENCE, stats=STATS)
    assert np.isnan(scores).tolist() == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": [[[1.0] * (WIDTH - 1)]]},
        {"weights": [[[1.0] * WIDTH, [1.0] * WIDTH]], "offsets": [[0.0, 0.0]]},
        {"offsets": [[0.0], [0.0]]},
        {"offsets": [[0.0, 0.0]]},
        {"centre": [0.0] * (WIDTH + 1)},
        {"scale": [0.0] * WIDTH},
        {"weights": [[[float("nan")] * WIDTH]]},
    ],
)
def test_refused(changes):
    with pytest.raises(ValidationError):
        head(**changes)


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
