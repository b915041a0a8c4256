"""OME-TIFFs of several images: FOVs, channels of one FOV, and what stands beside them; and OME-XML
as others write it."""

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError, ReadError
from panimbus.io import open_fovs


def _meta(axes="CYX", channels=None, name=None, mpp=None):
    meta = {"axes": axes}
    meta |= {"Channel": {"Name": list(channels)}} if channels else {}
    meta |= {"Name": name} if name else {}
    return meta | ({"PhysicalSizeX": mpp, "PhysicalSizeY": mpp} if mpp else {})


def _write(path, *images):
    """Images as (pixels, metadata, options)."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for data, meta, *more in images:
            options = {"photometric": "minisblack", "contiguous": False} | (more[0] if more else {})
            tif.write(data, metadata=meta, **options)
    return path


def test_images_of_one_plane_are_channels_of_one_fov(tmp_path, stack):
    names = ("DAPI", "CD3", "CD20")
    path = _write(
        tmp_path / "a.ome.tif",
        *((p, _meta("YX", [n], mpp=0.5)) for n, p in zip(names, stack, strict=True)),
    )
    (fov,) = open_fovs(path)
    assert (fov.fov_id, fov.channels, fov.mpp) == ("a", names, 0.5)
    np.testing.assert_array_equal(fov.image[:], stack)
    assert "3 images of one plane are read as the channels of one FOV" in fov.notes[0]


def test_images_of_one_plane_without_channel_names(tmp_path, stack):
    path = _write(tmp_path / "a.ome.tif", *((p, _meta("YX")) for p in stack))
    (fov,) = open_fovs(path)
    np.testing.assert_array_equal(fov.image[:], stack)
    assert open_fovs(path, channel_names=["a", "b", "c"])[0].channels == ("a", "b", "c")
    titled = _write(
        tmp_path / "b.ome.tif",
        *((p, _meta("YX", name=n)) for p, n in zip(stack, ("DAPI", "CD3", "CD8"), strict=True)),
    )
    assert open_fovs(titled)[0].channels == ("DAPI", "CD3", "CD8")


@pytest.mark.parametrize("place", ["ROI {}", "roi_{}", "fov{}", "slide 3 region {}"])
@pytest.mark.parametrize("named", [True, False])
def test_places_of_one_channel_are_fovs(tmp_path, stack, named, place):
    images = [
        (p, _meta("YX", ["DAPI"] if named else None, name=place.format(i)))
        for i, p in enumerate(stack)
    ]
    fovs = open_fovs(_write(tmp_path / "a.ome.tif", *images))
    assert [f.fov_id for f in fovs] == [f"a_{place.format(i)}" for i in range(3)]


def test_planes_of_two_fovs_are_not_mixed(tmp_path, stack):
    images = [
        (p, _meta("YX", [n]))
        for p, n in zip((*stack, stack[0]), ("DAPI", "CD3", "DAPI", "CD3"), strict=True)
    ]
    with pytest.raises(InputError, match="different channels"):
        open_fovs(_write(tmp_path / "a.ome.tif", *images))
    images = [(stack[0], _meta("YX", ["DAPI"])), (stack[1, :60], _meta("YX", ["CD3"]))]
    with pytest.raises(InputError, match=r"different channels(.|\n)*export each image"):
        open_fovs(_write(tmp_path / "b.ome.tif", *images))


@pytest.mark.parametrize("mpp", [None, 0.5])
def test_scenes_of_unequal_size_are_fovs(tmp_path, mpp):
    sizes = [(60, 52), (28, 24), (100, 90)]
    data = [np.full((2, *size), i + 1, np.uint16) for i, size in enumerate(sizes)]
    path = _write(
        tmp_path / "s.ome.tif",
        *((d, _meta("CYX", "ab", f"ROI {i}", mpp)) for i, d in enumerate(data)),
    )
    fovs = open_fovs(path)
    assert [(f.fov_id, f.shape_yx, int(f.image[0, 0, 0])) for f in fovs] == [
        (f"s_ROI {i}", size, i + 1) for i, size in enumerate(sizes)
    ]


def test_a_scene_of_half_the_size_is_no_pyramid_level(tmp_path, stack):
    half = stack[:, :35, :25]
    same = _write(
        tmp_path / "s.ome.tif",
        (stack, _meta("CYX", "abc", "ROI 1", 0.5)),
        (half, _meta("CYX", "abc", "ROI 2", 0.5)),
    )
    assert len(open_fovs(same)) == 2
    level = _write(
        tmp_path / "p.ome.tif",
        (half, _meta("CYX", "abc", "x", 1.0)),
        (stack, _meta("CYX", "abc", "y", 0.5)),
    )
    (fov,) = open_fovs(level)
    assert fov.shape_yx == (70, 50)
    assert "'x'" not in fov.notes[0]
    assert "x (35 x 25, a smaller copy)" in fov.notes[0]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("named", [True, False])
def test_macro_and_label_may_stand_anywhere(tmp_path, stack, order, named):
    rgb = np.zeros((90, 60, 3), np.uint8)
    images = [
        (stack, _meta("CYX", "abc")),
        (rgb, _meta("YXS", name="macro image" if named else None), {"photometric": "rgb"}),
        (stack[0, :20, :20], _meta("YX", name="label_image" if named else None)),
    ]
    (fov,) = open_fovs(_write(tmp_path / "s.ome.tif", *(images[i] for i in order)))
    assert fov.channels == ("a", "b", "c")
    np.testing.assert_array_equal(fov.image[:], stack)
    assert "the file holds 3 images; not used" in fov.notes[0]


def test_a_name_that_only_begins_like_macro_is_an_image(tmp_path, stack):
    images = [
        (stack, _meta("CYX", "abc", name)) for name in ("macrophage panel", "labelled by hand")
    ]
    assert len(open_fovs(_write(tmp_path / "s.ome.tif", *images))) == 2


def test_a_brightfield_slide_is_not_read_by_its_label(tmp_path, stack):
    rgb = np.zeros((300, 200, 3), np.uint8)
    path = _write(
        tmp_path / "s.ome.tif", (rgb, _meta("YXS"), {"photometric": "rgb"}), (stack[0], _meta("YX"))
    )
    with pytest.raises(InputError, match="picture in colours"):
        open_fovs(path)


def test_images_with_other_channels_are_not_dropped(tmp_path, stack):
    path = _write(
        tmp_path / "s.ome.tif",
        (stack, _meta("CYX", "abc", "round 1")),
        (stack, _meta("CYX", "ade", "round 2")),
    )
    with pytest.raises(
        InputError,
        match=r"different channels(.|\n)*round 1: 70 x 50, a, b, c; round 2: 70 x 50, a, d, e",
    ):
        open_fovs(path)


def test_three_markers_stored_as_rgb_are_read_when_named(tmp_path, stack):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, stack, ome=True, photometric="rgb", planarconfig="separate", metadata={"axes": "SYX"}
    )
    with pytest.raises(InputError, match=r"picture in colours(.|\n)*--channel-names"):
        open_fovs(path)
    (fov,) = open_fovs(path, channel_names=["a", "b", "c"])
    np.testing.assert_array_equal(fov.image[:], stack)


_XML = """<?xml version="1.0" encoding="UTF-8"?>{before}
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image ID="Image:0">{inside}
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="50" SizeY="70" SizeC="3" SizeZ="1" SizeT="1"
PhysicalSizeX="0.4" PhysicalSizeY="0.4"><Channel ID="c0" Name="a"/><Channel ID="c1" Name="b"/><Channel ID="c2" Name="c"/>
{data}</Pixels></Image></OME>"""
_ALL = '<TiffData IFD="0" PlaneCount="3"/>'


def _described(path, stack, data=_ALL, before="", inside="", replace=("", "")):
    xml = _XML.format(data=data, before=before, inside=inside).replace(*replace)
    tifffile.imwrite(path, stack, description=xml.encode(), metadata=None, photometric="minisblack")
    return path


def test_cdata_is_legal(tmp_path, stack):
    path = _described(
        tmp_path / "a.ome.tif",
        stack,
        inside="<Description><![CDATA[3/4 <by hand> & washed]]></Description>",
    )
    np.testing.assert_array_equal(open_fovs(path)[0].image[:], stack)


@pytest.mark.parametrize("length", [0, 5_000, 200_000])
def test_a_document_type_is_refused_wherever_it_stands(tmp_path, stack, length):
    before = f"<!--{'x' * length}--><!DOCTYPE x [<!ENTITY a 'b'>]>"
    with pytest.raises(ReadError, match="document type"):
        open_fovs(_described(tmp_path / "a.ome.tif", stack, before=before))


def test_pages_are_read_in_order_without_tiffdata(tmp_path, stack):
    (fov,) = open_fovs(_described(tmp_path / "a.ome.tif", stack, data="<MetadataOnly/>"))
    np.testing.assert_array_equal(fov.image[:], stack)
    assert "no TiffData" in fov.notes[0]
    with pytest.raises(ReadError, match=r"no TiffData(.|\n)*2 pages"):
        open_fovs(_described(tmp_path / "b.ome.tif", stack[:2], data=""))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            (
                '<TiffData IFD="0" FirstC="0"/><TiffData IFD="0" FirstC="1"/><TiffData IFD="1"'
                ' FirstC="2"/>'
            ),
            "the same page",
        ),
        (_ALL + '<TiffData IFD="2" FirstC="0" PlaneCount="1"/>', "two pages"),
        ('<TiffData IFD="999999999" PlaneCount="3"/>', "fewer pages"),
        ('<TiffData IFD="0" PlaneCount="2147483647"/>', None),
        ('<TiffData IFD="x" PlaneCount="3"/>', "IFD"),
        ('<TiffData IFD="0" PlaneCount="-3"/>', "PlaneCount"),
        ('<TiffData IFD="0" FirstC="1e3"/>', "FirstC"),
    ],
)
def test_where_the_planes_are_said_to_be(tmp_path, stack, data, words):
    path = _described(tmp_path / "a.ome.tif", stack, data=data)
    if words is None:
        np.testing.assert_array_equal(open_fovs(path)[0].image[:], stack)
        return
    with pytest.raises(ReadError, match=words):
        open_fovs(path)


@pytest.mark.parametrize("value", ["many", "-50", "0", "1e400", "NaN", "99999999999", "5_0", ""])
@pytest.mark.parametrize("name", ["SizeX", "SizeC", "SizeT"])
def test_numbers_of_the_xml_are_checked(tmp_path, stack, name, value):
    size = {"SizeX": 50, "SizeC": 3, "SizeT": 1}[name]
    path = _described(
        tmp_path / "a.ome.tif", stack, replace=(f'{name}="{size}"', f'{name}="{value}"')
    )
    with pytest.raises(ReadError, match=f"no usable number for {name}"):
        open_fovs(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [("0,4", "no length"), ("NaN", "no length"), ("-1", "no length"), ("1e300", "ignored")],
)
def test_odd_pixel_sizes_are_noted(tmp_path, stack, value, words):
    path = _described(tmp_path / "a.ome.tif", stack, replace=('"0.4"', f'"{value}"'))
    (fov,) = open_fovs(path)
    assert fov.mpp is None
    assert words in fov.notes[0]
    assert open_fovs(path, mpp=0.5)[0].mpp == 0.5
    with pytest.raises(InputError, match="no microscope"):
        open_fovs(path, mpp=1e9)


def test_other_orders_of_axes_are_refused(tmp_path, stack):
    with pytest.raises(ReadError, match=r"order of axes(.|\n)*CXYZT"):
        open_fovs(_described(tmp_path / "a.ome.tif", stack, replace=("XYCZT", "CXYZT")))


@pytest.mark.parametrize(
    "name",
    [
        "../secret.ome.tif",
        "{root}/secret.ome.tif",
        "..\\secret.ome.tif",
        "sub/../../secret.ome.tif",
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_metadata_leads_to_no_other_folder(tmp_path, stack, name, binary):
    folder = tmp_path / "data"
    folder.mkdir()
    _described(tmp_path / "secret.ome.tif", stack)
    name = name.format(root=tmp_path)
    if binary:
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly'
            f' MetadataFile="{name}"/></OME>'
        )
        tifffile.imwrite(folder / "a.ome.tif", stack[0], description=xml, metadata=None)
    else:
        part = (
            '<TiffData IFD="{0}" FirstC="{0}" PlaneCount="1"><UUID'
            ' FileName="{1}">urn:uuid:{0}9</UUID></TiffData>'
        )
        data = part.format(0, name) + part.format(1, "a.ome.tif") + part.format(2, "a.ome.tif")
        _described(folder / "a.ome.tif", stack, data=data)
    with pytest.raises(ReadError, match="is missing"):
        open_fovs(folder / "a.ome.tif")


def test_ome_xml_that_is_cut_off_is_no_plain_stack(tmp_path, stack):
    xml = _XML.format(data=_ALL, before="", inside="")[:-40]
    tifffile.imwrite(
        tmp_path / "a.ome.tif", stack, description=xml, metadata=None, photometric="minisblack"
    )
    with pytest.raises(ReadError, match="cut off"):
        open_fovs(tmp_path / "a.ome.tif")
