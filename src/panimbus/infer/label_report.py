"""Checks of label images: what `inspect_fovs` reports, and what stops `predict`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError, PanimbusError
from panimbus.core.fov import Fov
from panimbus.core.objects import SLIVER_UM2
from panimbus.core.registration import describe_misfit
from panimbus.core.scan import FovCells, bands
from panimbus.infer.settings import PredictSettings
from panimbus.infer.validating import count_pieces

logger = logging.getLogger(__name__)
DIAMETER_UM = (3.0, 40.0)
"""Usual median widths of cells; a warning beyond them."""
NO_CELL_UM = (2.0, 60.0)
"""Possible median widths of cells; an error beyond them."""
PIECES = 0.02
APART = 30.0
"""`FovCells.spread` of an id whose pieces lie far apart; real segmentations have up to 7."""
MANY, MUCH = 10, 0.2
"""Pieces of an id, and its share of the labelled area, that no cell has (vessels: up to 0.3)."""
_TOPS = (127, 255, 4095, 32767, 65535)  # largest numbers of types of pixels
_HUGE, _PART = (
    10.0,
    0.05,
)  # multiple of the median area, and share of the labelled area, of a suspicious id
_LONG = 2.0
_FEW = 5  # too few for a median
_SEVERAL = 10  # too few for shares of the area
_SPECK = 3  # pixels
ALLOW = "--allow-odd-labels (Python: PredictSettings(allow_odd_labels=True))"


@dataclass(frozen=True)
class LabelReport:
    """The label image of one FOV.

    Parameters
    ----------
    dtype, format
        As stored.
    cells
        Number of ids.
    in_pieces
        Ids whose pixels are not connected (8-neighbourhood): fragments, or an id used for two
        cells.
    small
        Cells below the smallest area of a cell.
    negative
        Pixels below 0.
    covered
        Share of the image covered by cells.
    median_diameter_um
        Of circles with the cells' areas; None without cells or pixel size.
    """

    dtype: str
    format: str
    cells: int
    in_pieces: int
    small: int
    negative: int
    covered: float
    median_diameter_um: float | None


def describe(
    fov: Fov, cells: FovCells, negative: int, min_area: float | None, pieces: npt.NDArray[np.int64]
) -> LabelReport:
    """Describe a label image.

    Parameters
    ----------
    fov, cells
        The FOV and its cells.
    negative
        Pixels below 0.
    min_area
        Smallest area of a cell in µm²; default: the usual one.
    pieces : (n,) int64
        From `count_pieces`.
    """
    area = cells.geometry.count * (fov.mpp or float("nan")) ** 2
    measurable = fov.mpp is not None and cells.n > 0
    return LabelReport(
        dtype=str(fov.labels.dtype) if fov.labels is not None else "",
        format=str(fov.source.get("labels_format", "array")),
        cells=cells.n,
        in_pieces=int((pieces > 1).sum()),
        small=int((area < (SLIVER_UM2 if min_area is None else min_area)).sum())
        if measurable
        else 0,
        negative=negative,
        covered=float(cells.geometry.count.sum() / max(1, fov.shape_yx[0] * fov.shape_yx[1])),
        median_diameter_um=_diameter(fov, cells),
    )


def _diameter(fov: Fov, cells: FovCells) -> float | None:
    """Median width in µm of the circles with the cells' areas."""
    if fov.mpp is None or not cells.n:
        return None
    return float(2 * fov.mpp * np.sqrt(np.median(cells.geometry.count) / np.pi))


def impossible(
    fov: Fov, cells: FovCells, pieces: npt.NDArray[np.int64] | None = None
) -> str | None:
    """Why the objects of a label image cannot be cells; None if they can.

    Uses the first pass; only suspicious label images are read again, to count pieces.

    Parameters
    ----------
    fov, cells
        The FOV and its cells.
    pieces : (n,) int64
        From `count_pieces`, if already counted.
    """
    if not cells.n or fov.labels is None:
        return None
    if pieces is None and _suspicious(fov, cells):
        pieces = count_pieces(fov.labels, cells.index)
    in_pieces = (
        _in_pieces(fov, cells, pieces) or _one_for_many(cells, pieces)
        if pieces is not None
        else None
    )
    return _specks(fov, cells) or in_pieces or _background(fov, cells) or _no_cells_size(fov, cells)


