"""Batches as a user has them: three days, of which one is stained differently in one marker."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import panimbus as package
from panimbus.core.table import BATCH
from panimbus.infer.output import read_normaliser


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Twelve FOVs of one panel; CD20 is three times as bright on Tuesday."""
    folder = tmp_path_factory.mktemp("days")
    simulated = folder / "simulated"
    options = ("--fovs", "12", "--seed", "5", "--side", "320", "--platform", "codex")
    command = [sys.executable, "-m", "panimbus", "simulate", "--out", simulated, *options]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for k, fov in enumerate(package.open_fovs(simulated / "images", simulated / "labels")):
        name = f"{('mon', 'tue', 'wed')[k % 3]}_{k}"
        image = np.asarray(fov.image[:]).astype(np.float32)
        image[fov.channels.index("CD20")] *= 3 if k % 3 == 1 else 1
        package.write_ome_tiff(folder / "images" / f"{name}.ome.tiff", image, fov.channels, fov.mpp)
        package.write_labels(folder / "labels" / f"{name}.tiff", np.asarray(fov.labels[:]))
    return folder


def arguments(days, out, *options):
    return (
        "predict", days / "images", "--labels", days / "labels", "--out", out, "--tta", "none",
        "--channels", "CD3,CD20,PanCK", *options,
    )  # fmt: skip


@pytest.mark.slow
def test_a_day_is_named_and_normalised_apart(days, panimbus, tmp_path):
    one, apart, pattern = tmp_path / "one", tmp_path / "apart", ("--batches", "^([a-z]+)_")
    done = panimbus(*arguments(days, one, *pattern))
    assert done.code == 0, done.err
    (line,) = [text for text in done.out.splitlines() if text.startswith("batch ")]
    assert line.startswith("batch tue differs in 1 of 3 channels: CD20 3")
    together = package.read_scores(one / "cells.h5ad")
    assert together.obs[BATCH].value_counts().index.isin(["mon", "tue", "wed"]).all()

    done = panimbus(*arguments(days, apart, *pattern, "--normalise-by-batch"))
    assert done.code == 0, done.err
    separate = package.read_scores(apart / "cells.h5ad")
    assert separate.obs_names.tolist() == together.obs_names.tolist()
    pd.testing.assert_frame_equal(separate.obs, together.obs)
    values = {d: read_normaliser(apart / f"normaliser_{d}.json").value("CD20") for d in
              ("mon", "tue", "wed")}  # fmt: skip
    assert values["tue"] > 2 * max(values["mon"], values["wed"])
    assert json.loads((apart / "normaliser.json").read_text()) == json.loads(
        (one / "normaliser.json").read_text()
    )

    # the scores of a batch are those of that batch alone
    alone = tmp_path / "alone"
    tuesday = [*sorted((days / "images").glob("tue_*"))]
    done = panimbus(
        "predict", *tuesday, "--labels", days / "labels", "--out", alone, "--tta", "none",
        "--channels", "CD3,CD20,PanCK",
    )  # fmt: skip
    assert done.code == 0, done.err
    tables = separate[separate.obs[BATCH] == "tue"], package.read_scores(alone / "cells.h5ad")
    np.testing.assert_array_equal(tables[0].X, tables[1][tables[0].obs_names].X)

    done = panimbus("batches", apart, "--before", one, "--out", tmp_path / "changes.csv")
    assert done.code == 0, done.err
    changes = pd.read_csv(tmp_path / "changes.csv").set_index(["batch", "marker"])["changed"]
    differ = np.asarray(separate.layers["positive"] != together.layers["positive"])
    wednesday = (separate.obs[BATCH] == "wed").to_numpy()
    column = separate.var_names.get_loc("CD20")
    assert changes["wed", "CD20"] == pytest.approx(differ[wednesday, column].mean(), abs=1e-6)
    # the net is told of each FOV's own cells: a stronger stain changes hardly any call
    assert changes.max() < 0.03

    first = separate.obs.iloc[:20]
    calls = pd.DataFrame({"fov": first["fov_id"].astype(str), "cell_id": first["cell_id"]})
    calls = calls.assign(channel="CD3", call=["positive", "negative"] * 10)
    calls.to_csv(tmp_path / "monday.csv", index=False)
    evaluate = ("evaluate", tmp_path / "monday.csv", "--table", apart / "cells.h5ad", "--out")
    done = panimbus(*evaluate, tmp_path / "evaluation")
    assert done.code == 0, done.err
    assert "annotations of one batch only" in done.err
    other = separate[separate.obs[BATCH] == "tue"].obs.iloc[:20]
    more = calls.assign(
        fov=other["fov_id"].astype(str).to_numpy(), cell_id=other["cell_id"].to_numpy()
    )
    pd.concat([calls, more]).to_csv(tmp_path / "monday.csv", index=False)
    done = panimbus(*evaluate, tmp_path / "evaluation", "--overwrite")
    assert done.code == 0, done.err
    assert "Leave one batch out" in done.out
    left_out = pd.read_csv(tmp_path / "evaluation" / "batches.csv")
    assert set(left_out["batch"]) == {"mon", "tue"}

    done = panimbus(*arguments(days, apart, *pattern))
    assert done.code == 2
    assert "normalise-by-batch: true there, false here" in done.err


@pytest.mark.slow
def test_batches_of_a_result_that_was_scored_without(days, panimbus, tmp_path):
    done = panimbus(*arguments(days, tmp_path / "out"))
    assert done.code == 0, done.err
    assert panimbus("batches", tmp_path / "out").code == 2
    table = pd.DataFrame({"image": [p.name.split(".")[0] for p in (days / "images").iterdir()]})
    table.assign(slide=table["image"].str[:3]).to_csv(tmp_path / "slides.csv", index=False)
    done = panimbus("batches", tmp_path / "out", "--batches", tmp_path / "slides.csv")
    assert done.code == 0, done.err
    assert "batch tue: 4 FOVs" in done.out
    assert "batch tue differs in 1 of 3 channels: CD20" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--normalise-by-batch"], "pass --batches"),
        (["--batches", "(day"], "no regular expression"),
        (["--batches", "(m)(o)n"], "2 groups"),
        (["--batches", "^(m)on"], "tue_1"),
        (["--batches", "mon_0=a"], "no batch of"),
        (["--batches", "(_)"], "only one batch"),
        (["--batches", "days.csv"], "no such file"),
        (["--batches", "(mon|tue|wed)", "--shard", "1/2"], "Shards know no batches"),
    ],
)
def test_wrong_batches(days, panimbus, tmp_path, options, words):
    done = panimbus(*arguments(days, tmp_path / "out", *options))
    assert done.code == 2, done.out
    assert words in done.err
    assert not (tmp_path / "out" / "cells.h5ad").exists()
