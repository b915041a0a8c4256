"""Options about parts of a dataset: excluded regions."""

from __future__ import annotations

from typing import Annotated

from panimbus.cli.options import location

Exclude = Annotated[
    str | None,
    location(
        "--exclude",
        "Masks of regions to leave out (folds, blur): a folder, a mask, or a CSV file (fov,mask)."
        " A mask is an image, not 0 where pixels are left out, or GeoJSON.",
        "MASKS",
    ),
]
