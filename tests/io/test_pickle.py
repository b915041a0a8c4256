"""A FOV of any format can be sent to another process, which reads the same pixels."""

import json
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import ReadError
from panimbus.io import from_array, open_fovs, write_labels, write_ome_tiff, write_ome_zarr

SHAPE = (2, 300, 280)
NAMES = ("a", "b")


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 4000, SHAPE).astype(np.uint16), rng.integers(0, 7, SHAPE[1:]).astype(
        np.uint32
    )


def _ome_tiff(folder, image, labels):
    write_ome_tiff(folder / "i.ome.tiff", image, NAMES, 1.0)
    write_labels(folder / "l.tiff", labels)
    return folder / "i.ome.tiff", folder / "l.tiff"


def _compressed(folder, image, labels):
    tifffile.imwrite(
        folder / "i.tiff",
        image,
        compression="lzw",
        predictor=True,
        photometric="minisblack",
        rowsperstrip=50,
    )
    _packed(folder / "l.tiff", labels)
    return folder / "i.tiff", folder / "l.tiff"


def _packed(path, labels):
    rgb = np.stack([labels >> 16, labels >> 8 & 255, labels & 255], -1).astype(np.uint8)
    tifffile.imwrite(path, rgb, photometric="rgb", compression="zlib")


def _folder(folder, image, labels):
    (folder / "i").mkdir()
    tifffile.imwrite(folder / "i" / "a.tiff", image[0])
    tifffile.imwrite(folder / "i" / "b.tiff", image[1], tile=(64, 64), compression="zlib")
    square = [[[2, 2], [20, 2], [20, 30], [2, 30], [2, 2]]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": square},
        "properties": {},
    }
    (folder / "l.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    return folder / "i", folder / "l.geojson"


def _zarr(folder, image, labels):
    write_ome_zarr(folder / "i.zarr", image, NAMES, 1.0)
    write_labels(folder / "l.tiff", labels)
    return folder / "i.zarr", folder / "l.tiff"


FORMATS = (_ome_tiff, _compressed, _folder, _zarr)


def _read(fov, connection):
    connection.send((fov.image[1, 7:290, 3:250], fov.labels[7:290, 3:250]))
    connection.close()


def _elsewhere(fov):
    """What a process that was started anew reads of it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_read, args=(fov, there))
    child.start()
    there.close()
    try:
        return here.recv()
    finally:
        here.close()
        child.join(30)


@pytest.mark.parametrize("write", FORMATS)
def test_a_copy_reads_the_same(write, pixels, tmp_path):
    fov = open_fovs(*write(tmp_path, *pixels), mpp=1.0)[0]
    fov.image[:], fov.labels[:]  # what a reader keeps between reads is not sent
    sent = pickle.dumps(fov)
    assert len(sent) < 5000, "pixels are read where they are needed"
    copy = pickle.loads(sent)  # noqa: S301
    np.testing.assert_array_equal(copy.image[1, 7:290, 3:250], fov.image[1, 7:290, 3:250])
    np.testing.assert_array_equal(copy.labels[7:290, 3:250], fov.labels[7:290, 3:250])
    assert (copy.fov_id, copy.channels, copy.mpp, copy.source) == (
        fov.fov_id,
        fov.channels,
        fov.mpp,
        fov.source,
    )
    assert fov.labels[:].any()


def test_arrays_are_sent_whole(pixels):
    image, labels = pixels
    copy = pickle.loads(pickle.dumps(from_array(image, labels, channels=NAMES, mpp=1.0)))  # noqa: S301
    np.testing.assert_array_equal(copy.image, image)


def test_another_process_reads_the_same(pixels, tmp_path):
    fov = open_fovs(*_compressed(tmp_path, *pixels), mpp=1.0)[0]
    image, labels = _elsewhere(fov)
    np.testing.assert_array_equal(image, pixels[0][1, 7:290, 3:250])
    np.testing.assert_array_equal(labels, pixels[1][7:290, 3:250])


def test_a_file_that_is_not_there(pixels, tmp_path):
    """Named by its path: another machine may not see the disk."""
    fov = open_fovs(*_compressed(tmp_path, *pixels), mpp=1.0)[0]
    sent = pickle.dumps(fov)
    shutil.move(tmp_path / "i.tiff", tmp_path / "j.tiff")
    copy = pickle.loads(sent)  # noqa: S301
    with pytest.raises(ReadError, match=r"i\.tiff"):
        copy.image[0, 0:5, 0:5]