def _suspicious(fov: Fov, cells: FovCells) -> bool:
    long = (cells.spread > _LONG).mean() > 0.5
    alone = _dominant(cells).any() or _cut_off(cells)
    return bool(
        long or alone or (cells.spread > APART).any() or _no_cells_size(fov, cells) is not None
    )


def _dominant(cells: FovCells) -> npt.NDArray[np.bool_]:
    """Ids far larger than the others, with a relevant part of the labelled area."""
    count = cells.geometry.count
    return np.asarray(
        (count > _HUGE * np.median(count)) & (count > _PART * count.sum()) & (cells.n >= _SEVERAL)
    )


def _cut_off(cells: FovCells) -> bool:
    """Whether the last id is the largest number of a type, and larger than a cell."""
    count = cells.geometry.count
    return int(cells.index.ids[-1]) in _TOPS and bool(count[-1] > 1.5 * np.median(count))


def _one_for_many(cells: FovCells, pieces: npt.NDArray[np.int64]) -> str | None:
    """An id that stands for many cells, while the others stand for one each."""
    ids, share = cells.index.ids, cells.geometry.count / cells.geometry.count.sum()
    last = _cut_off(cells) and bool(pieces[-1] > 2 or (share[-1] > MUCH and cells.n >= _SEVERAL))
    many = (pieces > MANY) & ((cells.spread > APART) | _dominant(cells))
    if not (last or many.any()):
        return None
    k = len(ids) - 1 if last else int(np.where(many, pieces, 0).argmax())
    why = (
        f"ids above {ids[k]:,} were cut off"
        if last
        else "ids were changed by a mistake, or the background has one"
    )
    parts = f"{pieces[k]:,} separate pieces with" if pieces[k] > 1 else "no cell, it has"
    return (
        f"id {ids[k]:,} is {parts} {100 * share[k]:.0f} % of the labelled area, so it stands for"
        f" several cells: {why}"
    )


def _background(fov: Fov, cells: FovCells) -> str | None:
    """An id with a large share of the area that reaches all edges is the background, no vessel."""
    share = cells.geometry.count / cells.geometry.count.sum()
    k = int(share.argmax())
    if fov.labels is None or cells.n < _SEVERAL or share[k] <= MUCH:
        return None
    (height, width), label = fov.shape_yx, cells.index.ids[k]
    edges = [(a, b, x, x + 1) for x in (0, width - 1) for a, b in bands(fov.shape_yx)]
    sides = [
        any((fov.labels[a:b, x0:x1] == label).any() for a, b, x0, x1 in edges if x0 == x)
        for x in (0, width - 1)
    ]
    sides += [bool((fov.labels[y : y + 1, 0:width] == label).any()) for y in (0, height - 1)]
    if not all(sides):
        return None
    return (
        f"id {label:,} has {100 * share[k]:.0f} % of the labelled area and reaches all edges of the"
        " image: it looks like the background, which must be 0"
    )


def _in_pieces(fov: Fov, cells: FovCells, pieces: npt.NDArray[np.int64]) -> str | None:
    n, total = cells.n, int(pieces.sum())
    if total >= 5 * n:
        kind = (
            "a mask of all cells"
            if n == 1
            else "a map of classes or regions, or numbers damaged by lossy compression"
        )
        return (
            f"{n:,} id{'s' * (n != 1)} for {total:,} separate pieces: the label image looks like"
            f" {kind}, not one id per cell"
        )
    apart = int(((pieces > 1) & (cells.spread > APART)).sum())
    top = int(np.iinfo(fov.labels.dtype).max) if fov.labels is not None else 0
    full = top <= 65535 and int(cells.index.ids[-1]) >= top - 1
    if apart >= 3 and (full or apart >= PIECES * n):
        why = (
            f"ids above {top:,} were cut off by the type"
            f" {fov.labels.dtype if fov.labels is not None else ''}"
            if full
            else (
                "tiles were joined without numbering their cells anew, or ids were changed by"
                " resizing or compression"
            )
        )
        return (
            f"{apart:,} of {n:,} ids have pieces far apart, so they stand for several cells each:"
            f" {why}"
        )
    return None


