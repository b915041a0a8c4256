"""GeoJSON polygons (QuPath's export) as a label image, rasterised region by region."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import ReadError
from panimbus.core.fov import Array
from panimbus.core.keys import bounds
from panimbus.io.polygons import Cell, Edges

_STRIP = 1024


class GeoJsonLabels:
    """Polygons as a (Y, X) uint32 label image: ids from 1 in file order, later cells do not paint over earlier ones.

    A pixel belongs to a cell if its centre lies inside. A cell that would get no pixel gets the free one nearest to its
    centre, or one of a neighbour that has others, so that each keeps at least one.

    Parameters
    ----------
    path
        The file; parsed when pixels are first asked for.
    shape : (Y, X)
        Size of the image.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self._path = path
        self._shape = shape
        self._lock = threading.Lock()
        self._cells: list[Cell] | None = None
        self._boxes: Array = np.zeros((0, 4), np.int64)
        self._edges: Edges | None = None
        self._rescued: dict[tuple[int, int], int] = {}

    def __reduce__(self) -> tuple[type[GeoJsonLabels], tuple[Path, tuple[int, int]]]:
        return GeoJsonLabels, (self._path, self._shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """(Y, X)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Ids as uint32."""
        return np.dtype(np.uint32)

    @property
    def names(self) -> dict[int, str]:
        """Name (or QuPath's id) of each label."""
        return {i: cell.name for i, cell in enumerate(self._load(), 1)}

    def __getitem__(self, key: Any, /) -> Array:
        ((y0, y1), (x0, x1)), dropped = bounds(key, self._shape)
        self._load()
        out = self._draw(y0, y1, x0, x1)
        for (y, x), label in self._rescued.items():
            if y0 <= y < y1 and x0 <= x < x1:
                out[y - y0, x - x0] = label
        return out.squeeze(axis=dropped)

    def _load(self) -> list[Cell]:
        with self._lock:
            if self._cells is None:
                cells = read_cells(self._path)
                self._boxes = np.array([c.box for c in cells], np.int64).reshape(-1, 4)
                self._check_inside(cells)
                self._edges = Edges(cells)
                self._cells = cells
                self._rescued = self._rescue(cells)
            return self._cells

    def _check_inside(self, cells: list[Cell]) -> None:
        outside = (self._boxes[:, 0] >= self._shape[0]) | (self._boxes[:, 2] >= self._shape[1])
        outside |= (self._boxes[:, 1] <= 0) | (self._boxes[:, 3] <= 0)
        if outside.any():
            i = int(np.flatnonzero(outside)[0])
            raise ReadError(
                f"{self._path}: {int(outside.sum())} of {len(cells)} polygons lie outside the image.",
                expected=f"coordinates in pixels of the image, (Y, X) = {self._shape}",
                got=f"polygon {i + 1}: y {cells[i].box[0]} to {cells[i].box[1]}, x {cells[i].box[2]} to {cells[i].box[3]}",
                fix="export the polygons of this very image, in pixels (not µm)",
            )

    def _draw(self, y0: int, y1: int, x0: int, x1: int) -> Array:
        """Labels of a region, rescued pixels aside."""
        b = self._boxes
        hit = np.flatnonzero((b[:, 0] < y1) & (b[:, 1] > y0) & (b[:, 2] < x1) & (b[:, 3] > x0))
        if self._edges is None or not hit.size:
            return np.zeros((y1 - y0, x1 - x0), np.uint32)
        return self._edges.draw(hit, (y0, y1, x0, x1))

    def _rescue(self, cells: list[Cell]) -> dict[tuple[int, int], int]:
        """A pixel for each cell that has none; two passes over the image in strips."""
        sizes = np.zeros(len(cells) + 1, np.int64)
        for y in range(0, self._shape[0], _STRIP):
            part = self._draw(y, min(y + _STRIP, self._shape[0]), 0, self._shape[1])
            sizes += np.bincount(part.ravel(), minlength=len(sizes))
        taken: dict[tuple[int, int], int] = {}
        for label in np.flatnonzero(sizes[1:] == 0) + 1:
            y, x, owner = self._spare(cells[label - 1], sizes, taken)
            sizes[owner] -= 1
            taken[y, x] = int(label)
        return taken

    def _spare(self, cell: Cell, sizes: Array, taken: dict[tuple[int, int], int]) -> tuple[int, int, int]:
        """Pixel nearest to the cell's middle that is background or of a cell with more than one pixel, and its owner."""
        ring = cell.polygons[0][0]
        middle_x, middle_y = (ring.min(axis=0) + ring.max(axis=0)) / 2 - 0.5
        height, width = self._shape
        reach = 2
        while True:
            y0, y1 = max(int(middle_y) - reach, 0), min(int(middle_y) + reach + 2, height)
            x0, x1 = max(int(middle_x) - reach, 0), min(int(middle_x) + reach + 2, width)
            if y1 > y0 and x1 > x0:
                owner = self._draw(y0, y1, x0, x1)
                ys, xs = np.indices(owner.shape)
                distance = (ys + y0 - middle_y) ** 2 + (xs + x0 - middle_x) ** 2
                for at in np.argsort(distance, axis=None, kind="stable"):
                    i, j = np.unravel_index(at, owner.shape)
                    who = int(owner[i, j])
                    if (y0 + int(i), x0 + int(j)) not in taken and (who == 0 or sizes[who] > 1):
                        return y0 + int(i), x0 + int(j), who
            if y0 == 0 and x0 == 0 and y1 == height and x1 == width:
                raise ReadError(f"{self._path}: there are more polygons than pixels.", got=f"image (Y, X) = {self._shape}")
            reach *= 4


def read_cells(path: Path) -> list[Cell]:
    """Polygons of a FeatureCollection, a bare list of features, or one feature.

    Where the file has cells or detections, annotations and tiles are left out; points and lines always are.
    """
    try:
        with path.open("rb") as file:
            data = json.load(file)
    except (ValueError, OSError) as error:
        raise ReadError(f"{path}: the GeoJSON cannot be parsed.", got=str(error)[:200]) from error
    features = data.get("features", [data]) if isinstance(data, dict) else data
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise ReadError(f"{path}: the JSON is not GeoJSON.", expected="a FeatureCollection or a list of features")
    kinds = [str((f.get("properties") or {}).get("objectType", "")).lower() for f in features]
    if any(k in ("cell", "detection") for k in kinds):
        features = [f for f, k in zip(features, kinds, strict=True) if k in ("cell", "detection", "")]
    cells = []
    for feature in features:
        try:
            cell = _cell(feature)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ReadError(
                f"{path}: a feature's geometry is not a polygon's.", got=f"{feature.get('id', 'no id')}: {error!r}"
            ) from error
        if cell is not None:
            cells.append(cell)
    return cells


def _cell(feature: dict[str, Any]) -> Cell | None:
    shape = feature.get("geometry", feature) or {}
    kind = shape.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    groups = [shape["coordinates"]] if kind == "Polygon" else shape["coordinates"]
    polygons = [[np.asarray(ring, float)[:, :2] for ring in rings] for rings in groups if rings and rings[0]]
    if not polygons:
        return None
    outer = np.concatenate([rings[0] for rings in polygons])
    if not all(np.isfinite(ring).all() for rings in polygons for ring in rings):
        raise ValueError("coordinates that are not numbers")
    (x0, y0), (x1, y1) = np.floor(outer.min(axis=0)), np.ceil(outer.max(axis=0))
    properties = feature.get("properties") or {}
    name = feature.get("id") or properties.get("name") or ""
    return Cell(polygons, str(name), (int(y0), max(int(y1), int(y0) + 1), int(x0), max(int(x1), int(x0) + 1)))
