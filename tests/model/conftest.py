"""Small nets with weights and batch norm statistics that are far from their start."""

import pytest

from panimbus.model.card import ModelCard


def card_of(architecture="compact_unet", **changes):
    fields = {
        "name": "tiny",
        "architecture": architecture,
        "settings": {"widths": [8, 12, 16]} if architecture == "compact_unet" else {"depth": 3, "root": 6},
        "planes": ("image", "sqrt", "interior") if architecture == "compact_unet" else ("image", "interior"),
        "stats": ("q50", "q90") if architecture == "compact_unet" else (),
        "mpp": 1.0,
        "percentile": 99.9,
    }
    return ModelCard(**{**fields, **changes})


def shaken(net, seed=0):
    """Give every parameter and buffer of ``net`` a value of its own; logits spread over several units."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 0.2, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                fan = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1, generator=generator)
    return net.eval()


@pytest.fixture
def tiny():
    """A small CompactUNet and its card."""
    pytest.importorskip("torch")
    from panimbus.model.unet import build

    card = card_of()
    return shaken(build(card)), card
