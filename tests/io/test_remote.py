"""OME-Zarr on a server: read chunk by chunk, tried again where server or network fail, told clearly
where it is not there."""

import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from panimbus.core.errors import InputError, MissingExtraError, ReadError, ServerError
from panimbus.io import open_fovs, write_labels, write_ome_zarr
from panimbus.io.location import Url, parse_location

pytest.importorskip("aiohttp")
from panimbus.io import remote


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(remote, "WAIT", 0.001)


@pytest.fixture
def slide(store_server, stack, labels):
    """``slide.zarr`` on the server, with the label image ``cells`` inside; chunks of 32 x 32."""

    def write(name="slide.ome.zarr", version="0.5", **options):
        form = 3 if version == "0.5" else 2
        group = zarr.open_group(store=str(store_server.root / name), mode="w", zarr_format=form)
        _multiscale(
            group,
            stack,
            "cyx",
            version,
            {"omero": {"channels": [{"label": c} for c in ("CD3", "CD20", "DAPI")]}},
            options,
        )
        inner = group.create_group("labels")
        inner.attrs.update(
            {"ome": {"version": "0.5", "labels": ["cells"]}} if form == 3 else {"labels": ["cells"]}
        )
        _multiscale(inner.create_group("cells"), labels, "yx", version, {}, {})
        return f"{store_server.url}/{name}"

    return write


def _multiscale(group, data, axes, version, more, options):
    chunks = (1, 32, 32)[-data.ndim :]
    keys = {} if version == "0.5" else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    group.create_array("0", data=data, chunks=chunks, **keys, **options)
    scale = {"type": "scale", "scale": [1.0 if a == "c" else 0.5 for a in axes]}
    units = [{"name": a, **({} if a == "c" else {"unit": "micrometer"})} for a in axes]
    multiscale = {"axes": units, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": [multiscale], **more}}
        if version == "0.5"
        else {"multiscales": [{"version": "0.4", **multiscale}], **more}
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_image_and_labels_over_http(slide, stack, labels, version):
    url = slide(version=version)
    (fov,) = open_fovs(url + "/")
    assert (fov.fov_id, fov.channels, fov.mpp) == ("slide", ("CD3", "CD20", "DAPI"), 0.5)
    assert fov.source["image"] == url
    assert fov.source["labels"] == f"{url}/labels/cells"
    assert fov.source["format"] == f"OME-Zarr {version}"
    np.testing.assert_array_equal(fov.image[:], stack)
    np.testing.assert_array_equal(fov.labels[10:60, 3], labels[10:60, 3])


def test_only_the_chunks_asked_for_are_downloaded(slide, store_server, stack):
    (fov,) = open_fovs(slide())
    assert store_server.chunks() == []
    np.testing.assert_array_equal(fov.image[1, 33:40, 0:20], stack[1, 33:40, 0:20])
    assert store_server.chunks() == ["/slide.ome.zarr/0/c/1/1/0"]
    store_server.asked.clear()
    np.testing.assert_array_equal(fov.labels[0:10, 0:50], fov.labels[0:10])
    assert set(store_server.chunks()) == {f"/slide.ome.zarr/labels/cells/0/c/0/{x}" for x in (0, 1)}


@pytest.mark.parametrize("ranges", [True, False])
def test_sharded_chunks_with_and_without_ranges(slide, store_server, stack, ranges):
    url = slide(shards=(1, 64, 64))
    store_server.ranges = ranges
    (fov,) = open_fovs(url)
    np.testing.assert_array_equal(fov.image[2, 30:70, 5:40], stack[2, 30:70, 5:40])


def test_labels_of_their_own(slide, store_server, tmp_path, stack, labels):
    url = slide()
    assert open_fovs(url, f"{url}/labels/cells")[0].labels.shape == (70, 50)
    write_ome_zarr(tmp_path / "own.zarr", stack, ["a", "b", "c"], 0.5)
    (fov,) = open_fovs(tmp_path / "own.zarr", f"{url}/labels/cells")
    np.testing.assert_array_equal(fov.labels[:], labels)
    write_labels(tmp_path / "l.tiff", labels)
    (fov,) = open_fovs(url, tmp_path / "l.tiff")
    np.testing.assert_array_equal(fov.labels[:], labels)
    two = open_fovs(
        [url, slide("other.zarr")], {"slide": f"{url}/labels/cells", "other": tmp_path / "l.tiff"}
    )
    assert [f.fov_id for f in two] == ["slide", "other"]


@pytest.mark.parametrize("trouble", [503, 429, "drop", "cut"])
def test_trouble_that_passes(slide, store_server, stack, trouble):
    url = slide()
    store_server.trouble = {"zarr.json": [trouble], "/0/c/0/0/0": [trouble] * 2}
    np.testing.assert_array_equal(open_fovs(url)[0].image[0], stack[0])
    tries = [
        path
        for method, path in store_server.asked
        if method == "GET" and path.endswith("/0/c/0/0/0")
    ]
    assert len(tries) >= 3


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (500, "500"),
        ("drop", "isconnect"),
        ("cut", "payload"),
        (403, r"403.*\(1 try\)"),
        (400, r"400.*\(1 try\)"),
    ],
)
def test_trouble_that_stays_names_the_chunk(slide, store_server, trouble, says):
    (fov,) = open_fovs(slide())
    store_server.trouble = {"/0/c/1/1/0": [trouble] * 100}
    with pytest.raises(
        ReadError if trouble in (400, 403) else ServerError,
        match=rf"slide.ome.zarr/0/c/1/1/0: could not be read(.|\n)*{says}",
    ):
        fov.image[1]
    assert len(store_server.trouble["/0/c/1/1/0"]) >= 100 - 2 * remote.TRIES


