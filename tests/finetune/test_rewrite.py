"""Results with other thresholds or scores: every table, and the types."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr

from panimbus import from_array
from panimbus.cli import app
from panimbus.core.errors import ChannelError, InputError, ReadError
from panimbus.core.table import FovScores, recalibrated_markers, to_anndata
from panimbus.finetune.rewrite import rewrite
from panimbus.infer import rewrite as infer_rewrite
from panimbus.infer.output import save_run
from panimbus.infer.record import check_same_run
from panimbus.infer.rewrite import Changes, changed, open_result
from panimbus.phenotype.repeat import runs_of


def main(words):
    app(words, standalone_mode=False)


MARKERS = ["CD3", "CD20", "CD68"]
N = 60


def make_table(seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, N)
    score = np.clip(np.eye(3)[kind] * 0.7 + rng.uniform(0.05, 0.25, (N, 3)), 0, 1)
    score = score.astype(np.float32)
    score[5, 2] = np.nan
    xy = rng.uniform(0, 90, (N, 2))
    parts = [
        FovScores(f, np.arange(1, 31), *[score[rows]] * 3, np.full(30, 60.0), xy[rows], mpp=1.0)
        for f, rows in (("a", slice(0, 30)), ("b", slice(30, N)))
    ]
    about = {
        "version": "0",
        "model": "plain",
        "model_version": "1",
        "threshold": 0.5,
        "settings": {"tta": "none"},
        "scale": json.dumps({"percentile": 99.9, "over": "all", "fov_ids": [], "channels": {}}),
        "inputs": json.dumps({f: {"mpp": 1.0} for f in "ab"}),
    }
    limits = dict.fromkeys(MARKERS, 0.5)
    normaliser = dict.fromkeys(MARKERS, 1.0)
    return to_anndata(parts, MARKERS, normaliser=normaliser, provenance=about, thresholds=limits)


@pytest.fixture
def results(tmp_path):
    pytest.importorskip("pyarrow")
    folder = tmp_path / "results"
    asked = {"fovs": {}, "channels": MARKERS, "thresholds": {}}
    save_run(make_table(), folder, ("h5ad", "csv", "parquet"), asked=asked)
    return folder


def read_all(folder):
    return {
        "csv": pd.read_csv(folder / "cells.csv"),
        "positive": pd.read_csv(folder / "positive.csv"),
        "parquet": pd.read_parquet(folder / "cells.parquet"),
    }


def test_a_threshold_moves_the_calls_of_every_table(results):
    table = rewrite(results, Changes(thresholds={"CD20": 0.8}))
    written, frames = open_result(results), read_all(results)
    expected = np.where(np.isnan(table.X[:, 1]), np.nan, table.X[:, 1] >= np.float32(0.8))
    assert 0 < expected.sum() < (make_table().X[:, 1] >= 0.5).sum()
    np.testing.assert_array_equal(written.layers["positive"][:, 1], expected)
    np.testing.assert_array_equal(frames["positive"]["CD20"], expected)
    np.testing.assert_array_equal(written.X, make_table().X)
    assert written.var["threshold"].tolist() == [0.5, 0.8, 0.5]
    run = json.loads((results / "run.json").read_text())
    assert json.loads(run["settings"]["thresholds"]) == {"CD20": 0.8}
    assert run["request"]["thresholds"] == {"CD20": 0.8}
    assert "threshold_before" not in written.var
    assert "score_before" not in written.layers


def test_scores_are_replaced_and_taken_back_exactly(results):
    rewrite(results, Changes(thresholds={"CD3": 0.7}))
    before = {p.name: p.read_bytes() for p in results.iterdir() if p.suffix == ".csv"}
    first, run = open_result(results), json.loads((results / "run.json").read_text())
    new = np.linspace(0, 1, N)
    rewrite(results, Changes(scores={"CD3": new}, how={"CD3": {"answers": 5}}))
    written, frames = open_result(results), read_all(results)
    np.testing.assert_allclose(written.X[:, 0], new, rtol=1e-6)
    np.testing.assert_array_equal(written.layers["positive"][:, 0], new >= 0.5)
    np.testing.assert_allclose(frames["csv"]["CD3"], new, rtol=1e-5)
    np.testing.assert_allclose(frames["parquet"]["CD3"], new, rtol=1e-6)
    assert recalibrated_markers(written) == ["CD3"]
    assert written.var["threshold_before"].tolist()[0] == 0.7
    recorded = json.loads((results / "run.json").read_text())
    assert recorded["recalibration"] == {"CD3": {"answers": 5}}
    # a second recalibration and another threshold: what is kept is still the model's own
    rewrite(results, Changes(scores={"CD3": 1 - new, "CD20": new}, thresholds={"CD3": 0.6}))
    assert recalibrated_markers(open_result(results)) == ["CD3", "CD20"]
    rewrite(results, Changes(take_back=["CD20"]))
    assert recalibrated_markers(open_result(results)) == ["CD3"]
    rewrite(results, Changes(take_back=["CD3"]))
    back = open_result(results)
    np.testing.assert_array_equal(back.X, first.X)
    np.testing.assert_array_equal(back.layers["positive"], first.layers["positive"])
    assert set(back.layers) == set(first.layers)
    pd.testing.assert_frame_equal(back.var, first.var)
    assert {p.name: p.read_bytes() for p in results.iterdir() if p.suffix == ".csv"} == before
    assert json.loads((results / "run.json").read_text()) == run


def test_missing_scores_stay_missing(results):
    rewrite(results, Changes(scores={"CD68": np.full(N, 0.9)}))
    written = open_result(results)
    assert np.flatnonzero(np.isnan(written.X[:, 2])).tolist() == [5]
    assert np.flatnonzero(np.isnan(written.layers["positive"][:, 2])).tolist() == [5]


def test_predict_does_not_undo_a_recalibration_unasked(results):
    rewrite(results, Changes(scores={"CD68": np.full(N, 0.9)}))
    asked = {"fovs": {}, "channels": MARKERS, "thresholds": {}}
    with pytest.raises(InputError, match="recalibrated markers: CD68"):
        check_same_run(results, asked)
    check_same_run(results, asked, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (Changes(thresholds={"CD4": 0.5}), ChannelError, "no marker 'CD4'"),
        (Changes(thresholds={"CD3": 1.5}), InputError, "above 0 and below 1"),
        (Changes(scores={"CD4": np.zeros(N)}), ChannelError, "no such markers"),
        (Changes(scores={"CD3": np.zeros(3)}), InputError, "60 numbers from 0 to 1"),
        (Changes(scores={"CD3": np.full(N, 2)}), InputError, "60 numbers from 0 to 1"),
        (Changes(take_back=["CD3"]), InputError, "none is recalibrated"),
    ],
)
def test_refused_before_anything_is_written(results, changes, error, words):
    before = {p.name: p.stat().st_mtime_ns for p in results.iterdir()}
    with pytest.raises(error, match=words):
        rewrite(results, changes)
    assert {p.name: p.stat().st_mtime_ns for p in results.iterdir()} == before


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ReadError, match="no such folder"):
        open_result(tmp_path / "missing")
    with pytest.raises(ReadError, match=r"no run\.json, cells\.h5ad"):
        open_result(tmp_path)


def test_the_columns_of_other_programs_are_kept(tmp_path):
    folder = tmp_path / "results"
    save_run(make_table(), folder, ("h5ad", "csv"), layout="ark")
    header = (folder / "cells.csv").read_text().splitlines()[0]
    rewrite(folder, Changes(thresholds={"CD3": 0.6}))
    assert (folder / "cells.csv").read_text().splitlines()[0] == header


def test_a_crash_leaves_the_old_or_the_new_result(results, monkeypatch):
    before = read_all(results)
    monkeypatch.setattr(infer_rewrite, "write_json", lambda *_: (_ for _ in ()).throw(OSError))
    with pytest.raises(OSError):  # noqa: PT011 (raised above)
        rewrite(results, Changes(thresholds={"CD20": 0.8}))
    for name, frame in read_all(results).items():
        pd.testing.assert_frame_equal(frame, before[name])
    assert open_result(results).var["threshold"].tolist() == [0.5] * 3


@pytest.fixture
def types(results, capsys):
    out = results / "types"
    table = anndata.read_h5ad(results / "cells.h5ad")
    table.X = np.nan_to_num(table.X, nan=0.1)
    table.layers["positive"] = np.nan_to_num(table.layers["positive"])
    save_run(table, results, ("h5ad", "csv", "parquet"))
    words = ["phenotype", "run", str(results / "cells.h5ad"), "--out", str(out), "--no-report"]
    main([*words, "--grid", "3x3"])
    capsys.readouterr()
    return out


def test_types_follow_with_their_edits_and_clusters(results, types, tmp_path, capsys):
    first = anndata.read_h5ad(types / "types.h5ad")
    edits = tmp_path / "edits.jsonl"
    edits.write_text('{"op": "reassign", "cells": ["a:1"], "name": "mine"}\n')
    main(["phenotype", "apply", str(edits), str(types), "--overwrite"])
    b_cells = (first.obs["cell_type"] == "B cell").to_numpy()
    assert 5 < b_cells.sum() < 40
    rewrite(results, Changes(scores={"CD20": np.full(N, 0.02)}))
    after = anndata.read_h5ad(types / "types.h5ad")
    assert not (after.obs["first_type"] == "B cell").any()
    assert after.obs.loc["a:1", "cell_type"] == "mine"
    for name in ("som_node", "metacluster_first"):
        assert after.obs[name].tolist() == first.obs[name].tolist()
    rewrite(results, Changes(take_back=["CD20"]))
    back = anndata.read_h5ad(types / "types.h5ad")
    assert back.obs["first_type"].tolist() == first.obs["first_type"].tolist()
    np.testing.assert_array_equal(back.obsm["type_probability"], first.obsm["type_probability"])


def test_types_of_a_moved_and_of_a_copied_result_follow(results, types, tmp_path, caplog):
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    assert runs_of(copy) == [copy / "types"]
    moved = results.rename(tmp_path / "moved")
    rewrite(moved, Changes(thresholds={"CD20": 0.99}))
    assert not (anndata.read_h5ad(moved / "types/types.h5ad").obs["cell_type"] == "B cell").any()
    assert not caplog.text.count("do not follow")


def test_types_of_other_scores_or_of_none_are_named(results, types, tmp_path, caplog):
    copy = Path(shutil.copytree(results, tmp_path / "copy"))
    rewrite(copy, Changes(scores={"CD20": np.full(N, 0.02)}), types=())
    assert runs_of(copy) == []
    assert f"{copy / 'types'}: the types were made from {results / 'cells.h5ad'}" in caplog.text
    (types / "run.json").write_text("{")
    assert runs_of(results) == []
    assert "unknown scores" in caplog.text


def test_thresholds_of_the_types_themselves_stay_and_are_named(results, types, caplog):
    words = ["phenotype", "run", str(results / "cells.h5ad"), "--out", str(types), "--no-report"]
    main([*words, "--grid", "3x3", "--thresholds", "CD20=0.6", "--overwrite"])
    with caplog.at_level(logging.WARNING):
        rewrite(results, Changes(thresholds={"CD20": 0.7}))
    assert "keep their own thresholds of CD20" in caplog.text
    assert anndata.read_h5ad(types / "types.h5ad").var.loc["CD20", "threshold"] == 0.6


def test_types_of_other_cells_are_refused_before_anything_is_written(results, types):
    table = anndata.read_h5ad(results / "cells.h5ad")[:40].copy()
    save_run(table, results, ("h5ad", "csv", "parquet"))
    before = read_all(results)
    with pytest.raises(InputError, match="types are of other cells"):
        rewrite(results, Changes(thresholds={"CD20": 0.7}))
    pd.testing.assert_frame_equal(read_all(results)["positive"], before["positive"])
    rewrite(results, Changes(thresholds={"CD20": 0.7}), types=())


def test_changed_leaves_the_given_table_alone():
    table = make_table()
    new = changed(table, Changes(scores={"CD3": np.zeros(N)}))
    np.testing.assert_array_equal(table.X, make_table().X)
    assert new.X[:, 0].max() == 0
    assert "threshold_before" not in table.var


def test_the_table_in_a_spatialdata_store_follows(tmp_path):
    folder = tmp_path / "results"
    labels = np.arange(1, 31, dtype=np.uint32).reshape(5, 6)
    image = np.zeros((1, 5, 6))
    fovs = [from_array(image, labels, channels=["x"], mpp=1.0, fov_id=f) for f in "ab"]
    save_run(make_table(), folder, ("h5ad", "spatialdata"), fovs)
    old = {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("a_labels/0/c/*/*")}
    assert old
    rewrite(folder, Changes(thresholds={"CD20": 0.8}))
    store = zarr.open_group(folder / "cells.zarr", mode="r")
    table = anndata.io.read_elem(store["tables/cells"])
    np.testing.assert_array_equal(table.layers["positive"], open_result(folder).layers["positive"])
    np.testing.assert_array_equal(store["labels/a_labels/0"][:], labels)
    assert dict(store["tables/cells"].attrs)["region_key"] == "region"
    assert {p: (folder / p).stat().st_mtime_ns for p in old} == old


def test_two_processes_lose_none_of_each_others_changes(results):
    limits = {"CD3": [0.6, 0.61, 0.62], "CD20": [0.7, 0.71, 0.72]}
    code = (
        "import sys; from panimbus.finetune.rewrite import rewrite;"
        " from panimbus.infer.rewrite import Changes;"
        " [rewrite(sys.argv[1], Changes({sys.argv[2]: float(t)})) for t in sys.argv[3:]]"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(results), m, *map(str, values)])
        for m, values in limits.items()
    ]
    assert [one.wait(60) for one in running] == [0, 0]
    assert open_result(results).var["threshold"].tolist() == [0.62, 0.72, 0.5]
