"""What both passes give: the normaliser of the pooled FOVs, and the cell table."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.channel_types import (
    find_counterstains,
    resolve_channel_types,
)
from panimbus.core.dark import common_dark_level, describe_dark_level
from panimbus.core.doubts import flag_doubts
from panimbus.core.errors import InputError, format_list
from panimbus.core.excluded import excluded_part, warn_of_masks
from panimbus.core.fov import Fov
from panimbus.core.messages import group_messages
from panimbus.core.scale import COUNTERSTAIN, ChannelScale, ChannelStats
from panimbus.core.scale_checks import describe_far_scales
from panimbus.core.scan import FovCells
from panimbus.core.table import FovScores, to_anndata
from panimbus.infer.passes import Run, Scores

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
_LARGEST = 3.4e38  # of float32


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
    seen = [f for f in run.fovs if f.fov_id in run.scanned]  # a shard keeps its own FOVs
    masked = [excluded_part(f, run.scanned[f.fov_id].cells) for f in seen]
    for line in warn_of_masks([part for part in masked if part is not None]):
        logger.warning("%s", line)
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
                cells.excluded,
            )
        )
    channels, settings = run.plan.channels, run.plan.settings
    table = to_anndata(
        parts,
        channels,
        normaliser=dict(scale.normaliser),
        provenance=_provenance(run, scale, backend),
        thresholds=settings.thresholds_for(channels, run.plan.model.card),
        area_limits=(settings.min_area, settings.max_area),
        channel_types=resolve_channel_types(channels, run.fovs[0].channel_types),
    )
    flag_doubts(table, scale)
    return table


def _excluded(fov: Fov, cells: FovCells) -> dict[str, Any]:
    part = excluded_part(fov, cells)
    return {} if part is None else {"excluded_share": part.share, "excluded_cells": part.cells}


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
                    **_excluded(f, run.scanned[f.fov_id].cells),
                    **dict(f.source),
                    **({"notes": list(f.notes)} if f.notes else {}),
                }
                for f in run.fovs
            },
            default=str,
        ),
    }
