"""U-Nets with a published image classifier as the encoder (ResNet, EfficientNetV2, NASNet.

Timm, the extra ``backbones``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from torch import Tensor, nn

from panimbus.core.errors import InputError, MissingExtraError

_OPS = ("nms", "qnms")
_library: Any = None  # torch forgets the operators when this goes


class _Up(nn.Module):
    """Enlarge to the skip's size, concatenate, and twice 3x3 conv, batch norm, ReLU."""

    def __init__(self, width_in: int, skip: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for ins in (width_in + skip, width):
            layers += [
                nn.Conv2d(ins, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.convs = nn.Sequential(*layers)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, width_in, h, w) and (N, skip, H, W) -> (N, width, H, W)."""
        x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
        out: Tensor = self.convs(torch.cat([x, skip], dim=1))
        return out


class BackboneUNet(nn.Module):
    """A U-Net with a timm encoder.

    Parameters
    ----------
    encoder
        Name of a timm model that gives features at strides 2, 4, 8, ...: ``resnet50``,
        ``tf_efficientnetv2_s``, ``nasnetalarge``.
    widths
        Feature channels of the decoder, deepest first; as many as the encoder's levels that are
        used.
    planes
        Number of input planes P.
    pretrained
        Start from ImageNet weights (timm gets them from the Hugging Face hub, or from its cache).
    """

    def __init__(
        self, encoder: str, widths: Sequence[int], planes: int = 2, *, pretrained: bool = False
    ) -> None:
        super().__init__()
        self.planes, self.stats = planes, 0
        self.encoder = _encoder(encoder, planes, len(widths), pretrained=pretrained)
        skips = [*self.encoder.feature_info.channels()[-2::-1], planes]
        ins = [self.encoder.feature_info.channels()[-1], *widths[:-1]]
        self.up = nn.ModuleList(_Up(*level) for level in zip(ins, skips, widths, strict=True))
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def logits(self, planes: Tensor, stats: Tensor | None = None) -> Tensor:  # noqa: ARG002 (one call for all nets)
        """(N, P, H, W) -> (N, 1, H, W) before the sigmoid. ``stats`` is not used."""
        features = self.encoder(planes)  # (N, C_l, H / 2^l, W / 2^l), finest first
        x = features[-1]
        for up, skip in zip(self.up, [*features[-2::-1], planes], strict=True):
            x = up(x, skip)
        out: Tensor = self.head(x)
        return out

    def forward(self, planes: Tensor, stats: Tensor | None = None) -> Tensor:
        """(N, P, H, W) -> scores (N, 1, H, W) in [0, 1]."""
        return torch.sigmoid(self.logits(planes, stats))


def _encoder(name: str, planes: int, levels: int, *, pretrained: bool) -> Any:
    timm = _timm()
    try:
        return timm.create_model(
            name,
            features_only=True,
            in_chans=planes,
            pretrained=pretrained,
            out_indices=tuple(range(levels)),
        )
    except (RuntimeError, ValueError, AttributeError, IndexError, AssertionError) as error:
        similar = timm.list_models(name.split("_", maxsplit=1)[0] + "*")
        raise InputError(
            f"The encoder {name!r} cannot be built with {levels} levels.",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            available=similar or ["resnet50", "tf_efficientnetv2_s", "nasnetalarge"],
        ) from error


def _timm() -> Any:
    """Import timm.

    Torchvision, which it imports, does not load where its build (CUDA) is not torch's (CPU).

    No operator of torchvision is used here, so it is enough that their names exist.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingExtraError("a backbone", "backbones") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        global _library  # noqa: PLW0603 (must live as long as the process)
        for module in [m for m in sys.modules if m.split(".")[0] in {"torchvision", "timm"}]:
            del sys.modules[module]
        _library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for op in _OPS:
            _library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import timm
    return timm
