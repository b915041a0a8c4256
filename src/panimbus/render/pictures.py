"""The types of a FOV's cells beside its image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.channel_types import find_counterstains
from panimbus.core.fov import Fov
from panimbus.core.labels import interior, paint_labels
from panimbus.core.table import CELL_TYPE, NOT_TYPED, UNASSIGNED
from panimbus.core.types import Array, UInt8Array
from panimbus.io.segmented import BAND, Segmented
from panimbus.render.figures import INK, legend, new_figure
from panimbus.render.palette import Rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from panimbus.phenotype.summary import Summary

GROUND: Rgb = (255, 255, 255)
LARGEST = 1400
"""Pixels to a side that a picture shows."""
_STAIN: Rgb = (120, 120, 130)
_LIGHTS: tuple[Rgb, ...] = ((255, 170, 0), (0, 180, 255), (255, 60, 190))


def tissue(one: Segmented, ids: Array, types: Sequence[str], summary: Summary) -> Figure:
    """A FOV, its cells (n ids) in the colours of their n types.

    Beside it, where there is an image, its most telling channels.
    """
    labels, step = one.thinned(LARGEST)
    shown = [painted(labels, ids, types, summary.colours, borders=step == 1)]
    lights = (
        telling_channels(summary, one.image.channels, one.image.channel_types)
        if one.image is not None
        else {}
    )
    if one.image is not None and lights:
        shown.append(composite(one.image, lights, step))
    height, width = labels.shape
    inch = max(height, width) / 6.5
    panel, tall, stacked = max(width / inch, 2.2), height / inch + 0.9, width > 2 * height
    down, beside = (len(shown), 1) if stacked else (1, len(shown))
    names = 0.7 + 0.09 * max(map(len, summary.colours))
    figure = new_figure(
        beside * (panel + 0.2) + names, max(down * tall, 0.5 + 0.23 * len(summary.types))
    )
    for axes, image in zip(figure.subplots(down, beside, squeeze=False).flat, shown, strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    left, right = figure.axes[0], figure.axes[-1]
    left.set_title(one.fov_id, fontsize=11, loc="left", color=INK)
    if one.mpp:
        um = max(
            (b for b in (10, 20, 50, 100, 200, 500, 1000) if b <= width * step * one.mpp / 4),
            default=10,
        )
        bar = um / (step * one.mpp)
        left.plot(
            [0, bar],
            [height + 0.1 * inch] * 2,
            color=INK,
            linewidth=3,
            solid_capstyle="butt",
            clip_on=False,
        )
        left.text(bar, height + 0.1 * inch, f"  {um} µm", fontsize=10, color=INK, va="center")
        left.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if lights:
        legend(
            right,
            lights,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=min(4, int(panel)),
            fontsize=8,
        )
    legend(figure, summary.colours, fontsize=10)
    return figure


def painted(
    labels: Array,
    ids: Array,
    types: Sequence[str],
    colours: Mapping[str, Rgb],
    *,
    borders: bool = True,
) -> UInt8Array:
    """(Y, X, 3) uint8: cells filled with the colours of their types.

    Parameters
    ----------
    labels : (Y, X) integer, 0 = background
    ids, types
        n cells, in the image or not, and their types; others are left white.
    colours
    borders
        Make them darker: not where pixels were left out, as most of those that stay would be at a
        border.
    """
    inside, order = np.isin(ids, labels), {n: i + 1 for i, n in enumerate(colours)}
    codes = paint_labels(
        labels, np.asarray(ids)[inside], np.array([order[t] for t in types], np.int64)[inside]
    )
    out = np.array([GROUND, *colours.values()], np.uint8)[codes]
    edge = (labels > 0) & ~interior(labels) & borders
    out[edge] = (out[edge] * 0.82).astype(np.uint8)
    return out


def telling_channels(
    summary: Summary, channels: Sequence[str], declared: Mapping[str, str]
) -> dict[str, Rgb]:
    """What a composite shows, in which colours.

    A counterstain, and the markers that best tell the three commonest types.
    """
    types = summary.types[~summary.types[CELL_TYPE].isin([UNASSIGNED, NOT_TYPED])].sort_values(
        "cells", ascending=False
    )
    trust = summary.reliability.set_index("marker")["reliability"]
    trust = trust[[m in channels and m in types for m in trust.index]]
    clear = (types[trust.index] - types[trust.index].mean() * (len(types) > 1)) * trust
    markers = dict.fromkeys(map(str, clear.idxmax(axis=1)) if len(trust) else ())
    return dict.fromkeys(find_counterstains(channels, declared)[:1], _STAIN) | dict(
        zip(markers, _LIGHTS, strict=False)
    )


def composite(fov: Fov, lights: Mapping[str, Rgb], step: int = 1) -> UInt8Array:
    """(Y, X, 3) uint8.

    Channels in their colours, added, each from its 1st to its 99.7th percentile; every ``step``-th
    pixel.
    """
    height, width = fov.shape_yx
    out = np.zeros((-(-height // step), -(-width // step), 3), np.float32)
    for channel, colour in lights.items():
        c, starts = fov.index(channel), range(0, height, BAND)
        bands = [
            fov.image[c, y : min(y + BAND, height), 0:width][-y % step :: step, ::step]
            for y in starts
        ]
        plane = np.nan_to_num(np.concatenate(bands).astype(np.float32))
        low, high = np.percentile(plane, (1, 99.7))
        high = high if high > low else plane.max()
        out += np.clip((plane - low) / max(high - low, 1e-6), 0, 1)[..., None] * np.array(
            colour, np.float32
        )
    return np.clip(out, 0, 255).astype(np.uint8)
