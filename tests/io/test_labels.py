"""Label images of every kind, and their pairing with FOVs."""

import json

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.io import open_fovs, validate_labels, write_labels
from panimbus.io.polygon_labels import GeoJsonLabels


def _open(ome, path):
    return open_fovs(ome(), path)[0]


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"]
)
def test_integer_types(tmp_path, ome, labels, dtype):
    tifffile.imwrite(tmp_path / "l.tif", labels.astype(dtype), compression="zlib")
    fov = _open(ome, tmp_path / "l.tif")
    assert fov.labels.dtype == dtype
    np.testing.assert_array_equal(fov.labels[3:30, 2:40], labels[3:30, 2:40])
    np.testing.assert_array_equal(fov.labels[:], labels)
    np.testing.assert_array_equal(fov.labels[5], labels[5])
    validate_labels(fov.labels, "fov1")
    assert fov.source["labels"] == str(tmp_path / "l.tif")
    assert fov.source["labels_bytes"] == (tmp_path / "l.tif").stat().st_size


@pytest.mark.parametrize(
    ("dtype", "big"),
    [("uint32", 2**31 + 5), ("uint64", 2**40), ("int64", 2**40), ("uint32", 70_000)],
)
def test_large_ids(tmp_path, ome, labels, dtype, big):
    large = labels.astype(dtype)
    large[labels == 2] = big
    write_labels(tmp_path / "l.tif", large)
    assert int(_open(ome, tmp_path / "l.tif").labels[25, 35]) == big


def test_pyramid_and_singleton_axes(tmp_path, ome, labels):
    with tifffile.TiffWriter(tmp_path / "p.ome.tif", ome=True) as tif:
        tif.write(labels[None, None, None], subifds=1, tile=(16, 16), metadata={"axes": "TZCYX"})
        tif.write(labels[::2, ::2], subfiletype=1, tile=(16, 16))
    np.testing.assert_array_equal(_open(ome, tmp_path / "p.ome.tif").labels[:], labels)


def test_bad_types_and_sizes(tmp_path, ome, labels):
    for name, data, message in [
        ("float", labels.astype(np.float32), "not integer"),
        ("bool", labels > 0, "not integer"),
        ("small", labels[:-1], "differ in size"),
        ("planes", np.stack([labels, labels]), "several planes"),
    ]:
        tifffile.imwrite(tmp_path / f"{name}.tif", data, photometric="minisblack")
        with pytest.raises(InputError, match=message) as error:
            _open(ome, tmp_path / f"{name}.tif")
        assert name in str(error.value)
    (tmp_path / "x.tif").write_bytes(b"not a tiff")
    with pytest.raises(ReadError, match="unsupported label image format"):
        _open(ome, tmp_path / "x.tif")


def test_negative_ids(tmp_path, ome, labels):
    wrong = labels.astype(np.int32)
    wrong[5, 7] = -3
    tifffile.imwrite(tmp_path / "l.tif", wrong)
    with pytest.raises(
        InputError, match=r"negative ids(.|\n)*1 pixels below 0 \(lowest -3, first at y=5, x=7\)"
    ):
        validate_labels(_open(ome, tmp_path / "l.tif").labels, "fov1")


def test_qupath_rgb(tmp_path, ome, labels):
    ids = labels.astype(np.uint32) * 70_000
    rgb = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "l.tif", rgb, photometric="rgb", compression="zlib", tile=(16, 16))
    fov = _open(ome, tmp_path / "l.tif")
    assert fov.labels.dtype == np.uint32
    np.testing.assert_array_equal(fov.labels[:], ids)
    np.testing.assert_array_equal(fov.labels[22, 31:40], ids[22, 31:40])
    assert fov.source["labels_format"] == "QuPath RGB labels"


