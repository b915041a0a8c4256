"""A finished table as SpatialData: label images and the table that annotates them (extra ``spatialdata``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from panimbus.core.errors import MissingExtraError
from panimbus.core.table import CELL, FOV
from panimbus.io.write import atomic_path
from panimbus.phenotype.images import Segmented, check_cells, safe_name

if TYPE_CHECKING:
    from anndata import AnnData

REGION, KEY = "region", "cells"


def to_spatialdata(table: AnnData, segmented: Sequence[Segmented]) -> Any:
    """Label images in pixels and µm, and the table that refers to them by region and cell id.

    Returns
    -------
    spatialdata.SpatialData
        ``labels`` one element a FOV (coordinate systems ``<fov>`` in µm where the pixel size is known, else in pixels);
        ``tables["cells"]`` with ``region`` and ``cell_id``.
    """
    try:
        from spatialdata import SpatialData
        from spatialdata.models import Labels2DModel, TableModel
        from spatialdata.transformations import Identity, Scale
    except ImportError:
        raise MissingExtraError("Writing SpatialData", "spatialdata") from None
    import pandas as pd

    names = {one.fov_id: f"{safe_name(one.fov_id)}_labels" for one in segmented}
    elements = {}
    for one in segmented:
        labels = one.read()
        check_cells(table, one.fov_id, labels)
        to_um = Scale([one.mpp, one.mpp], axes=("y", "x")) if one.mpp else Identity()
        wide = labels.astype(np.uint32 if int(labels.max(initial=0)) < 2**32 else np.uint64)
        elements[names[one.fov_id]] = Labels2DModel.parse(wide, dims=("y", "x"), transformations={one.fov_id: to_um})
    mine = table.copy()
    mine.obs[REGION] = pd.Categorical([names[f] for f in mine.obs[FOV].astype(str)], categories=list(names.values()))
    mine.obs[CELL] = mine.obs[CELL].astype(np.int64)
    parsed = TableModel.parse(mine, region=list(names.values()), region_key=REGION, instance_key=CELL)
    return SpatialData(labels=elements, tables={KEY: parsed})


def write_spatialdata(path: Path, table: AnnData, segmented: Sequence[Segmented]) -> None:
    """Write `to_spatialdata` as a ``.zarr`` folder."""
    data = to_spatialdata(table, segmented)
    with atomic_path(path) as temporary:
        data.write(temporary)
