"""JSON and TOML, cards, headers and kept state, mutated: a `PanimbusError` or a value, nothing
else."""

import copy
import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panimbus.core.errors import PanimbusError
from panimbus.core.scale import ChannelScale
from panimbus.evaluate.config import read_evaluation_file as load_evaluation
from panimbus.infer.distribute.manifest import read_manifest
from panimbus.infer.output import read_normaliser
from panimbus.io.hub import parse_listing
from panimbus.model.card import ModelCard
from panimbus.model.headers import CARD_KEY, read_onnx_metadata, write_onnx_metadata
from panimbus.model.weights import read_card, resolve_model

MANY = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))

ODD = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            False,
            0,
            -1,
            10**30,
            10**400,
            -(10**400),
            1e308,
            -1e-308,
            float("nan"),
            float("inf"),
            "",
            "x" * 5000,
            "nan",
        ]
    ),
    st.sampled_from(
        [[], {}, [[]], {"": {}}, "../../x", "\0", "\ud800", "µ", [1, "a"], {"a": [None]}]
    ),
    st.floats(allow_nan=True),
    st.integers(),
    st.text(max_size=20),
)


def _places(data, at=()):
    """Every place in nested tables and lists."""
    yield at
    inner = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in inner:
        yield from _places(value, (*at, key))


@st.composite
def mutated(draw, data):
    """The document with some values replaced, removed, moved or nested deep."""
    out = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(_places(out))))
        if not place:
            continue
        *path, last = place
        room = out
        for key in path:
            room = room[key]
        what = draw(st.integers(0, 3))
        if what == 0 and isinstance(room, dict):
            del room[last]
        elif what == 1 and isinstance(room, dict):
            room[draw(st.text(max_size=8))] = room.pop(last)
        elif what == 2:
            room[last] = [[room[last]]]
        else:
            room[last] = copy.deepcopy(draw(ODD))
    return out


