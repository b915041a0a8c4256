"""Objects of a label image that are not cells: too large (vessels, clumps), too small, excluded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from panimbus.core.errors import InputError

CELL, LARGE, SLIVER, EXCLUDED = OBJECT_KINDS = ("cell", "large", "sliver", "excluded")
LARGE_UM2 = 1000.0
"""Area limit of large objects: a circle of 36 µm diameter."""
LARGE_MEDIANS = 10.0
"""Large objects also exceed this multiple of the median area."""
SLIVER_UM2 = 5.0
"""Area limit of slivers: a circle of 2.5 µm diameter."""


def object_kinds(
    area_um2: npt.ArrayLike, min_area: float | None = None, max_area: float | None = None
) -> npt.NDArray[np.str_]:
    """Classify the objects of a label image by their area: cell, large or sliver.

    ``excluded`` are those in excluded regions, whatever their area (`Fov.excluded`).

    An object is ``large`` above 1000 µm² and ten times the median area, and a ``sliver`` below
    5 µm². The limits were chosen on ten segmentations. The largest true cells (CODEX of lymphoma
    and lymph node, MELC of lung, MIBI of brain and breast, Vectra) have 113 to 731 µm². In imaging
    mass cytometry of spleen, none of about 500 objects above 500 µm² is a cell according to its
    authors; they are lumina and stroma of up to 74,826 µm². In MIBI of lymphoid tissue, segmented
    by a watershed, objects above 1000 µm² are clumps of nuclei. The median allows for tissue of
    large cells, such as fat; giant cells among small ones (megakaryocytes) need ``max_area``.
    Cells in 1 µm pixels may have 10 µm² or less; 0.3 % of the objects of the spleen and 0.7 % of
    those of the lymph node are below 5 µm², fragments of a few pixels.

    Parameters
    ----------
    area_um2 : (n,) float
        Areas of all objects of a dataset, in µm². NaN = unknown, treated as a cell.
    min_area, max_area
        Limits in µm² instead of those above; ``max_area`` ignores the median.

    Returns
    -------
    (n,) str
        Elements of `OBJECT_KINDS`.

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
    """Area in µm² above which objects are large: 1000 or ten times the median, if larger."""
    area = np.asarray(area_um2, np.float64)
    area = area[np.isfinite(area)]
    return max(LARGE_UM2, LARGE_MEDIANS * float(np.median(area))) if len(area) else LARGE_UM2


def check_limits(min_area: float | None, max_area: float | None) -> None:
    """Refuse area limits that exclude all cells."""
    low, high = 0.0 if min_area is None else min_area, np.inf if max_area is None else max_area
    if not (0 <= low < np.inf and low < high):
        raise InputError(
            "The limits of the cell area exclude all cells.",
            expected="a minimum of at least 0 µm², and a larger maximum",
            got=f"min_area {min_area}, max_area {max_area}",
        )


def object_shares(kinds: npt.ArrayLike, area_um2: npt.ArrayLike) -> dict[str, dict[str, Any]]:
    """Number and area share of the objects that are not cells.

    Returns
    -------
    dict
        ``large`` and ``sliver`` -> ``count``, ``area_share``; empty kinds are omitted.

    Examples
    --------
    >>> object_shares(["cell", "large", "cell"], [50, 150, 50])
    {'large': {'count': 1, 'area_share': 0.6}}
    """
    names, area = np.asarray(kinds), np.asarray(area_um2, np.float64)
    out = {}
    for kind in (LARGE, SLIVER):
        if (rows := names == kind).any():
            out[kind] = {
                "count": int(rows.sum()),
                "area_share": float(area[rows].sum() / area.sum()),
            }
    return out


def describe_object_shares(shares: dict[str, dict[str, Any]]) -> str:
    """Describe the result of `object_shares`; empty if all objects are cells.

    Examples
    --------
    >>> describe_object_shares({"large": {"count": 1, "area_share": 0.6}})
    'objects that are not cells by their area: 1 large (60.0 % of the labelled area)'
    """
    parts: list[str] = []
    for kind, share in shares.items():
        name = f"{kind}s" if kind == SLIVER and share["count"] != 1 else kind
        unit = "" if parts else " of the labelled area"
        parts.append(f"{share['count']:,} {name} ({100 * share['area_share']:.1f} %{unit})")
    return f"objects that are not cells by their area: {', '.join(parts)}" if parts else ""
