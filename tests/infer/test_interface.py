"""What a user of the Python interface holds: paths instead of FOVs, short texts, progress."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from panimbus import ChannelScale, PredictSettings, Progress, inspect_fovs, open_fovs, predict
from panimbus.core.errors import InputError
from panimbus.infer.progress import default_progress
from panimbus.io import write_labels, write_ome_tiff

SETTINGS = PredictSettings(tta="none", precision="float32", device="cpu", threads=1)


@pytest.fixture
def files(tmp_path, fov):
    """Paths of an image without a pixel size, and of its label image."""
    f = fov()
    write_ome_tiff(tmp_path / "f1.ome.tiff", f.image, f.channels, 1.0)
    write_labels(tmp_path / "labels.tiff", f.labels)
    return tmp_path / "f1.ome.tiff", tmp_path / "labels.tiff"


def test_paths_are_opened(files, model, same_table):
    image, labels = files
    fovs = open_fovs(image, labels)
    expected = predict(fovs, model=model("plain"), settings=SETTINGS)
    for given in (image, str(image), [image]):
        table = predict(given, labels=labels, model=model("plain"), settings=SETTINGS)
        same_table(table, expected)
    one = predict(image, labels=labels, channels="b", model=model("plain"), settings=SETTINGS)
    np.testing.assert_array_equal(one.X, expected[:, ["b"]].X)
    half = predict(image, labels=labels, mpp=0.5, model=model("plain"), settings=SETTINGS)
    np.testing.assert_allclose(half.obs["area_um2"], expected.obs["area_um2"] / 4)
    report = inspect_fovs([str(image)], labels=labels, model=model("plain"), settings=SETTINGS)
    assert [f.fov_id for f in report.fovs] == [f.fov_id for f in fovs]


def test_labels_of_fovs_are_refused(fov, files):
    for more in ({"labels": files[1]}, {"mpp": 0.5}):
        with pytest.raises(InputError, match="go with paths"):
            predict(fov(), **more)
    with pytest.raises(InputError, match="no FOV and no path"):
        inspect_fovs([3])


def test_texts_are_short(fov, model):
    assert repr(PredictSettings()) == "PredictSettings()"
    settings = PredictSettings(tta="none", thresholds={"CD3": 0.4})
    assert repr(settings) == "PredictSettings(tta='none', thresholds={'CD3': 0.4})"
    assert repr(Progress("score", "fov1", 1.0, 4.0)) == "Progress(score fov1: 25 %)"
    scale = ChannelScale(99.9, "all", dict.fromkeys("abcd", 2.0), {c: {} for c in "abcd"})
    assert repr(scale) == (
        "ChannelScale(99.9th percentile of all pixels, 4 channels: {a: 2, b: 2, c: 2, ...})"
    )
    report = inspect_fovs(fov().with_(labels=None), model=model("plain"), settings=SETTINGS)
    assert repr(report).startswith("InspectionReport(1 FOVs, 2 channels, 1 problems")
    assert "problem: 1 FOV (f1) without a label image" in repr(report)


def test_progress_shows_in_a_notebook(fov, model, monkeypatch):
    drawn = []

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        drawn.append(data)
        return SimpleNamespace(update=lambda data, raw: drawn.append(data))

    silent = default_progress()
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    shell = SimpleNamespace(kernel=None)
    ipython = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    predict(fov(fov_id="<f>"), model=model("plain"), settings=SETTINGS)
    assert drawn[-1]["text/plain"] == "scoring <f>: 100 %"
    assert "&lt;f&gt;" in drawn[-1]["text/html"]
    count = len(drawn)
    predict(fov(), model=model("plain"), settings=SETTINGS, progress=lambda _: None)
    ipython.get_ipython = lambda: None
    assert default_progress() is silent
    assert len(drawn) == count
