r"""Train the default model by the recipe ``compact-6.toml``: simulate -> real -> train -> export.

    python tools/train_default.py simulate --run /tmp/run                         # 2 s of one core
    a field of view python tools/real_labels.py pool --run /tmp/run --data ../shared/data         #
    real tissue, read by eye python tools/train_default.py train --run /tmp/run --cores 1
    # after a kill: the same line goes on python tools/train_default.py train --run /tmp/run/second
    --pool /tmp/run/pool --cores 1 \
        --change 'seed = 72' 'crops.side = 176' 'crops.batch = 12' 'optimiser.f1 = 3'
    python tools/train_default.py train --run /tmp/run/third --pool /tmp/run/pool --cores 1 --change
    'seed = 61' 'steps = 1500' python tools/train_default.py export --run /tmp/run --average
    /tmp/run/second /tmp/run/third  # -> src/panimbus/model/shipped panimbus evaluate
    examples/dev_gold.toml --model compact-6 --out /tmp/run/measured  # then export again, with the
    figures

The pool: ``fov_<seed>.npz``, each a simulated field of view with random markers on one random
platform, brought to 1 µm a pixel as `panimbus.infer` does, and ``real_*.npz`` as ``real_labels.py``
writes them. A training example is one marker of a crop, simulated or real: the dataset by its
share, then any field of view and channel of it, at a scale of its own. Loss: binary cross-entropy
of the pixels, weighted so that each cell counts the same, plus that of each cell's mean score,
which is what is thresholded; labels smoothed; cells whose label is undefined carry none. Each crop
is seen twice, with another wrong normaliser each time, and the squared difference of a cell's two
logits is a loss too (`OPTIMISER`'s ``agreement``), as is what the calls at 0.5 of each crop lack of
an F1 of 1 (``f1``). compact-1 began from nothing and saw simulation alone. The ranges of the
simulator's confounders were set after trial runs of compact-1 were measured on dev_gold. Progress
in ``<run>/log.csv``, state in ``<run>/last.pt`` (net, EMA, optimiser, step), every two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import time
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    import torch

    from panimbus.model.unet import CompactUNet
    from panimbus.simulate import SimulatedTissue

RECIPE: dict[str, Any] = tomllib.loads(
    (Path(__file__).parent / "compact-6.toml").read_text(encoding="utf-8")
)
NET, SIMULATION, REAL, CROPS, OPTIMISER = (
    RECIPE[k] for k in ("net", "simulation", "real", "crops", "optimiser")
)


def change_recipe(lines: Sequence[str]) -> None:
    """Replace settings of the recipe: lines of TOML, for trials."""
    for part, value in tomllib.loads("\n".join(lines)).items():
        if isinstance(value, dict):
            RECIPE[part].update(value)  # in place: NET, REAL ... are these
        else:
            RECIPE[part] = value


# ---------------------------------------------------------------- simulate
def draw_tissue(seed: int) -> SimulatedTissue:
    """The simulated tissue of a seed, of a random platform: 0.5 µm a pixel, ``imc`` 1 µm."""
    from panimbus.simulate import simulate_tissue

    rng = np.random.default_rng([20261123, seed])
    platform = str(
        rng.choice(list(SIMULATION["platforms"]), p=list(SIMULATION["platforms"].values()))
    )
    mpp = 1.0 if platform == "imc" else 0.5
    shape = (round(SIMULATION["side_um"] / mpp),) * 2
    return simulate_tissue(shape, mpp, panel=SIMULATION["markers"], seed=rng, platform=platform)


def simulate_fov(job: tuple[int, str]) -> None:
    """One FOV of the pool, at 1 µm a pixel, in units of each channel's normaliser."""
    from panimbus.core.regions import cell_sums

    seed, folder = job
    path = Path(folder) / f"fov_{seed:08d}.npz"
    if path.exists():
        return
    tissue = draw_tissue(seed)
    side, percentile, fine = SIMULATION["side_um"], NET["percentile"], round(1 / tissue.mpp)
    labels, m = tissue.labels, len(tissue.truth)
    index = labels.astype(np.int32) - 1
    area = cell_sums(np.ones(labels.shape), index, m)
    images, means, outside, kept = [], [], [], []
    for k, plane in enumerate(tissue.image):
        norm = np.percentile(plane, percentile)
        if norm <= 0:
            if not plane.any():
                continue
            norm = np.percentile(plane[plane > 0], percentile)
        sums = cell_sums(plane, index, m) / np.maximum(area, 1) / norm
        small = plane.reshape(side, fine, side, fine).mean((1, 3)) / norm
        images.append(np.minimum(small, 8).astype(np.float16))
        means.append(sums[1:].astype(np.float16))
        outside.append(sums[0])
        kept.append(k)
    if not kept or m < 20:
        return
    partial = path.with_suffix(".tmp.npz")
    np.savez(
        partial,
        image=np.stack(images),
        index=index[fine // 2 :: fine, fine // 2 :: fine],
        mean=np.stack(means),
        outside=np.array(outside, np.float32),
        truth=tissue.truth[:, kept].T.copy(),
        platform=np.array(tissue.platform),
    )
    partial.rename(path)


def simulate(run: Path, jobs: int) -> None:
    """Fill the pool."""
    folder = run / "pool"
    folder.mkdir(parents=True, exist_ok=True)
    ranges = [*SIMULATION["seeds"], SIMULATION["held_out"]]
    work = [(seed, str(folder)) for first, count in ranges for seed in range(first, first + count)]
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(simulate_fov, work, chunksize=4))


