"""Fine-tuning on a user's own annotations.

A changed model is kept only if it is better on held-out cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.annotations import table as gold
from panimbus.annotations.matching import mismatches, raise_mismatches
from panimbus.core.correction import NONE, Correction
from panimbus.core.errors import InputError, format_list
from panimbus.core.fov import Fov
from panimbus.core.normaliser import check_normaliser
from panimbus.core.planes import PLANES
from panimbus.core.progress import OnProgress, Progress, silent
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import scan_cells
from panimbus.core.types import Float64Array
from panimbus.data.source import ScannedDataset, scan_fovs
from panimbus.finetune.annotated import TRUTH, determined, likely
from panimbus.finetune.crops import crops, score_calls
from panimbus.finetune.guard import FEW, Verdict, compare_scores, groups_of, hold_out
from panimbus.finetune.steps import (
    FinetuneExample,
    FinetuneSettings,
    crop_side,
    finetune_net,
    pick_device,
)
from panimbus.model.card import ModelCard
from panimbus.model.weights import ModelFiles, load_torch, resolve_model

FEWEST = 60
HELD_OUT, OLD, NEW = "held_out", "score_before", "score_after"


@dataclass(frozen=True, eq=False)
class Finetuned:
    """Result of fine-tuning.

    Parameters
    ----------
    start
        The model it began with.
    net, card
        The changed model.
    verdict
        Of the guard.
    calls
        The calls that were used: their columns, ``positive``, ``held_out``, and of those held out
        ``score_before`` and ``score_after``, by a model that was not fitted to them.
    settings
        Settings with which it was made.
    notes
        Decisions worth knowing.
    """

    start: ModelFiles
    net: Any
    card: ModelCard
    verdict: Verdict
    calls: pd.DataFrame
    settings: FinetuneSettings
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        outcome = "better, kept" if self.kept else "not better, not kept"
        return f"<Finetuned {self.card.name!r}: {outcome}, {len(self.calls):,} annotations>"

    @property
    def kept(self) -> bool:
        """Whether the changed model is better and takes the old one's place."""
        return self.verdict.better


@dataclass
class _Job:
    """Everything that fitting needs."""

    net: Any
    card: ModelCard
    calls: pd.DataFrame
    dataset: ScannedDataset
    settings: FinetuneSettings
    device: str
    progress: OnProgress
    notes: list[str] = field(default_factory=list)

    @property
    def truth(self) -> Float64Array:
        return self.calls[TRUTH].to_numpy(np.float64)

    @property
    def target(self) -> Float64Array:
        """(n,) float64: the scores to aim at."""
        high = np.where(likely(self.calls), self.settings.likely, self.settings.sure)
        return np.where(self.truth == 1, high, 1 - high)

    @property
    def correction(self) -> list[Correction]:
        """The card's correction of each call's marker."""
        return [self.card.calibration.get(str(c), NONE) for c in self.calls[gold.CHANNEL]]

    def groups(self) -> npt.NDArray[np.intp]:
        """Groups that are held out together."""
        xy = np.zeros((len(self.calls), 2))
        fov = self.calls[gold.FOV].to_numpy()
        for one in self.dataset.fovs:
            rows = fov == one.fov.fov_id
            index = one.cells.index(self.calls.loc[rows, gold.CELL].to_numpy())
            xy[rows] = one.cells.geometry.centroids()[index, ::-1] * float(one.fov.mpp or 1)
        return groups_of(fov, xy)


def finetune(
    fovs: Sequence[Fov],
    calls: pd.DataFrame,
    *,
    model: str | Path | None = None,
    scale: ChannelScale | None = None,
    settings: FinetuneSettings | None = None,
    progress: OnProgress = silent,
) -> Finetuned:
    """Fit a model to a user's annotations, and test on held-out ones whether it became better.

    Parameters
    ----------
    fovs
        All FOVs of the dataset, with label images and pixel sizes: the normaliser is fitted on all
        of them.
    calls
        Annotations (`panimbus.read_annotations`). Undetermined ones are left out;
        several annotators are brought to a consensus.
    model
        The model to begin with, as for `predict`.
    scale
        The normaliser of an earlier run on the same dataset.
    settings, progress
        Settings, and progress callback.

    Raises
    ------
    InputError
        On calls that cannot be used; the message says what to change.
    """
    settings = settings or FinetuneSettings()
    files = resolve_model(model)
    net, card = load_torch(files.weights)
    if strange := [p for p in card.planes if p not in PLANES]:
        raise InputError(
            f"Model {card.name!r} sees other channels too, and cannot be fine-tuned.",
            got=format_list(strange),
        )
    device = pick_device(settings.device)
    if scale is not None:
        check_normaliser(scale, card, card.name)
    used, notes = determined(calls)
    _enough(used)
    _check_cells(calls, fovs, card)
    channels = list(dict.fromkeys(used[gold.CHANNEL]))
    dataset = scan_fovs("the images", fovs, channels, card, progress=progress)
    dataset = replace(dataset, scale=scale or dataset.scale)
    if blank := [c for c in channels if dataset.scale.blank(c)]:
        used = used[~used[gold.CHANNEL].isin(blank)].reset_index(drop=True)
        notes.append(f"calls of blank channels are left out: {format_list(blank)}")
        _enough(used)
    job = _Job(net.to(device), card, used, dataset, settings, device, progress, notes)
    return Finetuned(files, *_fit(job), settings, tuple(job.notes))


