"""Pixels that are not in the file, and files that claim what they do not hold: never zeros in
silence, never without a bound."""

import os
import struct
import time

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError, ReadError
from panimbus.io import open_fovs
from panimbus.io.tiff_checks import MOST_PAGES


@pytest.fixture
def plane():
    """(96, 96) uint16 without zeros."""
    return np.random.default_rng(0).integers(1, 1000, (96, 96)).astype(np.uint16)


def _set(path, tag, index, value, page=0):
    """Overwrite one value of a tag."""
    with tifffile.TiffFile(path) as tif:
        found = tif.pages[page].tags[tag]
        size = {3: 2, 4: 4, 16: 8}[int(found.dtype)]
        at = found.valueoffset + index * size
    data = bytearray(path.read_bytes())
    data[at : at + size] = int(value).to_bytes(size, "little")
    path.write_bytes(data)


def _tags(entries, order="<"):
    """A classic TIFF of one page of these tags (code, type, count, value), then 200 bytes."""
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    table = b"".join(struct.pack(order + "HHII", *entry) for entry in sorted(entries))
    return (
        head
        + struct.pack(order + "H", len(entries))
        + table
        + struct.pack(order + "I", 0)
        + bytes(200)
    )


def _grey(width=8, height=8, **changes):
    """Tags of a small grey page, some of them changed."""
    values = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 250),
    }
    values |= {277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, min(width * height, 1 << 31))}
    values |= {int(k[1:]): v for k, v in changes.items()}
    return _tags([(code, *value) for code, value in values.items() if value is not None])


@pytest.mark.parametrize(
    "options", [{"rowsperstrip": 32}, {"rowsperstrip": 32, "compression": "zlib"}]
)
@pytest.mark.parametrize("tag", [273, 279])
def test_strips_that_were_never_written(tmp_path, plane, options, tag):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, plane, metadata=None, **options)
    _set(path, tag, 1, 0)
    with pytest.raises(
        ReadError, match=r"page 1(.|\n)*1 of its 3 strips were never written, the first is 1"
    ):
        open_fovs([path])


def _sparse(path, plane, missing):
    tiles = [plane[y : y + 32, x : x + 32] for y in range(0, 96, 32) for x in range(0, 96, 32)]
    parts = (None if i in missing else np.ascontiguousarray(t) for i, t in enumerate(tiles))
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            parts,
            shape=plane.shape,
            dtype=plane.dtype,
            tile=(32, 32),
            compression="zlib",
            metadata=None,
        )


def test_sparse_tiles_are_zeros_and_noted(tmp_path, plane):
    _sparse(tmp_path / "a.tif", plane, (1, 4))
    (fov,) = open_fovs([tmp_path / "a.tif"])
    plane[:32, 32:64] = plane[32:64, 32:64] = 0
    np.testing.assert_array_equal(fov.image[0], plane)
    assert "tiles that were never written count as 0: a.tif page 1 (2 of 9)" in fov.notes
    for i in range(9):
        _set(tmp_path / "a.tif", 325, i, 0)
    with pytest.raises(ReadError, match="9 of its 9 tiles were never written"):
        open_fovs([tmp_path / "a.tif"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 32},
        {"rowsperstrip": 40},
        {"tile": (96, 96)},
        {"compression": "lzw"},
        {"compression": "packbits"},
        {"compression": "zstd"},
        {"compression": "jpeg"},
        {"compression": "jpeg", "tile": (48, 48)},
        {"compression": "jpegxr", "tile": (48, 48)},
        {"compression": "jpegxl"},
        {"compression": "png"},
        {"compression": "lerc", "tile": (48, 48)},
    ],
)
@pytest.mark.parametrize("part", [0.95, 0.5])
def test_segments_shorter_than_their_pixels(tmp_path, plane, options, part):
    data = plane.astype(np.uint8) if options.get("compression") == "jpeg" else plane
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, metadata=None, photometric="minisblack", **options)
    with tifffile.TiffFile(path) as tif:
        counts = tif.pages[0].databytecounts
    _set(path, 325 if "tile" in options else 279, len(counts) - 1, counts[-1] * part)
    with pytest.raises(ReadError):
        open_fovs([path])[0].image[:]


def test_a_list_of_strips_that_is_too_short(tmp_path, plane):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, plane, metadata=None, rowsperstrip=32)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags[273]
        at = tag.offset + 4
    data = bytearray(path.read_bytes())
    data[at : at + 4] = (2).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ReadError):
        open_fovs([path])


def test_imagej_stacks_without_their_planes(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "CYX"})
    path.write_bytes(
        path.read_bytes().replace(b"images=3", b"images=9").replace(b"channels=3", b"channels=9")
    )
    with pytest.raises(ReadError, match=r"fewer planes(.|\n)*9 planes"):
        open_fovs([path])
    path.write_bytes(path.read_bytes().replace(b"images=9", b"images=x"))
    with pytest.raises(ReadError, match="no usable number for images"):
        open_fovs([path])


