"""TIFF and OME-TIFF: cut, sparse, hostile, and of kinds that are not read."""

import json
import os
import struct

import numpy as np
import tifffile
from attacks import attack

XML = """<?xml version="1.0" encoding="UTF-8"?>{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"
UUID="urn:uuid:0">{inside}<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="80" SizeY="90"
SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel ID="c0" Name="CD3"/><Channel ID="c1" Name="CD20"/>
<Channel ID="c2" Name="DAPI"/>{data}</Pixels></Image></OME>"""
ALL = '<TiffData IFD="0" PlaneCount="3"/>'


def _described(folder, *, data=ALL, before="", inside="", replace=("", ""), planes=None, **options):
    """``predict`` on an OME-TIFF with an XML of our own."""
    xml = XML.format(data=data, before=before, inside=inside).replace(*replace)
    image = folder.arrays()[0] if planes is None else planes
    path = folder / "fov1.ome.tif"
    tifffile.imwrite(
        path,
        image,
        description=xml.encode(),
        metadata=None,
        **({"photometric": "minisblack"} | options),
    )
    return folder.predict(image=path)


def _patched(path, tag, index, value, page=0):
    """Overwrite one value of a tag."""
    with tifffile.TiffFile(path) as tif:
        entry = tif.pages[page].tags[tag]
        size = {3: 2, 4: 4, 16: 8}[int(entry.dtype)]
        at = entry.valueoffset + index * size
    data = bytearray(path.read_bytes())
    data[at : at + size] = int(value).to_bytes(size, "little")
    path.write_bytes(data)


