"""Annotations to QuPath and back.

Each annotated cell is a GeoJSON object whose classification is the answer.

The format is what QuPath (0.2 to 0.6) reads and writes: geometry in pixels of the full resolution
with the origin at the top left corner, ``properties.classification`` (the parts of a class are
separated by ": "), ``properties.name``, here the cell's id, and since 0.5 ``properties.metadata``,
here FOV and channel.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from panimbus.annotations.matching import mismatches, raise_mismatches
from panimbus.annotations.table import (
    ANNOTATOR,
    CALL,
    CALLS,
    CELL,
    CHANNEL,
    DATASET,
    FOV,
    LIKELY_NEGATIVE,
    LIKELY_POSITIVE,
    NEGATIVE,
    POSITIVE,
    TIME,
    UNDETERMINED,
    WEIGHT,
    check_annotations,
)
from panimbus.core.errors import InputError, ReadError, format_list
from panimbus.core.fov import Fov
from panimbus.core.types import Array
from panimbus.io.documents import read_json
from panimbus.io.outlines import Polygons, trace_outlines
from panimbus.io.qupath import CellObjects, write_qupath

logger = logging.getLogger(__name__)
COLOURS = {
    POSITIVE: (230, 75, 53),
    LIKELY_POSITIVE: (243, 155, 127),
    UNDETERMINED: (160, 160, 160),
    LIKELY_NEGATIVE: (145, 209, 194),
    NEGATIVE: (60, 84, 136),
}
_BAND = 2048
_HEAD = 1 << 20  # characters of a file in which its first object ends


def export_qupath(
    annotations: pd.DataFrame, fovs: Sequence[Fov], out: str | Path, *, blind: bool = False
) -> list[Path]:
    """Write one GeoJSON file per FOV and channel.

    In QuPath, drag it onto the image, or choose File > Import objects from file.

    Parameters
    ----------
    annotations
        From `panimbus.annotations.table.check_annotations`; one annotation per cell and channel.
    fovs
        FOVs with label images, for the outlines of the cells.
    out
        Folder.
    blind
        Leave out the annotations, for an independent second reader.

    Returns
    -------
    list of Path
        ``<fov>.<channel>.geojson``; see `file_names`. The names themselves, dataset and sampling
        weight are in the file.
    """
    by_name = {f.fov_id: f for f in fovs}
    if without := [f.fov_id for f in fovs if f.labels is None]:
        raise InputError(
            "There are FOVs without a label image.",
            got=format_list(without),
            fix="pass --labels (Python: labels=)",
        )
    if (again := annotations.duplicated([FOV, CELL, CHANNEL])).any():
        raise InputError(
            "There are cells with several annotations, and an object in QuPath has one class.",
            got=f"{int(again.sum())} of {len(annotations)} rows",
            fix="choose one annotator, or make a consensus first (panimbus annotate consensus)",
        )
    for column in (DATASET, WEIGHT):
        if column in annotations.columns and annotations[column].isna().any():
            raise InputError(
                f"Some annotations have no {column}, and others have one.",
                got=f"{int(annotations[column].isna().sum())} without",
            )
    wanted = {str(f): np.unique(g[CELL]) for f, g in annotations.groupby(FOV, sort=False)}
    shapes = {f: cell_outlines(by_name[f], wanted[f]) if f in wanted else {} for f in by_name}
    problems = mismatches(
        annotations,
        {f: np.array(list(s), np.int64) for f, s in shapes.items()},
        {f: by_name[f].channels for f in by_name},
    )
    raise_mismatches(problems, "the label images")
    written, names = (
        [],
        file_names(
            annotations[[FOV, CHANNEL]].drop_duplicates().itertuples(index=False, name=None)
        ),
    )
    for (fov, channel), group in annotations.groupby([FOV, CHANNEL], sort=False):
        metadata = {FOV: [str(fov)] * len(group), CHANNEL: [str(channel)] * len(group)}
        metadata |= {
            column: list(map(str, group[column]))
            for column in (DATASET, WEIGHT)
            if column in group.columns
        }
        cells = CellObjects(
            group[CELL].to_numpy(),
            () if blind else group[CALL].tolist(),
            COLOURS,
            metadata=metadata,
        )
        written.append(Path(out) / f"{names[str(fov), str(channel)]}.geojson")
        write_qupath(written[-1], shapes[str(fov)], cells, fov_id=f"{fov} {channel}")
    return written


def exported_files(folder: Path, annotations: pd.DataFrame) -> list[Path]:
    """GeoJSON files of a folder that `export_qupath` wrote or would replace."""
    pairs = annotations[[FOV, CHANNEL]].drop_duplicates().itertuples(index=False, name=None)
    names = set(file_names(pairs).values())
    files = [path for path in sorted(folder.glob("*.geojson")) if path.is_file()]
    return [path for path in files if path.stem in names or _is_exported(path)]


def _is_exported(path: Path) -> bool:
    """Whether a file is named by the FOV and channel of its first object."""
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_HEAD)
    first = re.search(
        r'"metadata"\s*:\s*(\{[^{}]*\})', head
    )  # QuPath, which saves the annotations, has other spaces
    if first is None:
        return False
    try:
        metadata = json.loads(first[1])
        pair = (str(metadata[FOV]), str(metadata[CHANNEL]))
    except (ValueError, KeyError, RecursionError):
        return False
    name = next(iter(file_names([pair]).values()))
    hashed = next(iter(file_names([pair, (pair[0].swapcase(), pair[1].swapcase())]).values()))
    return path.stem in (name, hashed)


def cell_outlines(fov: Fov, ids: Array) -> dict[int, Polygons]:
    """Outlines of some cells of a FOV, read band by band.

    Parameters
    ----------
    fov
        With a label image.
    ids : (k,) int64, sorted
        Labels; those that the image lacks are not in the result.
    """
    if fov.labels is None:
        return {}
    height, width = fov.shape_yx
    low, high = np.full((len(ids), 2), np.iinfo(np.int64).max), np.full((len(ids), 2), -1)
    for y0 in range(0, height, _BAND):
        band = np.asarray(fov.labels[y0 : min(y0 + _BAND, height), 0:width])
        at = np.nonzero(np.isin(band, ids))
        which = np.searchsorted(ids, band[at].astype(np.int64))
        where = np.stack([at[0] + y0, at[1]], 1)
        np.minimum.at(low, which, where)
        np.maximum.at(high, which, where)
    out: dict[int, Polygons] = {}
    for label, (y0, x0), (y1, x1) in zip(
        ids.tolist(), low.tolist(), (high + 1).tolist(), strict=True
    ):
        if y1 > 0:
            corner = np.array([x0, y0])
            mask = np.asarray(fov.labels[y0:y1, x0:x1]) == label
            out[label] = [
                [ring + corner for ring in rings]
                for rings in trace_outlines(mask.astype(np.uint8))[1]
            ]
    return out


def file_names(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A file name for each FOV and channel, the same on every system.

    A hash keeps names apart that were changed or look alike.

    Examples
    --------
    >>> list(file_names([("f1", "CD3"), ("f1", "CD3/a"), ("f1", "CD3 a")]).values())
    ['f1.CD3', 'f1.CD3_a-3797082f', 'f1.CD3_a-ed9841f4']
    """
    pairs = list(pairs)
    clean = {
        pair: ".".join(re.sub(r"[^A-Za-z0-9_-]+", "_", part)[:60] for part in pair)
        for pair in pairs
    }
    alike = Counter(
        name.casefold() for name in clean.values()
    )  # files called a and A are one file on many systems
    out = {}
    for pair, name in clean.items():
        changed = name != ".".join(pair) or alike[name.casefold()] > 1
        digest = hashlib.blake2b(json.dumps(pair).encode(), digest_size=4).hexdigest()
        out[pair] = f"{name}-{digest}" if changed else name
    return out


