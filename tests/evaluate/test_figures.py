"""The paper's figures: which are drawn, what they say, and that they are the same each time."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from panimbus.annotations.table import check_annotations, with_truth
from panimbus.evaluate.errors import Scene
from panimbus.evaluate.evaluation import evaluate_calls
from panimbus.evaluate.figure_cells import cell_figures, distinct_markers, misleading_cells
from panimbus.evaluate.figures import paper_figures, telling_marker, write_figures
from panimbus.evaluate.scored import CellMetadata, match_scores
from panimbus.evaluate.settings import EvaluateSettings

SVG = "{http://www.w3.org/2000/svg}"


def scored_of(scene, **metadata):
    table, calls, _ = scene
    scored = match_scores(table, with_truth(check_annotations(calls)), CellMetadata(**metadata))
    return scored.assign(dataset="d_1")


def texts(path):
    return [t.text for t in ET.parse(path).iter(f"{SVG}text")]  # noqa: S314 (our own)


@pytest.fixture(scope="module")
def evaluation(scene):
    types = pd.DataFrame(
        {"fov": "a", "cell_id": range(1, 65), "cell_type": ["B $x<", "T", "Pan-Negative", "T"] * 16}
    )
    _, calls, _ = scene
    silver = calls[["fov", "cell_id", "channel"]].assign(
        label=(calls["call"] == "positive").astype(float)
    )
    scored = scored_of(scene, tissue="skin", cell_types=types, silver=silver)
    return evaluate_calls(scored, EvaluateSettings("dataset", draws=20))


def test_every_figure_that_needs_no_image(evaluation, tmp_path):
    figures = paper_figures(evaluation)
    names = {f.name for f in figures}
    expected = {"2b", "2c", "4a", "4b", "4c", "4d", "5a", "5b", "5d"}
    assert names == {f"figure_{n}" for n in expected} | {"extended_1h"}
    files = {p.stem: p for p in write_figures(figures, tmp_path)}
    assert set(files) == names
    assert {"model", "silver labels", "precision", "F1"} <= set(texts(files["figure_4a"]))
    assert {"B $x<", "T"} <= set(texts(files["figure_4c"]))
    assert "Pan-Negative" not in texts(files["figure_4c"])
    assert "Pan-Negative" in texts(files["figure_2c"])
    row = evaluation.confounders.set_index(["confounder", "method"]).loc[("rarity", "model")]
    assert f"{row['information']:.4f}" in texts(files["figure_4d"])
    assert f"({row['chance']:.4f})" in texts(files["figure_4d"])
    positive = int((evaluation.calls["truth"] == 1).sum())
    assert any(t.startswith(f"all markers: {positive} positive") for t in texts(files["figure_5a"]))
    assert {"CD3", "CD20"} <= set(texts(files["figure_5d"]))
    again = {p.stem: p for p in write_figures(paper_figures(evaluation), tmp_path / "again")}
    assert all(again[n].read_bytes() == files[n].read_bytes() for n in files)


def bar_heights(figure):
    return [round(bar.get_height(), 6) for bar in figure.axes[0].patches]


def test_bars_are_the_figures_of_the_tables(evaluation):
    by = {f.name: f.figure for f in paper_figures(evaluation)}
    pooled = evaluation.pooled.set_index(["dataset", "method"])
    rates = ["specificity", "precision", "recall", "f1"]
    expected = [pooled.loc[("mean", m), r] for m in ("model_silver", "silver") for r in rates]
    assert bar_heights(by["figure_4a"]) == pytest.approx(expected, abs=1e-6)
    groups = evaluation.groups.set_index(["kind", "group", "method"])["f1"]
    expected = [
        groups[("cell type", t, m)] for m in ("model_silver", "silver") for t in ("B $x<", "T")
    ]
    assert bar_heights(by["figure_4c"]) == pytest.approx(expected, abs=1e-6)
    count = evaluation.calls.drop_duplicates(["fov", "cell_id"])["cell_type"].value_counts()
    widths = [bar.get_width() for bar in by["figure_2c"].axes[0].patches]
    assert widths == [count["T"], count["B $x<"], count["Pan-Negative"]]


def test_without_silver_labels_types_and_tissue(scene):
    result = evaluate_calls(scored_of(scene), EvaluateSettings(draws=20))
    figures = {f.name: f.figure for f in paper_figures(result)}
    assert set(figures) == {f"figure_{n}" for n in ("2b", "4a", "4d", "5a", "5b")} | {"extended_1h"}
    means = result.means.set_index(["dataset", "method"])
    heights = bar_heights(figures["figure_4a"])
    assert heights[3] == pytest.approx(means.loc[("mean", "model"), "f1"], abs=1e-6)
    assert heights[7] == pytest.approx(means.loc[("mean", "otsu"), "f1"], abs=1e-6)


def test_the_marker_in_which_the_model_gains_most(evaluation):
    unit = evaluation.calls.groupby("unit")["channel"].first()
    assert unit[telling_marker(evaluation)] == "CD3"  # the other is scored badly
    few = evaluation.calls[evaluation.calls["cell_id"] < 20].drop(columns=["silver"])
    few = few.assign(mixture=few["mixture_posterior"], silver=np.nan)
    assert telling_marker(evaluate_calls(few, EvaluateSettings(draws=5))) is None


def test_pictures_of_tissue(evaluation, scene, tmp_path):
    table, _, fovs = scene
    scenes = [Scene("d_1", f, table[(table.obs["fov_id"] == f.fov_id).to_numpy()]) for f in fovs]
    figures = cell_figures(evaluation, scenes)
    assert [f.name for f in figures] == ["figure_3", "figure_5c"]
    files = write_figures(figures, tmp_path)
    assert "scores" in texts(files[0])
    assert any(t.startswith("mean intensity 0.") for t in texts(files[1]))
    assert len(list(ET.parse(files[1]).iter(f"{SVG}image"))) == 6  # noqa: S314 (our own)
    assert cell_figures(evaluation, []) == []
    assert cell_figures(evaluation, [Scene("other", fovs[0], table)]) == []


def test_cells_whose_mean_intensity_misleads():
    calls = pd.DataFrame(
        {
            "unit": 0,
            "truth": [1, 1, 1, 0, 0, 0, -1],
            "model": [1, 1, 0, 0, 0, 1, 0],
            "intensity": [0.5, 0.2, 0.1, 0.3, 0.6, 0.9, 1.0],
        }
    )
    assert misleading_cells(calls, 0).index.tolist() == [1, 4]
    assert misleading_cells(calls, 7).index.tolist() == [1, 4]  # of another marker, then
    assert misleading_cells(calls[calls["truth"] == 1], 0).index.tolist() == [1]


def test_markers_of_other_cells_are_shown_together():
    positive = {"DAPI": range(10), "CD45": range(6), "CD3": range(5), "CK": range(6, 8)}
    rows = [
        {"channel": m, "cell_id": c, "truth": int(c in cells)}
        for m, cells in positive.items()
        for c in range(10)
    ]
    assert distinct_markers(pd.DataFrame(rows)) == ["CD45", "CK", "CD3"]
    assert distinct_markers(pd.DataFrame(rows[:10])) == ["DAPI"]
