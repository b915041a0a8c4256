"""Training, from examples to a model file. Read it from `train` down.

    panimbus train small --store STORE --out RUN
    torchrun --nproc-per-node 4 -m panimbus train paper --store STORE --out RUN

A step: crops -> logits of pixels -> losses of cells -> in the second stage only the cells that are
trusted -> one step of the optimiser. Run the same command again after a kill: the data of a step
follow from (seed, step), and the rest is in ``last.pt``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from panimbus.core.errors import InputError
from panimbus.model.loss import CellLosses, cell_losses, smoothed
from panimbus.train import checkpoint, noise
from panimbus.train.batches import Batch, batches
from panimbus.train.curves import Curves
from panimbus.train.distributed import ProcessGroup, process_group
from panimbus.train.examples import StoreLike, check_fits, validation_rows
from panimbus.train.fovs import MixedStore
from panimbus.train.result import RESULT, Trained, draw_predictions, finish, read_result
from panimbus.train.simulation import simulated_store
from panimbus.train.start import mean_weights
from panimbus.train.state import Logits, TrainingRun, begin, is_narrow, save_state, training_mode
from panimbus.train.step import objective, rate_at
from panimbus.train.validate import Validation, validation_figures

if TYPE_CHECKING:
    from panimbus.train.config import TrainConfig


@dataclass(frozen=True)
class TrainProgress:
    """Progress of a run, reported after every step."""

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
    store: StoreLike | None,
    out: str | Path,
    progress: Callable[[TrainProgress], None] | None = None,
) -> dict[str, Any]:
    """Train a model, or continue a run.

    Parameters
    ----------
    config
        Settings.
    store
        Labelled tiles or FOVs; None where all examples are simulated (``config.simulation``).
    out
        The run's folder: ``model.safetensors`` and ``model.onnx`` (of the step with the best
        validation F1), ``result.json``, ``markers.csv``, ``curves.csv``, ``epochs/*.png``,
        ``last.pt``, ``best.pt``. With ``config.average`` one folder ``run<k>`` per run, and the
        model of the mean weights; simulated tissue is kept in ``simulated``.
    progress
        Called after every step.

    Returns
    -------
    dict
        What ``result.json`` holds.
    """
    report, folder = progress or (lambda _: None), Path(out)
    with process_group(config.machine.device) as group:
        examples = _examples(config, store, folder, group, report)
        runs = config.runs()
        folders = [folder / f"run{k + 1}" for k in range(len(runs))] if config.average else [folder]
        for one in runs:
            check_fits(one, examples)
        if not config.average:
            return _train(config, examples, folder, group, report)
        for one, place in zip(runs, folders, strict=True):
            _train(one, examples, place, group, report)
        result: dict[str, Any] = {}
        if group.is_main:
            states = [checkpoint.load(place / checkpoint.BEST) for place in folders]
            mean = mean_weights([state["net"] for state in states])
            trained = Trained(mean, states[0]["step"], math.nan, len(states))
            result = finish(config, examples, folder, trained, group.device)
        group.wait()
    return result


def _examples(
    config: TrainConfig,
    store: StoreLike | None,
    out: Path,
    group: ProcessGroup,
    progress: Callable[[TrainProgress], None],
) -> StoreLike:
    """The store's examples, the simulated ones, or both."""
    settings = config.simulation
    if settings is None:
        if store is None:
            raise InputError(
                "There is nothing to train on.",
                expected="a store of labelled tiles, or [simulation] in the settings",
                fix="pass --store (`panimbus build` makes one)",
            )
        return store
    mpp, percentile = config.data.mpp or 1.0, config.data.percentile or 99.9
    if store is not None:
        mpp, percentile = store.info.mpp, store.info.percentile
    make = partial(simulated_store, settings, out / "simulated", mpp=mpp, percentile=percentile)
    if group.is_main:
        make(report=lambda k, n: progress(TrainProgress(k, n, "simulate")))
    group.wait()
    simulated = make(report=lambda _k, _n: None)
    if store is None:
        return simulated
    return MixedStore([(simulated, settings.share), (store, 1 - settings.share)])


def _train(
    config: TrainConfig,
    store: StoreLike,
    out: Path,
    group: ProcessGroup,
    progress: Callable[[TrainProgress], None],
) -> dict[str, Any]:
    """One run, from its first or its last step to its model."""
    run = begin(config, store, out, group)
    if run.step == config.stages.total and (out / RESULT).exists():
        return read_result(out) if group.is_main else {}
    rows = validation_rows(store, "val", leave_out=config.data.leave_out, tiles=config.check.tiles)
    _steps(run, rows, progress)
    result: dict[str, Any] = {}
    if group.is_main:
        best = checkpoint.load(out / checkpoint.BEST)
        trained = Trained(best["net"], best["step"], best["f1"])
        result = finish(config, store, out, trained, group.device)
    group.wait()
    return result


def _steps(
    run: TrainingRun, rows: npt.NDArray[np.intp], progress: Callable[[TrainProgress], None]
) -> None:
    """All remaining steps."""
    config, group, total = run.config, run.group, run.config.stages.total
    if run.step >= total:
        return
    board = config.machine.tensorboard
    curves = Curves(run.out, run.step, tensorboard=board) if group.is_main else None
    source = batches(
        run.examples,
        range(run.step, total),
        group.slots(config.data.batch),
        workers=config.machine.workers,
        pin=group.device.type == "cuda",
    )
    begun, tally = time.perf_counter(), _tally(group)
    every = max(1, min(50, config.check.every))
    training_mode(run)
    for _ in range(run.step, total):
        waited = time.perf_counter()
        batch = next(source)
        tally.waited += time.perf_counter() - waited
        _step(run, batch.to(group.device), tally)
        check = run.step % config.check.every == 0 or run.step == total
        line = _line(run, tally) if check or run.step % every == 0 else {}
        if line and not math.isfinite(line["loss"]):
            raise InputError(
                f"The loss is not a number any more at step {run.step}.",
                fix="a smaller optimiser.rate, in another --out",
            )
        if check:
            validation = _check(run, rows)
            line |= {"val_loss": validation.loss, "val_f1": validation.f1}
        if curves is not None:
            if line:
                curves.add({**line, "seconds": curves.before + time.perf_counter() - begun})
            progress(_progress(run, line))
        if line:
            tally = _tally(group)
        if group.is_main and (check or run.step % config.check.save == 0):
            save_state(run)
    if curves is not None:
        curves.close()


def _step(run: TrainingRun, batch: Batch, tally: _Tally) -> None:
    """One step of the optimiser; in the robust stage only trusted cells count."""
    config, learner, group = run.config, run.learner, run.group
    logits = learner.model(batch.planes, batch.stats)  # (N, 1, s', s')
    target = smoothed(batch.target, config.loss.smoothing)
    losses = cell_losses(logits, batch.cells, target)  # each (K + 1,)
    weight = batch.weight
    if run.step >= config.stages.naive:
        weight = weight * _trusted(run, batch, losses)
    total = group.total(weight.sum()).clamp(min=1e-12)
    crops = len(batch.planes) * group.size
    loss = objective(losses, batch, weight, config.loss, total=total, crops=crops)
    rate = rate_at(run.step, config.optimiser, config.stages)
    learner.update(loss * group.size, rate)  # processes take the mean of their gradients
    tally.loss += loss.detach()
    tally.kept += (weight > 0).sum()
    tally.cells += len(batch.target) - 1
    tally.steps += 1


def _trusted(run: TrainingRun, batch: Batch, losses: CellLosses) -> Tensor:
    """(K + 1,) 1 for the cells that the noise rules take.

    Their thresholds move by the cells of all processes.
    """
    stages, gathered = run.config.stages, run.group.gathered
    settings = run.config.loss
    loss = (settings.pixel * losses.pixel + settings.cell * losses.whole).detach()[1:]
    group, score, target = batch.group[1:], losses.score.detach()[1:], batch.target[1:]
    percentile = noise.percentile_at(run.step - stages.naive, stages.robust, *stages.percentile)
    run.threshold = noise.moved_thresholds(
        run.threshold,
        gathered(group).numpy(),
        gathered(loss).double().numpy(),
        percentile=percentile,
        keep=stages.keep,
    )
    small = noise.small_loss(loss.double().cpu().numpy(), group.cpu().numpy(), run.threshold)
    confident = noise.matched_confidence(
        score.double().cpu().numpy(),
        target.double().cpu().numpy(),
        high=stages.high,
        low=stages.low,
    )
    keep = torch.from_numpy(np.concatenate([[False], noise.trusted(small, confident)]))
    return keep.to(loss)


def _check(run: TrainingRun, rows: npt.NDArray[np.intp]) -> Validation:
    """Validate; keep the weights if they are the best so far; draw the first tiles."""
    learner, group = run.learner, run.group
    net = (learner.ema or learner.net).eval()
    group.share_buffers(net)
    forward = Logits(net, narrow=is_narrow(run.config.optimiser, group.device))
    validation = validation_figures(run.examples, rows, lambda b: forward(b.planes, b.stats), group)
    run.validated = validation.f1
    # Without a positive cell there is no F1, and any checkpoint beats none.
    score = -0.5 if math.isnan(validation.f1) else validation.f1
    if score > run.best[0]:
        run.best = (score, run.step)
        if group.is_main:
            state: dict[str, Any] = {"identity": run.identity, "net": net.state_dict()}
            state |= {"step": run.step, "f1": validation.f1}
            checkpoint.save_checkpoint(run.out / checkpoint.BEST, state)
    if group.is_main and run.config.check.pictures:
        draw_predictions(run, rows, forward)
    training_mode(run)
    return validation


def _stage(run: TrainingRun) -> str:
    return "naive" if run.step <= run.config.stages.naive else "robust"


def _tally(group: ProcessGroup) -> _Tally:
    return _Tally(torch.zeros((), device=group.device), torch.zeros((), device=group.device))


def _line(run: TrainingRun, tally: _Tally) -> dict[str, Any]:
    """One line of the curves."""
    spent = max(time.perf_counter() - tally.since, 1e-9)
    loss, kept, cells = run.group.total(
        torch.stack([tally.loss, tally.kept, torch.tensor(float(tally.cells)).to(tally.loss)])
    ).tolist()
    return {
        "step": run.step,
        "stage": _stage(run),
        "rate": run.learner.rate,
        "loss": loss / tally.steps,
        "kept": kept / max(cells, 1),
        "tiles_per_s": tally.steps * run.config.data.batch / spent,
        "waiting": tally.waited / spent,
    }


def _progress(run: TrainingRun, line: dict[str, Any]) -> TrainProgress:
    """What is reported of a step; ``line`` is its line of the curves, or empty."""
    figures = {k: line[k] for k in ("loss", "kept", "tiles_per_s", "waiting") if k in line}
    return TrainProgress(
        run.step,
        run.config.stages.total,
        _stage(run),
        **figures,
        val_f1=run.validated,
        best_f1=run.best[0],
    )
