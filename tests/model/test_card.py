"""The card: derived sizes, validation, JSON."""

import json

import pytest
from pydantic import ValidationError

from panimbus.core.errors import ReadError
from panimbus.model.card import CompactSettings, ModelCard, PaperSettings

FIELDS = {
    "name": "tiny-1",
    "architecture": "compact_unet",
    "settings": {"widths": [8, 12], "blocks": 1},
    "planes": ["image", "sqrt", "interior"],
    "stats": ["q50", "outside"],
    "mpp": 1.0,
    "percentile": 99.9,
}


def test_json_round_trip_keeps_everything_and_tells_the_derived_sizes():
    card = ModelCard(
        **FIELDS,
        metrics={"macro_f1": 0.9, "by_marker": {"CD3": 0.95}},
        trained_on="simulated tissue",
    )
    text = card.to_json()
    assert ModelCard.from_json(text) == card
    assert json.loads(text)["stride"] == card.stride == 4
    assert json.loads(text)["reach"] == card.reach
    assert isinstance(card.settings, CompactSettings)
    assert card.settings.widths == (8, 12)


def test_card_is_frozen():
    card = ModelCard(**FIELDS)
    with pytest.raises(ValidationError, match="frozen"):
        card.mpp = 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planes": ["image", "nucleus"]}, "Unknown input planes: nucleus"),
        ({"stats": ["q111"]}, "Unknown channel statistics: q111"),
        ({"planes": ["image", "image"]}, "named twice"),
        ({"planes": []}, "at least 1"),
        ({"padding": "valid"}, "padding must be 'same'"),
        ({"architecture": "resnet"}, "'compact_unet' or 'backbone_unet'"),
        ({"architecture": "paper_unet"}, "widths"),
        ({"architecture": "paper_unet", "settings": {}}, "takes no statistics"),
        ({"mpp": 0}, "greater than or equal to 0.01"),
        ({"threshold": 1.5}, "less than or equal to 1"),
        ({"percentile": float("nan")}, "finite|greater than 0"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_wrong_card_says_what_is_wrong(change, message):
    with pytest.raises(ValidationError, match=message):
        ModelCard(**{**FIELDS, **change})


def test_from_json_gathers_the_problems_and_names_the_source():
    text = json.dumps({**FIELDS, "mpp": -1, "planes": ["x"]})
    with pytest.raises(
        ReadError, match=r"(?s)a\.onnx: the model card.*planes.*Unknown input planes: x.*mpp"
    ):
        ModelCard.from_json(text, source="a.onnx")
    with pytest.raises(ReadError, match="not JSON"):
        ModelCard.from_json("no json")


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"widths": [10**9]}},
        {"settings": {"widths": [8] * 40}},
        {"settings": {"widths": [8, 12], "unshuffle": 10**30}},
        {"settings": []},
        {"architecture": ["compact_unet"]},
        {"mpp": 1e-300},
        {"mpp": 10**400},
        {"percentile": 300},
        {"calibration": {"CD3": [0, 0]}},
        {"calibration": {"CD3": [1, 1e300]}},
        {"planes": "image"},
    ],
)
def test_absurd_numbers_and_other_types(change):
    with pytest.raises(ReadError, match=r"x\.onnx: the model card is not valid"):
        ModelCard.from_json(json.dumps({**FIELDS, **change}), source="x.onnx")


def test_the_papers_numbers():
    settings = PaperSettings()
    assert (settings.stride, settings.margin("same"), settings.margin("valid")) == (16, 0, 94)


def test_default_compact_numbers():
    settings = CompactSettings()
    assert (settings.stride, settings.reach) == (8, 41)
