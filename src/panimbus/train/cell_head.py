"""The last step of a training run: fit the cell head to the finished net's scores.

The net is fixed. Every training example, whole, is scored once, and each of its cells gives one
row of features (`panimbus.core.cell_head`). A perceptron then learns what to add to the logit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from scipy.special import expit
from torch import Tensor, nn

from panimbus.core.cell_head import cell_features
from panimbus.core.evidence import cell_means, evidence_of
from panimbus.core.types import Array, Float32Array, Int64Array
from panimbus.data.augment import AugmentedTile
from panimbus.model.cell_head import CellHead
from panimbus.train.examples import Examples, levelled, net_inputs

if TYPE_CHECKING:
    from panimbus.data.store import Example
    from panimbus.train.config import HeadConfig

_NO_PLANES = np.zeros((0, 0, 0), np.float32)
_LEAST = 3  # labelled cells of an example that is used
_SLOPE = 3.0  # of a soft call, in the logit


@dataclass(frozen=True)
class CellRows:
    """Cells of many examples, one row each.

    Parameters
    ----------
    features : (n, F) float32
    target : (n,) float32
    weight : (n,) float32
        Of the example's dataset and the cell's share of its example.
    example : (n,) int64
        Number of the example, from 0.
    """

    features: Float32Array
    target: Float32Array
    weight: Float32Array
    example: Int64Array


def fit_head(
    head: HeadConfig,
    examples: Examples,
    forward: Callable[[Tensor, Tensor], Tensor],
    *,
    device: torch.device,
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> CellHead:
    """Fit a head to the training split.

    Parameters
    ----------
    head
        Settings.
    examples
        Of the run.
    forward
        Planes (1, P, H, W) and statistics (1, S) -> logits (1, 1, H, W).
    device
        Where ``forward`` runs.
    report
        Called with the number of examples that were scored, and of all.
    """
    config = examples.config
    rng = np.random.default_rng([config.seed, 4])
    rows = examples.store.rows("train", leave_out=config.data.leave_out)
    chosen = _chosen(examples, rows, head.examples, rng)
    cells = collect_rows(examples, chosen, forward, rng, device, report)
    return fit(cells, head, seed=config.seed)


def _chosen(examples: Examples, rows: Array, most: int, rng: np.random.Generator) -> list[int]:
    """At most ``most`` examples: of each dataset by its share."""
    dataset = examples.store.examples["dataset"].to_numpy()[rows]
    shares = {d.name: d.share for d in examples.store.info.datasets}
    present = {name: shares.get(name, 0.0) for name in dict.fromkeys(dataset)}
    total = sum(present.values()) or 1.0
    out: list[int] = []
    for name, share in present.items():
        own = rows[dataset == name]
        count = min(len(own), round(most * share / total))
        out += sorted(rng.choice(own, count, replace=False).tolist())
    return out


def collect_rows(
    examples: Examples,
    chosen: list[int],
    forward: Callable[[Tensor, Tensor], Tensor],
    rng: np.random.Generator,
    device: torch.device,
    report: Callable[[int, int], None],
) -> CellRows:
    """Score examples and gather the rows of their labelled cells."""
    dataset = examples.store.examples["dataset"].to_numpy()
    shares = {d.name: d.share for d in examples.store.info.datasets}
    used = dataset[chosen]
    per_example = {name: shares.get(name, 0.0) / max((used == name).sum(), 1) for name in shares}
    parts: list[tuple[Array, ...]] = []
    for done, row in enumerate(chosen):
        example = examples.store.read(row)
        labelled = (example.target >= 0) & (example.share >= examples.config.data.least_share)
        if labelled.sum() >= _LEAST:
            features = _example_features(examples, example, forward, rng, device)[labelled]
            n, number = int(labelled.sum()), len(parts)
            weight = np.full(n, per_example[str(dataset[row])] / n, np.float32)
            parts.append((features, example.target[labelled], weight, np.full(n, number)))
        report(done + 1, len(chosen))
    features, target, weight, example_of = (np.concatenate(v) for v in zip(*parts, strict=True))
    return CellRows(features, target.astype(np.float32), weight / weight.mean(), example_of)


def _example_features(
    examples: Examples,
    example: Example,
    forward: Callable[[Tensor, Tensor], Tensor],
    rng: np.random.Generator,
    device: torch.device,
) -> Float32Array:
    """(n, F) features of all cells of an example, with the statistics that training draws."""
    card, settings = examples.card, examples.config.augment
    size = example.index.shape
    pad = [(0, -n % card.stride) for n in size]
    index = np.pad(example.index, pad, constant_values=-1)
    view = AugmentedTile(np.pad(example.image, pad, "symmetric"), _NO_PLANES, index)
    view = view.renormalised(settings, rng) if settings.normaliser else view
    stats = examples.drawn_stats(example, rng)
    planes, vector = net_inputs(card, view, example.mean, stats)
    with torch.inference_mode():
        tensors = (torch.from_numpy(a[None]).to(device) for a in (planes, vector))
        logits = forward(*tensors)[0, 0].cpu().numpy()
    score = cell_means(expit(logits.astype(np.float64)), index, len(example.target))
    mean = view.level(example.mean).astype(np.float32)
    evidence = evidence_of(view.image, index, mean)
    return cell_features(score, mean, evidence, stats=levelled(view, stats))


# ---------------------------------------------------------------- the perceptron
class _Perceptron(nn.Module):
    """Linear layers with ReLU between them; the last begins at 0, so that nothing is added."""

    def __init__(self, inputs: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = [inputs, *hidden, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        last: Any = self.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, F) -> (n,)."""
        for k, layer in enumerate(self.layers):
            x = layer(F.relu(x) if k else x)
        return x[:, 0]


