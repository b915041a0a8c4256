"""`panimbus controls` as a user runs it."""

import shutil

import numpy as np
import pandas as pd
import pytest

import panimbus as package
from panimbus.core.controls import describe_controls
from panimbus.core.table import POSITIVE
from panimbus.infer.output import save_run
from panimbus.infer.rewrite import Changes, changed, open_result, write_result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tissue in which the second marker is said to be blank, scored."""
    folder = tmp_path_factory.mktemp("controls")
    tissue = package.simulate_tissue((192, 192), panel=3, seed=4)
    names = ["CD3", "Blank1", "CD8"]
    fov = package.from_array(tissue.image, tissue.labels, channels=names, mpp=tissue.mpp)
    settings = package.PredictSettings("none")
    save_run(package.predict(fov, settings=settings), folder / "results", ("h5ad",))
    return folder


def test_the_table_and_the_thresholds_are_those_of_the_control(folder, panimbus, tmp_path):
    out = tmp_path / "thresholds.csv"
    done = panimbus("controls", folder / "results", "--rate", "0.02", "--out", out)
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()[1:3]] == ["CD3", "CD8"]
    assert "Blank1" in done.out
    assert f"panimbus recalibrate {folder / 'results'} --thresholds {out}" in done.log
    written = pd.read_csv(out)
    assert written["marker"].tolist() == ["CD3", "CD8"]
    table = package.read_scores(folder / "results" / "cells.h5ad")
    blank = np.asarray(table[:, "Blank1"].X)[:, 0]
    for limit in written["threshold"]:
        assert (blank >= np.float32(limit)).mean() <= 0.02
    again = panimbus("controls", folder / "results", "--out", out)
    assert again.code == 2
    assert "already exists" in again.err


def test_a_recalibrated_marker_is_named_and_has_no_threshold(folder, panimbus, tmp_path):
    results = tmp_path / "my results"
    shutil.copytree(folder / "results", results)
    table = open_result(results)
    write_result(results, changed(table, Changes(scores={"CD3": np.full(table.n_obs, 0.9)})))
    done = panimbus("controls", results, "--out", tmp_path / "t.csv")
    assert done.code == 0, done.err
    assert "recalibrated" in done.err
    assert "CD3" in done.err
    assert pd.read_csv(tmp_path / "t.csv")["marker"].tolist() == ["CD8"]
    assert f"panimbus recalibrate '{results}'" in done.log


def test_predict_names_the_command(folder):
    table = package.read_scores(folder / "results" / "cells.h5ad")
    share = np.asarray(table[:, "Blank1"].layers[POSITIVE]).mean()
    (line,) = describe_controls(table, "results")
    assert line.startswith(f"positive in controls: Blank1 {share:.1%}; ")
    assert line.endswith("panimbus controls results")
    assert describe_controls(table[:, ["CD3"]], "results") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate", "0"], "above 0 and below 1"),
        (["--rate", "one"], "rate"),
        (["--controls", "CD3=CD8"], "'CD8' is no control"),
        (["--controls", "CD3"], "CD3=IgG1"),
        (["--controls", "CD3=Blank1,CD3=Blank1"], "two controls"),
    ],
)
def test_wrong_options(folder, panimbus, options, words):
    done = panimbus("controls", folder / "results", *options)
    assert done.code == 2
    assert words in done.err
