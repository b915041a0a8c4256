"""Layers of a result for napari, made without napari."""

import numpy as np
import pytest

import panimbus
from panimbus.infer.output import save_run


def test_layers_of_a_result(tmp_path):
    tissue = panimbus.simulate_tissue((96, 96), panel=2, seed=1)
    panimbus.write_ome_tiff(tmp_path / "a.ome.tiff", tissue.image, tissue.channels, tissue.mpp)
    panimbus.write_labels(tmp_path / "labels.tiff", tissue.labels)
    fovs = panimbus.open_fovs(tmp_path / "a.ome.tiff", tmp_path / "labels.tiff")
    settings = panimbus.PredictSettings(tta="none", threads=1)
    table = panimbus.predict(fovs, settings=settings)
    save_run(table, tmp_path / "out", ("h5ad",), fovs)
    marker = str(table.var_names[0])
    *images, (labels, about, kind) = panimbus.to_napari(tmp_path / "out", color_by=marker)
    assert [about["name"] for _, about, _ in images] == list(tissue.channels)
    np.testing.assert_array_equal(np.asarray(images[0][0]), tissue.image[0])
    np.testing.assert_array_equal(labels, tissue.labels)
    assert (kind, about["scale"]) == ("labels", (tissue.mpp, tissue.mpp))
    features = about["features"]
    np.testing.assert_array_equal(features[marker], np.asarray(table.X)[:, 0])
    assert set(about["colormap"]) == {None, 0, *features["index"]}
    positive = features["index"][features[marker] >= 0.5]
    assert len({tuple(about["colormap"][i]) for i in positive}) <= 1
    with pytest.raises(panimbus.InputError, match="no types"):
        panimbus.to_napari(tmp_path / "out")
    with pytest.raises(panimbus.InputError, match="no marker 'CD99'"):
        panimbus.to_napari(tmp_path / "out", color_by="CD99")
