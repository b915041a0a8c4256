"""A normaliser that was given: values that no float32 can be divided by, and those of another
dataset."""

from dataclasses import replace

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale
from panimbus.infer.collect import normaliser
from panimbus.infer.devices import open_backend
from panimbus.infer.executor import LocalExecutor
from panimbus.infer.inputs import make_plan
from panimbus.infer.passes import Run, scan_all
from panimbus.infer.predict import PredictSettings, predict
from panimbus.model.weights import resolve_model


@pytest.fixture
def scanned(model, fov):
    def scan(*fovs):
        fovs = list(fovs) or [fov()]
        settings = PredictSettings(tta="none", device="cpu", threads=1, allow_odd_labels=True)
        plan = make_plan(resolve_model(model("plain")), settings, fovs, None, None)
        run = Run(
            fovs, plan, LocalExecutor(open_backend(plan.model, settings)), None, lambda _: None
        )
        scan_all(run)
        return run

    return scan


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e-300, 1e-38, 1e-31])
def test_too_small_for_float32(value):
    data = {
        "percentile": 99.9,
        "over": "all",
        "fov_ids": [],
        "channels": {"CD3": {"normaliser": value, "stats": {"q50": 1e9}}},
    }
    with pytest.raises(InputError, match=r"CD3: normaliser is 1e-\d+, too small to divide float32"):
        ChannelScale.from_dict(data)


def test_statistics_too_large_for_the_normaliser():
    data = {
        "percentile": 99.9,
        "over": "all",
        "fov_ids": [],
        "channels": {"CD3": {"normaliser": 1e-9, "stats": {"outside": 1e30}}},
    }
    with pytest.raises(
        InputError, match=r"CD3: stats\.outside is 1e\+30, too large for a normaliser of 1e-09"
    ):
        ChannelScale.from_dict(data)


def test_pixels_too_bright_for_the_normaliser(scanned):
    run = scanned()
    scale = normaliser(run, None)
    with pytest.raises(InputError, match=r"too large for float32(.|\n)*a: pixels up to"):
        normaliser(run, replace(scale, normaliser={**scale.normaliser, "a": 1e-37}))


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (30, "a (30 times their own), b (30 times their own)"),
        (0.02, "a (1/50 of their own), b (1/50 of their own)"),
        (9, ""),
    ],
)
def test_of_another_dataset(scanned, caplog, factor, words):
    run = scanned()
    scale = normaliser(run, None)
    normaliser(run, replace(scale, normaliser={c: v * factor for c, v in scale.normaliser.items()}))
    lines = [r.getMessage() for r in caplog.records if "far from these images" in r.getMessage()]
    assert len(lines) == bool(words)
    assert words in "".join(lines)


def test_no_normaliser_is_blamed_where_none_was_given(scanned, fov, caplog):
    image = np.asarray(fov().image)
    run = scanned(Fov("f1", image, ("DAPI", "CD3"), np.zeros(image.shape[1:], np.uint16), 1.0))
    run.plan = replace(
        run.plan,
        model=replace(
            run.plan.model, card=run.plan.model.card.model_copy(update={"stats": ("counterstain",)})
        ),
    )
    scale = normaliser(run, None)
    assert "does not say what looks like" not in caplog.text
    normaliser(run, scale)
    assert "does not say what looks like" in caplog.text


def test_what_is_no_fov_and_no_scale(fov):
    for wrong in (3, None, [fov(), "folder"], np.zeros((2, 8, 9), np.uint16)):
        with pytest.raises(InputError, match="no FOV"):
            predict(wrong)
    with pytest.raises(InputError, match="scale is not a ChannelScale"):
        predict(fov(), scale={"a": 1.0})
    with pytest.raises(InputError, match="settings is not a PredictSettings"):
        predict(fov(), settings={"tta": "none"})
    for wrong in (3, [1, 2]):
        with pytest.raises(InputError, match="Names of channels are text"):
            predict(fov(), channels=wrong)
