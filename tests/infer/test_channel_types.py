"""Declared types reach the table and the statistics; the first pass is done anew where they
change."""

import json

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from panimbus.infer.label_channels import holds_ids
from panimbus.infer.output import save_run
from panimbus.infer.preflight import inspect_fovs
from panimbus.io import open_fovs
from panimbus.io.scores import read_scores


def _stats(table):
    return {
        c: stats
        for c, stats in json.loads(table.uns["panimbus"]["scale"])["channels"].items()
        if "counterstain" in str(stats)
    }


def test_types_in_the_table(run, model, fov):
    table = run(fov().with_(channel_types={"b": "counterstain"}), model("plain"))
    assert table.var["channel_type"].astype(str).tolist() == ["marker", "counterstain"]


def test_a_type_that_is_declared_later_counts(run, model, fov, tmp_path):
    one = fov()
    tifffile.imwrite(
        tmp_path / "f.ome.tif",
        one.image,
        metadata={"axes": "CYX", "Channel": {"Name": ["a", "b"]}},
        photometric="minisblack",
    )
    tifffile.imwrite(tmp_path / "m.tif", one.labels)

    def scored(**options):
        return run(
            open_fovs(tmp_path / "f.ome.tif", tmp_path / "m.tif", mpp=1, **options),
            model("plain"),
            out=tmp_path / "out",
        )

    assert not _stats(scored())
    assert set(_stats(scored(channel_types={"b": "counterstain"}))) == {"a", "b"}
    assert not _stats(scored())


def test_ids_among_the_channels_are_said(run, model, fov, caplog):
    one = fov()
    image = np.asarray(one.image).astype(np.float32).copy()
    image[1] = one.labels
    run(one.with_(image=image), model("plain"))
    assert "channel 'b' contains the ids of the cells" in caplog.text


def _renumbered(labels):
    """Other ids, as another program counts them: in another order, from 1."""
    order = np.random.default_rng(1).permutation(int(labels.max())) + 1
    return np.concatenate([[0], order])[labels]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_another_label_image_among_the_channels_is_said(run, model, fov, caplog, dtype):
    one = fov()
    image = np.asarray(one.image).astype(dtype).copy()
    nuclei = ndimage.grey_erosion(np.asarray(one.labels), 3)
    image[1] = _renumbered(nuclei)
    odd = one.with_(image=image)
    words = (
        "channel 'b' looks like a label image (each value is in one place), not a marker: leave it"
        " out with --channels"
    )
    run(odd, model("plain"))
    assert words in caplog.text
    assert words in inspect_fovs(odd, model=model("plain")).warnings
    assert "'a' looks like" not in caplog.text


@pytest.mark.parametrize(
    "kind", ["blank", "counts", "mask", "classes", "smooth", "noise", "8 bits"]
)
def test_markers_are_no_label_images(kind):
    rng, yy = np.random.default_rng(0), np.mgrid[:300, :300][0]
    cells = np.kron(np.arange(900).reshape(30, 30), np.ones((10, 10), int))
    plane = {
        "blank": np.zeros((300, 300), np.uint8),
        "counts": rng.poisson(0.02, (300, 300)),
        "mask": (cells % 2).astype(np.uint8),
        "classes": cells % 7,
        "smooth": (ndimage.gaussian_filter(rng.gamma(1, 1, (300, 300)), 4) * 100).astype(np.uint16),
        "noise": rng.integers(0, 65536, (300, 300)),
        "8 bits": np.minimum(rng.gamma(1, 60, (300, 300)) * (yy > 100), 255).astype(np.uint8),
    }[kind]
    assert not holds_ids(plane)
    assert holds_ids(cells)


@pytest.mark.parametrize(
    "path",
    ["brain_mibi/images/Point1", "dcis_mibi/images/Point2328_pt1099_20734", "spleen_imc/images/r8"],
)
def test_no_real_channel_is_a_label_image(shared_data, path):
    (fov,) = open_fovs(shared_data / f"{path}.ome.tiff")
    assert not [c for k, c in enumerate(fov.channels) if holds_ids(fov.image[k, :512, :512])]


def test_odd_names_come_back_from_every_table(run, model, fov, tmp_path):
    names = ("CD3", "cd3", "a/b", "=1+1", "HLA-DR,DP", 'q"x', "\U0001f600", "nan")
    one = fov(channels=8)
    one = one.with_(channels=names)
    table = run(one, model("plain"))
    save_run(table, tmp_path, ("h5ad", "csv", "parquet"), [one])
    for file in ("cells.h5ad", "cells.csv", "cells.parquet"):
        read = read_scores(tmp_path / file)
        np.testing.assert_array_equal(read[:, list(names)].X, table.X, err_msg=file)
