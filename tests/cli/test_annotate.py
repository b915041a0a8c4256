"""`panimbus annotate` as a user runs it."""

import json

import pandas as pd
import pytest


@pytest.fixture
def calls(folder):
    """A CSV of annotations of two FOVs, by one annotator."""
    for k, fov in enumerate(("fov1", "fov10")):
        folder.add(fov, seed=k)
    rows = [
        (f, c, "CD3", "positive" if c % 2 else "negative", "ann")
        for f in ("fov1", "fov10")
        for c in range(1, 9)
    ]
    path = folder.root / "calls.csv"
    pd.DataFrame(rows, columns=["fov", "cell_id", "channel", "call", "annotator"]).to_csv(
        path, index=False
    )
    return path


def test_help(panimbus):
    text = panimbus("annotate", "--help").out
    for verb in ("export", "import", "agree", "consensus"):
        assert verb in text
        assert panimbus("annotate", verb, "--help").code == 0


def test_to_qupath_and_back(folder, calls, panimbus):
    out = folder.root / "qupath"
    done = panimbus(
        "annotate",
        "export",
        folder.images,
        "--annotations",
        calls,
        "--labels",
        folder.labels,
        "--out",
        out,
        "--blind",
    )
    assert (done.code, done.err) == (0, "")
    files = sorted(out.iterdir())
    assert [f.name for f in files] == ["fov1.CD3.geojson", "fov10.CD3.geojson"]
    for file in files:
        data = json.loads(file.read_text())
        for feature in data["features"]:
            feature["properties"]["classification"] = {"name": "Positive", "color": [200, 0, 0]}
        file.write_text(json.dumps(data))
    second, both = folder.root / "second.csv", folder.root / "both.csv"
    done = panimbus("annotate", "import", *files, "--annotator", "bob", "--out", second)
    assert (done.code, done.err) == (0, "")
    assert "16 annotations" in done.out
    done = panimbus("annotate", "agree", calls, second, "--out", folder.root / "kappa.csv")
    assert "0.500" in done.out
    assert pd.read_csv(folder.root / "kappa.csv").loc[0, "kappa"] == 0
    assert "8 undetermined" in panimbus("annotate", "consensus", calls, second, "--out", both).out
    assert pd.read_csv(both)["call"].value_counts().to_dict() == {"positive": 8, "undetermined": 8}


def test_draw(folder, calls, panimbus):
    out = folder.root / "qupath"
    done = panimbus(
        "annotate",
        "export",
        folder.images,
        "--annotations",
        calls,
        "--labels",
        folder.labels,
        "--out",
        out,
        "--draw",
        "5",
    )
    assert "5 annotations" in done.out


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("call", "yes", "unknown answers in the column call: 'yes'"),
        ("cell_id", 2, "annotated twice by the same annotator: fov1 2 CD3"),
        ("fov", "fov2", "not among the images: fov2"),
        ("channel", "CD99", "no channel CD99"),
        ("cell_id", 999, "no cell 999"),
    ],
)
def test_bad_calls(folder, calls, panimbus, column, value, says):
    frame = pd.read_csv(calls)
    frame.loc[0, column] = value
    frame.to_csv(calls, index=False)
    out = folder.root / "qupath"
    done = panimbus(
        "annotate",
        "export",
        folder.images,
        "--annotations",
        calls,
        "--labels",
        folder.labels,
        "--out",
        out,
    )
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err
    assert not out.exists()


