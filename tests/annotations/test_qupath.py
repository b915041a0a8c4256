"""Calls to QuPath and back."""

import json
import tempfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panimbus.annotations.qupath import cell_outlines, export_qupath, import_qupath
from panimbus.annotations.table import CALLS, check_annotations
from panimbus.core.errors import InputError
from panimbus.core.fov import Fov
from panimbus.core.reserved import name_problems
from panimbus.io import GeoJsonLabels


@pytest.fixture
def fov(make_tissue):
    """A FOV with 12 cells, one of them in two pieces and one of a single pixel."""
    image, labels = make_tissue((60, 50), 12)
    labels[labels == 12] = 0
    labels[0, 0] = labels[59, 49] = 12
    labels[labels == 11] = 0
    labels[30, 49] = 11
    return Fov("f 1/a", image, ("CD3", "CD 8"), labels, 0.5)


@pytest.fixture
def calls():
    rows = [("f 1/a", k, "CD3", CALLS[k % 5]) for k in range(1, 13)] + [
        ("f 1/a", 2, "CD 8", "positive")
    ]
    return check_annotations(pd.DataFrame(rows, columns=["fov", "cell_id", "channel", "call"]))


def test_round_trip(fov, calls, tmp_path):
    paths = export_qupath(calls, [fov], tmp_path)
    assert [p.name[:9] for p in paths] == ["f_1_a.CD3", "f_1_a.CD_"]
    back = import_qupath(paths, annotator="ann", time="2026-01-02")
    keys = ["fov", "cell_id", "channel", "call"]
    assert back.unclassified == 0
    assert back.annotations[keys].to_dict("list") == calls[keys].to_dict("list")
    assert set(back.annotations["annotator"]) == {"ann"}
    assert set(back.annotations["time"]) == {"2026-01-02"}
    drawn = GeoJsonLabels(paths[0], fov.shape_yx)
    assert np.array_equal(np.asarray(drawn[:, :]), fov.labels)


def test_outlines_across_bands(fov, monkeypatch):
    ids = np.arange(1, 15)
    whole = cell_outlines(fov, ids)
    monkeypatch.setattr("panimbus.annotations.qupath._BAND", 7)
    parts = cell_outlines(fov, ids)
    assert list(whole) == list(parts) == list(range(1, 13))
    assert len(whole[12]) == 2
    assert [[r.tolist() for r in p] for p in whole[3]] == [
        [r.tolist() for r in p] for p in parts[3]
    ]


def test_blind(fov, calls, tmp_path):
    paths = export_qupath(calls, [fov], tmp_path, blind=True)
    with pytest.raises(InputError, match="13 objects without one"):
        import_qupath(paths, annotator="", time="")
    data = json.loads(paths[0].read_text())
    data["features"][1]["properties"]["classification"] = {
        "names": ["CD3", "Positive"],
        "color": [1, 2, 3],
    }
    paths[0].write_text(json.dumps(data))
    imported = import_qupath(paths, annotator="bob", time="")
    assert imported.unclassified == 12
    assert imported.annotations.loc[0, ["cell_id", "channel", "call"]].tolist() == [
        2,
        "CD3",
        "positive",
    ]


def test_old_qupath_keeps_the_name_only(fov, calls, tmp_path):
    (path, _) = export_qupath(calls, [fov], tmp_path)
    data = json.loads(path.read_text())
    for feature in data["features"]:
        del feature["properties"]["metadata"]
    path.write_text(json.dumps(data["features"]))
    with pytest.raises(InputError, match="12 classified objects do not say which cell") as caught:
        import_qupath([path], annotator="", time="")
    assert "--fov" in str(caught.value)
    assert (
        len(import_qupath([path], annotator="", time="", fov="f 1/a", channel="CD3").annotations)
        == 12
    )


