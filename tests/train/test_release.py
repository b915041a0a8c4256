"""Figures of an evaluation on a model card (tools/release_model.py)."""

import importlib.util
import json
from pathlib import Path

PATH = Path(__file__).parents[2] / "tools" / "release_model.py"


def test_figures_of_an_evaluation(tmp_path):
    spec = importlib.util.spec_from_file_location("release_model", PATH)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    means = [
        {"method": "model", "dataset": "d", "f1": 0.87654, "f1_low": 0.8, "f1_high": 0.91239},
        {"method": "otsu", "dataset": "d", "f1": 0.5},
        {"method": "other", "dataset": "d", "f1": 0.1},
    ]
    data = {"means": means, "calibration_error": {"mean": 0.04321}}
    (tmp_path / "evaluation.json").write_text(json.dumps(data))
    assert tool.read_figures(tmp_path) == {
        "dev_gold_f1": {"model": {"d": 0.8765}, "otsu": {"d": 0.5}},
        "interval_95": {"d": [0.8, 0.9124]},
        "ece": 0.0432,
    }
