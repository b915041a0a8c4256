"""Whether the tables of a dataset file fit its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panimbus.core.errors import ChannelError, InputError, format_list
from panimbus.data.dataset import DatasetFile
from panimbus.data.source import ScannedDataset

_SKIP = "--skip-bad-rows leaves such rows out and counts them"


def check_channels(name: str, wanted: Sequence[str], channels: Sequence[str]) -> None:
    """Refuse markers that the images do not have, and datasets without any."""
    if unknown := [m for m in wanted if m not in channels]:
        raise ChannelError(
            f"Dataset {name!r}: markers are named that the images do not have.",
            got=format_list(unknown),
            available=channels,
            fix="correct the spelling (names are case-sensitive)",
        )
    if not wanted:
        raise ChannelError(f"Dataset {name!r} has no marker to label.", available=channels)


def check_tables_fovs(
    file: DatasetFile, fovs: Sequence[str], table: pd.DataFrame | None, labels: pd.DataFrame | None
) -> None:
    """Refuse FOVs of tables that the images do not have."""
    if file.fovs is not None:  # a table of more FOVs than are wanted is fine
        return
    for name, frame in (("cells", table), ("labels", labels)):
        if frame is not None and (unknown := sorted(set(frame["fov"]) - set(fovs))):
            raise InputError(
                f"Dataset {file.name!r}: the table of {name} has FOVs that the images do not have.",
                got=format_list(unknown),
                available=fovs,
                fix=f"name the FOVs that are wanted: fovs = [...]; {_SKIP}",
            )


def check_cells_match(
    file: DatasetFile,
    scanned: ScannedDataset,
    table: pd.DataFrame | None,
    labels: pd.DataFrame | None,
) -> None:
    """Every problem between tables and label images, in one message."""
    problems: list[str] = []
    for name, frame in (("cells", table), ("labels", labels)):
        if frame is None:
            continue
        if name == "cells" and (twice := frame.duplicated(["fov", "cell_id"])).any():
            shown = [f"{f}:{c}" for f, c in frame.loc[twice, ["fov", "cell_id"]].head(5).to_numpy()]
            problems.append(
                f"{int(twice.sum()):,} cells are in the table twice: {format_list(shown)}"
            )
        groups = dict(tuple(frame.groupby("fov")["cell_id"]))
        for one in scanned.fovs:
            fov_id, ids = one.fov.fov_id, one.cell_id.astype(np.int64)
            named = (
                np.unique(groups[fov_id].to_numpy(np.int64))
                if fov_id in groups
                else np.zeros(0, np.int64)
            )
            lost, bare = np.setdiff1d(named, ids), np.setdiff1d(ids, named)
            if len(lost):
                problems.append(
                    f"FOV {fov_id}: {len(lost):,} cells of the table are not in the label image:"
                    f" {_few(lost)}"
                )
            if len(bare) and name == "cells" and file.missing == "error":
                problems.append(
                    f"FOV {fov_id}: {len(bare):,} cells of the label image are not in the table:"
                    f" {_few(bare)}"
                )
    if problems:
        shown = (
            problems if len(problems) <= 10 else [*problems[:10], f"and {len(problems) - 10} more"]
        )
        raise InputError(
            f"Dataset {file.name!r}: the tables and the label images do not hold the same cells.",
            got="\n             ".join(shown),
            fix=(
                'use the segmentation that the table was made of; missing = "undefined" accepts'
                f" cells that no table names; {_SKIP}"
            ),
        )


def _few(ids: npt.NDArray[Any]) -> str:
    return format_list([str(i) for i in ids[:5]]) + (", ..." if len(ids) > 5 else "")