def test_classes_that_are_no_calls(fov, calls, tmp_path):
    (path, _) = export_qupath(calls, [fov], tmp_path)
    text = (
        path.read_text()
        .replace('"name": "likely positive"', '"name": "Tumor"')
        .replace('"name": "negative"', '"name": "CD8: negative"')
    )
    path.write_text(text)
    with pytest.raises(InputError, match=r"classes that are no answers: .*'Tumor'") as caught:
        import_qupath([path], annotator="", time="")
    assert "'CD8: negative'" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", '"a"', "{"])
def test_not_geojson(tmp_path, text):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(InputError, match=r"a\.geojson"):
        import_qupath([tmp_path / "a.geojson"], annotator="", time="")
    with pytest.raises(InputError, match="no such file"):
        import_qupath([tmp_path / "b.geojson"], annotator="", time="")


def test_objects_of_other_programs_hold_no_calls(tmp_path):
    odd = [{"properties": [1]}, {"properties": "a"}, {"properties": {"classification": 3}}, {}]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": odd}))
    with pytest.raises(InputError, match="No object has a classification"):
        import_qupath([tmp_path / "a.geojson"], annotator="", time="")
    named = {"properties": {"name": "7", "classification": {"name": "positive"}, "metadata": ["x"]}}
    (tmp_path / "a.geojson").write_text(json.dumps([named]))
    with pytest.raises(InputError, match="do not say which cell"):
        import_qupath([tmp_path / "a.geojson"], annotator="", time="")


def test_export_refuses(fov, calls, tmp_path):
    with pytest.raises(InputError, match="several annotations"):
        export_qupath(
            check_annotations(calls.assign(annotator="x").merge(calls, how="outer")),
            [fov],
            tmp_path,
        )
    with pytest.raises(InputError, match="label image"):
        export_qupath(calls, [fov.with_(labels=None)], tmp_path)
    with pytest.raises(InputError, match="has no cell 99"):
        export_qupath(calls.assign(cell_id=range(99, 112)), [fov], tmp_path)
    assert list(tmp_path.iterdir()) == []


def with_channels(fov, channels):
    channels = tuple(dict.fromkeys(channels))
    return Fov(fov.fov_id, np.zeros((len(channels), 60, 50), np.uint8), channels, fov.labels, 0.5)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda s: s == s.strip() != ""
)
channels = names.filter(lambda s: not name_problems([s]))  # no FOV has a channel named "label"
entries = st.tuples(
    names, channels, st.integers(1, 12), st.sampled_from(CALLS), st.floats(1e-300, 1e300)
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(entries, min_size=1, max_size=8, unique_by=lambda e: e[1:3]), st.booleans())
def test_any_names_come_back(fov, entries, weighed):
    """Names that differ by a slash or a capital have files of their own, and none loses its
    calls."""
    columns = ["dataset", "channel", "cell_id", "call", "sampling_weight"]
    calls = pd.DataFrame(entries, columns=columns).assign(fov="f 1/a")
    calls = check_annotations(calls if weighed else calls.drop(columns="sampling_weight"))
    with tempfile.TemporaryDirectory() as folder:
        paths = export_qupath(calls, [with_channels(fov, calls["channel"])], folder)
        assert len({p.name.casefold() for p in paths}) == calls["channel"].nunique()
        back = import_qupath(paths, annotator="", time="").annotations
    key = ["channel", "cell_id"]
    pd.testing.assert_frame_equal(
        back.sort_values(key, ignore_index=True),
        calls.sort_values(key, ignore_index=True),
        check_like=True,
    )


def test_names_that_looked_alike(fov, tmp_path):
    channels = ["CD3/a", "CD3_a", "CD3 a", "cd3_A", "x" * 300, "x" * 299 + "y"]
    rows = [("f 1/a", k + 1, channel, "positive") for k, channel in enumerate(channels)]
    calls = check_annotations(pd.DataFrame(rows, columns=["fov", "cell_id", "channel", "call"]))
    paths = export_qupath(calls, [with_channels(fov, channels)], tmp_path)
    assert len(set(paths)) == 6
    assert import_qupath(paths, annotator="", time="").annotations["channel"].tolist() == channels


def test_weights_that_only_some_have(fov, calls, tmp_path, caplog):
    paths = export_qupath(calls.assign(sampling_weight=2.5), [fov], tmp_path)
    assert set(import_qupath(paths, annotator="", time="").annotations["sampling_weight"]) == {2.5}
    paths[0].write_text(paths[0].read_text().replace('"sampling_weight": "2.5"', '"x": "y"', 1))
    assert "sampling_weight" not in import_qupath(paths, annotator="", time="").annotations
    assert "dropped: 1 of 13 objects have none" in caplog.text
