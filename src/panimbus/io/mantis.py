"""Write a project that Mantis Viewer opens.

Label images, channels, populations and features of cells.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from panimbus.core.errors import InputError
from panimbus.core.types import Array
from panimbus.io.files import atomic_path
from panimbus.io.names import fingerprint
from panimbus.io.segmented import Segmented

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 200  # bytes of a name, with room for an ending
logger = logging.getLogger(__name__)


def write_mantis(
    out: Path, segmented: Sequence[Segmented], populations: pd.DataFrame, features: pd.DataFrame
) -> None:
    """Write a project folder ("New Project" in Mantis Viewer).

    ``<fov>/cell_segmentation.tiff`` and, where there are images, ``<fov>/markers/<channel>.tiff``;
    ``populations.csv`` (no header) and ``segment_features.csv``. The folders have the FOVs' own
    names, because the tables refer to them. TIFFs are plain strips, which every version reads, and
    have no description: Mantis Viewer looks for a marker's name there before it takes the file's.

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
                logger.warning(
                    "FOV %r has a name that cannot be a folder's: it is left out of the Mantis"
                    " project",
                    one.fov_id,
                )
                continue
            folder = project / one.fov_id
            folder.mkdir()
            labels = one.read()
            _write_labels(folder / "cell_segmentation.tiff", labels, one.fov_id)
            if one.image is not None:
                (folder / "markers").mkdir()
                files = _file_names(one.image.channels)
                for i, file in enumerate(files):
                    plane = one.image.image[i, 0 : labels.shape[0], 0 : labels.shape[1]]
                    path = folder / "markers" / f"{file}.tiff"
                    tifffile.imwrite(path, plane, photometric="minisblack", metadata=None)
        populations.to_csv(project / "populations.csv", index=False, header=False)
        features.round(4).to_csv(project / "segment_features.csv", index=False)


def _write_labels(path: Path, labels: Array, fov_id: str) -> None:
    largest = int(labels.max(initial=0))
    if largest >= 2**32:
        raise InputError(
            f"FOV {fov_id!r}: cell ids above {2**32 - 1} do not fit a Mantis project.",
            got=str(largest),
            fix="leave out --mantis",
        )
    tifffile.imwrite(
        path,
        labels.astype(np.uint16 if largest < 2**16 else np.uint32),
        photometric="minisblack",
        metadata=None,
    )


def _is_folder_name(name: str) -> bool:
    return (
        Path(name).name == name
        and name not in ("", ".", "..")
        and len(name.encode(errors="replace")) <= _LONGEST
    )


def _file_names(channels: Sequence[str]) -> list[str]:
    """Mantis Viewer shows these as the markers' names.

    As they are, as far as a file can be called so; one a channel.
    """
    files = [
        "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in name) for name in channels
    ]
    files = [
        f if len(f.encode(errors="replace")) <= _LONGEST else f[: _LONGEST // 4] for f in files
    ]
    count = Counter(file.casefold() for file in files)
    return [
        (
            file
            if count[file.casefold()] == 1 and file.strip(".")
            else f"{file}-{fingerprint(name, 3)}"
        )
        for name, file in zip(channels, files, strict=True)
    ]