def test_inform_maps(tmp_path, ome):
    nucleus, cytoplasm, membrane = (np.zeros((70, 50), np.uint16) for _ in range(3))
    nucleus[10:14, 10:14] = 5
    cytoplasm[8:16, 8:16] = 5
    cytoplasm[12, 12] = 6
    membrane[7:17, 7:17] = 1
    membrane[8:16, 8:16] = 0
    path = tmp_path / "fov1_binary_seg_maps.tif"
    xml = (
        '<?xml version="1.0"'
        ' encoding="utf-16"?><SegmentationImage><CompartmentType>{}</CompartmentType></SegmentationImage>'
    )
    with tifffile.TiffWriter(path) as tif:
        tif.write(nucleus, description="<TissueClassMap/>", metadata=None)
        for kind, plane in (("Membrane", membrane), ("Nucleus", nucleus), ("Cytoplasm", cytoplasm)):
            tif.write(plane, description=xml.format(kind), metadata=None)
    got = _open(ome, path).labels
    expected = np.zeros((70, 50), np.uint16)
    expected[7:17, 7:17] = 5
    np.testing.assert_array_equal(got[:], expected)
    np.testing.assert_array_equal(got[7:9, 7:30], expected[7:9, 7:30])


def _feature(*rings, kind="Polygon", **more):
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": list(rings)},
        "properties": {},
        **more,
    }


def _square(x, y, size):
    return [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]


def test_geojson(tmp_path, ome):
    features = [
        _feature(_square(2, 3, 6), _square(4, 5, 2), id="cell with a hole"),
        _feature([[20.1, 30.1], [20.3, 30.1], [20.3, 30.3], [20.1, 30.1]], id="tiny"),
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}},
        _feature([_square(30, 30, 2)], [_square(40, 40, 3)], kind="MultiPolygon"),
    ]
    expected = np.zeros((70, 50), np.uint32)
    expected[3:9, 2:8] = 1
    expected[5:7, 4:6] = 0
    expected[30, 20] = 2
    expected[30:32, 30:32] = 3
    expected[40:43, 40:43] = 3
    for name, data in (("a", {"type": "FeatureCollection", "features": features}), ("b", features)):
        (tmp_path / f"{name}.geojson").write_text(json.dumps(data))
        fov = _open(ome, tmp_path / f"{name}.geojson")
        np.testing.assert_array_equal(fov.labels[:], expected)
        np.testing.assert_array_equal(fov.labels[28:45, 19:41], expected[28:45, 19:41])
        assert fov.labels.array.names == {1: "cell with a hole", 2: "tiny", 3: ""}


def test_every_polygon_keeps_a_pixel(tmp_path):
    features = [_feature(_square(0, 0, 3))] + [
        _feature(_square(1.1, 1.1, 0.2 + k / 100)) for k in range(4)
    ]
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    lab = GeoJsonLabels(tmp_path / "x.geojson", (10, 10))
    assert sorted(np.unique(lab[:])) == [0, 1, 2, 3, 4, 5]
    whole = lab[:]
    np.testing.assert_array_equal(np.vstack([lab[y : y + 1] for y in range(10)]), whole)


@pytest.mark.parametrize("times", [1, 2])
def test_outlines_that_are_there_twice_count_once(tmp_path, times, caplog):
    """Some cells, or all, were exported again under other ids; a cell with the same outline and a
    hole is another."""
    cells = [_feature(_square(8 * k, 3, 6), id=f"cell {k}") for k in range(5)]
    again = [
        {**cell, "id": f"{cell['id']} again"}
        for cell in cells[:3] * times + cells[3:] * (times - 1)
    ]
    (tmp_path / "x.geojson").write_text(json.dumps(cells + again))
    lab = GeoJsonLabels(tmp_path / "x.geojson", (12, 40))
    assert np.bincount(lab[:].ravel())[1:].tolist() == [36] * 5
    assert lab.names == {k + 1: f"cell {k}" for k in range(5)}
    assert f"{len(again)} of {len(again) + 5} outlines are there before" in caplog.text
    caplog.clear()
    (tmp_path / "x.geojson").write_text(
        json.dumps([*cells, _feature(_square(0, 3, 6), _square(2, 5, 2))])
    )
    assert len(GeoJsonLabels(tmp_path / "x.geojson", (12, 40)).names) == 6
    assert not caplog.text


