"""TIFF of every kind: OME, plain, ImageJ, MIBItiff, QPTIFF, folders of channels."""

import json
import os
import threading

import numpy as np
import pytest
import tifffile

import panimbus.io.tiff
from panimbus.core.errors import InputError, ReadError
from panimbus.core.fov import ArrayLike
from panimbus.io import open_fovs, write_ome_tiff


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": 2},
        {"tile": (16, 16), "compression": "zlib"},
        {"compression": "lzw", "rowsperstrip": 7},
        {"rowsperstrip": 13},
        {"byteorder": ">"},
        {"byteorder": ">", "bigtiff": True, "tile": (32, 16)},
        {"compression": "zstd", "tile": (16, 32)},
    ],
)
def test_a_stack_reads_like_numpy(ome, stack, options):
    (fov,) = open_fovs(ome(**options))
    assert fov.fov_id == "fov1"
    assert fov.channels == ("CD3", "CD20", "DAPI")
    assert fov.mpp == 0.5
    assert fov.image.dtype == np.uint16
    assert isinstance(fov.image, ArrayLike)
    assert fov.notes == ()
    for key in [
        np.s_[1, 5:60, 7:49],
        np.s_[1],
        np.s_[0:2, 3],
        np.s_[2, 69, 49],
        np.s_[:, 10:11],
        np.s_[-1, :, 4:5],
        np.s_[..., 3:5],
        np.s_[1, 8:8, 0:5],
        np.s_[0, :, :],
    ]:
        got = fov.image[key]
        np.testing.assert_array_equal(got, stack[key])
        assert got.dtype == np.uint16
    with pytest.raises(IndexError):
        fov.image[3]
    with pytest.raises(InputError, match="step 1"):
        fov.image[0, ::2]


def test_source_names_the_file(ome):
    path = ome()
    (fov,) = open_fovs(str(path))
    info = path.stat()
    source = dict(fov.source)
    stamp = source.pop("stamp")
    assert source == {
        "image": str(path),
        "format": "OME-TIFF",
        "bytes": info.st_size,
        "mtime_ns": info.st_mtime_ns,
    }
    json.dumps(fov.source)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns - 1))
    assert open_fovs(str(path))[0].source["stamp"] != stamp


class _Counting:
    def __init__(self, file, log):
        self.file, self.log = file, log

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def seek(self, *a):
        return self.file.seek(*a)

    def read(self, n):
        self.log.append(n)
        return self.file.read(n)

    def readinto(self, buffer):
        self.log.append(len(buffer))
        return self.file.readinto(buffer)


def test_only_the_asked_tiles_are_read(ome, monkeypatch):
    data = np.random.default_rng(0).integers(0, 1000, (8, 256, 256)).astype(np.uint16)
    names = [f"m{i}" for i in range(8)]
    tiled = ome("tiled.ome.tiff", data, names, tile=(64, 64), compression="zlib")
    plain = ome("raw.ome.tiff", data, names)
    fovs = open_fovs([tiled, plain])
    log = []
    original = panimbus.io.tiff._open
    monkeypatch.setattr(panimbus.io.tiff, "_open", lambda path: _Counting(original(path), log))
    np.testing.assert_array_equal(fovs[0].image[3, 70:120, 70:120], data[3, 70:120, 70:120])
    assert len(log) == 1
    assert sum(log) < 64 * 64 * 2
    log.clear()
    np.testing.assert_array_equal(fovs[1].image[3, 10:20, 5:9], data[3, 10:20, 5:9])
    assert sum(log) == 10 * 256 * 2


def test_opening_reads_no_pixels(ome, monkeypatch):
    def refuse(path):
        raise AssertionError(path)

    monkeypatch.setattr(panimbus.io.tiff, "_open", refuse)
    assert open_fovs(ome(tile=(16, 16)))[0].shape_yx == (70, 50)


