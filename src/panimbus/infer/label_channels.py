"""Label images of other segmentations (nuclei, regions) among the channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from panimbus.core.errors import PanimbusError
from panimbus.core.fov import Fov
from panimbus.core.histogram import Histogram
from panimbus.core.scale import ChannelStats
from panimbus.core.types import Array

_WINDOW = 512  # pixels to a side that are looked at
_FOVS = 3
_PLACES = (
    (1, 1),
    (0.5, 0.5),
    (0.5, 1.5),
    (1.5, 0.5),
    (1.5, 1.5),
)  # middles of the windows, in halves of the image
_VALUES = 4  # fewer say nothing
_PIXELS, _LEAST = 10, 8  # of a value: on average in a window, and at least for four of five in all
_PIECES = 1.5
_EQUAL = 0.4  # share of the pixels whose right neighbour is equal: rings of two pixels have half
_SEEN = 0.02  # share of a window that is not 0: enough to judge by


def label_channels(
    fovs: Sequence[Fov], channels: Sequence[str], pooled: Mapping[str, ChannelStats]
) -> list[str]:
    """Channels whose pixels are ids: each value in one place, in one piece.

    Histograms exclude nearly all markers; a few windows of the others are read.

    Parameters
    ----------
    fovs
        The FOVs; at most three are looked at.
    channels
        Which channels.
    pooled
        Channel -> its statistics in all FOVs.
    """
    step = -(-len(fovs) // _FOVS)
    some = [
        channel for channel in channels if channel in pooled and _may_be_ids(pooled[channel].pixels)
    ]
    return [
        channel
        for channel in some
        if any(_of_ids(fov, channel) for fov in islice(fovs, 0, None, step))
    ]


def describe_label_channel(channel: str) -> str:
    """Message for a channel that `label_channels` returns."""
    return (
        f"channel {channel!r} looks like a label image (each value is in one place), not a marker:"
        " leave it out with --channels"
    )


def _may_be_ids(pixels: Histogram) -> bool:
    """Whether nearly every value has as many pixels as an object; high values of markers do not."""
    values = pixels.values()
    counts = pixels.counts[values > 0]
    whole = values[values < 64]
    if len(counts) < _VALUES or (values < 0).any() or (whole != np.round(whole)).any():
        return False
    return bool((counts >= _LEAST).mean() >= 0.8)


def _of_ids(fov: Fov, channel: str) -> bool:
    if channel not in fov.channels:
        return False
    plane, (height, width) = fov.index(channel), fov.shape_yx
    h, w = min(_WINDOW, height), min(_WINDOW, width)
    places = dict.fromkeys(
        (round((height - h) * p / 2), round((width - w) * q / 2)) for p, q in _PLACES
    )
    try:
        for y, x in places:
            part = np.asarray(fov.image[plane, y : y + h, x : x + w])
            if holds_ids(part):
                return True
            if np.count_nonzero(part) > _SEEN * part.size:
                return False
    except PanimbusError:  # unreadable pixels have a message of their own
        return False
    return False


def holds_ids(part: Array) -> bool:
    """Whether a window holds ids: several whole numbers, each in one piece of some size.

    Parameters
    ----------
    part : (Y, X)

    Examples
    --------
    >>> holds_ids(np.kron(np.arange(16).reshape(4, 4), np.ones((5, 5))))
    True
    >>> holds_ids(np.kron(np.arange(16).reshape(4, 4) % 4, np.ones((5, 5))))
    False
    """
    from skimage.measure import label as connected

    equal = np.count_nonzero((part[:, :-1] == part[:, 1:]) & (part[:, :-1] != 0))
    if not equal or equal < _EQUAL * np.count_nonzero(part):
        return False
    if part.dtype.kind == "f" and not (np.isfinite(part).all() and (part == np.floor(part)).all()):
        return False
    values, index = np.unique(part, return_inverse=True)
    count = int((values > 0).sum())
    if count < _VALUES or values[0] < 0 or np.count_nonzero(part) < _PIXELS * count:
        return False
    index = index.reshape(part.shape) + int(values[0] > 0)
    pieces = connected(index, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    return int(pieces.max()) <= _PIECES * count