def test_npz_says_how_to_save_its_array(tmp_path, ome):
    np.savez(tmp_path / "m.npz", masks=np.ones((70, 50), int))
    with pytest.raises(
        ReadError, match=r"archive of NumPy arrays(.|\n)*np\.save\('labels\.npy', np\.load"
    ) as error:
        _open(ome, tmp_path / "m.npz")
    assert "ROI" not in str(error.value)


def test_geojson_annotations_around_cells_are_left_out(tmp_path):
    features = [
        _feature(_square(0, 0, 9), properties={"objectType": "annotation"}),
        _feature(_square(1, 1, 3), properties={"objectType": "cell"}),
    ]
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    assert int((GeoJsonLabels(tmp_path / "x.geojson", (10, 10))[:] == 1).sum()) == 9


def test_geojson_errors(tmp_path):
    for text, message in [
        ("{", "cannot be parsed"),
        ("[" * 100_000, "cannot be parsed"),
        ("[1]", "not GeoJSON"),
        (json.dumps([_feature(_square(100, 3, 5))]), "outside the image"),
        (json.dumps([_feature([["a", 1], [2, 2], [1, 2]])]), "not a polygon"),
        (json.dumps([]), "no polygon(.|\\n)*no feature at all"),
        (json.dumps([_feature([[0, 0], [1, 1]])]), "no polygon"),
        (json.dumps([_feature([[0, 0], [1, 1e300], [1, 0]])]), "beyond a billion"),
    ]:
        (tmp_path / "x.geojson").write_text(text)
        with pytest.raises(ReadError, match=message):
            GeoJsonLabels(tmp_path / "x.geojson", (10, 10))[:]


@pytest.fixture
def dataset(tmp_path, ome, labels):
    def make(images=("fov1", "fov10"), masks=("fov1_whole_cell.tiff", "fov10_whole_cell.tiff")):
        for i, name in enumerate(images):
            ome(f"images/{name}.ome.tiff", mpp=0.5 + i * 0)
        (tmp_path / "masks").mkdir(exist_ok=True)
        for i, name in enumerate(masks):
            tifffile.imwrite(tmp_path / "masks" / name, labels * (i + 1))
        return tmp_path / "images", tmp_path / "masks"

    return make


def test_mesmer_names(dataset):
    fovs = open_fovs(
        *dataset(
            masks=(
                "fov1_nuclear.tiff",
                "fov1_whole_cell.tiff",
                "fov10_nuclear.tiff",
                "fov10_whole_cell.tiff",
            )
        )
    )
    assert [int(f.labels[25, 35]) for f in fovs] == [4, 8]


def test_nuclear_is_used_where_it_is_all_there_is(dataset):
    assert len(open_fovs(*dataset(masks=("fov1_nuclear.tiff", "fov10_nuclear.tiff")))) == 2


def test_fov1_never_matches_fov10(dataset):
    images, masks = dataset(masks=("fov10.tiff",))
    with pytest.raises(MatchError, match=r"FOVs without: fov1; label images without: \(none\)"):
        open_fovs(images, masks)
    images, masks = dataset(images=("fov1",), masks=("fov10.tiff",))
    with pytest.raises(MatchError):
        open_fovs([images / "fov1.ome.tiff"], masks)


def test_a_mismatch_lists_both_sides(dataset):
    images, masks = dataset(images=("Point1_pt7", "Point2"), masks=("Point1.tiff", "x_mask.tiff"))
    with pytest.raises(MatchError) as error:
        open_fovs(images, masks)
    for part in (
        "Point1_pt7, Point2",
        "Point1.tiff, x_mask.tiff",
        "_whole_cell",
        "Point1_pt7: Point1.tiff",
        "--print-pairs",
    ):
        assert part in str(error.value)


