"""``panimbus predict`` and ``inspect`` of a slide on a server, and of and into SpatialData."""

import json

import anndata
import numpy as np
import pytest
import zarr

from panimbus.io import open_fovs, write_ome_zarr
from panimbus.io.spatialdata_writer import write_spatialdata

CHANNELS = ("CD3", "CD20", "DAPI")


@pytest.fixture
def slide(store_server, make_tissue, monkeypatch):
    """``slide.zarr`` and ``cells.zarr`` (its label image) on a server: their addresses."""
    pytest.importorskip("aiohttp")
    from panimbus.io import remote

    monkeypatch.setattr(remote, "WAIT", 0.001)
    image, labels = make_tissue((90, 80), 30, channels=3)
    write_ome_zarr(store_server.root / "slide.zarr", image, CHANNELS, 0.5)
    write_ome_zarr(store_server.root / "cells.zarr", labels[np.newaxis], ["ids"], 0.5)
    return f"{store_server.url}/slide.zarr", f"{store_server.url}/cells.zarr"


def test_predict_from_a_server(slide, store_server, panimbus, model, tmp_path):
    arguments = (
        "predict",
        slide[0],
        "--labels",
        slide[1],
        "--out",
        tmp_path / "out",
        "--tta",
        "none",
        *model,
    )
    store_server.trouble = {"slide.zarr/0/c/1/0/0": [503, "drop"]}
    done = panimbus(*arguments)
    assert done.code == 0, done.err
    table = anndata.read_h5ad(tmp_path / "out" / "cells.h5ad")
    assert table.obs["fov_id"].unique().tolist() == ["slide"]
    assert json.loads(table.uns["panimbus"]["inputs"])["slide"]["image"] == slide[0]
    here = panimbus("predict", store_server.root / "slide.zarr", "--labels", store_server.root / "cells.zarr",
                    "--out", tmp_path / "here", "--tta", "none", *model)  # fmt: skip
    assert here.code == 0, here.err
    np.testing.assert_array_equal(table.X, anndata.read_h5ad(tmp_path / "here" / "cells.h5ad").X)

    store_server.asked.clear()
    assert panimbus(*arguments).code == 0
    assert store_server.chunks() == []  # the same by the server's word: nothing is read again
    store_server.validators = False
    assert panimbus(*arguments).code == 0
    assert store_server.chunks() != []
    store_server.asked.clear()
    assert panimbus(*arguments).code == 0
    assert store_server.chunks() != []  # who knows whether it is the same


def test_shares_from_a_server(slide, panimbus, model, tmp_path):
    arguments = ("predict", slide[0], "--labels", slide[1], "--tta", "none", *model)
    for share in ("1/2", "2/2"):
        done = panimbus(
            *arguments, "--out", tmp_path / "shares", "--shard", share, "--stage", "scan"
        )
        assert done.code == 0, done.err
    for share in ("1/2", "2/2"):
        assert panimbus(*arguments, "--out", tmp_path / "shares", "--shard", share).code == 0
    done = panimbus("merge", tmp_path / "shares", "--tables", "h5ad,spatialdata")
    assert done.code == 0, done.err
    assert (tmp_path / "shares" / "cells.zarr" / "labels" / "slide_labels" / "zarr.json").is_file()
    assert panimbus(*arguments, "--out", tmp_path / "whole").code == 0
    one, two = (anndata.read_h5ad(tmp_path / name / "cells.h5ad") for name in ("shares", "whole"))
    np.testing.assert_array_equal(one.X, two.X)


def test_inspect_on_a_server(slide, panimbus, model):
    done = panimbus("inspect", slide[0], "--labels", slide[1], "--json", *model)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["fovs"][0]["fov_id"] == "slide"


def test_what_is_wrong_on_a_server(slide, store_server, panimbus, model, tmp_path):
    def refused(image, labels, *says):
        for verb, more in (("predict", ("--out", tmp_path / "out")), ("inspect", ())):
            done = panimbus(verb, image, "--labels", labels, *more, *model)
            assert done.code == 2, (done.out, done.err)
            assert "Traceback" not in done.err
            for words in says:
                assert words in done.err + done.out, done.err + done.out

    refused(
        f"{store_server.url}/none.zarr",
        slide[1],
        "none.zarr: there is no OME-Zarr at this address",
        "fix:",
    )
    refused(
        slide[0],
        f"{store_server.url}/none.tiff",
        "none.tiff: there is no OME-Zarr at this address",
        "download",
    )
    refused("https:///x.zarr", slide[1], "names no server")
    refused("what://host/x.zarr", slide[1], "of no kind that is known")
    store_server.trouble = {"/0/c/2/0/0": [500] * 100}
    refused(
        slide[0],
        slide[1],
        "/slide.zarr/0/c/2/0/0: could not be read from the server",
        "500",
        "5 tries",
    )


