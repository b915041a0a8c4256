"""Results as layers of napari, which is not needed to make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.fov import ArrayLike
from panimbus.core.indexing import Ranges
from panimbus.core.lazy import LazyArray
from panimbus.core.table import NORMALISER
from panimbus.core.types import Array
from panimbus.viewer.pictures import cell_colours
from panimbus.viewer.result import Result
from panimbus.viewer.style import CellStyle

Layer = tuple[Any, dict[str, Any], str]


class _Plane(LazyArray):
    """One channel of a lazy image (C, Y, X) as napari takes it: (Y, X)."""

    ndim = 2

    def __init__(self, image: ArrayLike, channel: int) -> None:
        super().__init__(image.shape[1:], image.dtype)
        self._image, self._channel = image, channel

    def read_ranges(self, ranges: Ranges) -> Array:
        (y0, y1), (x0, x1) = ranges
        return np.asarray(self._image[self._channel, y0:y1, x0:x1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:  # noqa: FBT001
        return np.array(self[:, :], dtype, copy=copy)


def to_napari(
    results: str | Path,
    fov: str | None = None,
    *,
    types: str | Path | None = None,
    channels: Sequence[str] | None = None,
    color_by: str = "cell_type",
) -> list[Layer]:
    """Layers of one FOV for napari: its channels, and its cells in colours.

    Parameters
    ----------
    results
        Folder of ``panimbus predict``.
    fov
        Default: the first one.
    types
        Folder of ``panimbus phenotype run``; default: the one in ``results``.
    channels
        Channels of the image; default: all. They are read when napari draws them.
    color_by
        ``cell_type``, or a marker: amber for positive cells, blue for negative ones.

    Returns
    -------
    list of (data, keywords, kind)
        In micrometres where the pixel size is stored. The features of the labels are the cells'
        scores and types. ``napari.layers.Layer.create(*layer)`` makes a layer of each.

    Raises
    ------
    InputError
        If there is no such result, FOV, channel or marker, or the result has no types.

    Examples
    --------
    >>> import panimbus
    >>> panimbus.to_napari("nowhere")
    Traceback (most recent call last):
    panimbus.core.errors.InputError: nowhere: there is no cells.h5ad.
      expected:  the --out folder of `panimbus predict` or `panimbus merge`
      fix:       pass that folder (with --tables h5ad, which is the default)
    """
    result = Result(results, types=types)
    tables = result.tables
    one = result.fov(fov or result.fovs[0])
    chosen = list(one.channels if channels is None else channels)
    if unknown := [c for c in chosen if c not in one.channels]:
        raise InputError(f"There is no channel {unknown[0]!r}.", available=one.channels)
    if color_by == "cell_type" and tables.types is None:
        raise InputError("The result has no types.", fix="pass types=, or color_by= a marker")
    if color_by != "cell_type" and color_by not in tables.markers:
        raise InputError(
            f"There is no marker {color_by!r}.", available=["cell_type", *tables.markers]
        )
    scale = (one.mpp or 1.0,) * 2
    normaliser = tables.cells.var.get(NORMALISER, {})
    layers: list[Layer] = []
    for name in chosen:
        about: dict[str, Any] = {"name": name, "scale": scale, "blending": "additive"}
        if (high := float(normaliser.get(name, 0))) > 0:
            about["contrast_limits"] = (0.0, high)
        layers.append((_Plane(one.image, one.index(name)), about | {"visible": False}, "image"))
    if layers:
        layers[0][1]["visible"] = True
    return layers if one.labels is None else [*layers, _cells(result, one.fov_id, color_by, scale)]


def _cells(result: Result, fov: str, color_by: str, scale: tuple[float, float]) -> Layer:
    tables, labels = result.tables, result.fov(fov).labels
    if labels is None:
        raise InputError(f"FOV {fov!r} has no label image.")
    marker = 0 if color_by == "cell_type" else tables.markers.index(color_by)
    style = CellStyle("type" if color_by == "cell_type" else "call", marker)
    rows, ids = tables.rows(fov), tables.cell_ids(fov).tolist()
    rgba = np.column_stack([cell_colours(tables, style, rows) / 255.0, np.ones(len(rows))])
    colours: dict[int | None, Any] = {None: np.zeros(4), 0: np.zeros(4)}
    colours |= dict(zip(ids, rgba, strict=True))
    obs = tables.cells.obs if tables.types is None else tables.types
    features = obs.iloc[rows].reset_index(drop=True)
    features.insert(0, "index", ids)
    for k, name in enumerate(tables.markers):
        features[name] = np.asarray(tables.cells.X)[rows, k]
    height, width = labels.shape
    about = {
        "name": f"{fov}: {color_by}", "scale": scale, "colormap": colours, "opacity": 0.6,
        "features": features,
    }  # fmt: skip
    return np.asarray(labels[0:height, 0:width]), about, "labels"
