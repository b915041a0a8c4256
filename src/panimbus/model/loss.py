"""Losses of cells from the logits of pixels.

Background pixels and cells without a label have number 0 and carry none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone knows)
from torch import Tensor

_SURE = 1e-4
_SHARP = 3.0


def smoothed(target: Tensor, smoothing: float) -> Tensor:
    """Targets drawn towards 1/2: with 0.05 a positive cell is 0.975 and a negative one 0.025."""
    return target * (1 - smoothing) + 0.5 * smoothing


def cell_losses(
    logits: Tensor, cells: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses and scores of numbered cells.

    Parameters
    ----------
    logits
        (N, 1, H, W) float32.
    cells
        (N, H, W) int64: number of the cell of each pixel, 1 .. K; 0 = no loss.
    target
        (K + 1,) float32 in [0, 1]; entry 0 is not used.

    Returns
    -------
    pixel : (K + 1,)
        Mean binary cross-entropy of the cell's pixels.
    whole : (K + 1,)
        Binary cross-entropy of the cell's mean score, which is what is thresholded in the end.
    score : (K + 1,)
        The mean score.
    area : (K + 1,)
        Pixels of the cell; entry 0 is 0.
    """
    flat = cells.reshape(-1)
    at = torch.nonzero(flat).squeeze(1)
    own, z = flat[at], logits.reshape(-1)[at]
    area = torch.bincount(own, minlength=len(target)).to(z.dtype)
    safe, none = area.clamp(min=1), torch.zeros_like(target)
    pixel = (
        none.index_add(0, own, F.binary_cross_entropy_with_logits(z, target[own], reduction="none"))
        / safe
    )
    score = none.index_add(0, own, torch.sigmoid(z)) / safe
    sure = score.clamp(_SURE, 1 - _SURE)
    whole = -(target * torch.log(sure) + (1 - target) * torch.log1p(-sure))
    return pixel, whole, score, area


def lack_of_f1(score: Tensor, target: Tensor, cells: Tensor, counts: Tensor) -> Tensor:
    """What the calls at 0.5 of each crop lack of an F1 of 1.

    Cross-entropy is content with 0.3 for the few positive cells of a hazy channel, of which none is
    called positive then; what maximises F1 is a lower threshold there. A call is a sigmoid of three
    times the logit, so that there is a gradient.

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
        1 - F1; 0 where no cell that counts is positive.
    """
    flat = cells.reshape(-1)
    at = torch.nonzero(flat).squeeze(1)
    crop = torch.zeros(len(target), dtype=torch.int64, device=target.device).index_put(
        (flat[at],), at // cells[0].numel()
    )
    called = torch.sigmoid(_SHARP * torch.logit(score.clamp(_SURE, 1 - _SURE)))
    of_crop = torch.zeros(len(cells), dtype=target.dtype, device=target.device)
    found, calls, positive = (
        of_crop.index_add(0, crop[1:], (v * counts)[1:]) for v in (target * called, called, target)
    )
    return torch.where(positive > 0.5, 1 - 2 * found / (calls + positive + 1e-3), 0.0)
