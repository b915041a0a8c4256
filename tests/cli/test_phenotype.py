"""``panimbus phenotype`` as a user has it."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile


@pytest.fixture
def scores(tmp_path, make_tissue):
    """A CSV of 50 plain cells, and its label image."""
    labels = make_tissue((90, 80), 60)[1]
    ids = np.unique(labels)[1:]
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, len(ids))
    values = np.where(
        np.eye(3, dtype=bool)[kind],
        rng.uniform(0.85, 0.99, (len(ids), 3)),
        rng.uniform(0, 0.08, (len(ids), 3)),
    )
    frame = pd.DataFrame(
        {"fov": "fov1", "label": ids, **dict(zip(("CD3", "CD20", "PanCK"), values.T, strict=True))}
    )
    frame.to_csv(tmp_path / "scores.csv", index=False)
    tifffile.imwrite(tmp_path / "fov1.tiff", labels)
    return tmp_path / "scores.csv"


def run(scores, *more):
    return (
        "phenotype",
        "run",
        scores,
        "--out",
        scores.parent / "out",
        "--grid",
        "4x4",
        "--k",
        "3",
        "--no-report",
        "--threads",
        "1",
        *more,
    )


def test_run_and_apply(panimbus, scores):
    out = scores.parent / "out"
    done = panimbus(*run(scores, "--labels", scores.parent / "fov1.tiff"))
    assert done.code == 0, done.err
    assert "50 cells: 100.0 % typed to the finest level" in done.out.replace(
        str(len(pd.read_csv(scores))), "50", 1
    )
    before = pd.read_csv(out / "types.csv")
    assert set(before["cell_type"]) == {"T cell", "B cell", "epithelial cell"}
    edits = scores.parent / "e.jsonl"
    edits.write_text('{"op": "rename", "type": "T cell", "name": "lymphocyte"}\n', encoding="utf-8")
    done = panimbus("phenotype", "apply", edits, out)
    assert done.code == 0, done.err
    assert "applied 1 of 1 edits" in done.out
    first, out = out, out.with_name("out_edited")
    assert f"written: {out}" in done.out
    pd.testing.assert_frame_equal(pd.read_csv(first / "types.csv"), before)
    assert set(pd.read_csv(out / "types.csv")["cell_type"]) == {
        "lymphocyte",
        "B cell",
        "epithelial cell",
    }
    assert "lymphocyte" in (out / "qupath" / "fov1.geojson").read_text(encoding="utf-8")
    with edits.open("a", encoding="utf-8") as file:
        file.write('{"op": "undo"}\n')
    assert panimbus("phenotype", "apply", edits, out).code == 0
    pd.testing.assert_frame_equal(pd.read_csv(out / "types.csv"), before)
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["standing"] == []
    edits.write_text('{"op": "rename", "type": "T cell", "name": "x"}\n', encoding="utf-8")
    assert (
        f"written: {out}\n" in panimbus("phenotype", "apply", edits, out).out
    )  # of an edited result, in its place
    assert "x" in set(pd.read_csv(out / "types.csv")["cell_type"])
    cell = f"fov1:{before['label'][0]}"
    edits.write_text(
        json.dumps({"op": "reassign", "cells": [cell], "name": "x", "by": "Ada"}), encoding="utf-8"
    )
    done = panimbus("phenotype", "apply", edits, out)
    assert "1 cell has a type by hand; the result gave 0 % the same" in done.out
    annotated = pd.read_csv(out / "type_annotations.csv")
    assert annotated[["cell_type", "result", "annotator"]].to_numpy().tolist() == [
        ["x", before["cell_type"][0], "Ada"]
    ]
    edits.write_text('{"op": "rename", "type": "T cell", "name": "x"}\n', encoding="utf-8")
    assert panimbus("phenotype", "apply", edits, first, "--overwrite", "--out", out).code == 2
    assert f"written: {first}\n" in panimbus("phenotype", "apply", edits, first, "--overwrite").out
    assert "x" in set(pd.read_csv(first / "types.csv")["cell_type"])


def test_apply_from_another_folder(panimbus, scores, monkeypatch):
    monkeypatch.chdir(scores.parent)
    assert panimbus(*run(scores, "--labels", "fov1.tiff")).code == 0
    (scores.parent / "e.jsonl").write_text("", encoding="utf-8")
    monkeypatch.chdir("/")
    done = panimbus("phenotype", "apply", scores.parent / "e.jsonl", scores.parent / "out")
    assert done.code == 0, done.err


def test_own_rules_from_the_printed_ones(panimbus, scores):
    printed = panimbus("phenotype", "rules")
    assert printed.code == 0
    rules = scores.parent / "rules.csv"
    rules.write_text(printed.out, encoding="utf-8")
    assert panimbus(*run(scores, "--rules", rules)).code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rules", "nowhere.csv"), ("no such rule table",)),
        (("--markers", "CD3,CD99"), ("CD99", "CD20")),
        (("--by", "guess"), ("'guess'", "'types'", "'clusters'")),
        (("--thresholds", "CD3=1.5"), ("CD3", "1.5", "below 1")),
        (("--thresholds", "cd20=0.7"), ("did you mean 'CD20'?",)),
        (("--without", "CD99"), ("CD99", "CD3, CD20, PanCK")),
        (("--max-area", "100"), ("area_um2",)),
        (("--seed", "-1"), ("--seed",)),
        (("--out", "{scores}/sub"), ("scores.csv is a file",)),
        (("--grid", "big"), ("--grid", "15x15")),
        (("--grid", "0x4"), ("--grid",)),
        (("--labels", "nowhere"), ("nowhere",)),
        (("--mantis",), ("--labels",)),
    ],
)
def test_bad_options(panimbus, scores, options, says):
    done = panimbus(*run(scores, *(o.format(scores=scores) for o in options)))
    assert done.code == 2
    assert all(word in done.err for word in says), done.err
    assert "Traceback" not in done.err
    assert not (scores.parent / "out").exists()


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("CD3", np.nan, "not numbers"),
        ("CD3", 7.0, "between 0 and 1"),
        ("label", 1, "more than once"),
        ("fov", "fov2", "fov2"),
    ],
)
def test_bad_tables(panimbus, scores, column, value, says):
    frame = pd.read_csv(scores)
    frame.loc[1:2, column] = value
    frame.to_csv(scores, index=False)
    done = panimbus(*run(scores, "--labels", scores.parent))
    assert done.code == 2
    assert says in done.err


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("cell_type,parent,CD3\nA,B,+\nB,A,-\n", "cycle"),
        ("cell_type,parent,CDX77\nA,,+\n", "CDX77"),
        ("cell_type,parent,CD3,CD20\nA,,+,\nB,A,-,+\n", "wants CD3-"),
    ],
)
def test_bad_rules(panimbus, scores, rules, says):
    path = scores.parent / "rules.csv"
    path.write_text(rules, encoding="utf-8")
    done = panimbus(*run(scores, "--rules", path))
    assert (done.code, says in done.err) == (2, True), done.err


def test_constant_marker_and_few_cells(panimbus, scores):
    frame = pd.read_csv(scores)
    frame["CD68"] = 0.0
    frame.to_csv(scores, index=False)
    assert panimbus(*run(scores)).code == 0
    frame.iloc[:1].to_csv(scores, index=False)
    done = panimbus(*run(scores))
    assert done.code == 0, done.err
    assert "1 cells: 100.0 % typed to the finest level" in done.out


def test_edits_that_name_what_is_not_there(panimbus, scores):
    panimbus(*run(scores))
    edits = scores.parent / "e.toml"
    edits.write_text('[[edit]]\nop = "merge"\nmetaclusters = [1, 77]\n', encoding="utf-8")
    done = panimbus("phenotype", "apply", edits, scores.parent / "out")
    assert done.code == 2
    assert "no metacluster 77" in done.err
    done = panimbus("phenotype", "apply", edits, scores.parent)
    assert done.code == 2
    assert "not a folder that" in done.err


def test_out_is_a_file(panimbus, scores):
    (scores.parent / "out").write_text("mine", encoding="utf-8")
    done = panimbus(*run(scores))
    assert done.code == 2
    assert "is a file" in done.err


def test_thresholds_and_markers_left_out(panimbus, scores):
    out = scores.parent / "out"
    done = panimbus(*run(scores, "--thresholds", "CD20=0.995", "--without", "PanCK"))
    assert done.code == 0, done.err
    types = pd.read_csv(out / "types.csv")
    assert types[types["cell_type"] == "B cell"]["faint"].all()  # no more than the likeliest
    assert list(pd.read_csv(out / "positive.csv").columns) == ["fov", "label", "CD3", "CD20"]
    about = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert (about["thresholds"], about["without"]) == ({"CD20": 0.995}, ["PanCK"])


def test_contradictions_are_named(panimbus, scores):
    frame = pd.read_csv(scores)
    frame.loc[(frame["CD3"] > 0.5).to_numpy(), "CD20"] = 0.9
    frame.loc[frame.index[:40], ["CD3", "CD20"]] = 0.9
    frame.to_csv(scores, index=False)
    done = panimbus(*run(scores))
    assert done.code == 0
    assert "positive for both" in done.err
    assert "% are contradictory" in done.out
