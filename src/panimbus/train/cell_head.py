"""The last step of a training run: fit the cell head to the finished net's scores.

The net is fixed. Its scores of annotated cells, over all views as in prediction, and their evidence
(`panimbus.core.cell_head`) are the features of a logistic regression. Its cells are those that
people, or vision models, annotated one by one: on simulated tissue and on silver labels, which the
net was fitted to, a head learns to trust the net more than it deserves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from panimbus.core.cell_head import FEATURES, cell_features
from panimbus.core.errors import InputError
from panimbus.core.evidence import cell_means, evidence_of
from panimbus.core.stats import fit_logistic
from panimbus.core.types import Float32Array, Float64Array, Int64Array
from panimbus.data.augment import AugmentedTile
from panimbus.model.cell_head import CellHead
from panimbus.train.examples import Examples, StoreLike, net_inputs

if TYPE_CHECKING:
    from panimbus.data.store import Example
    from panimbus.train.config import HeadConfig

_NO_PLANES = np.zeros((0, 0, 0), np.float32)
_IDENTITY = np.array([0.0, *(float(name == "logit") for name in FEATURES)])


def annotated_rows(head: HeadConfig, store: StoreLike) -> Int64Array:
    """(n,) rows of the store that the head is fitted to.

    Raises
    ------
    InputError
        If the store has no such dataset; `panimbus.train.loop.train` asks before the first step.
    """
    table, rows = store.examples, store.rows("train")
    chosen = rows[table["dataset"].to_numpy()[rows] == head.dataset]
    if not len(chosen):
        raise InputError(
            f"head: the store has no labelled cell of dataset {head.dataset!r} to train on.",
            available=sorted(set(table["dataset"])),
            fix="name another dataset (head.dataset), or leave [head] away",
        )
    return np.asarray(chosen, np.int64)


def fit_head(
    head: HeadConfig,
    examples: Examples,
    forward: Callable[[Tensor, Tensor], Tensor],
    *,
    device: torch.device,
) -> CellHead:
    """Fit a head to the annotated cells of the store's training split.

    The Gaussian prior is the head that changes nothing; an example counts by the root of its cells.

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

    """
    features, targets, weights = [], [], []
    for row in annotated_rows(head, examples.store):
        example = examples.store.read(int(row))
        share = example.share >= examples.config.data.least_share
        labelled = (example.target >= 0) & share
        if labelled.any():
            features.append(example_features(examples, example, forward, device)[labelled])
            targets.append(example.target[labelled])
            weights.append(np.full(labelled.sum(), labelled.sum() ** -0.5))
    return regression(np.concatenate(features), np.concatenate(targets), np.concatenate(weights))


def regression(features: Float32Array, target: Float32Array, weight: Float64Array) -> CellHead:
    """The head for features (n, F), targets (n,) and weights (n,)."""
    design = np.concatenate([np.ones((len(features), 1)), features], 1)
    fitted = fit_logistic(
        design,
        target.astype(np.float64),
        mean=_IDENTITY,
        precision=np.ones(len(_IDENTITY)),
        weights=weight / weight.mean(),
    )
    offset, *rest = (float(f"{v:.6g}") for v in fitted)
    return CellHead(offset=offset, weights=tuple(rest))


def example_features(
    examples: Examples,
    example: Example,
    forward: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
) -> Float32Array:
    """(n, F) features of all cells of an example, scored over the views of prediction."""
    card = examples.card
    pad = [(0, -n % card.stride) for n in example.index.shape]
    index = np.pad(example.index, pad, constant_values=-1)
    view = AugmentedTile(np.pad(example.image, pad, "symmetric"), _NO_PLANES, index)
    planes, vector = net_inputs(card, view, example.mean, example.stats)
    x = torch.from_numpy(planes[None]).to(device)
    stats = torch.from_numpy(vector[None]).to(device)
    total = np.zeros(len(example.target))
    turns = range(8) if card.tta == "full" else range(1)
    with torch.inference_mode():
        for turn in turns:
            logits = _turned(forward(_turned(x, turn), stats), turn, back=True)[0, 0]
            total += cell_means(expit(logits.cpu().double().numpy()), index, len(total))
    evidence = evidence_of(example.image, example.index, example.mean)
    return cell_features(total / len(turns), example.mean, evidence, stats=example.stats)


def _turned(x: Tensor, turn: int, *, back: bool = False) -> Tensor:
    """One of the 8 flips and quarter turns of (N, C, H, W), or its inverse."""
    if back:
        x = torch.rot90(x, -(turn % 4), (2, 3))
        return x.flip(3) if turn >= 4 else x
    return torch.rot90(x.flip(3) if turn >= 4 else x, turn % 4, (2, 3))