@pytest.mark.filterwarnings("ignore")  # of their package's own dependencies
def test_spatialdata_in_and_out(panimbus, model, make_tissue, tmp_path):
    image, labels = make_tissue((90, 80), 30, channels=3)
    write_ome_zarr(tmp_path / "images" / "fov1.zarr", image, CHANNELS, 0.5)
    write_ome_zarr(tmp_path / "labels" / "fov1.zarr", labels[np.newaxis], ["ids"], 0.5)
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--tta", "none", "--tables", "h5ad,spatialdata+images", *model)
    done = panimbus(
        "predict", tmp_path / "images", "--labels", tmp_path / "labels", "--out", first, *options
    )
    assert done.code == 0, done.err
    done = panimbus("predict", first / "cells.zarr", "--out", second, *options)
    assert done.code == 0, done.err
    one, two = (anndata.read_h5ad(folder / "cells.h5ad") for folder in (first, second))
    assert one.obs.equals(two.obs)
    np.testing.assert_array_equal(one.X, two.X)

    sd = pytest.importorskip("spatialdata")
    back = sd.read_zarr(second / "cells.zarr")
    assert (list(back.images), list(back.labels), list(back.tables)) == (
        ["fov1_image"],
        ["fov1_labels"],
        ["cells"],
    )
    np.testing.assert_array_equal(back.labels["fov1_labels"].data.compute(), labels)
    np.testing.assert_array_equal(back.tables["cells"].X, one.X)
    assert back.tables["cells"].obs["region"].unique().tolist() == ["fov1_labels"]


def test_spatialdata_in_doubt(panimbus, model, make_tissue, tmp_path):
    image, labels = make_tissue((90, 80), 30, channels=3)
    write_ome_zarr(tmp_path / "fov1.zarr", image, CHANNELS, 0.5)
    write_ome_zarr(tmp_path / "l.zarr", labels[np.newaxis], ["ids"], 0.5)
    (fov,) = open_fovs(tmp_path / "fov1.zarr", tmp_path / "l.zarr")
    done = panimbus(
        "predict",
        tmp_path / "fov1.zarr",
        "--labels",
        tmp_path / "l.zarr",
        "--out",
        tmp_path / "out",
        "--tta",
        "none",
        *model,
    )
    table = anndata.read_h5ad(tmp_path / "out" / "cells.h5ad")
    write_spatialdata(tmp_path / "s.zarr", table, [fov], [fov])
    inner = zarr.open_group(store=str(tmp_path / "s.zarr"), mode="r+", use_consolidated=False)
    more = inner["labels"].create_group("nuclei")
    more.create_array("0", data=labels)
    more.attrs.update(inner["labels"]["fov1_labels"].attrs)
    (tmp_path / "s.zarr" / "labels" / "fov1_labels").rename(
        tmp_path / "s.zarr" / "labels" / "cells"
    )
    done = panimbus("predict", tmp_path / "s.zarr", "--out", tmp_path / "again", *model)
    assert done.code == 2, done.err
    for words in (
        "2 label images can be the segmentation of image 'fov1_image'",
        "cells (90, 80)",
        "nuclei (90, 80)",
        "--labels",
    ):
        assert words in done.err


@pytest.mark.parametrize("fault", ["index", "empty"])
def test_cells_on_a_damaged_shard_get_no_score(panimbus, model, make_tissue, tmp_path, fault):
    image, labels = make_tissue((300, 600), 60, channels=3)
    group = zarr.open_group(str(tmp_path / "slide.zarr"), mode="w")
    group.create_array("0", data=image + 1, chunks=(1, 64, 64), shards=(1, 320, 256))
    axes = [{"name": a, "unit": "micrometer"} for a in "cyx"]
    step = {"type": "scale", "scale": [1, 0.5, 0.5]}
    scale = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [step]}]}
    omero = {"channels": [{"label": c} for c in CHANNELS]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [scale], "omero": omero}
    write_ome_zarr(tmp_path / "cells.zarr", labels[np.newaxis], ["ids"], 0.5)
    shard = tmp_path / "slide.zarr/0/c/1/0/1"
    shard.write_bytes(b"" if fault == "empty" else shard.read_bytes()[:-20] + bytes(20))
    done = panimbus("predict", tmp_path / "slide.zarr", "--labels", tmp_path / "cells.zarr", "--out", tmp_path / "out",
                    "--tta", "none", "--on-error", "skip", *model)  # fmt: skip
    assert done.code == 0, done.err
    table = anndata.read_h5ad(tmp_path / "out" / "cells.h5ad")
    lost = np.isnan(table[:, "CD20"].X).ravel()
    inside = np.isin(table.obs["cell_id"], np.unique(labels[:, 256:512]))
    np.testing.assert_array_equal(lost, inside)
    assert not np.isnan(table[:, "CD3"].X).any()
