"""Tile plans: windows whose cores cover every pixel once, far enough from every cut.

A net has a receptive field of ``reach`` pixels around each output pixel, and pools on a grid of
``stride``. If every
window begins on that grid and keeps only pixels at least ``reach`` away from a cut, the tiled
result is the whole-image result. A window's side that lies on the image's own edge is no cut: there
the whole-image run sees the same edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from panimbus.core.errors import InputError


@dataclass(frozen=True)
class Tile:
    """A window for the net, and its core, the part that is kept.

    Both as (y0, y1, x0, x1) of the model grid.

    ``window`` may go beyond the image (padding to the stride); ``core`` never does. The weight of a
    pixel is 1 in the core of exactly one tile and 0 elsewhere.
    """

    window: tuple[int, int, int, int]
    core: tuple[int, int, int, int]

    @property
    def core_in_window(self) -> tuple[slice, slice]:
        """The core as slices of an array of the window."""
        (wy, _, wx, _), (y0, y1, x0, x1) = self.window, self.core
        return slice(y0 - wy, y1 - wy), slice(x0 - wx, x1 - wx)


@dataclass(frozen=True)
class _Cut:
    window: tuple[int, int]
    core: tuple[int, int]


def _ceil_to(n: int, stride: int) -> int:
    return -(-n // stride) * stride


def _cuts(n: int, size: int, halo: int, stride: int, *, open_edges: bool) -> list[_Cut]:
    """Split one axis of ``n`` pixels into windows of at most ``size``, all of one length."""
    margin = (
        halo if open_edges else 0
    )  # an unpadded net loses the halo at the image's own edges too
    padded = max(
        _ceil_to(n + 2 * margin, stride), 2 * stride
    )  # reflecting needs two pixels at the deepest level
    if padded <= size:
        return [_Cut((-margin, padded - margin), (0, n))]
    keep = size - 2 * halo
    count = math.ceil((padded - 2 * halo) / keep)
    length = min(size, _ceil_to(math.ceil((padded + (count - 1) * 2 * halo) / count), stride))
    cuts, begin = [], 0
    for k in range(count):
        w0 = min(k * (length - 2 * halo), padded - length) - margin
        end = n if w0 + length + margin >= padded else min(n, w0 + length - halo)
        if end > begin:
            cuts.append(_Cut((w0, w0 + length), (begin, end)))
            begin = end
    return cuts


def plan_tiles(
    shape: tuple[int, int], *, size: int, reach: int, stride: int, open_edges: bool = False
) -> list[list[Tile]]:
    """Plan the tiles of an image.

    Parameters
    ----------
    shape
        (Y, X) of the model grid.
    size
        Longest side of a window, in pixels.
    reach
        Receptive-field radius: pixels around an output pixel that can influence it.
    stride
        Windows begin and end on multiples of this.
    open_edges
        For a net without padding: windows also reach a halo beyond the image's own edges.

    Returns
    -------
    list of list of Tile
        Rows of tiles, top to bottom, each left to right. All windows of a plan have one shape.

    Raises
    ------
    InputError
        If ``size`` leaves nothing between two halos.
    """
    halo = _ceil_to(reach, stride)
    size = size // stride * stride
    if size < 2 * halo + stride:
        raise InputError(
            "The tile is smaller than the receptive field of the net.",
            expected=(
                f"at least {2 * halo + stride} px (2 x reach {reach} px, on the stride of"
                f" {stride} px)"
            ),
            got=f"{size} px",
            fix="pass a larger --tile (Python: tile=)",
        )
    ys, xs = (_cuts(n, size, halo, stride, open_edges=open_edges) for n in shape)
    return [[Tile((*y.window, *x.window), (*y.core, *x.core)) for x in xs] for y in ys]
