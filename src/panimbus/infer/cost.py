"""Expected time and memory of `predict`, from a second of real work and a formula."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.fov import Fov
from panimbus.core.normaliser import fit_normaliser
from panimbus.core.resample import Axis
from panimbus.core.scan import FovCells, FovScan, bands
from panimbus.core.table import EVIDENCE
from panimbus.infer.backend import Backend
from panimbus.infer.blocks import READ_SIDE, plan_blocks
from panimbus.infer.devices import open_backend
from panimbus.infer.score import Scoring, score_blocks
from panimbus.infer.settings import PredictSettings
from panimbus.infer.tta import VIEWS, expected_views, views
from panimbus.model.card import BackboneSettings, CompactSettings, ModelCard
from panimbus.model.weights import ModelFiles

_PROCESS = 130 << 20  # Python, NumPy, OpenVINO, and a little of pandas and anndata
_TRIAL_S = 1.0
_TRIAL_CELL = 12  # side of a trial's cells, in model pixels


@dataclass(frozen=True)
class Cost:
    """Expected time and memory of `predict`.

    Parameters
    ----------
    seconds
        Wall time: the first pass (measured by the inspection itself) and the net.
    memory_bytes
        Peak memory of the process.
    passes
        Number of passes of the net over a tile.
    seconds_per_megapixel
        Measured, for one channel and one view.
    backend, tta
        What was measured.
    """

    seconds: float
    memory_bytes: int
    passes: int
    seconds_per_megapixel: float
    backend: str
    tta: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class FovSize:
    """Shape of a FOV, its scale to the model's grid, bytes per pixel and number of cells."""

    shape_yx: tuple[int, int]
    scale: float
    pixel_bytes: int
    label_bytes: int
    cells: int


def estimate_cost(
    sizes: Sequence[FovSize],
    channels: int,
    model: ModelFiles,
    settings: PredictSettings,
    scan_s: float,
) -> Cost:
    """Estimate the cost of a run.

    Parameters
    ----------
    sizes
        One per FOV.
    channels
        Number of channels that are not blank.
    model, settings
        As `predict` takes them.
    scan_s
        Seconds of the first pass.
    """
    card, tile = model.card, settings.tile_for(model.card)
    pixels, passes, window = 0, 0, (0, 0)
    for size in sizes:
        shape = tuple(Axis(n, size.scale).size for n in size.shape_yx)
        plan = [t for block in plan_blocks((shape[0], shape[1]), card, tile) for t in block.tiles]
        side = (plan[0].window[1] - plan[0].window[0], plan[0].window[3] - plan[0].window[2])
        passes += len(plan)
        pixels += len(plan) * side[0] * side[1]
        window = max(window, side, key=math.prod)
    tta = settings.tta_for(model.card)
    n_views = expected_views(tta)
    backend, rate, ready_s = _time(model, settings, window, tile)
    return Cost(
        seconds=scan_s + ready_s + pixels * n_views * channels * rate,
        memory_bytes=_memory(sizes, channels, model, window, settings),
        passes=round(passes * n_views * channels),
        seconds_per_megapixel=rate * 1e6,
        backend=backend,
        tta=tta,
    )


def _time(
    model: ModelFiles, settings: PredictSettings, window: tuple[int, int], tile: int
) -> tuple[str, float, float]:
    """Name of the backend, seconds per model pixel and pass, and seconds until it is ready."""
    begin = time.perf_counter()
    backend = open_backend(model, settings)
    small = (
        min(window[0], 2 * model.card.stride + 128),
        min(window[1], 2 * model.card.stride + 128),
    )
    _trial(small, model.card, backend, tile, passes=1)  # the first pass also sets the net up
    ready = time.perf_counter() - begin
    pixels, seconds = _trial(small, model.card, backend, tile, passes=4)
    rate = seconds / pixels
    one = math.prod(window) * rate
    if small != window and max(one, ready) < 3 * _TRIAL_S:
        _trial(window, model.card, backend, tile, passes=1)
        pixels, seconds = _trial(
            window,
            model.card,
            backend,
            tile,
            passes=max(2, min(64, round(_TRIAL_S / max(one, 1e-4)))),
        )
        rate = seconds / pixels
    return backend.name, rate, ready