def test_spare_labels(dataset):
    images, masks = dataset(masks=("fov1.tiff", "fov10.tiff", "fov3.tiff"))
    with pytest.raises(MatchError, match=r"label images without: fov3\.tiff"):
        open_fovs(images, masks)
    assert len(open_fovs([images / "fov1.ome.tiff", images / "fov10.ome.tiff"], masks)) == 2
    assert len(open_fovs(images / "fov1.ome.tiff", masks)) == 1


def test_two_labels_for_a_fov_or_two_fovs_for_a_label(dataset):
    images, masks = dataset(masks=("fov1.tiff", "fov1_mask.tiff", "fov10.tiff"))
    with pytest.raises(MatchError, match=r"has 2 label images(.|\n)*fov1\.tiff, fov1_mask\.tiff"):
        open_fovs(images, masks)


def test_two_fovs_for_a_label(dataset):
    images, masks = dataset(images=("a", "a_seg"), masks=("a.tiff",))
    with pytest.raises(MatchError, match="2 FOVs have the same label image"):
        open_fovs(images, masks)


def test_explicit_pairs_need_no_names(dataset):
    images, masks = dataset(images=("image",), masks=("something.tiff",))
    assert open_fovs(images / "image.ome.tiff", masks / "something.tiff")[0].labels is not None
    assert open_fovs([images / "image.ome.tiff"], [masks / "something.tiff"])[0].labels is not None
    assert (
        open_fovs({"a": images / "image.ome.tiff"}, {"a": masks / "something.tiff"})[0].labels
        is not None
    )
    with pytest.raises(MatchError):
        open_fovs(images, masks)
    with pytest.raises(MatchError, match="not a FOV: b"):
        open_fovs({"a": images / "image.ome.tiff"}, {"b": masks / "something.tiff"})


def test_a_folder_without_labels(tmp_path, ome):
    (tmp_path / "masks").mkdir()
    with pytest.raises(ReadError, match="no label image was found"):
        open_fovs(ome(), tmp_path / "masks")
    with pytest.raises(ReadError, match="no such file"):
        open_fovs(ome(), tmp_path / "absent")


def test_polygons_are_filled_as_scikit_image_fills_them(tmp_path):
    draw = pytest.importorskip("skimage.draw")
    rng = np.random.default_rng(3)
    features, expected = [], np.zeros((120, 100), np.uint32)
    for i in range(60):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(2, 12, 9)
        xy = np.c_[
            rng.uniform(0, 100) + radius * np.cos(angle),
            rng.uniform(0, 120) + radius * np.sin(angle),
        ]
        features.append(_feature(xy.tolist()))
        rows, columns = draw.polygon(xy[:, 1] - 0.5, xy[:, 0] - 0.5, expected.shape)
        free = expected[rows, columns] == 0
        expected[rows[free], columns[free]] = i + 1
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    lab = GeoJsonLabels(tmp_path / "x.geojson", expected.shape)
    whole = lab[:]
    assert (whole != expected).mean() < 0.001
    parts = [[lab[y : y + 50, x : x + 33] for x in range(0, 100, 33)] for y in range(0, 120, 50)]
    np.testing.assert_array_equal(np.block(parts), whole)


def _kinds(*kinds, where="properties"):
    """Squares of 4 x 4 pixels side by side, each said to be of a kind."""
    out = []
    for i, kind in enumerate(kinds):
        said = {"id": kind} if where == "id" else {"properties": {"objectType": kind}}
        out.append({**_feature(_square(6 * i, 2, 4)), **said})
    return out


