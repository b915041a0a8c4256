"""`panimbus inspect`, `panimbus demo` and `panimbus models` as a user runs them."""

import json

import numpy as np
import pandas as pd
import pytest

from panimbus.cli.console import open_page
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
    files = {"cells.h5ad", "cells.csv", "normaliser.json", "report.html"}
    assert files | {"tissue.ome.tiff", "tissue_labels.tiff"} <= {p.name for p in out.iterdir()}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "truth, errors outlined" in page
    assert "http:" not in page
    assert "https:" not in page
    assert len(page) < 8_500_000
    predict, report = (
        line.split()[1:] for line in done.out.splitlines() if line.startswith("  panimbus ")
    )
    assert panimbus(*predict, "--tta", "none").code == 0
    again = pd.read_csv(out / "predicted" / "cells.csv")
    pd.testing.assert_frame_equal(again, pd.read_csv(out / "cells.csv"))
    assert panimbus(*report).code == 0
    assert "score of each cell" in (out / "predicted" / "report.html").read_text(encoding="utf-8")


def test_demo_takes_no_images(panimbus, tmp_path, model):
    done = panimbus("demo", tmp_path / "image.tiff", "--out", tmp_path / "demo", *model)
    assert done.code == 2
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("terminal", "environment", "opened"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (False, {"DISPLAY": ":0"}, False),
        (True, {}, False),
        (True, {"DISPLAY": ":0", "CI": "true"}, False),
    ],
)
def test_a_page_opens_only_before_a_screen(monkeypatch, terminal, environment, opened):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sys.stdout", type("Out", (), {"isatty": lambda _: terminal})())
    addresses = []
    monkeypatch.setattr("webbrowser.open", addresses.append)
    open_page("file:///a/page.html")
    assert addresses == ["file:///a/page.html"] * opened


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
