"""The paper's table of calls: by hand, against scikit-learn, and with everything that is wrong."""

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError, PanimbusError
from panimbus.evaluate.confounders import public_confounder_table, public_confounders
from panimbus.evaluate.evaluation import evaluate_calls
from panimbus.evaluate.published import is_published, read_published
from panimbus.evaluate.settings import AGAINST_SILVER, ALL, EvaluateSettings

COLUMNS = "dataset fov labels channel gt_proofread gt_noisy nimbus ie cell_size plot_lineage"
ROWS = [
    ("codex_colon", "f", 1, "CD3", 1, 1, 0.9, 8.0, 40, "Lymphocytes"),
    ("codex_colon", "f", 2, "CD3", 0, 1, 0.8, 4.0, 50, "Lymphocytes"),
    ("codex_colon", "f", 3, "CD3", 1, 0, 0.2, 2.0, 60, "Stroma"),
    ("codex_colon", "f", 4, "CD3", 0, 2, 0.1, 1.0, 70, "Pan-Negative"),
    ("codex_colon", "f", 5, "CD3", 2, 0, 0.1, 0.0, 80, "Stroma"),
    ("codex_colon", "f", 6, "CD3", 1, 1, 0.5, 6.0, 90, "Lymphocytes"),
    ("new", "g", 1, "CD8", 0, 0, 1.0002, -1.0, 30, "Muscle"),
]
PLACES = [(1, 0, 0), (2, 0, 100), (3, 0, 200), (4, 110, 110), (5, 0, 90), (6, 400, 0), (7, 0, 119)]


@pytest.fixture
def table(tmp_path):
    """The table with row numbers in its first column, as pandas writes and the notebooks read it."""
    path = tmp_path / "gt_pred_ie_consolidated.csv"
    pd.DataFrame(ROWS, columns=COLUMNS.split()).to_csv(path)
    return path


@pytest.fixture
def positions(tmp_path):
    path = tmp_path / "positions.csv"
    frame = pd.DataFrame(PLACES, columns=["labels", "centroid-0", "centroid-1"])
    frame = frame.assign(dataset="codex_colon", fov="f")
    other = pd.DataFrame([("new", "g", 1, 5, 5)], columns=[*frame.columns[-2:], *frame.columns[:3]])
    pd.concat([frame, other]).to_csv(path, index=False)
    return path


def test_columns_mean_what_the_notebooks_say(table):
    assert is_published(table)
    scored = read_published(table).set_index(["dataset", "cell_id"])
    colon = scored.loc["codex_colon"]
    assert colon["truth"].tolist() == [1, 0, 1, 0, -1, 1]
    assert colon["call"].tolist()[3:5] == ["negative", "undetermined"]
    np.testing.assert_array_equal(colon["silver"], [1, 1, 0, np.nan, 0, 1])
    unit = np.quantile([8, 4, 2, 1, 0, 6], 0.999)
    assert colon["intensity"].tolist() == pytest.approx(np.array([8, 4, 2, 1, 0, 6]) / unit)
    assert colon["cell_size"].tolist() == [40, 50, 60, 70, 80, 90]
    assert set(colon["tissue"]) == {"colon"}
    assert set(colon["rarity"]) == {3 / 5}
    values = np.array([8, 4, 2, 1, 0, 6.0])
    assert colon["heterogeneity"].iloc[0] == pytest.approx(values.std() / values.mean())
    assert colon["sparsity"].isna().all()
    other = scored.loc["new"].iloc[0]
    assert other[["score", "intensity", "tissue"]].tolist() == [1, 0, ""]  # clipped, as there


def test_figures_4a_to_4c_by_hand(table):
    """Cells with a silver label, pooled: TP 2, FP 1, FN 1, TN 0 (model); TP 2, FP 1, FN 1 (silver)."""
    result = evaluate_calls(read_published(table), EvaluateSettings("dataset", draws=20))
    pooled = result.pooled.set_index(["dataset", "method"])
    rates = ["precision", "recall", "specificity", "f1"]
    for method in ("model_silver", "silver"):
        assert pooled.loc[("codex_colon", method), rates].tolist() == pytest.approx(
            [2 / 3, 2 / 3, 0, 2 / 3]
        )
    assert pooled.loc[("codex_colon", "model"), "specificity"] == 0.5  # cell 4 counts here
    groups = result.groups.set_index(["kind", "group", "method"])
    assert groups.loc[("tissue", "colon", "silver"), "f1"] == pytest.approx(2 / 3)
    assert groups.loc[("cell type", "Stroma", "model"), "f1"] == 0
    assert groups.loc[("cell type", "Lymphocytes", "model"), "f1"] == pytest.approx(4 / 5)
    assert set(result.confounders["confounder"]) == {"cell_size", "heterogeneity", "rarity"}


def test_surroundings_by_the_text(table, positions):
    """Circles of 120 px with all cells of the FOV, cell 7 (which has no call) included."""
    scored = read_published(table, positions)
    assert scored["density"].tolist() == [3, 5, 3, 3, 5, 0, 0]
    assert scored["sparsity"].tolist() == [0, 2, 0, 0, 2, 0, 0]
    assert scored[["x", "y"]].iloc[3].tolist() == [110, 110]


