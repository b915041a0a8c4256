"""TIFF and OME-XML, changed at random: whatever the bytes, nothing but our own errors comes out."""

import io
import json
import struct
import time
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panimbus.core.errors import PanimbusError
from panimbus.io import open_fovs
from panimbus.io.ome import parse_ome
from panimbus.io.xmltext import parse_xml

FUZZ = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
PLANES = np.arange(3 * 20 * 24, dtype=np.uint16).reshape(3, 20, 24)
NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    255,
    256,
    32767,
    32768,
    65535,
    1 << 20,
    1 << 30,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 64) - 1,
)
WORDS = (
    "",
    "many",
    "-1",
    "0",
    "1e400",
    "NaN",
    "Infinity",
    "1_0",
    "²",
    "1 000",
    "0,5",
    "9" * 400,
    "\ud800",
    "\x00",
    "../x",
    "&x;",
)
MARKUP = ("<!DOCTYPE x [<!ENTITY a 'b'>]>", "&a;", "<!--", "]]>", "<?x?>", "\x0b")
XML = """<?xml version="1.0" encoding="UTF-8"?><!-- c --><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"
UUID="urn:uuid:0"><Image ID="Image:0" Name="roi 1"><Description><![CDATA[x]]></Description><Pixels ID="Pixels:0"
DimensionOrder="XYCZT" Type="uint16" SizeX="24" SizeY="20" SizeC="3" SizeZ="1" SizeT="1"
PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.5">
<Channel ID="c0" Name="a" SamplesPerPixel="1"/><Channel ID="c1" Name="b"/><Channel ID="c2" Fluor="c"/>
<TiffData IFD="0" PlaneCount="2"><UUID FileName="a.ome.tif">urn:uuid:0</UUID></TiffData><TiffData IFD="2" FirstC="2"/></Pixels>
</Image>
<Image ID="Image:1" Name="label"><Pixels SizeX="5" SizeY="5" SizeC="1" SizeZ="1" SizeT="1"><MetadataOnly/></Pixels></Image>
</OME>"""


def _file(data=PLANES, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, data, **({"photometric": "minisblack"} | options))
    return out.getvalue()


def _mibi():
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as tif:
        for name, plane in zip("abc", PLANES, strict=True):
            text = {
                "image.type": "SIMS",
                "channel.mass": 1,
                "channel.target": name,
                "mibi.size": 25,
            }
            tif.write(plane, description=json.dumps(text), metadata=None)
    return out.getvalue()


_QPI = "<PerkinElmer-QPI-ImageDescription><ImageType>FullResolution</ImageType><Name>a</Name></PerkinElmer-QPI-ImageDescription>"
SEEDS = [
    _file(
        ome=True,
        metadata={
            "axes": "CYX",
            "Channel": {"Name": ["a", "b", "c"]},
            "PhysicalSizeX": 0.5,
            "PhysicalSizeY": 0.5,
        },
    ),
    _file(description=XML.replace("µ", "&#181;"), metadata=None),
    _file(imagej=True, metadata={"axes": "CYX", "Labels": ["a", "b", "c"]}),
    _file(
        metadata={"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}},
        tile=(16, 16),
        compression="zlib",
        predictor=2,
    ),
    _file(byteorder=">", bigtiff=True, rowsperstrip=7, compression="lzw"),
    _file(np.moveaxis(PLANES, 0, -1), planarconfig="contig", compression="packbits"),
    _file(planarconfig="separate", metadata=None),
    _file((PLANES[0] % 250).astype(np.uint8), compression="jpeg", tile=(16, 16)),
    _file(PLANES[0], compression="jpegxl"),
    _file(PLANES[:1].astype(np.float32), compression="zstd", predictor=3),
    _file(description=_QPI, metadata=None),
    _mibi(),
]


@st.composite
def changed_bytes(draw, seeds):
    """A valid document with bytes flipped, cut, inserted or repeated, and numbers overwritten."""
    data = bytearray(draw(st.sampled_from(seeds)))
    early = (
        len(data) if draw(st.booleans()) else min(len(data), 600)
    )  # most of what is parsed stands near the start
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(early - 1, 0)))
        kind = draw(st.sampled_from(("flip", "number", "cut", "insert", "repeat", "end")))
        if kind == "flip":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "number":
            size = draw(st.sampled_from((2, 4, 8)))
            value = draw(st.sampled_from(NUMBERS)) & ((1 << 8 * size) - 1)
            data[at : at + size] = value.to_bytes(size, draw(st.sampled_from(("little", "big"))))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 60))]
        else:
            del data[max(at, 1) :]
    return bytes(data)


