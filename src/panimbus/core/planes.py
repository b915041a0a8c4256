"""The planes and the numbers a net sees: one channel, the segmentation, and how the channel's cells are distributed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.labels import interior

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

PLANES = ("image", "sqrt", "interior", "cell", "cell_mean")
"""Names of input planes: the normalised channel clipped to [0, 1]; its square root; label > 0 and not on an inner boundary;
label > 0; the square root of each cell's mean normalised intensity, painted on its pixels, clipped to [0, 1]."""

EXTRA = ("nuclear", "membrane")
"""Names of input planes that show another channel of the same tissue: its normalised intensity, clipped to [0, 1]."""


def check_planes(names: Sequence[str]) -> None:
    """Refuse a plane that is in neither `PLANES` nor `EXTRA`."""
    unknown = [n for n in names if n not in PLANES + EXTRA]
    if unknown:
        raise InputError(f"Unknown input planes: {', '.join(unknown)}.", available=PLANES + EXTRA)


def check_given(names: Sequence[str], given: Iterable[str] = ()) -> None:
    """Refuse to run a net that sees planes of `EXTRA` which are not given."""
    missing = [n for n in names if n in EXTRA and n not in given]
    if missing:
        raise InputError(
            f"The net sees planes that are not given: {', '.join(missing)}.",
            available=given,
            fix="use a model without them (`panimbus models`)",
        )


def extra_planes(out: FloatArray, names: Sequence[str], extra: Mapping[str, FloatArray]) -> FloatArray:
    """Fill in the planes of `EXTRA`; ``out`` (P, h, w) is changed in place and returned.

    Parameters
    ----------
    out : (P, h, w) float32
    names
        Input planes in order.
    extra
        Plane -> (h, w) float32, intensity divided by that channel's normaliser.
    """
    check_given(names, extra)
    for k, name in enumerate(names):
        if name in extra:
            np.clip(extra[name], 0, 1, out=out[k])
    return out


def label_planes(names: Sequence[str], index: npt.NDArray[np.int32]) -> FloatArray:
    """Planes that depend on the segmentation alone; zeros where a plane depends on the channel.

    Parameters
    ----------
    names
        Input planes in order.
    index : (h, w) int32
        Cell index at the model's resolution, -1 = background. Include one pixel more than needed on each side: the outermost
        pixels of a window do not know their neighbours.

    Returns
    -------
    (P, h, w) float32
    """
    check_planes(names)
    out = np.zeros((len(names), *index.shape), np.float32)
    for k, name in enumerate(names):
        if name == "interior":
            out[k] = interior(index + 1)
        elif name == "cell":
            out[k] = index >= 0
    return out


def channel_planes(
    out: FloatArray, names: Sequence[str], image: FloatArray, index: npt.NDArray[np.int32], cell_mean: FloatArray
) -> FloatArray:
    """Fill in the planes that depend on the channel.

    Parameters
    ----------
    out : (P, h, w) float32
        What `label_planes` gave; changed in place and returned.
    names
        Input planes in order.
    image : (h, w) float32
        Intensity divided by the normaliser, at the model's resolution.
    index : (h, w) int32
        Cell index, -1 = background.
    cell_mean : (n,) float32
        Mean normalised intensity of every cell.
    """
    clipped = np.clip(image, 0, 1)
    for k, name in enumerate(names):
        if name == "image":
            out[k] = clipped
        elif name == "sqrt":
            np.sqrt(clipped, out=out[k])
        elif name == "cell_mean":
            table = np.zeros(len(cell_mean) + 1, np.float32)  # the last element serves index -1
            table[:-1] = np.sqrt(np.clip(cell_mean, 0, 1))
            np.take(table, index, out=out[k], mode="wrap")
    return out
