"""The two passes over a dataset: which bands and blocks are missing, and how they are joined."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Generic, TypeVar

import numpy as np

from panimbus.core.band import BandScan
from panimbus.core.errors import ReadError, format_list
from panimbus.core.evidence import evidence_layers
from panimbus.core.fov import Fov
from panimbus.core.normaliser import PooledStats
from panimbus.core.planes import OF_DATASET
from panimbus.core.progress import OnProgress, Progress
from panimbus.core.scale import ChannelScale, PackedStatistics, own_statistics
from panimbus.core.scan import FovCells, FovScan, fov_bands, join_bands, model_axes
from panimbus.core.types import Float32Array
from panimbus.infer.blocks import Block, BlockPart, Scored, join_parts, plan_blocks
from panimbus.infer.executor import Executor, Plan, ScanWork, ScoreWork
from panimbus.infer.label_report import check_label_image
from panimbus.infer.maps import MapSheet, map_image
from panimbus.infer.score import MapSink
from panimbus.infer.store import FolderStore, input_fingerprint, source_key

logger = logging.getLogger(__name__)
P = TypeVar("P", BlockPart, BandScan)


@dataclass(frozen=True)
class Shard:
    """The ``number``-th (from 1) of ``of`` equal shards of all units."""

    number: int = 1
    of: int = 1

    def takes(self, total: int) -> range:
        """Positions of the shard's units among ``total``."""
        return range((self.number - 1) * total // self.of, self.number * total // self.of)


@dataclass(frozen=True)
class Scanned:
    """A FOV after the first pass."""

    cells: FovCells
    scan: FovScan


@dataclass
class Run:
    """State of a prediction.

    Parameters
    ----------
    fovs, plan
        Input and plan.
    executor
        Scans and scores the units of work.
    store
        Keeps results; None keeps nothing.
    report
        Progress callback.
    shard
        Part of the work of this process.
    """

    fovs: Sequence[Fov]
    plan: Plan
    executor: Executor
    store: FolderStore | None
    report: OnProgress
    shard: Shard = field(default_factory=Shard)
    seen: set[str] = field(default_factory=set)
    scanned: dict[str, Scanned] = field(default_factory=dict)
    pooled: PooledStats = field(default_factory=PooledStats)
    stats: dict[str, PackedStatistics] = field(default_factory=dict)

    @cached_property
    def own(self) -> set[str]:
        """FOVs with blocks of this shard; only their cells are kept in memory."""
        units = [f.fov_id for f in self.fovs for _ in fov_blocks(f, self.plan)]
        return {units[k] for k in self.shard.takes(len(units))}

    def take(self, fov_id: str, scanned: Scanned) -> None:
        """Keep the first pass of a FOV."""
        self.pooled.add(scanned.scan.stats)
        self.seen.add(fov_id)
        if self.shard.of == 1 or fov_id in self.own:
            if self.plan.model.card.statistics == "fov":
                self.stats[fov_id] = own_statistics(scanned.scan.stats)
            mean = scanned.scan.mean[:, : len(self.plan.channels)]
            self.scanned[fov_id] = replace(scanned, scan=replace(scanned.scan, stats={}, mean=mean))

    def keeps(self, fov: Fov) -> FolderStore | None:
        """The store for the first pass of a FOV; arrays in memory cannot be recognised later."""
        return self.store if source_key(fov) is not None else None


@dataclass
class _Parts(Generic[P]):
    """Parts of a FOV, in memory or in the store, until the FOV is complete."""

    store: FolderStore | None
    fov: Fov
    key: str
    kind: type[P]
    total: int
    part_key: str
    in_memory: dict[int, P] = field(default_factory=dict)
    stored_parts: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Find out which parts the store has."""
        if self.store is not None and self.total > 1:
            self.stored_parts = self.store.parts(self.fov, self.kind, self.part_key)

    @property
    def missing(self) -> list[int]:
        return [
            k for k in range(self.total) if k not in self.in_memory and k not in self.stored_parts
        ]

    def put(self, number: int, part: P) -> None:
        if self.store is not None and self.total > 1:
            self.store.save_part(self.fov, self.part_key, number, part)
            self.stored_parts.add(number)
        else:
            self.in_memory[number] = part

    def __iter__(self) -> Iterator[P]:
        for k in range(self.total):
            if k in self.in_memory:
                yield self.in_memory[k]
            elif self.store is not None:
                yield self.store.load_part(self.fov, self.kind, self.part_key, k)

    def drop(self, shard: Shard) -> None:
        """Remove the parts; a shard leaves them to `merge`, as others may be reading them."""
        self.in_memory.clear()
        if self.store is not None and shard.of == 1:
            self.store.drop_parts(self.fov, self.kind)


@contextmanager
def report_changed_files(fovs: Sequence[Fov]) -> Iterator[None]:
    """Turn read errors of files that changed during the run into errors that say so."""
    try:
        yield
    except ReadError:
        for fov in fovs:
            fov.check_unchanged()
        raise


# ---------------------------------------------------------------- first pass
def scan_all(run: Run, shard: Shard | None = None) -> bool:
    """Scan all missing bands, or those of a shard; return whether all FOVs are complete now."""
    queue: dict[str, tuple[_Parts[BandScan], list[tuple[int, int]]]] = {}
    units: list[tuple[str, int]] = []
    for fov in run.fovs:
        rows = fov_bands(fov, run.plan.model.card.mpp)
        units += [(fov.fov_id, k) for k in range(len(rows))]
        if fov.fov_id in run.seen:
            continue
        key = _scan_key(run, fov)
        store = run.keeps(fov)
        if (
            store is not None
            and (earlier := store.load_scan(fov, key, run.plan.model.card.mpp)) is not None
        ):
            check_label_image(fov, earlier[0], run.plan.settings, fresh=False)
            run.take(fov.fov_id, Scanned(*earlier))
            continue
        queue[fov.fov_id] = _Parts(store, fov, key, BandScan, len(rows), key), rows
        queue[fov.fov_id][0].look()
    own_units = set(units) if shard is None else {units[k] for k in shard.takes(len(units))}
    work = []
    for fov_id, (parts, rows) in queue.items():
        todo = {k: rows[k] for k in parts.missing if (fov_id, k) in own_units}
        work.append(ScanWork(parts.fov, todo))
    _scan_units(run, queue, [w for w in work if w.bands])
    for fov_id, (parts, _) in list(queue.items()):
        if fov_id not in run.seen:
            parts.look()  # other shards may have finished meanwhile
            if not parts.missing:
                _join_scan(run, parts)
    return len(run.seen) == len(run.fovs)


def _scan_units(
    run: Run, queue: dict[str, tuple[_Parts[BandScan], list[tuple[int, int]]]], work: list[ScanWork]
) -> None:
    total = sum(len(w.bands) for w in work)
    if work:
        run.report(Progress("scan", work[0].fov.fov_id, 0, total))
    for finished, (fov_id, number, band) in enumerate(run.executor.scan(run.plan, work), start=1):
        parts = queue[fov_id][0]
        parts.put(number, band)
        if not parts.missing:
            _join_scan(run, parts)
        run.report(Progress("scan", fov_id, finished, total))


def _declared(fov: Fov) -> list[object]:
    """Channel types, on which the correlation with the counterstain depends."""
    return [sorted(fov.channel_types.items())] if fov.channel_types else []


def _scan_key(run: Run, fov: Fov) -> str:
    planes = [
        fov.index(c) for c in run.plan.looked_at
    ]  # a corrected panel may give a name to another plane
    return input_fingerprint(
        [
            source_key(fov),
            *_declared(fov),
            run.plan.looked_at,
            planes,
            fov.mpp,
            run.plan.model.card.mpp,
            run.plan.settings.on_error,
        ]
    )


def _join_scan(run: Run, parts: _Parts[BandScan]) -> None:
    fov = parts.fov
    cells, scan = join_bands(fov, run.plan.looked_at, run.plan.model.card.mpp, parts)
    fov.check_unchanged()
    if scan.skipped:
        logger.warning(
            "FOV %r: skipped what cannot be read: %s",
            fov.fov_id,
            format_list([f"{c} {box}" for c, box in scan.skipped]),
        )
    check_label_image(fov, cells, run.plan.settings, channels=run.plan.looked_at)
    if (store := run.keeps(fov)) is not None:
        store.save_scan(fov, parts.key, cells, scan)
    parts.drop(run.shard)
    run.take(fov.fov_id, Scanned(cells, scan))


# ---------------------------------------------------------------- second pass
Scores = dict[str, Scored]


def fov_blocks(fov: Fov, plan: Plan) -> list[Block]:
    """Blocks of a FOV; they depend on its shape, the pixel sizes, the model and the tile alone."""
    card = plan.model.card
    y, x = model_axes(fov, card.mpp)
    return plan_blocks((y.size, x.size), card, plan.settings.tile_for(card))


def score_all(run: Run, scale: ChannelScale, backend: str, *, only_shard: bool = False) -> Scores:
    """Score all FOVs, or only the blocks of the run's shard.

    Parameters
    ----------
    run
        After `scan_all`.
    scale
        The normalisers.
    backend
        Name of the backend, to which scores belong.

    Returns
    -------
    dict
        FOV -> scores, for the FOVs that are complete.
    """
    settings = run.plan.settings
    finished: Scores = {}
    queue: dict[str, _Parts[BlockPart]] = {}
    blocks: dict[str, list[Block]] = {}
    units: list[tuple[str, int]] = []
    for fov in run.fovs:
        plan = blocks[fov.fov_id] = fov_blocks(fov, run.plan)
        units += [(fov.fov_id, b.number) for b in plan]
        if only_shard and fov.fov_id not in run.own:
            continue
        key = _score_key(run, fov, scale, backend)
        stored = (
            run.store.load_scores(fov, key, maps=settings.map_style)
            if run.store is not None
            else None
        )
        if stored is not None:
            finished[fov.fov_id] = stored
            continue
        grid = [(b.window, len(b.tiles)) for b in plan]
        style = settings.map_style
        part_key = input_fingerprint(
            [key, grid, *([style.pixels] if style else [])]
        )  # parts with and without maps differ
        parts = _Parts(run.store, fov, key, BlockPart, len(plan), part_key)
        parts.look()
        if run.store is not None and not run.store.maps_kept(
            fov, key, style, whole=not parts.missing
        ):
            parts.stored_parts.clear()
        queue[fov.fov_id] = parts
    own_units = {units[k] for k in run.shard.takes(len(units))} if only_shard else set(units)
    work = []
    for fov_id, parts in queue.items():
        todo = [k for k in parts.missing if (fov_id, k) in own_units]
        work.append(_score_work(run, parts.fov, parts.key, tuple(blocks[fov_id][k] for k in todo)))
    _score_units(run, scale, queue, [w for w in work if w.blocks], finished)
    if not only_shard:
        for fov_id, parts in queue.items():
            if fov_id not in finished:  # all parts were in the store
                finished[fov_id] = _join_scores(run, parts, scale)
    return finished


def _score_units(
    run: Run,
    scale: ChannelScale,
    queue: dict[str, _Parts[BlockPart]],
    work: list[ScoreWork],
    finished: Scores,
) -> None:
    live = sum(not scale.blank(c) for c in run.plan.channels)
    total = float(sum(b.pixels for w in work for b in w.blocks) * live * len(run.plan.views))
    passed = 0.0

    def on_pixels(fov_id: str, pixels: int) -> None:
        nonlocal passed
        passed += pixels
        run.report(Progress("score", fov_id, passed, total))

    for fov_id, part in run.executor.score(run.plan, scale, work, on_pixels):
        parts = queue[fov_id]
        parts.put(part.number, part)
        if not parts.missing:
            finished[fov_id] = _join_scores(run, parts, scale)
    run.report(Progress("score", run.fovs[-1].fov_id, total, total))


def _score_work(run: Run, fov: Fov, key: str, blocks: tuple[Block, ...]) -> ScoreWork:
    scanned = run.scanned[fov.fov_id]
    mean = scanned.scan.mean
    if np.isnan(mean).any():  # cells on pixels that could not be read
        mean = np.nan_to_num(mean, nan=0.0)
    own = run.stats.get(fov.fov_id)
    return ScoreWork(fov, scanned.cells, mean, own, blocks, partial(_maps, run, fov, key))


@contextmanager
def _maps(run: Run, fov: Fov, key: str) -> Iterator[MapSink | None]:
    style = run.plan.settings.map_style
    if style is None or run.store is None:
        yield None
        return
    cells = run.scanned[fov.fov_id].cells
    with run.store.map_sink(fov, key, map_image(fov, cells, run.plan, style), style) as put:
        yield MapSheet(put, fov, cells, style)


def _score_key(run: Run, fov: Fov, scale: ChannelScale, backend: str) -> str:
    card, settings, channels = run.plan.model.card, run.plan.settings, run.plan.channels
    live = [c for c in channels if not scale.blank(c)]
    scale = scale.with_stats(run.stats.get(fov.fov_id))
    statistics = {
        c: scale.relative_stats(c)
        if OF_DATASET & set(card.planes)
        else scale.vector(c, card.stats).tolist()
        for c in live
    }
    numbers = {c: [scale.value(c), statistics[c]] for c in live}
    inputs = [
        run.plan.model.sha256,
        settings.tta_for(card),
        backend,
        channels,
        numbers,
        settings.evidence,
    ]
    return input_fingerprint([inputs, run.scanned[fov.fov_id].scan.digest, fov.mpp])


def _join_scores(run: Run, parts: _Parts[BlockPart], scale: ChannelScale) -> Scored:
    fov, scanned, channels = parts.fov, run.scanned[parts.fov.fov_id], run.plan.channels
    joined = join_parts(scanned.cells.n, len(channels), parts)
    fov.check_unchanged()
    score, score_sd = joined.score, joined.score_sd
    lost = np.isnan(scanned.scan.mean)  # pixels that could not be read: missing, not negative
    score[lost] = score_sd[lost] = np.nan
    evidence: Mapping[str, Float32Array] = {}
    if joined.rim is not None and joined.pairs is not None:
        blank = np.array([scale.blank(c) for c in channels], np.bool_)
        rescued = scanned.cells.rescued[:, 0]
        evidence = evidence_layers(
            joined.rim, joined.pairs, scanned.scan.mean, rescued=rescued, blank=blank
        )
    scored = Scored(score, score_sd, evidence)
    if run.store is not None:
        run.store.save_scores(fov, parts.key, scored, maps=run.plan.settings.map_style)
    parts.drop(run.shard)
    return scored
