"""Second pass over a FOV: run the net on every tile, channel and view, and sum per cell."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from panimbus.core.correction import corrected
from panimbus.core.fov import Fov
from panimbus.core.planes import channel_planes, label_planes
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import FovCells
from panimbus.core.tiles import Tile
from panimbus.core.types import Float32Array
from panimbus.core.window import read_channels, read_index
from panimbus.infer.adaptive import enough
from panimbus.infer.backend import Backend, Job
from panimbus.infer.blocks import Block, BlockPart
from panimbus.infer.cell_sums import CellPixels, core_scores
from panimbus.infer.evidence import BlockEvidence
from panimbus.infer.tta import View, transposed
from panimbus.model.card import ModelCard


class MapSink(Protocol):
    """Receives the pixel scores of finished tiles."""

    @property
    def everywhere(self) -> bool:
        """Whether tiles without cells are needed, too."""
        ...

    def __call__(self, channel: int, where: tuple[slice, slice], values: Float32Array) -> None:
        """Take the scores of a channel at (rows, columns) of the model grid."""
        ...

    def flush(self) -> None:
        """Write everything received so far to disk."""
        ...


@dataclass(frozen=True)
class Scoring:
    """Everything for the second pass besides the FOV.

    Parameters
    ----------
    card, backend
        The model and what runs it.
    views, stages
        TTA views, and the numbers of views after which to test whether they suffice
        (`panimbus.infer.adaptive`); the last is all views.
    channels, scale
        Channels to score, and the dataset's normalisers.
    evidence
        Whether to measure the rims and insides of cells, too.
    """

    card: ModelCard
    backend: Backend
    views: tuple[View, ...]
    stages: tuple[int, ...]
    channels: tuple[str, ...]
    scale: ChannelScale
    evidence: bool = False

    @property
    def live(self) -> list[tuple[int, str]]:
        """Position and name of the channels that are not blank."""
        return [(k, c) for k, c in enumerate(self.channels) if not self.scale.blank(c)]


@dataclass
class _OpenBlock:
    """A block in progress.

    ``total`` is the sum of the pixel scores per channel, view and cell, ``count`` the number of
    pixels per cell. ``remaining`` counts the unfinished tiles, once per channel.
    """

    block: Block
    cells: npt.NDArray[np.intp]
    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    remaining: int = 0
    evidence: BlockEvidence | None = None

    def close(self, cells: FovCells) -> BlockPart:
        part = BlockPart.of(
            self.block.number, self.cells, self.total, self.count, cells.pixels[self.cells]
        )
        return part if self.evidence is None else replace(part, evidence=self.evidence.part())


@dataclass
class _Planes:
    """Input channels (P, H, W) of a block; after the last tile the memory returns to ``spare``."""

    values: Float32Array
    spare: list[Float32Array]
    remaining: int

    def release(self) -> None:
        self.remaining -= 1
        if not self.remaining:
            self.spare.append(self.values)


@dataclass
class _Work:
    """A tile of a channel in progress.

    ``sums`` (V, m) are per view and cell; ``map`` is the sum of the pixel scores over the views.
    """

    open_: _OpenBlock
    channel: int
    tile: Tile
    cells: CellPixels
    planes: _Planes
    stats: Float32Array
    sums: npt.NDArray[np.float64]
    inputs: Float32Array | None
    turned: Float32Array | None = None
    sent: int = 0
    finished: int = 0
    map: Float32Array | None = None

    @property
    def pixels(self) -> int:
        """Model pixels of one pass."""
        y0, y1, x0, x1 = self.tile.window
        return (y1 - y0) * (x1 - x0)

    def jobs(self, views: Sequence[View], until: int) -> Iterator[Job]:
        """Passes of the next views; the backend copies a job's arrays before asking for more."""
        inputs = self.inputs
        if inputs is None:
            return
        for view in views[self.sent : until]:
            if view.transpose and self.turned is None:
                self.turned = transposed(inputs)
            planes = self.turned if view.transpose and self.turned is not None else inputs
            self.sent += 1
            yield Job(view.flip(planes)[None], self.stats, (self, self.sent - 1))
        if self.sent == len(views):
            self.release()

    def release(self) -> None:
        """Free the input channels."""
        if self.inputs is not None:
            self.inputs = self.turned = None
            self.planes.release()


