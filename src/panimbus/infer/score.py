"""Second pass over a FOV: the net on every tile, channel and view, and the sums per cell."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from panimbus.core.correction import corrected
from panimbus.core.fov import Fov
from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import FovCells
from panimbus.core.tiles import Tile
from panimbus.core.window import read_channels, read_index
from panimbus.infer.backend import Backend, Job
from panimbus.infer.blocks import Block, BlockPart
from panimbus.infer.tta import View
from panimbus.model.card import ModelCard

FloatArray = npt.NDArray[np.float32]


class MapSink(Protocol):
    """Receives the pixel scores of each finished tile."""

    def __call__(self, channel: int, where: tuple[slice, slice], values: FloatArray) -> None:
        """Take the scores of a channel at (rows, columns) of the model grid."""
        ...

    def flush(self) -> None:
        """Return when all that was taken is on disk."""
        ...


@dataclass(frozen=True)
class Scoring:
    """What does not change from FOV to FOV.

    Parameters
    ----------
    card, backend
        The model and what runs it.
    views
        TTA views.
    channels, scale
        What to score, and the dataset's normalisers.
    """

    card: ModelCard
    backend: Backend
    views: tuple[View, ...]
    channels: tuple[str, ...]
    scale: ChannelScale

    @property
    def live(self) -> list[tuple[int, str]]:
        """Position and name of the channels that are not blank."""
        return [(k, c) for k, c in enumerate(self.channels) if not self.scale.blank(c)]


@dataclass(frozen=True)
class _CellPixels:
    """The pixels of a tile's core that count for a cell; a rescued cell's pixel may also belong to its neighbour.

    ``cells`` are positions among the block's cells.
    """

    position: npt.NDArray[np.intp]
    local: npt.NDArray[np.intp]
    cells: npt.NDArray[np.intp]


@dataclass
class _Open:
    """A block that is being scored: per channel, view and cell the sum of the pixel scores; per cell the number of pixels."""

    block: Block
    cells: npt.NDArray[np.intp]
    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    left: int = 0

    def close(self, cells: FovCells) -> BlockPart:
        return BlockPart.of(self.block.number, self.cells, self.total, self.count, cells.pixels[self.cells])


def score_blocks(
    fov: Fov,
    cells: FovCells,
    mean: FloatArray,
    scoring: Scoring,
    blocks: Sequence[Block],
    *,
    on_map: MapSink | None = None,
    on_pass: Callable[[int], None] = lambda _pixels: None,
) -> Iterator[BlockPart]:
    """Score the cells of some blocks of a FOV in every channel.

    Parameters
    ----------
    fov, cells
        The FOV and what the first pass found.
    mean : (n, C) float32
        Mean raw intensity of each cell.
    scoring
        The model, how it runs, and the channels with their normalisers.
    blocks
        Some of `plan_blocks`. The next is read while the net still works on the one before.
    on_map
        Receives the pixel scores of each finished tile, averaged over the views.
    on_pass
        Receives the number of model pixels of each pass that finished.

    Yields
    ------
    BlockPart
        One a block, in their order. Blank channels score 0.
    """
    waiting: deque[_Open] = deque()
    pending: FloatArray | None = None
    jobs = _jobs(fov, cells, mean, scoring, blocks, waiting, maps=on_map is not None)
    for (open_, channel, view, tile, pixels), scores in scoring.backend.run(jobs):
        plain = _place(scoring.views[view].undo(scores[0, 0]), tile)
        if (correction := scoring.card.calibration.get(scoring.channels[channel])) is not None:
            plain = corrected(plain, correction)
        sums = np.bincount(pixels.local, plain.ravel()[pixels.position], len(pixels.cells))
        open_.total[channel, view, pixels.cells] += sums
        if on_map is not None:
            pending = plain.copy() if view == 0 or pending is None else pending + plain
            if view == len(scoring.views) - 1:
                y0, y1, x0, x1 = tile.core
                on_map(channel, (slice(y0, y1), slice(x0, x1)), pending / np.float32(len(scoring.views)))
        on_pass((tile.window[1] - tile.window[0]) * (tile.window[3] - tile.window[2]))
        open_.left -= 1
        while waiting and not waiting[0].left:
            yield waiting.popleft().close(cells)
    while waiting:
        yield waiting.popleft().close(cells)


def _place(scores: FloatArray, tile: Tile) -> FloatArray:
    """The core of a tile; an unpadded net returns less than the window, centred."""
    rows, cols = tile.core_in_window
    lost = (tile.window[1] - tile.window[0] - scores.shape[0]) // 2
    part = scores[rows.start - lost : rows.stop - lost, cols.start - lost : cols.stop - lost]
    return np.ascontiguousarray(part)


def _jobs(
    fov: Fov, cells: FovCells, mean: FloatArray, scoring: Scoring, blocks: Sequence[Block], waiting: deque[_Open], *, maps: bool
) -> Iterator[Job]:
    names, scale, live = scoring.card.planes, scoring.scale, scoring.live
    for block in blocks:
        index = read_index(fov, cells, block.window)
        found = [(t, _cell_pixels(t, index[block.part(t.core)], cells)) for t in block.tiles]
        open_, found = _opened(block, found, scoring)
        found = [(t, p) for t, p in found if maps or len(p.cells)]
        open_.left = len(found) * len(live) * len(scoring.views)
        waiting.append(open_)
        if not open_.left:
            continue
        fixed = label_planes(names, index)
        for (k, channel), image in zip(live, read_channels(fov, cells, block.window, [c for _, c in live]), strict=True):
            value = np.float32(scale.value(channel))
            planes = channel_planes(fixed, names, image / value, index, mean[:, k] / value)
            stats = scale.vector(channel, scoring.card.stats)[None]
            for tile, pixels in found:
                inputs = planes[(slice(None), *block.part(tile.window))]
                turned = np.ascontiguousarray(inputs.swapaxes(1, 2)) if any(v.transpose for v in scoring.views) else inputs
                for v, view in enumerate(scoring.views):
                    yield Job(view.flip(turned if view.transpose else inputs)[None], stats, (open_, k, v, tile, pixels))


def _opened(
    block: Block, found: list[tuple[Tile, _CellPixels]], scoring: Scoring
) -> tuple[_Open, list[tuple[Tile, _CellPixels]]]:
    """The block's sums, all zero, and its tiles' cells as positions among the block's."""
    cells = np.unique(np.concatenate([p.cells for _, p in found]))
    open_ = _Open(block, cells, np.zeros((len(scoring.channels), len(scoring.views), len(cells))), np.zeros(len(cells), np.int64))
    out = []
    for tile, pixels in found:
        at = np.searchsorted(cells, pixels.cells)
        open_.count[at] += np.bincount(pixels.local, minlength=len(at))
        out.append((tile, _CellPixels(pixels.position, pixels.local, at)))
    return open_, out


def _cell_pixels(tile: Tile, core: npt.NDArray[np.int32], cells: FovCells) -> _CellPixels:
    """The cells of a tile's core, as positions among the FOV's."""
    y0, y1, x0, x1 = tile.core
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
