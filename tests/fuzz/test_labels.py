"""Damaged and hostile label files: an image, or one of our errors, in bounded time."""

import copy
import json
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panimbus.core.errors import PanimbusError
from panimbus.core.fov import Fov
from panimbus.core.guard import GuardedArray, guarded
from panimbus.core.scan import scan_cells
from panimbus.infer.label_report import impossible
from panimbus.io.labels import open_labels

MANY = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
SHAPE = (40, 48)


def _square(x, y, size=5):
    return [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]


def _document():
    polygons = [
        {"type": "Polygon", "coordinates": [_square(8 * i, 7 * j)]}
        for i in range(5)
        for j in range(4)
    ]
    polygons[3] = {
        "type": "MultiPolygon",
        "coordinates": [[_square(24, 0, 2)], [_square(27, 3, 2)]],
    }
    polygons[5] = {
        "type": "GeometryCollection",
        "geometries": [polygons[5], {"type": "Point", "coordinates": [1, 2]}],
    }
    kinds = ["cell"] * 18 + ["detection", "annotation"]
    features = [
        {
            "type": "Feature",
            "id": f"id-{k}",
            "geometry": g,
            "properties": {"objectType": kind, "name": f"n{k}"},
        }
        for k, (g, kind) in enumerate(zip(polygons, kinds, strict=True))
    ]
    return {"type": "FeatureCollection", "features": features}


VALID = json.dumps(_document()).encode()
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([1e300, -1e300, 1e9, -40.0, float("nan"), float("inf")]),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.sampled_from(
        [
            [[]],
            [[[0, 0]]],
            [_square(0, 0, 60)],
            "Polygon",
            "GeometryCollection",
            [[1, 2], [3]],
            [[["x", "y"]] * 4],
        ]
    ),
)


def _places(document):
    """Every value of a document, as the container and the key."""
    out, waiting = [], [document]
    while waiting:
        one = waiting.pop()
        items = list(one.items() if isinstance(one, dict) else enumerate(one))
        out += [(one, key) for key, _ in items]
        waiting += [value for _, value in items if isinstance(value, dict | list)]
    return out


def _refused_or_read(path):
    with guarded(path):
        labels = GuardedArray(open_labels(path, SHAPE).labels, path)
        whole = labels[0 : labels.shape[0], 0 : labels.shape[1]]
    assert whole.shape == tuple(labels.shape)
    assert whole.dtype.kind in "uifb"  # `Fov` refuses floats and masks
    return whole


@MANY
@given(st.data())
def test_geojson_documents(tmp_path_factory, data):
    document = copy.deepcopy(_document())
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(document)
        owner, key = places[data.draw(st.integers(0, len(places) - 1))]
        owner[key] = data.draw(ODD)
    path = tmp_path_factory.getbasetemp() / "fuzz.geojson"
    path.write_text(json.dumps(document))
    try:
        whole = _refused_or_read(path)
    except PanimbusError:
        return
    assert whole.shape == SHAPE


@MANY
@given(st.binary(max_size=8), st.integers(0, len(VALID)), st.integers(0, 40))
def test_geojson_bytes(tmp_path_factory, inserted, at, dropped):
    path = tmp_path_factory.getbasetemp() / "bytes.geojson"
    path.write_bytes(VALID[:at] + inserted + VALID[at + dropped :])
    try:
        whole = _refused_or_read(path)
    except PanimbusError:
        return
    assert whole.shape == SHAPE


@pytest.mark.parametrize(
    "opening", ["[", '{"a":', '{"features":[', '{"type":"GeometryCollection","geometries":[']
)
@pytest.mark.parametrize("depth", [50, 900, 100_000])
def test_geojson_nested_deep(tmp_path, opening, depth):
    (tmp_path / "x.geojson").write_text(
        opening * depth
        + "1"
        + "".join({"[": "]", "{": "}"}[c] for c in reversed(opening * depth) if c in "[{")
    )
    with pytest.raises(PanimbusError):
        _refused_or_read(tmp_path / "x.geojson")


def _tiff(labels, **options):
    import io

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels, **options)
    return buffer.getvalue()


LABELS = (np.kron(np.arange(1, 31).reshape(5, 6), np.ones((8, 8), int))).astype(np.uint16)
FILES = [
    _tiff(LABELS),
    _tiff(LABELS.astype(np.uint32), compression="zlib", tile=(16, 16)),
    _tiff(
        np.stack([LABELS * 0, LABELS >> 4, LABELS * 7 & 255], -1).astype(np.uint8),
        photometric="rgb",
    ),
    _tiff(LABELS.astype(np.int32), bigtiff=True, rowsperstrip=7),
]


def _png_and_npy():
    import io

    import imagecodecs

    buffer = io.BytesIO()
    np.save(buffer, LABELS)
    return [imagecodecs.png_encode(LABELS), buffer.getvalue()]


FILES += _png_and_npy()


@MANY
@given(st.integers(0, len(FILES) - 1), st.data())
def test_label_files(tmp_path_factory, which, data):
    content = bytearray(FILES[which])
    front = len(content) if which < 4 else min(len(content), 140)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, front - 1))] = data.draw(
            st.sampled_from([0, 1, 7, 127, 128, 255])
        )
    content = content[: data.draw(st.sampled_from([len(content), len(content) // 2, 20, 9]))]
    path = tmp_path_factory.getbasetemp() / "fuzz.bin"
    path.write_bytes(content)
    with suppress(PanimbusError):
        _refused_or_read(path)


@MANY
@given(
    st.integers(0, 10**6),
    st.sampled_from(["uint8", "uint16", "int16", "uint32", "int64", "uint64"]),
    st.floats(0.01, 50),
)
def test_label_values(seed, dtype, mpp):
    """Whatever the values are: cells with finite numbers, a refusal, or a word about them."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    few = rng.integers(info.min, info.max, rng.integers(1, 9), dtype=dtype, endpoint=True)
    values = np.append(few, np.array([0, 1, min(info.max, 255), info.max], dtype))
    blocks = rng.choice(values, rng.integers(1, 9, 2))
    labels = np.kron(blocks, np.ones(rng.integers(1, 7, 2), dtype)).astype(dtype)
    fov = Fov("f", np.zeros((1, *labels.shape), np.uint8), ("a",), labels, mpp)
    try:
        cells = scan_cells(fov, 1.0)
    except PanimbusError:
        return
    assert np.isfinite(cells.spread).all()
    odd = impossible(fov, cells)
    assert odd is None or len(odd) > 20
