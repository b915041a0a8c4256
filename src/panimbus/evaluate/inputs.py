"""Inputs of an evaluation: a scored table, or datasets that are scored for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from panimbus.annotations.cells import read_cell_types, read_silver
from panimbus.annotations.matching import mismatches, raise_mismatches
from panimbus.annotations.read import read_annotations
from panimbus.annotations.table import with_truth
from panimbus.core.counterstain import reference_channels
from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.normaliser import fit_normaliser
from panimbus.core.scale import ChannelScale
from panimbus.core.scan import scan_cells
from panimbus.core.table import FOV, PROVENANCE
from panimbus.evaluate.config import EvalConfig, EvalDataset
from panimbus.evaluate.errors import Scene
from panimbus.evaluate.evaluation import Evaluation, evaluate_calls
from panimbus.evaluate.misfit import doubts
from panimbus.evaluate.published import read_published
from panimbus.evaluate.scored import CellMetadata, match_scores
from panimbus.evaluate.settings import EvaluateSettings
from panimbus.infer.output import read_normaliser
from panimbus.infer.predict import PredictSettings, predict
from panimbus.model.weights import resolve_model

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.model.card import ModelCard

logger = logging.getLogger(__name__)
Say = Callable[[str], None]


@dataclass
class EvaluationInputs:
    """Scored calls, and FOVs for the report.

    Parameters
    ----------
    scored
        Scored calls, one table per FOV.
    scenes
        FOVs whose cells can be shown.
    model
        Provenance of the scores.
    notes
        Remarks for the reader of the report.
    """

    scored: list[pd.DataFrame] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def threshold(self) -> float:
        """Score from which the model predicts a cell positive."""
        return float(self.model.get("threshold", 0.5))

    def doubt(self, calls: pd.DataFrame, tables: Mapping[str, AnnData]) -> None:
        """Note annotations that seem to belong to other cells."""
        for dataset, rows in calls.groupby("dataset", sort=False):
            for sentence in doubts(rows, tables):
                self.notes.append(": ".join(filter(None, (str(dataset), sentence))))
                logger.warning("%s", self.notes[-1])

    def evaluate(self, settings: EvaluateSettings | None = None) -> Evaluation:
        """Evaluate all calls."""
        scored = self.scored[0] if len(self.scored) == 1 else pd.concat(self.scored)
        return evaluate_calls(scored, settings or EvaluateSettings(threshold=self.threshold))

    def about(self) -> dict[str, str]:
        """Model, calls and threshold in words, for the head of a report."""
        model, calls = self.model, pd.concat(self.scored)
        fovs, left_out = calls.groupby(["dataset", "fov"]).ngroups, int((calls["truth"] < 0).sum())
        head = {
            "model": str(model.get("model"))
            if "model_sha256" not in model
            else (
                f"{model.get('model')} (version {model.get('model_version')},"
                f" {str(model.get('model_sha256'))[:10]}), test-time augmentation:"
                f" {dict(model.get('settings', {})).get('tta')}, panimbus {model.get('version')}"
            ),
            "calls": (
                f"{len(calls):,} in {fovs} FOV{'s' * (fovs != 1)}; {left_out:,} of them left out"
                " (undetermined)"
            ),
            "threshold": f"{self.threshold:g}",
        }
        return head | ({"note": "; ".join(self.notes)} if self.notes else {})


def evaluate_scores(
    table: AnnData,
    annotations: pd.DataFrame,
    *,
    likely: bool = True,
    metadata: CellMetadata | None = None,
    settings: EvaluateSettings | None = None,
) -> Evaluation:
    """Compare scores with annotations: F1 of each marker, baselines, calibration, confounders.

    Parameters
    ----------
    table
        Cell table of `panimbus.predict`.
    annotations
        From `panimbus.read_annotations`; one call per cell and channel.
    likely
        Whether "likely positive" counts as positive and "likely negative" as negative; otherwise
        they are left out.
    metadata
        Tissue, cell types and silver labels, for tables by group.
    settings
        Default: all FOVs of a marker together, and the threshold of the scores.

    Raises
    ------
    InputError
        If annotations name FOVs, channels or cells that are not in the table, or none is positive
        or negative.

    Examples
    --------
    >>> import panimbus
    >>> tissue = panimbus.simulate_tissue((96, 96), panel=1, seed=2)
    >>> fov = panimbus.from_array(tissue.image, tissue.labels, channels=["marker_1"], mpp=0.5)
    >>> table = panimbus.predict(fov)
    >>> settings = panimbus.EvaluateSettings(draws=10)
    >>> result = panimbus.evaluate_scores(table, tissue.annotations(), settings=settings)
    >>> result.markers["method"].iloc[0]
    'model'
    """
    inputs = from_table(with_truth(annotations, likely=likely), table, metadata or CellMetadata())
    return inputs.evaluate() if settings is None else evaluate_calls(inputs.scored[0], settings)


def from_table(
    calls: pd.DataFrame, table: AnnData, metadata: CellMetadata, fovs: Sequence[Fov] = ()
) -> EvaluationInputs:
    """Inputs from a table of `panimbus predict`.

    Parameters
    ----------
    calls
        From `panimbus.annotations.table.with_truth`.
    table
    metadata
    fovs
        Images with label images, for pictures; FOVs without calls or scores are ignored.
    """
    out = EvaluationInputs(
        [match_scores(table, calls, metadata)], model=dict(table.uns[PROVENANCE])
    )
    names = table.obs[FOV].astype(str)
    out.doubt(calls, {fov: table[(names == fov).to_numpy()] for fov in dict.fromkeys(names)})
    for fov in fovs:
        rows = table[(table.obs[FOV].astype(str) == fov.fov_id).to_numpy()]
        if rows.n_obs and fov.labels is not None:
            out.scenes += [
                Scene(str(d), fov, rows)
                for d in calls.loc[calls["fov"] == fov.fov_id, "dataset"].unique()
            ]
    if len(fovs) and not out.scenes:
        out.notes.append("no FOV of the images has calls, so no cell is shown")
    return out


def from_published(path: Path, positions: Path | None = None) -> EvaluationInputs:
    """Inputs from the paper's table of calls; see `panimbus.evaluate.published.read_published`."""
    scored = read_published(path, positions)
    out = EvaluationInputs([scored], model={"model": "scores of the table (column nimbus)"})
    out.notes.append("mean intensities are those of the table's cells (column ie)")
    if positions is None:
        out.notes.append("sparsity and density need the cells' positions (--positions)")
    return out