# ---------------------------------------------------------------- examples
@dataclass
class Fov:
    """One FOV of the pool in memory."""

    image: np.ndarray  # (C, H, W) float16
    index: np.ndarray  # (H, W) int32
    mean: np.ndarray  # (C, m) float16
    outside: np.ndarray  # (C,)
    truth: np.ndarray  # (C, m) int8: 1, 0, or -1 = undefined
    area: np.ndarray  # (m,) pixels at 1 µm
    seldom: np.ndarray  # (C,) bool: nuclear channels, which are drawn more seldom
    real: bool
    channels: list[str]
    counterstain: (
        np.ndarray
    )  # (C,) rank correlation of the cells' means with the counterstain's; NaN = not known
    pooled: list[dict[str, float]] | None = (
        None  # a channel's statistics over all FOVs of a real dataset, as in prediction
    )


def read_fov(path: Path, prefix: str = "", without: Sequence[str] = ()) -> Fov:
    """Load one FOV, without the channels whose name after ``prefix`` matches a pattern."""
    with np.load(path) as z:
        index, truth = z["index"], z["truth"]
        area = np.bincount((index + 1).ravel(), minlength=truth.shape[1] + 1)[1:]
        names = z["channels"].tolist() if "channels" in z else [""] * len(truth)
        seldom = z["seldom"] if "seldom" in z else np.zeros(len(truth), bool)
        keep = [
            k
            for k, name in enumerate(names)
            if not any(fnmatch(prefix + name, pattern) for pattern in without)
        ]
        return Fov(
            image=z["image"][keep],
            index=index,
            mean=z["mean"][keep],
            outside=z["outside"][keep],
            truth=truth[keep],
            area=area,
            seldom=seldom[keep],
            real=bool(prefix),
            channels=[names[k] for k in keep],
            counterstain=(
                z["counterstain"][keep] if "counterstain" in z else np.full(len(keep), np.nan)
            ),
        )


def quantiles(mean: np.ndarray, outside: float) -> dict[str, float]:
    """A channel's statistics from its cells' means (n,) and the mean outside cells."""
    from panimbus.core.scale import CELL_QUANTILES

    found = np.percentile(mean.astype(np.float32), np.arange(1, 100)).tolist()
    return dict(zip(CELL_QUANTILES, found, strict=True)) | {"outside": float(outside)}


def pool_statistics(fovs: Sequence[Fov]) -> None:
    """Tell the FOVs of one dataset, in units of its normaliser, each channel's statistics over all
    of them.
    """
    for name in {n for fov in fovs for n in fov.channels}:
        having = [(fov, fov.channels.index(name)) for fov in fovs if name in fov.channels]
        found = quantiles(
            np.concatenate([f.mean[c] for f, c in having]),
            float(np.mean([f.outside[c] for f, c in having])),
        )
        alike = np.mean([f.counterstain[c] for f, c in having])
        found |= {} if np.isnan(alike) else {"counterstain": float(alike)}
        for fov, c in having:
            fov.pooled = fov.pooled or [{} for _ in fov.channels]
            fov.pooled[c] = found


