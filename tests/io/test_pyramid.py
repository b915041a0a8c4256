"""Images written tile by tile: equal to the array whatever the order, valid for others' readers,
bounded in memory."""

import json
import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.io import open_fovs, tile_writer, write_ome_tiff
from panimbus.io.pyramid import CHUNK, ImageSpec, halve

SUFFIXES = [".ome.zarr", ".ome.tiff"]


def _image(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) * 200).astype(dtype)


def _tiles(shape, size):
    return [
        (c, slice(y, min(y + size[0], shape[1])), slice(x, min(x + size[1], shape[2])))
        for c in range(shape[0])
        for y in range(0, shape[1], size[0])
        for x in range(0, shape[2], size[1])
    ]


def _put_all(put, image, tiles):
    for c, ys, xs in tiles:
        put(c, (ys, xs), image[c, ys, xs])


def _levels(path):
    if path.name.endswith("zarr"):
        group = zarr.open_group(store=str(path), mode="r")
        return [group[d["path"]][:] for d in group.attrs["ome"]["multiscales"][0]["datasets"]]
    with tifffile.TiffFile(path) as tif:
        (series,) = tif.series
        return [level.asarray().reshape((-1, *level.shape[-2:])) for level in series.levels]


@pytest.mark.parametrize(
    ("plane", "labels", "expected"),
    [
        (np.array([[1, 3, 5], [1, 3, 6]], np.uint8), False, [[2, 6]]),
        (np.array([[255, 255], [255, 254]], np.uint8), False, [[255]]),
        (np.array([[-1, -2], [-1, -2]], np.int16), False, [[-1]]),
        (np.array([[2**63, 2**63]], np.uint64), False, [[2**63]]),
        (np.array([[0.5, 1.5, 3]], np.float32), False, [[1, 3]]),
        (np.array([[4, 7, 9], [5, 6, 8], [1, 2, 3]], np.uint32), True, [[4, 9], [1, 3]]),
    ],
)
def test_halve(plane, labels, expected):
    half = halve(plane, labels=labels)
    assert half.dtype == plane.dtype
    np.testing.assert_array_equal(half, expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=12)
@given(data=st.data())
def test_any_order_any_size(tmp_path_factory, suffix, data):
    shape = tuple(
        data.draw(st.tuples(st.integers(1, 3), st.integers(1, 1300), st.integers(1, 1300)), "shape")
    )
    size = data.draw(st.tuples(st.integers(170, 700), st.integers(170, 700)), "tile")
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "float32", "int32"]), "dtype")
    tiles = data.draw(st.permutations(_tiles(shape, size)), "order")
    image = _image(shape, dtype)
    path = tmp_path_factory.mktemp("any") / f"fov1{suffix}"
    with tile_writer(
        path, shape, dtype, channels=[f"m{c}" for c in range(shape[0])], mpp=0.5
    ) as put:
        assert not put.resumed
        _put_all(put, image, tiles)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    (fov,) = open_fovs(path)
    assert (fov.fov_id, fov.mpp, fov.channels[0]) == ("fov1", 0.5, "m0")
    np.testing.assert_array_equal(fov.image[:], image)
    levels = _levels(path)
    assert len(levels) == 1 + math.ceil(math.log2(max(max(shape[1:]) / 1024, 1)))
    for finer, coarser in pairwise(levels):
        np.testing.assert_array_equal(coarser, [halve(plane) for plane in finer])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_background_is_zero_and_free(tmp_path, suffix):
    path = tmp_path / f"s{suffix}"
    with tile_writer(path, (2, 2200, 3000), np.float32, channels=["a", "b"], mpp=1.0) as put:
        put(1, (slice(600, 700), slice(1030, 1100)), np.ones((100, 70), np.float32))
    levels = _levels(path)
    assert [level.shape[1:] for level in levels] == [(2200, 3000), (1100, 1500), (550, 750)]
    for k, level in enumerate(levels):
        assert float(level.sum()) * 4**k == 7000
        assert float(level[0].sum()) == 0
    if suffix.endswith("zarr"):
        assert len(list((path / "0" / "c").rglob("*/*/*"))) == 1
        assert len(list((path / "1" / "c").rglob("*/*/*"))) == 1
    else:
        assert path.stat().st_size < 200_000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_label_levels_have_no_new_ids(tmp_path, suffix):
    ids = np.random.default_rng(0).choice(
        np.array([0, 7, 70_000, 3_000_000], np.uint32), (1, 1100, 1300)
    )
    path = tmp_path / f"l{suffix}"
    with tile_writer(path, ids.shape, ids.dtype, channels=["cells"], mpp=0.5, labels=True) as put:
        _put_all(put, ids, _tiles(ids.shape, (500, 500)))
    full, half = _levels(path)
    np.testing.assert_array_equal(full, ids)
    np.testing.assert_array_equal(half, ids[:, ::2, ::2])
    image = tmp_path / f"i{suffix}"
    with tile_writer(image, ids.shape, "uint8", channels=["a"], mpp=0.5) as put:
        put(0, (slice(0, 1), slice(0, 1)), np.ones((1, 1), np.uint8))
    (fov,) = open_fovs(image, path)
    np.testing.assert_array_equal(fov.labels[:], ids[0])


