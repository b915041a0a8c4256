"""Functions of the public Python API that join several rooms; import them from `panimbus`.

The other functions of the API are defined in their rooms; `panimbus.__init__` lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panimbus.core.errors import InputError, MissingExtraError
from panimbus.infer.settings import Progress

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from panimbus.core.fov import Fov
    from panimbus.core.scale import ChannelScale
    from panimbus.data.dataset import StoreFile
    from panimbus.data.silver_dataset import SilverDataset
    from panimbus.data.store import Store
    from panimbus.evaluate.evaluation import EvaluateSettings, Evaluation
    from panimbus.finetune.finetune import Finetuned
    from panimbus.finetune.steps import FinetuneSettings
    from panimbus.train.config import TrainConfig
    from panimbus.train.loop import TrainProgress

OnProgress = Callable[[Progress], None]


def _steps(progress: OnProgress | None) -> Callable[[str, str, int, int], None]:
    """A callback (stage, FOV, done, total) that makes a `Progress` of its arguments."""

    def report(stage: str, fov_id: str, done: int, total: int) -> None:
        if progress is not None:
            progress(Progress(stage, fov_id, done, total))

    return report


def _table(annotations: pd.DataFrame | str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Annotations that are checked, from a table or from files."""
    import pandas as pd

    from panimbus.annotations.table import check_annotations, read_annotations

    if isinstance(annotations, pd.DataFrame):
        return check_annotations(annotations)
    return read_annotations(annotations)


def evaluate_scores(
    scores: AnnData | str | Path,
    annotations: pd.DataFrame | str | Path | Sequence[str | Path],
    *,
    cell_types: pd.DataFrame | None = None,
    silver: pd.DataFrame | None = None,
    likely: bool = True,
    settings: EvaluateSettings | None = None,
) -> Evaluation:
    """Compare the scores of a cell table with annotations.

    Parameters
    ----------
    scores
        Cell table of `panimbus.predict`, or the path of its ``cells.h5ad``.
    annotations
        Table of `panimbus.read_annotations`, or the paths of CSV files.
    cell_types
        Table of `panimbus.read_cell_types`, to evaluate per cell type.
    silver
        Table of `panimbus.read_silver`, which is evaluated like a method.
    likely
        Whether "likely positive" and "likely negative" are used; undetermined ones never are.
    settings
        Unit of the F1, threshold, number of bootstrap draws and seed. Default: the threshold of
        the table.

    Returns
    -------
    Evaluation
        ``means`` (per dataset and method), ``markers``, ``groups`` (tissues and cell types),
        ``curves`` (calibration) and ``confounders``, beside baselines on the same cells.

    Raises
    ------
    InputError
        If annotations name FOVs, channels or cells that the table does not have.

    Examples
    --------
    >>> import panimbus
    >>> tissue = panimbus.simulate_tissue((96, 96), seed=1)
    >>> fov = panimbus.from_array(
    ...     tissue.image, tissue.labels, channels=tissue.channels, mpp=tissue.mpp
    ... )
    >>> table = panimbus.predict(fov, channels=["CD3"])
    >>> annotations = tissue.annotations("fov").query("channel == 'CD3'")
    >>> panimbus.evaluate_scores(table, annotations).means["method"].iloc[0]
    'model'
    """
    import pandas as pd

    from panimbus.annotations.table import with_truth
    from panimbus.evaluate.evaluation import evaluate_calls
    from panimbus.evaluate.inputs import from_table
    from panimbus.evaluate.scored import CellMetadata
    from panimbus.io.h5ad import read_h5ad
    from panimbus.io.scores import check_cell_table

    if isinstance(scores, str | Path):
        scores = check_cell_table(read_h5ad(scores), str(scores))
    calls = _table(annotations)
    metadata = CellMetadata(cell_types=cell_types, silver=silver)
    loaded = from_table(with_truth(calls, likely=likely), scores, metadata)
    if settings is None:
        return loaded.evaluate()
    return evaluate_calls(pd.concat(loaded.scored, ignore_index=True), settings)


