"""The shipped model on tissue it never saw, simulated with other seeds, and in channels that hold
nothing."""

import numpy as np
import pytest

from panimbus.infer.predict import PredictSettings, predict
from panimbus.io import from_array, open_fovs
from panimbus.model.weights import DEFAULT_MODEL
from panimbus.simulate import simulate_tissue

ONE_VIEW = PredictSettings(tta="none")


@pytest.mark.parametrize(("platform", "mpp"), [("codex", 0.5), ("mibi", 0.5), ("imc", 1.0)])
def test_default_model_finds_the_truth_of_simulated_tissue(platform, mpp):
    side = int(160 / mpp)
    t = simulate_tissue((side, side), mpp, seed=987, platform=platform, errors=0.5)
    fov = from_array(t.image, t.labels, channels=t.channels, mpp=mpp)
    score = np.asarray(predict(fov, model=DEFAULT_MODEL, settings=ONE_VIEW).X)
    right = [
        (score[:, k][t.truth[:, k] >= 0] > 0.5) == (t.truth[:, k][t.truth[:, k] >= 0] == 1)
        for k in range(len(t.channels))
    ]
    assert np.concatenate(right).mean() > 0.9


def test_channels_that_hold_nothing_are_negative():
    t = simulate_tissue((256, 256), seed=5, panel=1, platform="codex")
    rng = np.random.default_rng(0)
    planes = [rng.poisson(rate, t.labels.shape) for rate in (0.05, 1.0, 20.0)]
    fov = from_array(
        np.stack(planes).astype(np.uint16), t.labels, channels=("sparse", "noise", "dense"), mpp=0.5
    )
    score = np.asarray(predict(fov, model=DEFAULT_MODEL, settings=ONE_VIEW).X)
    assert ((score > 0.5).mean(0) < 0.1).all()


@pytest.mark.parametrize(
    ("image", "labels", "channel"),
    [
        ("lymphoma_codex/images", "lymphoma_codex/labels", "DAPI"),
        ("spleen_imc/images/r12.ome.tiff", "spleen_imc/labels/r12.tiff", "DNA1"),
        ("spleen_imc/images/r12.ome.tiff", "spleen_imc/labels/r12.tiff", "HistoneH3"),
    ],
)
def test_nuclear_stains_of_real_tissue_are_positive(shared_data, image, labels, channel):
    (fov,) = open_fovs(shared_data / image, shared_data / labels)
    scored = predict(fov, model=DEFAULT_MODEL, channels=channel, settings=ONE_VIEW)
    assert (np.asarray(scored.X) > 0.5).mean() > 0.7
