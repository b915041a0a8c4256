"""Pan-M as training data: the plan of a store from a folder of it, with dataset files ready."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from panimbus.core.errors import InputError
from panimbus.data.dataset import StoreDataset, StoreFile, read_dataset_file
from panimbus.io.names import list_folder
from panimbus.io.panm import (
    DATASETS,
    GOLD_IMAGES,
    SILVER_IMAGES,
    choose_datasets,
    find_root,
    inner,
    present_datasets,
)

FILES = Path(__file__).parent / "panm_files"
SPLIT_FILES = {
    "codex_colon": "hickey_split.json",
    "mibi_breast": "tonic_split.json",
    "mibi_decidua": "decidua_split.json",
    "vectra_colon": "msk_colon_split.json",
    "vectra_pancreas": "msk_pancreas_split.json",
}
"""The authors' files of splits (github.com/angelolab/Nimbus, folders ``configs``)."""
PERCENTILE = 99.99
"""Of the paper's normaliser."""


def plan_panm(folder: str | Path, datasets: Sequence[str] | None = None) -> StoreFile:
    """Plan a store of Pan-M with the settings of the paper.

    A dataset is described by the file that comes with panimbus, or by ``<dataset>.toml`` in the
    folder. The authors' split of a dataset is used where its file lies in the folder, in its
    folder ``configs``, or in that of the dataset; else FOVs are split by a hash of their names.

    Parameters
    ----------
    folder
        That holds the datasets, or one above it.
    datasets
        Which of them; default: all that are there.

    Raises
    ------
    ReadError, InputError
        If it is no folder of Pan-M, or a wanted dataset is not there.
    """
    root = find_root(Path(folder))
    if not present_datasets(root, SILVER_IMAGES) and present_datasets(root, (GOLD_IMAGES,)):
        raise InputError(
            f"{root}: this is the gold standard of Pan-M, which is never trained on.",
            expected="the large set: <dataset>/image_data or <dataset>/raw_structured",
            fix="panimbus fetch pan-m --out FOLDER; evaluate a model on the gold standard",
        )
    chosen = choose_datasets(root, datasets, SILVER_IMAGES)
    return StoreFile(percentile=PERCENTILE, datasets=[_dataset(root, name) for name in chosen])


def missing_datasets(plan: StoreFile) -> list[str]:
    """Datasets of Pan-M that a plan does not have."""
    planned = {Path(one.file).stem for one in plan.datasets}
    return [name for name in DATASETS if name not in planned]


def _dataset(root: Path, name: str) -> StoreDataset:
    own = root / f"{name}.toml"
    file = own if own.is_file() else FILES / f"{name}.toml"
    return StoreDataset(
        file=str(file.absolute()),
        root=str((root / name).absolute()),
        changes=_changes(root, file, name),
    )


def _changes(root: Path, file: Path, name: str) -> dict[str, Any]:
    """The gold FOVs that are there, and the file of splits, if there is one."""
    given = read_dataset_file(file)
    images = inner(root / name, SILVER_IMAGES)
    fovs = _fov_names(images) if images is not None else set()
    changes: dict[str, Any] = {"gold": [f for f in given.gold if f in fovs]}
    split = SPLIT_FILES[name]
    places = [p / split for p in (root, root / "configs", root / name)]
    found_at = next((p for p in places if p.is_file()), None)
    if given.split_file is None and found_at is not None:
        changes["split_file"] = str(found_at.absolute())
    elif given.split_file is None:
        changes["note"] = (
            f"{given.note}; {split} is not there, so FOVs are split by a hash of their names".strip(
                "; "
            )
        )
    return changes


def _fov_names(images: Path) -> set[str]:
    """Names of the FOV folders, which may lie in a folder ``samples``."""
    samples = images / "samples"
    return {p.name for p in list_folder(samples if samples.is_dir() else images) if p.is_dir()}