def example(fov: Fov, rng: np.random.Generator) -> tuple[np.ndarray, ...] | None:
    """Planes (V, P, s, s), stats (V, S), index (s, s), truth (m,) and area (m,) of a random crop,
    or None without known cells.

    V views that differ in the normaliser alone: 2 where they are to agree, else 1.
    """
    from panimbus.core.planes import channel_planes, label_planes
    from panimbus.core.scale import COUNTERSTAIN, stat_vector

    crop, c = CROPS["side"], int(rng.integers(len(fov.image)))
    if fov.seldom[c] and rng.random() > REAL["nuclear"]:
        return None
    zoom = math.exp(rng.uniform(-1, 1) * REAL["zoom"]) if fov.real else 1.0
    side = round(crop / zoom)
    y, x = (int(rng.integers(0, n - side + 1)) for n in fov.index.shape)
    index = fov.index[y : y + side, x : x + side]
    image = fov.image[c, y : y + side, x : x + side].astype(np.float32)
    if side != crop:
        at = (np.arange(crop) + 0.5) * (side / crop)
        index = index[np.ix_(at.astype(int), at.astype(int))]
        image = ndimage.map_coordinates(
            image, np.meshgrid(at - 0.5, at - 0.5, indexing="ij"), order=1, mode="nearest"
        )
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    index, image = np.rot90(index, turns), np.rot90(image, turns)
    if flip:
        index, image = index[:, ::-1], image[:, ::-1]
    index, image = np.ascontiguousarray(index), np.ascontiguousarray(image)
    truth = fov.truth[c]
    present = np.unique(index[index >= 0])
    if not (truth[present] >= 0).any():
        return None
    mean = fov.mean[c].astype(np.float32)
    if fov.pooled and rng.random() < REAL["pooled"]:
        known = fov.pooled[c]
    else:  # a dataset holds more or fewer positive cells than this FOV
        odds = np.where(truth > 0.5, math.exp(rng.normal(0, 0.7)), 1.0)
        drawn = rng.choice(len(mean), size=400, p=odds / odds.sum())
        known = quantiles(mean[drawn], fov.outside[c] * math.exp(rng.normal(0, 0.2)))
    alike = fov.counterstain[c] if fov.real else drawn_likeness(truth, rng)
    likeness = (
        {} if np.isnan(alike) or rng.random() < REAL["nameless"] else {COUNTERSTAIN: float(alike)}
    )
    of_labels = label_planes(NET["planes"], index)
    planes, stats = [], []
    for _ in range(2 if OPTIMISER["agreement"] else 1):
        norm = np.float32(
            math.exp(float(np.clip(rng.normal(0, CROPS["normaliser"]), -0.9, 0.9)))
        )  # off by up to 2.5x
        seen = {name: v / norm for name, v in known.items() if name != COUNTERSTAIN} | likeness
        stats.append(stat_vector(seen, NET["stats"]))
        planes.append(
            channel_planes(
                of_labels.copy(),
                NET["planes"],
                image / norm,
                index=index,
                cell_mean=mean / norm,
                known=seen,
            )
        )
    return np.stack(planes), np.stack(stats), index, truth, fov.area * (crop / side) ** 2


def drawn_likeness(truth: np.ndarray, rng: np.random.Generator) -> float:
    """What a simulated channel's likeness to a counterstain may be: its field of view has none."""
    share = (truth == 1).sum() / max((truth >= 0).sum(), 1)
    return (
        1.0 if share > 0.9 else float(rng.uniform(0.6, 0.95) if share == 0 else rng.uniform(0, 0.6))
    )


