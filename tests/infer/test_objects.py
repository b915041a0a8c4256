"""Objects that are no cells: marked in the table, scored all the same, and told of."""

import json

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.infer.distribute.manifest import Request
from panimbus.infer.output import summary
from panimbus.infer.predict import PredictSettings, predict
from panimbus.infer.preflight import inspect_fovs
from panimbus.io import from_array

SETTINGS = {"tta": "none", "precision": "float32", "device": "cpu", "threads": 1}


@pytest.fixture
def tissue(make_tissue):
    """A vessel of 40 x 40 µm and a fragment of 2 µm² among cells of about 90 µm²."""
    image, labels = make_tissue((128, 128), 90, radius=6)
    labels[40:80, 40:80], labels[2:10, 2:10] = 200, 0
    labels[np.bincount(labels.ravel())[labels] < 5] = 0  # what is left of a cell
    labels[4, 4:6] = 201
    return from_array(image, labels, channels=["a", "b"], mpp=1.0)


def _kinds(table):
    return dict(zip(table.obs["cell_id"], table.obs["object"], strict=True))


def test_marked_and_scored(tissue, model, tmp_path):
    table = predict(tissue, model=model("plain"), settings=PredictSettings(**SETTINGS))
    assert list(table.obs["object"].cat.categories) == ["cell", "large", "sliver", "excluded"]
    kinds = _kinds(table)
    assert (kinds.pop(200), kinds.pop(201)) == ("large", "sliver")
    assert set(kinds.values()) == {"cell"}
    assert np.isfinite(table.X).all()
    assert (table.X > 0).all()
    share = 100 * 1600 / table.obs["area_um2"].sum()
    text = summary(table, tmp_path, {"channels": {}})
    assert (
        f"objects that are not cells by their area: 1 large ({share:.1f} % of the labelled area), 1"
        " sliver (0.0 %)" in text
    )


def test_limits_of_ones_own(tissue, model, tmp_path):
    table = predict(
        tissue,
        model=model("plain"),
        settings=PredictSettings(**SETTINGS, min_area=0, max_area=5000),
    )
    assert set(table.obs["object"]) == {"cell"}
    assert "no cells" not in summary(table, tmp_path, {"channels": {}})
    assert table.uns["panimbus"]["settings"]["max_area"] == 5000
    with pytest.raises(InputError, match="exclude all cells"):
        PredictSettings(min_area=10, max_area=5)
    request = Request((), settings=PredictSettings(min_area=3.0, max_area=700.0, threads=4))
    again = Request.from_dict(request.to_dict())
    assert again == Request((), settings=PredictSettings(min_area=3.0, max_area=700.0))


def test_the_median_is_that_of_all_fovs(model, make_tissue):
    """A FOV of a single large object has no cells to be compared with."""
    image, labels = make_tissue((128, 128), 90, radius=6)
    small = from_array(image, labels, channels=["a", "b"], mpp=1.0)
    vessel = np.zeros((128, 128), np.uint8)
    vessel[10:60, 10:60] = 1
    alone = from_array(image, vessel, channels=["a", "b"], mpp=1.0).with_(fov_id="vessel")
    settings = PredictSettings(**SETTINGS)
    assert set(predict(alone, model=model("plain"), settings=settings).obs["object"]) == {"cell"}
    table = predict([small, alone], model=model("plain"), settings=settings)
    assert (table.obs.loc[table.obs["fov_id"] == "vessel", "object"] == "large").all()


def test_inspect(tissue, model, monkeypatch):
    monkeypatch.setattr("panimbus.infer.cost._time", lambda *_: ("none", 1e-6, 0.1))
    report = inspect_fovs(tissue, model=model("plain"))
    total = int((tissue.labels > 0).sum())
    assert report.objects == {
        "large": {"count": 1, "area_share": 1600 / total},
        "sliver": {"count": 1, "area_share": 2 / total},
    }
    assert json.loads(json.dumps(report.to_dict()))["objects"] == report.objects
    assert report.fovs[0].labels.small == 1
    report = inspect_fovs(
        tissue, model=model("plain"), settings=PredictSettings(min_area=1, max_area=1e6)
    )
    assert report.objects == {}
    assert report.fovs[0].labels.small == 0
    assert inspect_fovs(tissue.with_(mpp=None), model=model("plain")).objects == {}
