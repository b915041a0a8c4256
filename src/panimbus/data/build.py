"""Write a training store: tiles at the model's resolution, FOV by FOV."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.progress import OnProgress, Progress, silent
from panimbus.core.types import Array
from panimbus.core.window import Window
from panimbus.data.planes import write_planes
from panimbus.data.source import ScannedFov, Source
from panimbus.data.store import (
    EXAMPLE_COLUMNS,
    EXAMPLES,
    INFO,
    VERSION,
    DatasetInfo,
    Store,
    StoreInfo,
)
from panimbus.data.tiles import count_pixels, local_index, write_channels
from panimbus.io.documents import read_json
from panimbus.io.files import atomic_path, write_text


@dataclass(frozen=True)
class StoreSettings:
    """Settings of a store.

    Parameters
    ----------
    tile, overlap
        Side of a tile and the least overlap of neighbours, in pixels at the model's resolution.
    seed
        Kept in the store's information: the seed of the splits.
    """

    tile: int = 512
    overlap: int = 16
    seed: int = 0


def origins(size: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the fewest tiles that cover an axis with at least this overlap.

    Examples
    --------
    >>> origins(1000, 512, 16), origins(500, 512, 16), origins(1504, 512, 16)
    ([0, 488], [0], [0, 496, 992])
    """
    if size <= tile:
        return [0]
    count = -(-(size - overlap) // (tile - overlap))
    return [round(v) for v in np.linspace(0, size - tile, count).tolist()]


def write_store(
    path: str | Path,
    sources: Sequence[Source],
    settings: StoreSettings | None = None,
    *,
    progress: OnProgress = silent,
) -> Store:
    """Write datasets into one store.

    Tiles go to a hidden folder next to ``path``, which is renamed when everything is written. After
    an interrupt, a second run keeps the FOVs whose pixels, labels and settings are the same.

    Parameters
    ----------
    path
        New folder.
    sources
        Labelled datasets, all scanned for the same resolution and percentile.
    settings
    progress
        Progress callback.

    Returns
    -------
    Store
    """
    settings, final = settings or StoreSettings(), Path(path)
    _check(final, sources, settings)
    work = final.parent / f".{final.name}.partial"
    work.mkdir(parents=True, exist_ok=True)
    frames: list[pd.DataFrame] = []
    digests: dict[str, str] = {}
    total, finished = sum(len(s.scanned.fovs) for s in sources), 0
    folders: set[str] = set()
    for source in sources:
        keys = []
        for scanned in source.scanned.fovs:
            progress(Progress("write", scanned.fov.fov_id, finished, total))
            folder = _folder_name(source.name, scanned.fov.fov_id)
            key = _key(source, scanned, settings)
            if _finished(work / folder) != key:
                _write_fov(work / folder, source, scanned, settings, key)
            frames.append(_rows(pd.read_csv(work / folder / "rows.csv"), source, scanned, folder))
            folders.add(folder)
            keys.append(key)
            finished += 1
        digests[source.name] = hashlib.blake2b(repr(keys).encode(), digest_size=16).hexdigest()
    progress(Progress("write", sources[-1].scanned.fovs[-1].fov.fov_id, total, total))
    _remove_others(work, folders)
    examples = pd.concat(frames, ignore_index=True)[list(EXAMPLE_COLUMNS)]
    _write_tables(work, sources, settings, examples, digests)
    work.replace(final)
    return Store.open(final)


def _check(path: Path, sources: Sequence[Source], settings: StoreSettings) -> None:
    if path.exists():
        raise InputError(
            f"{path} exists already.",
            expected="a new folder",
            fix="choose another --out, or remove it",
        )
    if not sources:
        raise InputError("There is no dataset to store.")
    names = [s.name for s in sources]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise InputError("Datasets of one store must have different names.", got=format_list(twice))
    if settings.tile < 16 or not 0 <= settings.overlap < settings.tile:
        raise InputError(
            "These tiles cannot be cut.",
            expected="a tile of 16 px or more, wider than the overlap",
            got=str(settings),
        )
    kinds = {(s.scanned.mpp, s.scanned.scale.percentile, s.scanned.scale.over) for s in sources}
    if len(kinds) > 1:
        raise InputError(
            "The datasets were scanned for different resolutions or percentiles.",
            got=str(sorted(kinds)),
        )
    for source in sources:
        labelled = sum(int((source.targets[f.fov.fov_id] >= 0).sum()) for f in source.scanned.fovs)
        if not labelled:
            raise InputError(f"Dataset {source.name!r} has no cell with a known label.")
    given = [s.share for s in sources if s.share is not None]
    if given and (len(given) < len(sources) or min(given) < 0 or not sum(given) > 0):
        raise InputError(
            "The shares of the datasets are wrong.",
            expected="a share for each dataset, or for none",
            got=str(given),
        )


def _folder_name(dataset: str, fov_id: str) -> str:
    """A folder for a FOV on any file system.

    A hash tells apart names that look alike without their odd characters.
    """
    parts = []
    for name in (dataset, fov_id):
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80]
        lower = plain == name and plain == plain.lower()
        parts.append(
            plain
            if lower
            else f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
        )
    return "/".join(("tiles", *parts))


