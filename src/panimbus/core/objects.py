"""Objects of a label image that are no cells by their size.

Vessels and merged clumps, and slivers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError

CELL, LARGE, SLIVER = OBJECT_KINDS = ("cell", "large", "sliver")
LARGE_UM2 = 1000.0
"""No cell is larger, unless the others are large, too: the area of a circle 36 µm across."""
LARGE_MEDIANS = 10.0
"""And so many times the median area."""
SLIVER_UM2 = 5.0
"""No cell is smaller: the area of a circle 2.5 µm across."""


def object_kinds(
    area_um2: npt.ArrayLike, min_area: float | None = None, max_area: float | None = None
) -> npt.NDArray[np.str_]:
    """What each object of a label image is by its area.

    An object is ``large`` above 1000 µm² if it also has more than ten times the median area, and a
    ``sliver`` below 5 µm². The limits were chosen on ten segmentations. Where the largest objects
    are cells (CODEX of lymphoma and lymph node, MELC of lung, MIBI of brain and breast, Vectra)
    they have 113 to 731 µm²: tumour cells, macrophages and neurons are not large. In imaging mass
    cytometry of spleen, none of about 500 objects above 500 µm² is a cell by its authors' own
    classes; they are lumina and stroma of up to 74,826 µm². In MIBI of lymphoid tissue, segmented
    by a plain watershed, those above 1000 µm² are clumps of many nuclei. The median makes room for
    tissue of large cells, such as fat; giant cells among small ones (megakaryocytes) need
    ``max_area``. Cells in 1 µm pixels may have 10 µm² and less; below 5 µm² are 0.3 % of the
    spleen's objects and 0.7 % of the lymph node's, fragments of a few pixels.

    Parameters
    ----------
    area_um2 : (n,) float
        Of the objects of a whole dataset, in µm². NaN = unknown, taken for a cell's.
    min_area, max_area
        Areas of cells in µm², instead of the limits above (a maximum counts alone, whatever the
        median is).

    Returns
    -------
    (n,) str
        Of `OBJECT_KINDS`.

    Examples
    --------
    >>> object_kinds([2, 40, 50, 60, 900, 1100]).tolist()
    ['sliver', 'cell', 'cell', 'cell', 'cell', 'large']
    >>> object_kinds([900, 1100, 1200]).tolist()
    ['cell', 'cell', 'cell']
    >>> object_kinds([2, 40, 900], min_area=0, max_area=500).tolist()
    ['cell', 'cell', 'large']
    """
    check_limits(min_area, max_area)
    area = np.asarray(area_um2, np.float64)
    large = large_limit(area) if max_area is None else max_area
    small = SLIVER_UM2 if min_area is None else min_area
    return np.where(area > large, LARGE, np.where(area < small, SLIVER, CELL))


def large_limit(area_um2: npt.ArrayLike) -> float:
    """The area in µm² above which an object of a dataset is large.

    1000, or ten times the median if that is more.
    """
    area = np.asarray(area_um2, np.float64)
    area = area[np.isfinite(area)]
    return max(LARGE_UM2, LARGE_MEDIANS * float(np.median(area))) if len(area) else LARGE_UM2


def check_limits(min_area: float | None, max_area: float | None) -> None:
    """Refuse limits that leave no cell."""
    low, high = 0.0 if min_area is None else min_area, np.inf if max_area is None else max_area
    if not (0 <= low < np.inf and low < high):
        raise InputError(
            "The limits of a cell's area leave no cell.",
            expected="a smallest area of at least 0 µm², and a largest one above it",
            got=f"min_area {min_area}, max_area {max_area}",
        )


def object_shares(kinds: npt.ArrayLike, area_um2: npt.ArrayLike) -> dict[str, dict[str, Any]]:
    """How many objects are no cells, and how much of the labelled area they have.

    Returns
    -------
    dict
        ``large`` and ``sliver`` -> ``count``, ``area_share``; those of which there are none are
        left out.

    Examples
    --------
    >>> object_shares(["cell", "large", "cell"], [50, 150, 50])
    {'large': {'count': 1, 'area_share': 0.6}}
    """
    names, area = np.asarray(kinds), np.asarray(area_um2, np.float64)
    out = {}
    for kind in (LARGE, SLIVER):
        if (these := names == kind).any():
            out[kind] = {
                "count": int(these.sum()),
                "area_share": float(area[these].sum() / area.sum()),
            }
    return out


def describe_object_shares(shares: dict[str, dict[str, Any]]) -> str:
    """One sentence of `object_shares`; empty where all objects are cells.

    Examples
    --------
    >>> describe_object_shares({"large": {"count": 1, "area_share": 0.6}, "sliver": {"count": 1200, "area_share": 0.0004}})
    'objects that are no cells by their area: 1 large (60.0 % of the labelled area), 1,200 slivers (0.0 %)'
    """
    words: list[str] = []
    for kind, share in shares.items():
        name = f"{kind}s" if kind == SLIVER and share["count"] != 1 else kind
        of = " of the labelled area" if not words else ""
        words.append(f"{share['count']:,} {name} ({100 * share['area_share']:.1f} %{of})")
    return f"objects that are no cells by their area: {', '.join(words)}" if words else ""
