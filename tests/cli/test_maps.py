"""`panimbus predict --maps` as a user runs it."""

import numpy as np

from panimbus.io import open_fovs


def test_maps_as_zarr(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(*folder.arguments("--maps", "--maps-format", "zarr", *model))
    assert done.code == 0, done.err
    (fov,) = open_fovs(folder.out / "maps" / "fov1.ome.zarr")
    assert fov.channels == ("CD3", "CD20", "DAPI")
    assert fov.mpp == 1.0
    maps = fov.image[:]
    assert maps.dtype == np.float32
    assert 0 <= maps.min() < maps.max() <= 1


def test_unknown_format_of_maps(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(*folder.arguments("--maps", "--maps-format", "png", *model))
    assert done.code == 2
    assert "png" in done.err
    assert "zarr" in done.err
    assert "Traceback" not in done.err
    assert not folder.out.exists()
