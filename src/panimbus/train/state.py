"""The state of a run: net, optimiser, noise rules, progress; new, or taken from ``last.pt``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from panimbus.model.unet import build
from panimbus.train import checkpoint, noise
from panimbus.train.distributed import ProcessGroup
from panimbus.train.examples import Examples, StoreLike
from panimbus.train.start import load_start
from panimbus.train.step import Learner

if TYPE_CHECKING:
    from panimbus.train.config import OptimiserConfig, TrainConfig


@dataclass
class TrainingRun:
    """Everything a run needs to continue."""

    config: TrainConfig
    examples: Examples
    out: Path
    group: ProcessGroup
    learner: Learner
    identity: dict[str, str]
    threshold: npt.NDArray[np.float64]
    best: tuple[float, int] = (-1.0, 0)  # F1 and step
    validated: float = math.nan

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.learner.step


class Logits(nn.Module):
    """A net whose call gives logits, in bfloat16 where ``narrow``."""

    def __init__(self, net: nn.Module, *, narrow: bool) -> None:
        super().__init__()
        self.net, self.narrow = net, narrow

    def forward(self, planes: Tensor, stats: Tensor) -> Tensor:
        """(N, P, H, W), (N, S) -> (N, 1, H', W') float32."""
        with torch.autocast(planes.device.type, torch.bfloat16, enabled=self.narrow):
            out: Tensor = self.net.logits(planes, stats if stats.shape[1] else None)  # type: ignore[operator]
        return out.float()


def is_narrow(settings: OptimiserConfig, device: torch.device) -> bool:
    """Whether the net runs in bfloat16."""
    on_gpu = settings.precision == "auto" and device.type == "cuda"
    return on_gpu or settings.precision == "bfloat16"


def begin(config: TrainConfig, store: StoreLike, out: Path, group: ProcessGroup) -> TrainingRun:
    """Return a new run, or the one that ``out`` holds."""
    if config.machine.threads:
        torch.set_num_threads(config.machine.threads)
    torch.manual_seed(config.seed)
    info, device = store.info, group.device
    card = config.card(mpp=info.mpp, percentile=info.percentile, over=info.percentile_over)
    examples = Examples(config, card, store)
    net: Any = build(card, pretrained=config.net.pretrained)
    if config.net.start:
        load_start(net, card, config.net.start)
    net = net.to(device, memory_format=torch.channels_last)
    if group.size > 1 and device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    model: nn.Module = Logits(net, narrow=is_narrow(config.optimiser, device))
    if group.size > 1:
        model = nn.parallel.DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=not config.net.frozen_norm,
        )
    learner = Learner(net, config.optimiser, model)
    identity = checkpoint.identity(config, store)
    threshold = noise.unseen(2 * len(examples.pairs))
    run = TrainingRun(config, examples, out, group, learner, identity, threshold)
    if (out / checkpoint.LAST).exists():
        _restore(run)
    out.mkdir(parents=True, exist_ok=True)
    return run


def training_mode(run: TrainingRun) -> None:
    """Training mode; frozen batch norms keep their statistics."""
    run.learner.model.train()
    for module in run.learner.net.modules():
        if run.config.net.frozen_norm and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def save_state(run: TrainingRun) -> None:
    """Replace ``last.pt``."""
    state: dict[str, Any] = run.learner.state_dict()
    state |= {"identity": run.identity, "best": run.best, "validated": run.validated}
    state |= {"threshold": torch.from_numpy(run.threshold), "random": torch.get_rng_state()}
    if run.group.device.type == "cuda":
        state["random_cuda"] = torch.cuda.get_rng_state(run.group.device)
    checkpoint.save_checkpoint(run.out / checkpoint.LAST, state)


def _restore(run: TrainingRun) -> None:
    """Take over ``last.pt``."""
    path = run.out / checkpoint.LAST
    state = checkpoint.load(path)
    checkpoint.check_same(path, state["identity"], run.identity)
    with checkpoint.complete_state(path):
        run.learner.load_state_dict(state)
        run.threshold, run.best = state["threshold"].numpy(), tuple(state["best"])
        run.validated = state["validated"]
        torch.set_rng_state(state["random"])
        if "random_cuda" in state and run.group.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], run.group.device)
