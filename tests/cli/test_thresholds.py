"""`panimbus predict --thresholds`: the calls of one process and of shards, and what is refused
before anything is read."""

import anndata
import numpy as np
import pandas as pd
import pytest


def test_calls_of_one_process_and_of_shards(folder, panimbus, model):
    folder.add("fov1")
    (folder.root / "t.csv").write_text("marker,threshold\nCD3,0.2\nDAPI,0.9\n")
    told = ("--thresholds", "CD3=0.2,DAPI=0.9")
    done = panimbus(*folder.arguments(*model, *told))
    assert (done.code, done.err) == (0, "")
    assert "score >= 0.9" in done.out
    table = anndata.read_h5ad(folder.out / "cells.h5ad")
    assert dict(table.var["threshold"]) == {"CD3": 0.2, "CD20": 0.5, "DAPI": 0.9}
    thresholds = table.var["threshold"].to_numpy(np.float32)
    np.testing.assert_array_equal(table.layers["positive"], thresholds <= table.X)
    frame = pd.read_csv(folder.out / "positive.csv")
    np.testing.assert_array_equal(frame[list(table.var_names)], table.layers["positive"])
    np.testing.assert_array_equal(frame["label"], table.obs["cell_id"])
    shares = [folder.root / "shares" if a == folder.out else a for a in folder.arguments(*model)]
    assert panimbus(*shares, "--thresholds", folder.root / "t.csv", "--shard", "1/1").code == 0
    done = panimbus("merge", folder.root / "shares")
    assert done.code == 0
    assert "score >= 0.9" in done.out
    assert (folder.root / "shares" / "positive.csv").read_bytes() == (
        folder.out / "positive.csv"
    ).read_bytes()


@pytest.mark.parametrize("shard", [(), ("--shard", "1/1")])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "CD4=0.6,cd20=0.5",
            (
                "no marker 'CD4' (did you mean 'CD3'?)",
                "no marker 'cd20' (did you mean 'CD20'?)",
                "available: CD3, CD20",
            ),
        ),
        (
            "CD3=high,CD20=0.5,CD20=2",
            ("CD3: 'high' is not a number", "CD20: twice", "CD20: '2' is not above 0"),
        ),
        ("nowhere.csv", ("no such file",)),
    ],
)
def test_one_message(text, words, shard, folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(*folder.arguments(*model, "--thresholds", text, *shard))
    assert done.code == 2
    assert all(w in done.err for w in words), done.err
    assert "Traceback" not in done.err
    assert folder.written() == []


def test_only_of_the_channels_to_score(folder, panimbus, model):
    folder.add("fov1")
    done = panimbus(*folder.arguments(*model, "--channels", "CD3", "--thresholds", "DAPI=0.5"))
    assert done.code == 2
    assert "available: CD3" in done.err
