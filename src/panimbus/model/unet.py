"""The two nets.

``CompactUNet``, our small default, and ``PaperUNet``, the residual U-Net of the Nimbus paper.

This module imports torch. Prediction on a CPU needs none of it: it runs the ONNX file of a model in
OpenVINO.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from panimbus.model.card import BackboneSettings, CompactSettings, ModelCard

if TYPE_CHECKING:
    from panimbus.model.backbones import BackboneUNet

    Net: TypeAlias = "CompactUNet | PaperUNet | BackboneUNet"

_FILM_HIDDEN = 32


class _Film(nn.Module):
    """Scale and shift feature maps by what the dataset's intensities look like.

    ``stats (N, S) -> hidden (N, 32) -> one (scale, shift) a channel and level``. Starts as the
    identity.
    """

    def __init__(self, stats: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.hidden = nn.Linear(stats, _FILM_HIDDEN)
        self.levels = nn.ModuleList(nn.Linear(_FILM_HIDDEN, 2 * width) for width in widths)
        for level in self.levels:
            nn.init.zeros_(level.weight)  # type: ignore[arg-type]
            nn.init.zeros_(level.bias)  # type: ignore[arg-type]

    def forward(self, stats: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return for each level the pair (scale, shift), each (N, width, 1, 1)."""
        hidden = F.relu(self.hidden(stats))
        pairs = []
        for level in self.levels:
            scale, shift = level(hidden)[:, :, None, None].chunk(2, dim=1)
            pairs.append((1 + scale, shift))
        return pairs


class _Conv(nn.Module):
    """3x3 convolution with zero padding; with ``norm`` a batch norm that export folds into it."""

    def __init__(self, width_in: int, width_out: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, 3, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(width_out) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width_out, H, W)."""
        out: Tensor = self.norm(self.conv(x))
        return out


class _Residual(nn.Module):
    """``relu(x + conv(x))``; ``folded`` puts the sum into the convolution."""

    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = _Conv(width, width, norm=norm)
        self.summed = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        return F.relu(self.conv(x) if self.summed else x + self.conv(x))


class _Level(nn.Module):
    """One level of the encoder: 3x3 conv, FiLM, ReLU, then ``blocks`` residual convs."""

    def __init__(self, width_in: int, width: int, blocks: int, *, norm: bool) -> None:
        super().__init__()
        self.first = _Conv(width_in, width, norm=norm)
        self.blocks = nn.Sequential(*(_Residual(width, norm=norm) for _ in range(blocks)))

    def forward(self, x: Tensor, film: tuple[Tensor, Tensor] | None) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H, W)."""
        x = self.first(x)
        if film is not None:
            scale, shift = film
            x = x * scale + shift
        out: Tensor = self.blocks(F.relu(x))
        return out


