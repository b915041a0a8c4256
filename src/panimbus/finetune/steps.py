"""The steps of fine-tuning: small ones, drawn back to where the weights began."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from panimbus.core.correction import Correction
from panimbus.core.errors import InputError
from panimbus.core.progress import OnProgress, Progress
from panimbus.data.augment import AugmentSettings, augment
from panimbus.finetune.crops import SIDE, Crop
from panimbus.io.documents import Strict, validate
from panimbus.model.card import ModelCard
from panimbus.model.loss import cell_losses
from panimbus.train.batches import collate
from panimbus.train.config import LossConfig, OptimiserConfig, StagesConfig
from panimbus.train.examples import Item, net_inputs
from panimbus.train.state import Logits
from panimbus.train.step import Learner, objective, rate_at

AUGMENT = AugmentSettings(probability=0.0, normaliser=0.1)
LOSS = LossConfig(pixel=0.5, cell=1.0, smoothing=0.0)


class FinetuneSettings(Strict):
    """Settings of fine-tuning.

    Attributes
    ----------
    steps, batch, rate
        Number of steps, batch size and learning rate of Adam (cosine decay).
    pull
        Strength with which the weights are drawn back to where they began (L2-SP, Li et al. 2018).
    share
        Share of the annotations that is held out.
    sure, likely
        Training targets of certain and of "likely" positive annotations; negative ones are 1 minus
        these.
    seed
        Random seed of the split and of the training.
    device
        PyTorch device; ``auto`` uses CUDA if present.
    """

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
    """Validated settings."""
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


def crop_side(card: ModelCard) -> int:
    """Side of the crops trained on; an unpadded net gives back less than it is shown."""
    return (
        SIDE
        if card.padding == "same"
        else -(-(2 * card.margin + SIDE // 2) // card.stride) * card.stride
    )


@dataclass(frozen=True, eq=False)
class FinetuneExample:
    """A crop, the score its cell is to have, and the card's correction of its marker."""

    crop: Crop
    target: float
    correction: Correction


def finetune_net(
    net: Any,
    card: ModelCard,
    examples: Sequence[FinetuneExample],
    *,
    settings: FinetuneSettings,
    device: str,
    progress: OnProgress,
) -> Any:
    """Return a copy of the net after the steps; normalisation layers keep their statistics.

    The loss is that of training: the cross-entropy of the cells' mean scores, and half as much that
    of their pixels. To it adds the distance of the weights from where they began.
    """
    rng, side = np.random.default_rng(settings.seed), crop_side(card)
    net = copy.deepcopy(net)
    optimiser = OptimiserConfig(kind="adam", rate=settings.rate, weight_decay=0.0)
    learner = Learner(net, optimiser, Logits(net, narrow=False))
    stages = StagesConfig(naive=settings.steps)
    start = [p.detach().clone() for p in net.parameters()]
    for chosen in _rounds(len(examples), settings, rng):
        drawn = [examples[k] for k in chosen]
        batch = collate([_item(example, card, side, rng) for example in drawn])
        batch = batch.to(torch.device(device))
        correction = torch.tensor([e.correction for e in drawn], device=device)[:, :, None, None]
        logits = learner.model(batch.planes, batch.stats) / correction[:, :1] + correction[:, 1:]
        losses = cell_losses(logits, batch.cells, batch.target)
        total, crops = batch.weight.sum(), len(drawn)
        loss = objective(losses, batch, batch.weight, LOSS, total=total, crops=crops)
        far = sum(((p - q) ** 2).sum() for p, q in zip(net.parameters(), start, strict=True))
        learner.update(loss + settings.pull * far, rate_at(learner.step, optimiser, stages))
        progress(Progress("train", "", learner.step, settings.steps))
    return net.eval()


def _rounds(
    count: int, settings: FinetuneSettings, rng: np.random.Generator
) -> Iterator[list[int]]:
    """The examples of each step: all of them in a random order, again and again."""
    queue: list[int] = []
    for _ in range(settings.steps):
        while len(queue) < settings.batch:
            queue += rng.permutation(count).tolist()
        yield queue[: settings.batch]
        del queue[: settings.batch]


def _item(example: FinetuneExample, card: ModelCard, side: int, rng: np.random.Generator) -> Item:
    """What a net sees of a crop in a random view; only the annotated cell carries a loss."""
    crop = example.crop
    missing = [(0, side - n) for n in crop.image.shape]
    view = augment(
        np.pad(crop.image, missing),
        np.pad(crop.pixels.astype(np.float32), missing)[None],
        index=np.pad(crop.index, missing, constant_values=-1),
        settings=AUGMENT,
        size=side,
        rng=rng,
    )
    planes, stats = net_inputs(card, view, crop.mean, crop.stats)
    inside = slice(card.margin, side - card.margin)
    return Item(
        planes=planes,
        stats=stats,
        cells=(view.extra[0, inside, inside] > 0.5).astype(np.int64),
        target=np.array([example.target], np.float32),
        weight=np.ones(1, np.float32),
        group=np.zeros(1, np.int64),
    )
