"""From FOVs to a cell table: scan all FOVs, fit the normaliser, score, collect."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.channel_types import (
    describe_id_channel,
    find_counterstains,
    id_channels,
    resolve_channel_types,
)
from panimbus.core.dark import common_dark_level, describe_dark_level
from panimbus.core.errors import InputError, format_list
from panimbus.core.messages import group_messages
from panimbus.core.scale import COUNTERSTAIN, ChannelScale, ChannelStats
from panimbus.core.scale_checks import describe_far_scales
from panimbus.core.table import EVIDENCE, FovScores, to_anndata
from panimbus.infer.devices import open_backend
from panimbus.infer.executor import Executor, LocalExecutor, Plan
from panimbus.infer.inputs import Images, Labels, check_fovs, make_plan, resolve_fovs
from panimbus.infer.label_channels import describe_label_channel, label_channels
from panimbus.infer.maps import write_listing
from panimbus.infer.passes import Run, Scores, report_changed_files, scan_all, score_all
from panimbus.infer.progress import default_progress
from panimbus.infer.settings import PredictSettings, Progress
from panimbus.infer.store import FolderStore
from panimbus.io.files import check_folder
from panimbus.model.weights import resolve_model

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
_LARGEST = 3.4e38  # of float32
__all__ = ["PredictSettings", "Progress", "predict"]


def predict(  # noqa: PLR0913 (one parameter per option)
    fovs: Images,
    *,
    labels: Labels | None = None,
    mpp: float | None = None,
    model: str | Path | None = None,
    channels: Sequence[str] | None = None,
    scale: ChannelScale | None = None,
    out: str | Path | None = None,
    settings: PredictSettings | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> AnnData:
    """Score every cell and every channel.

    The method is Nimbus (Rumberger, Greenwald et al.): a net sees one normalised channel and the
    segmentation; a cell's score is the mean of the pixel scores over its pixels and over the
    test-time views.

    Parameters
    ----------
    fovs
        FOVs from `open_fovs` or `from_array`, or paths of images. Each FOV needs a label image and
        a pixel size.
    labels, mpp
        Label images and µm per pixel of images given as paths, as `open_fovs` takes them.
    model
        Name of a shipped model or path of a model file; default: the default model.
    channels
        Names of the channels to score (a string is one name); default: all channels.
    scale
        The normaliser of an earlier run on the same dataset; default: fit one on all FOVs together.
    out
        Folder that keeps finished FOVs, so that a second run continues; default: keep nothing.
    settings
        Test-time augmentation, tile size, device and the like.
    progress
        Called with a `Progress` from time to time; default: a bar in a notebook, nothing elsewhere.

    Returns
    -------
    AnnData
        X = score (cells x channels, float32, 0..1); layers ``intensity_mean``, ``score_sd``, what
        `panimbus.core.evidence` measures (``rim_mean``, ``rim_low``, ``inside_mean``,
        ``neighbour_max``), and ``positive``: score >= threshold (uint8; float32 with NaN where
        scores are missing); obs ``fov_id``, ``cell_id``, ``area_um2``, ``object`` (cell, large,
        sliver); obsm ``spatial`` (x, y in µm); var ``normaliser``, ``threshold``,
        ``channel_type``; uns ``panimbus``: provenance. Every label of every FOV is one row.

    Raises
    ------
    InputError
        On input that cannot be scored; the message says what to change.

    Examples
    --------
    >>> import panimbus
    >>> tissue = panimbus.simulate_tissue((96, 96), panel=2, seed=1)
    >>> fov = panimbus.from_array(
    ...     tissue.image, tissue.labels, channels=["CD3", "CD8"], mpp=tissue.mpp
    ... )
    >>> settings = panimbus.PredictSettings(tta="none")
    >>> table = panimbus.predict(fov, channels=["CD3"], settings=settings)
    >>> table.var_names.tolist(), table.n_obs == len(tissue.truth)
    (['CD3'], True)
    """
    for name, value, kind in (
        ("scale", scale, ChannelScale),
        ("settings", settings, PredictSettings),
    ):
        if value is not None and not isinstance(value, kind):
            raise InputError(
                f"{name} is not a {kind.__name__}.",
                expected=f"a {kind.__name__}",
                got=f"a {type(value).__name__}",
            )
    settings = settings or PredictSettings()
    channels = (channels,) if isinstance(channels, str) else channels
    chosen = resolve_fovs(fovs, labels, mpp, channels)
    check_fovs(chosen, channels)
    if settings.maps and out is None:
        raise InputError("Score maps need a folder to go to.", fix="pass out=")
    plan = make_plan(resolve_model(model), settings, chosen, channels, scale)
    if out is not None:
        check_folder(Path(out))
    store = FolderStore(Path(out), [f.fov_id for f in chosen]) if out else None
    with _executor(plan) as executor, report_changed_files(chosen):
        run = Run(chosen, plan, executor, store, progress or default_progress())
        scan_all(run)
        _warn_of_label_channels(run)
        scale = normaliser(run, scale)
        if store is not None:
            check_folder(store.out, _bytes_needed(run, store), "the scores")
        scores = score_all(run, scale, executor.name)
        if store is not None and settings.map_style is not None:
            write_listing(
                store.out, {f.fov_id: store.map_path(f, settings.maps_format) for f in chosen}
            )
        return collect(run, scale, scores, executor.name)


def _bytes_needed(run: Run, store: FolderStore) -> int:
    """Least disk space needed: missing scores, and a quarter of the (compressed) maps."""
    settings, channels = run.plan.settings, len(run.plan.channels)
    layers = 2 + len(EVIDENCE) * settings.evidence
    out = 0
    for fov in run.fovs:
        cells = run.scanned[fov.fov_id].cells
        if store.finished(fov):
            continue
        out += cells.n * channels * 4 * layers
        if (style := settings.map_style) is not None:
            pixels = math.prod(cells.shape) if style.background else int(cells.pixels.sum())
            if style.grid == "image":
                pixels = pixels * math.prod(fov.shape_yx) // math.prod(cells.shape)
            out += channels * pixels
    return out


@contextmanager
def _executor(plan: Plan) -> Iterator[Executor]:
    if plan.settings.dask is None:
        yield LocalExecutor(open_backend(plan.model, plan.settings))
        return
    from panimbus.infer.distribute.cluster import dask_executor

    with dask_executor(plan.settings.dask, plan) as executor:
        yield executor


def normaliser(run: Run, given: ChannelScale | None) -> ChannelScale:
    """The given normaliser, or one fitted to the pooled FOVs; log warnings about it."""
    card = run.plan.model.card
    ids = [f.fov_id for f in run.fovs]
    pooled = run.pooled.to_dict()
    scale = given or ChannelScale.fit(
        pooled, percentile=card.percentile, over=card.percentile_over, fov_ids=ids
    )
    if (level := common_dark_level({c: pooled[c].pixels for c in run.plan.channels})) is not None:
        logger.warning("%s", describe_dark_level(level))
    if given is not None:
        own = ChannelScale.fit(
            {c: pooled[c] for c in run.plan.channels}, percentile=scale.percentile, over=scale.over
        )
        if line := describe_far_scales(
            {c: scale.value(c) for c in run.plan.channels}, own.normaliser
        ):
            logger.warning("%s", line)
    _check_range(scale, pooled, run.plan.channels)
    _log_notes(scale, run.plan.channels)
    scanned = any(COUNTERSTAIN in of for of in scale.stats.values())
    stains = find_counterstains(run.fovs[0].channels, run.fovs[0].channel_types)
    if stains and not scanned and COUNTERSTAIN in card.stats and given is not None:
        logger.warning(
            "the normaliser does not say what looks like the counterstain (%s): fit a new one",
            format_list(stains),
        )
    return scale


def _check_range(
    scale: ChannelScale, pooled: Mapping[str, ChannelStats], channels: Sequence[str]
) -> None:
    """Refuse normalisers so small that the brightest pixels overflow float32."""
    wrong = []
    for channel in channels:
        values, value = pooled[channel].pixels.values(), scale.value(channel)
        if len(values) and value > 0 and not np.abs(values[[0, -1]]).max() / value <= _LARGEST:
            wrong.append(
                f"{channel}: pixels up to {np.abs(values[[0, -1]]).max():g}, a normaliser of"
                f" {value:g}"
            )
    if wrong:
        raise InputError(
            "Intensities divided by their normaliser are too large for float32.",
            got=format_list(wrong, 10),
            fix="omit --normaliser (Python: scale=None), or these channels (--channels)",
        )


def _warn_of_label_channels(run: Run) -> None:
    channels = run.plan.channels
    of_fovs = (
        id_channels(seen.scan.mean, seen.cells.index.ids, channels) for seen in run.scanned.values()
    )
    own = list(dict.fromkeys(c for some in of_fovs for c in some))
    for channel in own:
        logger.warning("%s", describe_id_channel(channel))
    for channel in label_channels(
        run.fovs, [c for c in channels if c not in own], run.pooled.to_dict()
    ):
        logger.warning("%s", describe_label_channel(channel))


def _log_notes(scale: ChannelScale, channels: Sequence[str]) -> None:
    notes = {
        c: scale.notes.get(c, "blank; every score is 0" if scale.blank(c) else "") for c in channels
    }
    for line in group_messages(
        f"channel {channel!r}: {note}" for channel, note in notes.items() if note
    ):
        logger.warning("%s", line)


def collect(run: Run, scale: ChannelScale, scores: Scores, backend: str) -> AnnData:
    """Collect the cell table of a finished run."""
    parts = []
    for fov in run.fovs:
        scanned, mpp = run.scanned[fov.fov_id], float(fov.mpp or 0)
        cells = scanned.cells
        scored = scores[fov.fov_id]
        parts.append(
            FovScores(
                fov.fov_id,
                cells.index.ids,
                scored.score,
                scored.score_sd,
                scanned.scan.mean,
                cells.geometry.count.astype(np.float64) * mpp**2,
                (cells.geometry.centroids()[:, ::-1] + 0.5) * mpp,
                scored.evidence,
                mpp,
            )
        )
    channels, settings = run.plan.channels, run.plan.settings
    return to_anndata(
        parts,
        channels,
        normaliser=dict(scale.normaliser),
        provenance=_provenance(run, scale, backend),
        thresholds=settings.thresholds_for(channels, run.plan.model.card),
        area_limits=(settings.min_area, settings.max_area),
        channel_types=resolve_channel_types(channels, run.fovs[0].channel_types),
    )


def _provenance(run: Run, scale: ChannelScale, backend: str) -> dict[str, Any]:
    from panimbus import __version__

    card, settings = run.plan.model.card, run.plan.settings
    limits = {
        name: getattr(settings, name)
        for name in ("min_area", "max_area")
        if getattr(settings, name) is not None
    }
    calibration = {c: list(card.calibration[c]) for c in run.plan.channels if c in card.calibration}
    return {
        "version": __version__,
        "model": card.name,
        "model_version": card.version,
        "model_sha256": run.plan.model.sha256,
        "threshold": card.threshold,
        "settings": {
            "tta": settings.tta_for(card),
            "tile": settings.tile_for(card),
            "backend": backend,
            "model_mpp": card.mpp,
            **({"calibration": json.dumps(calibration)} if calibration else {}),
            **(
                {"thresholds": json.dumps(dict(settings.thresholds))} if settings.thresholds else {}
            ),
            **limits,
        },
        "scale": json.dumps(scale.to_dict()),
        "inputs": json.dumps(
            {
                f.fov_id: {
                    "digest": run.scanned[f.fov_id].scan.digest,
                    "mpp": f.mpp,
                    "shape": [len(f.channels), *f.shape_yx],
                    "cells": run.scanned[f.fov_id].cells.n,
                    **dict(f.source),
                    **({"notes": list(f.notes)} if f.notes else {}),
                }
                for f in run.fovs
            },
            default=str,
        ),
    }