def test_a_shaped_stack_that_lost_its_planes(tmp_path, stack):
    path = tmp_path / "t.tif"
    tifffile.imwrite(path, stack, truncate=True, photometric="minisblack")
    path.write_bytes(path.read_bytes().replace(b'"shape": [3, 70', b'"shape": [9, 70'))
    with pytest.raises(ReadError, match="fewer planes"):
        open_fovs([path])


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 1_000_000_000, "height": 1_000_000_000},
        {"width": 1_000_000_000, "height": 1_000_000_000, "t259": (3, 1, 8)},
        {"width": 1_000_000_000, "height": 1_000_000_000, "t259": (3, 1, 50000)},
        {"width": 0},
        {"height": 0},
        {"t256": (2, 1, 65)},
        {"t256": (5, 1, 8)},
        {"t256": (12, 1, 8)},
        {"t257": (9, 1, 0xFFFFFFFF)},
        {"t277": (3, 1, 65535)},
        {"t277": (3, 1, 0)},
        {"t258": (3, 1, 0)},
        {"t258": (3, 1, 77)},
        {"t278": (4, 1, 0)},
        {"t273": (4, 1, 0xFFFFFFFF)},
        {"t273": (4, 1, 0)},
        {"t273": (2, 1, 65)},
        {"t273": (12, 1, 8)},
        {"t273": None},
        {"t279": (4, 1, 0xFFFFFFFF)},
        {"t279": (4, 1, 1)},
        {"t279": (9, 1, 0xFFFFFFFF)},
        {"t279": (4, 0x3FFFFFFF, 8)},
        {"t259": (3, 1, 4711)},
        {"t317": (3, 1, 99)},
        {"t322": (4, 1, 0), "t323": (4, 1, 0)},
        {"t322": (4, 1, 1 << 30), "t323": (4, 1, 1 << 30), "t324": (4, 1, 250), "t325": (4, 1, 64)},
        {
            "t322": (4, 1, 1 << 30),
            "t323": (4, 1, 1 << 30),
            "t324": (4, 1, 250),
            "t325": (4, 1, 64),
            "t259": (3, 1, 8),
        },
        {"t32997": (4, 1, 1 << 30)},
        {"t339": (3, 1, 5)},
    ],
)
def test_tags_that_make_no_picture(tmp_path, changes):
    (tmp_path / "ok.tif").write_bytes(_grey())
    assert open_fovs([tmp_path / "ok.tif"])[0].image[:].shape == (1, 8, 8)
    path = tmp_path / "a.tif"
    path.write_bytes(_grey(**changes))
    began = time.monotonic()
    with pytest.raises((ReadError, InputError), match=r"a\.tif|FOV 'a'"):
        open_fovs([path])[0].image[0, 0:8, 0:8]
    assert time.monotonic() - began < 5


def test_pages_in_a_circle(tmp_path):
    data = bytearray(_grey())
    at = 8 + 2 + 12 * struct.unpack_from("<H", data, 8)[0]
    data[at : at + 4] = struct.pack("<I", 8)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ReadError, match="leads back"):
        open_fovs([tmp_path / "a.tif"])


def test_more_pages_than_any_panel(tmp_path):
    page = b"\x00\x00"
    chain = b"".join(page + struct.pack("<I", 8 + 6 * (i + 1)) for i in range(MOST_PAGES + 5))
    (tmp_path / "a.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 8) + chain)
    with pytest.raises(ReadError, match="more than 20,000 pages"):
        open_fovs([tmp_path / "a.tif"])


@pytest.mark.parametrize("count", [1 << 40, (1 << 64) - 1])
def test_a_bigtiff_of_endless_tags(tmp_path, count):
    (tmp_path / "a.tif").write_bytes(
        struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, count) + bytes(64)
    )
    with pytest.raises(ReadError, match="damaged or truncated"):
        open_fovs([tmp_path / "a.tif"])


def test_tags_that_share_the_whole_file(tmp_path):
    entries = [(40000 + i, 1, 900, 8) for i in range(60)]
    (tmp_path / "a.tif").write_bytes(_tags(entries) + bytes(300))
    with pytest.raises(ReadError, match="tags claim"):
        open_fovs([tmp_path / "a.tif"])


@pytest.mark.parametrize("name", ["a.tif", "a.companion.ome", "a.mcd"])
def test_pipes_do_not_hang(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ReadError, match="neither a file nor a folder"):
        open_fovs([tmp_path / name])


def test_devices_are_no_images(tmp_path):
    (tmp_path / "a.tif").symlink_to("/dev/zero")
    with pytest.raises(ReadError, match="neither a file nor a folder"):
        open_fovs([tmp_path / "a.tif"])


def test_a_description_left_by_another_image_counts_no_planes(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif", stack[0, ::2, ::2], metadata=None, description='{"shape": [70, 50]}'
    )
    assert open_fovs([tmp_path / "a.tif"])[0].image.shape == (1, 35, 25)


def test_a_channel_folder_refuses_hidden_planes_and_notes_sparse_tiles(tmp_path, plane):
    folder = tmp_path / "fov"
    folder.mkdir()
    _sparse(folder / "a.tif", plane, (1,))
    tifffile.imwrite(folder / "b.tif", plane)
    (fov,) = open_fovs(folder)
    assert "tiles that were never written count as 0: a.tif page 1 (1 of 9)" in fov.notes
    tifffile.imwrite(
        folder / "b.tif", np.stack([plane] * 3), truncate=True, photometric="minisblack"
    )
    with pytest.raises(InputError):
        open_fovs(folder)


def test_sparse_tiles_of_labels_are_noted(tmp_path, plane, ome):
    _sparse(tmp_path / "l.tif", plane % 9, (1,))
    (fov,) = open_fovs(ome(data=np.stack([plane] * 3)), tmp_path / "l.tif")
    assert "tiles that were never written count as 0: l.tif page 1 (1 of 9)" in fov.notes
