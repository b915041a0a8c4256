"""Second pass over a FOV: the net on every tile, channel and view, and the sums per cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.correction import corrected
from panimbus.core.fov import Fov
from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import FovCells
from panimbus.core.tiles import Tile, plan_tiles
from panimbus.core.window import Window, read_channels, read_index
from panimbus.infer.backend import Backend, Job
from panimbus.infer.tta import View
from panimbus.model.card import ModelCard

FloatArray = npt.NDArray[np.float32]
MapSink = Callable[[int, tuple[slice, slice], FloatArray], None]
"""Receives (channel position, (rows, columns) of the model grid, scores) of each finished tile."""
READ_SIDE = 1536


@dataclass(frozen=True)
class Scoring:
    """What does not change from FOV to FOV.

    Parameters
    ----------
    card, backend
        The model and what runs it.
    views
        TTA views.
    tile
        Longest side of a window, in model pixels.
    channels, scale
        What to score, and the dataset's normalisers.
    """

    card: ModelCard
    backend: Backend
    views: tuple[View, ...]
    tile: int
    channels: tuple[str, ...]
    scale: ChannelScale


@dataclass
class _Sums:
    """Per channel, view and cell: the sum of the pixel scores; per cell: the number of pixels."""

    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]

    def mean_and_sd(self) -> tuple[FloatArray, FloatArray]:
        """(n, C) mean over pixels and views; (n, C) standard deviation over the views of the cell's mean."""
        per_view = self.total / np.maximum(self.count, 1)
        return per_view.mean(1).T.astype(np.float32), per_view.std(1).T.astype(np.float32)


@dataclass(frozen=True)
class _Block:
    """Tiles that are read together, and the segmentation under them."""

    tiles: list[Tile]
    window: Window
    index: npt.NDArray[np.int32]

    def part(self, window: Window) -> tuple[slice, slice]:
        """A window as slices of the block's arrays."""
        y, x = self.window[0], self.window[2]
        return slice(window[0] - y, window[1] - y), slice(window[2] - x, window[3] - x)


@dataclass(frozen=True)
class _CellPixels:
    """The pixels of a tile's core that count for a cell; a rescued cell's pixel may also belong to its neighbour."""

    position: npt.NDArray[np.intp]
    local: npt.NDArray[np.intp]
    cells: npt.NDArray[np.intp]


def score_cells(
    fov: Fov,
    cells: FovCells,
    mean: FloatArray,
    scoring: Scoring,
    *,
    on_map: MapSink | None = None,
    on_pass: Callable[[int], None] = lambda _pixels: None,
) -> tuple[FloatArray, FloatArray]:
    """Score every cell of a FOV in every channel.

    Parameters
    ----------
    fov, cells
        The FOV and what `scan_cells` found.
    mean : (n, C) float32
        Mean raw intensity of each cell.
    scoring
        The model, how it runs, and the channels with their normalisers.
    on_map
        Receives the pixel scores of each finished tile, averaged over the views.
    on_pass
        Receives the number of model pixels of each pass that finished.

    Returns
    -------
    score, score_sd : (n, C) float32
        Blank channels score 0.
    """
    sums = _Sums(np.zeros((len(scoring.channels), len(scoring.views), cells.n)), np.zeros(cells.n, np.int64))
    jobs = _jobs(fov, cells, mean, scoring, sums, maps=on_map is not None)
    pending: FloatArray | None = None
    for (channel, view, tile, pixels), scores in scoring.backend.run(jobs):
        plain = _place(scoring.views[view].undo(scores[0, 0]), tile)
        if (correction := scoring.card.calibration.get(scoring.channels[channel])) is not None:
            plain = corrected(plain, correction)
        sums.total[channel, view, pixels.cells] += np.bincount(pixels.local, plain.ravel()[pixels.position], len(pixels.cells))
        if on_map is not None:
            pending = plain.copy() if view == 0 or pending is None else pending + plain
            if view == len(scoring.views) - 1:
                y0, y1, x0, x1 = tile.core
                on_map(channel, (slice(y0, y1), slice(x0, x1)), pending / np.float32(len(scoring.views)))
        on_pass((tile.window[1] - tile.window[0]) * (tile.window[3] - tile.window[2]))
    return sums.mean_and_sd()


