"""A finished run with other thresholds or recalibrated scores; nothing is scored again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.doubts import flag_doubts
from panimbus.core.errors import ChannelError, InputError, ReadError, format_list
from panimbus.core.layouts import LAYOUTS, to_layout
from panimbus.core.table import (
    POSITIVE,
    PROVENANCE,
    SCORE_BEFORE,
    THRESHOLD,
    THRESHOLD_BEFORE,
    recalibrated_markers,
    to_frame,
)
from panimbus.core.thresholds import calls, check_thresholds
from panimbus.core.types import Array
from panimbus.infer.output import write_tables
from panimbus.infer.record import RECALIBRATED, REQUEST, RUN
from panimbus.io.documents import parse_json, read_json
from panimbus.io.files import write_json
from panimbus.io.replace import finish_replacing, replace_together
from panimbus.io.scores import read_h5ad, scale_of
from panimbus.io.segmented import pixel_sizes

if TYPE_CHECKING:
    from anndata import AnnData

RECALIBRATION = "recalibration"  # key of the provenance: marker -> how, as JSON
_WROTE = "what `panimbus predict` wrote"


@dataclass(frozen=True)
class Changes:
    """What becomes other in a result.

    Parameters
    ----------
    thresholds
        Marker -> score from which a cell is positive.
    scores
        Marker -> (n,) float, the recalibrated scores of all cells in the table's order. Where the
        model's own score is missing so is the recalibrated one.
    how
        Marker -> description of its recalibration, JSON-able; kept in the provenance.
    take_back
        Markers that get the scores and the threshold from before their recalibration.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, Array] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)
    take_back: Sequence[str] = ()


def open_result(folder: str | Path) -> AnnData:
    """The cell table of a folder of `panimbus predict`; an interrupted change of it is ended first.

    Raises
    ------
    ReadError
        If it is no such folder, or was written without ``cells.h5ad``.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReadError(f"{folder}: there is no such folder.", expected=_WROTE)
    finish_replacing(folder)
    if missing := [name for name in (RUN, "cells.h5ad") if not (folder / name).is_file()]:
        raise ReadError(
            f"{folder}: not a folder that `panimbus predict` wrote with the table cells.h5ad.",
            expected=f"{RUN} and cells.h5ad",
            got=f"no {format_list(missing)}",
        )
    table = read_h5ad(folder / "cells.h5ad", _WROTE)
    lacking = [f"uns[{PROVENANCE!r}]"] if PROVENANCE not in table.uns else []
    lacking += [f"var[{THRESHOLD!r}]"] if THRESHOLD not in table.var else []
    lacking += [f"layers[{POSITIVE!r}]"] if POSITIVE not in table.layers else []
    if lacking:
        raise ReadError(
            f"{folder / 'cells.h5ad'}: not a cell table of `panimbus predict`.",
            got=f"it lacks {format_list(lacking)}",
        )
    return table


def model_scores(table: AnnData) -> Array:
    """(n, C) float32: the model's own scores, before any recalibration."""
    return np.asarray(table.layers.get(SCORE_BEFORE, table.X))


def changed(table: AnnData, changes: Changes) -> AnnData:
    """A copy of a cell table with other thresholds or scores, and its calls.

    Recalibrated scores are judged at the model's threshold, unless ``changes`` has another. The
    model's own stay in the layer ``score_before``, and the thresholds that went with them in var
    ``threshold_before`` (NaN: not recalibrated). Both are gone once all is taken back.

    Raises
    ------
    ChannelError, InputError
        On unknown markers, thresholds outside 0 to 1, scores that do not fit the cells, and markers
        to take back that were not recalibrated.
    """
    _check(table, changes)
    out = table.copy()
    names = [str(m) for m in out.var_names]
    scores, own = np.array(out.X, np.float32), np.array(model_scores(out), np.float32)
    limits = out.var[THRESHOLD].to_numpy(np.float64).copy()
    before = (
        out.var[THRESHOLD_BEFORE].to_numpy(np.float64).copy()
        if THRESHOLD_BEFORE in out.var
        else np.full(len(names), np.nan)
    )
    about = parse_json(str(out.uns[PROVENANCE].get(RECALIBRATION, "{}")), RECALIBRATION)
    usual = float(out.uns[PROVENANCE]["threshold"])
    for name in changes.take_back:
        k = names.index(name)
        scores[:, k], limits[k], before[k] = own[:, k], before[k], np.nan
        about.pop(name, None)
    for name, values in changes.scores.items():
        k = names.index(name)
        before[k] = limits[k] if np.isnan(before[k]) else before[k]
        scores[:, k] = np.where(np.isnan(own[:, k]), np.nan, np.asarray(values, np.float32))
        limits[k], about[name] = usual, changes.how.get(name, {})
    for name, limit in changes.thresholds.items():
        limits[names.index(name)] = limit
    out.X, out.var[THRESHOLD] = scores, limits
    out.layers[POSITIVE] = calls(scores, limits)
    out.layers.pop(SCORE_BEFORE, None)
    out.var = out.var.drop(columns=THRESHOLD_BEFORE, errors="ignore")
    if not np.isnan(before).all():
        out.layers[SCORE_BEFORE], out.var[THRESHOLD_BEFORE] = own, before
    flag_doubts(out, scale_of(out))
    _record(out, {n: t for n, t in zip(names, limits.tolist(), strict=True) if t != usual}, about)
    return out


