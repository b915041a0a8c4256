"""Excluded regions: their cells have no scores, their pixels count for nothing."""

import json
import logging

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError, MatchError, ReadError
from panimbus.core.fov import Fov
from panimbus.core.scan import scan_fov
from panimbus.infer.output import save_run, summary
from panimbus.infer.predict import PredictSettings, predict
from panimbus.infer.preflight import inspect_fovs
from panimbus.io import open_fovs
from panimbus.io.write import write_labels, write_ome_tiff

SETTINGS = PredictSettings(tta="none", precision="float32", threads=1)


def _fov(mask=None):
    """Three cells of 4 x 4 pixels; the one in the middle is very bright."""
    image = np.ones((1, 12, 20), np.uint16)
    labels = np.zeros((12, 20), np.uint16)
    for k in range(3):
        labels[4:8, 2 + 6 * k : 6 + 6 * k] = k + 1
        image[0, 4:8, 2 + 6 * k : 6 + 6 * k] = (10, 1000, 20)[k]
    return Fov("a", image, ("CD3",), labels, 1.0, excluded=mask)


def _mask(*columns):
    mask = np.zeros((12, 20), np.uint8)
    mask[:, slice(*columns)] = 7
    return mask


def test_cells_mostly_inside_are_excluded_and_no_pixel_inside_counts():
    mask = _mask(8, 16)  # all of the second cell, half of the third
    cells, scan = scan_fov(_fov(mask), ("CD3",), 1.0)
    assert cells.excluded.tolist() == [False, True, False]
    assert cells.excluded_pixels == 12 * 8
    assert np.isnan(scan.mean[:, 0]).tolist() == [False, True, False]
    assert scan.mean[[0, 2], 0].tolist() == [10.0, 20.0]
    stats = scan.stats["CD3"]
    assert dict(zip(stats.pixels.values(), stats.pixels.counts.tolist(), strict=True)) == {
        1: 12 * 12 - 16 - 8,
        10: 16,
        20: 8,
    }
    assert (stats.outside_sum, stats.outside_count) == (120.0, 120)
    assert stats.cell_means.total == 2
    more_than_half = scan_fov(_fov(_mask(8, 17)), ("CD3",), 1.0)[0]
    assert more_than_half.excluded.tolist() == [False, True, True]


def test_an_empty_mask_changes_nothing_but_the_digest():
    with_mask, without = (scan_fov(_fov(m), ("CD3",), 1.0) for m in (_mask(0, 0), None))
    assert with_mask[0].excluded.tolist() == [False] * 3
    assert without[0].excluded is None
    one, other = with_mask[1].stats["CD3"], without[1].stats["CD3"]
    np.testing.assert_array_equal(one.pixels.counts, other.pixels.counts)
    assert (one.outside_sum, one.outside_count) == (other.outside_sum, other.outside_count)
    assert with_mask[1].digest != without[1].digest


@pytest.fixture
def files(tmp_path, make_tissue):
    """Two FOVs on disk, with masks of the left half; returns a function that opens them."""
    for name in ("images", "labels", "masks"):
        (tmp_path / name).mkdir()
    for k in range(2):
        image, labels = make_tissue((60, 52), 15, seed=k)
        write_ome_tiff(tmp_path / "images" / f"fov{k}.ome.tiff", image, ("a", "b"), 1.0)
        write_labels(tmp_path / "labels" / f"fov{k}.tiff", labels)
    mask = np.zeros((60, 52), np.uint8)
    mask[:, :26] = 255
    tifffile.imwrite(tmp_path / "masks" / "fov1_exclude.tif", mask)
    return lambda exclude=tmp_path / "masks": open_fovs(
        tmp_path / "images", tmp_path / "labels", exclude=exclude
    )


def test_predict_leaves_scores_of_excluded_cells_out(files, tmp_path, model):
    table = predict(files(), model=model("plain"), settings=SETTINGS, out=tmp_path / "out")
    excluded = (table.obs["object"] == "excluded").to_numpy()
    x = table.obsm["spatial"][:, 0]
    second = (table.obs["fov_id"] == "fov1").to_numpy()
    assert 0 < excluded.sum() < second.sum()
    assert not excluded[~second].any()
    assert excluded[second & (x < 20)].all()
    assert not excluded[x > 32].any()
    for layer in (table.X, table.layers["positive"], table.layers["intensity_mean"]):
        np.testing.assert_array_equal(np.isnan(layer).any(axis=1), excluded)
    text = summary(table, tmp_path, json.loads(table.uns["panimbus"]["scale"]))
    assert f"excluded regions: {excluded.sum()} cells in 1 of 2 FOVs, 50.0 % of the pixels" in text
    assert "missing" not in text
    plain = predict(files(None), model=model("plain"), settings=SETTINGS)
    assert plain.var["normaliser"]["a"] != table.var["normaliser"]["a"]


