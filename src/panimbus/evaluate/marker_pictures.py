"""Pictures of a marker in a result: a window of the image, outlines of its calls, its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.labels import sample_labels
from panimbus.core.resample import Axis, shrink
from panimbus.core.table import CELL, SPATIAL
from panimbus.core.types import Array, BoolArray, Float64Array, Int32Array, UInt8Array
from panimbus.evaluate.markers import fov_codes
from panimbus.render.images import enlarge
from panimbus.render.paint import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    POSITIVE_EDGE,
    cell_rows,
    gray,
    outline_cells,
    paint_cells,
    score_colours,
)
from panimbus.render.palette import Rgb

if TYPE_CHECKING:
    from anndata import AnnData

_ENOUGH = 150, 60  # positive and negative cells that a window shows; more make it no better
_STEPS = 60
NEGATIVE_CALL: Rgb = (150, 190, 226)


@dataclass(frozen=True, eq=False)
class FovRows:
    """The cells of one FOV in a table.

    Parameters
    ----------
    fov_id
    rows : (n,) intp
        Rows of the table.
    cell_id : (n,) integer
    xy_um : (n, 2) float
        Centroids.
    """

    fov_id: str
    rows: Array
    cell_id: Array
    xy_um: Float64Array


@dataclass(frozen=True, eq=False)
class MarkerCells:
    """What a table says of a FOV's cells for one marker.

    Parameters
    ----------
    marker
    score : (n,) float
        NaN = missing.
    positive : (n,) bool
    black
        Intensity that is drawn black: the normaliser. NaN for a blank channel.
    truth : (n,) int8, optional
        1 positive, 0 negative, -1 not known.
    """

    marker: str
    score: Array
    positive: Array
    black: float
    truth: Array | None = None


@dataclass(frozen=True, eq=False)
class MarkerPicture:
    """A window of one marker.

    Parameters
    ----------
    fov_id
    width_um
    image : (h, w) uint8
        Dark on white.
    outlined : (h, w, 3) uint8
        The same with the outlines of positive and negative cells.
    painted : (h, w, 3) uint8
        Cells by score; with a truth the truth, with the errors outlined.
    """

    fov_id: str
    width_um: float
    image: UInt8Array
    outlined: UInt8Array
    painted: UInt8Array


def rows_by_fov(table: AnnData) -> list[FovRows]:
    """The cells of each FOV of a table, in its order."""
    if SPATIAL not in table.obsm:
        raise InputError(
            "The table does not say where its cells are.",
            expected=f"obsm {SPATIAL}: centroids x, y in µm, as `panimbus predict` writes them",
        )
    fovs, codes = fov_codes(table)
    ids, xy = table.obs[CELL].to_numpy(), np.asarray(table.obsm[SPATIAL], np.float64)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(fovs)))
    return [
        FovRows(name, rows, ids[rows], xy[rows])
        for name, rows in zip(fovs, np.split(order, ends[:-1]), strict=True)
    ]


def choose_window(xy_um: Array, positive: Array, side_um: float) -> tuple[float, float, float]:
    """The square of a FOV that shows most positive cells, and negative ones beside them.

    Parameters
    ----------
    xy_um : (n, 2) float
    positive : (n,) bool
    side_um
        Side of the square.

    Returns
    -------
    merit, y, x
        How good it is (0 without cells), and its upper left corner in µm. The first of equally good
        squares on a grid of half a side, so that the same table gives the same picture; moved so
        that its positive cells lie in the middle, if none is lost.

    Examples
    --------
    >>> xy = np.array([[10, 10], [110, 10], [120, 20.0]])
    >>> choose_window(xy, np.array([False, True, False]), 60)[1:]
    (0.0, 80.0)
    """
    if not len(xy_um):
        return 0.0, 0.0, 0.0
    step = side_um / 2
    at = np.maximum(xy_um // step, 0).astype(np.int64)
    across, down = (at.max(0) + 1).tolist()
    total = np.zeros((down, across))
    for chosen, most, weight in zip((positive, ~positive), _ENOUGH, (1.0, 0.5), strict=True):
        grid = np.bincount(at[chosen, 1] * across + at[chosen, 0], minlength=across * down)
        padded = np.pad(grid.reshape(down, across), ((0, 1), (0, 1)))
        count = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
        total += weight * np.log1p(np.minimum(count, most))
    y, x = np.unravel_index(int(np.argmax(np.round(total, 9))), total.shape)
    corner = np.array([x, y], np.float64) * step
    shown = _inside(xy_um[positive], corner, side_um)
    if shown.any():
        centred = np.maximum(xy_um[positive][shown].mean(0) - step, 0)
        if _inside(xy_um[positive], centred, side_um).sum() >= shown.sum():
            corner = centred
    return float(total[y, x]), float(corner[1]), float(corner[0])


def _inside(xy: Array, corner: Array, side: float) -> BoolArray:
    return np.asarray(((xy >= corner) & (xy < corner + side)).all(1))


def draw_pictures(
    fov: Fov,
    cells: FovRows,
    one: MarkerCells,
    corner_um: tuple[float, float],
    side: tuple[float, int],
) -> MarkerPicture:
    """Draw a window of a marker; only its pixels are read.

    Parameters
    ----------
    fov
        Image and label image.
    cells, one
        The FOV's cells, and the marker's values of them.
    corner_um
        Upper left corner, y and x; the window is moved into the image.
    side
        Of the window in µm, and of the picture in pixels (at most).
    """
    if fov.labels is None:
        raise InputError(f"FOV {fov.fov_id!r} has no label image to outline cells with.")
    rows, cols = window_in(fov, corner_um, side[0])
    plane = np.asarray(fov.image[fov.index(one.marker), rows, cols])
    labels = np.asarray(fov.labels[rows, cols])
    plane, labels = _fitted(plane, labels, side[1])
    index = cell_rows(labels, cells.cell_id)
    image = gray(plane, one.black)
    outlined = np.repeat(image[..., None], 3, 2)
    scored = ~np.isnan(one.score)
    outline_cells(outlined, index, ~one.positive & scored, NEGATIVE_CALL, width=1)
    outline_cells(outlined, index, one.positive, POSITIVE_EDGE)
    width = (cols.stop - cols.start) * (fov.mpp or 1.0)
    return MarkerPicture(cells.fov_id, width, image, outlined, _painted(one, index))


def window_in(fov: Fov, corner_um: tuple[float, float], side_um: float) -> tuple[slice, slice]:
    """Rows and columns of a square window, moved into the image."""
    mpp = fov.mpp or 1.0
    side = max(1, round(side_um / mpp))
    starts = [
        max(0, min(round(um / mpp), n - side))
        for um, n in zip(corner_um, fov.shape_yx, strict=True)
    ]
    y, x = (slice(s, min(s + side, n)) for s, n in zip(starts, fov.shape_yx, strict=True))
    return y, x


def _fitted(plane: Array, labels: Array, side: int) -> tuple[Array, Array]:
    """A window at about ``side`` pixels: shrunk, or enlarged by a whole number."""
    longest = max(plane.shape)
    if longest <= side:
        zoom = max(1, side // longest)
        return enlarge(plane, zoom), enlarge(labels, zoom)
    y, x = (Axis(n, longest / side) for n in plane.shape)
    whole = (0, y.size, 0, x.size)
    return shrink(plane, y, x, whole), sample_labels(labels, y, x, whole)


def _painted(one: MarkerCells, index: Int32Array) -> UInt8Array:
    if one.truth is None:  # in steps, so that few colours make a small file
        return paint_cells(index, score_colours(np.round(one.score * _STEPS) / _STEPS))
    truth = one.truth
    out = paint_cells(index, score_colours(np.where(truth < 0, np.nan, truth.astype(np.float64))))
    outline_cells(out, index, one.positive & (truth == 0), FALSE_POSITIVE)
    outline_cells(out, index, ~one.positive & (truth == 1), FALSE_NEGATIVE)
    return out
