"""Weights to begin a training from, and the mean of the weights of several trainings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from panimbus.core.correction import Correction
from panimbus.core.errors import InputError
from panimbus.model.card import CompactSettings, ModelCard
from panimbus.model.weights import load_torch, resolve_model


def load_start(net: nn.Module, card: ModelCard, model: str) -> None:
    """Let a net compute what a given model computes.

    Input channels and statistics that the model does not have count nothing at first.

    Parameters
    ----------
    net, card
        The untrained net, which is changed, and its card.
    model
        Name or path of a model of the same architecture and widths.
    """
    old, old_card = load_torch(resolve_model(model).weights)
    weights = old.state_dict()
    if isinstance(card.settings, CompactSettings) and old_card.settings == card.settings:
        folded = card.settings.unshuffle**2  # pixels of an input channel, side by side
        first = "encoder.0.first.conv.weight"
        weights[first] = _rearranged(weights[first], old_card.planes, card.planes, folded)
        if card.stats and old_card.stats:
            hidden = "film.hidden.weight"
            weights[hidden] = _rearranged(weights[hidden], old_card.stats, card.stats, 1)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"net.start: the weights of {old_card.name} do not fit the net.",
            expected=f"{card.architecture} with {card.settings}",
            got=f"{old_card.architecture} with {old_card.settings}",
        ) from error


def _rearranged(weight: Tensor, old: Sequence[str], new: Sequence[str], each: int) -> Tensor:
    """(O, old * each, ...) -> (O, new * each, ...) by the names of the inputs; 0 for new ones."""
    parts = weight.reshape(len(weight), len(old), each, *weight.shape[2:])
    zero = torch.zeros_like(parts[:, 0])
    chosen = [parts[:, old.index(name)] if name in old else zero for name in new]
    return torch.stack(chosen, 1).flatten(1, 2)


def mean_weights(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several nets' weights (Wortsman et al. 2022, *Model soups*)."""
    return {k: sum(state[k] for state in states) / len(states) for k in states[0]}  # type: ignore[misc]


def with_correction(net: Any, correction: Correction) -> Any:
    """A copy of a net whose logits are divided by a temperature and moved by an offset."""
    net = copy.deepcopy(net)
    head = net.head if hasattr(net, "head") else net.final_conv
    with torch.no_grad():
        head.weight.div_(correction[0])
        head.bias.div_(correction[0]).add_(correction[1])
    return net
