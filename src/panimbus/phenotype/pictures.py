"""Pictures of a FOV with its cells in the colours of their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.channel_types import find_counterstains
from panimbus.core.fov import Fov
from panimbus.core.table import CELL_TYPE, NOT_TYPED, UNASSIGNED
from panimbus.core.types import Array, UInt8Array
from panimbus.io.segmented import BAND, Segmented
from panimbus.render.charts import INK, chart_style, legend, new_figure
from panimbus.render.paint import cell_rows, paint_cells
from panimbus.render.palette import Rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from panimbus.phenotype.summary import Summary

LARGEST = 1400
"""Pixels per side that a picture shows."""
_STAIN: Rgb = (120, 120, 130)
_LIGHTS: tuple[Rgb, ...] = ((255, 170, 0), (0, 180, 255), (255, 60, 190))
_BARS_UM = (10, 20, 50, 100, 200, 500, 1000)


@chart_style()
def tissue(one: Segmented, ids: Array, types: Sequence[str], summary: Summary) -> Figure:
    """A FOV with its cells (n ids) in the colours of their n types.

    Next to it, where there is an image, its most informative channels.
    """
    labels, step = one.thinned(LARGEST)
    colours = np.array([summary.colours[t] for t in types], np.uint8).reshape(-1, 3)
    shown = [paint_cells(cell_rows(labels, np.asarray(ids)), colours, borders=step == 1)]
    lights: dict[str, Rgb] = {}
    if one.image is not None:
        lights = telling_channels(summary, one.image.channels, one.image.channel_types)
        shown += [composite(one.image, lights, step)] if lights else []
    height, width = labels.shape
    inch = max(height, width) / 6.5  # pixels
    panel, tall = max(width / inch, 2.2), height / inch + 0.9
    down, across = (len(shown), 1) if width > 2 * height else (1, len(shown))
    names = 0.7 + 0.09 * max(map(len, summary.colours))
    figure = new_figure(
        across * (panel + 0.2) + names, max(down * tall, 0.5 + 0.23 * len(summary.types))
    )
    for axes, image in zip(figure.subplots(down, across, squeeze=False).flat, shown, strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    figure.axes[0].set_title(one.fov_id, fontsize=11, loc="left", color=INK)
    if one.mpp:
        _scale_bar(figure.axes[0], (height, width), one.mpp * step, inch)
    if lights:
        legend(
            figure.axes[-1], lights, loc="upper center", bbox_to_anchor=(0.5, 0),
            ncols=min(4, int(panel)),
        )  # fmt: skip
    legend(figure, summary.colours, fontsize=10)
    return figure


def _scale_bar(axes: Axes, shape: tuple[int, int], mpp: float, inch: float) -> None:
    """A bar of at most a quarter of the width, below an image of ``inch`` pixels per inch."""
    height, width = shape
    um = max((b for b in _BARS_UM if b <= width * mpp / 4), default=10)
    y, end = height + 0.1 * inch, um / mpp
    axes.plot([0, end], [y, y], color=INK, linewidth=3, solid_capstyle="butt", clip_on=False)
    axes.text(end, y, f"  {um} µm", fontsize=10, color=INK, va="center")
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def telling_channels(
    summary: Summary, channels: Sequence[str], declared: Mapping[str, str]
) -> dict[str, Rgb]:
    """Channels of a composite and their colours.

    A counterstain, and the markers that best tell the three commonest types.
    """
    types = summary.types[~summary.types[CELL_TYPE].isin([UNASSIGNED, NOT_TYPED])]
    types = types.sort_values("cells", ascending=False)
    trust = summary.reliability.set_index("marker")["reliability"]
    trust = trust[[m in channels and m in types for m in trust.index]]
    clear = (types[trust.index] - types[trust.index].mean() * (len(types) > 1)) * trust
    markers = dict.fromkeys(map(str, clear.idxmax(axis=1)) if len(trust) else ())
    stain = dict.fromkeys(find_counterstains(channels, declared)[:1], _STAIN)
    return stain | dict(zip(markers, _LIGHTS, strict=False))


def composite(fov: Fov, lights: Mapping[str, Rgb], step: int = 1) -> UInt8Array:
    """(Y, X, 3) uint8 sum of channels in their colours.

    Each from its 1st to its 99.7th percentile; every ``step``-th pixel.
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
        share = np.clip((plane - low) / max(high - low, 1e-6), 0, 1)
        out += share[..., None] * np.array(colour, np.float32)
    return np.clip(out, 0, 255).astype(np.uint8)
