"""The cell head as part of a model's card: a small perceptron on `panimbus.core.cell_head`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from panimbus.core.cell_head import FEATURES, cell_features
from panimbus.core.types import Array, Float32Array
from panimbus.io.documents import Strict

Number = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[tuple[Number, ...], Field(min_length=1, max_length=1024)]
Matrix = Annotated[tuple[Row, ...], Field(min_length=1, max_length=1024)]
_CELLS = 65_536  # at a time, to bound the memory


class CellHead(Strict):
    """Weights of a head; adds to the logit of the net's score.

    Attributes
    ----------
    centre, scale
        Of each feature: what is subtracted, and then divided by.
    weights, offsets
        Of each layer: (outputs, inputs) and (outputs,); ReLU between layers, one output.
    """

    centre: Row
    scale: Row
    weights: Annotated[tuple[Matrix, ...], Field(min_length=1, max_length=8)]
    offsets: Annotated[tuple[Row, ...], Field(min_length=1, max_length=8)]

    @model_validator(mode="after")
    def _fits(self) -> CellHead:
        width = len(FEATURES)
        shapes = [(len(w), {len(row) for row in w}, len(b)) for w, b in self._layers()]
        if (
            len(self.weights) != len(self.offsets)
            or not len(self.centre) == len(self.scale) == width
        ):
            msg = f"a cell head of {width} features has as many centres and scales"
            raise ValueError(msg)
        for outputs, inputs, offsets in shapes:
            if inputs != {width} or outputs != offsets:
                msg = f"a layer of the cell head does not fit: {outputs} x {inputs} after {width}"
                raise ValueError(msg)
            width = outputs
        if width != 1 or not all(s > 0 for s in self.scale):
            msg = "a cell head has one output, and scales above 0"
            raise ValueError(msg)
        return self

    def _layers(self) -> list[tuple[Matrix, Row]]:
        return list(zip(self.weights, self.offsets, strict=False))

    @cached_property
    def _arrays(self) -> list[tuple[Float32Array, Float32Array]]:
        return [(np.array(w, np.float32).T, np.array(b, np.float32)) for w, b in self._layers()]

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
            features = cell_features(
                score[part],
                mean[part],
                {name: values[part] for name, values in evidence.items()},
                stats=stats,
            )
            out[part] = expit(features[:, 0] + self.shift(features))
        return out

    def shift(self, features: Float32Array) -> Float32Array:
        """(n,) what is added to the logits of cells with features (n, F)."""
        x: Array = (features - np.array(self.centre)) / np.array(self.scale)
        x = x.astype(np.float32)
        for k, (weight, offset) in enumerate(self._arrays):
            x = (np.maximum(x, 0) if k else x) @ weight + offset
        return np.asarray(x[:, 0], np.float32)