def batch(
    fovs: list[Fov], real: dict[str, list[Fov]], rng: np.random.Generator, size: int
) -> tuple[torch.Tensor, ...]:
    """Tensors of a batch.

    Planes, stats, cell number of each pixel (0 = none), and per cell: target, weight.

    Where crops are seen twice, first all of them once, then again in the same order: of n cells, k
    and k + n / 2 are the same.
    """
    import torch

    planes, stats, cells, target, weight = [], [], [], [], []
    offset, views = 1, 2 if OPTIMISER["agreement"] else 1
    while views * len(planes) < size:
        source = fovs
        if real and (not fovs or rng.random() < REAL["share"]):
            share = np.array([REAL["datasets"][name] for name in real])
            source = real[list(real)[int(rng.choice(len(share), p=share / share.sum()))]]
        one = example(source[int(rng.integers(len(source)))], rng)
        if one is None:
            continue
        p, s, index, truth, area = one
        inside = np.bincount((index + 1).ravel(), minlength=len(truth) + 1)[1:]
        known = (truth >= 0) & (inside > 0.5 * area)
        if not known.any():
            continue
        number = np.zeros(len(truth) + 1, np.int64)
        number[:-1][known] = offset + np.arange(known.sum())
        t = truth[known]
        planes.append(p)
        stats.append(s)
        cells.append(number[index])
        target.append(t)
        weight.append(np.full(len(t), min(len(t), 40) ** 0.5 / len(t)))
        offset += len(t)
    first = np.stack(cells)
    every = [np.where(first > 0, first + view * (offset - 1), 0) for view in range(views)]
    return (
        torch.from_numpy(np.concatenate(np.stack(planes, 1))).contiguous(
            memory_format=torch.channels_last
        ),
        torch.from_numpy(np.concatenate(np.stack(stats, 1))),
        torch.from_numpy(np.concatenate(every)),
        torch.from_numpy(np.concatenate([np.zeros(1), *target * views]).astype(np.float32)),
        torch.from_numpy(np.concatenate([np.zeros(1), *weight * views]).astype(np.float32)),
    )