def from_config(
    config: EvalConfig, *, model: str | None = None, tta: str | None = None, say: Say | None = None
) -> EvaluationInputs:
    """Predict the FOVs with calls, each dataset with the normaliser of all its FOVs.

    Parameters
    ----------
    config
        From `read_evaluation_file`.
    model
        Name or path; None for the default model.
    tta
        Test-time augmentation; None for the model's.
    say
        Called with messages on the progress.

    Raises
    ------
    InputError
        Before anything is scored, with all FOVs, channels or cells that do not exist.
    """
    say = say or (lambda _: None)
    card = resolve_model(model).card
    settings = PredictSettings(tta or card.tta)
    out = EvaluationInputs()
    calls = _calls(config, out)
    opened = {d.name: d.open() for d in config.dataset}
    metadata = {d.name: _metadata(d, config) for d in config.dataset}
    raise_mismatches(
        [f"{n}: {p}" for n, fovs in opened.items() for p in _problems(calls[n], fovs)],
        "the images and label images",
    )
    for note in out.notes:
        say(f"note: {note}")
    for dataset in config.dataset:
        annotated, fovs = calls[dataset.name], {f.fov_id: f for f in opened[dataset.name]}
        say(
            f"{dataset.name}: normaliser of {len(fovs)} FOV{'s' * (len(fovs) != 1)},"
            f" {annotated['channel'].nunique()} markers ..."
        )
        scale = _scale(dataset, list(fovs.values()), annotated, card)
        for fov_id, rows in annotated.groupby("fov", sort=False):
            fov, channels = fovs[str(fov_id)], list(dict.fromkeys(rows["channel"]))
            say(f"{dataset.name}: scoring {fov_id}, {len(channels)} markers ...")
            table = predict(fov, model=model, channels=channels, scale=scale, settings=settings)
            out.scored.append(match_scores(table, rows, metadata[dataset.name]))
            out.scenes.append(Scene(dataset.name, fov, table))
            out.model = dict(table.uns[PROVENANCE])
        out.doubt(
            annotated, {s.fov.fov_id: s.table for s in out.scenes if s.dataset == dataset.name}
        )
    return out


def _calls(config: EvalConfig, out: EvaluationInputs) -> dict[str, pd.DataFrame]:
    """The calls of each dataset."""
    shared = _read_truth(config.calls, config) if config.calls is not None else None
    calls = {}
    for dataset in config.dataset:
        if dataset.calls is not None:
            own = _read_truth(dataset.calls, config)
            calls[dataset.name] = own[own["dataset"].isin(["", dataset.name])].assign(
                dataset=dataset.name
            )
        elif shared is not None:
            calls[dataset.name] = shared[shared["dataset"] == dataset.name]
    if empty := [name for name, rows in calls.items() if not len(rows)]:
        names = sorted(set(shared["dataset"])) if shared is not None else []
        raise InputError(
            f"There are no annotations of dataset {', '.join(map(repr, empty))}.", available=names
        )
    if shared is not None and (spare := sorted(set(shared["dataset"]) - set(calls))):
        out.notes.append(f"calls of other datasets are not looked at: {', '.join(spare)}")
    return calls


def _read_truth(path: Path, config: EvalConfig) -> pd.DataFrame:
    return with_truth(read_annotations(path), likely=config.likely, source=str(path))


def _problems(calls: pd.DataFrame, fovs: Sequence[Fov]) -> list[str]:
    """FOVs, channels and cells of calls that the files do not have."""
    wanted, empty = set(calls["fov"]), np.zeros(0, np.int64)
    labelled = {f.fov_id: f for f in fovs if f.labels is not None}
    cells = {
        k: scan_cells(f.with_(mpp=f.mpp or 1.0), 1.0).index.ids if k in wanted else empty
        for k, f in labelled.items()
    }
    return mismatches(calls, cells, {k: f.channels for k, f in labelled.items()})


def _metadata(dataset: EvalDataset, config: EvalConfig) -> CellMetadata:
    types, silver = dataset.cell_types, dataset.silver
    return CellMetadata(
        dataset.tissue,
        read_cell_types(types.file, column=types.column, fov=types.fov) if types else None,
        read_silver(silver.file, columns=silver.columns, fov=silver.fov) if silver else None,
        config.radius_px,
    )


def _scale(
    dataset: EvalDataset, fovs: Sequence[Fov], calls: pd.DataFrame, card: ModelCard
) -> ChannelScale:
    """The normaliser of the whole dataset."""
    if dataset.normaliser is not None:
        return read_normaliser(dataset.normaliser)
    channels = list(dict.fromkeys(calls["channel"]))
    return fit_normaliser(
        fovs,
        channels,
        card,
        reference=reference_channels(channels, fovs, card.stats),
    )