def test_a_file_still_being_served_is_not_one_left_open(slide, store_server):
    slide()
    served = (store_server.root / "slide.ome.zarr/0/c/0/0/0").open("rb")
    threading.Timer(0.2, served.close).start()  # judged by the fixture that watches open files


def test_a_missing_chunk_is_the_fill_value(slide, store_server):
    (fov,) = open_fovs(slide())
    (store_server.root / "slide.ome.zarr/0/c/1/0/0").unlink()
    assert not fov.image[1, :32, :32].any()


def test_no_chunk_at_all_is_no_black_image(slide, store_server):
    (fov,) = open_fovs(slide())
    (store_server.root / "slide.ome.zarr/0/c").rename(store_server.root / "slide.ome.zarr/0/chunks")
    with pytest.raises(ReadError, match=r"slide.ome.zarr: no chunk of array '0' is on the server"):
        fov.image[0]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_web_page_is_neither_a_chunk_nor_a_document(slide, store_server, stack, version):
    url = slide(version=version)
    store_server.trouble = {"/.zgroup" if version == "0.5" else "/zarr.json": ["page"] * 100}
    (fov,) = open_fovs(url)
    np.testing.assert_array_equal(fov.image[0], stack[0])
    store_server.trouble = {"/1/1/0": ["page"]}
    with pytest.raises(ReadError, match=r"/1/1/0: the server sends a web page(.|\n)*sign in"):
        fov.image[1]


def test_an_answer_that_does_not_end(slide, store_server, stack):
    url = slide()
    (fov,) = open_fovs(url)
    store_server.trouble = {"/0/c/1/1/0": ["endless"], "zarr.json": ["endless"]}
    with pytest.raises(ReadError, match=r"/0/c/1/1/0: the server sends more than there can be"):
        fov.image[1]
    with pytest.raises(ReadError, match="more than there can be"):
        open_fovs(url)
    np.testing.assert_array_equal(open_fovs(url)[0].image[:], stack)


def test_an_answer_that_drips(slide, store_server, monkeypatch):
    (fov,) = open_fovs(slide())
    monkeypatch.setattr(remote, "_SILENT_S", 0.2)
    store_server.trouble = {"/0/c/1/1/0": ["drip"]}
    with pytest.raises(ServerError, match=r"/0/c/1/1/0: the server sends too slowly"):
        fov.image[1]


def test_a_server_that_sends_one_in_circles(slide, store_server):
    (fov,) = open_fovs(slide())
    store_server.trouble = {"/0/c/1/1/0": ["loop"] * 1000}
    with pytest.raises(ServerError, match=r"/0/c/1/1/0: could not be read(.|\n)*TooManyRedirects"):
        fov.image[1]


def test_consolidated_metadata_that_disagrees(slide, store_server):
    url = slide(version="0.4")
    folder = store_server.root / "slide.ome.zarr"
    zarr.consolidate_metadata(str(folder))
    assert open_fovs(url)[0].image.shape == (3, 70, 50)
    document = folder / ".zmetadata"
    document.write_text(document.read_text().replace("70", "71"))
    with pytest.raises(
        ReadError, match=r"the consolidated metadata is not that of array '0'(.|\n)*70(.|\n)*71"
    ):
        open_fovs(url)


def test_names_in_a_listing():
    page = """<a href="cells/">cells</a> <A HREF='/a/slide.zarr/x%20y/?token=1'>x</A> <a href="../up">u</a> <a href="d/e">d</a>
        <a href="https://other/a/slide.zarr/b">b</a> <a href="//[">bad</a> <a href="?C=N;O=D">sort</a>"""
    assert remote._links(page, parse_location("https://me:secret@host/a/slide.zarr")) == [
        "cells",
        "x y",
    ]


def test_a_damaged_chunk_is_named(slide, store_server):
    (fov,) = open_fovs(slide())
    (store_server.root / "slide.ome.zarr/0/c/1/1/0").write_bytes(b"broken")
    with pytest.raises(
        ReadError,
        match=(
            r"slide\.ome\.zarr: a chunk cannot be read, in array '0', c 1 to 1, y 32 to 63, x 0"
            r" to 31"
        ),
    ):
        fov.image[:]