# ---------------------------------------------------------------- train
def loss_of(
    logits: torch.Tensor, cells: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch, and each cell's mean score.

    Pixel loss in which each cell counts by its weight, plus those of each cell's mean score, of its
    views' disagreement, and of what a crop's calls lack of an F1 of 1.
    """
    import torch

    from panimbus.model.loss import cell_losses, smoothed, soft_f1_loss

    pixel, whole, score, _ = cell_losses(
        logits, cells, smoothed(target, 2 * OPTIMISER["smoothing"])
    )
    loss = ((0.5 * pixel + whole) * weight).sum() / weight.sum()
    mean = score[1:].clamp(1e-4, 1 - 1e-4)
    if OPTIMISER["agreement"]:
        first, second = torch.logit(mean).chunk(2)
        apart = (first - second).clamp(-2, 2) ** 2  # a cell whose views are far apart does not pull
        loss = loss + OPTIMISER["agreement"] * (apart * weight[1:].chunk(2)[0]).sum() / (
            0.5 * weight.sum()
        )
    if OPTIMISER["f1"]:
        loss = loss + OPTIMISER["f1"] * soft_f1_loss(score, target, cells, weight > 0).mean()
    return loss, mean


def validation(
    net: CompactUNet, fovs: list[Fov], real: dict[str, list[Fov]]
) -> tuple[float, float, float]:
    """Loss, F1 and balanced accuracy at 0.5 on crops of held-out FOVs, simulated or real."""
    import torch

    rng = np.random.default_rng(7)
    losses, t, s = [], [], []
    with torch.inference_mode():
        for _ in range(12):
            x, st, cells, target, weight = batch(fovs, real, rng, 32)
            loss, mean = loss_of(net.logits(x, st), cells, target, weight)
            losses.append(float(loss))
            t.append(target[1:].numpy())
            s.append(mean.numpy())
    truth, score = np.concatenate(t) > 0.5, np.concatenate(s) > 0.5
    tp, fp, fn, tn = (
        (truth & score).sum(),
        (~truth & score).sum(),
        (truth & ~score).sum(),
        (~truth & ~score).sum(),
    )
    return (
        float(np.mean(losses)),
        2 * tp / max(2 * tp + fp + fn, 1),
        0.5 * (tp / max(tp + fn, 1) + tn / max(tn + fp, 1)),
    )


def mirrored(fov: Fov) -> Fov:
    """A FOV that is smaller than a crop is continued by its mirror image, as in prediction."""
    least = math.ceil(CROPS["side"] * math.exp(REAL["zoom"])) + 1
    beyond = [(0, max(least - n, 0)) for n in fov.index.shape]
    index, image = (
        np.pad(fov.index, beyond, mode="symmetric"),
        np.pad(fov.image, [(0, 0), *beyond], mode="symmetric"),
    )
    return replace(fov, index=index, image=image)


class Pool:
    """The FOVs in memory."""

    def __init__(self, folder: Path, without: Sequence[str] = ()) -> None:
        self.fovs: list[Fov] = []
        self.held_out: list[Fov] = []
        for path in sorted(folder.glob("fov_????????.npz")):
            (self.fovs if int(path.stem[4:]) < SIMULATION["held_out"][0] else self.held_out).append(
                read_fov(path)
            )
        self.real: dict[str, list[Fov]] = {}
        self.real_held_out: dict[str, list[Fov]] = {}
        for (dataset, name, _), fov in read_real(folder, without):
            (self.real_held_out if name in REAL["held_out"] else self.real).setdefault(
                dataset, []
            ).append(mirrored(fov))


def read_real(folder: Path, without: Sequence[str] = ()) -> list[tuple[tuple[str, str, str], Fov]]:
    """(dataset, name, kind) and each real FOV; the plain ones with their dataset's statistics.

    Kinds: ``plain``, ``hazed``, ``nuclei``, ``drawn``.
    """
    out, plain = [], defaultdict(list)
    for path in sorted(folder.glob("real_*.npz")):
        dataset, name, copy = re.fullmatch(
            r"real_(.+?)__(.+)__(\d+|nuclei|drawn\d+)", path.stem
        ).groups()
        kind = "plain" if copy == "0" else "hazed" if copy.isdigit() else copy.rstrip("0123456789")
        fov = read_fov(path, f"{dataset}/{kind}/", without)
        if len(fov.image):
            out.append(((dataset, name, kind), fov))
            if kind == "plain":
                plain[dataset].append(fov)
    for fovs in plain.values():
        pool_statistics(fovs)
    return out


@dataclass
class State:
    """All that a run needs to go on."""

    net: CompactUNet
    ema: CompactUNet
    optimiser: torch.optim.Optimizer
    step: int = 0
    spent: float = 0.0  # seconds of training so far


def new_net() -> CompactUNet:
    """The recipe's net."""
    from panimbus.model.unet import CompactUNet

    shape = {"widths": tuple(NET["widths"]), "blocks": NET["blocks"], "unshuffle": NET["unshuffle"]}
    return CompactUNet(planes=len(NET["planes"]), stats=len(NET["stats"]), **shape)


def start_from(net: CompactUNet, model: str) -> None:
    """Let the net compute what a model of the same widths does.

    Planes and statistics that are new count nothing yet.
    """
    import torch

    from panimbus.model.weights import load_torch, resolve_model

    begun = resolve_model(model)
    given, card = load_torch(begun.weights)[0].state_dict(), begun.card
    folded = NET["unshuffle"] ** 2  # pixels of a plane, side by side
    for layer, had, names, of in (
        ("film.hidden.weight", card.stats, NET["stats"], 1),
        ("encoder.0.first.conv.weight", card.planes, NET["planes"], folded),
    ):
        old = given[layer].unflatten(1, (len(had), of))
        nothing = torch.zeros_like(old[:, 0])
        given[layer] = torch.stack(
            [old[:, had.index(n)] if n in had else nothing for n in names], 1
        ).flatten(1, 2)
    net.load_state_dict(given)


def load_state(run: Path) -> State:
    """A new state, from nothing or from a shipped model's weights.

    Or the one of ``<run>/last.pt``.
    """
    import torch

    torch.manual_seed(RECIPE["seed"])
    net, ema = new_net().to(memory_format=torch.channels_last), new_net()
    if RECIPE["start"]:
        start_from(net, RECIPE["start"])
    ema.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=OPTIMISER["rate"], weight_decay=OPTIMISER["weight_decay"]
    )
    state = State(net, ema, optimiser)
    if (run / "last.pt").exists():
        saved = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
        for name in ("net", "ema", "optimiser"):
            getattr(state, name).load_state_dict(saved[name])
        state.step, state.spent = saved["step"], saved["spent"]
    return state