@st.composite
def changed_tags(draw, seeds):
    """A valid TIFF with fields of its pages' tags (code, type, count, value) overwritten."""
    data = bytearray(draw(st.sampled_from(seeds)))
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\x00", b"\x00+")
    at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    fields = (
        ((0, "H"), (2, "H"), (4, "Q"), (12, "Q"))
        if big
        else ((0, "H"), (2, "H"), (4, "I"), (8, "I"))
    )
    for _ in range(draw(st.integers(1, 3))):
        start = at + (
            8 + 20 * draw(st.integers(0, count - 1))
            if big
            else 2 + 12 * draw(st.integers(0, count - 1))
        )
        offset, kind = draw(st.sampled_from(fields))
        limit = (1 << 8 * struct.calcsize(kind)) - 1
        value = (
            draw(st.one_of(st.sampled_from(NUMBERS), st.integers(0, 20), st.integers(254, 340)))
            & limit
        )
        struct.pack_into(order + kind, data, start + offset, value)
    return bytes(data)


@st.composite
def changed_text(draw):
    """A valid OME-XML with values of attributes replaced, and parts cut, doubled or nested."""
    text = XML
    for _ in range(draw(st.integers(1, 4))):
        parts = text.split('"')
        kind = draw(st.sampled_from(("value", "value", "cut", "double", "nest", "insert")))
        at = draw(st.integers(0, max(len(text) - 1, 0)))
        if kind == "value" and len(parts) > 2:
            k = 2 * draw(st.integers(0, (len(parts) - 2) // 2)) + 1
            parts[k] = draw(
                st.one_of(
                    st.sampled_from(WORDS),
                    st.text(max_size=12),
                    st.integers().map(str),
                    st.floats().map(str),
                )
            )
            text = '"'.join(parts)
        elif kind == "cut":
            text = text[:at] + text[at + draw(st.integers(1, 80)) :]
        elif kind == "double":
            text = text[:at] + text[at : at + 120] + text[at:]
        elif kind == "nest":
            depth = draw(st.sampled_from((3, 200, 20_000)))
            text = text.replace("<Pixels", "<a>" * depth + "</a>" * depth + "<Pixels", 1)
        else:
            text = (
                text[:at]
                + draw(
                    st.sampled_from(
                        ("<!DOCTYPE x [<!ENTITY a 'b'>]>", "&a;", "<!--", "]]>", "<?x?>", "\x0b")
                    )
                )
                + text[at:]
            )
    return text


def _read(path):
    """Open the file and read its pixels as far as they are few."""
    for fov in open_fovs([path]):
        channels, height, width = fov.image.shape
        for c in range(min(channels, 5)):
            fov.image[c, 0 : min(height, 64), 0 : min(width, 64)]
            fov.image[c, max(height - 64, 0) : height, max(width - 64, 0) : width]


def _refused_or_read(path, data):
    path.write_bytes(data)
    began = time.monotonic()
    with suppress(PanimbusError):
        _read(path)
    assert time.monotonic() - began < 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of the module's own."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
def test_unchanged_they_are_read(folder, data):
    (folder / "a.ome.tif").write_bytes(data)
    _read(folder / "a.ome.tif")


@FUZZ
@given(changed_bytes(SEEDS))
def test_bytes_of_a_tiff(folder, data):
    _refused_or_read(folder / "a.ome.tif", data)


@FUZZ
@given(changed_tags(SEEDS))
def test_tags_of_a_tiff(folder, data):
    _refused_or_read(folder / "a.ome.tif", data)


@FUZZ
@given(changed_text())
def test_ome_xml_in_a_tiff(folder, text):
    data = text.encode("utf-8", "surrogatepass").replace(b"\x00", b"")
    out = io.BytesIO()
    tifffile.imwrite(out, PLANES, description=data, metadata=None, photometric="minisblack")
    _refused_or_read(folder / "a.ome.tif", out.getvalue())


@FUZZ
@given(st.one_of(changed_text(), changed_bytes([XML.encode(), XML.encode("utf-16")])))
def test_parsers_of_xml(text):
    for parser in (parse_xml, parse_ome):
        with suppress(PanimbusError):
            parser(text, "x")


@FUZZ
@given(changed_text())
def test_a_companion_file(folder, text):
    (folder / "a.companion.ome").write_bytes(text.encode("utf-8", "surrogatepass"))
    (folder / "a.ome.tif").write_bytes(SEEDS[1])
    with suppress(PanimbusError):
        _read(folder / "a.companion.ome")