def test_tiff_levels_and_xml(tmp_path):
    from_tiff = pytest.importorskip("ome_types").from_tiff

    path = tmp_path / "w.ome.tiff"
    image = _image((2, 2100, 1100))
    write_ome_tiff(path, image, ["CD3 µ", "a<b"], 0.25)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 2
        assert all(len(page.pages) == 2 and page.is_tiled for page in tif.pages)
        assert [page.pages[0].subfiletype for page in tif.pages] == [1, 1]
        assert [level.shape for level in tif.series[0].levels] == [
            (2, 2100, 1100),
            (2, 1050, 550),
            (2, 525, 275),
        ]
    pixels = from_tiff(path).images[0].pixels
    assert [c.name for c in pixels.channels] == ["CD3 µ", "a<b"]
    assert (pixels.physical_size_x, pixels.size_c, pixels.size_y, pixels.size_x) == (
        0.25,
        2,
        2100,
        1100,
    )
    np.testing.assert_array_equal(_levels(path)[0], image)
    assert float(_levels(path)[2].mean()) == pytest.approx(float(image.mean()), rel=1e-3)


def test_zarr_metadata(tmp_path):
    path = tmp_path / "w.ome.zarr"
    image = _image((2, 2048, 1024))
    with tile_writer(path, image.shape, image.dtype, channels=["a", "b"], mpp=0.5) as put:
        _put_all(put, image, _tiles(image.shape, (900, 900)))
    group = zarr.open_group(store=str(path), mode="r")
    assert set(group.attrs) == {"ome"}
    ome = group.attrs["ome"]
    (scales,) = ome["multiscales"]
    assert [a["name"] for a in scales["axes"]] == ["c", "y", "x"]
    assert [d["coordinateTransformations"][0]["scale"] for d in scales["datasets"]] == [
        [1, 0.5, 0.5],
        [1, 1, 1],
    ]
    assert scales["datasets"][1]["coordinateTransformations"][1]["translation"] == [0, 0.25, 0.25]
    assert [c["label"] for c in ome["omero"]["channels"]] == ["a", "b"]
    assert 100 < ome["omero"]["channels"][0]["window"]["end"] <= 200
    assert json.loads((path / "0" / "zarr.json").read_text())["dimension_names"] == ["c", "y", "x"]
    for level in _levels(path):
        assert float(level.mean()) == pytest.approx(float(image.mean()), rel=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_leaves_nothing(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    image = np.ones((1, 600, 600), np.uint8)

    def half():
        with tile_writer(path, image.shape, "uint8", channels=["a"], mpp=None) as put:
            put(0, (slice(0, 9), slice(0, 9)), image[0, :9, :9])
            raise KeyError("stop")

    with pytest.raises(KeyError):
        half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_kept_canvas_is_taken_up(tmp_path, suffix):
    path, canvas = tmp_path / f"w{suffix}", tmp_path / ".canvas"
    image = _image((2, 700, 1200), "uint16")
    tiles = _tiles(image.shape, (300, 300))
    spec = {"channels": ["a", "b"], "mpp": 0.5, "canvas": canvas}

    def half():
        with tile_writer(path, image.shape, "uint16", **spec) as put:
            _put_all(put, image, tiles[:7])
            put.flush()
            raise KeyError("stop")

    with pytest.raises(KeyError):
        half()
    assert [p.name for p in tmp_path.iterdir()] == [".canvas"]
    with pytest.raises(InputError, match="not an OME-Zarr image"):
        open_fovs(canvas)
    with tile_writer(path, image.shape, "uint16", **spec) as put:
        assert put.resumed
        _put_all(put, image, tiles[7:])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(open_fovs(path)[0].image[:], image)


def test_a_canvas_of_another_image_is_begun_anew(tmp_path):
    path, canvas = tmp_path / "w.ome.zarr", tmp_path / ".canvas"

    def stopped(shape):
        with tile_writer(path, shape, "uint8", channels=["a"], mpp=None, canvas=canvas) as put:
            put(0, (slice(0, 2), slice(0, 2)), np.ones((2, 2), np.uint8))
            raise KeyError(put.resumed)

    for shape, resumed in [((1, 9, 9), False), ((1, 9, 9), True), ((1, 9, 8), False)]:
        with pytest.raises(KeyError, match=str(resumed)):
            stopped(shape)
    (canvas / "zarr.json").write_text("{broken")
    with tile_writer(path, (1, 9, 8), "uint8", channels=["a"], mpp=None, canvas=canvas) as put:
        assert not put.resumed
        put(0, (slice(8, 9), slice(7, 8)), np.ones((1, 1), np.uint8))
    assert int(open_fovs(path)[0].image[:].sum()) == 1


def test_what_does_not_fit_is_refused(tmp_path):
    one = {"channels": ["a"], "mpp": 0.5}
    for name, shape, dtype, more, message in [
        ("w.png", (1, 5, 5), "uint8", one, "ending"),
        ("w.ome.tiff", (1, 5, 5), "int64", one, "no pixels of this type"),
        ("w.ome.tiff", (1, 5, 5), "float16", one, "no pixels of this type"),
        ("w.zarr", (5, 5), "uint8", one, "must be"),
        ("w.zarr", (1, 5, 0), "uint8", one, "must be"),
        ("w.zarr", (2, 5, 5), "uint8", one, "channel names"),
        ("w.zarr", (1, 5, 5), "uint8", {"channels": ["a"], "mpp": -1.0}, "pixel size"),
    ]:
        with (
            pytest.raises(InputError, match=message),
            tile_writer(tmp_path / name, shape, dtype, **more),
        ):
            pass
    tile = np.zeros((2, 2))
    with tile_writer(tmp_path / "w.zarr", (1, 5, 6), "uint8", **one) as put:
        for channel, where, values in [
            (1, (slice(0, 2), slice(0, 2)), tile),
            (0, (slice(4, 6), slice(0, 2)), tile),
            (0, (slice(0, 2), slice(-2, 0)), tile),
            (0, (slice(0, 3), slice(0, 2)), tile),
        ]:
            with pytest.raises(InputError, match="does not fit"):
                put(channel, where, values)
        put(0, (slice(3, 5), slice(4, None)), tile + 3)
    assert int(open_fovs(tmp_path / "w.zarr")[0].image[0, 4, 5]) == 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_an_error_of_the_writer(tmp_path, suffix, monkeypatch):
    from panimbus.io.pyramid import ZarrCanvas

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ZarrCanvas, "write", full)
    with (
        pytest.raises(OSError, match=r"No space left.*w\.ome"),
        tile_writer(tmp_path / f"w{suffix}", (1, 9, 9), "uint8", channels=["a"], mpp=None) as put,
    ):
        put(0, (slice(0, 9), slice(0, 9)), np.ones((9, 9)))
    assert list(tmp_path.iterdir()) == []


_BIG = """
import sys
import numpy as np
import tifffile, zarr
from panimbus.io import tile_writer
side, path = int(sys.argv[1]), sys.argv[2]
with tile_writer(f"{path}/warm{path[-5:]}.ome.zarr", (1, 64, 64), np.float32, channels=["a"], mpp=1.0):
    pass
tile = np.random.default_rng(0).random((700, 700), dtype=np.float32)
with tile_writer(path + sys.argv[3], (1, side, side), np.float32, channels=["a"], mpp=1.0) as put:
    for y in range(0, side, 700):
        for x in range(0, side, 700):
            part = tile[: side - y, : side - x]
            put(0, (slice(y, y + part.shape[0]), slice(x, x + part.shape[1])), part)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_does_not_grow_with_the_image(tmp_path, suffix, peak):
    """The larger image is 144 MB, 80 MB more than the smaller; peak memory stays within a fraction
    of that."""

    def memory(side):
        command = [sys.executable, "-c", _BIG + peak, str(side), str(tmp_path / f"s{side}"), suffix]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: RUF100, S603
        assert done.returncode == 0, done.stderr
        return float(done.stderr.split()[-1])

    assert memory(12 * CHUNK) - memory(8 * CHUNK) < 40


def test_levels_of_a_spec():
    spec = ImageSpec.of((3, 20_001, 1), "uint8", ["a", "b", "c"], None)
    assert [y for _, y, _ in spec.levels] == [20_001, 10_001, 5_001, 2_501, 1_251, 626]
    assert all(x == 1 for _, _, x in spec.levels)
