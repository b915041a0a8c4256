"""`panimbus recalibrate` as a user runs it."""

import numpy as np
import pandas as pd
import pytest

from panimbus.core.table import FovScores, to_anndata
from panimbus.infer.output import save_run
from panimbus.infer.rewrite import open_result


@pytest.fixture
def results(tmp_path):
    rng = np.random.default_rng(0)
    score = rng.random((60, 2)).astype(np.float32)
    ids = np.arange(1, 61)
    part = FovScores("a", ids, score, 0 * score, score, np.full(60, 50.0), rng.random((60, 2)))
    about = {
        "model": "compact-7", "threshold": 0.5, "settings": {"tta": "none"},
        "scale": '{"percentile": 99.9, "over": "all", "fov_ids": [], "channels": {}}',
        "inputs": '{"a": {"mpp": 1.0}}',
    }  # fmt: skip
    table = to_anndata(
        [part], ["CD3", "CD20"], normaliser={"CD3": 1.0, "CD20": 1.0}, provenance=about,
        thresholds={"CD3": 0.5, "CD20": 0.5},
    )  # fmt: skip
    save_run(table, tmp_path / "results", ("h5ad", "csv"))
    calls = np.where(score[:20, 0] > 0.7, "positive", "negative")
    frame = pd.DataFrame({"fov": "a", "cell_id": ids[:20], "channel": "CD3", "call": calls})
    frame.to_csv(tmp_path / "answers.csv", index=False)
    return tmp_path / "results"


def test_there_and_back(results, panimbus):
    before = open_result(results).X
    done = panimbus("recalibrate", results, results.parent / "answers.csv")
    assert done.code == 0, done.err
    assert "CD3" in done.out
    assert "20 answers, 1 of 1 markers recalibrated" in done.out
    assert not np.array_equal(open_result(results).X, before)
    done = panimbus("recalibrate", results, "--thresholds", "CD20=0.8")
    assert done.code == 0, done.err
    assert open_result(results).var["threshold"].tolist() == [0.5, 0.8]
    done = panimbus("recalibrate", results, "--take-back", "all")
    assert done.code == 0, done.err
    assert done.out == "taken back: CD3\n"
    np.testing.assert_array_equal(open_result(results).X, before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "annotations/log.jsonl"),
        (("answers.csv", "--thresholds", "CD3=0.4"), "cannot be combined"),
        (("--take-back", "CD3"), "none is recalibrated"),
        (("--take-back", "all"), "no marker is recalibrated"),
        (("--thresholds", "CD4=0.4"), "no marker 'CD4'"),
        (("missing.csv",), "missing.csv"),
        (("answers.csv", "--types", "nowhere"), "not a folder that `panimbus phenotype run` wrote"),
    ],
)
def test_bad_input(results, panimbus, options, words):
    before = {p.name: p.stat().st_mtime_ns for p in results.glob("[!.]*")}
    here = [results.parent / o if o.endswith(".csv") else o for o in options]
    done = panimbus("recalibrate", results, *here)
    assert done.code == 2, done.out
    assert words in done.err
    assert "Traceback" not in done.err
    assert {p.name: p.stat().st_mtime_ns for p in results.glob("[!.]*")} == before


def test_no_result(tmp_path, panimbus):
    done = panimbus("recalibrate", tmp_path / "nothing", "--thresholds", "CD3=0.4")
    assert done.code == 2
    assert "no such folder" in done.err
