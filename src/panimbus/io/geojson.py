"""Reader of GeoJSON features (QuPath's export) that are cells."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import ReadError, format_list
from panimbus.core.guard import describe_error
from panimbus.core.types import Array
from panimbus.io.documents import read_text

logger = logging.getLogger(__name__)
LARGEST = 4 << 30
"""Bytes of a file: ten times those of a slide of a million cells."""
_FARTHEST = 1e9  # pixels; no image is wider
_EXPECTED = "GeoJSON: a FeatureCollection or a list of features"


@dataclass(frozen=True, eq=False)
class PolygonCell:
    """A polygon or several, in pixels; pixel (y, x) covers y..y+1, x..x+1.

    Parameters
    ----------
    polygons
        Each a list of rings, (N, 2) float64 of x, y: the outline, then holes.
    name
        ``id`` of the feature, or its name, or empty.
    box
        y0, y1, x0, x1: pixels it may touch.
    """

    polygons: list[list[Array]]
    name: str
    box: tuple[int, int, int, int]


def read_geojson_cells(path: Path) -> list[PolygonCell]:
    """Read the cells of a FeatureCollection, a list of features, or one feature.

    If the file has QuPath cells, other objects are ignored (detections inside them are spots); if
    it has detections, annotations and tiles are. Duplicate outlines count once. Points and lines
    are ignored, also next to polygons in a GeometryCollection.

    Raises
    ------
    ReadError
        If there is no polygon, or an impossible one.
    """
    features = _select_cells(_features(path))
    cells: dict[bytes, PolygonCell] = {}
    polygons, without = 0, Counter[str]()
    for number, (kind, feature) in enumerate(features, 1):
        cell = _read_cell(path, number, feature)
        if cell is None:
            without[f"{kind or 'feature'} of type {_geometry_type(feature)}"] += 1
        else:
            cells.setdefault(_outline(cell), cell)
            polygons += 1
    lacking = format_list([f"{n} {kind}" for kind, n in without.most_common()], 5)
    if not cells:
        raise ReadError(
            f"{path}: there is no polygon in this file.",
            expected="the outline of each cell (Polygon or MultiPolygon)",
            got=lacking if without else "no feature at all",
            fix="export the cells as GeoJSON, or leave this image out if it has none",
        )
    if unusual := sum(n for kind, n in without.items() if kind.startswith(("cell", "detection"))):
        logger.warning("%s: %d cells without an outline are left out (%s)", path, unusual, lacking)
    if doubled := polygons - len(cells):
        logger.warning(
            "%s: %d of %d outlines are there before, to the last digit: each counts once",
            path,
            doubled,
            polygons,
        )
    return list(cells.values())


def read_geojson_regions(path: Path) -> list[PolygonCell]:
    """Read the regions of a file: QuPath's annotations, or all polygons if it has none.

    Raises
    ------
    ReadError
        If the file is no GeoJSON, or a polygon is impossible. A file without a polygon is empty.
    """
    features = _features(path)
    annotations = [feature for feature in features if _kind(feature) == "annotation"]
    read = (_read_cell(path, k, feature) for k, feature in enumerate(annotations or features, 1))
    return [region for region in read if region is not None]


def _read_cell(path: Path, number: int, feature: dict[str, Any]) -> PolygonCell | None:
    """The polygons of a feature; None without any."""
    try:
        return _cell(feature)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ReadError(
            f"{path}: the geometry of feature {number} is not a polygon's.",
            got=f"{str(feature.get('id', 'no id'))[:80]}: {describe_error(error)}",
            fix="export the objects again",
        ) from None


def _outline(cell: PolygonCell) -> bytes:
    """Digest of a cell's polygons, to recognise duplicates."""
    digest = hashlib.blake2b(
        repr([[len(ring) for ring in rings] for rings in cell.polygons]).encode(), digest_size=16
    )
    for rings in cell.polygons:
        for ring in rings:
            digest.update(np.ascontiguousarray(ring).data)
    return digest.digest()


