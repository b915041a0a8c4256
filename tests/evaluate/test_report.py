"""The report as a file and in a browser; the tables as files; evaluations side by side."""

import dataclasses
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from panimbus.annotations.table import check_annotations, with_truth
from panimbus.core.errors import InputError, ReadError
from panimbus.evaluate import charts
from panimbus.evaluate.compare import compare_evaluations, comparison_rows, write_comparison
from panimbus.evaluate.errors import Scene, draw_errors, largest_errors
from panimbus.evaluate.evaluation import evaluate_calls
from panimbus.evaluate.report import write_report
from panimbus.evaluate.scored import CellMetadata, match_scores
from panimbus.evaluate.settings import ALL, EvaluateSettings
from panimbus.evaluate.tables import read_scored, write_evaluation_tables, write_summary
from panimbus.render.paint import FALSE_NEGATIVE, FALSE_POSITIVE

ABOUT = {"title": "A <title>", "command": "panimbus evaluate 'x y'"}


@pytest.fixture(scope="module")
def evaluation(scene):
    table, calls, _ = scene
    types = pd.DataFrame({"fov": "a", "cell_id": range(1, 65), "cell_type": ["B<", "T"] * 32})
    scored = match_scores(
        table, with_truth(check_annotations(calls)), CellMetadata("skin", types)
    ).assign(dataset="d")
    return evaluate_calls(scored, EvaluateSettings("fov", draws=50))


def scenes_of(scene):
    table, _, fovs = scene
    return [Scene("d", fov, table[(table.obs["fov_id"] == fov.fov_id).to_numpy()]) for fov in fovs]


def test_report_holds_everything(evaluation, scene, tmp_path):
    page = write_report(evaluation, tmp_path, ABOUT, scenes_of(scene)).read_text(encoding="utf-8")
    assert "A &lt;title&gt;" in page
    assert "B&lt;" in page
    assert "B<" not in page.replace("B&lt;", "")
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,|#)", page)
    for words in (
        "Calibration",
        "By tissue",
        "By cell type",
        "mutual information",
        "The largest errors",
        "oracle",
    ):
        assert words in page
    page = re.sub(r"base64,[^\"]*", "", page)  # three letters can stand in a picture's code
    assert "NaN" not in page
    assert ">nan" not in page
    assert "largest errors" not in write_report(evaluation, tmp_path, ABOUT).read_text(
        encoding="utf-8"
    )


def test_the_most_wrong_cells(evaluation, scene):
    wrong = largest_errors(evaluation.calls, cells=5, per_marker=2)
    assert len(wrong) == 4  # two of CD20 in either FOV
    assert (wrong["model"] != wrong["truth"]).all()
    cells = draw_errors(evaluation.calls, scenes_of(scene)[:1])
    assert {c.row["fov"] for c in cells} == {"a"}
    for cell in cells:
        colour = FALSE_POSITIVE if cell.row["truth"] == 0 else FALSE_NEGATIVE
        assert (cell.channel == colour).all(2).any()
        assert cell.channel.shape == cell.scores.shape
        assert cell.width_um <= 48
    assert draw_errors(evaluation.calls, []) == []