def count_pixels(cells: FovCells, scoring: Scoring) -> int:
    """Model pixels of all the passes over one channel of a FOV, for the estimate of time."""
    tiles = [t for row in _plan(cells, scoring) for t in row]
    return sum((t.window[1] - t.window[0]) * (t.window[3] - t.window[2]) for t in tiles) * len(scoring.views)


def _plan(cells: FovCells, scoring: Scoring) -> list[list[Tile]]:
    card = scoring.card
    # one pixel more than the reach: the outermost pixels of a block do not know whether they are on a boundary
    shape = (cells.y.size, cells.x.size)
    return plan_tiles(shape, size=scoring.tile, reach=card.reach + 1, stride=card.stride, open_edges=card.padding == "valid")


def _place(scores: FloatArray, tile: Tile) -> FloatArray:
    """The core of a tile; an unpadded net returns less than the window, centred."""
    rows, cols = tile.core_in_window
    lost = (tile.window[1] - tile.window[0] - scores.shape[0]) // 2
    part = scores[rows.start - lost : rows.stop - lost, cols.start - lost : cols.stop - lost]
    return np.ascontiguousarray(part)


def _jobs(
    fov: Fov,
    cells: FovCells,
    mean: FloatArray,
    scoring: Scoring,
    sums: _Sums,
    *,
    maps: bool,
) -> Iterator[Job]:
    names, scale = scoring.card.planes, scoring.scale
    channels = [(k, c) for k, c in enumerate(scoring.channels) if not scale.blank(c)]
    for block in _blocks(fov, cells, scoring):
        found = [(t, _cell_pixels(t, block, cells)) for t in block.tiles]
        for _, pixels in found:
            sums.count[pixels.cells] += np.bincount(pixels.local, minlength=len(pixels.cells))
        found = [(t, p) for t, p in found if maps or len(p.cells)]
        if not found or not channels:
            continue
        fixed = label_planes(names, block.index)
        for (k, channel), image in zip(channels, read_channels(fov, cells, block.window, [c for _, c in channels]), strict=True):
            value = np.float32(scale.value(channel))
            planes = channel_planes(fixed, names, image / value, block.index, mean[:, k] / value)
            stats = scale.vector(channel, scoring.card.stats)[None]
            for tile, pixels in found:
                inputs = planes[(slice(None), *block.part(tile.window))]
                turned = np.ascontiguousarray(inputs.swapaxes(1, 2)) if any(v.transpose for v in scoring.views) else inputs
                for v, view in enumerate(scoring.views):
                    yield Job(view.flip(turned if view.transpose else inputs)[None], stats, (k, v, tile, pixels))


def _blocks(fov: Fov, cells: FovCells, scoring: Scoring) -> Iterator[_Block]:
    """Group tiles that are read together, and read the label image under each group."""
    rows = _plan(cells, scoring)
    first = rows[0][0].window
    per = max(1, READ_SIDE // max(first[1] - first[0], first[3] - first[2]))
    for i in range(0, len(rows), per):
        for k in range(0, len(rows[0]), per):
            tiles = [t for row in rows[i : i + per] for t in row[k : k + per]]
            a, b = tiles[0].window, tiles[-1].window
            window = (a[0], b[1], a[2], b[3])
            yield _Block(tiles, window, read_index(fov, cells, window))


def _cell_pixels(tile: Tile, block: _Block, cells: FovCells) -> _CellPixels:
    y0, y1, x0, x1 = tile.core
    core = block.index[block.part(tile.core)]
    position = np.flatnonzero(core >= 0)
    owner = core.ravel()[position].astype(np.intp)
    mine = cells.rescued
    mine = mine[(mine[:, 1] >= y0) & (mine[:, 1] < y1) & (mine[:, 2] >= x0) & (mine[:, 2] < x1)]
    if len(mine):
        at = (mine[:, 1] - y0) * (x1 - x0) + mine[:, 2] - x0
        shared = core.ravel()[at] != mine[:, 0]  # its pixel went to another cell: both take the score
        position = np.concatenate([position, at[shared]])
        owner = np.concatenate([owner, mine[shared, 0]])
    found, local = np.unique(owner, return_inverse=True)
    return _CellPixels(position, local, found)