def _page(folder, *entries, after=0):
    """``inspect`` of a classic TIFF of one page with these tags (code, type, count, value)."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    (folder / "a.tif").write_bytes(head + table + struct.pack("<I", after) + bytes(400))
    return ["inspect", folder / "a.tif"]


def _grey(width, height, compression=1):
    count = min(width * height, 64)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
    ]
    return [*tags, (273, 4, 1, 250), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, count)]


@attack("damaged or truncated", "page 2", "strips were never written")
def a_strip_was_never_written(folder):
    path = folder.image(rowsperstrip=30)
    _patched(path, 279, 1, 0, page=1)
    return folder.predict(image=path)


@attack("damaged or truncated", "page 3", "tiles were never written")
def a_channel_was_never_written(folder):
    path = folder.image(tile=(48, 48), compression="zlib")
    for i in range(4):
        _patched(path, 324, i, 0, page=2)
    return folder.predict(image=path)


@attack("page 1", "too few")
def a_strip_is_shorter_than_the_header_says(folder):
    path = folder.image(rowsperstrip=30)
    _patched(path, 279, 2, 100)
    return folder.predict(image=path)


@attack("cannot be decoded", "JPEG data lack their end")
def a_jpeg_tile_is_cut(folder):
    path = folder / "a.tif"
    tifffile.imwrite(
        path,
        folder.arrays()[0].astype(np.uint8),
        compression="jpeg",
        rowsperstrip=90,
        photometric="minisblack",
    )
    with tifffile.TiffFile(path) as tif:
        count = tif.pages[1].databytecounts[0]
    _patched(path, 279, 0, count // 2, page=1)
    return folder.predict("--mpp", "0.5", image=path)


@attack("damaged or truncated")
def the_last_page_is_cut(folder):
    path = folder.image()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 3000])
    return folder.predict(image=path)


@attack("fewer planes", "9 planes")
def imagej_claims_planes_that_are_not_there(folder):
    path = folder / "a.tif"
    tifffile.imwrite(path, folder.arrays()[0], imagej=True, metadata={"axes": "CYX"})
    path.write_bytes(
        path.read_bytes().replace(b"images=3", b"images=9").replace(b"channels=3", b"channels=9")
    )
    return folder.predict("--mpp", "0.5", image=path)


@attack("no usable number for images")
def imagej_counts_in_words(folder):
    path = folder / "a.tif"
    tifffile.imwrite(path, folder.arrays()[0], imagej=True, metadata={"axes": "CYX"})
    path.write_bytes(path.read_bytes().replace(b"images=3", b"images=x"))
    return folder.predict("--mpp", "0.5", image=path)


@attack("no usable number for SizeX", "many")
def size_in_words(folder):
    return _described(folder, replace=('SizeX="80"', 'SizeX="many"'))


@attack("no usable number for SizeC", "1e400")
def infinite_channels(folder):
    return _described(folder, replace=('SizeC="3"', 'SizeC="1e400"'))


@attack("no usable number for SizeY", "-90")
def negative_height(folder):
    return _described(folder, replace=('SizeY="90"', 'SizeY="-90"'))


@attack("do not fit")
def a_billion_channels(folder):
    return _described(
        folder,
        replace=('SizeC="3"', 'SizeC="1000000000"'),
        data='<TiffData IFD="0" PlaneCount="3"/>',
    )


@attack("fewer pages")
def planes_beyond_the_last_page(folder):
    return _described(folder, data='<TiffData IFD="2000000000" PlaneCount="2000000000"/>')


@attack("two channels the same page")
def two_channels_of_one_page(folder):
    return _described(
        folder, data="".join(f'<TiffData IFD="0" FirstC="{i}" PlaneCount="1"/>' for i in range(3))
    )


@attack("two pages")
def two_pages_for_one_channel(folder):
    return _described(folder, data=ALL + '<TiffData IFD="0" FirstC="1" PlaneCount="1"/>')


@attack("is no length", "0,5", "--mpp")
def pixel_size_with_a_comma(folder):
    return _described(folder, replace=('"0.5"', '"0,5"'))


@attack("document type")
def entities_behind_a_long_comment(folder):
    bomb = "<!ENTITY a0 'x'>" + "".join(
        f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 10)
    )
    return _described(
        folder,
        before=f"<!--{'x' * 50_000}--><!DOCTYPE x [{bomb}]>",
        inside="<Description>&a9;</Description>",
    )


@attack("nested too deep")
def xml_a_hundred_thousand_deep(folder):
    return _described(folder, inside="<a>" * 100_000 + "</a>" * 100_000)


@attack("cut off")
def xml_without_its_end(folder):
    return _described(folder, replace=("</Pixels></Image></OME>", "</Pixels></Im"))


@attack("order of axes")
def xml_with_channels_first(folder):
    return _described(folder, replace=("XYCZT", "CXYZT"))


@attack("is missing", "secret")
def metadata_in_another_folder(folder):
    (folder / "data").mkdir()
    (folder / "secret.companion.ome").write_text(XML.format(data=ALL, before="", inside=""))
    binary = '<BinaryOnly MetadataFile="../secret.companion.ome"/>'
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{binary}</OME>'
    tifffile.imwrite(
        folder / "data" / "a.ome.tif", folder.arrays()[0][0], description=xml, metadata=None
    )
    return folder.predict(image=folder / "data" / "a.ome.tif")


@attack("is missing", "passwd")
def pixels_at_an_absolute_path(folder):
    part = (
        '<TiffData IFD="{0}" FirstC="{0}" PlaneCount="1"><UUID'
        ' FileName="{1}">urn:uuid:9{0}</UUID></TiffData>'
    )
    return _described(
        folder,
        data=part.format(0, "fov1.ome.tif")
        + part.format(1, "/etc/passwd")
        + part.format(2, "C:\\x\\b.tif"),
    )


@attack("volume or a time series", "SizeZ 3")
def a_volume(folder):
    path = folder / "z.ome.tif"
    tifffile.imwrite(
        path,
        folder.arrays()[0][:, None],
        ome=True,
        metadata={"axes": "ZCYX"},
        photometric="minisblack",
    )
    return folder.predict(image=path)


@attack("volume or a time series")
def an_imagej_movie(folder):
    planes = folder.arrays()[0]
    tifffile.imwrite(
        folder / "t.tif", np.stack([planes, planes]), imagej=True, metadata={"axes": "TCYX"}
    )
    return folder.predict("--mpp", "0.5", image=folder / "t.tif")


@attack("picture in colours", "--channel-names")
def a_brightfield_picture(folder):
    rgb = np.moveaxis(folder.arrays()[0], 0, -1).astype(np.uint8)
    tifffile.imwrite(folder / "he.ome.tif", rgb, ome=True, photometric="rgb")
    return folder.predict("--mpp", "0.5", image=folder / "he.ome.tif")


@attack("channels seem to be the last axis", "moveaxis")
def channels_last(folder):
    last = np.ascontiguousarray(np.moveaxis(folder.arrays()[0], 0, -1))
    tifffile.imwrite(folder / "a.tif", last, photometric="minisblack", metadata={"axes": "YXC"})
    return folder.predict("--mpp", "0.5", image=folder / "a.tif")


@attack("different channels", "export each image")
def rounds_as_images_of_one_file(folder):
    planes = folder.arrays()[0]
    with tifffile.TiffWriter(folder / "r.ome.tif", ome=True) as tif:
        for names in (["DAPI", "CD3", "CD20"], ["DAPI", "CD8", "CK"]):
            tif.write(
                planes,
                metadata={"axes": "CYX", "Channel": {"Name": names}},
                photometric="minisblack",
            )
    return folder.predict("--mpp", "0.5", image=folder / "r.ome.tif")


@attack("damaged or truncated", "it claims")
def a_plane_larger_than_any_disk(folder):
    return _page(folder, *_grey(1_000_000_000, 1_000_000_000))


@attack("damaged or truncated")
def a_compressed_plane_larger_than_memory(folder):
    return _page(folder, *_grey(200_000, 200_000, compression=8))


@attack("leads back")
def pages_in_a_circle(folder):
    return _page(folder, *_grey(8, 8), after=8)


@attack("more than 20,000 pages")
def a_million_pages(folder):
    chain = b"".join(b"\x00\x00" + struct.pack("<I", 8 + 6 * (i + 1)) for i in range(1_000_000))
    (folder / "a.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 8) + chain)
    return ["inspect", folder / "a.tif"]


@attack("damaged or truncated")
def a_bigtiff_of_endless_tags(folder):
    (folder / "a.tif").write_bytes(
        struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, (1 << 64) - 1) + bytes(64)
    )
    return ["inspect", folder / "a.tif"]


@attack("a.tif: the TIFF's structure cannot be read")
def a_width_in_letters(folder):
    tags = [tag for tag in _grey(8, 8) if tag[0] != 256]
    return _page(folder, *tags, (256, 2, 2, 0x4142))


@attack("neither a file nor a folder")
def the_image_is_a_pipe(folder):
    os.mkfifo(folder / "a.ome.tif")
    return folder.predict(image=folder / "a.ome.tif")


@attack("neither a file nor a folder")
def the_image_is_a_device(folder):
    (folder / "a.ome.tif").symlink_to("/dev/zero")
    return folder.predict(image=folder / "a.ome.tif")


@attack("a.tif")
def json_nested_without_end(folder):
    text = '{"shape": [3, 90, 80], "axes": "TZX", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    tifffile.imwrite(folder / "a.tif", folder.arrays()[0][0], metadata=None, description=text)
    data = (folder / "a.tif").read_bytes()
    (folder / "a.tif").write_bytes(data[:-20])
    return folder.predict("--mpp", "0.5", image=folder / "a.tif")


@attack("fewer planes")
def a_shaped_stack_that_lost_its_pages(folder):
    text = json.dumps({"shape": [5, 90, 80], "axes": "CYX"})
    tifffile.imwrite(
        folder / "a.tif",
        folder.arrays()[0],
        metadata=None,
        description=text,
        photometric="minisblack",
    )
    return folder.predict("--mpp", "0.5", image=folder / "a.tif")