def test_the_page_in_a_browser(evaluation, scene, tmp_path):
    """Chromium lays the page out: every picture decodes, every chart has a size, and nothing is
    wider than a narrow window."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (.ci/run installs it)")
    page = write_report(evaluation, tmp_path, ABOUT, scenes_of(scene))
    probe = (
        "<script>document.title = JSON.stringify({broken: [...document.images].filter(i =>"
        " !i.complete || !i.naturalWidth).length, flat:"
        " [...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().height <"
        " 20).length, wide: document.documentElement.scrollWidth >"
        " window.innerWidth})</script></body>"
    )
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
        " --disable-component-update"
    )
    process = subprocess.run(  # noqa: RUF100, S603
        [browser, *flags.split(), "--disable-sync", "--window-size=500,900",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", process.stdout, re.DOTALL)
    assert title, process.stderr
    assert title.group(1).replace("&quot;", '"') == '{"broken":0,"flat":0,"wide":false}'


def test_tables_come_back(evaluation, tmp_path):
    write_evaluation_tables(evaluation, tmp_path, ABOUT)
    names = {"markers", "means", "pooled", "groups", "calibration", "confounders", "calls"}
    assert {p.name for p in tmp_path.iterdir()} == {
        *(f"{n}.csv" for n in names),
        "summary.md",
        "evaluation.json",
    }
    frame, settings, about = read_scored(tmp_path)
    assert settings == evaluation.settings
    assert about == ABOUT
    again = evaluate_calls(frame, settings)
    pd.testing.assert_frame_equal(again.means, evaluation.means, rtol=1e-4, check_dtype=False)
    pd.testing.assert_frame_equal(again.pooled, evaluation.pooled, rtol=1e-4, check_dtype=False)
    saved = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert saved["calibration_error"][ALL] == pytest.approx(evaluation.curves[ALL].error)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "| model |" in text
    assert "nan" not in text
    assert text.index("mean over the markers of each FOV") < text.index("pooled (as in the Nimbus")
    write_summary(evaluation, tmp_path / "docs" / "gold", ABOUT)
    assert (tmp_path / "docs" / "gold.md").read_text(encoding="utf-8") == text
    assert len(pd.read_csv(tmp_path / "docs" / "gold.csv")) == len(evaluation.markers)


def test_compare(evaluation, tmp_path):
    better = evaluation.calls.assign(
        score=np.where(evaluation.calls["truth"] == 1, 0.9, 0.1),
        mixture=evaluation.calls["mixture_posterior"],
        silver=np.nan,
    )
    write_evaluation_tables(evaluation, tmp_path / "one", ABOUT)
    write_evaluation_tables(evaluate_calls(better, evaluation.settings), tmp_path / "two", ABOUT)
    result = compare_evaluations({"one": [tmp_path / "one"], "two": [tmp_path / "two"]})
    means = result.means.set_index(["dataset", "name"])
    old = evaluation.means.set_index(["dataset", "method"]).loc[("d", "model"), "f1"]
    assert means.loc[("d", "one"), "f1"] == pytest.approx(old)
    assert means.loc[("d", "two"), "f1"] == 1
    assert means.loc[(ALL, "two"), "gain"] == pytest.approx(1 - old)
    assert means.loc[(ALL, "two"), "gain_low"] > 0
    assert comparison_rows(result)[0] == ["dataset", "one", "two", "two less one"]
    write_comparison(result, tmp_path / "both")
    assert {p.name for p in (tmp_path / "both").iterdir()} == {
        "comparison.md", "comparison.csv", "comparison_markers.csv",
    }  # fmt: skip


def test_compare_pools_when_the_unit_is_the_dataset(evaluation, tmp_path):
    scored = evaluation.calls.assign(mixture=evaluation.calls["mixture_posterior"], silver=np.nan)
    result = evaluate_calls(scored, EvaluateSettings("dataset", draws=50))
    write_evaluation_tables(result, tmp_path / "a", ABOUT)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    compared = compare_evaluations({n: [tmp_path / n] for n in "ab"}).means
    pooled = result.pooled[result.pooled["method"] == "model"]["f1"].tolist()
    assert compared[compared["name"] == "b"]["f1"].tolist() == pytest.approx(pooled)
    assert (compared["gain"] == 0).all()


def test_compare_names_calls_without_a_dataset(evaluation, tmp_path):
    bare = dataclasses.replace(evaluation, calls=evaluation.calls.assign(dataset=""))
    for name in ("a", "b"):
        write_evaluation_tables(bare, tmp_path / name, ABOUT)
    rows = comparison_rows(compare_evaluations({name: [tmp_path / name] for name in ("a", "b")}))
    assert [row[0] for row in rows] == ["dataset", "the calls", "mean"]


def test_leave_one_dataset_out(evaluation, tmp_path):
    """Folders of one name are put together; a dataset that not all have is left out and said."""
    scored = evaluation.calls.assign(mixture=evaluation.calls["mixture_posterior"], silver=np.nan)
    scored = scored[scored["cell_id"] % 6 == 1]
    every = pd.concat([scored.assign(dataset=d) for d in "xyz"])
    write_evaluation_tables(evaluate_calls(every, evaluation.settings), tmp_path / "all", ABOUT)
    for d in "xy":
        write_evaluation_tables(
            evaluate_calls(scored.assign(dataset=d), evaluation.settings), tmp_path / d, ABOUT
        )
    result = compare_evaluations(
        {"all": [tmp_path / "all"], "left out": [tmp_path / "x", tmp_path / "y"]}
    )
    assert result.means["dataset"].unique().tolist() == ["x", "y", ALL]
    assert (result.means["gain"] == 0).all()
    assert "z" in result.notes[0]
    with pytest.raises(InputError, match="datasets in common"):
        compare_evaluations({"all": [tmp_path / "all"], "b": [tmp_path / "x", tmp_path / "all"]})
    with pytest.raises(InputError, match="no dataset in common"):
        compare_evaluations({"a": [tmp_path / "x"], "b": [tmp_path / "y"]})
    with pytest.raises(InputError, match="nothing to compare"):
        compare_evaluations({"a": [tmp_path / "x"]})
    with pytest.raises(ReadError, match="no folder that"):
        compare_evaluations({"a": [tmp_path / "x"], "b": [tmp_path]})


def test_density_has_area_one():
    rng = np.random.default_rng(0)
    for values in (rng.random(50), np.zeros(5), np.ones(3)):
        assert charts.density(values, np.ones(len(values))).mean() == pytest.approx(1)
    assert not charts.density(np.zeros(0), np.zeros(0)).any()


def test_names_are_no_markup_in_markdown():
    from panimbus.evaluate.tables import table

    text = table([["marker", "F1"], ["CD3|<script>`x`\n# y", "0.5 [0.4, 0.6]"]])
    assert text.splitlines()[2:] == ["| CD3\\|&lt;script>\\`x\\` # y | 0.5 [0.4, 0.6] |"]
