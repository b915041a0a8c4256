"""Zarr: pixels that are not there are never zeros in silence; what the metadata says is checked;
chunks have limits."""

import os
import shutil
import sys
import zlib
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from panimbus.core.errors import InputError, ReadError
from panimbus.io import open_fovs
from panimbus.io.zarr_limits import BoundedNumcodec

sys.path.insert(0, str(Path(__file__).parent))
from zarr_files import axes, edit, stack, write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.zarr"


@pytest.fixture
def cells():
    """(70, 50) uint16 with a cell in each chunk."""
    out = np.ones((70, 50), np.uint16)
    out[10:, 20:] = 2
    return out


def test_chunks_under_the_other_separator_are_read(path):
    write(path, version="0.4")
    edit(path / "0" / ".zarray", lambda meta: meta.pop("dimension_separator") and None)
    (fov,) = open_fovs(path)
    np.testing.assert_array_equal(fov.image[:], stack())
    assert fov.notes == (
        "the chunks are separated by '/', not as the metadata says: they are read as they lie",
    )


def test_chunks_under_other_names(path):
    write(path)
    (path / "0" / "c").rename(path / "0" / "d")
    with pytest.raises(
        ReadError,
        match=r"a.zarr: the chunks of array '0' are not in the store(.|\n)*18 chunks(.|\n)*none",
    ):
        open_fovs(path)
    (path / "0" / "d").rename(path / "0" / "e")
    shutil.copytree(path / "0" / "e", path / "0", dirs_exist_ok=True)
    with pytest.raises(ReadError, match=r"there is '\d/\d/\d' where the metadata has 'c/0/0/0'"):
        open_fovs(path)


def test_missing_chunks_are_counted(path):
    write(path)
    (path / "0/c/1/0/0").unlink()
    (path / "0/c/2/1/0").unlink()
    (fov,) = open_fovs(path)
    assert fov.notes == ("2 of 18 chunks are not in the store: they are read as 0",)
    assert not fov.image[1, :32, :32].any()
    shutil.rmtree(path / "0/c/1")
    assert (
        open_fovs(path)[0].notes[1]
        == "no chunk of channel 2 is in the store: blank, or lost in a copy?"
    )


def test_a_channel_that_only_the_lower_levels_have_is_lost(path):
    group = zarr.open_group(store=str(write(path)), mode="r+")
    group.create_array("1", data=stack()[:, ::2, ::2], chunks=(1, 32, 32))
    edit(
        path / "zarr.json",
        lambda meta: meta["attributes"]["ome"]["multiscales"][0]["datasets"].append({"path": "1"}),
    )
    shutil.rmtree(path / "0/c/1")
    with pytest.raises(ReadError, match=r"channel 2(.|\n)*lower resolution"):
        open_fovs(path)
    shutil.rmtree(path / "1/c/1")
    assert "blank, or lost" in open_fovs(path)[0].notes[1]


def test_an_image_of_very_many_chunks_is_sampled(path, monkeypatch):
    monkeypatch.setattr("panimbus.io.zarr_chunks._COUNTED", 10)
    write(path)
    assert open_fovs(path)[0].notes == ()
    edit(path / "0/zarr.json", lambda meta: meta.update(shape=[3, 900_000, 900_000]))
    with pytest.raises(ReadError, match="not in the store"):
        open_fovs(path)


def test_labels_without_a_chunk_are_background(path, cells):
    write(path, labels={"cells": cells})
    shutil.rmtree(path / "labels/cells/0/c")
    (fov,) = open_fovs(path)
    assert not fov.labels[:].any()
    assert fov.notes[0].endswith("has no chunk at all: it is read as background only")


def test_labels_that_are_listed_but_not_there(path, cells):
    write(path, labels={"cells": cells, "old": cells, "bad": cells})
    shutil.rmtree(path / "labels/old")
    edit(
        path / "labels/bad/zarr.json", lambda meta: meta["attributes"]["ome"].update(multiscales=7)
    )
    (fov,) = open_fovs(path)
    np.testing.assert_array_equal(fov.labels[:], cells)
    assert fov.notes[0] == "the label image 'old' is listed, but not there"
    assert fov.notes[1].startswith("the label image 'bad' cannot be used: ")


@pytest.mark.parametrize("size", [0, 30])
@pytest.mark.parametrize("codec", ["shards", "blosc", None])
def test_a_chunk_that_is_cut_short(path, size, codec):
    options = {
        "shards": {"shards": (1, 64, 64)},
        "blosc": {"compressors": zarr.codecs.BloscCodec()},
        None: {"compressors": None},
    }
    write(path, **options[codec])
    chunk = path / "0/c/1/0/0"
    os.truncate(chunk, size)
    (fov,) = open_fovs(path)
    np.testing.assert_array_equal(fov.image[0], stack()[0])
    with pytest.raises(ReadError, match=r"a.zarr"):
        fov.image[1, :64]
    with pytest.raises(ReadError, match=r"a.zarr"):
        fov.image[1, 3:5, 3:5]


