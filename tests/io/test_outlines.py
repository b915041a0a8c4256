"""Label image -> polygons -> QuPath's GeoJSON -> label image: nothing is lost."""

import json
import time
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from panimbus.core.errors import InputError
from panimbus.io.outlines import trace_outlines, trace_outlines_by_band
from panimbus.io.polygon_labels import GeoJsonLabels
from panimbus.io.qupath import CellObjects, write_qupath


def area(ring):
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def test_one_pixel():
    assert trace_outlines(np.array([[0, 0], [0, 9]], np.uint32))[9][0][0].tolist() == [
        [1, 1],
        [2, 1],
        [2, 2],
        [1, 2],
    ]


def test_hole():
    labels = np.ones((3, 3), np.int32)
    labels[1, 1] = 0
    ((outer, hole),) = trace_outlines(labels)[1]
    assert outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert area(hole) == -1


def test_a_cell_within_a_cell():
    labels = np.ones((3, 3), np.int32)
    labels[1, 1] = 2
    shapes = trace_outlines(labels)
    assert len(shapes[1][0]) == 2
    assert area(shapes[2][0][0]) == 1


@given(arrays(np.uint16, (11, 7), elements=st.integers(0, 6)), st.integers(1, 12))
def test_band_by_band_is_the_same(labels, rows):
    whole, parts = trace_outlines(labels), trace_outlines_by_band(labels, rows)
    assert list(whole) == list(parts)
    for label, polygons in whole.items():
        assert [[r.tolist() for r in p] for p in polygons] == [
            [r.tolist() for r in p] for p in parts[label]
        ]


def test_parts_that_touch_at_a_corner_are_two_polygons():
    assert [len(p) for p in trace_outlines(np.eye(2, dtype=np.int32))[1]] == [1, 1]


def test_hole_that_touches_the_outline_at_a_corner():
    labels = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]])
    labels[0, 0] = 0
    (polygon,) = trace_outlines(labels)[1]
    assert sorted(area(r) for r in polygon) == [-1, -1, 15]


def test_hole_goes_to_the_part_that_surrounds_it():
    labels = np.zeros((9, 9), np.int32)
    labels[:7, :7] = 1
    labels[1:6, 1:6] = 0
    labels[2:5, 2:5] = 1
    labels[3, 3] = 0
    labels[8, 8] = 1
    found = sorted((area(p[0]), [area(h) for h in p[1:]]) for p in trace_outlines(labels)[1])
    assert found == [(1, []), (9, [-1]), (49, [-25])]


def test_no_cells():
    assert trace_outlines(np.zeros((3, 4), np.uint8)) == {}


def test_not_a_label_image():
    with pytest.raises(InputError, match="integers"):
        trace_outlines(np.zeros((2, 3)))


def small_labels():
    shape = st.tuples(st.integers(1, 9), st.integers(1, 9))
    return shape.flatmap(lambda s: arrays(np.int64, s, elements=st.integers(0, 3)))


@given(small_labels())
def test_rings_are_simple_and_areas_add_up(labels):
    for label, polygons in trace_outlines(labels).items():
        rings = [r for p in polygons for r in p]
        assert all(len(set(map(tuple, r.tolist()))) == len(r) for r in rings)
        assert all(area(p[0]) > 0 and all(area(h) < 0 for h in p[1:]) for p in polygons)
        assert sum(map(area, rings)) == (labels == label).sum()


@given(small_labels())
def test_valid_by_shapely(labels):
    shapely = pytest.importorskip("shapely")
    ys, xs = np.mgrid[: labels.shape[0], : labels.shape[1]]
    for label, polygons in trace_outlines(labels).items():
        shape = shapely.MultiPolygon([(p[0], p[1:]) for p in polygons])
        assert shape.is_valid
        np.testing.assert_array_equal(
            shapely.contains_xy(shape, xs + 0.5, ys + 0.5), labels == label
        )


def test_round_trip_through_a_file(tmp_path):
    labels = np.zeros((40, 50), np.uint16)
    labels[2:12, 3:20] = 5
    labels[5:8, 6:9] = 0  # a hole
    labels[6, 7] = 300  # one pixel inside the hole
    labels[20:25, 1:4] = 12
    labels[25:30, 4:9] = 12  # touches at a corner
    labels[35, 49] = 12  # a part far away, at the edge
    ids = np.array([5, 12, 300])
    path = tmp_path / "a.geojson"
    write_qupath(path, trace_outlines(labels), CellObjects(ids), fov_id="a")
    back = GeoJsonLabels(path, labels.shape)
    np.testing.assert_array_equal(np.concatenate([[0], ids])[back[:, :]], labels)
    assert list(json.loads(path.read_text())["features"][1]["geometry"]) == ["type", "coordinates"]


def test_what_qupath_reads(tmp_path):
    """The fields of what QuPath writes: see PathObjectTypeAdapters and PathClassTypeAdapter of
    QuPath 0.4 and later."""
    labels = np.array([[1, 1, 0, 2]], np.uint8)
    cells = CellObjects(
        np.array([1, 2]),
        ["T cell", "unassigned"],
        {"T cell": (1, 2, 3)},
        {"CD3": np.array([0.912345678, np.nan]), "area_um2": np.array([1e-5, 123456.0])},
        {"reason": ["CD3 plain", 'says "µ"']},
    )
    path = tmp_path / "a.geojson"
    write_qupath(path, trace_outlines(labels), cells, fov_id="fov1")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["type"] == "FeatureCollection"
    first, second = data["features"]
    assert first["type"] == "Feature"
    uuid.UUID(first["id"])
    assert first["geometry"] == {
        "type": "Polygon",
        "coordinates": [[[0, 0], [2, 0], [2, 1], [0, 1], [0, 0]]],
    }
    assert first["properties"] == {
        "objectType": "cell",
        "name": "1",
        "classification": {"name": "T cell", "color": [1, 2, 3]},
        "measurements": {"CD3": 0.912346, "area_um2": 1e-5},
        "metadata": {"reason": "CD3 plain"},
    }
    assert second["properties"]["measurements"] == {"area_um2": 123456.0}
    assert second["properties"]["classification"] == {"name": "unassigned"}
    write_qupath(tmp_path / "b.geojson", trace_outlines(labels), cells, fov_id="fov1")
    assert (tmp_path / "b.geojson").read_bytes() == path.read_bytes()


def test_cells_that_are_not_in_the_label_image(tmp_path):
    with pytest.raises(InputError, match=r"'f': 1 of 2 cells(.|\n)*cell_id 8"):
        write_qupath(
            tmp_path / "a.geojson",
            trace_outlines(np.array([[1]])),
            CellObjects(np.array([1, 8])),
            fov_id="f",
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_many_cells_are_quick(tmp_path):
    from skimage.segmentation import expand_labels

    rng = np.random.default_rng(0)
    labels = np.zeros((1300, 1300), np.int32)
    labels[rng.integers(0, 1300, 10_000), rng.integers(0, 1300, 10_000)] = np.arange(1, 10_001)
    labels = expand_labels(labels, 7)
    ids = np.unique(labels)[1:]
    start = time.perf_counter()
    write_qupath(
        tmp_path / "a.geojson",
        trace_outlines(labels),
        CellObjects(ids, ["a"] * len(ids), {}, {f"m{k}": rng.random(len(ids)) for k in range(40)}),
        fov_id="a",
    )
    assert (
        time.perf_counter() - start < 10
    )  # a tenth of the cells in half the time that is promised: machines differ