@pytest.mark.parametrize(
    ("features", "cells"),
    [
        (_kinds("cell", "detection", "annotation", "cell"), [1, 0, 0, 2]),
        (_kinds("annotation", "detection", "tile"), [0, 1, 0]),
        (_kinds("annotation", "tile", "annotation"), [1, 0, 2]),
        (
            _kinds("PathAnnotationObject", "PathCellObject", "PathDetectionObject", where="id"),
            [0, 1, 0],
        ),
        (
            _kinds(
                "PathAnnotationObject",
                "PathDetectionObject",
                "PathTileObject",
                "TMACoreObject",
                where="id",
            ),
            [0, 1, 0, 0],
        ),
        (_kinds("annotation-7", "cell-9", where="id"), [1, 2]),
    ],
)
def test_what_qupath_calls_a_cell(features, cells, tmp_path):
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    drawn = GeoJsonLabels(tmp_path / "x.geojson", (10, 6 * len(features)))[:]
    assert [int(drawn[4, 6 * i + 2]) for i in range(len(features))] == cells


def test_geometry_collections_and_nested_collections(tmp_path):
    point, line = (
        {"type": "Point", "coordinates": [1, 1]},
        {"type": "LineString", "coordinates": [[1, 1], [9, 9]]},
    )
    two = {"type": "MultiPolygon", "coordinates": [[_square(8, 1, 2)], [_square(12, 1, 2)]]}
    inner = {
        "type": "GeometryCollection",
        "geometries": [{"type": "Polygon", "coordinates": [_square(1, 1, 4)]}, point, two],
    }
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "GeometryCollection", "geometries": [line, inner]},
            "properties": None,
        },
        {"type": "FeatureCollection", "features": [_feature(_square(20, 1, 3))]},
    ]
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    drawn = GeoJsonLabels(tmp_path / "x.geojson", (8, 30))[:]
    assert [int((drawn == k).sum()) for k in (1, 2)] == [16 + 4 + 4, 9]


@pytest.mark.parametrize("last", [False, True])
def test_the_outline_of_a_tissue_is_no_cell(last, tmp_path):
    features = [_feature(_square(6 * i, 6 * j, 4)) for i in range(8) for j in range(8)]
    features.insert(64 if last else 0, _feature(_square(0, 0, 50), id="Tissue"))
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    with pytest.raises(ReadError, match=r"has other polygons inside(.|\n)*Tissue"):
        GeoJsonLabels(tmp_path / "x.geojson", (60, 60))[:]


def test_large_cells_and_vessels_are_cells(tmp_path):
    """A large polygon beside others, one that touches them, and one with a small cell in its
    hole."""
    features = [_feature(_square(6 * i, 6 * j, 4)) for i in range(4) for j in range(4)]
    features += [
        _feature(_square(30, 0, 28)),
        _feature(_square(0, 30, 28), _square(10, 40, 8)),
        _feature(_square(12, 42, 4)),
    ]
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    assert len(np.unique(GeoJsonLabels(tmp_path / "x.geojson", (60, 60))[:])) == 20


def test_cells_without_an_outline_are_named(tmp_path, caplog):
    features = _kinds("cell", "cell", "cell")
    features[1]["geometry"] = {"type": "Point", "coordinates": [3, 3]}
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    GeoJsonLabels(tmp_path / "x.geojson", (10, 20))[:]
    assert "1 cells without an outline are left out (1 cell of type Point)" in caplog.text


def test_outlines_of_many_points(tmp_path):
    """Round: as any polygon. A comb across the image 200,000 times: refused before it takes
    forever."""
    angle = np.linspace(0, 2 * np.pi, 200_000)
    ring = np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], 1)
    (tmp_path / "x.geojson").write_text(json.dumps([_feature(ring.tolist())]))
    assert int((GeoJsonLabels(tmp_path / "x.geojson", (100, 100))[:] == 1).sum()) == pytest.approx(
        np.pi * 1600, rel=0.01
    )
    ring[:, 1] = np.where(np.arange(len(ring)) % 2, 100.0, 0.0)
    (tmp_path / "x.geojson").write_text(json.dumps([_feature(ring.tolist())]))
    with pytest.raises(ReadError, match="far more often than those of cells"):
        GeoJsonLabels(tmp_path / "x.geojson", (100, 100))[:]