def test_an_earlier_export_is_not_mixed_with_this_one(folder, calls, panimbus):
    out = folder.root / "qupath"
    export = (
        "annotate",
        "export",
        folder.images,
        "--annotations",
        calls,
        "--labels",
        folder.labels,
        "--out",
        out,
    )
    assert panimbus(*export).code == 0
    (out / "own.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (out / "fov10.notes.geojson").write_bytes((out / "fov10.CD3.geojson").read_bytes())
    saved = json.loads((out / "fov1.CD3.geojson").read_text())  # as QuPath does
    (out / "fov1.CD3.geojson").write_text(json.dumps(saved, indent=2))
    before = {path: path.read_bytes() for path in out.iterdir()}
    frame = pd.read_csv(calls)
    frame[frame["fov"] == "fov1"].to_csv(calls, index=False)
    done = panimbus(*export)
    assert done.code == 2
    assert "fov1.CD3.geojson, fov10.CD3.geojson" in done.err
    assert "--overwrite" in done.err
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    done = panimbus(*export, "--overwrite")
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == [
        "fov1.CD3.geojson",
        "fov10.notes.geojson",
        "own.geojson",
    ]


def test_the_former_name_works_and_names_the_new_one(calls, panimbus):
    former, new = panimbus("gold", "agree", calls), panimbus("annotate", "agree", calls)
    assert former.err.startswith("`panimbus gold` is now `panimbus annotate`")
    assert (former.code, former.err.split("\n", 1)[1]) == (new.code, new.err)
    assert "panimbus annotate" in panimbus("gold").out
    assert " gold " not in panimbus("--help").out


# -- draw, answer, estimate ----------------------------------------------------------------------


@pytest.fixture
def results(folder, panimbus, model):
    """Two FOVs scored by `panimbus predict`."""
    for k, fov in enumerate(("fov1", "fov10")):
        folder.add(fov, seed=k)
    done = panimbus(*folder.arguments(*model))
    assert done.code == 0, done.err
    return folder.out


def filled(path, call="positive", rows=None):
    """Answer the questions of a list, or some of its rows."""
    frame = pd.read_csv(path)
    frame["call"] = frame["call"].astype(object)
    frame.loc[frame.index[:rows], "call"] = call
    frame.to_csv(path, index=False)
    return frame


def test_draw_answer_and_estimate(results, panimbus):
    done = panimbus("annotate", "draw", results, "--marker", "CD20", "--n", "12")
    assert (done.code, done.err) == (0, "")
    place = results / "annotations" / "CD20"
    assert "12 cells of CD20" in done.out
    assert f"--results {results}" in done.out
    table = pd.read_csv(place / "questions.csv")
    assert set(table["channel"]) == {"CD20"}
    assert table["call"].isna().all()
    assert (table["sampling_weight"].notna() == (table["sampling"] == "random")).all()
    objects = [f for p in place.glob("*.geojson") for f in json.loads(p.read_text())["features"]]
    assert len(objects) == 12
    assert not any("classification" in o["properties"] for o in objects)
    assert not any("sampling" in json.dumps(o["properties"]) for o in objects)

    again = panimbus("annotate", "draw", results, "--marker", "CD20")
    assert again.code == 2
    assert "a list is there already" in again.err

    read = ("annotate", "import", place / "questions.csv", "--results", results)
    assert "no row has an answer" in panimbus(*read, "--annotator", "ann").err
    filled(place / "questions.csv")
    done = panimbus(*read, "--annotator", "ann")
    assert "12 annotations, 12 of them new" in done.out
    assert "12 annotations, 0 of them new" in panimbus(*read, "--annotator", "ann").out
    done = panimbus(*read, "--annotator", "bob", "--second")
    assert (done.code, done.err) == (0, "")

    done = panimbus("annotate", "agree", results)
    assert "ann" in done.out
    assert "12" in done.out
    done = panimbus("annotate", "consensus", results, "--out", results / "both.csv")
    assert "12 annotations, 0 undetermined" in done.out

    done = panimbus("annotate", "estimate", results, "--out", results / "rates.csv")
    assert done.code == 0, done.err
    (row,) = pd.read_csv(results / "rates.csv").to_dict("records")
    assert row["marker"] == "CD20"
    assert row["random answers"] == (table["sampling"] == "random").sum() > 0
    assert row["share"] == 1
    assert row["share_low"] < 1

    done = panimbus("annotate", "draw", results, "--marker", "CD20", "--overwrite", "--n", "8")
    assert (done.code, done.err) == (0, "")
    second = pd.read_csv(place / "questions.csv")
    chosen = second[second["sampling"] != "random"]
    keys = ["fov", "cell_id"]
    assert not len(chosen.merge(table, on=keys))
    assert sum(len(json.loads(p.read_text())["features"]) for p in place.glob("*.geojson")) == 8


def test_answers_given_in_qupath_keep_why_they_were_asked(results, panimbus, folder):
    place = folder.root / "asked"
    panimbus("annotate", "draw", results, "--marker", "CD3", "--n", "9", "--out", place)
    files = sorted(place.glob("*.geojson"))
    for file in files:
        data = json.loads(file.read_text())
        data["features"][0]["properties"]["classification"] = {"name": "Likely negative"}
        file.write_text(json.dumps(data))
    out = folder.root / "answers.csv"
    done = panimbus("annotate", "import", *files, "--annotator", "bob", "--out", out)
    assert done.code == 0, done.err
    assert f"{len(files)} annotations: {out}; {9 - len(files)} have no answer yet" in done.out
    asked = pd.read_csv(place / "questions.csv").set_index(["fov", "cell_id"])["sampling"]
    for row in pd.read_csv(out).itertuples():
        assert row.sampling == asked[row.fov, row.cell_id]
        assert (row.call, row.annotator) == ("likely negative", "bob")


def test_where_images_moved(results, panimbus, folder):
    moved = folder.images.rename(folder.root / "elsewhere")
    draw = ("annotate", "draw", results, "--marker", "CD3", "--n", "4")
    done = panimbus(*draw)
    assert done.code == 2
    assert "--images" in done.err
    assert not (results / "annotations").exists()
    done = panimbus(*draw, "--images", moved, "--labels", folder.labels)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("draw", "nowhere", "--marker", "CD3"), "there is no cells.h5ad"),
        (("estimate", "nowhere"), "there is no cells.h5ad"),
        (("import", "a.csv", "--annotator", "x"), "--out or --results"),
        (("agree", "."), "there is no log of annotations"),
    ],
)
def test_wrong_use_of_the_new_commands(arguments, message, panimbus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = panimbus("annotate", *arguments)
    assert done.code == 2
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_marker_names_the_markers(results, panimbus):
    done = panimbus("annotate", "draw", results, "--marker", "CD99")
    assert done.code == 2
    assert "available: CD3, CD20, DAPI" in done.err
    assert not (results / "annotations").exists()


def test_silver_labels_are_proofread_like_scores(tmp_path, panimbus):
    """`draw` on the dataset file of `build`, answers, and precision and recall of the labels."""
    from panimbus.cli.simulate import command

    data = tmp_path / "sim"
    command(out=data, fovs=2, side=96, platform="codex", seed=3)
    source = data / "dataset.toml"
    without = panimbus("annotate", "draw", source, "--marker", "CD20")
    assert without.code == 2
    assert "--out" in without.err
    out = tmp_path / "proofread"
    done = panimbus("annotate", "draw", source, "--marker", "CD20", "--n", "10", "--out", out)
    assert done.code == 0, done.err
    frame = pd.read_csv(out / "questions.csv")
    assert set(frame["sampling"]) <= {"random", "intensity"}
    truth = pd.read_csv(data / "truth.csv").set_index(["fov", "cell_id"])["CD20"]
    answers = [truth[row.fov, row.cell_id] for row in frame.itertuples()]
    frame["call"] = ["positive" if a else "negative" for a in answers]
    frame.to_csv(out / "questions.csv", index=False)
    answers = tmp_path / "answers.csv"
    read = ("annotate", "import", out / "questions.csv", "--annotator", "ann", "--out", answers)
    assert panimbus(*read).code == 0
    done = panimbus("annotate", "estimate", source, answers, "--out", tmp_path / "rates.csv")
    assert done.code == 0, done.err
    (row,) = pd.read_csv(tmp_path / "rates.csv").to_dict("records")
    assert row["random answers"] == (frame["sampling"] == "random").sum()
    assert 0 <= row["precision_low"] <= row["precision"] <= row["precision_high"] <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fov": "fov9"}, "FOVs that are not among the images: fov9"),
        ({"cell_id": 999_999}, "999999"),
        ({"channel": "NOPE"}, "no channel NOPE"),
    ],
)
def test_import_into_a_log_is_all_or_nothing(results, panimbus, tmp_path, change, words):
    """One row that does not fit the result would block the log, to which lines are only added."""
    good = {"fov": "fov1", "cell_id": 1, "channel": "CD20", "call": "positive"}
    pd.DataFrame([good, good | change]).to_csv(tmp_path / "a.csv", index=False)
    read = ("annotate", "import", tmp_path / "a.csv", "--annotator", "x", "--results", results)
    done = panimbus(*read)
    assert done.code == 2, done
    assert words in done.err
    assert not (results / "annotations" / "log.jsonl").exists()


def test_import_into_a_folder_that_is_no_result(panimbus, tmp_path):
    row = {"fov": ["fov1"], "cell_id": [1], "channel": ["CD20"], "call": ["positive"]}
    pd.DataFrame(row).to_csv(tmp_path / "a.csv", index=False)
    read = ("annotate", "import", tmp_path / "a.csv", "--annotator", "x", "--results", tmp_path)
    done = panimbus(*read)
    assert done.code == 2
    assert "cells.h5ad" in done.err
    assert not (tmp_path / "annotations").exists()