def test_threads_may_read_at_once(ome, stack):
    (fov,) = open_fovs(ome(tile=(16, 16), compression="zlib"))
    wrong = []

    def work(c):
        wrong.extend(c for _ in range(20) if not np.array_equal(fov.image[c], stack[c]))

    threads = [threading.Thread(target=work, args=(c,)) for c in (0, 1, 2, 0)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_pyramid_levels_are_not_channels(tmp_path, stack):
    path = tmp_path / "p.ome.tiff"
    with tifffile.TiffWriter(path, ome=True) as tif:
        meta = {"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}}
        tif.write(stack, subifds=1, metadata=meta, tile=(16, 16), photometric="minisblack")
        tif.write(stack[:, ::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    (fov,) = open_fovs(path)
    assert fov.image.shape == (3, 70, 50)
    np.testing.assert_array_equal(fov.image[:], stack)


def test_duplicated_and_unnamed_channels_are_told_apart_by_position(ome, stack):
    (fov,) = open_fovs(ome(channels=("CD4", "", "CD4")))
    assert fov.channels == ("CD4", "channel_2", "CD4_2")
    assert len(fov.notes) == 2
    np.testing.assert_array_equal(fov.image[2], stack[2])
    (fov,) = open_fovs(ome("none.ome.tiff", channels=None))
    assert fov.channels == ("channel_1", "channel_2", "channel_3")


@pytest.mark.parametrize(
    ("value", "unit", "mpp"),
    [(500, "nm", 0.5), (0.001, "mm", 1.0), (1, "pixel", None), (2, "reference frame", None)],
)
def test_pixel_size_units(ome, value, unit, mpp):
    meta = {
        "PhysicalSizeX": value,
        "PhysicalSizeY": value,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeYUnit": unit,
    }
    (fov,) = open_fovs(ome(metadata=meta))
    assert fov.mpp == (pytest.approx(mpp) if mpp else None)


def test_pixels_that_are_not_square_are_refused(ome):
    path = ome(metadata={"PhysicalSizeY": 0.6})
    with pytest.raises(InputError, match="not square"):
        open_fovs(path)
    (fov,) = open_fovs(path, mpp=0.5)
    assert fov.mpp == 0.5
    assert "overridden" in fov.notes[0]


def test_mpp_overrides_and_says_so(ome):
    (fov,) = open_fovs(ome(), mpp=0.25)
    assert fov.mpp == 0.25
    assert fov.notes == ("the file says 0.5 x 0.5 µm/px, overridden by 0.25 µm/px",)
    assert open_fovs(ome(), mpp=0.501)[0].notes == ()
    with pytest.raises(InputError, match="must be positive"):
        open_fovs(ome(), mpp=0)


def test_volumes_are_refused(tmp_path, ome):
    path = tmp_path / "z.ome.tiff"
    tifffile.imwrite(
        path,
        np.zeros((4, 2, 8, 9), np.uint8),
        ome=True,
        metadata={"axes": "ZCYX"},
        photometric="minisblack",
    )
    with pytest.raises(InputError, match="SizeZ 4"):
        open_fovs(path)


@pytest.mark.parametrize("axes", ["CYX", "TCYX", "CZYX", "TZCYX", "ZCYX"])
def test_any_order_of_axes_of_length_one(tmp_path, stack, axes):
    path = tmp_path / "a.ome.tiff"
    shape = [{"C": 3, "Y": 70, "X": 50}.get(a, 1) for a in axes]
    tifffile.imwrite(
        path, stack.reshape(shape), ome=True, metadata={"axes": axes}, photometric="minisblack"
    )
    np.testing.assert_array_equal(open_fovs(path)[0].image[:], stack)


def test_several_images_in_a_file(tmp_path, stack):
    path = tmp_path / "s.ome.tiff"
    with tifffile.TiffWriter(path, ome=True) as tif:
        for name, data in (
            ("A", stack),
            ("B", stack + 1),
            ("A small", stack[:, ::4, ::4]),
            ("label image", stack[:1]),
        ):
            meta = {"axes": "CYX", "Name": name, "Channel": {"Name": ["a", "b", "c"][: len(data)]}}
            tif.write(data, metadata=meta, photometric="minisblack")
    fovs = open_fovs(path)
    assert [f.fov_id for f in fovs] == ["s_A", "s_B"]
    np.testing.assert_array_equal(fovs[1].image[:], stack + 1)
    assert "A small" in fovs[0].notes[0]


_XML = """<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="50" SizeY="70" SizeC="3" SizeZ="1" SizeT="1"
PhysicalSizeX="0.4" PhysicalSizeY="0.4"><Channel ID="c0" Name="a"/><Channel ID="c1" Name="b"/><Channel ID="c2" Name="c"/>{data}
</Pixels></Image></OME>"""
_PART = (
    '<TiffData IFD="{ifd}" FirstC="{c}" PlaneCount="1"><UUID'
    ' FileName="{file}">urn:uuid:{file}</UUID></TiffData>'
)
_BINARY = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{0}">'
    '<BinaryOnly MetadataFile="set.companion.ome" UUID="urn:uuid:0"/></OME>'
)


def _companion_set(folder, stack):
    parts = "".join(_PART.format(ifd=0, c=c, file=f"p{2 - c}.ome.tif") for c in range(3))
    (folder / "set.companion.ome").write_text(_XML.format(data=parts))
    for c in range(3):
        name = f"p{2 - c}.ome.tif"
        tifffile.imwrite(folder / name, stack[c], description=_BINARY.format(name), metadata=None)


@pytest.mark.parametrize("entry", ["", "set.companion.ome", "p1.ome.tif"])
def test_companion_files(tmp_path, stack, entry):
    _companion_set(tmp_path, stack)
    (fov,) = open_fovs(tmp_path / entry)
    assert fov.channels == ("a", "b", "c")
    assert fov.mpp == 0.4
    np.testing.assert_array_equal(fov.image[:], stack)
    assert fov.fov_id == (entry or "set").split(".")[0]


def test_a_missing_part_is_an_error(tmp_path, stack):
    _companion_set(tmp_path, stack)
    (tmp_path / "p0.ome.tif").unlink()
    with pytest.raises(ReadError, match=r"p0\.ome\.tif"):
        open_fovs(tmp_path / "set.companion.ome")


def test_a_set_of_files_that_name_each_other_is_one_fov(tmp_path, stack):
    xml = _XML.format(
        data="".join(_PART.format(ifd=0, c=c, file=f"q{c}.ome.tif") for c in range(3))
    )
    for c in range(3):
        tifffile.imwrite(tmp_path / f"q{c}.ome.tif", stack[c], description=xml, metadata=None)
    (fov,) = open_fovs(tmp_path)
    assert fov.fov_id == "q0"
    np.testing.assert_array_equal(fov.image[:], stack)


def test_tiffdata_order_and_renamed_file(tmp_path, stack):
    xml = _XML.format(
        data="".join(_PART.format(ifd=2 - c, c=c, file="old name.ome.tif") for c in range(3))
    )
    tifffile.imwrite(
        tmp_path / "new.ome.tif", stack, description=xml, metadata=None, photometric="minisblack"
    )
    np.testing.assert_array_equal(open_fovs(tmp_path / "new.ome.tif")[0].image[:], stack[::-1])


def test_fewer_pages_than_promised(tmp_path, stack):
    xml = _XML.format(data='<TiffData IFD="0" PlaneCount="3"/>')
    tifffile.imwrite(
        tmp_path / "x.ome.tif", stack[:2], description=xml, metadata=None, photometric="minisblack"
    )
    with pytest.raises(ReadError, match="fewer pages"):
        open_fovs(tmp_path / "x.ome.tif")


def test_xml_with_entities_is_refused(tmp_path, stack):
    xml = '<!DOCTYPE x [<!ENTITY a "b">]>' + _XML.format(data="")[38:]
    tifffile.imwrite(
        tmp_path / "x.ome.tif", stack, description=xml, metadata=None, photometric="minisblack"
    )
    with pytest.raises(ReadError, match="document type"):
        open_fovs(tmp_path / "x.ome.tif")


def test_plain_stack_needs_names(tmp_path, stack):
    tifffile.imwrite(tmp_path / "f.tiff", stack, photometric="minisblack")
    (fov,) = open_fovs(tmp_path / "f.tiff")
    assert fov.channels == ("channel_1", "channel_2", "channel_3")
    assert "names no channels" in fov.notes[0]
    assert fov.mpp is None
    (fov,) = open_fovs(tmp_path / "f.tiff", channel_names=["a", "b", "c"], channels=["c"])
    np.testing.assert_array_equal(fov.image[:], stack[2:])
    np.testing.assert_array_equal(fov.image[0, 3:5, 4], stack[2, 3:5, 4])
    with pytest.raises(InputError, match="does not fit"):
        open_fovs(tmp_path / "f.tiff", channel_names=["a", "b"])


@pytest.mark.parametrize(
    ("config", "compression"),
    [("contig", None), ("separate", None), ("contig", "zlib"), ("separate", "lzw")],
)
def test_samples_as_channels(tmp_path, config, compression):
    data = np.arange(5 * 20 * 30, dtype=np.float32).reshape(5, 20, 30)
    shown = np.moveaxis(data, 0, -1) if config == "contig" else data
    tifffile.imwrite(
        tmp_path / "f.tiff",
        shown,
        photometric="minisblack",
        planarconfig=config,
        compression=compression,
        rowsperstrip=6,
    )
    (fov,) = open_fovs(tmp_path / "f.tiff")
    np.testing.assert_array_equal(fov.image[:, 3:17, 2:29], data[:, 3:17, 2:29])
    assert fov.image.dtype == np.float32


def test_colour_pictures_are_refused_unless_named(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "he.tiff", rgb, photometric="rgb")
    with pytest.raises(InputError, match="picture in colours"):
        open_fovs(tmp_path / "he.tiff")
    (fov,) = open_fovs(tmp_path / "he.tiff", channel_names=["r", "g", "b"])
    np.testing.assert_array_equal(fov.image[1], rgb[..., 1])


def test_imagej_hyperstack(tmp_path, stack):
    path = tmp_path / "ij.tif"
    tifffile.imwrite(
        path,
        stack,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "CYX", "unit": "um", "Labels": ["a", "b", "c"]},
    )
    (fov,) = open_fovs(path)
    assert (fov.channels, fov.mpp) == (("a", "b", "c"), 0.5)
    np.testing.assert_array_equal(fov.image[:], stack)


def test_imagej_stack_of_slices_is_read_as_channels_but_a_volume_is_not(tmp_path, stack):
    tifffile.imwrite(tmp_path / "z.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    (fov,) = open_fovs([tmp_path / "z.tif"])
    assert "read as channels" in fov.notes[0]
    tifffile.imwrite(
        tmp_path / "v.tif", np.stack([stack, stack]), imagej=True, metadata={"axes": "ZCYX"}
    )
    with pytest.raises(InputError, match="Z 2"):
        open_fovs([tmp_path / "v.tif"])


def test_planes_without_pages(tmp_path, stack):
    tifffile.imwrite(tmp_path / "t.tif", stack, truncate=True, photometric="minisblack")
    (fov,) = open_fovs([tmp_path / "t.tif"])
    np.testing.assert_array_equal(fov.image[1:, 4:9, 2:5], stack[1:, 4:9, 2:5])


def test_mibitiff(tmp_path, stack):
    path = tmp_path / "m.tiff"
    with tifffile.TiffWriter(path) as tif:
        for name, kind, plane in (
            ("CD45", "SIMS", stack[0]),
            ("dsDNA", "SIMS", stack[1]),
            ("x", "Total", stack[2]),
        ):
            meta = {
                "image.type": kind,
                "channel.target": name,
                "channel.mass": 1,
                "mibi.size": 25.0,
            }
            tif.write(plane, description=json.dumps(meta), metadata=None)
    (fov,) = open_fovs([path])
    assert fov.channels == ("CD45", "dsDNA")
    assert fov.mpp == pytest.approx(0.5)
    assert fov.source["format"] == "MIBItiff"


def test_resolution_tags_count_only_where_a_microscope_wrote_them(tmp_path, stack):
    for name, resolution, unit, mpp in [
        ("a", (20000, 20000), "CENTIMETER", 0.5),
        ("b", (72, 72), "INCH", None),
    ]:
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            stack,
            resolution=resolution,
            resolutionunit=unit,
            photometric="minisblack",
        )
        assert open_fovs([tmp_path / f"{name}.tif"])[0].mpp == mpp


_QPI = """<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType>
<Name>{name}</Name>{more}<ScanProfile><root><PixelSizeMicrons>0.508</PixelSizeMicrons></root></ScanProfile>
</PerkinElmer-QPI-ImageDescription>"""


def test_qptiff(tmp_path, stack):
    path = tmp_path / "slide.qptiff"
    with tifffile.TiffWriter(path) as tif:
        options = {
            "tile": (16, 16),
            "software": "PerkinElmer-QPI",
            "metadata": None,
            "photometric": "minisblack",
        }
        for name, more, plane in (
            ("DAPI", "", stack[0]),
            ("Opal 520", "<Biomarker>CD3</Biomarker>", stack[1]),
            ("Opal 690", "<Biomarker></Biomarker>", stack[2]),
        ):
            tif.write(
                plane,
                description=_QPI.format(kind="FullResolution", name=name, more=more),
                **options,
            )
        rgb = np.zeros((10, 8, 3), np.uint8)
        tif.write(
            rgb,
            description=_QPI.format(kind="Thumbnail", name="", more=""),
            photometric="rgb",
            metadata=None,
        )
        for plane in stack:
            tif.write(
                plane[::2, ::2],
                description=_QPI.format(kind="ReducedResolution", name="DAPI", more=""),
                **options,
            )
        tif.write(
            rgb,
            description=_QPI.format(kind="Overview", name="", more=""),
            photometric="rgb",
            metadata=None,
        )
    (fov,) = open_fovs(path)
    assert fov.channels == ("DAPI", "CD3", "Opal 690")
    assert fov.mpp == 0.508
    assert fov.source["format"] == "QPTIFF"
    np.testing.assert_array_equal(fov.image[:], stack)


def _damaged(path, size):
    data = path.read_bytes()
    path.write_bytes(data[:size])


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    "options",
    [{}, {"tile": (16, 16), "compression": "zlib"}, {"rowsperstrip": 5, "compression": "lzw"}],
)
def test_truncated_files_are_named(ome, keep, options):
    path = ome(**options)
    _damaged(path, int(path.stat().st_size * keep))
    with pytest.raises(ReadError, match=r"fov1\.ome\.tiff"):
        open_fovs(path)[0].image[:]


def test_a_plain_stack_that_lost_its_last_pages_is_not_a_shorter_stack(tmp_path, stack):
    path = tmp_path / "f.tif"
    with tifffile.TiffWriter(path) as tif:
        for plane in stack:
            tif.write(plane, contiguous=False, metadata=None)
    for keep in (0.4, 0.7, 0.95):
        whole = path.read_bytes()
        short = tmp_path / f"short{keep}.tif"
        short.write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(ReadError, match="damaged or truncated"):
            open_fovs([short])


def test_damage_found_while_reading_names_page_and_segment(ome):
    path = ome(tile=(16, 16), compression="zlib")
    (fov,) = open_fovs(path)
    plane = fov.image.array.planes[1]
    data = bytearray(path.read_bytes())
    data[plane.offsets[3] : plane.offsets[3] + 20] = b"\xff" * 20
    path.write_bytes(data)
    fov.image[0]
    with pytest.raises(ReadError, match=r"segment 3 of page 2 cannot be decoded"):
        fov.image[1]
    path.unlink()
    with pytest.raises(ReadError, match="cannot be read any more"):
        fov.image[0]


def test_unrecognised_files_show_evidence(tmp_path):
    (tmp_path / "x.tiff").write_bytes(b"\x89PNG\r\n\x1a\n12345678")
    with pytest.raises(ReadError, match=r"x\.tiff(.|\n)*OME-Zarr(.|\n)*x89PNG"):
        open_fovs(tmp_path / "x.tiff")
    (tmp_path / "empty.tiff").touch()
    with pytest.raises(ReadError, match="0 bytes"):
        open_fovs(tmp_path / "empty.tiff")
    with pytest.raises(ReadError, match=r"no such file(.|\n)*empty\.tiff"):
        open_fovs(tmp_path / "absent.tiff")


def test_bool_images_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 16, 16), bool), photometric="minisblack")
    with pytest.raises(InputError, match="cannot be scored"):
        open_fovs([tmp_path / "b.tif"])


