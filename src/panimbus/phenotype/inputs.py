"""Checks and preparation of a cell table before its cells get types."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, format_list
from panimbus.core.markers import canonical
from panimbus.core.objects import CELL, EXCLUDED, OBJECT_KINDS, object_kinds
from panimbus.core.table import AREA, CHANNEL_TYPE, OBJECT, THRESHOLD
from panimbus.core.thresholds import check_thresholds
from panimbus.core.types import BoolArray, Float32Array

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def select_channels(table: AnnData, needed: Collection[str], without: Sequence[str]) -> AnnData:
    """The table without unwanted markers and without unusable columns that are not needed.

    Parameters
    ----------
    table
    needed
        Markers of the rules and of the clusters: they are kept, so that their errors are reported.
    without
        Markers to leave out.
    """
    channels = np.array([str(c) for c in table.var_names])
    x, names = np.asarray(table.X), {canonical(m) for m in needed}
    unused = np.array([canonical(c) not in names for c in channels], np.bool_)
    outside = ((x < 0) | (x > 1)).any(0)
    stray, empty = unused & outside, unused & ~outside & np.isnan(x).any(0)
    for dropped, problem in (
        (empty, "channels that no rule names and that have no score for some cells"),
        (stray, "columns that no rule names and that are not between 0 and 1 throughout"),
    ):
        if dropped.any():
            logger.warning("%s were left out: %s", problem, format_list(channels[dropped].tolist()))
    keep = ~(stray | empty | np.isin(channels, list(without)))
    return table if keep.all() else table[:, keep].copy()


def thresholds_of(table: AnnData, given: Mapping[str, float]) -> dict[str, float]:
    """Threshold of each channel: the given one, else that of the table, else 0.5."""
    channels = [str(c) for c in table.var_names]
    stored = table.var[THRESHOLD].tolist() if THRESHOLD in table.var else [0.5] * len(channels)
    defaults = dict(zip(channels, stored, strict=True))
    check_thresholds(given, channels)
    check_thresholds(defaults, channels)
    return {c: float(given.get(c, defaults[c])) for c in channels}


def channel_types_of(table: AnnData) -> dict[str, str]:
    """Channel -> its type, where the table has them."""
    if CHANNEL_TYPE not in table.var:
        return {}
    return dict(zip(map(str, table.var_names), table.var[CHANNEL_TYPE].astype(str), strict=True))


def without_excluded(table: AnnData) -> AnnData:
    """The table without the cells in excluded regions, which have no scores.

    Raises
    ------
    InputError
        If no cell is left.
    """
    if OBJECT not in table.obs:
        return table
    excluded = (table.obs[OBJECT].astype(str) == EXCLUDED).to_numpy()
    if not excluded.any():
        return table
    if excluded.all():
        raise InputError("All cells of the table lie in excluded regions.")
    logger.warning("%d cells in excluded regions get no type", int(excluded.sum()))
    return table[~excluded].copy()


def flag_objects(table: AnnData, min_area: float | None, max_area: float | None) -> BoolArray:
    """Write obs ``object`` from the cells' areas, unless `predict` did; which are no cells.

    Parameters
    ----------
    table
        Changed in place.
    min_area, max_area
        Limits in µm²; None for those of `panimbus.core.objects`.

    Returns
    -------
    (n,) bool
    """
    import pandas as pd

    limits_given = min_area is not None or max_area is not None
    if limits_given and AREA not in table.obs:
        raise InputError(
            "The table has no areas to compare with the limits.", expected=f"obs column {AREA}"
        )
    flagged = OBJECT in table.obs and set(table.obs[OBJECT].astype(str)) <= set(OBJECT_KINDS)
    if AREA in table.obs and (limits_given or not flagged):
        area = pd.to_numeric(table.obs[AREA], errors="coerce").to_numpy(float)
        if negative := int((area < 0).sum()):
            raise InputError(
                "There are negative areas.", got=f"{negative} cells in obs column {AREA}"
            )
        table.obs[OBJECT] = pd.Categorical(object_kinds(area, min_area, max_area))
    elif not flagged:
        return np.zeros(table.n_obs, np.bool_)
    return np.asarray(table.obs[OBJECT].astype(str) != CELL)


def check_score_table(scores: npt.ArrayLike, channels: Sequence[str]) -> Float32Array:
    """Scores as (n, C) float32.

    NaN, infinite numbers and numbers outside 0..1 are an error that names the channels.
    """
    out = np.asarray(scores, np.float32)
    if out.ndim != 2 or out.shape[1] != len(channels):
        raise InputError(
            "The scores are not cells by channels.",
            expected=f"(n, {len(channels)})",
            got=f"shape {out.shape}",
        )
    for bad, problem, fix in (
        (np.isinf(out), "There are infinite scores.", "correct the values"),
        (
            np.isnan(out),
            "Scores are not numbers (NaN), as `predict --on-error skip` leaves unreadable images.",
            "leave these channels (--without; Python: without=) or cells out, or predict again",
        ),
    ):
        if bad.any():
            counts = zip(channels, bad.sum(0).tolist(), strict=True)
            names = [f"{channel} ({count} cells)" for channel, count in counts if count]
            raise InputError(problem, expected="from 0 to 1", got=format_list(names), fix=fix)
    wrong = [channels[c] for c in np.flatnonzero(((out < 0) | (out > 1)).any(0)).tolist()]
    if wrong:
        raise InputError(
            "Scores must lie between 0 and 1.",
            got=f"{format_list(wrong)} (values from {out.min():g} to {out.max():g})",
            fix="pass the table of scores that `panimbus predict` wrote, not intensities",
        )
    return out
