"""Label images of every kind, and their pairing with FOVs."""

import json

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.io import open_fovs, validate_labels, write_labels
from panimbus.io.geojson import GeoJsonLabels


def _open(ome, path):
    return open_fovs(ome(), path)[0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"])
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


@pytest.mark.parametrize(("dtype", "big"), [("uint32", 2**31 + 5), ("uint64", 2**40), ("int64", 2**40), ("uint32", 70_000)])
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
        ("small", labels[:-1], "another size"),
        ("planes", np.stack([labels, labels]), "several planes"),
    ]:
        tifffile.imwrite(tmp_path / f"{name}.tif", data, photometric="minisblack")
        with pytest.raises(InputError, match=message) as error:
            _open(ome, tmp_path / f"{name}.tif")
        assert name in str(error.value)
    (tmp_path / "x.tif").write_bytes(b"not a tiff")
    with pytest.raises(ReadError, match="not a label image"):
        _open(ome, tmp_path / "x.tif")


def test_negative_ids(tmp_path, ome, labels):
    wrong = labels.astype(np.int32)
    wrong[5, 7] = -3
    tifffile.imwrite(tmp_path / "l.tif", wrong)
    with pytest.raises(InputError, match=r"negative ids(.|\n)*1 pixels below 0 \(lowest -3, first at y=5, x=7\)"):
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
    xml = '<?xml version="1.0" encoding="utf-16"?><SegmentationImage><CompartmentType>{}</CompartmentType></SegmentationImage>'
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
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": list(rings)}, "properties": {}, **more}


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
    features = [_feature(_square(0, 0, 3))] + [_feature(_square(1.1, 1.1, 0.2)) for _ in range(4)]
    (tmp_path / "x.geojson").write_text(json.dumps(features))
    lab = GeoJsonLabels(tmp_path / "x.geojson", (10, 10))
    assert sorted(np.unique(lab[:])) == [0, 1, 2, 3, 4, 5]
    whole = lab[:]
    np.testing.assert_array_equal(np.vstack([lab[y : y + 1] for y in range(10)]), whole)


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
    fovs = open_fovs(*dataset(masks=("fov1_nuclear.tiff", "fov1_whole_cell.tiff", "fov10_nuclear.tiff", "fov10_whole_cell.tiff")))
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
    for part in ("Point1_pt7, Point2", "Point1.tiff, x_mask.tiff", "_whole_cell", "Point1_pt7: Point1.tiff", "--print-pairs"):
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
    assert open_fovs({"a": images / "image.ome.tiff"}, {"a": masks / "something.tiff"})[0].labels is not None
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
        xy = np.c_[rng.uniform(0, 100) + radius * np.cos(angle), rng.uniform(0, 120) + radius * np.sin(angle)]
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
