"""Backbones: the shapes, the file and back, and what is said where timm or the encoder is
missing."""

import sys

import numpy as np
import pytest

from panimbus.core.errors import InputError, MissingExtraError
from panimbus.model.card import BackboneSettings, ModelCard

torch = pytest.importorskip("torch")


def card(encoder="resnet18", widths=(32, 16, 8, 8)):
    return ModelCard(
        name="b", architecture="backbone_unet",
        settings={"encoder": encoder, "widths": widths}, planes=("image", "sqrt", "interior"),
        mpp=1.0, percentile=99.9,
    )  # fmt: skip


@pytest.fixture
def timm():
    from panimbus.model.backbones import _timm

    try:
        return _timm()
    except MissingExtraError:
        pytest.skip("timm is not installed")


@pytest.mark.filterwarnings("ignore")
def test_a_backbone_is_trained_written_and_run(timm, tmp_path):
    import openvino as ov

    from panimbus.model.unet import build
    from panimbus.model.weights import load_torch, save_model

    torch.manual_seed(0)
    net = build(card()).train()
    x = torch.rand(2, 3, 48, 64)
    assert net.logits(x).shape == (2, 1, 48, 64)
    net.logits(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    files = save_model(tmp_path / "b", net.eval(), card())
    again, found = load_torch(files.safetensors)
    assert found == card()
    with torch.inference_mode():
        wanted = again(x).numpy()
    run = ov.Core().compile_model(files.onnx, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(next(iter(run([x.numpy()]).values())), wanted, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_an_unknown_encoder(timm):
    from panimbus.model.unet import build

    with pytest.raises(InputError, match="'resnet_of_mine' cannot be built"):
        build(card("resnet_of_mine"))


def test_timm_is_missing(monkeypatch):
    from panimbus.model.unet import build

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"panimbus\[backbones\]"):
        build(card())


def test_its_card():
    assert BackboneSettings().stride == 32
    assert card().stride == 16
    with pytest.raises(ValueError, match="takes no statistics"):
        ModelCard.model_validate(card().model_dump() | {"stats": ["q50"]})
    with pytest.raises(ValueError, match="padding must be 'same'"):
        ModelCard.model_validate(card().model_dump() | {"padding": "valid"})
