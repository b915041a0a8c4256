"""How much of a dataset is excluded, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panimbus.core.errors import format_list
from panimbus.core.fov import Fov
from panimbus.core.scan import FovCells

INVERTED = 0.9
"""Share of the pixels above which a mask is probably inverted."""


@dataclass(frozen=True)
class Excluded:
    """The excluded part of a FOV.

    Parameters
    ----------
    fov_id
    share
        Of the image's pixels.
    cells
        Cells more than half of whose pixels lie in it.
    """

    fov_id: str
    share: float
    cells: int


def excluded_part(fov: Fov, cells: FovCells) -> Excluded | None:
    """The excluded part of a scanned FOV; None without a mask."""
    if cells.excluded is None:
        return None
    height, width = fov.shape_yx
    return Excluded(fov.fov_id, cells.excluded_pixels / (height * width), int(cells.excluded.sum()))


def warn_of_masks(parts: Sequence[Excluded]) -> list[str]:
    """Warnings about masks that exclude nothing, or nearly everything.

    Examples
    --------
    >>> warn_of_masks([Excluded("fov1", 0.0, 0), Excluded("fov2", 0.1, 12)])
    ["the mask of excluded regions is empty: FOV 'fov1' (all 0: nothing is left out)"]
    """
    empty = [repr(part.fov_id) for part in parts if part.share == 0]
    full = [f"{p.fov_id!r} ({100 * p.share:.1f} %)" for p in parts if p.share > INVERTED]
    out = []
    if empty:
        out.append(
            f"the mask of excluded regions is empty: FOV {format_list(empty, 10)} (all 0: nothing"
            " is left out)"
        )
    if full:
        out.append(
            f"the mask excludes nearly the whole image: FOV {format_list(full, 10)}; pixels other"
            " than 0 are left out: is it inverted?"
        )
    return out


def describe_excluded(parts: Sequence[Excluded], fovs: int) -> str:
    """What is excluded, in one sentence; empty without masks.

    Parameters
    ----------
    parts
        Those of the FOVs with a mask.
    fovs
        Number of FOVs of the dataset.

    Examples
    --------
    >>> describe_excluded([Excluded("fov1", 0.25, 120), Excluded("fov2", 0.05, 3)], 4)
    'excluded regions: 123 cells in 2 of 4 FOVs, 5.0 to 25.0 % of the pixels of these'
    """
    if not parts:
        return ""
    shares = sorted(100 * part.share for part in parts)
    low, high = f"{shares[0]:.1f}", f"{shares[-1]:.1f}"
    cells = sum(part.cells for part in parts)
    return (
        f"excluded regions: {cells:,} cells in {len(parts)} of {fovs} FOVs,"
        f" {high if low == high else f'{low} to {high}'} % of the pixels of these"
    )