def save_state(run: Path, state: State, pool: Pool) -> None:
    """Replace ``<run>/last.pt``."""
    import torch

    parts = {name: getattr(state, name).state_dict() for name in ("net", "ema", "optimiser")}
    torch.save(
        parts | {"simulated": len(pool.fovs), "step": state.step, "spent": state.spent},
        run / "next.pt",
    )
    (run / "next.pt").replace(run / "last.pt")


def gradient(
    net: CompactUNet, data: tuple[torch.Tensor, ...]
) -> tuple[float, tuple[torch.Tensor, ...]]:
    """Loss of a batch, and its gradient by each parameter."""
    import torch

    x, stats, cells, target, weight = data
    with torch.autocast("cpu", torch.bfloat16, enabled=OPTIMISER["bfloat16"]):
        logits = net.logits(x, stats)
    loss, _ = loss_of(logits.float(), cells, target, weight)
    return float(loss.detach()), torch.autograd.grad(loss, list(net.parameters()))


def train_step(state: State, parts: Sequence[tuple[torch.Tensor, ...]], threads: Executor) -> float:
    """One step of AdamW on batches of one size, a thread each, and of the moving average.

    Returns the loss.
    """
    import torch

    falling = 0.5 * (1 + math.cos(math.pi * state.step / RECIPE["steps"]))
    rate = OPTIMISER["rate"] * min(1, (state.step + 1) / 200) * (0.01 + 0.99 * falling)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    losses, gradients = zip(*threads.map(gradient, [state.net] * len(parts), parts), strict=True)
    for parameter, *each in zip(state.net.parameters(), *gradients, strict=True):
        parameter.grad = sum(each) / len(each)
    torch.nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    follow = min(OPTIMISER["ema"], (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for a, b in zip(state.ema.parameters(), state.net.parameters(), strict=True):
            a.lerp_(b, 1 - follow)
    return sum(losses) / len(losses)


def train(run: Path, pool_folder: Path, without: Sequence[str], cores: int) -> None:
    """Train for the recipe's steps in all, resuming from the last checkpoint."""
    import torch

    run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(
        1
    )  # two halves of a batch on a core each are half as long again as quick as one batch on two cores
    state, pool = load_state(run), Pool(pool_folder, without)
    rng = np.random.default_rng([RECIPE["seed"], state.step])
    begun = time.monotonic() - state.spent
    saved, running = time.monotonic(), math.nan

    def parts() -> list[tuple[torch.Tensor, ...]]:
        return [
            batch(pool.fovs, pool.real, rng, CROPS["batch"] // CROPS["parts"])
            for _ in range(CROPS["parts"])
        ]

    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(cores) as threads:
        coming = ahead.submit(parts)
        while state.step < RECIPE["steps"]:
            data = coming.result()
            coming = ahead.submit(parts)
            loss = train_step(state, data, threads)
            running = loss if math.isnan(running) else 0.98 * running + 0.02 * loss
            if time.monotonic() - saved > 120 or state.step == RECIPE["steps"]:
                saved = time.monotonic()
                state.spent = saved - begun
                figures = [*validation(state.ema, pool.held_out, {}), math.nan, math.nan, math.nan]
                if pool.real_held_out:
                    figures[3:] = validation(state.ema, [], pool.real_held_out)
                line = ",".join(
                    [
                        f"{state.step},{state.spent / 60:.1f},{running:.4f}",
                        *(f"{v:.4f}" for v in figures),
                    ]
                )
                with (run / "log.csv").open("a") as f:
                    f.write(line + "\n")
                print(line, flush=True)
                save_state(run, state, pool)


# ---------------------------------------------------------------- export
NOT_FOR = (
    "H&E, immunohistochemistry, transcripts, and images without a segmentation. No clinical use."
    " Known failures: uneven nuclear or diffuse haze in fluorescence (hazy CD4: positive cells"
    " missed; CD20: too many positive), cells beside the bright ones of the red pulp (CD68, SMA in"
    " crowded imaging mass cytometry: too many positive), single false positives of markers that no"
    " cell carries, rare nuclear markers whose dim cells are missed (FoxP3), nuclear stains and"
    " nuclear haze where no channel has a counterstain's name (one is taken for the other), a stain"
    " of all nuclei under another name beside a counterstain (taken for its haze), and graded"
    " markers in which no line divides positive from negative. In pictures, on simulated tissue:"
    " benchmarks/model/failures.png of the repository."
)


def trained_on(states: Sequence[dict[str, Any]]) -> str:
    """The data in words."""
    state = states[0]
    side, markers, platforms = (SIMULATION[k] for k in ("side_um", "markers", "platforms"))
    begun = f"Weights of {RECIPE['start']}, then " if RECIPE["start"] else ""
    crop, real = f"{CROPS['side']} x {CROPS['side']} px at 1 µm/px", f"{100 * REAL['share']:.0f} %"
    runs = (
        f"The mean of the weights of {len(states)} runs, which differ as the recipe says. The"
        " first: "
        if len(states) > 1
        else ""
    )
    twice = (
        ", each seen twice with two wrong normalisers, whose calls are to agree"
        if OPTIMISER["agreement"]
        else ""
    )
    lack = (
        "What the calls at 0.5 of a crop lack of an F1 of 1 was part of the loss. "
        if OPTIMISER["f1"]
        else ""
    )
    return (
        f"{runs}{begun}{state['step']} steps ({state['spent'] / 60:.0f} minutes on a core) of"
        f" {CROPS['batch']} views of crops of {crop}{twice}. From simulation (panimbus.simulate):"
        f" {state['simulated']} fields of view of {side} x {side} µm with {markers} random markers"
        f" each, platforms {platforms}. {real} of the crops are real, with targets from staining"
        " read by eye (tools/readings.csv: two readings a channel; tools/cell_calls.csv: 5,109"
        " cells called one by one; machine vision), partly with nuclear haze and diffuse"
        " background added, nuclear stains partly blurred, and with markers drawn on these fields'"
        " cells and nuclei (tools/real_labels.py): imaging mass cytometry of spleen"
        " (ImmuneDynamics/SpectreMAP, MIT; 13 fields of view, two of them held out), MIBI-TOF of"
        " lymphoid tissue, raw and denoised (angelolab/MAUI, BSD-3; 2), imaging mass cytometry of"
        " a squamous tumour (michael-haley/imcanalysis, BSD-3; 1) and Vectra (akoyabio/phenoptr,"
        f" zlib; 1); shares {REAL['datasets']}. None of them is a field of view of dev_gold."
        f" {lack}At the end {RECIPE['offset']} was added to all logits (the recipe says why)."
    )


def measured(metrics: dict[str, Any]) -> str:
    """The figures in words."""
    if not metrics:
        return ""
    f1, bounds = metrics["dev_gold_f1"], metrics["interval_95"]

    def each(method: str) -> str:
        return ", ".join(f"{k} {v:.3f}" for k, v in f1[method].items())

    own = ", ".join(
        f"{k} {v:.3f} ({bounds[k][0]:.3f}-{bounds[k][1]:.3f})" for k, v in f1["model"].items()
    )
    return (
        "dev_gold (1,056 calls made by eye on four fields of view of three datasets; undetermined"
        " ones left out), weighted F1 at 0.5, mean over markers, then datasets, 8 views, with 95 %"
        f" bootstrap intervals: {own}. Otsu on mean intensity: {each('otsu')}. Best threshold a"
        f" marker on mean intensity (an oracle): {each('intensity_best')}. Expected calibration"
        f" error {metrics['ece']:.3f}. Other fields of the spleen were trained on; lymphoma_codex"
        " and dcis_mibi were never seen. Trial runs of a few minutes were measured there before"
        " the recipe was fixed (benchmarks/model/trials.md): the figures are somewhat optimistic."
        " More figures, and pictures of failures, are in benchmarks/model of the repository"
        " (dev_gold.md, spleen.md, stress.md, robustness.md, ablation.md; failures.png)."
    )


def figures(evaluation: Path) -> dict[str, Any]:
    """The card's figures from the ``evaluation.json`` of `panimbus evaluate`.

    Nothing if there is none.
    """
    if not evaluation.exists():
        return {}
    said = json.loads(evaluation.read_text())
    f1: dict[str, dict[str, float]] = {}
    for row in said["means"]:
        if row["method"] in {"model", "otsu", "intensity_best"}:
            f1.setdefault(row["method"], {})[row["dataset"]] = round(row["f1"], 4)
    bounds = {
        row["dataset"]: [round(row["f1_low"], 4), round(row["f1_high"], 4)]
        for row in said["means"]
        if row["method"] == "model"
    }
    return {
        "dev_gold_f1": f1,
        "interval_95": bounds,
        "ece": round(said["calibration_error"]["mean"], 4),
    }


def averaged(trained: Sequence[dict[str, torch.Tensor]]) -> CompactUNet:
    """The mean of the runs' weights, with the recipe's offset on the logits."""
    net = new_net()
    weights = {k: sum(one[k] for one in trained) / len(trained) for k in trained[0]}
    weights["head.bias"] = weights["head.bias"] + RECIPE["offset"]
    net.load_state_dict(weights)
    return net


def export(run: Path, others: Sequence[Path], shipped: Path, commit: str) -> None:
    """Write the averaged EMA weights as safetensors and ONNX, with the card.

    ``<run>/measured/`` fills its figures.
    """
    import torch

    from panimbus.model.card import ModelCard
    from panimbus.model.weights import save_model

    states = [
        torch.load(one / "last.pt", map_location="cpu", weights_only=True) for one in (run, *others)
    ]
    net = averaged([state["ema"] for state in states])
    metrics = figures(run / "measured" / "evaluation.json")
    card = ModelCard(
        name=RECIPE["name"],
        architecture="compact_unet",
        settings={
            "widths": tuple(NET["widths"]),
            "blocks": NET["blocks"],
            "unshuffle": NET["unshuffle"],
        },
        planes=tuple(NET["planes"]),
        stats=tuple(NET["stats"]),
        mpp=1.0,
        percentile=NET["percentile"],
        trained_on=trained_on(states),
        measured=measured(metrics),
        not_for=NOT_FOR,
        metrics=metrics,
        licence="BSD-3-Clause",
        date="2026-11",
        commit=commit,
        seed=RECIPE["seed"],
        command=(
            "python tools/train_default.py (recipe: tools/compact-6.toml; exact lines in its"
            f" docstring). From nothing: first {RECIPE['start']} and what that began from, by their"
            " cards' commands and commits"
        ),
    )
    shipped.mkdir(parents=True, exist_ok=True)
    save_model(shipped / RECIPE["name"], net.eval(), card)


def main() -> None:
    """Parse and run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=("simulate", "train", "export"))
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of this run, outside the repository"
    )
    parser.add_argument("--jobs", type=int, default=2, help="simulate: processes")
    parser.add_argument(
        "--pool", type=Path, help="train: another run's pool; <run>/pool by default"
    )
    parser.add_argument(
        "--cores", type=int, default=2, help="train: threads that take the gradient"
    )
    parser.add_argument(
        "--change",
        nargs="*",
        default=[],
        help="train, export: settings in the recipe's place: 'steps = 800'",
    )
    parser.add_argument(
        "--without",
        nargs="*",
        default=[],
        help="train: leave out DATASET/KIND/CHANNEL (patterns); plain, hazed, nuclei, drawn",
    )
    parser.add_argument(
        "--average",
        type=Path,
        nargs="*",
        default=[],
        help="export: further runs whose weights count as much",
    )
    parser.add_argument(
        "--shipped", type=Path, default=Path("src/panimbus/model/shipped"), help="export: where to"
    )
    args = parser.parse_args()
    change_recipe(args.change)
    if args.stage == "simulate":
        simulate(args.run, args.jobs)
    elif args.stage == "train":
        train(args.run, args.pool or args.run / "pool", args.without, args.cores)
    else:
        head = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
        export(args.run, args.average, args.shipped, commit)


if __name__ == "__main__":
    main()
