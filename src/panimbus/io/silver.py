"""Silver labels in tables: one row per cell and channel, or one column per marker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.errors import InputError, format_list
from panimbus.io.numbers import to_numbers

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 8


def long_labels(
    frame: pd.DataFrame, where: object, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Bring a table of labels into long form and check it.

    Parameters
    ----------
    frame
        Columns fov, cell_id (int64), and channel and label, or one column per marker.
    where
        The file, for messages.
    columns
        Marker -> column, for a wide table with other column names; other columns are ignored.

    Returns
    -------
    DataFrame
        fov, channel : str; cell_id : int64; label : float64 (0..1, NaN = undefined).

    Raises
    ------
    InputError
        On labels that are none, and on cells with two labels of one channel.
    """
    if {"channel", "label"} <= set(frame.columns):
        values, _ = to_numbers(frame, ["label"], where)
        out = frame[["fov", "cell_id", "channel"]].assign(label=values["label"])
    else:
        others = [c for c in frame.columns if c not in {"fov", "cell_id", "dataset"}]
        markers = dict(columns) if columns else {c: c for c in others}
        if lost := [c for c in markers.values() if c not in frame]:
            raise InputError(
                f"{where}: columns are missing: {', '.join(lost)}.", available=list(frame.columns)
            )
        values, _ = to_numbers(frame, dict.fromkeys(markers.values()), where)
        wide = frame[["fov", "cell_id"]].assign(**{m: values[c] for m, c in markers.items()})
        out = wide.melt(id_vars=["fov", "cell_id"], var_name="channel", value_name="label")
    bad = (out["label"] < 0) | (out["label"] > 1)
    twice = out.duplicated(["fov", "cell_id", "channel"])
    problems = []
    if bad.any():
        shown = out["label"][bad].drop_duplicates().map(repr).tolist()
        problems.append(
            f"{int(bad.sum()):,} labels are neither 0 to 1 nor empty: {format_list(shown, _SHOWN)}"
        )
    if twice.any():
        cells = [f"{r.fov}:{r.cell_id} {r.channel}" for r in out[twice].itertuples()]
        problems.append(
            f"{int(twice.sum()):,} labels are there more than once: {format_list(cells, _SHOWN)}"
        )
    if problems:
        raise InputError(
            f"{where}: the silver labels cannot be used.", got="\n             ".join(problems)
        )
    return out.astype({"label": np.float64}).reset_index(drop=True)
