"""Edits: each kind by literal, undo and redo as laws, every slip an error that says what there
is."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.errors import InputError, ReadError
from panimbus.io.edits import Rename, Undo, active_edits, read_edits
from panimbus.phenotype.edits import Grouping, apply_edits


def start(**changes):
    data = {
        "cells": np.array([f"f:{i}" for i in range(6)], object),
        "node": np.array([0, 0, 1, 2, 3, 3]),
        "metacluster": np.array([1, 1, 1, 2, 3, 3]),
        "names": {1: "T", 2: "B", 3: "unassigned"},
        "types": np.array(["x"] * 6, object),
        "scores": np.array([[0.9], [0.1], [0.8], [0], [0], [1]], np.float32),
        "channels": ("CD4",),
        "thresholds": (0.5,),
    }
    return Grouping(**(data | changes))


def edited(tmp_path, *edits, of=None):
    path = tmp_path / "edits.jsonl"
    path.write_text("\n\n".join(json.dumps(e) for e in edits), encoding="utf-8")
    return apply_edits(of or start(), read_edits(path))


def test_merge_takes_the_larger_ones_name(tmp_path):
    now = edited(tmp_path, {"op": "merge", "metaclusters": [2, 3]})
    assert now.metacluster.tolist() == [1, 1, 1, 2, 2, 2]
    assert now.cell_type.tolist() == ["T"] * 3 + ["unassigned"] * 3


def test_split_by_nodes_and_by_marker(tmp_path):
    now = edited(
        tmp_path,
        {"op": "split", "metacluster": 1, "nodes": [1], "name": "T4"},
        {"op": "split", "metacluster": 3, "marker": "CD4"},
    )
    assert now.metacluster.tolist() == [1, 1, 4, 2, 3, 5]
    assert now.cell_type.tolist() == ["T", "T", "T4", "B", "unassigned", "unassigned"]


def test_rename_a_metacluster_and_a_type(tmp_path):
    now = edited(
        tmp_path,
        {"op": "rename", "metacluster": 3, "name": "B"},
        {
            "op": "rename",
            "type": "B",
            "name": "plasma",
            "by": "me",
            "time": "today",
            "why": "CD138",
        },
    )
    assert now.cell_type.tolist() == ["T", "T", "T", "plasma", "plasma", "plasma"]


def test_reassign_nodes_and_cells(tmp_path):
    now = edited(
        tmp_path,
        {"op": "reassign", "nodes": [1], "metacluster": 2},
        {"op": "reassign", "cells": ["f:5"], "name": "mast"},
    )
    assert now.cell_type.tolist() == ["T", "T", "B", "B", "unassigned", "mast"]


def test_types_without_named_metaclusters(tmp_path):
    types = np.array(list("abcabc"), object)
    now = edited(
        tmp_path,
        {"op": "merge", "metaclusters": [1, 2]},
        {"op": "rename", "metacluster": 3, "name": "z"},
        of=start(names={}, types=types),
    )
    assert now.cell_type.tolist() == ["a", "b", "c", "a", "z", "z"]


def test_the_start_is_not_changed(tmp_path):
    first = start()
    edited(
        tmp_path,
        {"op": "merge", "metaclusters": [1, 2]},
        {"op": "rename", "type": "T", "name": "q"},
        of=first,
    )
    assert first.metacluster.tolist() == [1, 1, 1, 2, 3, 3]
    assert first.names == {1: "T", 2: "B", 3: "unassigned"}


def test_undo_redo(tmp_path):
    a, b = {"op": "merge", "metaclusters": [1, 2]}, {"op": "rename", "metacluster": 3, "name": "z"}
    undo, redo = {"op": "undo"}, {"op": "redo"}
    assert edited(tmp_path, a, undo).metacluster.tolist() == start().metacluster.tolist()
    assert edited(tmp_path, a, b, {"op": "undo", "edit": 1}).cell_type.tolist() == [
        "T",
        "T",
        "T",
        "B",
        "z",
        "z",
    ]
    assert (
        edited(tmp_path, a, b, undo, undo, redo).cell_type.tolist()
        == edited(tmp_path, a).cell_type.tolist()
    )


@given(st.lists(st.booleans(), max_size=25))
def test_undo_takes_back_the_last(moves):
    edits, expected = [], []
    for adds in moves:
        if adds or not expected:
            expected.append(len(edits))
            edits.append(Rename(op="rename", metacluster=1, name="x"))
        else:
            expected.pop()
            edits.append(Undo(op="undo"))
    assert active_edits(edits) == expected


def test_toml(tmp_path):
    path = tmp_path / "e.toml"
    path.write_text(
        '[[edit]]\nop = "merge"\nmetaclusters = [1, 2]\n\n[[edit]]\nop = "undo"\n', encoding="utf-8"
    )
    assert [e.op for e in read_edits(path)] == ["merge", "undo"]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            {"op": "merge", "metaclusters": [1, 9]},
            r"Edit 1 \(merge\)(.|\n)*no metacluster 9(.|\n)*1, 2, 3",
        ),
        ({"op": "split", "metacluster": 8, "nodes": [1]}, "no metacluster 8"),
        ({"op": "split", "metacluster": 1, "nodes": [3]}, r"node 3 in metacluster 1(.|\n)*0, 1"),
        ({"op": "split", "metacluster": 1, "marker": "CD9"}, r"no marker 'CD9'(.|\n)*CD4"),
        ({"op": "split", "metacluster": 2, "nodes": [2]}, "leaves one side"),
        (
            {"op": "rename", "type": "mast", "name": "x"},
            r"no cell type 'mast'(.|\n)*B, T, unassigned",
        ),
        ({"op": "reassign", "nodes": [7], "metacluster": 1}, "node 7"),
        ({"op": "reassign", "cells": ["f:5", "g:5"], "name": "x"}, r"1 of 2 cells(.|\n)*g:5"),
        ({"op": "undo"}, "undoes what is not there"),
        ({"op": "undo", "edit": 3}, "undoes edit 3, which does not stand"),
        ({"op": "redo"}, "nothing is undone"),
        ({"op": "paint"}, "edit 1 has op 'paint', which there is not"),
        ({"op": "mergee"}, r"did you mean merge\?"),
        ({"metaclusters": [1, 2]}, "edit 1 has no op"),
        ([1], r"edit 1 is \[1\], and not an edit"),
        ({"op": "merge"}, r"edit 1 \(merge\) needs metaclusters"),
        (
            {"op": "merge", "metaclusters": [1, "two"]},
            r"metaclusters\.1 must be a whole number, not 'two'",
        ),
        (
            {"op": "merge", "metaclusters": [1, True]},
            r"metaclusters\.1 must be a whole number, not True",
        ),
        ({"op": "merge", "metaclusters": [1, 10**400]}, "metaclusters.1 must be"),
        ({"op": "merge", "metaclusters": 3}, r"must be a list in \[ \], not 3"),
        ({"op": "rename", "metacluster": 1, "name": 3}, "name must be text, not 3"),
        ({"op": "split", "metacluster": 1, "marker": "CD4", "at": 2}, "at must be smaller, not 2"),
        ({"op": "merge", "metaclusters": [1]}, "edit 1 .merge.: metaclusters must be longer"),
        ({"op": "rename", "name": "x"}, "a metacluster or a type"),
        ({"op": "rename", "metacluster": 1, "name": ""}, "name"),
        ({"op": "split", "metacluster": 1}, "nodes or a marker"),
        ({"op": "reassign", "nodes": [1]}, "nodes and a metacluster, or cells and a name"),
        ({"op": "undo", "steps": 2}, "takes no steps"),
    ],
)
def test_slips(tmp_path, edit, says):
    with pytest.raises(InputError, match=says):
        edited(tmp_path, edit)


def test_all_slips_at_once(tmp_path):
    with pytest.raises(InputError, match=r"cannot be understood(.|\n)*edit 1(.|\n)*edit 3"):
        edited(tmp_path, {"op": "x"}, {"op": "undo"}, {"op": "rename", "name": "y"})


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("e.jsonl", "{op}", "line 1: this is not JSON"),
        ("e.toml", "= 3", "not TOML"),
        ("e.toml", "a = 3", "other things than edits"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, says):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ReadError, match=says):
        read_edits(tmp_path / name)
    with pytest.raises(ReadError, match="no such file"):
        read_edits(tmp_path / "nowhere.jsonl")


def test_a_split_takes_the_markers_threshold(tmp_path):
    edit = {"op": "split", "metacluster": 1, "marker": "CD4"}
    assert edited(tmp_path, edit, of=start(thresholds=(0.85,))).metacluster.tolist() == [
        4,
        1,
        1,
        2,
        3,
        3,
    ]
    assert edited(
        tmp_path, edit | {"at": 0.5}, of=start(thresholds=(0.85,))
    ).metacluster.tolist() == [4, 1, 4, 2, 3, 3]


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "rename", "type": "x", "name": "  "},
        {"op": "merge", "metaclusters": [2, 2]},
    ],
)
def test_edits_that_say_nothing(tmp_path, edit):
    with pytest.raises(InputError):
        edited(tmp_path, edit)


def test_names_are_stripped(tmp_path):
    now = edited(tmp_path, {"op": "rename", "type": "T", "name": " T cell "})
    assert now.names[1] == "T cell"
