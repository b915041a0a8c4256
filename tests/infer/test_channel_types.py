"""Declared types reach the table and the statistics; the first pass is done anew where they change."""

import json

import numpy as np
import tifffile

from panimbus.io import open_fovs


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
