"""One step of the optimiser, the same for training and fine-tuning."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from panimbus.model.loss import CellLosses, disagreement, soft_f1_loss

if TYPE_CHECKING:
    from panimbus.train.batches import Batch
    from panimbus.train.config import LossConfig, OptimiserConfig, StagesConfig


@dataclass
class Learner:
    """A net, its optimiser, and the moving average of its weights.

    Parameters
    ----------
    net
        The module whose weights change.
    settings
    model
        What computes the logits: ``net``, or a wrapper of it.
    """

    net: nn.Module
    settings: OptimiserConfig
    model: nn.Module

    def __post_init__(self) -> None:
        kind = torch.optim.Adam if self.settings.kind == "adam" else torch.optim.AdamW
        self.optimiser: torch.optim.Optimizer = kind(
            self.net.parameters(), lr=self.settings.rate, weight_decay=self.settings.weight_decay
        )
        self.ema = copy.deepcopy(self.net) if self.settings.ema else None
        self.step = 0

    @property
    def rate(self) -> float:
        """Learning rate of the last step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def update(self, loss: Tensor, rate: float) -> None:
        """Take one step down the gradient of ``loss``, and let the moving average follow."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimiser.step()
        self._average()
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that a checkpoint keeps."""
        parts: dict[str, Any] = {"net": self.net, "optimiser": self.optimiser}
        parts |= {} if self.ema is None else {"ema": self.ema}
        return {name: part.state_dict() for name, part in parts.items()} | {"step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.step = state["step"]

    @torch.no_grad()
    def _average(self) -> None:
        """Follow quickly at first, then keep the set share of the old weights."""
        if self.ema is None:
            return
        keep = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.ema.parameters(), self.net.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        for old, new in zip(self.ema.buffers(), self.net.buffers(), strict=True):
            old.copy_(new)


def rate_at(step: int, optimiser: OptimiserConfig, stages: StagesConfig) -> float:
    """Learning rate of a step: a cosine over each stage, after a linear warm-up.

    Examples
    --------
    >>> from panimbus.train.config import OptimiserConfig, StagesConfig
    >>> stages = StagesConfig(naive=100, robust=50)
    >>> [round(1e4 * rate_at(s, OptimiserConfig(), stages), 3) for s in (0, 50, 99, 100, 125)]
    [3.0, 1.5, 0.001, 3.0, 1.5]
    """
    second = step >= stages.naive
    first = stages.robust_rate if second and stages.robust_rate is not None else optimiser.rate
    progress = (step - stages.naive) / stages.robust if second else step / stages.naive
    rise = min(1.0, (step + 1) / optimiser.warmup) if optimiser.warmup else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return first * rise * (optimiser.final + (1 - optimiser.final) * cosine)


def objective(
    losses: CellLosses,
    batch: Batch,
    weight: Tensor,
    settings: LossConfig,
    *,
    total: Tensor,
    crops: int,
) -> Tensor:
    """The loss of a batch.

    Parameters
    ----------
    losses
        Of the batch's cells, against smoothed targets.
    batch
    weight : (K + 1,)
        How much each cell counts; entry 0 is 0.
    settings
    total
        Sum of the weights over all processes.
    crops
        Crops over all processes, each view counted.
    """
    loss = ((settings.pixel * losses.pixel + settings.cell * losses.whole) * weight).sum() / total
    if settings.agreement:
        both = torch.minimum(*weight[1:].chunk(2))
        loss = loss + settings.agreement * (disagreement(losses.score) * both).sum() / (0.5 * total)
    if settings.f1:
        soft = soft_f1_loss(losses.score, batch.target, batch.cells, weight > 0)
        loss = loss + settings.f1 * soft.sum() / crops
    return loss
