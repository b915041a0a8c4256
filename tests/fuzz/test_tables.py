"""Tables, calls, annotations, edits, thresholds, rules: whatever the bytes, nothing but our own
errors comes out."""

import faulthandler
import json
import logging
import os
import signal
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.annotations import table as gold
from panimbus.annotations.cells import read_cell_types, read_silver
from panimbus.annotations.qupath import import_qupath
from panimbus.annotations.read import read_annotations
from panimbus.core.errors import PanimbusError
from panimbus.data.tables import read_matrix, read_thresholds
from panimbus.io.assignments import parse_thresholds
from panimbus.io.edits import active_edits, read_edits
from panimbus.io.scores import read_scores
from panimbus.phenotype.rules import default_rules_text, read_rules

pytestmark = pytest.mark.filterwarnings("ignore")
FIVE_HUNDRED = settings(max_examples=500)
ODD = st.sampled_from(
    ["", "NaN", "-1", "1e400", "-inf", "0,5", "1.234,5", "1,234", "9" * 40, "٣", "\x1b[31m", '"', '""', "\t", ";", ",", "\r",
     "\n", "\0", "\ufeff", "\ud7ff", "=1+1", "#", "None", "true", " ", "é", "0x10", "1_000", "²", "1e5", "+3", "--3", "1.0.0"]
)  # fmt: skip
VALUES = st.sampled_from(
    [
        0,
        -1,
        1.5,
        2**53 + 1,
        10**30,
        float("nan"),
        float("inf"),
        True,
        None,
        "x",
        "",
        [],
        {},
        [[]],
        {"op": 1},
    ]
)


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@st.composite
def spoilt(draw, text):
    """Bytes of a table that is nearly as it was: fields swapped for odd ones, another encoding,
    bytes flipped, cut or put in."""
    fields = draw(st.lists(st.tuples(st.integers(0, 10**6), ODD), max_size=4))
    lines = [line.split(",") for line in text.splitlines()]
    for place, odd in fields:
        line = lines[place % len(lines)]
        line[place // 7 % len(line)] = odd
    if draw(st.booleans()):
        line = lines[draw(st.integers(0, len(lines) - 1))]
        line.extend([draw(ODD)] * draw(st.integers(1, 3)))
    separator, newline = (
        draw(st.sampled_from(",,;\t|")),
        draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])),
    )
    encoding = draw(
        st.sampled_from(
            ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
        )
    )
    data = bytearray(
        newline.join(separator.join(line) for line in lines).encode(encoding, "replace")
    )
    for place, byte in draw(
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3)
    ):
        data[place % len(data)] = byte
    if draw(st.integers(0, 4)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    at = draw(st.integers(0, len(data)))
    data[at:at] = draw(st.binary(max_size=3)) * draw(st.sampled_from([0, 0, 1, 2000]))
    return bytes(data)


@st.composite
def documents(draw, document):
    """JSON of a document in which a few values are replaced by others."""
    text = json.dumps(document)
    data = json.loads(text)
    for _ in range(draw(st.integers(0, 3))):
        at = data
        while isinstance(at, (dict, list)) and at:
            key = (
                draw(st.sampled_from(sorted(at)))
                if isinstance(at, dict)
                else draw(st.integers(0, len(at) - 1))
            )
            if not isinstance(at[key], (dict, list)) or draw(st.booleans()):
                at[key] = json.loads(json.dumps(draw(VALUES)))  # a copy
                break
            at = at[key]
    text = json.dumps(data)
    cut = draw(st.integers(0, len(text)))
    return draw(
        st.sampled_from(
            [
                text,
                text,
                text,
                text[:cut],
                text[:cut] + draw(st.sampled_from('[{"\0,')) * 300 + text[cut:],
            ]
        )
    )


def survives(read, data, name):
    """Only our own errors, each with a message that a terminal can show."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
        message = "understood"
        try:
            read(path)
        except PanimbusError as error:
            message = str(error)
    assert 0 < len(message) < 20_000
    assert "\0" not in message


SCORES = "fov,label,CD3,CD20,area_um2,note\n" + "".join(
    f"f{k % 2},{k},0.{k},{k}.5,30,a\n" for k in range(1, 6)
)
CALLS = "dataset,fov,cell_id,channel,call,annotator,time,sampling_weight\n" + "".join(
    f"d,f,{k},CD3,{call},a,t,{k}.5\n" for k, call in enumerate(gold.CALLS, 1)
)
PAN_M = "dataset,fov,cell_id,channel,activity\n" + "".join(
    f"d,f,{k + 1},CD3,{k}\n" for k in range(4)
)
SILVER = "fov,cell_id,channel,label\nf,1,CD3,1\nf,2,CD3,0.5\nf,3,CD3,\n"
MATRIX = "type,CD3,CD20\nT cell,+,-\nB cell,neg,pos\nother,?,\n"


@FIVE_HUNDRED
@given(spoilt(SCORES))
def test_scores(data):
    survives(read_scores, data, "scores.csv")


@FIVE_HUNDRED
@given(st.one_of(spoilt(CALLS), spoilt(PAN_M)))
def test_calls(data):
    survives(lambda path: gold.with_truth(read_annotations([path])), data, "calls.csv")


@FIVE_HUNDRED
@given(st.one_of(spoilt(SILVER), spoilt(SCORES)), st.sampled_from([None, "f"]))
def test_silver_labels(data, fov):
    survives(lambda path: read_silver(path, fov=fov), data, "silver.csv")


@FIVE_HUNDRED
@given(spoilt(SILVER), st.sampled_from([None, "f"]))
def test_cell_types(data, fov):
    survives(lambda path: read_cell_types(path, column="channel", fov=fov), data, "types.csv")


@FIVE_HUNDRED
@given(spoilt(MATRIX))
def test_matrices(data):
    survives(read_matrix, data, "matrix.csv")


@FIVE_HUNDRED
@given(spoilt("channel,low,high\nCD3,0.5,1\nCD20,2,3\n"))
def test_limits(data):
    survives(lambda path: read_thresholds(path.name, path.parent), data, "limits.csv")


@FIVE_HUNDRED
@given(
    spoilt("marker,threshold\nCD3,0.5\nCD20,0.7\n"), st.text(max_size=40), st.lists(ODD, max_size=6)
)
def test_thresholds(data, text, odd):
    survives(lambda path: parse_thresholds(str(path), ["CD3", "CD20"]), data, "thresholds.csv")
    for given_text in (text, "CD3=0.5," + "=".join(odd)):
        with suppress(PanimbusError):
            parse_thresholds(given_text, ["CD3", "CD20"])


@FIVE_HUNDRED
@given(spoilt("\n".join(default_rules_text().splitlines()[:14])))
def test_rules(data):
    survives(read_rules, data, "rules.csv")


EDITS = [
    {"op": "merge", "metaclusters": [1, 2], "name": "a"},
    {"op": "split", "metacluster": 1, "marker": "CD3", "at": 0.5},
    {"op": "rename", "type": "a", "name": "b"},
    {"op": "reassign", "cells": ["f:1"], "name": "c"},
    {"op": "undo", "edit": 1},
    {"op": "redo"},
]


@FIVE_HUNDRED
@given(st.lists(st.one_of(*map(documents, EDITS)), max_size=4))
def test_edits(lines):
    survives(lambda path: active_edits(read_edits(path)), "\n".join(lines), "edits.jsonl")
    survives(read_edits, "[[edit]]\n" + "\n".join(lines), "edits.toml")


OBJECT = {
    "type": "Feature",
    "id": "x",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
    "properties": {
        "objectType": "cell",
        "name": "7",
        "classification": {"name": "positive", "names": ["CD3", "positive"], "color": [1, 2, 3]},
        "metadata": {"fov": "f", "channel": "CD3", "dataset": "d", "sampling_weight": "2.5"},
    },
}


@FIVE_HUNDRED
@given(
    documents(
        {"type": "FeatureCollection", "features": [OBJECT, OBJECT | {"properties": {"name": "8"}}]}
    )
)
def test_annotations_of_qupath(text):
    survives(lambda path: import_qupath([path], annotator="a", time="t"), text, "a.geojson")


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory):
    import anndata
    import pandas as pd

    path = tmp_path_factory.mktemp("h5ad") / "t.h5ad"
    obs = pd.DataFrame(
        {"fov_id": pd.Categorical(["f"] * 4), "cell_id": [1, 2, 3, 4]}, index=list("abcd")
    )
    made = anndata.AnnData(
        np.full((4, 2), 0.5, np.float32), obs=obs, var=pd.DataFrame(index=["CD3", "CD20"])
    )
    made.write_h5ad(path, compression="gzip")
    return path.read_bytes()


def _in_a_child(check):
    """Exit status of ``check()`` in a process of its own: 0 if it returned, 1 if it raised,
    negative if a signal ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if not child:
        status = 1
        with suppress(BaseException):
            faulthandler.disable()
            signal.alarm(30)
            check()
            status = 0
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@FIVE_HUNDRED
@given(st.data())
def test_anndata(h5ad, data):
    """Flipped bytes alone: HDF5 has a checksum for little of them, and its library itself may crash
    (in a child, then)."""
    spoilt = bytearray(h5ad)
    for place, byte in data.draw(
        st.lists(
            st.tuples(st.integers(0, len(h5ad) - 1), st.integers(0, 255)), min_size=1, max_size=6
        )
    ):
        spoilt[place] = byte
    if data.draw(st.integers(0, 5)) == 0:
        del spoilt[data.draw(st.integers(0, len(spoilt))) :]
    status = _in_a_child(lambda: survives(read_scores, bytes(spoilt), "t.h5ad"))
    assert status in (0, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGFPE)
