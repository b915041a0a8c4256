"""Whether annotations name FOVs, channels and cells that exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from panimbus.annotations.table import CELL, CHANNEL, FOV
from panimbus.core.errors import InputError, format_list
from panimbus.core.table import CELL as OBS_CELL
from panimbus.core.table import FOV as OBS_FOV
from panimbus.core.types import Array

if TYPE_CHECKING:
    from anndata import AnnData


def mismatches(
    annotations: pd.DataFrame, cells: Mapping[str, Array], channels: Mapping[str, Sequence[str]]
) -> list[str]:
    """FOVs, channels and cells of annotations that do not exist, one sentence each.

    Parameters
    ----------
    annotations
        From `panimbus.annotations.table.check_annotations`.
    cells
        FOV -> ids of its cells.
    channels
        FOV -> its channels.
    """
    problems = []
    if missing := [f for f in dict.fromkeys(annotations[FOV]) if f not in cells]:
        count = int(annotations[FOV].isin(missing).sum())
        counted = f"{count:,} annotation" + "s" * (count != 1)
        problems.append(
            f"FOVs that are not among the images: {format_list(missing, 8)} ({counted}; there are:"
            f" {format_list(list(cells), 8)})"
        )
    for fov, rows in annotations[annotations[FOV].isin(list(cells))].groupby(FOV, sort=False):
        name, ids = str(fov), rows[CELL].to_numpy()
        if unknown := [c for c in dict.fromkeys(rows[CHANNEL]) if c not in channels[name]]:
            problems.append(
                f"FOV {name!r} has no channel {format_list(unknown, 10)} (it has:"
                f" {format_list(list(channels[name]))})"
            )
        absent = ~np.isin(ids, cells[name])
        if absent.any():
            shown = format_list([str(i) for i in dict.fromkeys(ids[absent].tolist())], 10)
            hint = off_by_one(ids, cells[name])
            problems.append(
                f"FOV {name!r} has no cell {shown} ({int(absent.sum()):,} of its"
                f" {len(ids):,} annotations)"
                f"{hint}"
            )
    return problems


def raise_mismatches(problems: Sequence[str], target: str) -> None:
    """Raise all `mismatches` in one message.

    Raises
    ------
    InputError
        If there are any.
    """
    if problems:
        raise InputError(
            f"The annotations do not fit {target}.",
            got="\n             ".join(problems),
            fix=(
                "use the label images on which the annotations were made, and the FOVs' and"
                " channels' own names"
            ),
        )


def off_by_one(ids: Array, cells: Array) -> str:
    """A hint if all ids exist once they are one lower or higher.

    Examples
    --------
    >>> off_by_one(np.array([2, 3, 4]), np.array([1, 2, 3]))
    '; all are there if every cell_id is one lower'
    """
    shifts = [
        word for shift, word in ((-1, "lower"), (1, "higher")) if np.isin(ids + shift, cells).all()
    ]
    return (
        f"; all are there if every cell_id is one {' or '.join(shifts)}"
        if shifts and len(ids) > 1
        else ""
    )


def check_in_table(annotations: pd.DataFrame, table: AnnData) -> None:
    """Refuse annotations of FOVs, cells or channels that a cell table does not have.

    Raises
    ------
    InputError
        With all of them in one message.
    """
    fovs, ids = table.obs[OBS_FOV].astype(str).to_numpy(), table.obs[OBS_CELL].to_numpy()
    cells = {f: ids[fovs == f] for f in dict.fromkeys(fovs)}
    channels = [str(m) for m in table.var_names]
    raise_mismatches(mismatches(annotations, cells, dict.fromkeys(cells, channels)), "the result")
