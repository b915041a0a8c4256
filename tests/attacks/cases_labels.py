"""Label images and GeoJSON."""

import json
import os

import numpy as np
import tifffile
from attacks import attack


def _tiff(folder, labels, name="fov1_mask.tif", **options):
    tifffile.imwrite(folder / name, labels, **options)
    return folder / name


def _large(folder):
    """An image with 20 x 18 cells, larger than the usual one, and their labels."""
    yy, xx = np.mgrid[:320, :288]
    inside = (yy % 16 - 8) ** 2 + (xx % 16 - 8) ** 2 <= 25
    labels = np.where(inside, yy // 16 * 18 + xx // 16 + 1, 0)
    image = np.random.default_rng(0).gamma(2, 20, (2, *labels.shape)).astype(np.uint16)
    meta = {
        "axes": "CYX",
        "Channel": {"Name": ["CD3", "DAPI"]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
    }
    tifffile.imwrite(
        folder / "fov1.ome.tif", image, ome=True, metadata=meta, photometric="minisblack"
    )
    return folder / "fov1.ome.tif", labels


def _geojson(folder, data, name="fov1.geojson"):
    (folder / name).write_text(data if isinstance(data, str) else json.dumps(data))
    return folder.predict(labels=folder / name)


def _polygon(*rings, **more):
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": list(rings)},
        "properties": {},
        **more,
    }


def _square(x, y, size=6):
    return [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]


def _squares():
    return [_polygon(_square(10 * i, 10 * j)) for i in range(7) for j in range(8)]


@attack("separate pieces", "a mask of all cells", "--allow-odd-labels")
def mask_of_0_and_255(folder):
    return folder.predict(labels=_tiff(folder, ((folder.arrays()[1] > 0) * 255).astype(np.uint8)))


@attack("separate pieces", "problem")
def mask_of_0_and_1_inspected(folder):
    return folder.inspect(labels=_tiff(folder, (folder.arrays()[1] > 0).astype(np.uint8)))


@attack("separate pieces", "map of classes")
def class_map(folder):
    image, labels = _large(folder)
    return folder.predict(
        image=image, labels=_tiff(folder, ((labels > 0) * (labels % 5 + 1)).astype(np.uint8))
    )


@attack("id 255 is", "ids above 255 were cut off", "--allow-odd-labels")
def ids_clipped_at_255(folder):
    image, labels = _large(folder)
    return folder.predict(
        image=image, labels=_tiff(folder, np.minimum(labels, 255).astype(np.uint8))
    )


@attack("looks like the background, which must be 0")
def background_with_an_id(folder):
    image, labels = _large(folder)
    return folder.inspect(image=image, labels=_tiff(folder, (labels + 1).astype(np.uint16)))


@attack("cut off by the type uint8")
def ids_wrapped(folder):
    image, labels = _large(folder)
    return folder.predict(image=image, labels=_tiff(folder, labels.astype(np.uint8)))


@attack("pieces far apart", "tiles were joined")
def joined_tiles(folder):
    image, labels = _large(folder)
    return folder.predict(
        image=image, labels=_tiff(folder, np.tile(labels[:, :144], (1, 2)).astype(np.uint16))
    )


@attack("compressed with loss", "JPEG")
def jpeg_in_tiff(folder):
    labels = folder.arrays()[1].astype(np.uint8)
    return folder.predict(labels=_tiff(folder, labels, compression="jpeg", tile=(16, 16)))


@attack("lossy compression")
def jpeg_saved_again(folder):
    import imagecodecs

    image, labels = _large(folder)
    rgb = np.stack([labels * 0, labels * 37 >> 8 & 255, labels * 37 & 255], -1).astype(np.uint8)
    lossy = imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(rgb, level=85))
    return folder.predict(image=image, labels=_tiff(folder, lossy, photometric="rgb"))


@attack("pixels or fewer", "resizing with interpolation")
def resized_with_interpolation(folder):
    from scipy import ndimage

    image, labels = _large(folder)
    zoomed = ndimage.zoom(ndimage.zoom(labels * 997.0, 0.5, order=1), 2, order=1)
    return folder.predict(image=image, labels=_tiff(folder, zoomed.astype(np.uint32)))


@attack("0.338 µm wide", "pixel size", "--mpp")
def pixel_size_in_other_units(folder):
    return folder.predict("--mpp", "0.02")


@attack("µm wide", "pixel size", "probably wrong")
def pixels_of_5_micrometres(folder):
    return folder.inspect("--mpp", "5")


@attack("negative ids", "below 0")
def negative_ids(folder):
    labels = folder.arrays()[1].astype(np.int16)
    labels[labels == 3] = -3
    return folder.predict(labels=_tiff(folder, labels))


