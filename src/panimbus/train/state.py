"""The state of a run: nets, optimiser, noise rules, where it is.

Begun anew or taken from ``last.pt``.
"""

from __future__ import annotations

import copy
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
from panimbus.train.distributed import Team
from panimbus.train.examples import Examples, StoreLike

if TYPE_CHECKING:
    from panimbus.train.config import TrainConfig


@dataclass
class Run:
    """All that a run needs to go on."""

    config: TrainConfig
    examples: Examples
    out: Path
    team: Team
    net: nn.Module
    model: nn.Module  # what is called: `net`, or `net` wrapped for several processes
    ema: nn.Module | None
    optimiser: torch.optim.Optimizer
    identity: dict[str, str]
    threshold: npt.NDArray[np.float64]
    step: int = 0
    best: tuple[float, int] = (-1.0, 0)  # F1 and step
    validated: float = math.nan


class Logits(nn.Module):
    """A net whose call gives logits, in bfloat16 where that is asked."""

    def __init__(self, net: nn.Module, *, narrow: bool) -> None:
        super().__init__()
        self.net, self.narrow = net, narrow

    def forward(self, planes: Tensor, stats: Tensor) -> Tensor:
        """(N, P, H, W), (N, S) -> (N, 1, H', W') float32."""
        with torch.autocast(planes.device.type, torch.bfloat16, enabled=self.narrow):
            out: Tensor = self.net.logits(planes, stats if stats.shape[1] else None)  # type: ignore[operator]
        return out.float()


def narrow(config: TrainConfig, crew: Team) -> bool:
    """Whether the net runs in bfloat16."""
    return config.optimiser.precision == "auto" and crew.device.type == "cuda"


def begin(config: TrainConfig, store: StoreLike, out: Path, crew: Team) -> Run:
    """Return a new run, or the one that ``out`` holds."""
    if config.machine.threads:
        torch.set_num_threads(config.machine.threads)
    torch.manual_seed(config.seed)
    card = config.card(
        mpp=store.info.mpp, percentile=store.info.percentile, over=store.info.percentile_over
    )
    examples = Examples(config, card, store)
    net: Any = build(card, pretrained=config.net.pretrained)
    net = net.to(crew.device, memory_format=torch.channels_last)
    if crew.size > 1 and crew.device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
    ema = copy.deepcopy(net) if config.optimiser.ema else None
    model: nn.Module = Logits(net, narrow=narrow(config, crew))
    if crew.size > 1:
        ids = [crew.device.index] if crew.device.type == "cuda" else None
        model = nn.parallel.DistributedDataParallel(
            model, device_ids=ids, broadcast_buffers=not config.net.frozen_norm
        )
    kind = torch.optim.Adam if config.optimiser.kind == "adam" else torch.optim.AdamW
    optimiser = kind(
        net.parameters(), lr=config.optimiser.rate, weight_decay=config.optimiser.weight_decay
    )
    same = checkpoint.identity(config, store)
    run = Run(
        config,
        examples,
        out,
        crew,
        net,
        model,
        ema,
        optimiser,
        same,
        noise.unseen(2 * len(examples.pairs)),
    )
    if (out / checkpoint.LAST).exists():
        _restore(run)
    out.mkdir(parents=True, exist_ok=True)
    return run


@torch.no_grad()
def average(run: Run) -> None:
    """Let the moving average follow the net.

    Quickly at first, then with the set share of the old.
    """
    if run.ema is None:
        return
    keep = min(run.config.optimiser.ema, (1 + run.step) / (10 + run.step))
    for mean, now in zip(run.ema.parameters(), run.net.parameters(), strict=True):
        mean.lerp_(now, 1 - keep)
    for old, new in zip(run.ema.buffers(), run.net.buffers(), strict=True):
        old.copy_(new)


def training_mode(run: Run) -> None:
    """Training mode; batch norms that are frozen keep their statistics."""
    run.model.train()
    for module in run.net.modules():
        if run.config.net.frozen_norm and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def save(run: Run) -> None:
    """Replace ``last.pt``."""
    parts: dict[str, Any] = {
        "net": run.net,
        "optimiser": run.optimiser,
        **({"ema": run.ema} if run.ema is not None else {}),
    }
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {
        "identity": run.identity,
        "step": run.step,
        "best": run.best,
        "validated": run.validated,
    }
    state |= {"threshold": torch.from_numpy(run.threshold), "random": torch.get_rng_state()}
    if run.team.device.type == "cuda":
        state["random_cuda"] = torch.cuda.get_rng_state(run.team.device)
    checkpoint.save(run.out / checkpoint.LAST, state)


def _restore(run: Run) -> None:
    """Take over ``last.pt``."""
    path = run.out / checkpoint.LAST
    state = checkpoint.load(path)
    checkpoint.check_same(path, state["identity"], run.identity)
    with checkpoint.whole(path):
        run.net.load_state_dict(state["net"])
        run.optimiser.load_state_dict(state["optimiser"])
        if run.ema is not None:
            run.ema.load_state_dict(state["ema"])
        run.threshold, run.step, run.best = (
            state["threshold"].numpy(),
            state["step"],
            tuple(state["best"]),
        )
        run.validated = state["validated"]
        torch.set_rng_state(state["random"])
        if "random_cuda" in state and run.team.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], run.team.device)