def _live(source: Source) -> list[int]:
    """Positions of the markers that are not blank."""
    return [k for k, m in enumerate(source.markers) if not source.scanned.scale.blank(m)]


def _key(source: Source, scanned: ScannedFov, settings: StoreSettings) -> str:
    """Hash of all that the tiles of a FOV depend on."""
    scale = source.scanned.scale
    channels = [source.markers[k] for k in _live(source)]
    facts = [
        VERSION,
        source.scanned.mpp,
        settings.tile,
        settings.overlap,
        channels,
        [scale.value(c) for c in channels],
    ]
    digest = hashlib.blake2b(
        json.dumps([facts, scanned.digest, scanned.fov.mpp]).encode(), digest_size=16
    )
    digest.update(np.ascontiguousarray(source.targets[scanned.fov.fov_id], np.float32).data)
    return digest.hexdigest()


def _finished(folder: Path) -> str | None:
    try:
        data = read_json(folder / "key.json")
    except ReadError:
        return None  # not there, or damaged: written anew
    return str(data.get("key")) if isinstance(data, dict) else None


def _write_fov(
    folder: Path, source: Source, scanned: ScannedFov, settings: StoreSettings, key: str
) -> None:
    """All tiles of one FOV, under a temporary name until they are whole."""
    fov, cells, scale = scanned.fov, scanned.cells, source.scanned.scale
    live = _live(source)
    markers = [source.markers[k] for k in live]
    columns = [source.scanned.channels.index(m) for m in markers]
    side = settings.tile
    windows = [
        (y, y + side, x, x + side)
        for y, x in product(
            origins(cells.y.size, side, settings.overlap),
            origins(cells.x.size, side, settings.overlap),
        )
    ]
    target = np.ascontiguousarray(source.targets[fov.fov_id][:, live].T, np.float32)
    value = np.array([scale.value(m) for m in markers], np.float32)
    with atomic_path(folder) as work:
        work.mkdir()
        index = write_planes(
            work / "index",
            (len(windows), side, side),
            "uint16" if cells.n < 65535 else "uint32",
            16,
        )
        pixels = count_pixels(scanned)
        tile_cells: list[Array] = []
        shares: list[Array] = []
        for t, window in enumerate(windows):
            local, inside = local_index(scanned, window, side)
            index[t] = local
            tile_cells.append(inside)
            counts = np.bincount(local.ravel(), minlength=len(inside) + 1)[1:]
            shares.append(counts / np.maximum(pixels[inside], 1))
        write_channels(work / "image", scanned, windows, markers, value)
        arrays: dict[str, Array] = {
            "cell_id": scanned.cell_id.astype(np.int64),
            "target": target,
            "mean": (scanned.mean[:, columns] / value).T.astype(np.float32, order="C"),
            "start": np.cumsum([0, *(len(f) for f in tile_cells)], dtype=np.int64),
            "cells": np.concatenate(tile_cells).astype(np.int32),
            "share": np.concatenate(shares).astype(np.float32),
        }
        for name, array in arrays.items():
            np.save(work / f"{name}.npy", array, allow_pickle=False)
        _row_table(windows, markers, target, tile_cells).to_csv(work / "rows.csv", index=False)
        (work / "key.json").write_text(json.dumps({"key": key}))


