"""Files in, files out: images and label images as FOVs, score maps and labels as files."""

from __future__ import annotations

from panimbus.io.attach import attach_labels
from panimbus.io.files import atomic_path
from panimbus.io.fovs import from_array, open_fovs
from panimbus.io.labels import validate_labels
from panimbus.io.polygon_labels import GeoJsonLabels
from panimbus.io.write import tile_writer, write_labels, write_ome_tiff, write_ome_zarr

__all__ = [
    "GeoJsonLabels",
    "atomic_path",
    "attach_labels",
    "from_array",
    "open_fovs",
    "tile_writer",
    "validate_labels",
    "write_labels",
    "write_ome_tiff",
    "write_ome_zarr",
]
