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
