"""From FOVs to a cell table: scan all, fit the normaliser, score each, collect."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import ChannelError, InputError, listed
from panimbus.core.fov import Fov
from panimbus.core.planes import check_given
from panimbus.core.scale import ChannelScale, ChannelStats
from panimbus.core.scan import FovCells, FovScan, scan_cells, scan_channels
from panimbus.core.table import FovScores, to_anndata
from panimbus.core.tiles import plan_tiles
from panimbus.infer.backend import Backend, make_backend
from panimbus.infer.score import Scoring, count_pixels, score_cells
from panimbus.infer.store import FolderStore, fingerprint, source_key
from panimbus.infer.tta import views
from panimbus.model.card import ModelCard
from panimbus.model.weights import ModelFiles, resolve_model, with_onnx

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Progress:
    """Where a run is: ``done`` of ``total`` units of a stage (``scan``: FOVs; ``score``: model pixels)."""

    stage: str
    fov_id: str
    done: float
    total: float


@dataclass(frozen=True)
class PredictSettings:
    """How to run, as opposed to on what.

    Parameters
    ----------
    tta
        ``full``: the mean over the 8 flips and rotations; ``none``: one pass; None: what the model's card says.
    tile
        Longest side of a window in model pixels, None for what suits the model; results do not depend on it (float32: 1e-5).
    precision
        ``auto`` or ``float32``.
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    threads
        CPU threads, 0 = all.
    maps
        Write pixel score maps (needs an output folder).
    """

    tta: str | None = None
    tile: int | None = None
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0
    maps: bool = False

    def tta_for(self, card: ModelCard) -> str:
        """The test-time augmentation, or the card's."""
        return card.tta if self.tta is None else self.tta

    def tile_for(self, card: ModelCard) -> int:
        """The tile, or what suits the model: large windows repeat less, but the paper's net takes 3 GB for one of 1024 px."""
        return self.tile or (1024 if card.architecture == "paper_unet" else 1536)


@dataclass
class _Run:
    fovs: Sequence[Fov]
    channels: tuple[str, ...]
    model: ModelFiles
    settings: PredictSettings
    backend: Backend
    store: FolderStore | None
    report: Callable[[Progress], None]
    cells: dict[str, FovCells] = field(default_factory=dict)
    scans: dict[str, FovScan] = field(default_factory=dict)
    pooled: dict[str, ChannelStats] = field(default_factory=dict)


