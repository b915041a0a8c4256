"""Input channels of a net: the channel, the segmentation, and statistics of the channel's cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError
from panimbus.core.labels import interior
from panimbus.core.scale import CELL_QUANTILES, statistic
from panimbus.core.types import Array, Float32Array

PLANES = (
    "image",
    "sqrt",
    "interior",
    "cell",
    "cell_mean",
    "relative",
    "cell_relative",
    "cell_rank",
)
"""Names of input channels. ``image``: the normalised channel clipped to [0, 1]; ``sqrt``: its
square root; ``interior``: label > 0 and not on an inner boundary; ``cell``: label > 0;
``cell_mean``: square root of each cell's mean normalised intensity, on its pixels, clipped to
[0, 1]. Independent of the normaliser are ``relative``: v / (v + Otsu's threshold of the dataset's
cells) of the channel, ``cell_relative``: the same of each cell's mean intensity, and ``cell_rank``:
the share of the dataset's cells with a lower mean."""

OF_DATASET = frozenset({"relative", "cell_relative", "cell_rank"})
"""Input channels that depend on the statistics of the dataset."""

_LEAST = 1e-6  # where no cell has any intensity


def check_planes(names: Sequence[str]) -> None:
    """Refuse an input channel that is not in `PLANES`."""
    unknown = [n for n in names if n not in PLANES]
    if unknown:
        raise InputError(f"Unknown input planes: {', '.join(unknown)}.", available=PLANES)


def label_planes(names: Sequence[str], index: npt.NDArray[np.int32]) -> Float32Array:
    """Planes that depend on the segmentation alone; zeros where a plane depends on the channel.

    Parameters
    ----------
    names
        Input planes in order.
    index : (h, w) int32
        Cell index at the model's resolution, -1 = background. Include one pixel more than needed on
        each side: the outermost pixels of a window do not know their neighbours.

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
    out: Float32Array,
    names: Sequence[str],
    image: Float32Array,
    *,
    index: npt.NDArray[np.int32],
    cell_mean: Float32Array,
    stats: Mapping[str, float],
) -> Float32Array:
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
        Mean intensity of every cell, in units of the image.
    stats
        The channel's statistics over the dataset (`ChannelScale.relative_stats`), in the unit of
        the image.
    """
    clipped = np.clip(image, 0, 1)
    otsu = np.float32(max(statistic(stats, "otsu"), _LEAST))
    for k, name in enumerate(names):
        if name == "image":
            out[k] = clipped
        elif name == "sqrt":
            np.sqrt(clipped, out=out[k])
        elif name == "relative":
            positive = np.maximum(image, 0)
            np.divide(positive, positive + otsu, out=out[k])
        elif name == "cell_mean":
            _paint(out[k], np.sqrt(np.clip(cell_mean, 0, 1)), index)
        elif name == "cell_relative":
            positive = np.maximum(cell_mean, 0)
            _paint(out[k], positive / (positive + otsu), index)
        elif name == "cell_rank":
            _paint(
                out[k],
                rank_by_quantiles(cell_mean, [stats.get(n, 0.0) for n in CELL_QUANTILES]),
                index,
            )
    return out


def _paint(out: Float32Array, values: Array, index: npt.NDArray[np.int32]) -> None:
    """A value a cell on its pixels, 0 outside; (h, w) ``out`` is changed in place."""
    table = np.zeros(len(values) + 1, np.float32)  # the last element serves index -1
    table[:-1] = values
    np.take(table, index, out=out, mode="wrap")


def rank_by_quantiles(values: Float32Array, quantiles: npt.ArrayLike) -> Float32Array:
    """Share of a distribution that lies below each value.

    Parameters
    ----------
    values : (n,) number
    quantiles : (99,) number
        The distribution's percentiles 1 to 99. Above the last, what is twice as high is taken to be
        half as frequent.

    Returns
    -------
    (n,) float32
        In [0, 1).

    Examples
    --------
    >>> rank_by_quantiles(np.array([0, 50, 50.5, 198], np.float32), np.arange(1, 100))
    array([0.   , 0.5  , 0.505, 0.995], dtype=float32)
    """
    points = np.concatenate([[0.0], np.asarray(quantiles, np.float64)])
    share = np.arange(100) / 100
    first = np.append(
        True, points[1:] > points[:-1]
    )  # of equal percentiles the lowest: what lies below
    rank = np.interp(values, points[first], share[first])
    top = points[-1]
    high = values > top
    rank[high] = 1 - 0.01 * top / values[high]
    return np.asarray(rank, np.float32)
