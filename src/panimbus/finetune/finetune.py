"""Fine-tuning and recalibration on a user's own annotations.

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
from panimbus.annotations.agreement import consensus_annotations
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
from panimbus.finetune.crops import crops, score_calls
from panimbus.finetune.guard import FEW, Verdict, compare_scores, folds, groups_of, hold_out
from panimbus.finetune.recalibrate import CellLogits, behind, combined, fit_corrections, fit_markers
from panimbus.finetune.steps import (
    FinetuneExample,
    FinetuneSettings,
    crop_side,
    finetune_net,
    pick_device,
)
from panimbus.model.card import ModelCard
from panimbus.model.weights import ModelFiles, load_torch, resolve_model
from panimbus.train.start import with_correction

FEWEST = {"weights": 60, "recalibrate": 20, "markers": 20}
FOLDS = 5
HELD_OUT, OLD, NEW, TRUTH = "held_out", "score_before", "score_after", "positive"


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
        likely = self.calls[gold.CALL].isin((gold.LIKELY_POSITIVE, gold.LIKELY_NEGATIVE)).to_numpy()
        high = np.where(likely, self.settings.likely, self.settings.sure)
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
    used, notes = _determined(calls)
    _enough(used, settings)
    _check_cells(calls, fovs, card)
    channels = list(dict.fromkeys(used[gold.CHANNEL]))
    dataset = scan_fovs("the images", fovs, channels, card, progress=progress)
    dataset = replace(dataset, scale=scale or dataset.scale)
    if blank := [c for c in channels if dataset.scale.blank(c)]:
        used = used[~used[gold.CHANNEL].isin(blank)].reset_index(drop=True)
        notes.append(f"calls of blank channels are left out: {format_list(blank)}")
        _enough(used, settings)
    job = _Job(net.to(device), card, used, dataset, settings, device, progress, notes)
    result = _by_weights(job) if settings.how == "weights" else _by_correction(job)
    return Finetuned(files, *result, settings, tuple(job.notes))


def check_count(calls: pd.DataFrame, settings: FinetuneSettings) -> None:
    """Refuse too few calls, before any image is read.

    Parameters
    ----------
    calls, settings
        As for `finetune`.
    """
    _enough(_determined(calls)[0], settings)


def _determined(calls: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Determined calls, one per cell and channel; the index is 0 .. n-1."""
    notes = []
    if gold.DATASET in calls.columns and calls[gold.DATASET].nunique() > 1:
        raise InputError(
            "The calls are of several datasets, and each has a normaliser of its own.",
            available=sorted(calls[gold.DATASET].unique()),
            fix="pass the calls of one dataset, with its images",
        )
    if calls[gold.ANNOTATOR].nunique() > 1:
        calls = consensus_annotations(calls)
        notes.append("several annotators: their consensus was used")
    truth = gold.truth(calls)
    if (open_ := int(np.isnan(truth).sum())) > 0:
        notes.append(f"{open_:,} undetermined calls are left out")
    used = calls.assign(**{TRUTH: truth})[~np.isnan(truth)].reset_index(drop=True)
    return used, notes


def _check_cells(calls: pd.DataFrame, fovs: Sequence[Fov], card: ModelCard) -> None:
    """Refuse calls of cells that do not exist."""
    named = set(calls[gold.FOV])
    cells = {
        f.fov_id: scan_cells(f, card.mpp).index.ids if f.fov_id in named else np.zeros(0, int)
        for f in fovs
    }
    problems = mismatches(calls, cells, {f.fov_id: f.channels for f in fovs})
    raise_mismatches(problems, "the label images")


def _enough(used: pd.DataFrame, settings: FinetuneSettings) -> None:
    positive = int(used[TRUTH].sum())
    negative, fewest = len(used) - positive, FEWEST[settings.how]
    of_each = 2 * FEW if settings.how == "weights" else FEW
    if len(used) >= fewest and min(positive, negative) >= of_each:
        return
    lesser = (
        settings.how == "weights"
        and len(used) >= FEWEST["recalibrate"]
        and min(positive, negative) >= FEW
    )
    raise InputError(
        (
            "All calls are of one kind."
            if len(used) and not min(positive, negative)
            else "There are too few calls."
        ),
        expected=(
            f"at least {fewest} determined calls, {of_each} of them positive and {of_each} negative"
        ),
        got=f"{positive} positive and {negative} negative",
        fix=(
            "recalibrate instead (--recalibrate), or call more cells"
            if lesser
            else "call more cells"
        ),
    )


# -- recalibration: each call's new score comes from a fit that did not see it --------------------


def _by_correction(job: _Job) -> tuple[Any, ModelCard, Verdict, pd.DataFrame]:
    n = len(job.calls)
    logits = score_calls(
        job.net,
        job.card,
        job.calls,
        job.dataset,
        device=job.device,
        seen=lambda k: job.progress(Progress("score", "", k, n)),
    )
    marker = job.calls[gold.CHANNEL].to_numpy().astype(str)
    fold = folds(job.groups(), FOLDS, seed=job.settings.seed)
    new = np.zeros(n)
    for k in range(int(fold.max()) + 1):
        rest, own = fold != k, fold == k
        new[own] = _corrected(
            logits.only(own), marker[own], _fitted(job, logits.only(rest), rest, marker)
        )
    verdict = _judge(job, logits.scores(), new, np.ones(n, np.bool_))
    best = _fitted(job, logits, np.ones(n, np.bool_), marker)
    net, calibration = job.net, job.card.calibration
    if job.settings.how == "markers":
        calibration = combined(calibration, best)
    else:
        net, calibration = with_correction(net, best[""]), behind(calibration, best[""])
    card = job.card.model_copy(update={"calibration": calibration})
    job.notes += [
        f"{m or 'all markers'}: temperature {t:.3g}, offset {b:+.3g}" for m, (t, b) in best.items()
    ]
    table = _table(job, np.ones(n, np.bool_), logits.scores(), new)
    return net.cpu(), card, verdict, table


def _fitted(
    job: _Job, logits: CellLogits, rows: npt.NDArray[np.bool_], marker: npt.NDArray[Any]
) -> dict[str, Correction]:
    """Correction of each marker, or of "" for all together."""
    if job.settings.how == "markers":
        return fit_markers(logits, job.target[rows], marker[rows])
    return {"": fit_corrections(logits, job.target[rows])}


def _corrected(
    logits: CellLogits, marker: npt.NDArray[Any], corrections: dict[str, Correction]
) -> Float64Array:
    """New scores; a marker without calls in the fit keeps its own."""
    if "" in corrections:
        return logits.scores(corrections[""])
    out = logits.scores()
    for name, correction in corrections.items():
        out = np.where(marker == name, logits.scores(correction), out)
    return out


# -- weights ---------------------------------------------------------------------------------------


def _by_weights(job: _Job) -> tuple[Any, ModelCard, Verdict, pd.DataFrame]:
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
    scores[out] = score_calls(
        net, job.card, held, job.dataset, device=job.device, seen=seen
    ).scores()
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