def build_dataset(  # noqa: PLR0913 (the store, and what is done on the way)
    plan: StoreFile | str | Path | Sequence[str | Path],
    out: str | Path | None,
    *,
    changes: Mapping[str, Any] | None = None,
    reports: str | Path | None = None,
    exclude_proposed: bool = False,
    min_auc: float = 0.7,
    progress: OnProgress | None = None,
    on_dataset: Callable[[SilverDataset, Path | None], None] | None = None,
) -> Store | None:
    """Make the silver labels of datasets and write a store of training examples.

    Parameters
    ----------
    plan
        Dataset files (TOML), or one file that lists several (``[[datasets]]``).
    out
        Folder of the new store; an interrupted run continues. None only makes the reports.
    changes
        Settings of the store instead of those of ``plan``: ``mpp``, ``tile``, ``overlap``,
        ``percentile``, ``percentile_over``, ``extra``, ``seed``.
    reports
        Folder for one HTML report per dataset; None writes none.
    exclude_proposed
        Exclude the markers whose labels do not agree with the images.
    min_auc
        Minimum agreement (AUC) of the labels of a marker with its intensity.
    progress
        Called with a `Progress` for each FOV.
    on_dataset
        Called with each labelled dataset and its report.

    Returns
    -------
    Store
        The opened store, for `panimbus.train_model`; None without ``out``.

    Raises
    ------
    InputError, ReadError
        On dataset files, tables or images that cannot be used, or if ``out`` exists.

    Examples
    --------
    >>> import panimbus
    >>> panimbus.build_dataset("missing.toml", "store")
    Traceback (most recent call last):
    panimbus.core.errors.ReadError: missing.toml: there is no such file.
      expected:  a dataset file (TOML)
    """
    from panimbus.data.build import StoreSettings, write_store
    from panimbus.data.dataset import StoreFile, planned, read_plan
    from panimbus.data.silver import ExclusionRule
    from panimbus.data.silver_dataset import SilverSettings, build_silver_labels
    from panimbus.evaluate.silver_page import write_report

    if not isinstance(plan, StoreFile):
        plan = read_plan([plan] if isinstance(plan, str | Path) else list(plan))
    plan = planned(plan, changes or {})
    if out is not None and Path(out).exists():
        raise InputError(
            f"{out} already exists.",
            expected="a new folder",
            fix="choose another name, or remove the folder",
        )
    roles, rule = tuple(plan.extra), ExclusionRule(min_auc=min_auc)
    settings = SilverSettings(
        plan.mpp, plan.percentile, plan.percentile_over, rule, exclude_proposed, roles, plan.seed
    )
    sources, report = [], _steps(progress)
    for dataset in plan.datasets:
        silver = build_silver_labels(dataset.file, settings, root=dataset.root, on_progress=report)
        page = None if reports is None else write_report(silver, Path(reports))
        if on_dataset is not None:
            on_dataset(silver, page)
        share = silver.source.share if dataset.share is None else dataset.share
        sources.append(replace(silver.source, share=share))
    if out is None:
        return None
    store = StoreSettings(plan.tile, plan.overlap, roles, plan.seed)
    return write_store(Path(out), sources, store, on_progress=report)


def train_model(
    settings: TrainConfig | str | Path,
    store: Store | str | Path | None,
    out: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
) -> dict[str, Any]:
    """Train a model, or continue an interrupted run.

    Parameters
    ----------
    settings
        A preset (``small``, ``default``, ``paper``), a TOML file, or its contents.
    store
        Store of `panimbus.build_dataset`; None if the settings use only simulated tissue.
    out
        Folder of the run: ``model.safetensors``, ``model.onnx``, ``result.json`` and curves.
    changes
        Settings that replace those of ``settings``, nested as in the TOML file:
        ``{"seed": 1, "machine": {"device": "cpu"}}``.
    progress
        Called after every step.

    Returns
    -------
    dict
        Contents of ``result.json``: ``step``, ``steps``, ``val_f1`` and others.

    Raises
    ------
    InputError, ReadError
        On settings or a store that cannot be used, or without the extra ``train``.

    Examples
    --------
    >>> import panimbus
    >>> panimbus.train_model("huge", None, "run")
    Traceback (most recent call last):
    panimbus.core.errors.InputError: Unknown preset 'huge'.
      available: default, paper, small
      fix:       name one of these, or give the path of a .toml file
    """
    from panimbus.train.config import TrainConfig, load_config, make_config, overlaid
    from panimbus.train.fovs import open_store

    config = settings if isinstance(settings, TrainConfig) else load_config(settings)
    if changes:
        whole = overlaid(config.model_dump(), changes)
        config = make_config(whole, source="the changed settings")
    examples = open_store(store) if isinstance(store, str | Path) else store
    try:
        from panimbus.train.loop import train
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("training", "train") from error
    return train(config, examples, out, progress)


def finetune_model(
    fovs: Sequence[Fov],
    annotations: pd.DataFrame | str | Path | Sequence[str | Path],
    *,
    model: str | Path | None = None,
    scale: ChannelScale | None = None,
    settings: FinetuneSettings | None = None,
    out: str | Path | None = None,
    progress: OnProgress | None = None,
) -> Finetuned:
    """Fine-tune a model on annotations and compare it with the old model on held-out ones.

    Parameters
    ----------
    fovs
        All FOVs of the dataset, with labels and pixel sizes; the normaliser is fitted to all.
    annotations
        Table of `panimbus.read_annotations`, or the paths of CSV files.
    model
        Model to start from, as for `panimbus.predict`.
    scale
        Normaliser of an earlier run on the same dataset.
    settings
        Mode, training steps, seed and device.
    out
        New folder for the report and, if it is better, the model; None writes nothing.
    progress
        Called with a `Progress`.

    Returns
    -------
    Finetuned
        ``kept`` is True if the new model is better on held-out annotations.

    Raises
    ------
    InputError
        On annotations that cannot be used, or without the extra ``train``.

    Examples
    --------
    >>> import panimbus
    >>> panimbus.finetune_model([], "missing.csv")
    Traceback (most recent call last):
    panimbus.core.errors.ReadError: ...
    """
    try:
        from panimbus.finetune.finetune import finetune
        from panimbus.finetune.report import check_out, save
    except ImportError as error:
        raise MissingExtraError("fine-tuning", "train") from error
    if out is not None:
        check_out(Path(out))
    table = _table(annotations)
    result = finetune(
        fovs, table, model=model, scale=scale, settings=settings, report=_steps(progress)
    )
    if out is not None:
        save(result, out)
    return result