def _check(table: AnnData, changes: Changes) -> None:
    names = [str(m) for m in table.var_names]
    check_thresholds(changes.thresholds, names)
    if unknown := [m for m in (*changes.scores, *changes.take_back) if m not in names]:
        raise ChannelError(
            "The result has no such markers.", got=format_list(unknown), available=names
        )
    done = recalibrated_markers(table)
    if wrong := [m for m in changes.take_back if m not in done]:
        raise InputError(
            "Markers that were not recalibrated cannot be taken back.",
            got=format_list(wrong),
            available=done or ["none is recalibrated"],
        )
    for name, values in changes.scores.items():
        new = np.asarray(values, np.float64)
        if new.shape != (table.n_obs,) or ((new < 0) | (new > 1)).any():
            raise InputError(
                f"Recalibrated scores of {name} do not fit the table.",
                expected=f"{table.n_obs:,} numbers from 0 to 1",
                got=f"shape {new.shape}, from {np.nanmin(new, initial=1):g} to"
                f" {np.nanmax(new, initial=0):g}",
            )


def _record(table: AnnData, thresholds: Mapping[str, float], about: Mapping[str, Any]) -> None:
    """Write thresholds and recalibrations into the provenance."""
    provenance = dict(table.uns[PROVENANCE])
    settings = {k: v for k, v in dict(provenance["settings"]).items() if k != "thresholds"}
    if thresholds:
        settings["thresholds"] = json.dumps(dict(thresholds))
    provenance["settings"] = settings
    provenance.pop(RECALIBRATION, None)
    if about:
        provenance[RECALIBRATION] = json.dumps(dict(about))
    table.uns[PROVENANCE] = provenance


def write_result(folder: str | Path, table: AnnData) -> None:
    """Replace the tables of a result, all of them or none: those that are there.

    ``cells.h5ad``, ``cells.csv`` with ``positive.csv``, ``cells.parquet``, the table in
    ``cells.zarr``, and ``run.json``. Score maps are the model's own and stay.

    Parameters
    ----------
    folder
        As for `open_result`.
    table
        From `changed`.
    """
    folder = Path(folder)
    files = {"h5ad": "cells.h5ad", "csv": "cells.csv", "parquet": "cells.parquet"}
    kinds = [kind for kind, name in files.items() if (folder / name).is_file()]
    layout = _layout(folder, table)
    with replace_together(folder) as room:
        write_tables(table, room, kinds, layout=layout)
        if (folder / "cells.zarr").is_dir():
            from panimbus.io.spatialdata_writer import replace_table

            replace_table(folder / "cells.zarr", room / "cells.zarr", table)
        write_json(room / RUN, _run(read_json(folder / RUN, _WROTE), table))


def _run(before: Any, table: AnnData) -> dict[str, Any]:
    """``run.json`` of the changed table."""
    if not isinstance(before, dict):
        raise ReadError(f"{RUN}: the document has another form.", expected=_WROTE)
    provenance = table.uns[PROVENANCE]
    run = {k: v for k, v in before.items() if k != RECALIBRATION}
    run["settings"] = dict(provenance["settings"])
    about = json.loads(str(provenance.get(RECALIBRATION, "{}")))
    if about:
        run[RECALIBRATION] = about
    if isinstance(run.get(REQUEST), dict):
        thresholds = json.loads(str(run["settings"].get("thresholds", "{}")))
        request = {k: v for k, v in run[REQUEST].items() if k != RECALIBRATED}
        run[REQUEST] = request | {"thresholds": thresholds}
        if about:
            run[REQUEST][RECALIBRATED] = list(about)
    return run


def _layout(folder: Path, table: AnnData) -> str:
    """The layout of the columns of ``cells.csv`` or ``cells.parquet``."""
    import pandas as pd

    if (path := folder / "cells.csv").is_file():
        header = list(map(str, pd.read_csv(path, nrows=0).columns))
    elif (path := folder / "cells.parquet").is_file():
        header = list(map(str, pd.read_parquet(path).columns))
    else:
        return LAYOUTS[0]
    plain, markers = to_frame(table[:1]), [str(m) for m in table.var_names]
    sizes = pixel_sizes(table)
    for layout in LAYOUTS:
        if layout != LAYOUTS[0] and not all(sizes.values()):
            continue
        if list(map(str, to_layout(plain, layout, markers, sizes).columns)) == header:
            return layout
    return LAYOUTS[0]
