"""Readers and writers: images and label images as FOVs, cell tables, maps, GeoJSON.

Names are imported on first use, so that ``import panimbus.io`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panimbus.io.attach import attach_labels as attach_labels
    from panimbus.io.attach import validate_labels as validate_labels
    from panimbus.io.files import atomic_path as atomic_path
    from panimbus.io.fovs import from_array as from_array
    from panimbus.io.fovs import open_fovs as open_fovs
    from panimbus.io.labels import open_labels as open_labels
    from panimbus.io.polygon_labels import GeoJsonLabels as GeoJsonLabels
    from panimbus.io.scores import read_h5ad as read_h5ad
    from panimbus.io.scores import read_scores as read_scores
    from panimbus.io.spatialdata_writer import write_spatialdata as write_spatialdata
    from panimbus.io.write import tile_writer as tile_writer
    from panimbus.io.write import write_labels as write_labels
    from panimbus.io.write import write_ome_tiff as write_ome_tiff
    from panimbus.io.write import write_ome_zarr as write_ome_zarr
    from panimbus.io.write_table import write_h5ad as write_h5ad

_MODULES = {
    "GeoJsonLabels": "polygon_labels",
    "atomic_path": "files",
    "attach_labels": "attach",
    "from_array": "fovs",
    "open_fovs": "fovs",
    "open_labels": "labels",
    "read_h5ad": "scores",
    "read_scores": "scores",
    "tile_writer": "write",
    "validate_labels": "attach",
    "write_h5ad": "write_table",
    "write_labels": "write",
    "write_ome_tiff": "write",
    "write_ome_zarr": "write",
    "write_spatialdata": "spatialdata_writer",
}
__all__ = [*_MODULES]  # noqa: PLE0604 (the names are literal strings above)


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'panimbus.io' has no attribute {name!r}")
    return getattr(importlib.import_module(f"panimbus.io.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