def _trial(
    shape: tuple[int, int], card: ModelCard, backend: Backend, tile: int, *, passes: int
) -> tuple[float, float]:
    """Score artificial tissue; return the model pixels processed and the seconds."""
    fov = _tissue(shape, card.mpp, max(1, math.ceil(passes / 8)))
    scans: list[tuple[Fov, FovCells, FovScan]] = []
    scale = fit_normaliser([fov], fov.channels, card, on_scan=lambda *scan: scans.append(scan))
    _, cells, scan = scans[0]
    chosen = VIEWS["full"][: max(1, min(8, passes))]
    scoring = Scoring(card, backend, chosen, (len(chosen),), fov.channels, scale)
    pixels: list[int] = []
    begin = time.perf_counter()
    for _ in score_blocks(
        fov, cells, scan.mean, scoring, plan_blocks(cells.shape, card, tile), on_pass=pixels.append
    ):
        pass
    return float(sum(pixels)), time.perf_counter() - begin


def _tissue(shape: tuple[int, int], mpp: float, channels: int) -> Fov:
    """Square cells with noise: as much work for the net as real tissue."""
    rows, cols = (np.arange(n) // _TRIAL_CELL for n in shape)
    labels = (rows[:, None] * (cols[-1] + 1) + cols[None] + 1).astype(np.uint32)
    image = np.random.default_rng(0).integers(0, 4096, (channels, *shape)).astype(np.uint16)
    return Fov("trial", image, tuple(f"c{k}" for k in range(channels)), labels, mpp)


def _memory(
    sizes: Sequence[FovSize],
    channels: int,
    model: ModelFiles,
    window: tuple[int, int],
    settings: PredictSettings,
) -> int:
    """Peak bytes: the process, the larger of both passes, and the tables of all FOVs."""
    scan = read = sums = 0
    n_views = len(views(settings.tta_for(model.card)))
    layers = 3 + len(EVIDENCE) * settings.evidence
    for size in sizes:
        band = max(b - a for a, b in bands(size.shape_yx)) * size.shape_yx[1]
        # a band: labels, runs of equal ones, the plane being counted and the one being read
        scan = max(scan, band * (2 * size.label_bytes + 2 * size.pixel_bytes + 12))
        block = math.prod(
            min(n, math.ceil(READ_SIDE * max(size.scale, 1e-9))) for n in size.shape_yx
        )
        grid = math.prod(min(math.ceil(n / size.scale), READ_SIDE) for n in size.shape_yx)
        # planes, the block's index, each tile's cell pixels; and the cell pixels by bins while they
        # are sorted
        kept = grid * (8 * len(model.card.planes) + 20 + 24 * settings.evidence)
        read = max(read, block * (2 * size.pixel_bytes + 6 + size.label_bytes) + kept)
        share = min(1.0, READ_SIDE**2 * size.scale**2 / max(1, math.prod(size.shape_yx)))
        sums = max(
            sums, math.ceil(2 * share * size.cells) * channels * n_views * 8
        )  # of a block, and of the next
    cells = sum(size.cells for size in sizes)
    # matrices: in parts, and stacked to be written; and the calls, a byte each, while they are made
    table = cells * channels * (4 * layers * 2 + 3) + cells * 200
    return int(_PROCESS + max(scan, read + sums + _net(model, window)) + table)


def _net(model: ModelFiles, window: tuple[int, int]) -> int:
    """Bytes of the weights, as read and as compiled, and of activations in flight (measured)."""
    settings, area = model.card.settings, math.prod(window)
    weights = Path(model.onnx or model.weights).stat().st_size
    if isinstance(settings, CompactSettings):  # two passes at once
        return 3 * weights + 2 * 4 * area * (
            8 * settings.widths[0] // settings.unshuffle**2 + len(model.card.planes)
        )
    if isinstance(
        settings, BackboneSettings
    ):  # not measured: the last levels of the decoder, twice
        return 3 * weights + 4 * area * 4 * sum(settings.widths[-2:])
    return (
        7 * weights + 4 * area * 12 * settings.root
    )  # rewritten convolutions hold four times their weights
