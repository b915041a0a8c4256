"""OME-Zarr: documents with changed values, documents with changed bytes, changed chunks."""

import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.core.errors import PanimbusError
from panimbus.io import open_fovs

sys.path.insert(0, str(Path(__file__).parent.parent / "io"))
from zarr_files import write

IMAGE = np.arange(1, 2 * 12 * 8 + 1, dtype=np.uint16).reshape(2, 12, 8)
LABELS = (IMAGE[0] > 20).astype(np.uint16)
NOT_FINITE = [math.nan, math.inf, -math.inf]
ODD = [
    None, True, "", "x", "0", "../..", "/", -1, 0, 1, 2, 7, 10**9, 10**19, 10**400, 0.5, 1e300, *NOT_FINITE, [], {}, [[]], [None],
    {"name": "x"}, ["y"] * 5,
]  # fmt: skip
SLOWEST = 200_000


def _stores(folder):
    """Name -> a small store of each kind, each of which can be read."""
    write(folder / "v2", IMAGE, "0.4", labels={"cells": LABELS}, names="ab", chunks=(1, 8, 8))
    write(
        folder / "v3",
        IMAGE,
        labels={"cells": LABELS},
        names="ab",
        chunks=(1, 8, 8),
        compressors=zarr.codecs.GzipCodec(),
    )
    write(folder / "sharded", IMAGE, names="ab", chunks=(1, 4, 4), shards=(1, 8, 8))
    group = zarr.open_group(str(folder / "spatial"), mode="w")
    group.attrs["spatialdata_attrs"] = {"version": "0.2"}
    for kind, data in (("images/tissue", IMAGE), ("labels/tissue", LABELS)):
        write(folder / "spatial" / kind, data, names="ab", chunks=(1, 12, 8))
        frame = {"name": "global", "axes": [{"name": a, "unit": "micrometer"} for a in "yx"]}
        step = {
            "type": "scale",
            "scale": [1.0] * data.ndim,
            "input": {"axes": [{"name": a} for a in "cyx"[-data.ndim :]]},
            "output": frame,
        }
        document = folder / "spatial" / kind / "zarr.json"
        meta = json.loads(document.read_text())
        meta["attributes"]["ome"]["multiscales"][0]["coordinateTransformations"] = [step]
        document.write_text(json.dumps(meta))
    for kind in ("images", "labels"):
        (folder / "spatial" / kind / "zarr.json").write_text(
            '{"zarr_format": 3, "node_type": "group", "attributes": {}}'
        )
    return {path.name: path for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return _stores(tmp_path_factory.mktemp("stores"))


def _documents(store):
    return sorted(
        p for p in store.rglob("*") if p.name in ("zarr.json", ".zattrs", ".zarray", ".zgroup")
    )


def _chunks(store):
    return sorted(p for p in store.rglob("*") if p.is_file() and p not in _documents(store))


def _read(store):
    """Open and read; nothing but our errors comes out."""
    try:
        for fov in open_fovs(store):
            pixels = math.prod(fov.image.shape)
            part = np.s_[:] if pixels <= SLOWEST else np.s_[0, :20, :20]
            assert fov.image[part].dtype == fov.image.dtype
            if fov.labels is not None:
                fov.labels[:20, :20]
    except PanimbusError:
        pass


@pytest.mark.parametrize("name", ["v2", "v3", "sharded", "spatial"])
def test_the_stores_are_good(stores, name):
    (fov,) = open_fovs(stores[name])
    np.testing.assert_array_equal(fov.image[:], IMAGE)
    assert (fov.labels is None) == (name == "sharded")


def _places(value, path=()):
    """Paths of all values inside a document."""
    yield path
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        yield from _places(one, (*path, key))


def _changed(data, places, odd, what):
    """A document in which a value was replaced, removed, doubled, or nested deep."""
    data = copy.deepcopy(data)
    for path in places:
        outer = data
        try:
            for key in path[:-1]:
                outer = outer[key]
            value = outer[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue
        if what == "remove":
            del outer[path[-1]]
        elif what == "double" and isinstance(outer, list):
            outer.append(value)
        elif what == "deep":
            for _ in range(300):
                value = [value]
            outer[path[-1]] = value
        else:
            outer[path[-1]] = odd
    return data


@settings(max_examples=500)
@given(
    name=st.sampled_from(["v2", "v3", "sharded", "spatial"]),
    document=st.integers(0, 30),
    places=st.lists(st.integers(0, 200), min_size=1, max_size=2),
    odd=st.sampled_from(ODD),
    what=st.sampled_from(["replace", "replace", "replace", "remove", "double", "deep"]),
)
def test_values_of_documents(stores, name, document, places, odd, what):
    documents = _documents(stores[name])
    path = documents[document % len(documents)]
    text = path.read_text()
    data = json.loads(text)
    there = [p for p in _places(data) if p] or [()]
    try:
        path.write_text(
            json.dumps(
                _changed(data, [there[p % len(there)] for p in places if there != [()]], odd, what)
            )
        )
        _read(stores[name])
    finally:
        path.write_text(text)


@settings(max_examples=500)
@given(
    name=st.sampled_from(["v2", "v3", "sharded", "spatial"]),
    number=st.integers(0, 60),
    chunk=st.booleans(),
    at=st.integers(0, 3000),
    what=st.sampled_from(["end", "cut", "insert", "flip"]),
    odd=st.binary(max_size=6)
    | st.sampled_from([b"[" * 5000, b"1e999", b"NaN", b"\xff" * 16, b"\0" * 100]),
)
def test_bytes_of_files(stores, name, number, chunk, at, what, odd):
    files = _chunks(stores[name]) if chunk else _documents(stores[name])
    path = files[number % len(files)]
    data = path.read_bytes()
    at %= max(len(data), 1)
    new = {
        "end": data[:at],
        "cut": data[:at] + data[at + len(odd) + 1 :],
        "insert": data[:at] + odd + data[at:],
        "flip": (
            data[:at] + bytes([data[at] ^ (odd[0] if odd else 1)]) + data[at + 1 :] if data else odd
        ),
    }[what]
    try:
        path.write_bytes(new)
        _read(stores[name])
    finally:
        path.write_bytes(data)
