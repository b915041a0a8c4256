"""The files of a finished run: tables, the normaliser, the provenance."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.batches import compare_batches, describe_batches
from panimbus.core.controls import describe_controls
from panimbus.core.doubts import describe_doubts
from panimbus.core.errors import InputError, ReadError, format_list, need_extra
from panimbus.core.excluded import Excluded, describe_excluded
from panimbus.core.layouts import to_layout
from panimbus.core.objects import EXCLUDED, describe_object_shares, object_shares
from panimbus.core.scale import ChannelScale
from panimbus.core.table import (
    AREA,
    BATCH,
    FOV,
    OBJECT,
    POSITIVE,
    PROVENANCE,
    THRESHOLD,
    positive_frame,
    to_frame,
)
from panimbus.infer.maps import remove_maps
from panimbus.infer.per_batch import BATCH_SCALES, batch_files
from panimbus.infer.record import RUN
from panimbus.io.documents import read_json
from panimbus.io.files import atomic_path, remove_path, write_json
from panimbus.io.segmented import pixel_sizes
from panimbus.io.write_table import write_csv, write_h5ad

if TYPE_CHECKING:
    from anndata import AnnData

    from panimbus.core.fov import Fov

KINDS = ("h5ad", "csv", "parquet", "spatialdata", "spatialdata+images")
_FILES = {
    "h5ad": ("cells.h5ad",),
    "csv": ("cells.csv", "positive.csv"),
    "parquet": ("cells.parquet",),
    "spatialdata": ("cells.zarr",),
    "spatialdata+images": ("cells.zarr",),
}
logger = logging.getLogger(__name__)


def check_kinds(text: str) -> tuple[str, ...]:
    """Split ``"h5ad,csv"``; refuse kinds that are unknown or cannot be written."""
    kinds = tuple(dict.fromkeys(k.strip() for k in text.split(",") if k.strip()))
    unknown = [k for k in kinds if k not in KINDS]
    if unknown or not kinds:
        raise InputError(
            f"Unknown kind of table: {', '.join(unknown) or '(none given)'}.", available=KINDS
        )
    if "parquet" in kinds:
        need_extra("A parquet table", "parquet", "pyarrow")
    return kinds


def read_normaliser(path: str | Path) -> ChannelScale:
    """Read the normaliser of an earlier run.

    Parameters
    ----------
    path
        ``normaliser.json``, which `panimbus predict` writes.

    Examples
    --------
    >>> read_normaliser("missing.json")
    Traceback (most recent call last):
    panimbus.core.errors.ReadError: missing.json: there is no such file.
      expected:  the normaliser.json of an earlier run
    """
    data = read_json(Path(path), "the normaliser.json of an earlier run", unique=True)
    try:
        return ChannelScale.from_dict(data)
    except InputError as error:
        raise ReadError(f"{path}: {error}") from None


def save_run(
    table: AnnData,
    out: Path,
    kinds: Sequence[str],
    fovs: Sequence[Fov] = (),
    *,
    asked: Mapping[str, Any] | None = None,
    layout: str = "panimbus",
) -> None:
    """Write ``cells.*``, ``normaliser.json`` and ``run.json``, each complete or not at all.

    Tables and maps of another run are removed.

    Parameters
    ----------
    table
        From `predict`.
    out
        Folder.
    kinds
        Some of `KINDS`. ``csv`` includes the calls, ``positive.csv``. ``spatialdata`` is
        ``cells.zarr`` with the label images and the table; ``spatialdata+images`` also copies the
        scored channels of the images.
    fovs
        The scored FOVs; SpatialData needs their label images.
    asked
        The request (`panimbus.infer.record.asked_for`), with which a later run compares its own.
    layout
        Column names of the CSV and parquet tables (`panimbus.core.layouts`).
    """
    out.mkdir(parents=True, exist_ok=True)
    provenance = table.uns[PROVENANCE]
    run = {k: v for k, v in provenance.items() if k not in {"scale", BATCH_SCALES, "inputs"}}
    request = {} if asked is None else {"request": dict(asked)}
    about = {**run, **request, "inputs": json.loads(str(provenance["inputs"]))}
    _remove_stale(out, about, kinds)
    write_tables(table, out, kinds, layout=layout)
    if any(kind.startswith("spatialdata") for kind in kinds):
        from panimbus.io.spatialdata_writer import write_spatialdata

        write_spatialdata(
            out / "cells.zarr", table, fovs, fovs if "spatialdata+images" in kinds else ()
        )
    scale = json.loads(str(provenance["scale"]))
    write_json(out / "normaliser.json", scale)
    of_batches = batch_files(table)
    for name, one in of_batches.items():
        write_json(out / name, one)
    for path in out.glob("normaliser_*.json"):
        if path.name not in of_batches:
            path.unlink()
    write_json(out / RUN, about)


def write_tables(table: AnnData, out: Path, kinds: Sequence[str], *, layout: str) -> None:
    """Write ``cells.h5ad``, ``cells.csv`` with ``positive.csv``, and ``cells.parquet``.

    Parameters as those of `save_run`; other kinds are left out.
    """
    markers = list(map(str, table.var_names))
    laid_out = partial(to_layout, layout=layout, markers=markers, mpp=pixel_sizes(table))
    if "h5ad" in kinds:
        write_h5ad(out / "cells.h5ad", table)
    if "csv" in kinds:
        write_csv(out / "cells.csv", laid_out(to_frame(table)))
        write_csv(out / "positive.csv", laid_out(positive_frame(table)))
    if "parquet" in kinds:
        with atomic_path(out / "cells.parquet") as path:
            laid_out(to_frame(table)).to_parquet(path, index=False)


def _remove_stale(out: Path, about: Mapping[str, Any], kinds: Sequence[str]) -> None:
    """Remove tables of another run that this run does not write, and maps of its other FOVs.

    The earlier `run.json` is replaced last, so that a killed run's files are not mistaken for its
    own.
    """
    try:
        before = read_json(out / RUN)
    except ReadError:
        return
    if before == json.loads(json.dumps(about)):
        return
    written = {name for kind in kinds for name in _FILES[kind]}
    stale = {
        name
        for names in _FILES.values()
        for name in names
        if name not in written and (out / name).exists()
    }
    for name in stale:
        remove_path(out / name)
    fovs = before.get("inputs") if isinstance(before, dict) else None
    stale |= remove_maps(out, list(fovs) if isinstance(fovs, dict) else [], list(about["inputs"]))
    if stale:
        logger.warning(
            "%s: removed, because it belongs to an earlier run: %s",
            out,
            format_list(sorted(stale), 10),
        )


def summary(table: AnnData, out: Path, scale: dict[str, Any]) -> str:
    """Summary for the terminal: cells, share of positive cells per marker, doubtful channels."""
    usual, thresholds = float(table.uns[PROVENANCE]["threshold"]), table.var[THRESHOLD]
    kinds, area = np.asarray(table.obs[OBJECT]), table.obs[AREA].to_numpy()
    excluded = kinds == EXCLUDED
    positive = np.asarray(table.layers[POSITIVE])[~excluded]
    lost = np.isnan(positive).sum(0)  # unreadable pixels: neither positive nor negative
    share = np.nansum(positive, 0, dtype=np.int64) / np.maximum(len(positive) - lost, 1)
    width = max(len(c) for c in table.var_names)
    fovs = len(table.obs[FOV].cat.categories)
    size = (
        f"{table.n_obs:,} cells in {fovs} FOV{'s' * (fovs != 1)}, {table.n_vars}"
        f" channel{'s' * (table.n_vars != 1)}"
    )
    lines = [
        (
            f"{size}; positive (score >="
            f" {usual:g}{', or the threshold shown' if (thresholds != usual).any() else ''}):"
        )
    ]
    for channel, part, count, threshold in zip(
        table.var_names, share, lost, thresholds, strict=True
    ):
        notes = [
            f"score >= {threshold:g}" if threshold != usual else "",
            str(scale["channels"].get(channel, {}).get("note", "")),
        ]
        notes.append(f"{count:,} cells missing" if count else "")
        percent = f"{100 * part:5.1f} %" if count < len(positive) or not count else "      -"
        lines.append(
            f"  {channel:<{width}}  {percent}  {'; '.join(n for n in notes if n)}".rstrip()
        )
    if odd := describe_object_shares(object_shares(kinds, area)):
        lines.append(odd)
    lines += describe_doubts(table)
    lines += describe_controls(table, str(out))
    lines += describe_batches(compare_batches(table)) if BATCH in table.obs else []
    lines += [line] if (line := _excluded(table)) else []
    lines.append(f"written: {out}")
    return "\n".join(lines)


def _excluded(table: AnnData) -> str:
    """What is excluded, from the provenance; empty without masks."""
    inputs = json.loads(str(table.uns[PROVENANCE]["inputs"]))
    parts = [
        Excluded(fov, float(about["excluded_share"]), int(about["excluded_cells"]))
        for fov, about in inputs.items()
        if "excluded_share" in about
    ]
    return describe_excluded(parts, len(inputs))
