"""One tile of a slide that cannot be decoded: named in the error, or its cells are missing."""

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import ReadError
from panimbus.core.scan import scan_fov
from panimbus.io import open_fovs
from panimbus.io.write import write_labels, write_ome_zarr

TILE = 256


@pytest.fixture
def slide(tmp_path, make_tissue):
    """``slide(kind)``: a FOV of 700 x 600 pixels whose channel "b" cannot be read at rows 256 to
    511, columns 0 to 255."""
    image, labels = make_tissue((700, 600), 400)
    write_labels(tmp_path / "f_labels.tiff", labels)

    def make(kind):
        path = tmp_path / f"f.{kind}"
        if kind == "zarr":
            write_ome_zarr(path, image, ("a", "b"), 1.0)
            _spoil(_chunk(path), 0)
        else:
            meta = {
                "axes": "CYX",
                "Channel": {"Name": ["a", "b"]},
                "PhysicalSizeX": 1.0,
                "PhysicalSizeY": 1.0,
            }
            tifffile.imwrite(
                path,
                image,
                tile=(TILE, TILE),
                compression="zlib",
                metadata=meta,
                photometric="minisblack",
            )
            with tifffile.TiffFile(path) as tif:
                offset = tif.pages[1].dataoffsets[3]
            _spoil(path, offset)
        return open_fovs(path, tmp_path / "f_labels.tiff")[0], labels

    return make


def _spoil(path, offset):
    data = bytearray(path.read_bytes())
    data[offset : offset + 40] = b"\xff" * 40
    path.write_bytes(data)


def _chunk(path):
    import zarr

    group = zarr.open_group(path, mode="r")
    level = group.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]
    return next(
        f for f in sorted((path / level / "c" / "1").rglob("*")) if f.is_file()
    )  # of the second channel, the first


def test_the_error_names_file_channel_and_tile(slide):
    fov, _ = slide("ome.tiff")
    words = (
        r"(?s)FOV 'f', channel 'b', rows 0 to 699: .*f\.ome\.tiff: .*segment 3 of page 2 cannot be"
        r" decoded"
    )
    with pytest.raises(ReadError, match=words):
        scan_fov(fov, fov.channels, 1.0)


def test_cells_of_the_tile_are_missing(slide):
    fov, labels = slide("ome.tiff")
    cells, found = scan_fov(fov, fov.channels, 1.0, on_error="skip")
    assert found.skipped == (("b", (256, 512, 0, 256)),)
    missing = np.isin(cells.index.ids, labels[256:512, :256])
    np.testing.assert_array_equal(
        np.isnan(found.mean), np.stack([np.zeros(cells.n, bool), missing], 1)
    )


def test_a_chunk_of_a_zarr(slide):
    fov, labels = slide("zarr")
    with pytest.raises(ReadError, match=r"(?s)FOV 'f', channel 'b', .*f\.zarr.*chunk"):
        scan_fov(fov, fov.channels, 1.0)
    cells, found = scan_fov(fov, fov.channels, 1.0, on_error="skip")
    assert {channel for channel, _ in found.skipped} == {"b"}
    y1, x1 = (max(box[k] for _, box in found.skipped) for k in (1, 3))
    np.testing.assert_array_equal(
        np.isnan(found.mean[:, 1]), np.isin(cells.index.ids, labels[:y1, :x1])
    )
