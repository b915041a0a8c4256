"""The two nets: ``CompactUNet``, our small default, and ``PaperUNet``, the residual U-Net of the Nimbus paper.

This module imports torch. Prediction on a CPU needs none of it: it runs the ONNX file of a model in OpenVINO.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from torch import Tensor, nn

_FILM_HIDDEN = 32


class _Film(nn.Module):
    """Scale and shift feature maps by what the dataset's intensities look like.

    ``stats (N, S) -> hidden (N, 32) -> one (scale, shift) a channel and level``. Starts as the identity.
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
    """``relu(x + conv(x))``."""

    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = _Conv(width, width, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        return F.relu(x + self.conv(x))


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
    """A small U-Net for CPUs: works on 2x2 pixels at a time and is told how the dataset's intensities are distributed.

    Pixels are folded into channels first (``pixel_unshuffle``), so that no convolution runs at full resolution; the head
    unfolds them again. Convolutions pad with zeros. The constant vector ``stats`` scales and shifts the features after the
    first convolution of each level (FiLM, Perez et al. 2018).

    Parameters
    ----------
    widths
        Feature channels of each level, finest first; max-pool 2 between levels.
    blocks
        Residual 3x3 convolutions after the first convolution of a level, and at each level of the decoder.
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
        self.film = _Film(stats, widths) if stats else None
        ins = [planes * unshuffle**2, *widths[:-1]]
        self.encoder = nn.ModuleList(_Level(i, width, blocks, norm=norm) for i, width in zip(ins, widths, strict=True))
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.up = nn.ModuleList(nn.Conv2d(deep, fine, 1) for deep, fine in pairs)
        self.decoder = nn.ModuleList(nn.Sequential(*(_Residual(fine, norm=norm) for _ in range(blocks))) for _, fine in pairs)
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
        x = F.pixel_unshuffle(planes, self.unshuffle)  # (N, P u u, H/u, W/u)
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
