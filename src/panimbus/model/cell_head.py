"""The cell head of a model's card: a logistic regression on `panimbus.core.cell_head`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator
from scipy.special import expit

from panimbus.core.cell_head import FEATURES, cell_features
from panimbus.core.types import Array, Float32Array
from panimbus.io.documents import Strict

Number = Annotated[float, Field(allow_inf_nan=False)]
_CELLS = 65_536  # at a time, to bound the memory


class CellHead(Strict):
    """The final score of a cell: its log odds are linear in the features.

    Attributes
    ----------
    offset
        Of the log odds.
    weights
        Of each feature, in the order of `panimbus.core.cell_head.FEATURES`.
    """

    offset: Number
    weights: tuple[Number, ...]

    @field_validator("weights")
    @classmethod
    def _fits(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if len(weights) != len(FEATURES):
            msg = f"a cell head has a weight for each of {', '.join(FEATURES)}; got {len(weights)}"
            raise ValueError(msg)
        return weights

    def scores(
        self,
        score: Array,
        mean: Array,
        evidence: Mapping[str, Array],
        *,
        stats: Mapping[str, float],
    ) -> Float32Array:
        """(n,) float32 final scores of the cells of a channel.

        Parameters
        ----------
        score, mean, evidence, stats
            As for `panimbus.core.cell_head.cell_features`; NaN = missing stays.
        """
        out = np.empty(len(score), np.float32)
        for start in range(0, len(score), _CELLS):
            part = slice(start, start + _CELLS)
            own = {name: values[part] for name, values in evidence.items()}
            features = cell_features(score[part], mean[part], own, stats=stats)
            out[part] = expit(features @ np.array(self.weights) + self.offset)
        return out
