"""Ids that a float64 cannot tell apart, side by side, from label image to every table."""

import anndata
import numpy as np
import pandas as pd
import pytest

from panimbus.core import scan
from panimbus.infer import blocks
from panimbus.infer.distribute.manifest import Request
from panimbus.infer.distribute.shards import merge, predict_shard
from panimbus.infer.output import save_run
from panimbus.infer.passes import Shard
from panimbus.infer.predict import PredictSettings, predict
from panimbus.infer.preflight import inspect_fovs
from panimbus.io import open_fovs, write_labels, write_ome_tiff

IDS = np.array([5, 2**53, 2**53 + 1, 2**53 + 2, 2**62, 2**62 + 1, 2**63 - 1])
SETTINGS = {"tta": "none", "tile": 112, "precision": "float32", "device": "cpu", "threads": 1}


def tissue(dtype, mpp=1.0):
    """Stripes 20 µm wide, each cell's pixels twice as bright as the ones before it."""
    side = int(140 / mpp)
    column = np.minimum(np.arange(side) // int(20 / mpp), len(IDS) - 1)
    labels = IDS.astype(dtype)[column][None].repeat(side, 0)
    return (np.uint16(2) ** (column + 1)).astype(np.uint16)[None, None].repeat(side, 1), labels


@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
@pytest.mark.parametrize("mpp", [1.0, 0.5, 0.7])
def test_from_files_to_tables(dtype, mpp, model, tmp_path, monkeypatch, same_table):
    monkeypatch.setattr(blocks, "READ_SIDE", 1)
    monkeypatch.setattr(scan, "BAND_PIXELS", 40 * 140)
    image, labels = tissue(dtype, mpp)
    write_ome_tiff(tmp_path / "f1.ome.tiff", image, ("CD3",), mpp)
    write_labels(tmp_path / "labels.tiff", labels)
    fovs = open_fovs(tmp_path / "f1.ome.tiff", tmp_path / "labels.tiff")
    table = predict(
        fovs, model=model("plain"), settings=PredictSettings(**SETTINGS), out=tmp_path / "out"
    )
    assert table.obs["cell_id"].tolist() == IDS.tolist()
    assert list(table.obs_names) == [f"{fovs[0].fov_id}:{i}" for i in IDS.tolist()]
    brightness = [2.0 ** (k + 1) for k in range(len(IDS))]
    assert table.layers["intensity_mean"].ravel().tolist() == brightness
    assert table.layers["neighbour_max"].ravel().tolist() == [*brightness[1:], brightness[-2]]
    same_table(
        predict(
            fovs, model=model("plain"), settings=PredictSettings(**SETTINGS), out=tmp_path / "out"
        ),
        table,
    )
    request = Request(
        (str(tmp_path / "f1.ome.tiff"),), (str(tmp_path / "labels.tiff"),),
        model=str(model("plain")), settings=PredictSettings(**SETTINGS),
    )  # fmt: skip
    for k in (2, 1):
        predict_shard(request, out=tmp_path / "shards", shard=Shard(k, 2))
    same_table(merge(tmp_path / "shards")[0], table)
    save_run(table, tmp_path / "out", ("h5ad", "csv", "parquet", "spatialdata"), fovs)
    read = [pd.read_csv(tmp_path / "out" / name)["label"] for name in ("cells.csv", "positive.csv")]
    read += [pd.read_parquet(tmp_path / "out" / "cells.parquet")["label"]]
    read += [anndata.read_h5ad(tmp_path / "out" / "cells.h5ad").obs["cell_id"]]
    read += [pd.Series(np.unique(store)) for store in _spatialdata(tmp_path / "out" / "cells.zarr")]
    for ids in read:
        assert ids.tolist() == IDS.tolist()


def _spatialdata(path):
    import zarr

    store = zarr.open_group(path, mode="r")
    (labels,) = store["labels"].groups()
    return store["tables"]["cells"]["obs"]["cell_id"][:], labels[1]["0"][:]


def test_inspect(model, monkeypatch):
    monkeypatch.setattr("panimbus.infer.cost._time", lambda *_: ("none", 1e-6, 0.1))
    from panimbus.io import from_array

    image, labels = tissue(np.uint64)
    labels[3:5, 3:5] = 2**53 + 1
    report = inspect_fovs(
        from_array(image, labels, channels=["CD3"], mpp=1.0), model=model("plain")
    )
    assert report.fovs[0].labels.cells == len(IDS)
    assert report.fovs[0].labels.in_pieces == 1
    assert report.objects == {}, "each is as large as the others"