def fit(rows: CellRows, head: HeadConfig, *, seed: int) -> CellHead:
    """Fit the perceptron to rows of cells."""
    torch.manual_seed(seed)
    centre = rows.features.mean(0)
    scale = np.maximum(rows.features.std(0), 1e-3)
    net = _Perceptron(rows.features.shape[1], head.hidden)
    optimiser = torch.optim.AdamW(net.parameters(), lr=head.rate, weight_decay=head.weight_decay)
    logits = torch.from_numpy(rows.features[:, 0])
    x = torch.from_numpy(((rows.features - centre) / scale).astype(np.float32))
    target, weight = torch.from_numpy(rows.target), torch.from_numpy(rows.weight)
    rng = np.random.default_rng([seed, 5])
    mean: list[Tensor] = [p.detach().clone() for p in net.parameters()]
    for step, at in enumerate(_batches(rows.example, head, rng)):
        for group in optimiser.param_groups:
            group["lr"] = head.rate * 0.5 * (1 + np.cos(np.pi * step / head.steps))
        index = torch.from_numpy(at)
        moved = logits[index] + net(x[index])
        loss = _loss(moved, target[index], weight[index], rows.example[at], head.f1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            for kept, now in zip(mean, net.parameters(), strict=True):
                kept.lerp_(now, 0.01 if step > 100 else 1.0)
    with torch.no_grad():
        for kept, now in zip(mean, net.parameters(), strict=True):
            now.copy_(kept)
    return CellHead(
        centre=_numbers(centre),
        scale=_numbers(scale),
        weights=tuple(tuple(_numbers(r) for r in _array(layer.weight)) for layer in net.layers),
        offsets=tuple(_numbers(_array(layer.bias)) for layer in net.layers),
    )


def _array(values: Any) -> Array:
    return np.asarray(values.detach().numpy())


def _numbers(values: Array) -> tuple[float, ...]:
    """Numbers as a card keeps them: six digits."""
    return tuple(float(f"{v:.6g}") for v in values)


def _batches(example: Int64Array, head: HeadConfig, rng: np.random.Generator) -> Iterator[Array]:
    """Rows of each step: all labelled cells of some examples, at most ``head.cells`` of each."""
    order = np.argsort(example, kind="stable")
    begin = np.searchsorted(example[order], np.arange(int(example.max()) + 2))
    for _ in range(head.steps):
        parts = []
        for k in rng.integers(0, len(begin) - 1, head.batch):
            own = order[begin[k] : begin[k + 1]]
            parts.append(
                own if len(own) <= head.cells else rng.choice(own, head.cells, replace=False)
            )
        yield np.concatenate(parts)


def _loss(logits: Tensor, target: Tensor, weight: Tensor, example: Int64Array, f1: float) -> Tensor:
    """Cross-entropy of the cells, and what the soft calls of each example lack of an F1 of 1."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (entropy * weight).sum() / weight.sum()
    if f1:
        _, place = np.unique(example, return_inverse=True)
        at = torch.from_numpy(place)
        n = int(place.max()) + 1
        call = torch.sigmoid(_SLOPE * logits)
        both, either, share = (
            torch.zeros(n).index_add_(0, at, v) for v in (call * target, call + target, weight)
        )
        lack = 1 - (2 * both + 1) / (either + 1)
        loss = loss + f1 * (lack * share).sum() / share.sum()
    return loss