def _features(path: Path) -> list[dict[str, Any]]:
    """All features, including those of nested collections."""
    size = path.stat().st_size if path.is_file() else LARGEST
    text = read_text(path, _EXPECTED, largest=min(size, LARGEST))
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(
            f"{path}: the GeoJSON cannot be parsed.", expected=_EXPECTED, got=describe_error(error)
        ) from None
    out: list[dict[str, Any]] = []
    waiting: list[Any] = [data]
    while waiting:
        one = waiting.pop()
        inner = one.get("features") if isinstance(one, dict) and "features" in one else one
        if isinstance(inner, list):
            waiting.extend(reversed(inner))
        elif isinstance(inner, dict):
            out.append(inner)
        else:
            raise ReadError(
                f"{path}: the JSON is not GeoJSON.",
                expected=_EXPECTED,
                got=f"{type(inner).__name__} among the features",
            )
    return out


def _select_cells(features: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Features that may be cells, each with its QuPath type or ""."""
    kinds = [_kind(feature) for feature in features]
    if "cell" in kinds:
        wanted = {"cell", ""}
    elif "detection" in kinds:
        wanted = {"detection", ""}
    else:
        wanted = {*kinds} - {"tile", "root", "tmacore"}
    return [
        (kind, feature) for kind, feature in zip(kinds, features, strict=True) if kind in wanted
    ]


def _kind(feature: dict[str, Any]) -> str:
    """QuPath type (``cell``, ``detection`` ...): ``objectType``, or the id (QuPath 0.2)."""
    properties = feature.get("properties")
    given = properties.get("objectType") if isinstance(properties, dict) else None
    name = str(given if given is not None else feature.get("id") or "").lower().replace("_", "")
    if given is None and not (name.startswith(("path", "tma")) and name.endswith("object")):
        return ""
    return name.removeprefix("path").removesuffix("object")


def _geometry_type(feature: dict[str, Any]) -> str:
    geometry = feature.get("geometry", feature)
    return str(geometry.get("type"))[:40] if isinstance(geometry, dict) else "null"


def _cell(feature: dict[str, Any]) -> PolygonCell | None:
    polygons = [
        rings
        for coordinates in _polygons(feature.get("geometry", feature))
        if (rings := _rings(coordinates))
    ]
    if not polygons:
        return None
    outer = np.concatenate([rings[0] for rings in polygons])
    (x0, y0), (x1, y1) = np.floor(outer.min(axis=0)), np.ceil(outer.max(axis=0))
    properties = feature.get("properties")
    name = (
        feature.get("id")
        or (properties.get("name") if isinstance(properties, dict) else None)
        or ""
    )
    return PolygonCell(
        polygons,
        str(name),
        (int(y0), max(int(y1), int(y0) + 1), int(x0), max(int(x1), int(x0) + 1)),
    )


def _polygons(geometry: Any) -> Iterator[Any]:
    """Coordinates of every polygon of a geometry, in order."""
    waiting = [geometry]
    while waiting:
        one = waiting.pop()
        kind = one.get("type") if isinstance(one, dict) else None
        if kind == "Polygon":
            yield one["coordinates"]
        elif kind == "MultiPolygon":
            yield from one["coordinates"]
        elif kind == "GeometryCollection":
            waiting.extend(reversed(one.get("geometries") or []))


def _rings(coordinates: Any) -> list[Array]:
    """Outline and holes, (N, 2) float64 each; empty if the outline has fewer than three points."""
    rings = [np.asarray(ring, np.float64) for ring in coordinates or [] if len(ring) >= 3]
    if not rings or len(coordinates[0]) < 3:
        return []
    for ring in rings:
        if ring.ndim != 2 or ring.shape[1] < 2:
            raise ValueError(f"a ring is a list of points (x, y), not of shape {ring.shape}")
        if not np.isfinite(ring[:, :2]).all() or np.abs(ring[:, :2]).max() > _FARTHEST:
            raise ValueError(
                "coordinates that are no pixels of an image: NaN, infinite, or beyond a billion"
            )
    return [ring[:, :2] for ring in rings]
