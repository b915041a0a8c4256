"""Reading a band of a FOV: its labels, and its channels with the parts that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from panimbus.core.band import LabelBand, PlaneBand, look_at_labels, look_at_plane
from panimbus.core.errors import InputError, ReadError
from panimbus.core.fov import ArrayLike, Fov
from panimbus.core.resample import Axis
from panimbus.core.types import Array, BoolArray

Box = tuple[int, int, int, int]
"""(first row, behind the last, first column, behind the last)."""
SKIP = (
    "`panimbus predict --on-error skip` leaves these pixels out (Python:"
    ' PredictSettings(on_error="skip"))'
)
_PATCH = 256  # rows and columns of the squares in which an unreadable part is looked for


def scan_labels(
    image: ArrayLike, fov: Fov, axes: tuple[Axis, Axis], rows: tuple[int, int]
) -> LabelBand:
    """Read the labels of a band; errors name the FOV and the rows."""
    try:
        labels = np.asarray(image[rows[0] : rows[1], 0 : fov.shape_yx[1]])
    except ReadError as error:
        raise ReadError(
            f"FOV {fov.fov_id!r}, label image, rows {rows[0]} to {rows[1] - 1}: {error}"
        ) from error
    _check_values(labels, fov.fov_id)
    return look_at_labels(labels, *axes, rows[0], _excluded(fov, rows))


def _excluded(fov: Fov, rows: tuple[int, int]) -> BoolArray | None:
    """Excluded pixels of a band; errors name the FOV."""
    if fov.excluded is None:
        return None
    try:
        mask = np.asarray(fov.excluded[rows[0] : rows[1], 0 : fov.shape_yx[1]])
    except ReadError as error:
        raise ReadError(f"FOV {fov.fov_id!r}, mask of excluded regions: {error}") from error
    return np.asarray(mask != 0, np.bool_)


def scan_plane(
    fov: Fov,
    channel: str,
    rows: tuple[int, int],
    on_error: str,
    labels: Callable[[], LabelBand],
    *,
    lenient: bool,
) -> tuple[PlaneBand, list[Box]]:
    """Read a channel of a band; return its sums and its unreadable parts.

    ``lenient``: pixels that are invalid or cannot be read are missing, whatever ``on_error`` says.
    """
    plane, width = fov.index(channel), fov.shape_yx[1]
    holes: list[Box] = []
    try:
        pixels = np.asarray(fov.image[plane, rows[0] : rows[1], 0:width])
    except ReadError as error:
        if on_error == "raise" and not lenient:
            where = f"FOV {fov.fov_id!r}, channel {channel!r}, rows {rows[0]} to {rows[1] - 1}"
            raise ReadError(f"{where}: {error}\n  or:        {SKIP}") from error
        pixels, holes = _read_around(fov, plane, rows)
    label_band = labels()
    try:
        return look_at_plane(pixels, label_band, rows[0], holes), holes
    except InputError as error:
        if lenient:
            holes = [(*rows, 0, width)]
            return look_at_plane(np.zeros_like(pixels), label_band, rows[0], holes), holes
        raise InputError(f"FOV {fov.fov_id!r}, channel {channel!r}: {error}") from None


def _read_around(fov: Fov, plane: int, rows: tuple[int, int]) -> tuple[Array, list[Box]]:
    """What can be read of a band, 0 elsewhere; and the squares that cannot."""
    width = fov.shape_yx[1]
    out = np.zeros((rows[1] - rows[0], width), fov.image.dtype)
    holes: list[Box] = []

    def read(y0: int, y1: int, x0: int, x1: int) -> bool:
        try:
            out[y0 - rows[0] : y1 - rows[0], x0:x1] = fov.image[plane, y0:y1, x0:x1]
        except ReadError:
            return False
        return True

    for y0, y1 in _steps(*rows):
        if not read(y0, y1, 0, width):
            holes += [(y0, y1, x0, x1) for x0, x1 in _steps(0, width) if not read(y0, y1, x0, x1)]
    return out, holes


def _steps(start: int, stop: int) -> list[tuple[int, int]]:
    """A range cut at the multiples of `_PATCH`."""
    return list(pairwise([start, *range((start // _PATCH + 1) * _PATCH, stop, _PATCH), stop]))


def _check_values(labels: Array, fov_id: str) -> None:
    if labels.dtype.kind == "i" and labels.size and int(labels.min()) < 0:
        raise InputError(
            f"FOV {fov_id!r}: the label image has negative ids.",
            expected="0 for background and positive ids",
            got=f"{int((labels < 0).sum()):,} pixels below 0, the lowest {int(labels.min())}",
            fix="set what is not a cell to 0",
        )
    if labels.dtype == np.uint64 and labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(
            f"FOV {fov_id!r}: label ids above 2^63 - 1 do not fit the cell table.",
            got=str(int(labels.max())),
        )
