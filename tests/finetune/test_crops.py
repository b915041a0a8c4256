"""Called cells: their scores are exactly those of `predict`."""

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from panimbus.core.fov import Fov  # noqa: E402
from panimbus.data.source import scan_fovs  # noqa: E402
from panimbus.finetune.crops import crops, score_calls  # noqa: E402
from panimbus.infer.predict import PredictSettings, predict  # noqa: E402
from panimbus.model.card import ModelCard  # noqa: E402
from panimbus.model.unet import build  # noqa: E402
from panimbus.model.weights import load_torch, save_model  # noqa: E402

CARDS = {
    "compact": {
        "architecture": "compact_unet",
        "settings": {"widths": (4, 6)},
        "planes": ("image", "sqrt", "interior", "cell", "cell_mean"),
        "stats": ("q10", "q50", "q90", "outside"),
        "calibration": {"b": (1.5, -0.5)},
    },
    "one view": {
        "architecture": "compact_unet",
        "settings": {"widths": (4,)},
        "planes": ("image", "interior"),
        "tta": "none",
    },
    "valid": {
        "architecture": "paper_unet",
        "settings": {"depth": 2, "root": 2},
        "planes": ("image", "interior"),
        "padding": "valid",
    },
}


@pytest.fixture(params=CARDS)
def files(request, tmp_path):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    card = ModelCard(
        name=request.param.replace(" ", "-"), mpp=1.0, percentile=99.5, **CARDS[request.param]
    )
    net = build(card)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
            elif isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.bias.normal_(0, 0.3)
    return save_model(tmp_path / card.name, net, card)


@pytest.mark.parametrize(("shape", "mpp"), [((90, 70), 1.0), ((150, 131), 0.5), ((21, 33), 1.3)])
def test_scores_are_those_of_predict(files, make_tissue, shape, mpp, monkeypatch):
    monkeypatch.setattr("panimbus.finetune.crops.BLOCK", 40)
    fovs = []
    for k in range(2):
        image, labels = make_tissue(shape, 20, seed=k, channels=2, radius=5)
        labels[3:5, 3:5] = 40  # a small one, beside or on others
        labels[8, 9] = 41
        fovs.append(Fov(f"f{k}", image, ("a", "b"), labels, mpp))
    settings = PredictSettings(precision="float32", device="cpu", threads=1)
    table = predict(fovs, model=files.onnx, settings=settings)
    obs = table.obs.reset_index(drop=True)
    calls = (
        pd.concat([obs.assign(channel=c) for c in ("a", "b")])
        .sample(frac=0.7, random_state=0)
        .reset_index(drop=True)
    )
    calls = calls.rename(columns={"fov_id": "fov"}).assign(fov=lambda t: t["fov"].astype(str))
    net, card = load_torch(files.safetensors)
    dataset = scan_fovs("two", fovs, ("a", "b"), card)
    scores = score_calls(net, card, calls, dataset)
    expected = [
        table.X[
            (table.obs["fov_id"] == r.fov) & (table.obs["cell_id"] == r.cell_id),
            table.var_names == r.channel,
        ][0]
        for r in calls.itertuples()
    ]
    np.testing.assert_allclose(scores, expected, atol=2e-5)
    for crop in crops(calls, dataset, card):
        part = crop.part(16, card.stride)
        assert max(part.image.shape) <= max(16, card.stride)
        assert part.pixels.sum() <= crop.pixels.sum()
        assert part.pixels.any()
