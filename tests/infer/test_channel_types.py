"""Declared types reach the table and the statistics; the first pass is done anew where they change."""

import json

import numpy as np
import tifffile

from panimbus.infer.output import save_run
from panimbus.io import open_fovs
from panimbus.io.scores import read_scores


def _stats(table):
    return {
        c: stats for c, stats in json.loads(table.uns["panimbus"]["scale"])["channels"].items() if "counterstain" in str(stats)
    }


def test_types_in_the_table(run, model, fov):
    table = run(fov().with_(channel_types={"b": "counterstain"}), model("plain"))
    assert table.var["channel_type"].astype(str).tolist() == ["marker", "counterstain"]


def test_a_type_that_is_declared_later_counts(run, model, fov, tmp_path):
    one = fov()
    tifffile.imwrite(
        tmp_path / "f.ome.tif", one.image, metadata={"axes": "CYX", "Channel": {"Name": ["a", "b"]}}, photometric="minisblack"
    )
    tifffile.imwrite(tmp_path / "m.tif", one.labels)

    def scored(**options):
        return run(open_fovs(tmp_path / "f.ome.tif", tmp_path / "m.tif", mpp=1, **options), model("plain"), out=tmp_path / "out")

    assert not _stats(scored())
    assert set(_stats(scored(channel_types={"b": "counterstain"}))) == {"a", "b"}
    assert not _stats(scored())


def test_ids_among_the_channels_are_said(run, model, fov, caplog):
    one = fov()
    image = np.asarray(one.image).astype(np.float32).copy()
    image[1] = one.labels
    run(one.with_(image=image), model("plain"))
    assert "channel 'b' holds the ids of the cells" in caplog.text


def test_odd_names_come_back_from_every_table(run, model, fov, tmp_path):
    names = ("CD3", "cd3", "a/b", "=1+1", "HLA-DR,DP", 'q"x', "\U0001f600", "nan")
    one = fov(channels=8)
    one = one.with_(channels=names)
    table = run(one, model("plain"))
    save_run(table, tmp_path, ("h5ad", "csv", "parquet"), [one])
    for file in ("cells.h5ad", "cells.csv", "cells.parquet"):
        read = read_scores(tmp_path / file)
        np.testing.assert_array_equal(read[:, list(names)].X, table.X, err_msg=file)
