"""Final scores of a finished FOV by the model's cell head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.correction import corrected
from panimbus.core.scale import ChannelScale
from panimbus.core.types import Float32Array

if TYPE_CHECKING:
    from panimbus.model.card import ModelCard


def apply_head(
    card: ModelCard,
    score: Float32Array,
    mean: Float32Array,
    evidence: Mapping[str, Float32Array],
    scale: ChannelScale,
    channels: Sequence[str],
) -> None:
    """Replace the means of the pixel scores by what the head makes of them.

    Parameters
    ----------
    card
        Of the model; without a head nothing changes.
    score : (n, C) float32
        Changed in place; NaN = missing stays, and so does the 0 of blank channels.
    mean : (n, C) float32
        Mean intensity.
    evidence
        Name of `panimbus.core.table.EVIDENCE` -> (n, C) float32.
    scale, channels
        The normalisers, and the names of the channels.
    """
    head = card.cell_head
    if head is None:
        return
    for k, channel in enumerate(channels):
        if scale.blank(channel):
            continue
        value = np.float32(scale.value(channel))
        new = head.scores(
            score[:, k],
            mean[:, k] / value,
            {name: layer[:, k] / value for name, layer in evidence.items()},
            stats=scale.relative_stats(channel),
        )
        correction = card.calibration.get(channel)
        score[:, k] = new if correction is None else corrected(new, correction)