def test_the_mask_belongs_to_what_is_kept(files, tmp_path, model):
    """A run in the folder of one with another mask computes anew, with the same one nothing."""
    out = tmp_path / "out"
    first = predict(files(), model=model("plain"), settings=SETTINGS, out=out)
    again = predict(files(), model=model("plain"), settings=SETTINGS, out=out)
    np.testing.assert_array_equal(first.X, again.X)
    assert (first.obs["object"] == again.obs["object"]).all()
    tifffile.imwrite(tmp_path / "masks" / "fov1_exclude.tif", np.ones((60, 52), np.uint8))
    changed = predict(files(), model=model("plain"), settings=SETTINGS, out=out)
    assert (changed.obs["object"][changed.obs["fov_id"] == "fov1"] == "excluded").all()
    save_run(changed, out, ["h5ad"])
    assert json.loads((out / "run.json").read_text())["inputs"]["fov1"]["excluded_share"] == 1.0


def test_inspect_shows_how_much_is_excluded(files, tmp_path):
    report = inspect_fovs(files())
    first, second = report.fovs
    assert first.excluded is None
    assert second.excluded.share == 0.5
    tifffile.imwrite(tmp_path / "masks" / "fov1_exclude.tif", np.zeros((60, 52), np.uint8))
    assert any("empty: FOV 'fov1'" in line for line in inspect_fovs(files()).warnings)
    tifffile.imwrite(tmp_path / "masks" / "fov1_exclude.tif", np.ones((60, 52), np.uint8))
    assert any("is it inverted?" in line for line in inspect_fovs(files()).warnings)


def test_predict_warns_of_empty_masks(files, tmp_path, model, caplog):
    tifffile.imwrite(tmp_path / "masks" / "fov1_exclude.tif", np.zeros((60, 52), np.uint8))
    with caplog.at_level(logging.WARNING):
        predict(files(), model=model("plain"), settings=SETTINGS)
    assert "the mask of excluded regions is empty: FOV 'fov1'" in caplog.text


def test_a_csv_names_masks_relative_to_itself(files, tmp_path):
    (tmp_path / "list.csv").write_text("fov,mask\nfov0,masks/fov1_exclude.tif\nfov1,\n")
    first, second = files(tmp_path / "list.csv")
    assert (np.asarray(first.excluded[0:2, 24:28]) > 0).tolist() == [[True, True, False, False]] * 2
    assert second.excluded is None


def test_names_that_match_no_fov_list_both_sides(files, tmp_path):
    (tmp_path / "masks" / "fov1_exclude.tif").rename(tmp_path / "masks" / "fov7.tif")
    with pytest.raises(MatchError) as error:
        files()
    assert "masks without a FOV: fov7" in str(error.value)
    assert "FOVs without a mask: fov0, fov1" in str(error.value)


def test_sizes_that_differ_and_two_masks_are_errors(files, tmp_path):
    tifffile.imwrite(tmp_path / "masks" / "fov1.tif", np.zeros((60, 52), np.uint8))
    with pytest.raises(MatchError, match="has 2 masks"):
        files()
    (tmp_path / "masks" / "fov1_exclude.tif").unlink()
    tifffile.imwrite(tmp_path / "masks" / "fov1.tif", np.zeros((30, 52), np.uint8))
    with pytest.raises(InputError, match=r"differ in size[\s\S]*\(60, 52\)[\s\S]*fov1.tif"):
        files()
    (tmp_path / "masks" / "fov1.tif").unlink()
    with pytest.raises(ReadError, match="no mask in this folder"):
        files()


def _feature(kind, *corners):
    (x0, y0), (x1, y1) = corners
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "properties": {"objectType": kind},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def test_annotations_of_qupath_are_excluded_and_its_cells_are_not(files, tmp_path):
    (tmp_path / "masks" / "fov1_exclude.tif").unlink()
    features = [
        _feature("annotation", (-5, 0), (10, 60)),  # reaches beyond the image
        _feature("annotation", (2, 2), (6, 6)),  # inside the other
        _feature("cell", (30, 30), (34, 34)),
    ]
    path = tmp_path / "masks" / "fov0.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    mask = np.asarray(files()[0].excluded[0:60, 0:52]) > 0
    assert mask[:, :10].all()
    assert not mask[:, 10:].any()
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    assert not np.asarray(files()[0].excluded[0:60, 0:52]).any()