def test_surroundings_by_the_code(table, positions):
    """Squares, with the annotated cells that have a silver label: 1, 2, 3, 6; themselves too."""
    calls = evaluate_calls(read_published(table, positions), EvaluateSettings(draws=20)).calls
    part = public_confounders(calls)
    colon = part[part["dataset"] == "codex_colon"]
    assert colon["cell_id"].tolist() == [1, 2, 3, 6]
    assert colon["density"].tolist() == [2, 3, 2, 1]
    assert colon["sparsity"].tolist() == [1, 2, 1, 1]
    plus = np.array([8, 2, 6.0])
    assert colon["heterogeneity"].iloc[0] == pytest.approx(plus.std(ddof=1) / plus.mean())
    assert colon["rarity"].iloc[0] == 3 / 4
    assert part[part["dataset"] == "new"]["heterogeneity"].isna().all()  # no positive cell there
    named = calls.assign(dataset="mibi_decidua", channel="Ki67")
    assert not len(public_confounders(named))


def test_the_codes_figures_are_those_of_scikit_learn(table):
    pytest.importorskip("sklearn")
    from sklearn.feature_selection import mutual_info_classif

    rng = np.random.default_rng(3)
    n = 3000
    size = rng.integers(30, 900, n)
    frame = pd.DataFrame(dict(zip(COLUMNS.split(), ROWS[0], strict=True)), index=range(n)).assign(
        labels=np.arange(1, n + 1), cell_size=size, gt_noisy=rng.integers(0, 3, n)
    )
    gold = rng.random(n) < 0.3
    wrong = rng.random(n) < np.where(size < 200, 0.4, 0.05)
    frame = frame.assign(gt_proofread=gold.astype(int), nimbus=np.where(gold ^ wrong, 0.9, 0.1))
    frame.to_csv(table)
    settings = EvaluateSettings("dataset", draws=5, confounders="code")
    rows = evaluate_calls(read_published(table), settings).confounders
    rows = rows.set_index(["confounder", "method"])
    used = frame[frame["gt_noisy"] != 2]
    predicted = (used["nimbus"] >= 0.5).astype(int)
    for method, truth in (("model", used["gt_proofread"]), (AGAINST_SILVER, used["gt_noisy"])):
        expected = mutual_info_classif(
            used[["cell_size"]].to_numpy(), (predicted - truth).abs(), random_state=0
        )
        assert rows.loc[("cell_size", method), "information"] == pytest.approx(
            expected[0], abs=0.004
        )
    assert rows.loc[("cell_size", "model"), "information"] > 0.05


def test_code_without_silver_or_positions(table):
    calls = evaluate_calls(read_published(table), EvaluateSettings(draws=5)).calls
    rows = public_confounder_table(calls.drop(columns=["silver", "x", "y"]))
    assert set(rows["method"]) == {"model"}
    assert rows[rows["confounder"] == "cell_size"]["calls"].tolist() == [6]


def test_labels_that_lie_between_are_rounded(table, caplog):
    frame = pd.read_csv(table, index_col=0)
    frame.assign(gt_proofread=[0.98, 0.02, 1, 0, 1.6, 1, 0]).to_csv(table)
    assert read_published(table)["truth"].tolist() == [1, 0, 1, 0, -1, 1, 0]
    assert "3 labels in gt_proofread are rounded" in caplog.text


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("gt_proofread", 4, r"gt_proofread is not 0, 1, 2 or 3: line 3 \(4\)"),
        ("gt_proofread", "", "gt_proofread is not 0, 1, 2 or 3: line 3"),
        ("gt_noisy", -1, r"gt_noisy is not 0, 1, 2 or 3: line 3 \(-1\)"),
        ("nimbus", 200, r"nimbus is not within 0 and 1: line 3 \(200\)"),
        ("nimbus", "high", "nimbus"),
        ("ie", "", "ie is not a finite number: line 3"),
        ("cell_size", 0, "cell_size is not a positive number: line 3"),
        ("labels", 1, "cells are there twice for a channel: line 3"),
        ("labels", 0, "labels are not positive: line 3"),
        ("channel", "", "rows without a channel: line 3"),
        ("dataset", "mean", "must not be called 'mean'"),
    ],
)
def test_impossible_values(table, column, value, says):
    frame = pd.read_csv(table, index_col=0).astype(object)
    frame.loc[1, column] = value
    frame.to_csv(table)
    with pytest.raises(InputError, match=says):
        read_published(table)


def test_all_problems_at_once(table):
    frame = pd.read_csv(table, index_col=0)
    frame.assign(nimbus=frame["nimbus"] * 255, cell_size=-1).to_csv(table)
    with pytest.raises(InputError, match=r"(?s)nimbus is not within.*cell_size is not"):
        read_published(table)
    frame.drop(columns=["ie", "gt_noisy"]).to_csv(table)
    assert not is_published(table)
    with pytest.raises(InputError, match="columns are missing: gt_noisy, ie"):
        read_published(table)
    frame[:0].to_csv(table)
    with pytest.raises(InputError, match="no rows"):
        read_published(table)
    table.write_bytes(b"")
    with pytest.raises(PanimbusError, match="empty"):
        read_published(table)


def test_impossible_positions(table, positions):
    frame = pd.read_csv(positions)
    for bad, says in (
        (frame[frame["labels"] != 2], r"1 of 7 annotated cells have no position(?s:.*)cell 2 of f"),
        (pd.concat([frame, frame[:1]]), "cells are there twice"),
        (frame.assign(**{"centroid-0": np.inf}), "a centroid is not a finite number"),
        (frame.drop(columns="centroid-0"), "columns are missing: centroid-0"),
    ):
        bad.to_csv(positions, index=False)
        with pytest.raises(InputError, match=says):
            read_published(table, positions)


def test_mean_over_datasets(table):
    result = evaluate_calls(read_published(table), EvaluateSettings("dataset", draws=5))
    pooled = result.pooled[result.pooled["method"] == "model"].set_index("dataset")["f1"]
    assert pooled["new"] == 0  # one false positive, nothing positive
    assert pooled[ALL] == pytest.approx((pooled["codex_colon"] + 0) / 2)
