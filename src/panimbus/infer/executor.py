"""Executors: they turn units of work of both passes into parts, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from panimbus.core.band import BandScan
from panimbus.core.fov import Fov
from panimbus.core.scale import ChannelScale, PackedStatistics
from panimbus.core.scan import FovCells, scan_band
from panimbus.infer.backend import Backend
from panimbus.infer.blocks import Block, BlockPart
from panimbus.infer.fault_tolerant import skip_unreadable
from panimbus.infer.score import MapSink, Scoring, score_blocks
from panimbus.infer.settings import PredictSettings
from panimbus.infer.tta import View, stages, views
from panimbus.model.weights import ModelFiles

Rows = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """Everything that all units of work share; can be sent to another machine.

    Parameters
    ----------
    model, settings
    channels
        Names of the channels to score.
    reference
        Counterstains that are not scored, but that the model compares channels with
        (`panimbus.core.counterstain`).
    """

    model: ModelFiles
    settings: PredictSettings
    channels: tuple[str, ...]
    reference: tuple[str, ...] = ()

    @property
    def looked_at(self) -> tuple[str, ...]:
        """Channels of the first pass; the channels to score come first."""
        return self.channels + self.reference

    @property
    def views(self) -> tuple[View, ...]:
        """The TTA views."""
        return views(self.settings.tta_for(self.model.card))

    def scoring(self, backend: Backend, scale: ChannelScale) -> Scoring:
        """Parameters of the second pass."""
        looks = stages(self.settings.tta_for(self.model.card))
        return Scoring(
            self.model.card,
            backend,
            self.views,
            looks,
            self.channels,
            scale,
            self.settings.evidence,
        )


@dataclass(frozen=True)
class ScanWork:
    """Bands of a FOV to read: number -> rows."""

    fov: Fov
    bands: dict[int, Rows]


@dataclass(frozen=True)
class ScoreWork:
    """Blocks of a FOV to score.

    Parameters
    ----------
    fov, cells
    mean : (n, C) float32
        Mean raw intensity of each cell.
    stats
        Statistics of the FOV's own cells, where the model asks for them.
    blocks
    maps
        Context manager of the `MapSink`, or of None without maps.
    """

    fov: Fov
    cells: FovCells
    mean: npt.NDArray[np.float32]
    stats: PackedStatistics | None
    blocks: tuple[Block, ...]
    maps: Callable[[], AbstractContextManager[MapSink | None]] = nullcontext


class Executor(Protocol):
    """Executes units of work; the order of the parts does not change the result."""

    name: str
    """Name of the backend, to which scores belong."""

    def scan(self, plan: Plan, work: Sequence[ScanWork]) -> Iterator[tuple[str, int, BandScan]]:
        """First pass: (FOV, number of the band, its part)."""
        ...

    def score(
        self,
        plan: Plan,
        scale: ChannelScale,
        work: Sequence[ScoreWork],
        on_pixels: Callable[[str, int], None],
    ) -> Iterator[tuple[str, BlockPart]]:
        """Second pass: (FOV, part of a block).

        ``on_pixels`` receives the FOV and the number of model pixels that the net processed.
        """
        ...


class LocalExecutor:
    """Executes the work in this process, on its backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name = backend.name

    def scan(self, plan: Plan, work: Sequence[ScanWork]) -> Iterator[tuple[str, int, BandScan]]:
        """See `Executor`."""
        for one in work:
            for number, rows in one.bands.items():
                yield one.fov.fov_id, number, scan_unit(one.fov, plan, rows)

    def score(
        self,
        plan: Plan,
        scale: ChannelScale,
        work: Sequence[ScoreWork],
        on_pixels: Callable[[str, int], None],
    ) -> Iterator[tuple[str, BlockPart]]:
        """See `Executor`."""
        for one in work:
            scoring = plan.scoring(self._backend, scale.with_stats(one.stats))
            fov = skip_unreadable(one.fov) if plan.settings.on_error == "skip" else one.fov
            fov_id = fov.fov_id
            last: BlockPart | None = None
            with one.maps() as on_map:
                for part in score_blocks(
                    fov,
                    one.cells,
                    one.mean,
                    scoring,
                    one.blocks,
                    on_map=on_map,
                    on_pass=lambda pixels, fov_id=fov_id: on_pixels(fov_id, pixels),  # type: ignore[misc]
                ):
                    if on_map is None:
                        yield fov_id, part
                        continue
                    on_map.flush()  # a finished part has its pixels of the map on disk
                    if last is not None:
                        yield fov_id, last
                    last = part
            if last is not None:  # the last block completes the FOV: its maps are written first
                yield fov_id, last


def scan_unit(fov: Fov, plan: Plan, rows: Rows) -> BandScan:
    """Read one band."""
    return scan_band(
        fov,
        plan.looked_at,
        plan.model.card.mpp,
        rows,
        on_error=plan.settings.on_error,
        reference=plan.reference,
    )