def check_count(calls: pd.DataFrame) -> None:
    """Refuse too few calls, before any image is read.

    Parameters
    ----------
    calls
        As for `finetune`.
    """
    _enough(determined(calls)[0])


def _check_cells(calls: pd.DataFrame, fovs: Sequence[Fov], card: ModelCard) -> None:
    """Refuse calls of cells that do not exist."""
    named = set(calls[gold.FOV])
    cells = {
        f.fov_id: scan_cells(f, card.mpp).index.ids if f.fov_id in named else np.zeros(0, int)
        for f in fovs
    }
    problems = mismatches(calls, cells, {f.fov_id: f.channels for f in fovs})
    raise_mismatches(problems, "the label images")


def _enough(used: pd.DataFrame) -> None:
    positive = int(used[TRUTH].sum())
    negative = len(used) - positive
    if len(used) >= FEWEST and min(positive, negative) >= 2 * FEW:
        return
    raise InputError(
        (
            "All annotations are of one kind."
            if len(used) and not min(positive, negative)
            else "There are too few annotations."
        ),
        expected=(
            f"at least {FEWEST} determined annotations, {2 * FEW} of them positive and {2 * FEW}"
            " negative"
        ),
        got=f"{positive} positive and {negative} negative",
        fix=(
            "annotate more cells, or recalibrate the results, for which a few suffice: panimbus"
            " recalibrate RESULTS ANNOTATIONS"
        ),
    )


def _fit(job: _Job) -> tuple[Any, ModelCard, Verdict, pd.DataFrame]:
    out = hold_out(job.groups(), job.truth, share=job.settings.share, seed=job.settings.seed)
    old = _held_out_scores(job, job.net, out, "before")
    side = crop_side(job.card)
    parts = (c.part(side, job.card.stride) for c in crops(job.calls[~out], job.dataset, job.card))
    target, correction = job.target, job.correction
    examples = [FinetuneExample(c, float(target[c.row]), correction[c.row]) for c in parts]
    net = finetune_net(
        job.net, job.card, examples, settings=job.settings, device=job.device, progress=job.progress
    )
    new = _held_out_scores(job, net, out, "after")
    return net.cpu(), job.card, _judge(job, old, new, out), _table(job, out, old, new)


def _held_out_scores(job: _Job, net: Any, out: npt.NDArray[np.bool_], stage: str) -> Float64Array:
    """(n,) scores of the held-out calls, NaN for the others."""
    held, n = job.calls[out].reset_index(drop=True), int(out.sum())
    scores = np.full(len(out), np.nan)
    seen = lambda k: job.progress(Progress(stage, "", k, n))  # noqa: E731
    scores[out] = score_calls(net, job.card, held, job.dataset, device=job.device, seen=seen)
    return scores


def _table(
    job: _Job, out: npt.NDArray[np.bool_], old: Float64Array, new: Float64Array
) -> pd.DataFrame:
    table = job.calls.copy()
    table[HELD_OUT], table[OLD], table[NEW] = out, old, new
    return table


def _judge(job: _Job, old: Float64Array, new: Float64Array, rows: npt.NDArray[np.bool_]) -> Verdict:
    calls = job.calls[rows]
    units = (calls[gold.FOV] + "\n" + calls[gold.CELL].astype(str)).to_numpy(str)
    weights = calls[gold.WEIGHT].to_numpy(np.float64) if gold.WEIGHT in calls.columns else None
    return compare_scores(
        old[rows],
        new[rows],
        job.truth[rows],
        units=units,
        weights=weights,
        threshold=job.card.threshold,
        seed=job.settings.seed,
    )
