"""Pictures of a cell that is asked: the channel, with and without its outline, and its context.

They show nothing that the model says of the cell.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from panimbus.core.channel_types import COUNTERSTAIN_TYPE
from panimbus.core.table import CHANNEL_TYPE
from panimbus.core.types import Array, UInt8Array
from panimbus.render.images import enlarge
from panimbus.render.palette import Rgb
from panimbus.viewer.pictures import Box, Pictures
from panimbus.viewer.style import ChannelStyle
from panimbus.viewer.tiles import edges

CLOSE_UM, CONTEXT_UM = 30.0, 120.0
_PIXELS = {CLOSE_UM: 60, CONTEXT_UM: 240}  # where the size of a pixel is not known
OUTLINE: Rgb = (64, 224, 208)
"""Of the cell that is asked: no colour of an answer."""
_OTHERS: Rgb = (95, 108, 122)
_STAIN: Rgb = (0, 90, 200)


class AskedPictures:
    """Draws the cells of one channel.

    Parameters
    ----------
    pictures
        Of the viewer.
    channel
        Name.
    """

    def __init__(self, pictures: Pictures, channel: str) -> None:
        self._pictures, self._channel = pictures, channel

    def close_up(
        self, fov_id: str, cell_id: int, *, pixels: int, outline: bool, others: bool = True,
        gain: float = 1.0,
    ) -> UInt8Array:  # fmt: skip
        """The channel around a cell, white on black.

        Parameters
        ----------
        pixels
            Side of the picture; pixels of the image are enlarged a whole number of times.
        outline, others
            Whether the cell is outlined, and then its neighbours too, faintly.
        gain
            Brightness: intensities above 1 / gain of the full contrast are white.

        Returns
        -------
        (h, w, 3) uint8
            About ``pixels`` wide and high; black beyond the image.
        """
        style = self._style(fov_id, gain, (255, 255, 255))
        return self._draw(
            fov_id, cell_id, CLOSE_UM, pixels, [style], outline=outline, others=others
        )

    def context(self, fov_id: str, cell_id: int, *, pixels: int, gain: float = 1.0) -> UInt8Array:
        """The tissue around a cell, with the counterstain in blue and the cell outlined."""
        fov, types = self._pictures.result.fov(fov_id), self._types()
        stain = next(
            (c for c in fov.channels if types.get(c) == COUNTERSTAIN_TYPE and c != self._channel),
            None,
        )
        styles = [self._style(fov_id, gain, (255, 255, 255))]
        if stain is not None:
            at = fov.index(stain)
            styles.append(ChannelStyle(at, _STAIN, *self._pictures.limits(fov_id, at)))
        return self._draw(fov_id, cell_id, CONTEXT_UM, pixels, styles, outline=True, others=False)

    def _types(self) -> dict[str, str]:
        column = self._pictures.result.tables.cells.var.get(CHANNEL_TYPE)
        return {} if column is None else dict(zip(map(str, column.index), column, strict=True))

    def _style(self, fov_id: str, gain: float, colour: Rgb) -> ChannelStyle:
        at = self._pictures.result.fov(fov_id).index(self._channel)
        low, high = self._pictures.common_limits(self._channel) or self._pictures.limits(fov_id, at)
        return ChannelStyle(at, colour, low, low + (high - low) / gain)

    def _draw(
        self, fov_id: str, cell_id: int, side_um: float, pixels: int,
        styles: list[ChannelStyle], *, outline: bool, others: bool = True,
    ) -> UInt8Array:  # fmt: skip
        image, labels = self._pictures.pyramids(fov_id)
        mpp = self._pictures.result.mpp.get(fov_id)
        side = max(8, round(side_um / mpp)) if mpp else _PIXELS[side_um]
        step = 1 << max(0, (side // pixels).bit_length() - 1)
        times = max(1, pixels * step // side)
        box, inside = _boxes(self._centre(fov_id, cell_id), side, step, image.shape)
        part = self._pictures.channels(fov_id, inside, step, styles)
        out = enlarge(_placed(part, box, inside, step), times)
        if outline and labels is not None:
            cells = _placed(labels.read(None, inside, step), box, inside, step)
            cells = enlarge(cells, times)
            own = cells == cell_id
            if others:
                rows = np.where(cells == 0, -1, cells.astype(np.int64))
                out[edges(np.pad(rows, 1, mode="edge"))] = _OTHERS
            out[ndimage.binary_dilation(own, iterations=max(2, pixels // 160)) & ~own] = OUTLINE
        return np.asarray(out, np.uint8)

    def _centre(self, fov_id: str, cell_id: int) -> tuple[float, float]:
        result = self._pictures.result
        centre = result.centre(fov_id, result.index(fov_id).row(cell_id))
        height, width = self._pictures.pyramids(fov_id)[0].shape
        return centre if centre is not None else (height / 2, width / 2)


def _boxes(
    centre: tuple[float, float], side: int, step: int, shape: tuple[int, int]
) -> tuple[Box, Box]:
    """The box around a point, on multiples of ``step``, and its part inside the image."""
    side = -(-side // step) * step
    y0, x0 = (round((c - side / 2) / step) * step for c in centre)
    height, width = shape
    box = (y0, y0 + side, x0, x0 + side)
    inside = (max(y0, 0), min(box[1], height), max(x0, 0), min(box[3], width))
    return box, inside


def _placed(part: Array, box: Box, inside: Box, step: int) -> Array:
    """A part of a picture at its place in the whole, which is 0 beyond the image."""
    rows, columns = ((b - a) // step for a, b in (box[:2], box[2:]))
    out = np.zeros((rows, columns, *part.shape[2:]), part.dtype)
    y, x = (inside[0] - box[0]) // step, (inside[2] - box[2]) // step
    out[y : y + part.shape[0], x : x + part.shape[1]] = part
    return out
