"""A result recalibrated by answers: new scores where they are better, tables, types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from panimbus.annotations import table as gold
from panimbus.annotations.matching import check_in_table
from panimbus.core.errors import InputError, format_list
from panimbus.core.table import CELL, EVIDENCE, FOV, MEAN, PROVENANCE, SD, recalibrated_markers
from panimbus.core.table import THRESHOLD as LIMIT
from panimbus.core.table import THRESHOLD_BEFORE as LIMIT_BEFORE
from panimbus.core.types import Array, Float64Array
from panimbus.finetune.annotated import TRUTH, determined, likely
from panimbus.finetune.guard import Verdict, compare_scores, figures
from panimbus.finetune.marker_model import (
    Answers,
    Prior,
    cell_features,
    clearly_worse,
    fit_markers,
    held_out_logits,
    prior_for,
)
from panimbus.finetune.rewrite import rewrite
from panimbus.infer.rewrite import Changes, model_scores, open_result
from panimbus.io.write_table import write_csv

if TYPE_CHECKING:
    from anndata import AnnData

FILE = "recalibration.csv"
LIKELY = 0.85  # target of an annotation "likely positive"
_EDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """Result of a recalibration.

    Parameters
    ----------
    table
        The cell table as written.
    markers
        A row per marker with answers: answers, positive, f1_before, f1_after, log_loss_before,
        log_loss_after (all on held-out answers, by their sampling weights), f1_gain_low,
        f1_gain_high (95 %), changed (cells whose call changed), kept (``new`` or ``old``).
    verdict
        All held-out answers together, with those of markers that keep their old scores.
    prior
        ``evidence``, ``plain`` or ``offset`` (`panimbus.finetune.marker_model.prior_for`).
    notes
        Decisions worth knowing.
    """

    table: AnnData
    markers: pd.DataFrame
    verdict: Verdict
    prior: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kept = int((self.markers["kept"] == "new").sum())
        answers = int(self.markers["answers"].sum())
        return f"<Recalibrated: {kept} of {len(self.markers)} markers, {answers:,} answers>"


@dataclass(frozen=True, eq=False)
class _Marker:
    """A marker with answers."""

    name: str
    rows: Array
    design: Float64Array
    answers: Answers
    old: Float64Array  # (cells,) logits of the model's own scores; 0 is the threshold
    calls: pd.DataFrame

    @property
    def weights(self) -> Float64Array:
        """Sampling weights; a cell that was chosen, not drawn, has none and stands for itself."""
        if gold.WEIGHT not in self.calls.columns:
            return np.ones(len(self.calls))
        return np.asarray(self.calls[gold.WEIGHT].fillna(1.0), np.float64)


def recalibrate(
    results: str | Path,
    annotations: pd.DataFrame,
    *,
    types: Sequence[str | Path] | None = None,
) -> Recalibrated:
    """Refit the markers of a result to annotations, and write its tables and types again.

    Nothing is scored. A marker's new scores are probabilities, judged at the model's threshold. A
    marker whose new scores are clearly worse on held-out answers keeps its old ones. The model's
    own scores stay in the layer ``score_before``; the next recalibration begins with them, and
    `panimbus.take_back` restores them.

    Parameters
    ----------
    results
        Folder of `panimbus predict`.
    annotations
        From `panimbus.read_annotations`: all answers so far, not only the latest. Undetermined ones
        are left out; several annotators are brought to a consensus.
    types
        Folders of `panimbus phenotype run`; default: those in ``results`` that were made from it.

    Raises
    ------
    InputError
        Before anything is written, on annotations that do not fit the result or decide nothing.

    Examples
    --------
    >>> import panimbus
    >>> panimbus.recalibrate("missing", None)
    Traceback (most recent call last):
    panimbus.core.errors.ReadError: missing: there is no such folder.
      expected:  what `panimbus predict` wrote
    """
    results = Path(results)
    table = open_result(results)
    used, notes = determined(annotations)
    check_in_table(used, table)
    name, prior = prior_for(str(table.uns[PROVENANCE].get("model")), list(table.layers))
    if name == "offset":
        notes.append(
            "scores of another model than the shipped priors know: only offsets are fitted"
        )
    if name == "plain":
        notes.append("the table has no evidence layers: scores, ranks and spread are used")
    markers = _markers(table, used, prior, notes)
    if not markers:
        raise InputError(
            "There is no annotation to recalibrate by.",
            expected="positive or negative annotations of cells that have a score",
            got=format_list(notes) or "none",
        )
    out, changes, verdict = _judge(table, markers, prior, name)
    written = rewrite(results, changes, types=types)
    out["changed"] = [
        int((np.asarray(written.layers["positive"])[:, k] != _calls_before(table, k)).sum())
        for k in (list(table.var_names).index(m) for m in out["marker"])
    ]
    write_csv(results / FILE, out, float_format="%.4g")
    return Recalibrated(written, out, verdict, name, tuple(notes))


def take_back(
    results: str | Path,
    markers: Sequence[str] | None = None,
    *,
    types: Sequence[str | Path] | None = None,
) -> AnnData:
    """Give recalibrated markers back the model's own scores and their earlier thresholds, exactly.

    Parameters
    ----------
    results
        Folder of `panimbus predict`.
    markers
        Default: all that are recalibrated.
    types
        As for `recalibrate`.

    Returns
    -------
    AnnData
        The table as written.

    Examples
    --------
    >>> import panimbus
    >>> panimbus.take_back("missing")
    Traceback (most recent call last):
    panimbus.core.errors.ReadError: missing: there is no such folder.
      expected:  what `panimbus predict` wrote
    """
    table = open_result(results)
    done = recalibrated_markers(table)
    if markers is None and not done:
        raise InputError(f"{results}: no marker is recalibrated.")
    changes = Changes(take_back=done if markers is None else list(markers))
    return rewrite(results, changes, types=types)


def _calls_before(table: AnnData, k: int) -> Array:
    return np.asarray(table.layers["positive"])[:, k]


def _markers(table: AnnData, used: pd.DataFrame, prior: Prior, notes: list[str]) -> list[_Marker]:
    """Markers with answers, each with the evidence of all cells."""
    names = [str(m) for m in table.var_names]
    own = model_scores(table)
    limits = table.var[LIMIT].to_numpy(np.float64)
    if LIMIT_BEFORE in table.var:
        before = table.var[LIMIT_BEFORE].to_numpy(np.float64)
        limits = np.where(np.isnan(before), limits, before)
    keys = pd.MultiIndex.from_arrays([table.obs[FOV].astype(str), table.obs[CELL]])
    out, blank, lost = [], [], 0
    for name, group in used.groupby(gold.CHANNEL, sort=False):
        k = names.index(str(name))
        layer = {n: np.asarray(x[:, k]) for n, x in table.layers.items() if n in (MEAN, SD)}
        if not np.nanmax(layer[MEAN], initial=0) > np.nanmin(layer[MEAN], initial=np.inf):
            blank.append(str(name))
            continue
        evidence = {n: np.asarray(table.layers[n][:, k]) for n in EVIDENCE if n in table.layers}
        design = prior.design(cell_features(own[:, k], layer[SD], layer[MEAN], evidence))
        rows = keys.get_indexer(pd.MultiIndex.from_frame(group[[gold.FOV, gold.CELL]]))
        usable = np.asarray(np.isfinite(design[rows]).all(1))
        lost += int((~usable).sum())
        if not usable.any():
            continue
        rows, calls = rows[usable], group.iloc[np.flatnonzero(usable)].reset_index(drop=True)
        high = np.where(likely(calls), LIKELY, 1.0)
        target = np.where(calls[TRUTH] == 1, high, 1 - high)
        old = logit(np.clip(own[:, k].astype(np.float64), _EDGE, 1 - _EDGE)) - logit(limits[k])
        out.append(_Marker(str(name), rows, design, Answers(design[rows], target), old, calls))
    if blank:
        notes.append(f"annotations of blank channels are left out: {format_list(blank)}")
    if lost:
        notes.append(f"{lost:,} annotations of cells without a score are left out")
    return out


def _judge(
    table: AnnData, markers: Sequence[_Marker], prior: Prior, name: str
) -> tuple[pd.DataFrame, Changes, Verdict]:
    """Which markers get new scores, and how they did on held-out answers."""
    answers = [m.answers for m in markers]
    held, fits = held_out_logits(answers, prior), fit_markers(answers, prior)
    usual = float(logit(float(table.uns[PROVENANCE]["threshold"])))
    done = set(recalibrated_markers(table))
    rows, parts = [], []
    scores: dict[str, Array] = {}
    how: dict[str, Any] = {}
    back = []
    for marker, new, b in zip(markers, held, fits, strict=True):
        old = marker.old[marker.rows]
        worse = clearly_worse(old, new, marker.answers.target)
        part = _Held(marker, old, new)
        rows.append(part.row() | {"kept": "old" if worse else "new"})
        parts.append(_Held(marker, old, old if worse else new))
        if not worse:
            scores[marker.name] = expit(marker.design @ b + usual).astype(np.float32)
            how[marker.name] = {
                "prior": name,
                "answers": len(marker.calls),
                "coefficients": [float(f"{x:.6g}") for x in b],
            }
        elif marker.name in done:
            back.append(marker.name)
    verdict = _together(parts)
    return pd.DataFrame(rows), Changes(scores=scores, how=how, take_back=back), verdict


@dataclass(frozen=True, eq=False)
class _Held:
    """Held-out answers of a marker with their old and new logits."""

    marker: _Marker
    old: Float64Array
    new: Float64Array

    @property
    def truth(self) -> Float64Array:
        return self.marker.calls[TRUTH].to_numpy(np.float64)

    @property
    def units(self) -> list[str]:
        calls = self.marker.calls
        return (calls[gold.FOV] + "\n" + calls[gold.CELL].astype(str)).tolist()

    def row(self) -> dict[str, Any]:
        weights = self.marker.weights
        before, after = (figures(expit(x), self.truth, weights, 0.5) for x in (self.old, self.new))
        low, high = _together([self]).gain["f1"]
        return {
            "marker": self.marker.name,
            "answers": len(self.truth),
            "positive": int(self.truth.sum()),
            "f1_before": before.f1,
            "f1_after": after.f1,
            "f1_gain_low": low,
            "f1_gain_high": high,
            "log_loss_before": before.log_loss,
            "log_loss_after": after.log_loss,
        }


def _together(parts: Sequence[_Held]) -> Verdict:
    return compare_scores(
        np.concatenate([expit(p.old) for p in parts]),
        np.concatenate([expit(p.new) for p in parts]),
        np.concatenate([p.truth for p in parts]),
        units=np.array([u for p in parts for u in p.units]),
        weights=np.concatenate([p.marker.weights for p in parts]),
    )


def recalibration_sentence(result: Recalibrated) -> str:
    """The outcome in a sentence."""
    old, new = result.verdict.old, result.verdict.new
    low, high = result.verdict.gain["f1"]
    table = result.markers
    kept = [str(m) for m in table.loc[table["kept"] == "old", "marker"]]
    stay = f", and unchanged: {format_list(kept, 8)}" if kept else ""
    return (
        f"{int(table['answers'].sum()):,} answers, {len(table) - len(kept)} of {len(table)} markers"
        f" recalibrated{stay}. On held-out answers, all markers together: F1 {old.f1:.3f} before,"
        f" {new.f1:.3f} after (95 % interval of the change {low:+.3f} to {high:+.3f}); log loss"
        f" {old.log_loss:.3f} before, {new.log_loss:.3f} after."
    )
