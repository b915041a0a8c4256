"""Small nets with weights and batch norm statistics that are far from their start."""

import pytest

from panimbus.model.card import ModelCard


def _card(architecture="compact_unet", **changes):
    compact = architecture == "compact_unet"
    fields = {
        "name": "tiny",
        "architecture": architecture,
        "settings": {"widths": [8, 12, 16]} if compact else {"depth": 3, "root": 6},
        "planes": ("image", "sqrt", "interior") if compact else ("image", "interior"),
        "stats": ("q50", "q90") if compact else (),
        "mpp": 1.0,
        "percentile": 99.9,
    }
    return ModelCard(**{**fields, **changes})


def _net(card, seed=0):
    torch = pytest.importorskip("torch")
    from panimbus.model.unet import build

    net = build(card)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1.0, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.2, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                module.weight.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
    return net.eval()


@pytest.fixture
def make_card():
    """``make_card(architecture, **changes)``: the card of a small net."""
    return _card


@pytest.fixture
def make_net():
    """``make_net(card, seed=0)``: its net, with random weights everywhere."""
    return _net
