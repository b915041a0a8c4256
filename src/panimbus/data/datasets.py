"""From dataset files to a training store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panimbus.core.errors import InputError, format_list
from panimbus.core.normaliser import Normalisation
from panimbus.core.progress import OnProgress, silent
from panimbus.data.build import StoreSettings, write_store
from panimbus.data.dataset import (
    StoreDataset,
    StoreFile,
    is_store_file,
    planned,
    read_store_file,
)
from panimbus.data.panm import plan_panm
from panimbus.data.silver import ExclusionRule
from panimbus.data.silver_dataset import SilverDataset, SilverSettings, build_silver_labels
from panimbus.data.source import Source
from panimbus.data.store import Store
from panimbus.io.location import resolve_path


def build_dataset(
    files: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    root: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    exclusion: ExclusionRule | None = None,
    skip_bad_rows: bool = False,
    progress: OnProgress = silent,
) -> Store:
    """Make silver labels of datasets and write them as a training store.

    Parameters
    ----------
    files
        Dataset files (TOML), one file that names several (``[[datasets]]``), or a folder of Pan-M.
    out
        New folder of the store. An interrupted run continues.
    root
        Folder of the data of a single dataset, instead of the one in its file.
    settings
        Settings of `panimbus.data.dataset.StoreFile`, e.g. ``{"mpp": 0.5, "tile": 256}``.
    exclusion
        Leave out the markers that this rule proposes to exclude; default: keep all.
    skip_bad_rows
        Leave out rows of tables that do not fit (`DatasetFile.bad_rows`), and count them.
    progress
        Called with stage, FOV, and the number of FOVs finished and in all.

    Returns
    -------
    Store
        For `panimbus.train_model`.

    Raises
    ------
    InputError
        If a file, table or image does not fit the others.

    Examples
    --------
    >>> build_dataset("missing.toml", "store")
    Traceback (most recent call last):
    panimbus.core.errors.ReadError: missing.toml: there is no such file.
      expected:  a dataset file (TOML)
    """
    given = [files] if isinstance(files, str | Path) else files
    plan = plan_store([Path(f) for f in given], root=root, **(settings or {}))
    plan = skipping_bad_rows(plan) if skip_bad_rows else plan
    labelled = label_datasets(
        plan, exclusion, exclude_proposed=exclusion is not None, progress=progress
    )
    return write_store(
        out, [source for _, source in labelled], store_settings(plan), progress=progress
    )


def plan_store(
    files: Sequence[Path],
    *,
    root: str | Path | None = None,
    datasets: Sequence[str] | None = None,
    **settings: Any,
) -> StoreFile:
    """Collect dataset files into one plan with paths that hold from here.

    Parameters
    ----------
    files, root
        See `build_dataset`.
    datasets
        Of a folder of Pan-M: only these.
    **settings
        Fields of `StoreFile` that replace those of the file.
    """
    if len(files) == 1 and files[0].is_dir():
        return planned(plan_panm(files[0], datasets), settings)
    if datasets is not None:
        raise InputError(
            "--datasets chooses among the datasets of a folder of Pan-M.",
            got=format_list([str(f) for f in files]),
            fix="name the dataset files that are wanted",
        )
    if len(files) == 1 and is_store_file(files[0]):
        plan, folder = read_store_file(files[0]), files[0].parent
        parts = [
            one.model_copy(
                update={
                    "file": str(resolve_path(folder, one.file)),
                    "root": None if one.root is None else str(resolve_path(folder, one.root)),
                }
            )
            for one in plan.datasets
        ]
        return planned(plan.model_copy(update={"datasets": parts}), settings)
    if root is not None and len(files) > 1:
        raise InputError(
            "--root applies to a single dataset.",
            got=f"{len(files)} files",
            fix="give the roots in a file with [[datasets]]",
        )
    folder_of_data = None if root is None else str(root)
    parts = [StoreDataset(file=str(f), root=folder_of_data) for f in files]
    return planned(StoreFile(datasets=parts), settings)


def skipping_bad_rows(plan: StoreFile) -> StoreFile:
    """A plan in which rows of tables that do not fit are left out and counted."""
    return plan.model_copy(
        update={
            "datasets": [
                one.model_copy(update={"changes": {**one.changes, "bad_rows": "leave out"}})
                for one in plan.datasets
            ]
        }
    )


def store_settings(plan: StoreFile) -> StoreSettings:
    """Settings of the store that a plan describes."""
    return StoreSettings(plan.tile, plan.overlap, plan.seed)


def label_datasets(
    plan: StoreFile,
    exclusion: ExclusionRule | None = None,
    *,
    exclude_proposed: bool = False,
    progress: OnProgress = silent,
) -> Iterator[tuple[SilverDataset, Source]]:
    """Make the silver labels of each dataset of a plan.

    Yields
    ------
    silver : SilverDataset
        Labels, and their agreement with the images.
    source : Source
        The dataset for `panimbus.data.build.write_store`.
    """
    settings = SilverSettings(
        Normalisation(plan.mpp, plan.percentile, plan.percentile_over),
        exclusion or ExclusionRule(),
        exclude_proposed,
        plan.seed,
    )
    for one in plan.datasets:
        silver = build_silver_labels(
            one.file, settings, root=one.root, changes=one.changes, progress=progress
        )
        yield silver, replace(silver.source, share=one.share)