def test_filling_in_parts_is_filling_at_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    features = [_feature((rng.random((8, 2)) * 60).tolist()) for _ in range(30)]
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    whole = GeoJsonLabels(tmp_path / "x.geojson", (60, 60))[:]
    monkeypatch.setattr("panimbus.io.polygon_labels._AT_ONCE", 10)
    np.testing.assert_array_equal(GeoJsonLabels(tmp_path / "x.geojson", (60, 60))[:], whole)


def test_grey_rgb_labels(tmp_path, ome, labels):
    tifffile.imwrite(
        tmp_path / "l.tif", np.repeat(labels.astype(np.uint8)[..., None], 3, -1), photometric="rgb"
    )
    fov = _open(ome, tmp_path / "l.tif")
    np.testing.assert_array_equal(fov.labels[:], labels)
    assert any("grey value is taken for the id" in note for note in fov.notes)


def test_jpeg_labels_are_refused(tmp_path, ome, labels):
    tifffile.imwrite(tmp_path / "l.tif", labels.astype(np.uint8), compression="jpeg", tile=(16, 16))
    with pytest.raises(InputError, match="compressed with loss"):
        _open(ome, tmp_path / "l.tif")


@pytest.mark.parametrize("kind", ["png8", "png16", "rgb png", "grey png", "npy", "npy with axes"])
def test_png_and_npy(kind, tmp_path, ome, labels):
    imagecodecs = pytest.importorskip("imagecodecs")
    ids = labels.astype(
        {"png8": np.uint8, "grey png": np.uint8, "rgb png": np.uint32}.get(kind, np.uint16)
    )
    (tmp_path / "masks").mkdir()
    path = tmp_path / "masks" / f"fov1_cp_masks.{'npy' if 'npy' in kind else 'png'}"
    if "npy" in kind:
        np.save(path, ids[None, :, :, None] if "axes" in kind else ids)
    else:
        ids = ids * 70_000 if kind == "rgb png" else ids
        planes = [ids >> 16, ids >> 8 & 255, ids & 255] if kind == "rgb png" else [ids] * 3
        pixels = np.stack(planes, -1).astype(np.uint8) if kind in ("rgb png", "grey png") else ids
        path.write_bytes(imagecodecs.png_encode(pixels))
    for given in (path, tmp_path / "masks"):
        np.testing.assert_array_equal(_open(ome, given).labels[:], ids)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04" + bytes(40), "ROIs(.|\\n)*export GeoJSON"),
        (b"\x89HDF\r\n\x1a\n", "HDF5(.|\\n)*imwrite"),
        (b"MATLAB 5.0 MAT-file", "MATLAB"),
        (b"\x1f\x8b" + bytes(9), "gunzip"),
        (b"\xff\xd8\xff\xe0" + bytes(9), "JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(8) + b"\xff" * 16, "size of this PNG"),
        (b"\x89PNG\r\n\x1a\n", "size of this PNG"),
        (b"\x93NUMPY\x01\x00\xff\xff", "cannot be read"),
        (b"a,b\n1,2\n", "first bytes"),
    ],
)
def test_label_formats_that_are_not_read_say_what_to_do(content, words, tmp_path, ome):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ReadError, match=words):
        _open(ome, tmp_path / "x.bin")


def test_a_pickle_is_not_opened(tmp_path, ome):
    np.save(tmp_path / "x_seg.npy", {"masks": np.ones((3, 3))}, allow_pickle=True)
    with pytest.raises(ReadError, match=r"pickles can run code(.|\n)*item\(\)\['masks'\]"):
        _open(ome, tmp_path / "x_seg.npy")


def test_the_label_image_passed_over_is_named(dataset):
    fovs = open_fovs(
        *dataset(masks=("fov1_nuclear.tiff", "fov1_whole_cell.tiff", "fov10_whole_cell.tiff"))
    )
    assert any("fov1_nuclear.tiff beside it is not used" in note for note in fovs[0].notes)
    assert not any("beside it" in note for note in fovs[1].notes)
