"""Pixels and the run itself."""

import numpy as np
import tifffile
from attacks import attack


@attack("NaN or infinite", "CD3")
def nan_pixels(folder):
    image, _ = folder.arrays()
    planes = image.astype(np.float32)
    planes[0, 3, 4] = np.nan
    tifffile.imwrite(
        folder / "fov1.ome.tif",
        planes,
        ome=True,
        metadata={"axes": "CYX", "Channel": {"Name": ["CD3", "CD20", "DAPI"]}},
    )
    return folder.predict("--mpp", "0.5", image=folder / "fov1.ome.tif")


@attack("--dark-level", "at least 0", "nan")
def dark_level_nan(folder):
    return folder.predict("--dark-level", "nan")


@attack("--dark-level", "at least 0", "-300")
def dark_level_negative(folder):
    return folder.inspect("--dark-level", "-300")
