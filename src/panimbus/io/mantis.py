"""Write a project that Mantis Viewer opens: label images, channels, populations and features of cells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from panimbus.core.errors import InputError
from panimbus.core.fov import Array
from panimbus.io.segmented import Segmented
from panimbus.io.write import atomic_path

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def write_mantis(out: Path, segmented: Sequence[Segmented], populations: pd.DataFrame, features: pd.DataFrame) -> None:
    """Write a project folder ("New Project" in Mantis Viewer).

    ``<fov>/cell_segmentation.tiff`` and, where there are images, ``<fov>/markers/<channel>.tiff``; ``populations.csv`` (no
    header) and ``segment_features.csv``. The folders have the FOVs' own names, because the tables refer to them. TIFFs are plain
    strips, which every version reads, and have no description: Mantis Viewer looks for a marker's name there before it takes the
    file's.

    Parameters
    ----------
    out
        The folder; written whole or not at all.
    segmented
        FOVs.
    populations
        FOV, cell, type.
    features
        FOV, cell, numbers.
    """
    with atomic_path(out) as project:
        project.mkdir()
        for one in segmented:
            if not _is_folder_name(one.fov_id):
                logger.warning("FOV %r has a name that cannot be a folder's: it is left out of the Mantis project", one.fov_id)
                continue
            folder = project / one.fov_id
            folder.mkdir()
            labels = one.read()
            _write_labels(folder / "cell_segmentation.tiff", labels, one.fov_id)
            if one.image is not None:
                (folder / "markers").mkdir()
                for i, channel in enumerate(one.image.channels):
                    plane = one.image.image[i, 0 : labels.shape[0], 0 : labels.shape[1]]
                    path = folder / "markers" / f"{_file_name(channel)}.tiff"
                    tifffile.imwrite(path, plane, photometric="minisblack", metadata=None)
        populations.to_csv(project / "populations.csv", index=False, header=False)
        features.round(4).to_csv(project / "segment_features.csv", index=False)


def _write_labels(path: Path, labels: Array, fov_id: str) -> None:
    largest = int(labels.max(initial=0))
    if largest >= 2**32:
        raise InputError(
            f"FOV {fov_id!r}: cell ids above {2**32 - 1} do not fit a Mantis project.", got=str(largest), fix="leave out --mantis"
        )
    tifffile.imwrite(path, labels.astype(np.uint16 if largest < 2**16 else np.uint32), photometric="minisblack", metadata=None)


def _is_folder_name(name: str) -> bool:
    return Path(name).name == name and name not in ("", ".", "..")


def _file_name(channel: str) -> str:
    return "".join("_" if c in '/\\:*?"<>|' else c for c in channel)
