"""The command that repeats a run, from its run.json."""

import json
import shlex
from itertools import pairwise

import pytest

from panimbus.core.errors import ReadError
from panimbus.infer.repeat import predict_command


def request(**changes):
    fov = {
        "image": "/d/a b.tiff",
        "labels": "/d/masks/a.tiff",
        "mpp": 0.5,
        "dark_level": None,
        "types": {},
    }
    return {
        "fovs": {"a": fov, "b": fov | {"labels": "/d/masks/b.tiff"}},
        "channels": ["CD3", "Na/K ATPase"],
        "model": {"name": "compact-7", "sha256": "x"},
        "tta": "full", "precision": "auto", "on_error": "raise", "evidence": True,
        "thresholds": {}, "min_area": None, "max_area": None, "normaliser": None,
    } | changes  # fmt: skip


def words(folder, asked, thresholds=None):
    (folder / "run.json").write_text(json.dumps({"request": asked}), encoding="utf-8")
    return shlex.split(predict_command(folder, thresholds or {}))


def test_paths_channels_and_settings(tmp_path):
    assert words(tmp_path, request()) == [
        "panimbus", "predict", "/d/a b.tiff",
        "--labels", "/d/masks/a.tiff", "--labels", "/d/masks/b.tiff",
        "--channels", "CD3,Na/K ATPase", "--mpp", "0.5", "--tta", "full", "--out", str(tmp_path),
    ]  # fmt: skip


def test_only_what_differs_from_the_defaults_is_said(tmp_path):
    asked = request(
        precision="float32", on_error="skip", min_area=12.5, evidence=False, normaliser="abc",
        model={"name": "nimbus", "sha256": "y"}, tta="auto",
    )  # fmt: skip
    asked["fovs"]["a"] |= {"mpp": 0.25, "types": {"Blank1": "blank"}, "dark_level": 100}
    asked["fovs"]["b"] |= {"dark_level": 100}
    given = words(tmp_path, asked, {"CD3": 0.7, "CD4": 0.5})
    pairs = dict(pairwise(given))
    assert "--mpp" not in given  # the FOVs have their own
    assert pairs["--dark-level"] == "100"
    assert pairs["--channel-types"] == "Blank1=blank"
    assert (pairs["--model"], pairs["--tta"]) == ("nimbus", "auto")
    assert (pairs["--precision"], pairs["--on-error"]) == ("float32", "skip")
    assert pairs["--min-area"] == "12.5"
    assert "--no-evidence" in given
    assert pairs["--thresholds"] == "CD3=0.7"
    assert pairs["--normaliser"] == str(tmp_path / "normaliser.json")


@pytest.mark.parametrize("asked", [None, {}, {"fovs": {"a": {"mpp": 1.0}}}])
def test_a_run_that_does_not_say_enough(tmp_path, asked):
    (tmp_path / "run.json").write_text(json.dumps({"request": asked}), encoding="utf-8")
    assert predict_command(tmp_path, {}) is None


def test_a_damaged_run(tmp_path):
    with pytest.raises(ReadError, match=r"run\.json"):
        predict_command(tmp_path, {})
    (tmp_path / "run.json").write_text('{"request": {"fovs": [1]}}', encoding="utf-8")
    with pytest.raises(ReadError, match=r"run\.json"):
        predict_command(tmp_path, {})