class CompactUNet(nn.Module):
    """A small U-Net for CPUs.

    Works on 2x2 pixels at a time and is told how the dataset's intensities are distributed.

    Pixels are folded into channels first (``pixel_unshuffle``), so that no convolution runs at full
    resolution; the head unfolds them again. Convolutions pad with zeros. The constant vector
    ``stats`` scales and shifts the features after the first convolution of each level (FiLM, Perez
    et al. 2018).

    Parameters
    ----------
    widths
        Feature channels of each level, finest first; max-pool 2 between levels.
    blocks
        Residual 3x3 convolutions after the first convolution of a level, and at each level of the
        decoder.
    planes, stats
        Number of input planes P and of statistics S; ``stats=0`` builds a net without FiLM.
    unshuffle
        Side of the square of pixels folded into channels; 1 folds nothing.
    norm
        Batch norm after each 3x3 convolution (export folds it away).
    """

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96),
        blocks: int = 1,
        planes: int = 5,
        stats: int = 7,
        unshuffle: int = 2,
        *,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.planes, self.stats, self.unshuffle = planes, stats, unshuffle
        self.fold: nn.Module = nn.PixelUnshuffle(unshuffle)
        self.film = _Film(stats, widths) if stats else None
        ins = [planes * unshuffle**2, *widths[:-1]]
        self.encoder = nn.ModuleList(
            _Level(i, width, blocks, norm=norm) for i, width in zip(ins, widths, strict=True)
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.up = nn.ModuleList(nn.Conv2d(deep, fine, 1) for deep, fine in pairs)
        self.decoder = nn.ModuleList(
            nn.Sequential(*(_Residual(fine, norm=norm) for _ in range(blocks))) for _, fine in pairs
        )
        self.head = nn.Conv2d(widths[0], unshuffle**2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def logits(self, planes: Tensor, stats: Tensor | None = None) -> Tensor:
        """Scores before the sigmoid, for training.

        Parameters
        ----------
        planes
            (N, P, H, W) float; H and W multiples of ``stride(settings)``.
        stats
            (N, S) float; None for a net with ``stats=0``.

        Returns
        -------
        logits : (N, 1, H, W)
        """
        films = [None] * len(self.encoder) if self.film is None else self.film(stats)
        x = self.fold(planes)  # (N, P u u, H/u, W/u)
        skips: list[Tensor] = []
        for depth, (level, film) in enumerate(zip(self.encoder, films, strict=True)):
            x = level(F.max_pool2d(x, 2) if depth else x, film)  # (N, widths[d], H/u/2^d, W/u/2^d)
            skips.append(x)
        skips.pop()
        for up, blocks in zip(self.up, self.decoder, strict=True):
            x = blocks(F.interpolate(up(x), scale_factor=2.0, mode="nearest") + skips.pop())
        return F.pixel_shuffle(self.head(x), self.unshuffle)

    def forward(self, planes: Tensor, stats: Tensor | None = None) -> Tensor:
        """(N, P, H, W) and (N, S) -> scores (N, 1, H, W) in [0, 1]."""
        return torch.sigmoid(self.logits(planes, stats))


class _PaperBlock(nn.Module):
    """1x1 conv, then twice [3x3 conv, batch norm, ReLU], plus what the 1x1 conv gave.

    The names of the layers are those of the published weights.
    """

    def __init__(self, width_in: int, width: int, padding: str) -> None:
        super().__init__()
        self.same = padding == "same"
        self.pad = nn.ReflectionPad2d(1) if self.same else nn.Identity()
        self.conv2d_0 = nn.Conv2d(width_in, width, 1)
        self.conv2d_1 = nn.Conv2d(width, width, 3)
        self.bn_1: nn.Module = nn.BatchNorm2d(width)
        self.conv2d_2 = nn.Conv2d(width, width, 3)
        self.bn_2: nn.Module = nn.BatchNorm2d(width)
        self.merged: nn.Conv2d | None = None  # conv2d_1 after conv2d_0 in one, set by ``folded``

    def forward(self, x: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width, H, W); 4 px less in H and W when unpadded."""
        skip: Tensor = self.conv2d_0(x)
        first = self.conv2d_1(self.pad(skip)) if self.merged is None else self.merged(self.pad(x))
        x = F.relu(self.bn_1(first))
        x = F.relu(self.bn_2(self.conv2d_2(self.pad(x))))
        return x + (skip if self.same else skip[:, :, 2:-2, 2:-2])


class _PaperUp(nn.Module):
    """2x2 transposed convolution that halves the width, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upconv = nn.ConvTranspose2d(width, width // 2, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width/2, 2H, 2W)."""
        return F.relu(self.upconv(x))


class PaperUNet(nn.Module):
    """The residual U-Net of Rumberger, Greenwald et al.

    (*Nimbus*), with the layer names of the published weights.

    ``contracting_layers.{0,2,4,6}``, ``bottle_neck`` and ``expanding_layers.{2,5,8,11}`` are
    residual blocks, ``expanding_layers.{0,3,6,9}`` transposed convolutions (for depth 5; the
    numbers between them are layers without weights in the original list). 35.6 M parameters at
    depth 5, root 64.

    Parameters
    ----------
    planes
        Number of input planes P.
    depth, root
        Levels, and filters of the first level; each deeper level has twice as many.
    padding
        "same": every 3x3 convolution pads by reflection; sides must be multiples of ``2 ** (depth -
        1)``. "valid": nothing is padded; an input of 1024 x 1024 gives 836 x 836 (depth 5).
    """

    def __init__(
        self,
        planes: int = 2,
        depth: int = 5,
        root: int = 64,
        padding: Literal["same", "valid"] = "same",
    ) -> None:
        super().__init__()
        self.planes, self.stats = planes, 0
        widths = [root * 2**level for level in range(depth)]
        ins = [planes, *widths]
        self.contracting_layers = nn.ModuleDict(
            {
                str(2 * level): _PaperBlock(ins[level], widths[level], padding)
                for level in range(depth - 1)
            }
        )
        self.bottle_neck = _PaperBlock(widths[-2], widths[-1], padding)
        self.expanding_layers = nn.ModuleDict()
        for place, level in enumerate(range(depth - 2, -1, -1)):
            self.expanding_layers[str(3 * place)] = _PaperUp(widths[level + 1])
            self.expanding_layers[str(3 * place + 2)] = _PaperBlock(
                widths[level + 1], widths[level], padding
            )
        self.final_conv = nn.Conv2d(root, 1, 1)

    def logits(self, planes: Tensor, stats: Tensor | None = None) -> Tensor:  # noqa: ARG002 (one call for all nets)
        """(N, P, H, W) -> (N, 1, H', W') before the sigmoid; H' = H when padded.

        ``stats`` is not used.
        """
        x, skips = planes, []
        for block in self.contracting_layers.values():
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottle_neck(x)
        layers = list(self.expanding_layers.values())
        for up, block in zip(layers[::2], layers[1::2], strict=True):
            x = up(x)
            x = block(torch.cat([_centre(skips.pop(), x), x], dim=1))
        out: Tensor = self.final_conv(x)
        return out

    def forward(self, planes: Tensor, stats: Tensor | None = None) -> Tensor:
        """(N, P, H, W) -> scores (N, 1, H', W') in [0, 1]."""
        return torch.sigmoid(self.logits(planes, stats))


def _centre(skip: Tensor, like: Tensor) -> Tensor:
    """Cut the centre of ``skip`` to the height and width of ``like``.

    An odd pixel stays at the end that is cut.
    """
    top = (skip.shape[2] - like.shape[2]) // 2
    left = (skip.shape[3] - like.shape[3]) // 2
    return skip[:, :, top : top + like.shape[2], left : left + like.shape[3]]


def build(card: ModelCard, *, pretrained: bool = False) -> Net:
    """Return the untrained net that a card describes, in evaluation mode.

    A backbone may start from ImageNet weights.
    """
    net: Net
    if isinstance(card.settings, CompactSettings):
        kept = card.settings.model_dump()
        net = CompactUNet(planes=len(card.planes), stats=len(card.stats), **kept)
    elif isinstance(card.settings, BackboneSettings):
        from panimbus.model.backbones import BackboneUNet

        chosen = card.settings
        net = BackboneUNet(
            chosen.encoder, chosen.widths, planes=len(card.planes), pretrained=pretrained
        )
    else:
        net = PaperUNet(planes=len(card.planes), padding=card.padding, **card.settings.model_dump())
    return net.eval()


def folded(net: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that computes the same with fewer operations, for export.

    Batch norms become part of the convolutions before them. In a ``PaperUNet`` the 1x1 convolution
    at the head of an encoder block is multiplied into the 3x3 one behind it (both are linear, and
    reflection padding commutes with a 1x1): the 3x3 then sees half as many channels, which saves 15
    % of the net's work. In a ``CompactUNet`` folding pixels and the first 3x3 convolution become
    one strided convolution, and ``x + conv(x)`` becomes one convolution with 1 more at the centre
    of the kernels from a channel to itself: the runtime then fuses what follows (5 % of the net's
    time).
    """
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if isinstance(module, _Conv) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv, module.norm = fuse_conv_bn_eval(module.conv, module.norm), nn.Identity()
        elif isinstance(module, _PaperBlock):
            for conv, norm in (("conv2d_1", "bn_1"), ("conv2d_2", "bn_2")):
                setattr(
                    module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                )
                setattr(module, norm, nn.Identity())
            if module.conv2d_0.in_channels < module.conv2d_0.out_channels:
                module.merged = _merged(module.conv2d_0, module.conv2d_1)
    for module in net.modules():
        if isinstance(module, _Residual):
            module.conv.conv, module.summed = _with_identity(module.conv.conv), True
    if isinstance(net, CompactUNet) and net.unshuffle > 1:
        first: Any = net.encoder[0]
        first.first.conv, net.fold = _strided(first.first.conv, net.unshuffle), nn.Identity()
    return net


def _with_identity(conv: nn.Conv2d) -> nn.Conv2d:
    """Return the 3x3 convolution that equals ``x + conv(x)``."""
    out = copy.deepcopy(conv)
    with torch.no_grad():
        channels = torch.arange(conv.out_channels)
        out.weight[channels, channels, 1, 1] += 1
    return out


def _strided(conv: nn.Conv2d, unshuffle: int) -> nn.Conv2d:
    """Return the convolution that equals ``pixel_unshuffle`` and then ``conv``.

    A larger kernel that moves by ``unshuffle``.
    """
    u, width = unshuffle, conv.out_channels
    planes = conv.in_channels // u**2
    out = nn.Conv2d(planes, width, 3 * u, stride=u, padding=u)
    weight = (
        conv.weight.detach().reshape(width, planes, u, u, 3, 3).permute(0, 1, 4, 2, 5, 3)
    )  # O, P, ky, dy, kx, dx
    out.weight, out.bias = (
        nn.Parameter(weight.reshape(width, planes, 3 * u, 3 * u)),
        nn.Parameter(_bias(conv).float()),
    )
    return out


def _merged(one: nn.Conv2d, three: nn.Conv2d) -> nn.Conv2d:
    """Return the 3x3 convolution that equals ``three`` after the 1x1 convolution ``one``."""
    out = nn.Conv2d(one.in_channels, three.out_channels, 3)
    first, second = one.weight.detach().double(), three.weight.detach().double()
    weight = torch.einsum("omhw,mi->oihw", second, first[:, :, 0, 0])
    bias = _bias(three) + torch.einsum("omhw,m->o", second, _bias(one))
    out.weight, out.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    return out


def _bias(conv: nn.Conv2d) -> Tensor:
    return (
        torch.zeros(conv.out_channels).double()
        if conv.bias is None
        else conv.bias.detach().double()
    )
