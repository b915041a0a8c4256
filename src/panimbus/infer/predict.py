"""From FOVs to a cell table: scan all FOVs, fit the normaliser, score, collect."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from panimbus.core.batches import add_batches, check_batches
from panimbus.core.channel_types import (
    describe_id_channel,
    id_channels,
)
from panimbus.core.errors import InputError
from panimbus.core.progress import OnProgress
from panimbus.core.scale import ChannelScale
from panimbus.core.table import EVIDENCE
from panimbus.infer.collect import collect, normaliser
from panimbus.infer.devices import open_backend
from panimbus.infer.executor import Executor, LocalExecutor, Plan
from panimbus.infer.inputs import Images, Labels, check_fovs, make_plan, resolve_fovs
from panimbus.infer.label_channels import describe_label_channel, label_channels
from panimbus.infer.maps import write_listing
from panimbus.infer.passes import Run, report_changed_files, scan_all, score_all
from panimbus.infer.per_batch import ScoredBatch, join_batches
from panimbus.infer.progress import default_progress
from panimbus.infer.settings import PredictSettings
from panimbus.infer.store import FolderStore
from panimbus.io.files import check_folder
from panimbus.model.weights import resolve_model

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)
__all__ = ["PredictSettings", "predict"]


def predict(  # noqa: PLR0913 (one parameter per option)
    fovs: Images,
    *,
    labels: Labels | None = None,
    mpp: float | None = None,
    model: str | Path | None = None,
    channels: Sequence[str] | None = None,
    scale: ChannelScale | None = None,
    batches: Mapping[str, str] | None = None,
    normalise_by_batch: bool = False,
    out: str | Path | None = None,
    settings: PredictSettings | None = None,
    progress: OnProgress | None = None,
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
    batches
        Name of each FOV -> its batch (staining day, slide, patient), for obs ``batch`` and for
        `panimbus.compare_batches`. Scores do not depend on it.
    normalise_by_batch
        Fit one normaliser per batch instead of one on all FOVs together.
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
        sliver, excluded); obsm ``spatial`` (x, y in µm); var ``normaliser``, ``threshold``,
        ``channel_type``, ``doubt`` (why the model does not know, "" = no reason); uns
        ``panimbus``: provenance. Every label of every FOV is one row.

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
    if normalise_by_batch and (batches is None or scale is not None):
        raise InputError(
            "The normaliser of each batch is fitted to the FOVs of that batch.",
            expected="batches, and no normaliser of an earlier run",
            got="no batches" if batches is None else "a normaliser",
            fix="pass --batches (Python: batches=) and no --normaliser (scale=)",
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
    batch_of = None if batches is None else check_batches(batches, [f.fov_id for f in chosen])
    groups = {"": chosen}
    if batch_of is not None and normalise_by_batch:
        groups = {b: [f for f in chosen if batch_of[f.fov_id] == b] for b in batch_of.values()}
    report = progress or default_progress()
    with _executor(plan) as executor, report_changed_files(chosen):
        parts = {
            batch: _score_together(Run(fovs, plan, executor, store, report), scale)
            for batch, fovs in groups.items()
        }
        if store is not None and settings.map_style is not None:
            write_listing(
                store.out, {f.fov_id: store.map_path(f, settings.maps_format) for f in chosen}
            )
    table = next(iter(parts.values())).table if len(parts) == 1 else join_batches(parts, chosen)
    if batch_of is not None:
        add_batches(table, batch_of)
    return table


def _score_together(run: Run, given: ChannelScale | None) -> ScoredBatch:
    """Score FOVs with one normaliser."""
    scan_all(run)
    _warn_of_label_channels(run)
    scale = normaliser(run, given)
    if run.store is not None:
        check_folder(run.store.out, _bytes_needed(run, run.store), "the scores")
    scores = score_all(run, scale, run.executor.name)
    return ScoredBatch(collect(run, scale, scores, run.executor.name), scale, run.pooled.to_dict())


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
