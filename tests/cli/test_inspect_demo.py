"""`panimbus inspect`, `panimbus demo` and `panimbus models` as a user runs them."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from panimbus.io import write_ome_tiff
from panimbus.io.write import write_labels
from panimbus.model.weights import DEFAULT_MODEL, resolve_model, shipped_models


def test_inspect_good_input(folder, panimbus, model):
    folder.add("fov1")
    folder.add("fov2", seed=1)
    arguments = ("inspect", folder.images, "--labels", folder.labels, "--mpp", "0.5", *model)
    done = panimbus(*arguments)
    assert done.code == 0
    for words in (
        "2 FOVs",
        "fov2",
        "90 x 80",
        "CD20",
        "float32",
        "ready for `panimbus predict`",
        "GB",
    ):
        assert words in done.out
    report = json.loads(panimbus(*arguments, "--json", "--channels", "DAPI").out)
    assert report["ok"]
    assert [c["name"] for c in report["channels"]] == ["DAPI"]
    other = json.loads(panimbus(*arguments, "--json", "--channels", "CD20").out)
    assert ([c["name"] for c in other["channels"]], other["counterstains"]) == (["CD20"], ["DAPI"])
    assert other["channels"][0]["counterstain"] is not None
    assert report["cost"]["seconds"] > 0
    assert {f["fov_id"]: f["labels"]["cells"] for f in report["fovs"]}.keys() == {"fov1", "fov2"}


def test_inspect_finds_problems_and_still_prints(folder, panimbus, model):
    labels = folder.add("fov1").astype(np.int32)
    labels[0, :3] = -1
    folder.label("fov1", labels)
    plane = np.ones((90, 80), np.float32)
    plane[0, 0] = np.nan
    folder.channel("fov1", "CD3", plane)
    done = panimbus("inspect", folder.images, "--labels", folder.labels, *model)
    assert done.code == 2
    for words in ("CD20", "1 NaN or infinite", "3 pixels", "--mpp", "3 problems would stop"):
        assert words in done.out
    report = json.loads(
        panimbus("inspect", folder.images, "--labels", folder.labels, "--json", *model).out
    )
    assert len(report["problems"]) == 3


def test_inspect_without_labels(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus("inspect", folder.images, "--mpp", "0.5", *model)
    assert done.code == 2
    assert "pass --labels" in done.out


def test_inspect_errors_of_opening(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus("inspect", folder.root / "nowhere", "--json", *model)
    assert (done.code, done.out) == (2, "")
    assert "nowhere" in done.err


@pytest.fixture
def small_demo(monkeypatch):
    monkeypatch.setattr("panimbus.cli.demo.SHAPE", (160, 160))


def test_demo(panimbus, tmp_path, small_demo, model):
    out = tmp_path / "demo"
    done = panimbus("demo", "--out", out, "--seed", "3", "--tta", "none", *model)
    assert done.code == 0
    assert "mean" in done.out
    assert "CD3" in done.out
    files = {
        "cells.h5ad",
        "cells.csv",
        "normaliser.json",
        "picture.html",
        "picture.png",
        "tissue.ome.tiff",
        "tissue_labels.tiff",
    }
    assert files <= {p.name for p in out.iterdir()}
    page = (out / "picture.html").read_text(encoding="utf-8")
    assert "http:" not in page
    assert "https:" not in page
    assert len(page) < 5_000_000
    command = next(
        line for line in done.out.splitlines() if line.startswith("  panimbus predict")
    ).split()[1:]
    assert panimbus(*command, "--tta", "none").code == 0
    again = pd.read_csv(out / "predicted" / "cells.csv")
    pd.testing.assert_frame_equal(again, pd.read_csv(out / "cells.csv"))


def test_demo_of_real_files(panimbus, tmp_path, make_tissue, model):
    for k in range(2):
        image, labels = make_tissue((80, 70), 30, seed=k, channels=3)
        write_ome_tiff(tmp_path / "images" / f"r{k}.ome.tiff", image, ("CD3", "x<y>", "DAPI"), 1.0)
        write_labels(tmp_path / "labels" / f"r{k}.tiff", labels)
    given = ("demo", tmp_path / "images", "--labels", tmp_path / "labels", "--tta", "none", *model)
    assert panimbus(*given, "--fov", "r1", "--out", tmp_path / "a").code == 0
    assert set(anndata.read_h5ad(tmp_path / "a" / "cells.h5ad").obs["fov_id"]) == {"r1"}
    assert "x&lt;y&gt;" in (tmp_path / "a" / "picture.html").read_text(encoding="utf-8")
    assert panimbus(*given, "--fov", "r1", "--channels", "CD3", "--out", tmp_path / "c").code == 0
    few, all_ = (anndata.read_h5ad(tmp_path / name / "cells.h5ad") for name in "ca")
    assert list(few.var_names) == ["CD3"]
    np.testing.assert_array_equal(few.X, all_[:, "CD3"].X)  # DAPI is looked at all the same
    wrong = panimbus(*given, "--fov", "r7", "--out", tmp_path / "b")
    assert wrong.code == 2
    assert "r0, r1" in wrong.err
    options = ("--labels", tmp_path / "labels", "--tta", "none", *model)
    assert panimbus("predict", tmp_path / "images", *options, "--out", tmp_path / "p").code == 0
    predicted = anndata.read_h5ad(tmp_path / "p" / "cells.h5ad")
    np.testing.assert_array_equal(all_.X, predicted[predicted.obs["fov_id"] == "r1"].X)
    used = ("--normaliser", tmp_path / "p" / "normaliser.json", "--out", tmp_path / "n")
    assert panimbus(*given, "--fov", "r1", *used).code == 0
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "n" / "cells.h5ad").X, all_.X)
    alone = panimbus("demo", "--labels", tmp_path / "labels", "--out", tmp_path / "b")
    assert alone.code == 2
    assert "panimbus demo IMAGES" in alone.err
    assert not (tmp_path / "b").exists()


def test_models(panimbus, model):
    listed = panimbus("models").out
    assert "nimbus" in listed
    assert max(map(len, listed.splitlines())) <= 120
    if DEFAULT_MODEL in shipped_models():
        (line,) = (one.split() for one in listed.splitlines() if "(default)" in one)
        card = resolve_model(DEFAULT_MODEL).card
        assert (line[0], float(line[-1])) == (
            DEFAULT_MODEL,
            round(card.metrics["dev_gold_f1"]["model"]["mean"], 2),
        )
    if model:
        assert json.loads(panimbus("models", model[1]).out)["name"] == "random"
    assert panimbus("models", "nowhere").code == 2
