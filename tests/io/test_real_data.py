"""Real files of every platform there is here; skipped where they are absent."""

import numpy as np
import pytest
import tifffile

from panimbus.core.errors import InputError, MatchError
from panimbus.io import open_fovs, validate_labels


def test_spleen_imc(shared_data):
    fovs = open_fovs(shared_data / "spleen_imc" / "images", shared_data / "spleen_imc" / "labels")
    assert len(fovs) == 14
    assert [f.fov_id for f in fovs][:5] == ["r2", "r4", "r6", "r8", "r10"]
    assert {f.mpp for f in fovs} == {1.0}
    path = shared_data / "spleen_imc" / "images" / "r8.ome.tiff"
    np.testing.assert_array_equal(fovs[3].image[4, 100:200], tifffile.imread(path, key=4)[100:200])
    for fov in fovs:
        validate_labels(fov.labels, fov.fov_id)


def test_codex(shared_data):
    (fov,) = open_fovs(
        shared_data / "lymphoma_codex" / "images", shared_data / "lymphoma_codex" / "labels"
    )
    assert (fov.image.shape, fov.mpp) == ((56, 2000, 2000), 0.5)
    assert "CD4 Cy7" in fov.channels
    assert len(np.unique(fov.labels[:])) == 6681


def test_mibi_mismatch_suggests_the_pairs(shared_data):
    folder = shared_data / "dcis_mibi"
    with pytest.raises(MatchError, match=r"Point2321_pt1043_20717: Point2321\.tiff"):
        open_fovs(folder / "images", folder / "labels")
    (fov,) = open_fovs(
        folder / "images" / "Point2321_pt1043_20717.ome.tiff", folder / "labels" / "Point2321.tiff"
    )
    assert int(fov.labels[:].max()) == 495


def test_raw_and_denoised_panels_differ(shared_data):
    with pytest.raises(InputError, match="totalIon"):
        open_fovs(shared_data / "lymphoid_mibi" / "images")


def test_squamous_imc(shared_data):
    (fov,) = open_fovs(shared_data / "squamous_imc" / "images")
    assert fov.image.dtype == np.float32
    assert np.isfinite(fov.image[0]).all()


def test_inform(shared_data):
    folder = shared_data / "vectra_inform"
    (fov,) = open_fovs(folder, folder)
    assert fov.channels == ("Alexa 594", "Cy3", "Cy5", "DAPI", "FITC")
    assert fov.mpp == pytest.approx(0.497, abs=0.001)
    assert fov.source["format"] == "inForm component data"
    whole = fov.labels[:]
    assert len(np.unique(whole)) == 271
    np.testing.assert_array_equal(
        np.hstack([fov.labels[:, x : x + 41] for x in range(0, 348, 41)]), whole
    )


def test_imc_raw(shared_data):
    pytest.importorskip("readimc")
    folder = shared_data / "imc_raw"
    raw = folder / "20210305_NE_mockData1"
    fovs = open_fovs(raw, folder / "steinbock" / "masks_deepcell")
    assert [f.fov_id for f in fovs] == [f"20210305_NE_mockData1_00{i}" for i in (1, 2, 3)]
    texts = open_fovs(sorted(raw.glob("*.txt")))
    for mcd, text in zip(fovs, texts, strict=True):
        np.testing.assert_allclose(mcd.image[:], text.image[:], atol=1e-3)
        np.testing.assert_array_equal(mcd.image[2, 5:9, 3:7], mcd.image[:][2, 5:9, 3:7])
    import readimc

    with readimc.MCDFile(raw / "20210305_NE_mockData1.mcd") as file:
        expected = file.read_acquisition(file.slides[0].acquisitions[1])
    np.testing.assert_array_equal(fovs[1].image[:], expected)


def test_steinbock(shared_data):
    folder = shared_data / "imc_raw" / "steinbock"
    fovs = open_fovs(
        folder / "img", folder / "masks_deepcell", channel_names=folder / "panel.csv", mpp=1.0
    )
    assert fovs[0].channels == ("Ag107", "Cytokeratin 5", "Laminin", "YBX1", "H3K27Ac")
    assert all(f.labels is not None for f in fovs)
