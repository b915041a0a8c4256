"""Column names of ark (the Nimbus pipeline) and scimap (MCMICRO) for CSV and Parquet tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.errors import ChannelError, InputError, format_list
from panimbus.core.table import AREA, CELL_TYPE, CSV_FOV, CSV_LABEL, CSV_X, CSV_Y

if TYPE_CHECKING:
    import pandas as pd

LAYOUTS = ("panimbus", "ark", "scimap")
_NAMES: dict[str, dict[str, str]] = {
    "panimbus": {},
    "ark": {
        AREA: "cell_size", CSV_Y: "centroid-0", CSV_X: "centroid-1", CELL_TYPE: "cell_meta_cluster",
    },
    "scimap": {
        CSV_LABEL: "CellID", CSV_X: "X_centroid", CSV_Y: "Y_centroid", AREA: "Area",
        CSV_FOV: "imageid", CELL_TYPE: "phenotype",
    },
}  # fmt: skip


def check_layout(layout: str, markers: Sequence[str], mpp: Mapping[str, float | None]) -> None:
    """Refuse an unknown or unsuitable layout before anything is computed.

    Parameters
    ----------
    layout
        One of `LAYOUTS`; those of other programs have areas and centroids in pixels.
    markers
        Must not have the name of a column of the layout.
    mpp
        Micrometres per pixel of each FOV; None = unknown.
    """
    if layout not in LAYOUTS:
        raise InputError(f"Unknown column names {layout!r}.", available=LAYOUTS)
    if layout == "panimbus":
        return
    own = [_NAMES[layout].get(c, c) for c in (CSV_FOV, CSV_LABEL, AREA, CSV_X, CSV_Y)]
    if taken := [m for m in markers if m in own]:
        raise ChannelError(
            f"Channels have the names of columns of the layout {layout}: {format_list(taken)}.",
            fix="rename them",
        )
    if lacking := [fov for fov, size in mpp.items() if not size]:
        raise InputError(
            f"The layout {layout} has centroids in pixels, and the pixel size is unknown.",
            got=f"FOVs {format_list(lacking)}",
            fix="use --columns panimbus (µm)",
        )


def to_layout(
    frame: pd.DataFrame, layout: str, markers: Sequence[str], mpp: Mapping[str, float | None]
) -> pd.DataFrame:
    """Convert a cell table to the column names, order and units of another program.

    Parameters
    ----------
    frame
        Columns of `panimbus.core.table.to_frame`: ``fov``, ``label``, and some of markers, types,
        area and centroid.
    layout, markers, mpp
        As for `check_layout`.

    Returns
    -------
    pandas.DataFrame
        ark: ``cell_size``, the markers, ``label``, ``centroid-0`` (y), ``centroid-1`` (x), others,
        ``fov``. scimap: ``CellID``, the markers, ``X_centroid``, ``Y_centroid``, ``Area``, others,
        ``imageid``. Units are pixels; the centre of the first pixel is 0.
    """
    if layout == "panimbus":
        return frame
    out = frame.copy(deep=False)
    if AREA in out or CSV_X in out:
        size: Any = frame[CSV_FOV].map(dict(mpp)).to_numpy(np.float64)
        for column in {AREA, CSV_X, CSV_Y} & set(out.columns):
            values = out[column].to_numpy(np.float64)
            out[column] = values / size**2 if column == AREA else values / size - 0.5
    ahead, behind = (
        ([AREA], [CSV_LABEL, CSV_Y, CSV_X])
        if layout == "ark"
        else ([CSV_LABEL], [CSV_X, CSV_Y, AREA])
    )
    placed = [*ahead, *markers, *behind]
    others = [c for c in out.columns if c not in placed and c != CSV_FOV]
    order = [c for c in (*placed, *others, CSV_FOV) if c in out.columns]
    return out[order].rename(columns=_NAMES[layout])
