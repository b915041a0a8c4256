"""Tiles, crops, thumbnails and whole views of the FOVs of a result."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from panimbus.core.channel_types import COUNTERSTAIN_TYPE
from panimbus.core.errors import InputError
from panimbus.core.table import CELL_TYPE, CHANNEL_TYPE, METACLUSTER, NORMALISER
from panimbus.core.thresholds import calls
from panimbus.core.types import Array, BoolArray, Int32Array, UInt8Array
from panimbus.render.images import enlarge
from panimbus.render.palette import Rgb
from panimbus.viewer.pixels import PlaneCache, Pyramid
from panimbus.viewer.result import Result, Tables
from panimbus.viewer.style import NO_CALL, PALETTE, CellStyle, ChannelStyle
from panimbus.viewer.tiles import (
    COARSE,
    blend,
    call_colours,
    over,
    paint_overlay,
    percentile_limits,
    viridis,
)

TILE = 256
ENLARGED = 4
"""Zoom levels beyond one image pixel per screen pixel."""
_AT_ONCE = 4
_LARGEST_VIEW = 4096
_COLUMNS = {"type": CELL_TYPE, "cluster": METACLUSTER}
Box = tuple[int, int, int, int]
"""(y0, y1, x0, x1) in pixels of the image."""


def native_zoom(shape: tuple[int, int]) -> int:
    """The zoom at which one image pixel is one screen pixel; at 0 the image fits one tile.

    Examples
    --------
    >>> native_zoom((256, 200)), native_zoom((2000, 1500))
    (0, 3)
    """
    return max(0, math.ceil(math.log2(max(shape) / TILE)))


class Pictures:
    """Draws what the pages show.

    Parameters
    ----------
    result
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        self._planes = PlaneCache()
        self._pyramids: dict[str, tuple[Pyramid, Pyramid | None]] = {}
        self._limits: dict[tuple[str, int], tuple[float, float]] = {}
        self._lock, self._busy = threading.Lock(), threading.Semaphore(_AT_ONCE)

    def pyramids(self, fov_id: str) -> tuple[Pyramid, Pyramid | None]:
        """The image and the labels of a FOV."""
        fov = self.result.fov(fov_id)
        with self._lock:
            if fov_id not in self._pyramids:
                labels = None
                if fov.labels is not None:
                    labels = Pyramid.of(fov.labels, (fov_id, "labels"), self._planes)
                image = Pyramid.of(fov.image, (fov_id, "image"), self._planes)
                self._pyramids[fov_id] = image, labels
            return self._pyramids[fov_id]

    def replace(self, fov_id: str, image: Pyramid, labels: Pyramid | None) -> None:
        """Take other pyramids for a FOV: those with the levels of the cache."""
        with self._lock:
            self._pyramids[fov_id] = image, labels

    def limits(self, fov_id: str, channel: int) -> tuple[float, float]:
        """Automatic contrast of a channel of a FOV, from a thinned picture of it."""
        key = fov_id, channel
        if key not in self._limits:
            image = self.pyramids(fov_id)[0]
            self._limits[key] = percentile_limits(self._overview(image, channel, 512))
        return self._limits[key]

    def first_styles(self, fov_id: str, most: int = 3) -> tuple[ChannelStyle, ...]:
        """The channels a page first shows: a counterstain in blue, then markers."""
        fov = self.result.fov(fov_id)
        types = self.result.tables.cells.var.get(CHANNEL_TYPE, {})
        stains = [c for c in fov.channels if types.get(c) == COUNTERSTAIN_TYPE]
        others = [c for c in fov.channels if c in self.result.tables.markers and c not in stains]
        chosen = [*stains[:1], *others][:most] or list(fov.channels[:1])
        colours = [*([(0, 114, 178)] if stains else []), *PALETTE]
        return tuple(
            ChannelStyle(fov.index(c), colour, *self.limits(fov_id, fov.index(c)))
            for c, colour in zip(chosen, colours, strict=False)
        )

    def common_limits(self, channel: str) -> tuple[float, float] | None:
        """The same contrast for all FOVs: up to the normaliser of the channel."""
        var = self.result.tables.cells.var
        if NORMALISER not in var or channel not in var.index:
            return None
        value = float(var[NORMALISER][channel])
        return (0.0, value) if math.isfinite(value) and value > 0 else None

    def channels(self, fov_id: str, box: Box, step: int, styles: Sequence[ChannelStyle]) -> Array:
        """Channels of a box blended, (h, w, 3) uint8, thinned by ``step``."""
        image = self.pyramids(fov_id)[0]
        with self._busy:
            planes = [np.asarray(image.read(s.channel, box, step), np.float32) for s in styles]
            shape = tuple(max(0, -(-(b - a) // step)) for a, b in (box[:2], box[2:]))
            return blend(planes, styles) if planes else np.zeros((*shape, 3), np.uint8)

    def cells(
        self, fov_id: str, box: Box, step: int, style: CellStyle, times: int = 1, *,
        only: int | None = None,
    ) -> Array:  # fmt: skip
        """Cells of a box as (h, w, 4) uint8, thinned by ``step`` or enlarged ``times``.

        With ``only``, just the cell in that row of the table.
        """
        with self._busy:
            rows = self._rows(fov_id, box, step, times)
            colours = cell_colours(self.result.tables, style, rows[1:-1, 1:-1])
            if only is not None:
                rows = np.where(rows == only, rows, -1)
            if style.mode == "positive":
                rows = np.where(_positive(self.result.tables, style, rows), rows, -1)
            return paint_overlay(rows, colours, fill=style.fill, solid=step >= COARSE)

    def tile(self, fov_id: str, place: tuple[int, int, int]) -> tuple[Box, int, int] | None:
        """The box of tile (zoom, x, y), how much it is thinned and enlarged; None outside."""
        zoom, x, y = place
        height, width = self.pyramids(fov_id)[0].shape
        native = native_zoom((height, width))
        if not 0 <= zoom <= native + ENLARGED:
            return None
        step, times = 2 ** max(0, native - zoom), 2 ** max(0, zoom - native)
        side = TILE * step // times
        y0, x0 = y * side, x * side
        if y0 < 0 or x0 < 0 or y0 >= height or x0 >= width:
            return None
        return (y0, min(y0 + side, height), x0, min(x0 + side, width)), step, times

    def image_tile(
        self, fov_id: str, place: tuple[int, int, int], styles: Sequence[ChannelStyle]
    ) -> UInt8Array | None:
        """The channels of a tile, (256, 256, 3) uint8; None outside the image."""
        where = self.tile(fov_id, place)
        if where is None:
            return None
        box, step, times = where
        part = enlarge(self.channels(fov_id, box, step, styles), times)
        return _filled(part, (TILE, TILE, 3))

    def cell_tile(
        self, fov_id: str, place: tuple[int, int, int], style: CellStyle
    ) -> UInt8Array | None:
        """The cells of a tile, (256, 256, 4) uint8; None outside the image."""
        where = self.tile(fov_id, place)
        if where is None:
            return None
        box, step, times = where
        return _filled(self.cells(fov_id, box, step, style, times), (TILE, TILE, 4))

    def crop(
        self, fov_id: str, row: int, channel: int, *, side: int, style: CellStyle | None = None,
        limits: tuple[float, float] | None = None, colour: Rgb = (255, 255, 255),
    ) -> UInt8Array:  # fmt: skip
        """One channel around a cell.

        Parameters
        ----------
        row
            Of the cell in the table.
        channel
            Position among the image's channels.
        side
            Side in image pixels, at most 1024.
        style
            How its outline is coloured; None draws none.
        limits
            Contrast; default: automatic.

        Returns
        -------
        (side, side, 3) uint8
            Black beyond the image.
        """
        centre = self.result.centre(fov_id, row)
        if centre is None:
            raise InputError("The table does not say where this cell is.")
        side = min(max(side, 8), 1024)
        y0, x0 = (round(c - side / 2) for c in centre)
        height, width = self.pyramids(fov_id)[0].shape
        box = (max(y0, 0), min(y0 + side, height), max(x0, 0), min(x0 + side, width))
        low, high = limits or self.limits(fov_id, channel)
        part = self.channels(fov_id, box, 1, [ChannelStyle(channel, colour, low, high)])
        if style is not None:
            part = over(part, self.cells(fov_id, box, 1, style, only=row))
        out = np.zeros((side, side, 3), np.uint8)
        top, first = box[0] - y0, box[2] - x0
        out[top : top + part.shape[0], first : first + part.shape[1]] = part
        return out

    def thumbnail(self, fov_id: str, styles: Sequence[ChannelStyle], side: int = 128) -> UInt8Array:
        """A whole FOV, at most ``side`` pixels on its longer side."""
        image = self.pyramids(fov_id)[0]
        planes = [self._overview(image, s.channel, 2 * side) for s in styles]
        from panimbus.render.images import fit

        return np.asarray(fit(blend(planes, styles), side), np.uint8)

    def view(
        self, fov_id: str, box: Box, zoom: int, styles: Sequence[ChannelStyle],
        cells: CellStyle | None,
    ) -> UInt8Array:  # fmt: skip
        """A whole view as one picture, at the resolution of a zoom level."""
        height, width = self.pyramids(fov_id)[0].shape
        native = native_zoom((height, width))
        step, times = 2 ** max(0, native - zoom), 2 ** max(0, zoom - native)
        y0, y1, x0, x1 = box
        box = (
            max(y0, 0) // step * step,
            min(y1, height),
            max(x0, 0) // step * step,
            min(x1, width),
        )
        sides = [(b - a) * times // step for a, b in (box[:2], box[2:])]
        if min(sides) < 1 or max(sides) > _LARGEST_VIEW:
            raise InputError("The view is empty or too large.", expected=f"1 to {_LARGEST_VIEW} px")
        picture = enlarge(self.channels(fov_id, box, step, styles), times)
        if cells is None:
            return np.asarray(picture, np.uint8)
        return over(picture, self.cells(fov_id, box, step, cells, times))

    def cell_at(self, fov_id: str, y: int, x: int) -> int:
        """Row of the cell at a pixel of the image, -1 for none."""
        labels = self.pyramids(fov_id)[1]
        if labels is None or not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
            return -1
        part = labels.read(None, (y, y + 1, x, x + 1), 1)
        return int(self.result.index(fov_id)(part)[0, 0])

    def _overview(self, image: Pyramid, channel: int, side: int) -> Array:
        step = 2 ** max(0, math.ceil(math.log2(max(image.shape) / side)))
        height, width = image.shape
        with self._busy:
            return image.read(channel, (0, height, 0, width), step)

    def _rows(self, fov_id: str, box: Box, step: int, times: int) -> Int32Array:
        """Row of each screen pixel's cell, with one pixel around the box; the edge's beyond it."""
        labels = self.pyramids(fov_id)[1]
        y0, y1, x0, x1 = box
        if labels is None:
            sides = [-(-(b - a) // step) * times + 2 for a, b in (box[:2], box[2:])]
            return np.full(sides, -1, np.int32)
        top, left = min(step, y0), min(step, x0)
        height, width = labels.shape
        wide = (y0 - top, min(y1 + step, height), x0 - left, min(x1 + step, width))
        rows = self.result.index(fov_id)(labels.read(None, wide, step))
        below, right = int(wide[1] > y1), int(wide[3] > x1)
        rows = np.pad(rows, ((int(top == 0), 1 - below), (int(left == 0), 1 - right)), mode="edge")
        if times == 1:
            return rows
        return enlarge(rows, times)[times - 1 : 1 - times or None, times - 1 : 1 - times or None]


def _filled(part: Array, shape: tuple[int, ...]) -> UInt8Array:
    """A picture at the upper left of an empty one."""
    if part.shape == shape:
        return np.asarray(part, np.uint8)
    out = np.zeros(shape, np.uint8)
    out[: part.shape[0], : part.shape[1]] = part
    return out


def cell_colours(tables: Tables, style: CellStyle, rows: Array) -> UInt8Array:
    """Colours of cells of a result.

    Parameters
    ----------
    rows : (...) integer
        Rows of the table; any, as of pixels.

    Returns
    -------
    (..., 3) uint8
        Grey in the modes ``type`` and ``cluster`` where the result has no types.
    """
    if style.mode in ("call", "positive", "score"):
        scores = np.asarray(tables.cells.X)[rows, style.marker]
        if style.mode == "score":
            return viridis(scores)
        return call_colours(_positive(tables, style, rows), np.isnan(scores))
    codes, colours = _groups(tables, style.mode)
    return colours[codes[rows]]


def _positive(tables: Tables, style: CellStyle, rows: Array) -> BoolArray:
    """Whether the cells in rows (any shape) are positive for the marker of a style."""
    own = tables.thresholds[tables.markers[style.marker]]
    limit = own if style.threshold is None else style.threshold
    scores = np.asarray(tables.cells.X)[rows.reshape(-1, 1), style.marker]
    return np.asarray(calls(scores, [limit]).reshape(rows.shape) == 1)


@lru_cache(maxsize=4)
def _groups(tables: Tables, mode: str) -> tuple[Array, UInt8Array]:
    """(n,) group of each row, and (g, 3) the groups' colours."""
    if tables.types is None or (column := _COLUMNS[mode]) not in tables.types:
        return np.zeros(tables.cells.n_obs, np.int8), np.array([NO_CALL], np.uint8)
    colours = group_colours(tables, mode)
    values = tables.types[column].astype(str).astype("category")
    table = [colours[str(name)] for name in values.cat.categories]
    return np.asarray(values.cat.codes), np.array(table, np.uint8)


def group_colours(tables: Tables, mode: str) -> dict[str, Rgb]:
    """Colour of each type or cluster, by name, for the legend and the cells."""
    if tables.types is None:
        return {}
    if mode == "type":
        present = set(tables.types[CELL_TYPE].astype(str))
        return {n: on_dark(_rgb(c)) for n, c in tables.colours.items() if n in present}
    from panimbus.io.names import natural_key
    from panimbus.render.palette import type_colours

    if METACLUSTER not in tables.types:
        return {}
    names = sorted(set(tables.types[METACLUSTER].astype(str)), key=natural_key)
    return {name: on_dark(colour) for name, colour in type_colours(names).items()}


def on_dark(colour: Rgb, least: float = 100.0) -> Rgb:
    """A colour mixed with white until it is seen on black.

    Examples
    --------
    >>> on_dark((0, 0, 217)), on_dark((255, 176, 0))
    ((83, 83, 229), (255, 176, 0))
    """
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    share = max(0.0, (least - light) / (255 - light))
    red, green, blue = (round(c + (255 - c) * share) for c in colour)
    return red, green, blue


def _rgb(colour: str) -> Rgb:
    red, green, blue = bytes.fromhex(colour.lstrip("#")[:6])
    return red, green, blue
