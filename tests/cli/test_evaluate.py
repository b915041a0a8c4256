"""`panimbus evaluate` and `panimbus compare` as a user runs them."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile


@pytest.fixture
def study(folder, tmp_path):
    """Two FOVs with label images, one without, calls of the first two, and the TOML file that names
    it all."""
    labels = {fov: folder.add(fov, seed=k) for k, fov in enumerate(("fov1", "fov2", "fov3"))}
    (folder.labels / "fov3_whole_cell.tiff").unlink()
    rows = []
    for fov, image in labels.items():
        if fov == "fov3":
            continue
        for channel in ("CD3", "CD20"):
            plane = tifffile.imread(folder.images / fov / f"{channel}.tiff")
            for cell in np.unique(image[image > 0]):
                call = "positive" if plane[image == cell].mean() > 120 else "negative"
                rows.append(("toy", fov, cell, channel, call))
    calls = pd.DataFrame(rows, columns=["dataset", "fov", "cell_id", "channel", "call"])
    calls.to_csv(tmp_path / "calls.csv", index=False)
    (tmp_path / "eval.toml").write_text(
        'calls = "calls.csv"\ndraws = 20\n[[dataset]]\nname = "toy"\ntissue = "tonsil"\nmpp ='
        f' 0.5\nimages = "{folder.images.relative_to(tmp_path)}"\nlabels ='
        f' "{folder.labels.relative_to(tmp_path)}"\n',
        encoding="utf-8",
    )
    return calls


def test_datasets_in_one_command(study, folder, panimbus, model, tmp_path):
    done = panimbus(
        "evaluate",
        tmp_path / "eval.toml",
        "--out",
        tmp_path / "e",
        "--tta",
        "none",
        "--summary",
        tmp_path / "s",
        *model,
    )
    assert done.code == 0, done.err
    assert "normaliser of 3 FOVs" in done.log
    assert "Otsu on mean intensity" in done.out
    scored = pd.read_csv(tmp_path / "e" / "calls.csv")
    assert len(scored) == len(study)
    assert {p.name for p in (tmp_path / "e").iterdir()} >= {
        "report.html",
        "summary.md",
        "markers.csv",
        "evaluation.json",
    }
    assert (tmp_path / "s.md").read_text(encoding="utf-8") == (
        tmp_path / "e" / "summary.md"
    ).read_text(encoding="utf-8")
    assert "base64" in (tmp_path / "e" / "report.html").read_text(encoding="utf-8")
    assert not [p for p in tmp_path.rglob(".*") if p.name != ".gitignore"]
    arguments = [
        "predict",
        folder.images,
        "--labels",
        folder.labels,
        "--mpp",
        "0.5",
        "--tta",
        "none",
        "--out",
        tmp_path / "p",
        *model,
    ]
    assert (
        panimbus(*arguments).code == 2
    )  # fov3 has no label image, so predict alone cannot use its pixels


def test_a_table_gives_the_same_as_its_files(study, folder, panimbus, model, tmp_path):
    for fov in ("fov3",):
        for path in (folder.images / fov).iterdir():
            path.unlink()
        (folder.images / fov).rmdir()
    assert panimbus(*folder.arguments(*model)).code == 0
    config = ["evaluate", tmp_path / "eval.toml", "--out", tmp_path / "e", "--tta", "none", *model]
    assert panimbus(*config).code == 0
    calls = [
        "evaluate",
        tmp_path / "calls.csv",
        "--table",
        folder.out / "cells.h5ad",
        "--out",
        tmp_path / "t",
    ]
    done = panimbus(*calls, "--images", folder.images, "--labels", folder.labels, "--mpp", "0.5")
    assert done.code == 0, done.err
    assert "base64" in (tmp_path / "t" / "report.html").read_text(encoding="utf-8")
    a, b = (pd.read_csv(tmp_path / k / "calls.csv").drop(columns="tissue") for k in "et")
    pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-5)
    done = panimbus(
        "compare", f"files={tmp_path / 'e'}", f"table={tmp_path / 't'}", "--out", tmp_path / "c"
    )
    assert done.code == 0, done.err
    assert "+0.000" in done.out
    assert (tmp_path / "c" / "comparison.md").is_file()


@pytest.fixture
def scored_table(study, folder, panimbus, model, tmp_path):
    for path in (folder.images / "fov3").iterdir():
        path.unlink()
    (folder.images / "fov3").rmdir()
    assert panimbus(*folder.arguments(*model)).code == 0
    return folder.out / "cells.h5ad"


def test_silver_labels_and_cell_types(study, scored_table, panimbus, tmp_path):
    silver = study.assign(label=(study["call"] == "positive").astype(int))[
        ["fov", "cell_id", "channel", "label"]
    ]
    silver.loc[silver["channel"] == "CD20", "label"] = None
    silver.to_csv(tmp_path / "silver.csv", index=False)
    study[["fov", "cell_id"]].drop_duplicates().assign(cell_type="B").to_csv(
        tmp_path / "types.csv", index=False
    )
    more = ["--silver", tmp_path / "silver.csv", "--cell-types", tmp_path / "types.csv"]
    done = panimbus(
        "evaluate", tmp_path / "calls.csv", "--table", scored_table, "--out", tmp_path / "t", *more
    )
    assert done.code == 0, done.err
    means = pd.read_csv(tmp_path / "t" / "means.csv").set_index(["dataset", "method"])
    assert means.loc[("mean", "silver"), ["f1", "markers"]].tolist() == [1, 1]
    assert (pd.read_csv(tmp_path / "t" / "groups.csv")["group"] == "B").all()
    unnamed = pd.read_csv(tmp_path / "calls.csv").drop(columns="dataset", errors="ignore")
    unnamed.to_csv(tmp_path / "calls.csv", index=False)
    done = panimbus(
        "evaluate", tmp_path / "calls.csv", "--table", scored_table, "--out", tmp_path / "u"
    )
    assert (
        "F1" in done.out.split("\n")[1].split()
    )  # calls need not name a dataset, but their column has a head
    assert "- : " not in (tmp_path / "u" / "summary.md").read_text()


def test_ids_off_by_one_are_noticed(study, scored_table, panimbus, tmp_path):
    table = anndata.read_h5ad(scored_table)
    called = (
        study.pivot_table(
            index=["fov", "cell_id"], columns="channel", values="call", aggfunc="first"
        )
        == "positive"
    )
    rows = called.reindex(
        pd.MultiIndex.from_frame(table.obs[["fov_id", "cell_id"]].astype({"fov_id": str}))
    ).to_numpy(bool)
    table.X[:, table.var_names.get_indexer(called.columns)] = 0.2 + 0.6 * rows
    table.write_h5ad(scored_table)
    last = study.groupby("fov")["cell_id"].transform("max")
    for shift, words in (
        (0, None),
        (1, "every cell_id is one lower"),
        (-1, "every cell_id is one higher"),
    ):
        shifted = study.assign(cell_id=study["cell_id"].astype(int) + shift)
        shifted[(shifted["cell_id"] > 0) & (shifted["cell_id"] <= last)].to_csv(
            tmp_path / "calls.csv", index=False
        )
        done = panimbus(
            "evaluate", tmp_path / "calls.csv", "--table", scored_table, "--out", tmp_path / "t"
        )
        assert done.code == 0, done.err
        assert ("off by one" in done.err) == (words is not None)
        assert words is None or (
            words in done.err
            and words in (tmp_path / "t" / "report.html").read_text(encoding="utf-8")
        )


def test_bad_calls_of_a_table(study, scored_table, panimbus, tmp_path):
    bad = pd.concat(
        [
            study,
            study[:2].assign(fov="fov9"),
            study[:1].assign(channel="CD8"),
            study[:1].assign(cell_id=9999),
        ]
    )
    bad.to_csv(tmp_path / "bad.csv", index=False)
    done = panimbus(
        "evaluate", tmp_path / "bad.csv", "--table", scored_table, "--out", tmp_path / "t"
    )
    assert done.code == 2
    for words in ("FOVs that are not among the images: fov9 (2 annotations", "CD8", "9999", "fix:"):
        assert words in done.err
    assert not (tmp_path / "t").exists()


def test_bad_calls_of_datasets_are_said_before_anything_is_scored(study, panimbus, model, tmp_path):
    more = [
        study[:1].assign(fov="fov3"),
        study[:1].assign(channel="CD8"),
        study[:1].assign(cell_id=9999),
    ]
    pd.concat([study, *more]).to_csv(tmp_path / "calls.csv", index=False)
    done = panimbus("evaluate", tmp_path / "eval.toml", "--out", tmp_path / "e", *model)
    assert done.code == 2
    for words in ("toy: FOVs that are not among the images: fov3 (1 annotation", "CD8", "9999"):
        assert words in done.err
    assert "scoring" not in done.err
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("toy", "other"), "no annotations of dataset 'other'"),
        (
            ("mpp = 0.5", "mpp = 0.5\nrename = { nobody = 'x' }"),
            "rename names FOVs that are not there",
        ),
        (("image_data", "nowhere"), "do not exist"),
        (("draws = 20", "draws = 1"), "draws"),
    ],
)
def test_bad_files(study, panimbus, model, tmp_path, change, says):
    path = tmp_path / "eval.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    done = panimbus("evaluate", path, "--out", tmp_path / "e", *model)
    assert done.code == 2, done.out
    assert says in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["calls.csv"], "pass --table"),
        (["eval.toml", "--table", "x.h5ad", "--only", "toy"], "--only cannot be used with --table"),
        (["eval.toml", "--silver", "x.csv"], "--silver cannot be used without --table"),
        (["nowhere.toml"], "no such file"),
        (["eval.toml", "--only", "no"], "no dataset 'no'"),
        (["eval.toml", "--model", "nimbuss"], "Unknown model"),
        (["calls.csv", "--table", "nowhere.h5ad"], "no such file"),
        (["calls.csv", "--table", "calls.csv"], "or another AnnData file"),
    ],
)
def test_bad_options(study, panimbus, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    done = panimbus("evaluate", *arguments, "--out", "e")
    assert done.code == 2, done.out
    assert says in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "e").exists()


def test_a_table_that_panimbus_did_not_write(study, panimbus, tmp_path):
    anndata.AnnData(np.zeros((2, 1), np.float32)).write_h5ad(tmp_path / "x.h5ad")
    done = panimbus(
        "evaluate", tmp_path / "calls.csv", "--table", tmp_path / "x.h5ad", "--out", tmp_path / "e"
    )
    assert done.code == 2
    assert "does not say which cell a row is" in done.err


def test_bad_comparisons(panimbus, tmp_path):
    for arguments, says in (
        ([f"a={tmp_path}", f"a={tmp_path}"], "unique names"),
        ([f"a={tmp_path}", f"b={tmp_path}"], "no folder that panimbus evaluate wrote"),
        ([f"a={tmp_path}"], "nothing to compare"),
    ):
        done = panimbus("compare", *arguments)
        assert done.code == 2
        assert says in done.err


def test_evaluation_json_is_json(study, scored_table, panimbus, tmp_path):
    assert (
        panimbus(
            "evaluate", tmp_path / "calls.csv", "--table", scored_table, "--out", tmp_path / "t"
        ).code
        == 0
    )
    said = json.loads((tmp_path / "t" / "evaluation.json").read_text(encoding="utf-8"))
    assert said["settings"]["unit"] == "marker"
    assert {r["method"] for r in said["means"]} >= {
        "model",
        "otsu",
        "mixture",
        "model_best",
        "intensity_best",
    }


def test_another_evaluation_is_not_replaced_unasked(study, scored_table, panimbus, tmp_path):
    same = ("evaluate", tmp_path / "calls.csv", "--table", scored_table, "--out", tmp_path / "t")
    assert panimbus(*same).code == 0
    assert panimbus(*same).code == 0
    study[study["fov"] == "fov1"].to_csv(tmp_path / "other.csv", index=False)
    before = {path: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    other = (*same[:1], tmp_path / "other.csv", *same[2:])
    for words, says in (
        (other, "other.csv"),
        ((*same, "--no-likely"), "likely: true there, false here"),
    ):
        done = panimbus(*words)
        assert done.code == 2
        assert "the report and tables of another run are there" in done.err
        assert says in done.err
    assert {path: path.read_bytes() for path in (tmp_path / "t").iterdir()} == before
    assert panimbus(*other, "--overwrite").code == 0
    assert set(pd.read_csv(tmp_path / "t" / "calls.csv")["fov"]) == {"fov1"}


PUBLISHED = (
    "dataset,fov,labels,channel,gt_proofread,gt_noisy,nimbus,ie,cell_size,plot_lineage\n"
    "codex_colon,f,1,CD3,1,1,0.9,8,40,Lymphocytes\n"
    "codex_colon,f,2,CD3,0,1,0.8,4,50,Stroma\n"
    "codex_colon,f,3,CD3,1,0,0.2,2,60,Stroma\n"
    "codex_colon,f,1,CD8,0,0,0.1,1,40,Lymphocytes\n"
)
POSITIONS = (
    "dataset,fov,labels,centroid-0,centroid-1\ncodex_colon,f,1,0,0\ncodex_colon,f,2,0,9\n"
    "codex_colon,f,3,0,300\n"
)


def test_the_papers_table(panimbus, tmp_path):
    (tmp_path / "t.csv").write_text(PUBLISHED)
    (tmp_path / "p.csv").write_text(POSITIONS)
    done = panimbus("evaluate", tmp_path / "t.csv", "--out", tmp_path / "e", "--figures")
    assert done.code == 0, done.err
    assert {
        "figure_4a.svg",
        "figure_4b.svg",
        "figure_4c.svg",
        "figure_4d.svg",
        "figure_5a.svg",
    } <= {p.name for p in (tmp_path / "e" / "figures").iterdir()}
    assert done.out.startswith("F1, all markers of a dataset pooled")
    pooled = pd.read_csv(tmp_path / "e" / "pooled.csv").set_index(["dataset", "method"])
    assert pooled.loc[("mean", "model"), "f1"] == 0.5
    saved = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert saved["settings"]["unit"] == "dataset"
    assert "--positions" in saved["about"]["note"]
    more = ["--positions", tmp_path / "p.csv", "--confounders", "code", "--unit", "marker"]
    done = panimbus("evaluate", tmp_path / "t.csv", "--out", tmp_path / "e", *more)
    assert done.code == 2  # another evaluation
    done = panimbus("evaluate", tmp_path / "t.csv", "--out", tmp_path / "e", *more, "--overwrite")
    assert done.code == 0, done.err
    assert done.out.startswith("F1, mean over markers")
    confounders = pd.read_csv(tmp_path / "e" / "confounders.csv")
    assert set(confounders["method"]) == {"model", "model_against_silver"}
    assert "density" in set(confounders["confounder"])
    same = panimbus("compare", f"a={tmp_path / 'e'}", f"b={tmp_path / 'e'}")
    assert same.code == 0, same.err


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        (PUBLISHED, ["--model", "x"], "--model cannot be used with that table"),
        (PUBLISHED, ["--likely"], "--likely cannot be used with that table"),
        (PUBLISHED.replace(",0.9,", ",9,"), [], "nimbus is not within 0 and 1: line 2 (9)"),
        (PUBLISHED.replace("labels", "number"), [], "columns are missing: labels"),
        (PUBLISHED.split("\n", maxsplit=1)[0], [], "no rows"),
        (PUBLISHED, ["--positions", "t.csv"], "columns are missing: centroid-0, centroid-1"),
        (PUBLISHED, ["--positions", "no.csv"], "no such file"),
        (PUBLISHED, ["--unit", "cell"], "'cell' is not one of"),
    ],
)
def test_a_bad_table_of_the_paper(panimbus, tmp_path, monkeypatch, text, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(text)
    done = panimbus("evaluate", "t.csv", "--out", "e", *arguments)
    assert done.code == 2, done.out
    assert says in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "e").exists()
