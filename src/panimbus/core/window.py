"""Windows of the model's grid: reading labels and channels for prediction and training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.fov import Fov
from panimbus.core.labels import sample_labels
from panimbus.core.resample import shrink
from panimbus.core.scan import FovCells, prefetched
from panimbus.core.types import Float32Array

Window = tuple[int, int, int, int]
"""(y0, y1, x0, x1) in model pixels; beyond the image's edges the image is reflected."""


def read_index(fov: Fov, cells: FovCells, window: Window) -> npt.NDArray[np.int32]:
    """Cell of each model pixel of a window; rescued cells take their pixel if no other cell has it.

    Returns
    -------
    (y1 - y0, x1 - x0) int32
        Index into ``cells.index.ids``, -1 = background.
    """
    inside, padding = _clip(window, cells)
    labels = (
        np.asarray(fov.labels[_slices(inside, cells)])
        if fov.labels is not None
        else np.zeros((0, 0), np.int32)
    )
    index = cells.index(sample_labels(labels, cells.y, cells.x, inside))
    cell, y, x = cells.rescued.T
    shown = np.flatnonzero((y >= inside[0]) & (y < inside[1]) & (x >= inside[2]) & (x < inside[3]))[
        ::-1
    ]  # the first overwrites the others
    y, x = y[shown] - inside[0], x[shown] - inside[2]
    free = index[y, x] < 0
    index[y[free], x[free]] = cell[shown][free]
    return _pad(index, padding)


def read_channels(
    fov: Fov, cells: FovCells, window: Window, channels: Sequence[str]
) -> Iterator[Float32Array]:
    """Yield the channels of a window at the model's resolution, (y1 - y0, x1 - x0) float32 each."""
    inside, padding = _clip(window, cells)
    rows, cols = _slices(inside, cells)
    for plane in prefetched(fov.image, [(fov.index(c), rows, cols) for c in channels]):
        yield _pad(shrink(plane, cells.y, cells.x, inside), padding)


def _clip(
    window: Window, cells: FovCells
) -> tuple[Window, tuple[tuple[int, int], tuple[int, int]]]:
    """The part of a window inside the image, and the padding for the rest."""
    y0, y1, x0, x1 = window
    h, w = cells.y.size, cells.x.size
    inside = (max(y0, 0), min(y1, h), max(x0, 0), min(x1, w))
    return inside, ((inside[0] - y0, y1 - inside[1]), (inside[2] - x0, x1 - inside[3]))


def _slices(inside: Window, cells: FovCells) -> tuple[slice, slice]:
    return slice(*cells.y.span(inside[0], inside[1])), slice(*cells.x.span(inside[2], inside[3]))


def _pad(
    array: npt.NDArray[Any], padding: tuple[tuple[int, int], tuple[int, int]]
) -> npt.NDArray[Any]:
    return (
        np.pad(array, padding, mode="reflect")
        if any(n for pair in padding for n in pair)
        else array
    )