def test_an_inner_chunk_beyond_the_end_of_its_shard(path):
    codec = zarr.codecs.ShardingCodec(
        chunk_shape=(1, 32, 32), codecs=[zarr.codecs.BytesCodec()], index_location="start"
    )
    data, group = stack(64, 64), zarr.open_group(store=str(write(path)), mode="r+")
    del group["0"]
    group.create_array(
        "0",
        shape=data.shape,
        chunks=(1, 64, 64),
        dtype="uint16",
        serializer=codec,
        compressors=None,
    )[:] = data
    np.testing.assert_array_equal(open_fovs(path)[0].image[:], data)
    whole = (path / "0/c/1/0/0").stat().st_size
    os.truncate(path / "0/c/1/0/0", whole - 2048)
    with pytest.raises(ReadError, match="cut short"):
        open_fovs(path)[0].image[1, 40:50, 40:50]


BOMB = 1 << 26


@pytest.mark.parametrize(
    ("codec", "bomb"),
    [
        (numcodecs.GZip(), lambda: numcodecs.GZip(9).encode(bytes(BOMB))),
        (numcodecs.Zlib(), lambda: zlib.compress(bytes(BOMB))),
        (numcodecs.Zstd(), lambda: numcodecs.Zstd().encode(bytes(BOMB))),
        (numcodecs.Blosc(), lambda: numcodecs.Blosc().encode(bytes(BOMB))),
        (numcodecs.LZ4(), lambda: b"\xff\xff\xff\x7f" + bytes(40)),
        (numcodecs.BZ2(), lambda: numcodecs.BZ2().encode(bytes(BOMB))),
    ],
)
def test_a_chunk_that_decodes_to_far_more_than_its_size(path, codec, bomb):
    write(path, version="0.4", compressors=codec)
    np.testing.assert_array_equal(open_fovs(path)[0].image[:], stack())
    (path / "0/1/0/0").write_bytes(bomb())
    import tracemalloc

    (fov,) = open_fovs(path)
    tracemalloc.start()
    with pytest.raises(
        ReadError,
        match=(
            r"a chunk cannot be read, in array '0', c 1 to 1, y 0 to 31, x 0 to 31(.|\n)*decodes to"
        ),
    ):
        fov.image[:]
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("declared", [True, False])
def test_zstd_frames_with_and_without_a_size(path, declared):
    import imagecodecs

    write(path, version="0.4", compressors=numcodecs.Zstd())
    chunk = path / "0/1/0/0"
    plain = numcodecs.Zstd().decode(chunk.read_bytes())
    frame = (
        numcodecs.Zstd().encode(plain)
        if declared
        else _undeclared(imagecodecs.zstd_encode(bytes(plain)))
    )
    chunk.write_bytes(frame)
    np.testing.assert_array_equal(open_fovs(path)[0].image[:], stack())


def _undeclared(frame):
    """The same Zstandard frame without the size of its content: a window descriptor in its
    place."""
    flags, single, count = (
        frame[4],
        frame[4] >> 5 & 1,
        (1 if frame[4] >> 5 & 1 else 0, 2, 4, 8)[frame[4] >> 6],
    )
    after = 5 + (0 if single else 1)
    return frame[:4] + bytes([flags & 0b11111 & ~0b100000]) + b"\x58" + frame[after + count :]


def test_pipes_and_huge_documents(path, monkeypatch):
    write(path)
    (path / "0/c/1/0/0").unlink()
    os.mkfifo(path / "0/c/1/0/0")
    with pytest.raises(ReadError, match="neither a file nor a folder"):
        open_fovs(path)[0].image[1]
    monkeypatch.setattr("panimbus.io.zarr_limits._LARGEST_DOCUMENT", 100)
    with pytest.raises(ReadError, match=r"zarr.json: the file is too large"):
        open_fovs(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["multiscales"][0].update(axes=axes("yyx")), "axes are not understood"),
        (lambda m: m["multiscales"][0].update(axes=axes("qyx")), "axes are not understood"),
        (lambda m: m["multiscales"][0].update(axes=7), "not as the format has it"),
        (lambda m: m["multiscales"][0].update(axes=[{}]), "not as the format has it"),
        (lambda m: m["multiscales"][0].update(datasets=[]), "not as the format has it"),
        (lambda m: m["multiscales"][0].update(datasets=[{"path": 5}]), "not as the format has it"),
        (
            lambda m: m["multiscales"][0].update(datasets=[{"path": "9"}]),
            "first resolution level is missing",
        ),
        (
            lambda m: m["multiscales"][0].update(datasets=[{"path": "../b.zarr/0"}]),
            "first resolution level cannot be opened",
        ),
        (lambda m: m.update(multiscales="many"), "not as the format has it"),
        (lambda m: m.update(multiscales=[]), "not as the format has it"),
    ],
)
def test_metadata_that_is_refused(path, change, says):
    edit(write(path) / "zarr.json", lambda meta: change(meta["attributes"]["ome"]))
    with pytest.raises(InputError, match=says) as caught:
        open_fovs(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            lambda m: m.update(omero={"channels": [{"label": ["CD3"]}] * 3}),
            "names of channels are not as the format has them",
        ),
        (lambda m: m.update(omero=[1]), "names of channels are not as the format has them"),
        (
            lambda m: m["omero"].update(channels=[{"label": "a"}] * 2),
            "names 2 channels for 3 planes",
        ),
    ],
)
def test_names_of_channels_that_are_not_used(path, change, note):
    edit(write(path) / "zarr.json", lambda meta: change(meta["attributes"]["ome"]))
    (fov,) = open_fovs(path)
    assert fov.channels == ("channel_1", "channel_2", "channel_3")
    assert note in fov.notes[0]