@dataclass
class QuPathImport:
    """Content of GeoJSON files.

    Parameters
    ----------
    annotations
        Annotations.
    unclassified
        Number of objects without a classification: cells not annotated yet.
    """

    annotations: pd.DataFrame
    unclassified: int = 0


@dataclass
class _Parsed:
    rows: list[dict[str, Any]] = field(default_factory=list)
    unclassified: int = 0
    nameless: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def import_qupath(
    paths: Sequence[str | Path],
    *,
    annotator: str,
    time: str,
    fov: str | None = None,
    channel: str | None = None,
) -> QuPathImport:
    """Read annotations from GeoJSON files of `export_qupath` that QuPath saved.

    Parameters
    ----------
    paths
        Files.
    annotator, time
        Stored with every annotation.
    fov, channel
        Of objects without this metadata: QuPath before 0.5 keeps only an object's name (the
        cell's id).

    Raises
    ------
    InputError
        With all objects that name no cell, and all classes that are not answers.
    """
    parsed = _Parsed()
    for path in paths:
        for feature in _features(Path(path)):
            _take(feature, {FOV: fov, CHANNEL: channel}, parsed, Path(path).name)
    problems = []
    if parsed.nameless:
        problems.append(
            f"{len(parsed.nameless)} classified objects do not say which cell they are:"
            f" {format_list(parsed.nameless, 8)}"
        )
    if parsed.unknown:
        problems.append(
            f"classes that are no answers: {format_list(list(dict.fromkeys(parsed.unknown)), 12)}"
        )
    if problems:
        raise InputError(
            "There are objects that cannot be read as annotations.",
            expected=(
                f"objects of `panimbus annotate export` whose class is one of {', '.join(CALLS)}"
            ),
            got="\n             ".join(problems),
            fix=(
                "files that QuPath before 0.5 saved need --fov and --channel"
                if parsed.nameless
                else None
            ),
        )
    if not parsed.rows:
        raise InputError(
            "No object has a classification: there are no annotations.",
            got=f"{parsed.unclassified} objects without one",
        )
    frame = pd.DataFrame(parsed.rows).assign(**{ANNOTATOR: annotator, TIME: time})
    if DATASET in frame.columns:
        frame[DATASET] = frame[DATASET].fillna("")
    if WEIGHT in frame.columns and (without := int(frame[WEIGHT].isna().sum())):
        logger.warning(
            "sampling weights are dropped: %s of %s objects have none",
            f"{without:,}",
            f"{len(frame):,}",
        )
        frame = frame.drop(columns=WEIGHT)
    return QuPathImport(
        check_annotations(frame, source=format_list([str(p) for p in paths], 3)),
        parsed.unclassified,
    )


