"""What `inspect_fovs` says about a label image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from panimbus.core.fov import Fov
from panimbus.core.objects import SLIVER_UM2
from panimbus.core.scan import FovCells
from panimbus.infer.watch import count_pieces

DIAMETER_UM = (3.0, 40.0)
PIECES = 0.02


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
        Ids whose pixels are not connected (8-neighbourhood): fragments, or an id used for two cells.
    small
        Cells below the smallest area of one.
    negative
        Pixels below 0.
    covered
        Share of the image that is cell.
    median_diameter_um
        Of the circle with the cell's area; None without cells or pixel size.
    """

    dtype: str
    format: str
    cells: int
    in_pieces: int
    small: int
    negative: int
    covered: float
    median_diameter_um: float | None


def describe(fov: Fov, cells: FovCells, plain: Fov, negative: int, min_area: float | None) -> LabelReport:
    """Look at a label image.

    Parameters
    ----------
    fov, cells
        The FOV and its cells.
    plain
        The FOV with what is below 0 taken for background.
    negative
        Pixels below 0.
    min_area
        Smallest area of a cell in µm², None for the usual one.
    """
    area = cells.geometry.count * (fov.mpp or float("nan")) ** 2
    pieces = count_pieces(plain.labels, cells.index) if plain.labels is not None else np.zeros(0, np.int64)
    known = fov.mpp is not None and cells.n > 0
    return LabelReport(
        dtype=str(fov.labels.dtype) if fov.labels is not None else "",
        format=str(fov.source.get("labels_format", "array")),
        cells=cells.n,
        in_pieces=int((pieces > 1).sum()),
        small=int((area < (SLIVER_UM2 if min_area is None else min_area)).sum()) if known else 0,
        negative=negative,
        covered=float(cells.geometry.count.sum() / max(1, fov.shape_yx[0] * fov.shape_yx[1])),
        median_diameter_um=float(2 * np.sqrt(np.median(area) / np.pi)) if known else None,
    )


def problems_of(labels: LabelReport) -> list[str]:
    """What would stop `predict`."""
    return [f"{labels.negative:,} pixels of the label image are below 0: set what is not a cell to 0"] if labels.negative else []


def warnings_of(labels: LabelReport, min_area: float | None) -> list[str]:
    """What looks wrong; ``min_area`` as in `describe`."""
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
        out.append(f"the median cell is {diameter:.1f} µm wide, which is no cell: the pixel size is probably wrong (pass --mpp)")
    return out