def test_what_is_not_there(store_server, slide):
    url = slide()
    for wrong, says in [
        ("none.zarr", "no OME-Zarr at this address(.|\n)*neither zarr.json"),
        ("fov1.ome.tiff", "no OME-Zarr at this address(.|\n)*download the file"),
        ("slide.ome.zarr/labels", "not an OME-Zarr image"),
        ("slide.ome.zarr/0", "a bare Zarr array"),
    ]:
        with pytest.raises(InputError, match=says):
            open_fovs(f"{store_server.url}/{wrong}")
    with pytest.raises(InputError, match="no OME-Zarr at this address"):
        open_fovs(url, f"{store_server.url}/labels.zarr")
    store_server.trouble = {
        "zarr.json": [403] * 9,
        ".zgroup": [403] * 9,
        ".zarray": [403] * 9,
        ".zattrs": [403] * 9,
    }
    with pytest.raises(InputError, match=r"no OME-Zarr at this address(.|\n)*403 Forbidden"):
        open_fovs(url)


def test_no_server():
    with pytest.raises(
        ServerError,
        match=r"127\.0\.0\.1:9/x\.zarr/\S+: could not be read from the server(.|\n)*5 tries",
    ):
        open_fovs("http://127.0.0.1:9/x.zarr")


def test_addresses_that_are_none():
    with pytest.raises(InputError, match="of no kind that is known"):
        open_fovs("gopherr://host/x.zarr")
    with pytest.raises(InputError, match="names no server"):
        open_fovs("https://")


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    remote._filesystem.cache_clear()
    with pytest.raises(MissingExtraError, match=r"panimbus\[remote\]"):
        open_fovs("https://host/x.zarr")


def test_identity_follows_the_servers_word(slide, store_server):
    url = slide()
    first = open_fovs(url)[0].source
    assert first["stamp"]
    assert first["labels_stamp"]
    assert open_fovs(url)[0].source == first
    meta = store_server.root / "slide.ome.zarr/0/zarr.json"
    meta.write_text(meta.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert open_fovs(url)[0].source["stamp"] != first["stamp"]
    store_server.validators = False
    assert open_fovs(url)[0].source["stamp"] is None


def test_secrets_stay_with_the_request(slide, store_server):
    url = slide().replace("http://", "http://me:secret@") + "?token=hidden"
    (fov,) = open_fovs(url)
    assert fov.fov_id == "slide"
    fov.image[0, 0, 0]
    assert "secret" not in str(fov.source)
    assert "hidden" not in str(fov.source)


def test_container_of_images(store_server, slide, stack):
    root = zarr.open_group(store=str(store_server.root / "c.zarr"), mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    for i in range(2):
        slide(f"c.zarr/{i}", version="0.4")
    fovs = open_fovs(f"{store_server.url}/c.zarr")
    assert [f.fov_id for f in fovs] == ["c_0", "c_1"]
    np.testing.assert_array_equal(fovs[1].image[2], stack[2])


def test_another_process_can_have_it(slide, stack):
    fov = pickle.loads(pickle.dumps(open_fovs(slide())[0]))  # noqa: S301
    np.testing.assert_array_equal(fov.image[0], stack[0])


def test_s3(slide, store_server, stack, monkeypatch):
    pytest.importorskip("s3fs")
    slide("bucket/study/slide.zarr")
    monkeypatch.setenv("AWS_ENDPOINT_URL", store_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    remote._filesystem.cache_clear()
    (fov,) = open_fovs("s3://bucket/study/slide.zarr")
    assert (fov.fov_id, fov.source["image"]) == ("slide", "s3://bucket/study/slide.zarr")
    assert fov.source["stamp"]
    store_server.asked.clear()
    np.testing.assert_array_equal(fov.image[1, :32, :32], stack[1, :32, :32])
    assert store_server.chunks() == ["/bucket/study/slide.zarr/0/c/1/0/0"]
    with pytest.raises(ReadError, match=r"s3://bucket/none\.zarr: there is no OME-Zarr"):
        open_fovs("s3://bucket/none.zarr")


def test_s3_without_credentials_is_a_public_bucket(monkeypatch, tmp_path):
    pytest.importorskip("s3fs")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    remote._filesystem.cache_clear()
    assert remote._filesystem("s3", 0).anon


def test_place():
    url = parse_location("https://host/a%20b/fov1.zarr/?sig=x#part")
    assert isinstance(url, Url)
    assert (url / "labels").full == "https://host/a%20b/fov1.zarr/labels?sig=x"
    assert (url.name, url.parent.name, url.scheme) == ("fov1.zarr", "a b", "https")
    assert parse_location("file:///tmp/a%20b.zarr") == parse_location("/tmp/a b.zarr")  # noqa: S108
    with pytest.raises(InputError, match="pass the address as text"):
        open_fovs(Path("https://host/x.zarr"))