def _row_table(
    windows: Sequence[Window], markers: Sequence[str], target: Array, tile_cells: Sequence[Array]
) -> pd.DataFrame:
    rows = []
    for t, (window, cells) in enumerate(zip(windows, tile_cells, strict=True)):
        for plane, marker in enumerate(markers):
            labels = target[plane][cells]
            rows.append(
                (
                    marker,
                    int((labels >= 0).sum()),
                    int((labels >= 0.5).sum()),
                    t,
                    window[0],
                    window[2],
                    plane,
                )
            )
    return pd.DataFrame(rows, columns=["marker", "known", "positive", "tile", "y0", "x0", "plane"])


def _rows(table: pd.DataFrame, source: Source, scanned: ScannedFov, folder: str) -> pd.DataFrame:
    """The rows of a FOV, with what they share."""
    fov_id = scanned.fov.fov_id
    return table.assign(
        dataset=source.name,
        fov=fov_id,
        patient=source.patients.get(fov_id, ""),
        split=source.splits[fov_id],
        tissue=source.tissue,
        folder=folder,
    )


def _remove_others(work: Path, folders: set[str]) -> None:
    """FOVs of an earlier run that are no longer wanted."""
    for dataset in (work / "tiles").iterdir():
        for fov in dataset.iterdir():
            if fov.relative_to(work).as_posix() not in folders:
                shutil.rmtree(fov)


def _write_tables(
    work: Path,
    sources: Sequence[Source],
    settings: StoreSettings,
    examples: pd.DataFrame,
    digests: dict[str, str],
) -> None:
    counted = (
        examples[(examples["known"] > 0) & (examples["split"] == "train")].groupby("dataset").size()
    )
    weights = [float(counted.get(s.name, 0)) if s.share is None else s.share for s in sources]
    if not sum(weights) > 0:
        weights = [1.0] * len(sources)
    datasets = tuple(
        DatasetInfo(
            name=s.name,
            share=w / sum(weights),
            markers=tuple(s.markers[k] for k in _live(s)),
            tissue=s.tissue,
            fovs=len(s.scanned.fovs),
            source=digests[s.name],
            notes=(*s.notes, *_notes(s)),
        )
        for s, w in zip(sources, weights, strict=True)
    )
    scale = sources[0].scanned.scale
    info = StoreInfo(
        mpp=sources[0].scanned.mpp,
        tile=settings.tile,
        overlap=settings.overlap,
        percentile=scale.percentile,
        percentile_over=scale.over,
        datasets=datasets,
        seed=settings.seed,
    )
    data = {
        "info": info.model_dump(mode="json"),
        "rows": len(examples),
        "scales": {s.name: s.scanned.scale.to_dict() for s in sources},
    }
    with atomic_path(work / EXAMPLES) as temporary:
        examples.to_csv(temporary, index=False)
    write_text(work / INFO, json.dumps(data))


def _notes(source: Source) -> list[str]:
    notes = [
        f"{m}: {source.scanned.scale.notes[m]}"
        for m in source.markers
        if m in source.scanned.scale.notes
    ]
    have = set(source.splits.values())
    return notes + [
        f"no FOV is in {name!r}" for name in ("train", "val", "test") if name not in have
    ]