def test_what_is_written_is_read(tmp_path, stack):
    write_ome_tiff(tmp_path / "w.ome.tiff", stack, ["a", "b", "c"], 0.5)
    (fov,) = open_fovs(tmp_path / "w.ome.tiff")
    np.testing.assert_array_equal(fov.image[:], stack)
    assert (fov.channels, fov.mpp) == (("a", "b", "c"), 0.5)


def test_a_renamed_copy_reads_its_own_pixels_and_hides_no_other_file(tmp_path, stack):
    one = '<TiffData IFD="0" PlaneCount="3"><UUID FileName="a.ome.tif">{}</UUID></TiffData>'
    for name, uuid, add in (("a", "urn:uuid:0", 0), ("b", "urn:uuid:0", 1), ("c", "urn:uuid:9", 2)):
        xml = _XML.format(data=one.format(uuid))
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            stack + add,
            description=xml,
            metadata=None,
            photometric="minisblack",
        )
    fovs = open_fovs(tmp_path)
    assert [f.fov_id for f in fovs] == ["a", "b", "c"]
    assert [int(f.image[0, 0, 0]) for f in fovs] == [0, 1, 2]


def test_jpeg_tiles(tmp_path, stack):
    plane = (stack // 64).astype(np.uint8)
    path = tmp_path / "j.tif"
    tifffile.imwrite(path, plane, compression="jpeg", tile=(32, 32), photometric="minisblack")
    (fov,) = open_fovs(path)
    np.testing.assert_array_equal(fov.image[:], tifffile.imread(path))


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_interleaved_samples_are_read_in_bounded_pieces(tmp_path, monkeypatch, byteorder):
    """Forty channels of 3000 x 3000 would be 720 MB at once for each of them."""
    monkeypatch.setattr(panimbus.io.tiff, "_AT_ONCE", 1000)  # three rows
    image = np.random.default_rng(0).integers(0, 60_000, (37, 29, 5)).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, image, planarconfig="contig", photometric="minisblack", byteorder=byteorder
    )
    (fov,) = open_fovs(path, channel_names=list("abcde"), mpp=1)
    np.testing.assert_array_equal(fov.image[3], image[..., 3])
    np.testing.assert_array_equal(fov.image[1, 5:31, 4:9], image[5:31, 4:9, 1])


def test_large_pieces_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(panimbus.io.tiff, "_LARGE_SEGMENT", 1 << 20)
    path = tmp_path / "a.tif"
    options = {"planarconfig": "contig", "photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(path, np.zeros((300, 400, 5), np.uint16), rowsperstrip=300, **options)
    (fov,) = open_fovs(path, channel_names=list("abcde"), mpp=1)
    assert any("compressed in pieces of 1 MB" in note for note in fov.notes)
    tifffile.imwrite(path, np.zeros((300, 400, 5), np.uint16), rowsperstrip=30, **options)
    (fov,) = open_fovs(path, channel_names=list("abcde"), mpp=1)
    assert fov.notes == ()
