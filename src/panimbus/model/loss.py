"""Losses of cells from the logits of pixels.

Pixels of the background and of cells without a label have number 0 and carry no loss.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from torch import Tensor

_LEAST_SCORE = 1e-4  # scores are kept this far from 0 and 1
_SLOPE = 3.0  # of a soft call, in the logit
_MOST_APART = 2.0  # difference of two logits beyond which views do not pull each other


class CellLosses(NamedTuple):
    """Losses and scores of K numbered cells; entry 0 of each is not used.

    Attributes
    ----------
    pixel : (K + 1,)
        Mean binary cross-entropy of the cell's pixels.
    whole : (K + 1,)
        Binary cross-entropy of the cell's mean score, which is what is thresholded in the end.
    score : (K + 1,)
        The mean score.
    area : (K + 1,)
        Pixels of the cell.
    """

    pixel: Tensor
    whole: Tensor
    score: Tensor
    area: Tensor


def smoothed(target: Tensor, smoothing: float) -> Tensor:
    """Targets drawn towards 1/2: with 0.05 a positive cell is 0.975 and a negative one 0.025."""
    return target * (1 - smoothing) + 0.5 * smoothing


def cell_losses(logits: Tensor, cells: Tensor, target: Tensor) -> CellLosses:
    """Losses and scores of numbered cells.

    Parameters
    ----------
    logits
        (N, 1, H, W) float32.
    cells
        (N, H, W) int64: number of the cell of each pixel, 1 .. K; 0 = no loss.
    target
        (K + 1,) float32 in [0, 1]; entry 0 is not used.
    """
    flat = cells.reshape(-1)
    at = torch.nonzero(flat).squeeze(1)
    own, z = flat[at], logits.reshape(-1)[at]
    area = torch.bincount(own, minlength=len(target)).to(z.dtype)
    safe, none = area.clamp(min=1), torch.zeros_like(target)
    entropy = F.binary_cross_entropy_with_logits(z, target[own], reduction="none")
    pixel = none.index_add(0, own, entropy) / safe
    score = none.index_add(0, own, torch.sigmoid(z)) / safe
    clipped = score.clamp(_LEAST_SCORE, 1 - _LEAST_SCORE)
    whole = -(target * torch.log(clipped) + (1 - target) * torch.log1p(-clipped))
    return CellLosses(pixel, whole, score, area)


def soft_f1_loss(score: Tensor, target: Tensor, cells: Tensor, counts: Tensor) -> Tensor:
    """1 - F1 of the soft calls of each crop.

    Cross-entropy is content with 0.3 for the few positive cells of a hazy channel, of which none is
    called positive then; what maximises F1 is a lower threshold there. A soft call is the sigmoid
    of three times the logit, so that there is a gradient.

    Parameters
    ----------
    score, target
        (K + 1,) as in `cell_losses`.
    cells
        (N, H, W) int64, likewise.
    counts
        (K + 1,) bool: which cells count.

    Returns
    -------
    (N,)
        0 where no cell that counts is positive.
    """
    flat = cells.reshape(-1)
    at = torch.nonzero(flat).squeeze(1)
    crop = torch.zeros(len(target), dtype=torch.int64, device=target.device)
    crop = crop.index_put((flat[at],), at // cells[0].numel())
    called = torch.sigmoid(_SLOPE * _logit(score))
    zero = torch.zeros(len(cells), dtype=target.dtype, device=target.device)
    true, calls, positive = (
        zero.index_add(0, crop[1:], (v * counts)[1:]) for v in (target * called, called, target)
    )
    return torch.where(positive > 0.5, 1 - 2 * true / (calls + positive + 1e-3), 0.0)


def disagreement(score: Tensor) -> Tensor:
    """Squared difference of the logits of two views of the same cells.

    Parameters
    ----------
    score
        (2 K + 1,) mean scores; cells k and K + k are the same. Entry 0 is not used.

    Returns
    -------
    (K,)
        At most 4: a cell whose views are further apart does not pull.
    """
    first, second = _logit(score[1:]).chunk(2)
    return (first - second).clamp(-_MOST_APART, _MOST_APART) ** 2


def _logit(score: Tensor) -> Tensor:
    return torch.logit(score.clamp(_LEAST_SCORE, 1 - _LEAST_SCORE))