@pytest.mark.parametrize(
    "scale",
    [
        "[1, 0, 0]",
        "[1, NaN, NaN]",
        "[1, 1e400, 1e400]",
        "[1, -1, 1]",
        '[1, "a", 2]',
        "[1]",
        "7",
        "null",
    ],
)
def test_a_pixel_size_that_is_none(path, scale):
    document = write(path) / "zarr.json"
    text = document.read_text()
    start = text.index('"scale": [')
    document.write_text(text[:start] + f'"scale": {scale}' + text[text.index("]", start) + 1 :])
    (fov,) = open_fovs(path)
    assert fov.mpp is None
    assert "pixel size in the file" in fov.notes[0]


@pytest.mark.parametrize("where", ["zarr.json", "0/zarr.json"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"zarr_format": 3}', "[" * 100_000, '{"a":' * 50_000]
)
def test_documents_that_are_none(path, where, text):
    write(path)
    (path / where).write_text(text)
    with pytest.raises(InputError, match=r"a\.zarr"):
        open_fovs(path)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3, -1, 50]},
        {"shape": [3, 1.5, 50]},
        {"shape": [0, 70, 50]},
        {"shape": [3, 10**30, 10**30]},
        {"shape": [10**9, 70, 50]},
        {"shape": "big"},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 0, 32]}}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 10**6, 10**6]}}},
        {"codecs": [{"name": "secret"}]},
        {"codecs": []},
        {"data_type": "complex128", "fill_value": [0, 0]},
        {"data_type": "words"},
        {"fill_value": "many"},
    ],
)
def test_arrays_that_cannot_be(path, change):
    edit(write(path) / "0/zarr.json", lambda meta: meta.update(change))
    with pytest.raises(InputError):
        open_fovs(path)[0].image[:]  # Zarr 3.4 opens chunks of 0 pixels


def test_series_of_unequal_size_and_photographs(tmp_path):
    path = tmp_path / "slide.zarr"
    group = zarr.open_group(store=str(path), mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    group.create_group("OME").attrs["series"] = ["0", "1", "2", "3"]
    for i, height in enumerate([16, 70, 35]):
        write(path / str(i), stack(height), "0.4")
    names = "".join(
        f'<Image Name="{name}"><Pixels SizeX="50" SizeY="70" SizeC="3"/></Image>'
        for name in ("Macro image", "a", "b", "c")
    )
    (path / "OME/METADATA.ome.xml").write_text(f"<OME>{names}</OME>")
    first, second = open_fovs(path)
    assert [first.fov_id, second.fov_id] == ["slide_1", "slide_2"]
    np.testing.assert_array_equal(second.image[:], stack(35))
    assert first.notes == (
        "series 3 is listed, but not there",
        "the store holds 3 images; not used: 0 (Macro image)",
    )


def test_a_zip_archive_says_what_to_do(tmp_path):
    (tmp_path / "a.zarr.zip").write_bytes(b"PK\x03\x04" + bytes(30))
    with pytest.raises(ReadError, match="unzip it"):
        open_fovs(tmp_path / "a.zarr.zip")


@pytest.mark.parametrize(
    ("at", "new"),
    [(12, b"\xff\0\0\0"), (16, b"\xff\xff\0\0"), (8, b"\0\0\0\0"), (3, b"\0")],
    ids=["size", "offset", "block", "type"],
)
def test_damaged_blosc_headers(at, new):
    """Blosc reads beyond the end of such a buffer, and crashes."""
    codec = numcodecs.Blosc(cname="lz4")
    good = bytes(codec.encode(np.zeros(512, np.uint16)))
    bounded = BoundedNumcodec(codec, 2048)
    assert bytes(bounded.decode(good)) == bytes(1024)
    with pytest.raises(ValueError, match="cut short"):
        bounded.decode(good[:at] + new + good[at + len(new) :])