def _specks(fov: Fov, cells: FovCells) -> str | None:
    count = cells.geometry.count
    specks = int(((count <= _SPECK) & (count * (fov.mpp or 0.0) ** 2 < SLIVER_UM2)).sum())
    if specks < max(20, 0.5 * cells.n):
        return None
    return (
        f"{specks:,} of {cells.n:,} ids have {_SPECK} pixels or fewer: ids are numbers, which lossy"
        " compression (JPEG) and resizing with interpolation destroy"
    )


def _no_cells_size(fov: Fov, cells: FovCells) -> str | None:
    diameter = _diameter(fov, cells)
    if (
        diameter is None
        or NO_CELL_UM[0] <= diameter <= NO_CELL_UM[1]
        or (diameter < NO_CELL_UM[0] and cells.n < _FEW)
    ):
        return None
    return (
        f"the median cell is {diameter:.3g} µm wide, which is no cell: the pixel size, {fov.mpp:g}"
        " µm, is probably wrong"
    )


def problems_of(labels: LabelReport) -> list[str]:
    """Problems that stop `predict`."""
    return (
        [f"{labels.negative:,} pixels of the label image are below 0: set what is not a cell to 0"]
        if labels.negative
        else []
    )


def warnings_of(labels: LabelReport, min_area: float | None) -> list[str]:
    """Warnings about a label image; ``min_area`` as in `describe`."""
    if not labels.cells:
        return ["there are no cells in the label image"]
    out = []
    if labels.in_pieces > PIECES * labels.cells:
        out.append(
            f"{labels.in_pieces:,} of {labels.cells:,} ids have several separate pieces "
            "(fragments, or one id for several cells); each id is scored as one cell"
        )
    if labels.small > PIECES * labels.cells:
        least = SLIVER_UM2 if min_area is None else min_area
        out.append(f"{labels.small:,} of {labels.cells:,} cells are smaller than {least:g} µm²")
    diameter = labels.median_diameter_um
    if diameter is not None and not DIAMETER_UM[0] <= diameter <= DIAMETER_UM[1]:
        out.append(
            f"the median cell is {diameter:.1f} µm wide, which is unusual: is the pixel size right"
            " (--mpp)?"
        )
    return out


def check_label_image(
    fov: Fov,
    cells: FovCells,
    settings: PredictSettings,
    *,
    channels: Sequence[str] = (),
    fresh: bool = True,
) -> None:
    """Refuse a label image whose objects cannot be cells, and warn of one that looks wrong.

    Parameters
    ----------
    fov, cells
        The FOV and what the first pass found.
    settings
        ``allow_odd_labels`` turns the refusal into a warning.
    channels
        Channels to compare the label image with.
    fresh
        Whether the FOV was just read. One from the store is not compared with its image again.

    Raises
    ------
    InputError
    """
    name = f"FOV {fov.fov_id!r}"
    try:
        odd = impossible(fov, cells)
    except PanimbusError:  # the pieces can no longer be read
        odd = None
    if odd is not None and not settings.allow_odd_labels:
        raise InputError(
            f"{name}: {odd}.",
            expected="one id per cell, 0 = background, and the right pixel size",
            fix=(
                "pass --mpp if the pixel size is wrong, or the right label image;"
                f" {ALLOW} continues anyway"
            ),
        )
    diameter = _diameter(fov, cells)
    if odd is not None:
        logger.warning("%s: %s", name, odd)
    elif not cells.n:
        logger.warning("%s: there are no cells in the label image", name)
    elif diameter is not None and not DIAMETER_UM[0] <= diameter <= DIAMETER_UM[1]:
        logger.warning(
            "%s: the median cell is %.1f µm wide, which is unusual: is the pixel size right"
            " (--mpp)?",
            name,
            diameter,
        )
    if fresh and (moved := describe_misfit(fov, channels)) is not None:
        logger.warning("%s: %s", name, moved)
