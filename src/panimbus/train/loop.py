"""Training, from a store of tiles to a model file. Read it from `train` down.

    panimbus train small --store STORE --out RUN
    torchrun --nproc-per-node 4 -m panimbus train paper --store STORE --out RUN

A step: crops -> logits of pixels -> losses of cells -> in the second stage only the cells that are
trusted -> one step of Adam. Run the same command again after a kill: the data of a step follow from
(seed, step), and the rest is in ``last.pt``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from panimbus.core.errors import InputError
from panimbus.model.loss import cell_losses, lack_of_f1, smoothed
from panimbus.train import checkpoint, noise
from panimbus.train.batches import Batch, batches
from panimbus.train.curves import Curves
from panimbus.train.distributed import Team, team
from panimbus.train.examples import StoreLike, check_fits, validation_rows
from panimbus.train.result import RESULT, draw, finish, read_result
from panimbus.train.state import Logits, Run, average, begin, narrow, save, training_mode
from panimbus.train.validate import Validation, validate

if TYPE_CHECKING:
    from panimbus.train.config import OptimiserConfig, StagesConfig, TrainConfig


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is: told after every step."""

    step: int
    total: int
    stage: str
    loss: float = math.nan
    kept: float = 1.0
    tiles_per_s: float = math.nan
    waiting: float = math.nan
    val_f1: float = math.nan
    best_f1: float = math.nan


@dataclass
class _Tally:
    """Sums since the last line of the curves."""

    loss: Tensor
    kept: Tensor
    cells: int = 0
    steps: int = 0
    waited: float = 0.0
    since: float = field(default_factory=time.perf_counter)


def train(
    config: TrainConfig,
    store: StoreLike,
    out: str | Path,
    progress: Callable[[TrainProgress], None] | None = None,
) -> dict[str, Any]:
    """Train a model, or go on with a run.

    Parameters
    ----------
    config, store
        The settings, and a `panimbus.data.store.Store`.
    out
        The run's folder: ``model.safetensors`` and ``model.onnx`` (of the step with the best
        validation F1), ``result.json``, ``markers.csv``, ``curves.csv``, ``epochs/*.png``,
        ``last.pt``, ``best.pt``.
    progress
        Called after every step.

    Returns
    -------
    dict
        What ``result.json`` holds.
    """
    check_fits(config, store)
    with team(config.machine.device) as crew:
        run = begin(config, store, Path(out), crew)
        if run.step == config.stages.total and (run.out / RESULT).exists():
            return read_result(run.out) if crew.leads else {}
        rows = validation_rows(
            store, "val", leave_out=config.data.leave_out, tiles=config.check.tiles
        )
        _steps(run, rows, progress or (lambda _: None))
        result = finish(run) if crew.leads else {}
        crew.wait()
    return result


def _steps(run: Run, rows: npt.NDArray[np.intp], progress: Callable[[TrainProgress], None]) -> None:
    """All the steps that are left."""
    config, crew, total = run.config, run.team, run.config.stages.total
    if run.step >= total:
        return
    curves = (
        Curves(run.out, run.step, tensorboard=config.machine.tensorboard) if crew.leads else None
    )
    source = batches(
        run.examples,
        range(run.step, total),
        crew.slots(config.data.batch),
        workers=config.machine.workers,
        pin=crew.device.type == "cuda",
    )
    begun, tally = time.perf_counter(), _tally(crew)
    every = max(1, min(50, config.check.every))
    training_mode(run)
    for _ in range(run.step, total):
        waited = time.perf_counter()
        batch = next(source)
        tally.waited += time.perf_counter() - waited
        _step(run, batch.to(crew.device), tally)
        run.step += 1
        done = run.step == total
        checked = run.step % config.check.every == 0 or done
        line = _line(run, tally) if checked or run.step % every == 0 else {}
        if line and not math.isfinite(line["loss"]):
            raise InputError(
                f"The loss is not a number any more at step {run.step}.",
                fix="a smaller optimiser.rate, in another --out",
            )
        if checked:
            found = _check(run, rows)
            line |= {"val_loss": found.loss, "val_f1": found.f1}
        if line and curves is not None:
            curves.add({**line, "seconds": curves.before + time.perf_counter() - begun})
            progress(
                TrainProgress(
                    run.step, total, _stage(run), *_told(line), run.validated, run.best[0]
                )
            )
        elif curves is not None:
            progress(
                TrainProgress(
                    run.step, total, _stage(run), val_f1=run.validated, best_f1=run.best[0]
                )
            )
        if line:
            tally = _tally(crew)
        if crew.leads and (checked or run.step % config.check.save == 0):
            save(run)
    if curves is not None:
        curves.close()


