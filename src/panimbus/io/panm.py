"""Where the datasets of Pan-M lie in a folder, as its archives and its authors' scripts have them.

The large set is ``<dataset>/<images>/<fov>/<marker>.tif`` (or ``.tiff``, ``.ome.tif``) with tables
of cells (angelolab/Nimbus, angelolab/publications); the gold standard is
``<dataset>/fovs/<fov>/<marker>.ome.tif``, ``<dataset>/masks`` and one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.io.names import list_folder

DATASETS = ("codex_colon", "mibi_breast", "mibi_decidua", "vectra_colon", "vectra_pancreas")
TRUTH = "gold_standard_groundtruth.csv"
GOLD_IMAGES = "fovs"
SILVER_IMAGES = ("image_data", "raw_structured")
MPP = 0.5
"""Micrometres per pixel that are assumed: the published code takes all datasets as 20x."""


def inner(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these folders that a folder has."""
    return next((folder / n for n in names if (folder / n).is_dir()), None)


def present_datasets(root: Path, images: Sequence[str]) -> list[str]:
    """Datasets of which a folder holds images, in the order of `DATASETS`."""
    return [d for d in DATASETS if inner(root / d, images) is not None]


def choose_datasets(
    root: Path, wanted: Sequence[str] | None, images: Sequence[str]
) -> tuple[str, ...]:
    """The wanted datasets, or all that are there.

    Raises
    ------
    InputError
        If one is not there; the message names those that are.
    """
    present = present_datasets(root, images)
    chosen = tuple(present if wanted is None else wanted)
    if unknown := [d for d in chosen if d not in DATASETS]:
        raise InputError("Pan-M has no such dataset.", got=format_list(unknown), available=DATASETS)
    if missing := [d for d in chosen if d not in present]:
        raise InputError(
            f"{root}: datasets of Pan-M are not there.",
            got=format_list(missing),
            available=present,
            fix=f"panimbus fetch pan-m --datasets {','.join(missing)} --out FOLDER",
        )
    return chosen


def find_root(path: Path) -> Path:
    """The folder with the datasets.

    ``path``, or the one folder up to two levels below that has them.
    """
    if not path.is_dir():
        raise ReadError(f"{path}: no such folder.", fix="panimbus fetch pan-m-gold --out FOLDER")
    level = [path]
    for _ in range(3):
        roots = [
            p
            for p in level
            if (p / TRUTH).is_file() or present_datasets(p, (GOLD_IMAGES, *SILVER_IMAGES))
        ]
        if roots:
            return roots[0]
        level = [c for p in level for c in list_folder(p) if c.is_dir()]
    raise ReadError(
        f"{path}: this is not the layout of Pan-M.",
        expected=(
            f"for {', '.join(DATASETS)}: <dataset>/{GOLD_IMAGES}/* and {TRUTH}, or"
            f" <dataset>/{' or '.join(SILVER_IMAGES)}/*"
        ),
        got=format_list([p.name for p in list_folder(path)], 10),
        fix="panimbus fetch pan-m --out FOLDER",
    )
