"""The steps of fine-tuning: small ones, drawn back to where the weights began."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from panimbus.core.correction import Correction
from panimbus.core.errors import InputError
from panimbus.finetune.crops import SIDE, Crop, run, views
from panimbus.io.documents import validate
from panimbus.model.card import ModelCard

Report = Callable[[str, str, int, int], None]
"""Called with (stage, FOV or "", how much is done, of how much)."""


class FinetuneSettings(BaseModel):
    """How to change a model.

    Attributes
    ----------
    how
        ``weights``: train the net on. ``recalibrate``: one temperature and offset for all markers,
        folded into the net's last layer. ``markers``: one pair a marker, kept on the card.
    steps, batch, rate
        Of Adam with a cosine decay.
    pull
        Strength with which the weights are drawn back to where they began (L2-SP, Li et al. 2018).
    share
        Share of the calls that is held out; recalibration holds out each fifth in turn.
    sure, likely
        Targets of plain and of "likely" positive calls; negative ones mirror them.
    seed
        Of the split and of the training.
    device
        Of torch; ``auto`` takes CUDA where there is some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    how: Literal["weights", "recalibrate", "markers"] = "weights"
    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    batch: Annotated[int, Field(ge=1, le=65536)] = 16
    rate: Annotated[float, Field(gt=0, le=1)] = 3e-4
    pull: Annotated[float, Field(ge=0)] = 0.1
    share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    sure: Annotated[float, Field(gt=0.5, le=1)] = 0.975
    likely: Annotated[float, Field(gt=0.5, le=1)] = 0.85
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    device: str = "auto"


def settings_of(**values: Any) -> FinetuneSettings:
    """Settings, or an `InputError` that says what is wrong with them."""
    return validate(FinetuneSettings, values, "These settings of fine-tuning cannot be used.")


def pick_device(name: str) -> str:
    """The torch device of a name; ``auto`` is CUDA where there is some."""
    ready = {"cpu": True, "cuda": torch.cuda.is_available()}
    if name == "auto":
        return "cuda" if ready["cuda"] else "cpu"
    if not ready.get(name, False):
        raise InputError(
            f"Fine-tuning has no device {name!r} here.",
            available=["auto", *(d for d, ok in ready.items() if ok)],
        )
    return name


def side_of(card: ModelCard) -> int:
    """Side of the crops trained on; an unpadded net gives back less than it is shown."""
    return (
        SIDE
        if card.padding == "same"
        else -(-(2 * card.margin + SIDE // 2) // card.stride) * card.stride
    )


@dataclass(frozen=True, eq=False)
class Lesson:
    """A crop, the score its cell is to have, and the card's correction of its marker."""

    crop: Crop
    target: float
    correction: Correction


def train_on(
    net: Any,
    card: ModelCard,
    lessons: Sequence[Lesson],
    *,
    settings: FinetuneSettings,
    device: str,
    report: Report,
) -> Any:
    """A copy of the net after the steps; the statistics of normalisation layers stay as they are.

    Loss: what is thresholded, the cells' mean scores, and half as much that of their pixels; and
    the distance of the weights from where they began.
    """
    rng, side = np.random.default_rng(settings.seed), side_of(card)
    net = copy.deepcopy(net)
    weights = [p for p in net.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in weights]
    optimiser = torch.optim.Adam(weights, lr=settings.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    queue: list[int] = []
    for step in range(settings.steps):
        while len(queue) < settings.batch:
            queue += rng.permutation(len(lessons)).tolist()
        chosen, queue = [lessons[k] for k in queue[: settings.batch]], queue[settings.batch :]
        planes, stats, pixels = _batch([c.crop for c in chosen], card, side, rng)
        logits = run(net, planes, stats, device)[:, 0]
        lost = (side - logits.shape[1]) // 2
        masks = torch.from_numpy(pixels[:, lost : side - lost, lost : side - lost].copy()).to(
            device
        )
        pairs = torch.tensor([c.correction for c in chosen], dtype=torch.float32, device=device)
        logits = logits / pairs[:, :1, None] + pairs[:, 1:, None]
        soft = torch.tensor([c.target for c in chosen], dtype=torch.float32, device=device)
        far = sum(((p - q) ** 2).sum() for p, q in zip(weights, start, strict=True))
        loss = _loss(logits, masks, soft) + settings.pull * far
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        report("train", "", step + 1, settings.steps)
    return net.eval()


def _loss(logits: torch.Tensor, masks: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(N, H, W) logits and masks, (N,) targets."""
    area = masks.sum((1, 2)).clamp(min=1)
    score = ((torch.sigmoid(logits) * masks).sum((1, 2)) / area).clamp(1e-4, 1 - 1e-4)
    soft = target[:, None, None].expand_as(logits)
    pixel = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    whole = torch.nn.functional.binary_cross_entropy(score, target)
    return whole + 0.5 * ((pixel * masks).sum((1, 2)) / area).mean()


def _batch(
    chosen: Sequence[Crop], card: ModelCard, side: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Planes (N, P, side, side), stats (N, S) and cell masks (N, side, side) of crops, each in a
    random view and brightness.
    """
    planes = np.zeros((len(chosen), len(card.planes), side, side), np.float32)
    pixels = np.zeros((len(chosen), side, side), np.float32)
    stats = np.zeros((len(chosen), len(card.stats)), np.float32)
    for n, crop in enumerate(chosen):
        gain = float(np.exp(0.1 * rng.standard_normal()))
        k = int(rng.integers(8))
        h, w = crop.image.shape
        full = np.zeros((len(card.planes) + 1, side, side), np.float32)
        full[:-1, :h, :w], stats[n] = crop.inputs(card, gain=gain)
        full[-1, :h, :w] = crop.pixels
        turned = views(full, k)
        planes[n], pixels[n] = turned[:-1], turned[-1]
    return planes, stats, pixels