def _step(run: Run, batch: Batch, tally: _Tally) -> None:
    """One step of the optimiser; in the robust stage only trusted cells count."""
    config = run.config
    for group in run.optimiser.param_groups:
        group["lr"] = rate_at(run.step, config.optimiser, config.stages)
    logits = run.model(batch.planes, batch.stats)  # (N, 1, s', s')
    target = smoothed(batch.target, config.loss.smoothing)
    pixel, whole, score, _ = cell_losses(logits, batch.cells, target)  # each (K + 1,)
    loss = config.loss.pixel * pixel + config.loss.cell * whole
    weight = batch.weight
    if run.step >= config.stages.naive:
        weight = weight * _trusted(run, batch, loss.detach(), score.detach())
    everyone = run.team.total(weight.sum()).clamp(min=1e-12)
    mine = (loss * weight).sum() / everyone
    if config.loss.f1:
        lack = lack_of_f1(score, batch.target, batch.cells, weight > 0)
        mine = mine + config.loss.f1 * lack.sum() / config.data.batch
    run.optimiser.zero_grad()
    (mine * run.team.size).backward()  # type: ignore[no-untyped-call]  # processes take the mean of their gradients
    torch.nn.utils.clip_grad_norm_(run.net.parameters(), config.optimiser.clip)
    run.optimiser.step()
    average(run)
    tally.loss += mine.detach()
    tally.kept += (weight > 0).sum()
    tally.cells += len(batch.target) - 1
    tally.steps += 1


def _trusted(run: Run, batch: Batch, loss: Tensor, score: Tensor) -> Tensor:
    """(K + 1,) 1 for the cells that the noise rules take.

    Their thresholds move by the cells of all processes.
    """
    stages, shared = run.config.stages, run.team.gathered
    percentile = noise.percentile_at(run.step - stages.naive, stages.robust, *stages.percentile)
    everyone = shared(batch.group[1:]).numpy(), shared(loss[1:]).double().numpy()
    run.threshold = noise.moved_thresholds(
        run.threshold, *everyone, percentile=percentile, keep=stages.keep
    )
    small = noise.small_loss(
        loss[1:].double().cpu().numpy(), batch.group[1:].cpu().numpy(), run.threshold
    )
    sure = noise.matched_confidence(
        score[1:].double().cpu().numpy(),
        batch.target[1:].double().cpu().numpy(),
        high=stages.high,
        low=stages.low,
    )
    keep = torch.from_numpy(np.concatenate([[False], noise.trusted(small, sure)]))
    return keep.to(loss)


def rate_at(step: int, optimiser: OptimiserConfig, stages: StagesConfig) -> float:
    """The learning rate of a step: a cosine over each stage, after a rise at the very beginning.

    Examples
    --------
    >>> from panimbus.train.config import OptimiserConfig, StagesConfig
    >>> [round(1e4 * rate_at(s, OptimiserConfig(), StagesConfig(naive=100, robust=50)), 3) for s in (0, 50, 99, 100, 125)]
    [3.0, 1.5, 0.001, 3.0, 1.5]
    """
    second = step >= stages.naive
    first = stages.robust_rate if second and stages.robust_rate is not None else optimiser.rate
    done = (step - stages.naive) / stages.robust if second else step / stages.naive
    rise = min(1.0, (step + 1) / optimiser.warmup) if optimiser.warmup else 1.0
    return (
        first
        * rise
        * (optimiser.final + (1 - optimiser.final) * 0.5 * (1 + math.cos(math.pi * done)))
    )


def _check(run: Run, rows: npt.NDArray[np.intp]) -> Validation:
    """Validate; keep the weights if they are the best so far; draw the first tiles."""
    net = (run.ema or run.net).eval()
    run.team.agree(net)
    forward = Logits(net, narrow=narrow(run.config, run.team))
    found = validate(run.examples, rows, lambda b: forward(b.planes, b.stats), run.team)
    run.validated = found.f1
    score = (
        -0.5 if math.isnan(found.f1) else found.f1
    )  # without a positive cell any checkpoint beats none
    if score > run.best[0]:
        run.best = (score, run.step)
        if run.team.leads:
            state = {
                "identity": run.identity,
                "net": net.state_dict(),
                "step": run.step,
                "f1": found.f1,
            }
            checkpoint.save(run.out / checkpoint.BEST, state)
    if run.team.leads and run.config.check.pictures:
        draw(run, rows, forward)
    training_mode(run)
    return found


def _stage(run: Run) -> str:
    return "naive" if run.step <= run.config.stages.naive else "robust"


def _tally(crew: Team) -> _Tally:
    return _Tally(torch.zeros((), device=crew.device), torch.zeros((), device=crew.device))


def _line(run: Run, tally: _Tally) -> dict[str, Any]:
    """One line of the curves."""
    spent = max(time.perf_counter() - tally.since, 1e-9)
    loss, kept, cells = run.team.total(
        torch.stack([tally.loss, tally.kept, torch.tensor(float(tally.cells)).to(tally.loss)])
    ).tolist()
    return {
        "step": run.step,
        "stage": _stage(run),
        "rate": run.optimiser.param_groups[0]["lr"],
        "loss": loss / tally.steps,
        "kept": kept / max(cells, 1),
        "tiles_per_s": tally.steps * run.config.data.batch / spent,
        "waiting": tally.waited / spent,
    }


def _told(line: dict[str, Any]) -> tuple[float, float, float, float]:
    return line["loss"], line["kept"], line["tiles_per_s"], line["waiting"]