@attack("not integer", "float32")
def probabilities(folder):
    return folder.predict(labels=_tiff(folder, (folder.arrays()[1] > 0).astype(np.float32) / 2))


@attack("several planes", "whole cells")
def nucleus_and_cell_planes(folder):
    return folder.predict(
        labels=_tiff(folder, np.stack([folder.arrays()[1]] * 2), photometric="minisblack")
    )


@attack("differ in size")
def another_size(folder):
    return folder.predict(labels=_tiff(folder, folder.arrays()[1][:-1]))


@attack("2^63")
def ids_beyond_63_bits(folder):
    labels = folder.arrays()[1].astype(np.uint64)
    return folder.predict(labels=_tiff(folder, labels * np.uint64(2**63)))


@attack("archive of NumPy arrays", "np.save")
def numpy_archive(folder):
    np.savez(folder / "masks.npz", masks=folder.arrays()[1])
    return folder.predict(labels=folder / "masks.npz")


@attack("ROIs", "GeoJSON")
def imagej_roi_zip(folder):
    import zipfile

    with zipfile.ZipFile(folder / "RoiSet.zip", "w") as archive:
        archive.writestr("0001.roi", b"Iout")
    return folder.predict(labels=folder / "RoiSet.zip")


@attack("pickles can run code", "masks")
def cellpose_seg_npy(folder):
    np.save(folder / "fov1_seg.npy", {"masks": folder.arrays()[1]}, allow_pickle=True)
    return folder.predict(labels=folder / "fov1_seg.npy")


@attack("HDF5", "imwrite")
def hdf5(folder):
    (folder / "fov1.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    return folder.predict(labels=folder / "fov1.h5")


@attack("size of this PNG")
def png_bomb(folder):
    (folder / "fov1.png").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x10\0\0\0\0"
    )
    return folder.predict(labels=folder / "fov1.png")


@attack("cannot be read")
def npy_of_a_size_that_lies(folder):
    np.save(folder / "fov1.npy", folder.arrays()[1])
    content = (folder / "fov1.npy").read_bytes()
    (folder / "fov1.npy").write_bytes(content[:-100])
    return folder.predict(labels=folder / "fov1.npy")


@attack("neither a file nor a folder")
def labels_are_a_pipe(folder):
    os.mkfifo(folder / "fov1.geojson")
    return folder.predict(labels=folder / "fov1.geojson")


@attack("no polygon", "no feature at all")
def geojson_without_features(folder):
    return _geojson(folder, {"type": "FeatureCollection", "features": []})


@attack("no polygon", "Point")
def geojson_of_points(folder):
    point = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [5, 5]},
        "properties": {"objectType": "cell"},
    }
    return _geojson(folder, [point] * 3)


@attack("has other polygons inside", "annotations")
def geojson_tissue_first(folder):
    return _geojson(folder, [_polygon(_square(0, 0, 80)), *_squares()])


@attack("other polygons", "problem")
def geojson_tissue_last_inspected(folder):
    (folder / "fov1.geojson").write_text(json.dumps([*_squares(), _polygon(_square(0, 0, 80))]))
    return folder.inspect(labels=folder / "fov1.geojson")


@attack("outside the image", "not µm")
def geojson_of_another_image(folder):
    return _geojson(folder, [_polygon(_square(5000, 20)), *_squares()])


@attack("beyond a billion")
def geojson_huge_coordinates(folder):
    return _geojson(folder, [_polygon([[0, 0], [1e300, 0], [5, 1e300]])])


@attack("NaN")
def geojson_nan(folder):
    return _geojson(folder, '[{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 3], [4, 4]]]}]')


@attack("cannot be parsed")
def geojson_cut_off(folder):
    return _geojson(folder, json.dumps(_squares())[:-200])


@attack("cannot be parsed", "Recursion")
def geojson_nested_100_000_deep(folder):
    return _geojson(folder, '{"features":' + "[" * 100_000 + "]" * 100_000 + "}")


@attack("not GeoJSON")
def geojson_of_numbers(folder):
    return _geojson(folder, "[1, 2, 3]")


@attack("not a polygon's", "feature 2")
def geojson_ragged_ring(folder):
    return _geojson(folder, [_polygon(_square(1, 1)), _polygon([[1, 2], [3], [4, 5]])])


@attack("no polygon")
def geojson_coordinates_are_text(folder):
    return _geojson(folder, [{"type": "Polygon", "coordinates": "everywhere"}])


@attack("far more often")
def geojson_comb(folder):
    ring = [[k % 80, 90 * (k % 2)] for k in range(60_000)]
    return _geojson(folder, [_polygon(ring)])


@attack("not text")
def geojson_in_utf16(folder):
    (folder / "fov1.geojson").write_text(json.dumps(_squares()), encoding="utf-16")
    return folder.predict(labels=folder / "fov1.geojson")