def _features(path: Path) -> list[dict[str, Any]]:
    data = read_json(path, "a GeoJSON file exported from QuPath")
    features = data.get("features", [data]) if isinstance(data, dict) else data
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise ReadError(
            f"{path}: the JSON is not GeoJSON.",
            expected="a FeatureCollection or a list of features",
        )
    return features


def _take(
    feature: Mapping[str, Any], default: Mapping[str, str | None], parsed: _Parsed, file: str
) -> None:
    properties = _mapping(feature.get("properties"))
    parts = _class(properties.get("classification"))
    if not parts:
        parsed.unclassified += 1
        return
    name, metadata = str(properties.get("name") or ""), _mapping(properties.get("metadata"))
    cell = {k: str(metadata.get(k) or default[k] or "") for k in (FOV, CHANNEL)} | {CELL: name}
    cell |= {column: str(metadata[column]) for column in (DATASET, WEIGHT) if column in metadata}
    if not (name.isdecimal() and cell[FOV] and cell[CHANNEL]):
        parsed.nameless.append(f"{file}: {name or feature.get('id', 'no name')}")
        return
    *before, last = parts
    call = re.sub(r"[\s_-]+", " ", last.strip().lower())
    if call not in CALLS or (before and ": ".join(before) != cell[CHANNEL]):
        parsed.unknown.append(repr(": ".join(parts)))
        return
    parsed.rows.append({**cell, CALL: call})


def _mapping(value: Any) -> Mapping[str, Any]:
    """An empty mapping where other programs write something else."""
    return value if isinstance(value, Mapping) else {}


def _class(classification: Any) -> list[str]:
    """Parts of a class: QuPath writes ``name``, or since 0.4 ``names`` where there are several."""
    if isinstance(classification, str):
        classification = {"name": classification}
    if not isinstance(classification, Mapping):
        return []
    names = classification.get("names")
    if isinstance(names, list):
        return [str(n) for n in names]
    name = str(classification.get("name") or "")
    return name.rsplit(": ", 1) if name else []