@st.composite
def damaged(draw, data):
    """The bytes with some flipped, cut, inserted or repeated."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(out) - 1, 0)))
        what = draw(st.integers(0, 3))
        if what == 0 and out:
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif what == 1:
            del out[at : at + draw(st.integers(1, 40))]
        elif what == 2:
            out[at:at] = draw(st.binary(max_size=12))
        else:
            out[at:at] = out[at : at + draw(st.integers(1, 40))] * draw(st.integers(1, 3))
    return bytes(out)


def toml(data, prefix=""):
    """Nested tables as TOML, as far as it has their types; other values as Python writes them."""
    lines, tables = [], []
    for key, value in data.items():
        name = json.dumps(key)
        if isinstance(value, dict):
            tables.append(f"[{prefix}{name}]\n{toml(value, f'{prefix}{name}.')}")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            tables += [f"[[{prefix}{name}]]\n{toml(v, f'{prefix}{name}.')}" for v in value]
        else:
            lines.append(
                f"{name} = {json.dumps(value) if isinstance(value, bool | str | list) else value!r}"
            )
    return "\n".join([*lines, *tables])


@pytest.fixture(scope="module")
def room():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


QUANTILES = {f"q{q:02d}": float(q) for q in range(1, 100)}
SCALE = {
    "percentile": 99.9,
    "over": "all",
    "fov_ids": ["f1"],
    "channels": {
        "CD3": {"normaliser": 3.5, "stats": {"outside": 0.1, **QUANTILES}},
        "CD4": {"normaliser": None, "stats": {}, "note": "blank"},
    },
}


@MANY
@given(data=mutated(SCALE))
def test_normaliser(data):
    with suppress(PanimbusError):
        scale = ChannelScale.from_dict(json.loads(json.dumps(data)))
        for name in scale.normaliser:
            assert scale.blank(name) or 0 < scale.value(name) < float("inf")
            if not scale.blank(name):
                scale.vector(name, ("q50", "otsu", "outside", "counterstain", "q50/otsu"))


@MANY
@given(
    data=damaged(
        json.dumps(
            {**SCALE, "channels": {"CD3": {"normaliser": 3.5, "stats": {"outside": 1.0}}}}
        ).encode()
    )
)
def test_normaliser_bytes(room, data):
    (room / "normaliser.json").write_bytes(data)
    with suppress(PanimbusError):
        read_normaliser(room / "normaliser.json")


CARD = {
    "name": "a", "architecture": "compact_unet", "settings": {"widths": [8, 12], "blocks": 1,
    "unshuffle": 2, "norm": False}, "planes": ["image", "interior"], "stats": ["q50"], "mpp": 1.0,
    "percentile": 99.9, "calibration": {"CD3": [1.0, 0.5]}, "metrics": {"a": {"b": 1}},
    "threshold": 0.5,
}  # fmt: skip


@MANY
@given(data=mutated(CARD))
def test_card(data):
    with suppress(PanimbusError):
        card = ModelCard.from_json(json.dumps(data), source="x")
        assert 0 < card.stride <= 1 << 14
        assert card.margin >= 0
        assert card.reach < 1 << 16
        card.to_json()


@pytest.fixture(scope="module")
def files(room):
    """Small files of the right kinds: name -> bytes."""
    header = json.dumps(
        {
            "__metadata__": {CARD_KEY: json.dumps(CARD)},
            "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        }
    )
    out = {"safetensors": len(header).to_bytes(8, "little") + header.encode() + bytes(8)}
    (room / "made.onnx").write_bytes(b"\x08\x08\x3a\x04\x0a\x02ab")
    write_onnx_metadata(room / "made.onnx", {CARD_KEY: json.dumps(CARD)})
    return out | {"onnx": (room / "made.onnx").read_bytes()}


@pytest.mark.parametrize("kind", ["safetensors", "onnx"])
@MANY
@given(data=st.data())
def test_headers(room, files, kind, data):
    path = room / f"model.{kind}"
    path.write_bytes(data.draw(damaged(files[kind])))
    with suppress(PanimbusError):
        read_card(path)
        resolve_model(path)
        if kind == "onnx":
            assert all(isinstance(v, str) for v in read_onnx_metadata(path).values())


EVALUATION = {
    "calls": "c.csv", "unit": "marker", "draws": 10, "seed": 1, "radius_px": 60.0,
    "dataset": [{"name": "a", "images": "x", "labels": ["y", "z"], "rename": {"a": "b"},
    "silver": {"file": "s.csv"}}],
}  # fmt: skip
TRAINING = {
    "extends": "small", "name": "m", "seed": 1, "net": {"architecture": "compact_unet",
    "settings": {"widths": [8, 12]}}, "data": {"crop": 64, "batch": 2}, "stages": {"naive": 10,
    "percentile": [85.0, 90.0]}, "machine": {"workers": 0},
}  # fmt: skip
DATASET = {
    "name": "a", "images": {"f": "x"}, "labels": ["y"], "mpp": 0.5, "splits": {"f": "test"},
    "cells": {"table": "c.csv"}, "silver": {"thresholds": {"CD3": [1.0, 2.0]}, "exclude": ["CD4"]},
}  # fmt: skip
STORE = {"mpp": 0.5, "tile": 64, "overlap": 8, "datasets": [{"file": "a.toml", "share": 0.5}]}
SWEEP = {
    "seeds": [0, 1],
    "base": {"extends": "small"},
    "arm": [{"name": "a", "settings": {"data": {"crop": 64}}}, {"name": "b"}],
}


def _readers():
    from panimbus.data.dataset import is_store_file, read_dataset_file, read_store_file
    from panimbus.train.config import load_config as load_training
    from panimbus.train.sweep import load_sweep

    return {
        "evaluation": (EVALUATION, load_evaluation),
        "training": (TRAINING, load_training),
        "dataset": (DATASET, read_dataset_file),
        "store": (STORE, lambda path: (is_store_file(path), read_store_file(path))),
        "sweep": (SWEEP, load_sweep),
    }


@pytest.mark.parametrize("kind", ["evaluation", "training", "dataset", "store", "sweep"])
@MANY
@given(data=st.data())
def test_toml(room, kind, data):
    document, read = _readers()[kind]
    if data.draw(st.integers(0, 3)):
        text = toml(data.draw(mutated(document))).encode("utf-8", "surrogatepass")
    else:
        text = data.draw(damaged(toml(document).encode()))
    path = room / f"{kind}.toml"
    path.write_bytes(text)
    with suppress(PanimbusError):
        read(path)


LISTING = {
    "sha": "a" * 40, "id": "x",
    "siblings": [
        {"rfilename": "a/b.tif", "size": 5, "blobId": "0" * 40},
        {"rfilename": "c.zip", "size": 50, "blobId": "1" * 40, "lfs": {"sha256": "b" * 64, "size": 50, "pointerSize": 1}},
    ],
}  # fmt: skip


@MANY
@given(data=mutated(LISTING))
def test_listing(data):
    with suppress(PanimbusError):
        commit, files = parse_listing(json.dumps(data).encode(), "https://hub")
        assert set(commit) <= set("0123456789abcdef")
        for file in files:
            assert not Path(file.path).is_absolute()
            assert ".." not in Path(file.path).parts
            assert set(file.digest) <= set("0123456789abcdef")


@MANY
@given(data=st.data())
def test_request(room, data):
    from panimbus import __version__

    asked = {
        "images": ["/a"],
        "labels": [],
        "channels": ["CD3"],
        "mpp": 0.5,
        "tile": 256,
        "thresholds": {"CD3": 0.5},
        "scale": SCALE,
    }
    asked |= {"model_sha256": "0" * 64, "version": __version__}
    document = {"format": 1, "request": asked, "shards": 2, "command": ["panimbus"], "folder": "/"}
    (room / "request.json").write_text(json.dumps(data.draw(mutated(document))))
    (room / "backend.json").write_text(
        json.dumps(data.draw(st.one_of(st.just({"format": 1, "backend": "x"}), ODD)))
    )
    with suppress(PanimbusError):
        told = read_manifest(room)
        told.request.normaliser()
        assert told.shards >= 1
        assert told.shard_command(1)


@MANY
@given(data=st.data())
def test_store_info(room, data):
    from panimbus.data.store import EXAMPLE_COLUMNS, Store

    info = {"version": 2, "mpp": 1.0, "tile": 64, "percentile": 99.9, "percentile_over": "all"}
    info["datasets"] = [{"name": "a", "share": 1.0, "markers": ["CD3"], "fovs": 1, "source": "x"}]
    document = {"info": info, "scales": {"a": SCALE}, "rows": 1}
    (room / "store.json").write_text(json.dumps(data.draw(mutated(document))))
    (room / "examples.csv").write_text(
        f"{','.join(EXAMPLE_COLUMNS)}\na,f,p,train,CD3,t,5,2,0,0,0,tiles/a,0\n"
    )
    with suppress(PanimbusError):
        assert len(Store.open(room)) == 1
