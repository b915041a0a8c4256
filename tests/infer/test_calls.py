"""Thresholds per marker: they make the calls and nothing else."""

import json

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import ChannelError, InputError
from panimbus.infer import executor
from panimbus.infer.distribute.manifest import Request
from panimbus.infer.distribute.shards import merge, predict_shard
from panimbus.infer.output import save_run, summary
from panimbus.infer.passes import Shard
from panimbus.infer.predict import PredictSettings, predict
from panimbus.io import write_labels, write_ome_tiff

SETTINGS = {"tta": "none", "precision": "float32", "device": "cpu", "threads": 1}


@pytest.fixture
def files(tmp_path, fov):
    """Paths of a FOV on disk."""
    f = fov()
    write_ome_tiff(tmp_path / "f1.ome.tiff", f.image, f.channels, 1.0)
    write_labels(tmp_path / "labels.tiff", f.labels)
    return {"images": (str(tmp_path / "f1.ome.tiff"),), "labels": (str(tmp_path / "labels.tiff"),)}


def test_the_card_has_the_threshold_unless_another_is_given(model, fov):
    plain = predict(fov(), model=model("plain"), settings=PredictSettings(**SETTINGS))
    np.testing.assert_array_equal(plain.layers["positive"], plain.X >= 0.5)
    assert plain.var["threshold"].tolist() == [0.5, 0.5]
    assert "thresholds" not in plain.uns["panimbus"]["settings"]
    middle = float(np.median(plain.X[:, 1]))
    table = predict(
        fov(), model=model("plain"), settings=PredictSettings(**SETTINGS, thresholds={"b": middle})
    )
    np.testing.assert_array_equal(table.X, plain.X)
    np.testing.assert_array_equal(
        table.layers["positive"], np.stack([plain.X[:, 0] >= 0.5, plain.X[:, 1] >= middle], 1)
    )
    assert 0 < table.layers["positive"][:, 1].sum() < len(table)
    assert table.var["threshold"].tolist() == [0.5, middle]
    assert json.loads(table.uns["panimbus"]["settings"]["thresholds"]) == {"b": middle}


def test_refused_before_anything_is_read(model, fov):
    class Unread:
        shape, dtype = (2, 72, 56), np.dtype(np.uint16)

        def __getitem__(self, key):
            raise AssertionError("it was read")

    f = fov().with_(image=Unread())
    with pytest.raises(ChannelError, match="no marker 'c'"):
        predict(f, model=model("plain"), settings=PredictSettings(thresholds={"c": 0.5}))
    with pytest.raises(ChannelError, match="no marker 'a'"):
        predict(
            f, model=model("plain"), channels=["b"], settings=PredictSettings(thresholds={"a": 0.5})
        )
    with pytest.raises(InputError, match="a: 1"):
        predict(f, model=model("plain"), settings=PredictSettings(thresholds={"a": 1.0}))


def test_other_thresholds_score_nothing_again(files, model, tmp_path, monkeypatch, same_table):
    """Nor after shards; and shards carry them."""
    request = Request(
        **files,
        model=str(model("plain")),
        settings=PredictSettings(**SETTINGS, thresholds={"a": 0.4}),
    )
    predict_shard(request, out=tmp_path / "out", shard=Shard(1, 1))
    merged, _ = merge(tmp_path / "out")
    assert merged.var["threshold"].tolist() == [0.4, 0.5]
    thresholds = merged.var["threshold"].to_numpy(np.float32)
    np.testing.assert_array_equal(merged.layers["positive"], thresholds <= merged.X)
    for name in ("scan_unit", "score_blocks"):
        monkeypatch.setattr(executor, name, None)
    given = {"model": model("plain"), "out": tmp_path / "out"}
    same_table(
        predict(
            request.open(), settings=PredictSettings(**SETTINGS, thresholds={"a": 0.4}), **given
        ),
        merged,
    )
    other = predict(
        request.open(), settings=PredictSettings(**SETTINGS, thresholds={"b": 0.9}), **given
    )
    assert other.var["threshold"].tolist() == [0.5, 0.9]
    np.testing.assert_array_equal(other.X, merged.X)


def test_files_and_summary(model, fov, tmp_path):
    table = predict(
        fov(), model=model("plain"), settings=PredictSettings(**SETTINGS, thresholds={"b": 0.4})
    )
    save_run(table, tmp_path, ("csv",))
    frame = pd.read_csv(tmp_path / "positive.csv")
    assert list(frame) == ["fov", "label", "a", "b"]
    np.testing.assert_array_equal(frame[["a", "b"]], table.layers["positive"])
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["thresholds"] == '{"b": 0.4}'
    scale = json.loads(table.uns["panimbus"]["scale"])
    text = summary(table, tmp_path, scale).splitlines()
    assert text[0].endswith("positive (score >= 0.5, or the threshold shown):")
    shares = 100 * table.layers["positive"].mean(0)
    assert text[1].split() == ["a", f"{shares[0]:.1f}", "%"]
    assert text[2].split() == ["b", f"{shares[1]:.1f}", "%", "score", ">=", "0.4"]
    save_run(table, tmp_path / "h5ad", ("h5ad",))
    assert not (tmp_path / "h5ad" / "positive.csv").exists()


def test_missing_scores(model, fov, tmp_path):
    table = predict(fov(), model=model("plain"), settings=PredictSettings(**SETTINGS))
    table.layers["positive"] = table.layers["positive"].astype(np.float32)
    table.layers["positive"][:3, 0] = np.nan
    table.layers["positive"][3:, 0] = 1
    line = summary(table, tmp_path, {"channels": {}}).splitlines()[1]
    assert line.split() == ["a", "100.0", "%", "3", "cells", "missing"]