def predict(
    fovs: Fov | Sequence[Fov],
    *,
    model: str | Path | None = None,
    channels: Sequence[str] | None = None,
    scale: ChannelScale | None = None,
    out: str | Path | None = None,
    settings: PredictSettings | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> AnnData:
    """Score every cell and every channel.

    The method is Nimbus (Rumberger, Greenwald et al.): a net sees one normalised channel and the segmentation; a cell's score is
    the mean of the pixel scores over its pixels and over the test-time views.

    Parameters
    ----------
    fovs
        What `open_fovs` or `from_array` gave; each needs a label image and a pixel size.
    model
        Name of a shipped model, path of a model file, or None for the default model.
    channels
        Which channels to score (a string is one name); None for all of them.
    scale
        The normaliser of an earlier run on the same dataset; None fits one on all of ``fovs`` together.
    out
        A folder that keeps finished FOVs, so that a second run continues. Nothing is written without it.
    settings
        Test-time augmentation, tile size, device and the like.
    progress
        Called now and then with a `Progress`.

    Returns
    -------
    AnnData
        X = score (cells x channels, float32, 0..1); layers ``intensity_mean``, ``score_sd``; obs ``fov_id``, ``cell_id``,
        ``area_um2``; obsm ``spatial`` (x, y in µm); var ``normaliser``; uns ``panimbus``: provenance. Every label of every FOV
        is one row.

    Raises
    ------
    InputError
        On input that cannot be scored; the message says what to change.
    """
    settings = settings or PredictSettings()
    channels = (channels,) if isinstance(channels, str) else channels
    chosen = _checked(fovs, channels)
    if settings.maps and out is None:
        raise InputError("Score maps need a folder to go to.", fix="pass out=")
    files = resolve_model(model)
    run = _Run(
        chosen,
        tuple(channels) if channels is not None else chosen[0].channels,
        files,
        settings,
        _backend(files, settings),
        FolderStore(Path(out)) if out else None,
        progress or (lambda _: None),
    )
    if scale is not None:
        _check_scale(scale, run)
    _scan(run)
    if scale is None:
        scale = _fit(run)
    for channel in run.channels:
        if scale.blank(channel):
            logger.warning("channel %r: %s", channel, scale.notes.get(channel, "blank; every score is 0"))
        elif channel in scale.notes:
            logger.warning("channel %r: %s", channel, scale.notes[channel])
    scores = _score(run, scale)
    return _collect(run, scale, scores)


def _checked(fovs: Fov | Sequence[Fov], channels: Sequence[str] | None) -> list[Fov]:
    """All problems that can be seen before reading pixels, in one message."""
    chosen = [fovs] if isinstance(fovs, Fov) else list(fovs)
    if not chosen:
        raise InputError("There is no FOV to score.")
    ids = [f.fov_id for f in chosen]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise InputError("FOV names are not unique.", got=listed(twice))
    if missing := [f.fov_id for f in chosen if f.labels is None]:
        raise InputError("There are FOVs without a label image.", got=listed(missing), fix="pass --labels (Python: labels=)")
    if missing := [f.fov_id for f in chosen if f.mpp is None]:
        raise InputError(
            f"The files of {len(missing)} FOVs do not say how large a pixel is.",
            got=listed(missing),
            fix="pass --mpp (open_fovs(..., mpp=)) with the micrometres per pixel: about 0.5 for 20x, 0.25 for 40x, 1.0 for IMC",
        )
    wanted = tuple(channels) if channels is not None else chosen[0].channels
    if not wanted:
        raise ChannelError("No channel was asked for.", available=chosen[0].channels)
    if twice := sorted({c for c in wanted if wanted.count(c) > 1}):
        raise ChannelError("A channel was asked for twice.", got=listed(twice))
    for fov in chosen:
        for channel in wanted:
            fov.index(channel)
    return chosen


def _backend(files: ModelFiles, settings: PredictSettings) -> Backend:
    """Load the model, and refuse settings that cannot run it, before any pixel is read."""
    card = files.card
    check_given(card.planes)
    views(settings.tta_for(card))
    plan_tiles((1, 1), size=settings.tile_for(card), reach=card.reach + 1, stride=card.stride)
    with tempfile.TemporaryDirectory(prefix="panimbus-") as folder:  # a published .pt is turned into ONNX first
        files = files if files.onnx is not None else with_onnx(files, folder)
        return make_backend(files, device=settings.device, precision=settings.precision, threads=settings.threads)


def _check_scale(scale: ChannelScale, run: _Run) -> None:
    for channel in run.channels:
        scale.value(channel)
    card = run.model.card
    if (scale.percentile, scale.over) != (card.percentile, card.percentile_over):
        raise InputError(
            "The normaliser was not made for this model.",
            expected=f"the {card.percentile:g}th percentile of {card.percentile_over} pixels, as model {card.name!r} was trained",
            got=f"the {scale.percentile:g}th percentile of {scale.over} pixels",
            fix="fit a normaliser with this model (leave --normaliser away), or name the model it was made with",
        )


def _scan(run: _Run) -> None:
    for k, fov in enumerate(run.fovs):
        run.report(Progress("scan", fov.fov_id, k, len(run.fovs)))
        cells = run.cells[fov.fov_id] = scan_cells(fov, run.model.card.mpp)
        planes = [fov.index(c) for c in run.channels]  # a corrected panel gives a name another plane
        key = fingerprint([source_key(fov), run.channels, planes, fov.mpp])
        reuse = run.store is not None and source_key(fov) is not None
        scan = run.store.load_scan(fov, key) if run.store is not None and reuse else None
        if scan is None:
            scan = scan_channels(fov, cells, run.channels)
            if run.store is not None and reuse:
                run.store.save_scan(fov, key, scan)
        for channel, stats in scan.stats.items():  # pooled at once: a thousand FOVs' histograms do not fit memory
            run.pooled[channel] = run.pooled.get(channel, ChannelStats()).merge(stats)
        run.scans[fov.fov_id] = replace(scan, stats={})
    run.report(Progress("scan", run.fovs[-1].fov_id, len(run.fovs), len(run.fovs)))


def _fit(run: _Run) -> ChannelScale:
    card = run.model.card
    ids = [f.fov_id for f in run.fovs]
    return ChannelScale.fit(run.pooled, percentile=card.percentile, over=card.percentile_over, fov_ids=ids)


def _score(run: _Run, scale: ChannelScale) -> dict[str, tuple[FloatArray, FloatArray]]:
    settings, model, tta = run.settings, run.model, run.settings.tta_for(run.model.card)
    scoring = Scoring(model.card, run.backend, views(tta), settings.tile_for(model.card), run.channels, scale)
    numbers = {c: [scale.value(c), scale.vector(c, model.card.stats).tolist()] for c in run.channels if not scale.blank(c)}
    what = [model.sha256, tta, run.backend.name, run.channels, numbers]
    live = len(numbers)
    keys = {f.fov_id: fingerprint([what, run.scans[f.fov_id].digest, f.mpp]) for f in run.fovs}
    done: dict[str, tuple[FloatArray, FloatArray]] = {}
    if run.store is not None:
        stored = {f.fov_id: run.store.load_scores(f, keys[f.fov_id], maps=settings.maps) for f in run.fovs}
        done = {fov_id: scores for fov_id, scores in stored.items() if scores is not None}
    todo = [f for f in run.fovs if f.fov_id not in done]
    total = float(sum(count_pixels(run.cells[f.fov_id], scoring) for f in todo) * live)
    passed = 0.0
    for fov in todo:

        def on_pass(pixels: int, fov_id: str = fov.fov_id) -> None:
            nonlocal passed
            passed += pixels
            run.report(Progress("score", fov_id, passed, total))

        done[fov.fov_id] = _score_one(run, fov, scoring, on_pass)
        if run.store is not None:
            run.store.save_scores(fov, keys[fov.fov_id], *done[fov.fov_id], maps=settings.maps)
    run.report(Progress("score", run.fovs[-1].fov_id, total, total))
    return done


def _score_one(run: _Run, fov: Fov, scoring: Scoring, on_pass: Callable[[int], None]) -> tuple[FloatArray, FloatArray]:
    cells = run.cells[fov.fov_id]
    shape = (len(run.channels), cells.y.size, cells.x.size)
    wants_map = run.settings.maps and run.store is not None
    sink = run.store.map_sink(fov, shape, run.channels, run.model.card.mpp) if wants_map and run.store else nullcontext()
    with sink as on_map:
        return score_cells(fov, cells, run.scans[fov.fov_id].mean, scoring, on_map=on_map, on_pass=on_pass)


def _collect(run: _Run, scale: ChannelScale, scores: dict[str, tuple[FloatArray, FloatArray]]) -> AnnData:
    parts = []
    for fov in run.fovs:
        cells, mpp = run.cells[fov.fov_id], float(fov.mpp or 0)
        score, score_sd = scores[fov.fov_id]
        parts.append(
            FovScores(
                fov.fov_id,
                cells.index.ids,
                score,
                score_sd,
                run.scans[fov.fov_id].mean,
                cells.geometry.count.astype(np.float64) * mpp**2,
                (cells.geometry.centroids()[:, ::-1] + 0.5) * mpp,
            )
        )
    return to_anndata(parts, run.channels, normaliser=dict(scale.normaliser), provenance=_provenance(run, scale))


def _provenance(run: _Run, scale: ChannelScale) -> dict[str, Any]:
    from panimbus import __version__

    card, settings = run.model.card, run.settings
    calibration = {c: list(card.calibration[c]) for c in run.channels if c in card.calibration}
    return {
        "version": __version__,
        "model": card.name,
        "model_version": card.version,
        "model_sha256": run.model.sha256,
        "threshold": card.threshold,
        "settings": {
            "tta": settings.tta_for(card),
            "tile": settings.tile_for(card),
            "backend": run.backend.name,
            "model_mpp": card.mpp,
            **({"calibration": json.dumps(calibration)} if calibration else {}),
        },
        "scale": json.dumps(scale.to_dict()),
        "inputs": json.dumps(
            {
                f.fov_id: {
                    "digest": run.scans[f.fov_id].digest,
                    "mpp": f.mpp,
                    "shape": [len(f.channels), *f.shape_yx],
                    "cells": run.cells[f.fov_id].n,
                    **dict(f.source),
                    **({"notes": list(f.notes)} if f.notes else {}),
                }
                for f in run.fovs
            },
            default=str,
        ),
    }