def score_blocks(
    fov: Fov,
    cells: FovCells,
    mean: Float32Array,
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
        Some of `plan_blocks`. The next one is read while the net works on the one before.
    on_map
        Receives the pixel scores of each finished tile, averaged over the views.
    on_pass
        Receives the number of model pixels of each finished pass, and of passes that adaptive TTA
        skips.

    Yields
    ------
    BlockPart
        One per block, in order. Blank channels score 0.
    """
    passes = _Passes(fov, cells, mean, scoring, on_map, on_pass)
    for (work, view), scores in scoring.backend.run(passes.jobs(blocks)):
        passes.take(work, view, scores[0, 0])
        while passes.waiting and not passes.waiting[0].remaining:
            yield passes.waiting.popleft().close(cells)
    while passes.waiting:
        yield passes.waiting.popleft().close(cells)


def present(
    index: npt.NDArray[np.int32], n: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
    """Cells that a window shows, and the window with positions among these cells.

    Parameters
    ----------
    index : (h, w) int32
        Position among ``n`` cells, -1 = background.

    Examples
    --------
    >>> present(np.array([[7, -1, 2]], np.int32), 9)
    (array([2, 7]), array([[ 1, -1,  0]], dtype=int32))
    """
    present_cells = np.zeros(n + 1, np.bool_)  # the last element serves index -1
    present_cells[index] = True
    block_cells = np.flatnonzero(present_cells[:n])
    position = np.full(n + 1, -1, np.int32)
    position[block_cells] = np.arange(len(block_cells), dtype=np.int32)
    return block_cells, position[index]


@dataclass
class _Passes:
    """Jobs for the net and their results.

    Jobs and results alternate: a result may require further views of its tile, which precede new
    tiles, so that only the input channels of tiles in flight are kept.
    """

    fov: Fov
    cells: FovCells
    mean: Float32Array
    scoring: Scoring
    on_map: MapSink | None
    on_pass: Callable[[int], None]
    waiting: deque[_OpenBlock] = field(default_factory=deque)
    again: deque[_Work] = field(default_factory=deque)
    busy: int = 0

    def jobs(self, blocks: Sequence[Block]) -> Iterator[Job | None]:
        """All passes; None asks for a result first, on which the next job depends."""
        views, first = self.scoring.views, self.scoring.stages[0]
        for block in blocks:
            for work in self._works(block):
                self.busy += 1
                yield from work.jobs(views, first)
                yield from self._further()
        while self.busy:
            if not self.again:
                yield None
            yield from self._further()

    def _further(self) -> Iterator[Job]:
        while self.again:
            work = self.again.popleft()
            yield from work.jobs(
                self.scoring.views, next(s for s in self.scoring.stages if s > work.finished)
            )

    def take(self, work: _Work, view: int, scores: Float32Array) -> None:
        """Add the net's output (H, W) for a view."""
        scoring, margin = self.scoring, self.scoring.card.margin
        correction = scoring.card.calibration.get(scoring.channels[work.channel])
        work.sums[view] = work.cells.sums(scores, scoring.views[view], correction)
        if self.on_map is not None:
            plain = core_scores(scores, scoring.views[view], work.tile, margin)
            plain = corrected(plain, correction) if correction is not None else plain
            work.map = plain.copy() if work.map is None else work.map + plain
        self.on_pass(work.pixels)
        work.finished += 1
        if work.finished == len(scoring.views) or (
            work.finished in scoring.stages and self._enough(work)
        ):
            self._finish(work)
        elif work.finished in scoring.stages:
            self.again.append(work)

    def _enough(self, work: _Work) -> bool:
        mean = work.sums[: work.finished].mean(0) / work.cells.count
        return enough(mean, work.finished, self.scoring.card.threshold)

    def _finish(self, work: _Work) -> None:
        """Add a tile to its block; skipped views are replaced by the others, equally often."""
        work.release()
        count = len(self.scoring.views)
        work.open_.total[work.channel][:, work.cells.cells] += work.sums[
            np.arange(count) % work.finished
        ]
        if self.on_map is not None and work.map is not None:
            y0, y1, x0, x1 = work.tile.core
            self.on_map(
                work.channel, (slice(y0, y1), slice(x0, x1)), work.map / np.float32(work.finished)
            )
        if count > work.finished:
            self.on_pass((count - work.finished) * work.pixels)
        work.open_.remaining -= 1
        self.busy -= 1

    def _works(self, block: Block) -> Iterator[_Work]:
        scoring, names, live = self.scoring, self.scoring.card.planes, self.scoring.live
        index = read_index(self.fov, self.cells, block.window)
        open_, tiles = self._opened(block, index)
        open_.remaining = len(tiles) * len(live)
        self.waiting.append(open_)
        if not open_.remaining:
            return
        labels = label_planes(names, index)
        block_cells, index = present(
            index, len(self.mean)
        )  # a slide has many more cells than a block
        spare = [labels]
        channels = read_channels(self.fov, self.cells, block.window, [c for _, c in live])
        for (k, channel), image in zip(live, channels, strict=True):
            if open_.evidence is not None:
                open_.evidence.add(k, image)
            value = np.float32(scoring.scale.value(channel))
            memory = spare.pop() if spare else labels.copy()
            values = channel_planes(
                memory,
                names,
                image / value,
                index=index,
                cell_mean=self.mean[block_cells, k] / value,
                stats=scoring.scale.relative_stats(channel),
            )
            planes = _Planes(values, spare, len(tiles))
            stats = scoring.scale.vector(channel, scoring.card.stats)[None]
            for tile, cells in tiles:
                inputs = planes.values[(slice(None), *block.part(tile.window))]
                sums = np.zeros((len(scoring.views), len(cells.cells)))
                yield _Work(open_, k, tile, cells, planes, stats, sums, inputs)

    def _opened(
        self, block: Block, index: npt.NDArray[np.int32]
    ) -> tuple[_OpenBlock, list[tuple[Tile, CellPixels]]]:
        """Empty sums of a block, and its tiles with their cells as positions among the block's."""
        margin, shape = (
            self.scoring.card.margin,
            (len(self.scoring.channels), len(self.scoring.views)),
        )
        tiles = [
            (t, CellPixels.of(t, index[block.part(t.core)], self.cells, margin))
            for t in block.tiles
        ]
        cells = np.unique(np.concatenate([tile_cells.cells for _, tile_cells in tiles]))
        open_ = _OpenBlock(
            block, cells, np.zeros((*shape, len(cells))), np.zeros(len(cells), np.int64)
        )
        tiles = [
            (t, c.among(cells))
            for t, c in tiles
            if (self.on_map is not None and self.on_map.everywhere) or len(c.cells)
        ]
        for _, tile_cells in tiles:
            open_.count[tile_cells.cells] += tile_cells.count
        if self.scoring.evidence:
            whole = open_.count == self.cells.pixels[cells]
            open_.evidence = BlockEvidence(
                block,
                index,
                fov_cells=self.cells,
                cells=cells,
                whole=whole,
                channels=len(self.scoring.channels),
            )
        return open_, tiles
