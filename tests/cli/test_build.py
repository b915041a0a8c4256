"""``panimbus simulate`` and ``build`` from end to end, and every mistake in their input as one
message."""

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from panimbus.core.errors import InputError
from panimbus.data.datasets import build_dataset
from panimbus.data.store import Store
from panimbus.io import open_fovs


@dataclass(frozen=True)
class Said:
    exit_code: int
    output: str


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    from panimbus.cli.simulate import command

    out = tmp_path_factory.mktemp("data") / "sim"
    command(out=out, fovs=10, side=96, platform="codex", seed=3)
    return out


@pytest.fixture
def run_cli(panimbus):
    """``run_cli("build", ...)``: (exit code, all that was said)."""

    def call(*args):
        done = panimbus(*args)
        return Said(done.code, done.out + done.err)

    return call


@pytest.fixture
def data(simulated, tmp_path):
    return shutil.copytree(simulated, tmp_path / "sim")


def rewrite(data, old, new):
    path = data / "dataset.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_simulated_dataset(simulated):
    fovs = open_fovs(simulated / "images", simulated / "labels")
    cells, truth = pd.read_csv(simulated / "cells.csv"), pd.read_csv(simulated / "truth.csv")
    assert [f.fov_id for f in fovs] == [f"fov{k:03d}" for k in range(1, 11)]
    assert len(cells) == len(truth)
    positive = truth[list(fovs[0].channels)].to_numpy()
    assert set(positive[~np.isnan(positive)]) == {0, 1}
    assert truth["CD3"].isna().any()
    for fov in fovs:
        ids = np.unique(fov.labels[0:96, 0:96])
        assert set(ids[ids > 0]) == set(cells[cells.fov == fov.fov_id].cell_id)


def test_build(simulated, tmp_path, run_cli):
    out = tmp_path / "store"
    result = run_cli("build", simulated / "dataset.toml", "--out", out, "--tile", 64)
    assert result.exit_code == 0, result.output
    store = Store.open(out)
    assert [
        len(store.examples.fov[store.examples.split == s].unique())
        for s in ("train", "val", "test")
    ] == [8, 1, 1]
    truth = pd.read_csv(simulated / "truth.csv").set_index(["fov", "cell_id"])
    for row in store.rows("train")[::7]:
        example = store.read(row)
        expected = [truth.loc[(example.fov, i), example.marker] for i in example.cell_id]
        np.testing.assert_array_equal(
            np.where(example.target < 0, np.nan, example.target), expected
        )
    facts = json.loads((tmp_path / "store.report" / "simulated.json").read_text())
    assert facts["dataset"] == "simulated"
    page = (tmp_path / "store.report" / "simulated.html").read_text()
    assert "CD20" in page
    assert "://" not in page  # nothing is loaded; base64 has no colon
    assert len(pd.read_csv(tmp_path / "store.report" / "simulated.csv")) == 11
    again = run_cli("build", simulated / "dataset.toml", "--out", out)
    assert again.exit_code == 2
    assert "already exists" in again.output


def test_build_in_python_is_the_command(simulated, tmp_path, run_cli):
    run_cli("build", simulated / "dataset.toml", "--out", tmp_path / "a", "--tile", 64)
    command = Store.open(tmp_path / "a")
    store = build_dataset(simulated / "dataset.toml", tmp_path / "b", settings={"tile": 64})
    pd.testing.assert_frame_equal(store.examples, command.examples)
    assert store.info == command.info
    assert np.array_equal(store.read(3).image, command.read(3).image)
    with pytest.raises(InputError, match="tiles: there is no such setting; did you mean tile"):
        build_dataset(simulated / "dataset.toml", tmp_path / "c", settings={"tiles": 64})


def test_assignment_matrix_and_exclusion(data, tmp_path, run_cli):
    (data / "matrix.csv").write_text(
        "type,CD20,PanCK,CD68\nB cell,+,-,+\nT helper,-,-,-\nepithelial,-,+,-\nmacrophage,-,-,-\n"  # CD68 on B cells: wrong
    )
    rewrite(data, 'labels = "truth.csv"', 'assignment = "matrix.csv"')
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "s", "--only-report")
    assert result.exit_code == 0, result.output
    assert "proposed for exclusion: CD68: labels and intensity hardly agree" in result.output
    assert "CD20:" not in result.output
    assert not (tmp_path / "s").exists()
    result = run_cli(
        "build", data / "dataset.toml", "--out", tmp_path / "s", "--tile", 64, "--exclude-proposed"
    )
    assert result.exit_code == 0, result.output
    assert Store.open(tmp_path / "s").info.datasets[0].markers == ("CD20", "PanCK")


def test_thresholds_and_gates(data, tmp_path, run_cli):
    rewrite(data, 'labels = "truth.csv"', "thresholds = { CD3 = 10, CD20 = [5, 50] }")
    assert (
        run_cli("build", data / "dataset.toml", "--out", tmp_path / "t", "--tile", 64).exit_code
        == 0
    )
    store = Store.open(tmp_path / "t")
    for row in range(0, len(store), 5):
        example = store.read(row)
        raw = example.mean * store.scales["simulated"].value(example.marker)
        low, high = (10, 10) if example.marker == "CD3" else (5, 50)
        expected = np.where(raw >= high, 1, np.where(raw <= low, 0, -1))
        assert (
            expected == example.target
        ).mean() > 0.99  # at the threshold itself the division rounds
    rewrite(
        data,
        "thresholds = { CD3 = 10, CD20 = [5, 50] }",
        "gates = { markers = ['CD20', 'PanCK', 'DAPI'] }",
    )
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "g", "--tile", 64)
    assert result.exit_code == 0, result.output


def test_a_mix_of_datasets(data, tmp_path, run_cli):
    other = shutil.copytree(data, tmp_path / "other")
    rewrite(other, 'name = "simulated"', 'name = "other"')
    (tmp_path / "mix.toml").write_text(
        'tile = 64\npercentile = 99.0\n[[datasets]]\nfile = "sim/dataset.toml"\nshare = 3\n'
        '[[datasets]]\nfile = "other/dataset.toml"\nshare = 1\n'
    )
    result = run_cli("build", tmp_path / "mix.toml", "--out", tmp_path / "s")
    assert result.exit_code == 0, result.output
    info = Store.open(tmp_path / "s").info
    assert [(d.name, d.share) for d in info.datasets] == [("simulated", 0.75), ("other", 0.25)]
    assert (info.tile, info.percentile) == (64, 99.0)
    assert (
        run_cli(
            "build", data / "dataset.toml", data / "dataset.toml", "--out", tmp_path / "x"
        ).exit_code
        == 2
    )


def change_table(data, name, change):
    frame = pd.read_csv(data / name)
    change(frame).to_csv(data / name, index=False)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (
            lambda d: change_table(d, "cells.csv", lambda f: f.iloc[:-3]),
            "3 cells of the label image are not in the table",
        ),
        (
            lambda d: change_table(d, "cells.csv", lambda f: f.replace({"cell_id": {1: 99999}})),
            "are not in the label image: 99999",
        ),
        (
            lambda d: change_table(d, "cells.csv", lambda f: pd.concat([f, f.iloc[:2]])),
            "in the table twice: fov001:1",
        ),
        (
            lambda d: change_table(d, "cells.csv", lambda f: f.drop(columns="cell_type")),
            "missing: cell_type",
        ),
        (
            lambda d: change_table(d, "cells.csv", lambda f: f.assign(cell_id=1.5)),
            "no whole number",
        ),
        (
            lambda d: change_table(d, "cells.csv", lambda f: f.replace({"fov001": "fov1"})),
            "FOVs that the images do not have",
        ),
        (
            lambda d: change_table(d, "truth.csv", lambda f: f.assign(CD3=2)),
            "neither 0 to 1 nor empty",
        ),
        (
            lambda d: change_table(d, "truth.csv", lambda f: f.rename(columns={"CD3": "CD33"})),
            "CD33",
        ),
        (
            lambda d: change_table(d, "truth.csv", lambda f: f.replace({"cell_id": {1: 99999}})),
            "are not in the label image: 99999",
        ),
        (lambda d: (d / "truth.csv").unlink(), "no such file"),
        (lambda d: (d / "labels" / "fov002.tiff").unlink(), "no label image"),
        (lambda d: rewrite(d, "[silver]", "[silver]\nexclude = ['CD99']"), "CD99"),
        (lambda d: rewrite(d, "[silver]", "[silver]\ngates = {}"), "give one of"),
        (lambda d: rewrite(d, 'tissue = "simulated"', 'tisue = "simulated"'), "tisue"),
        (lambda d: rewrite(d, 'tissue = "simulated"', 'gold = ["fov9"]'), "fov9"),
        (lambda d: rewrite(d, 'tissue = "simulated"', "fovs = ['fov9']"), "fov9"),
        (
            lambda d: rewrite(d, 'tissue = "simulated"', "splits = { fov001 = 'dev' }"),
            "splits.fov001",
        ),
        (lambda d: rewrite(d, 'name = "simulated"', "name = "), "is not TOML"),
    ],
)
def test_mistakes(data, tmp_path, run_cli, spoil, match):
    spoil(data)
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "s")
    assert result.exit_code == 2, result.output
    assert match in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        ("type,CD20,CD333\nB cell,+,-\n", "CD333"),
        ("type,CD20\nB cel,+\n", "'B cel'|B cel"),
        ("type,CD20\nB cell,maybe\n", "'maybe'"),
    ],
)
def test_bad_matrices(data, tmp_path, run_cli, matrix, match):
    (data / "matrix.csv").write_text(matrix)
    rewrite(data, 'labels = "truth.csv"', 'assignment = "matrix.csv"')
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "s")
    assert result.exit_code == 2
    assert any(m in result.output for m in match.split("|"))
    assert "available" in result.output or "expected" in result.output


def test_cells_that_no_table_names_may_be_undefined(data, tmp_path, run_cli):
    change_table(data, "cells.csv", lambda f: f.iloc[:-3])
    rewrite(data, 'tissue = "simulated"', 'missing = "undefined"')
    assert (
        run_cli("build", data / "dataset.toml", "--out", tmp_path / "s", "--only-report").exit_code
        == 0
    )


def test_some_fovs_for_the_normaliser_alone(data, tmp_path, run_cli):
    rewrite(
        data, 'tissue = "simulated"', "fovs = ['fov001', 'fov002', 'fov003']\ngold = ['fov002']"
    )
    (data / "labels" / "fov009.tiff").unlink()
    assert (
        run_cli("build", data / "dataset.toml", "--out", tmp_path / "s", "--tile", 64).exit_code
        == 0
    )
    store = Store.open(tmp_path / "s")
    assert set(store.examples.fov) == {"fov001", "fov002", "fov003"}
    assert set(store.examples.split[store.examples.fov == "fov002"]) == {"test"}
    assert len(store.scales["simulated"].fov_ids) == 10


def test_patients_stay_together(data, tmp_path, run_cli):
    change_table(data, "cells.csv", lambda f: f.assign(patient="p" + f.fov.str[-1]))
    rewrite(data, 'type = "cell_type"', 'patient = "patient"')
    rewrite(
        data,
        'tissue = "simulated"',
        "patients = { fov002 = 'p1', fov003 = 'p1' }\ngold = ['fov003']",
    )
    assert (
        run_cli("build", data / "dataset.toml", "--out", tmp_path / "s", "--tile", 64).exit_code
        == 0
    )
    examples = Store.open(tmp_path / "s").examples
    assert set(examples.split[examples.patient == "p1"]) == {"test"}
    assert set(examples.fov[examples.patient == "p1"]) == {"fov001", "fov002", "fov003"}


def test_simulate_refuses(simulated, tmp_path, run_cli):
    assert "already contains a dataset" in run_cli("simulate", "--out", simulated).output
    assert "'mibi'" in run_cli("simulate", "--out", tmp_path / "x", "--platform", "xray").output
    assert not (tmp_path / "x").exists()


def test_fetch_offline(tmp_path, run_cli, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run_cli("fetch", "pan-m-gold", "--out", tmp_path)
    assert result.exit_code == 2
    assert "cannot be reached" in result.output
    assert "pan-m-gold" in run_cli("fetch", "pan-x", "--out", tmp_path).output


@pytest.mark.parametrize("wrong", ["abc", "", "1.5", "inf"])
@pytest.mark.parametrize("table", ["cells.csv", "truth.csv"])
def test_cell_ids_are_whole_numbers(data, tmp_path, run_cli, table, wrong):
    """No id is rounded to another cell's, and none ends in a traceback."""
    lines = (data / table).read_text().splitlines()
    lines[1] = ",".join(["fov001", wrong, *lines[1].split(",")[2:]])
    (data / table).write_text("\n".join(lines) + "\n")
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "s")
    assert result.exit_code == 2, result.output
    assert "whole number" in result.output
    assert "WARNING" not in result.output
    assert list(tmp_path.glob("s*")) == [data]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--mpp", 0), "mpp"),
        (("--percentile", 200), "percentile"),
        (("--tile", 64, "--overlap", 64), "overlap of 64 px"),
    ],
)
def test_settings_of_the_store_are_checked_first(data, tmp_path, run_cli, options, match):
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "s", *options)
    assert result.exit_code == 2, result.output
    assert match in result.output
    assert list(tmp_path.glob("s*")) == [data]  # not even a report


def test_shares_for_all_datasets_or_for_none(data, tmp_path, run_cli):
    lines = [
        "[[datasets]]",
        'file = "sim/dataset.toml"',
        "share = 3",
        "[[datasets]]",
        'file = "other.toml"',
    ]
    (tmp_path / "mix.toml").write_text("\n".join(lines))
    result = run_cli("build", tmp_path / "mix.toml", "--out", tmp_path / "s")
    assert result.exit_code == 2
    assert "a share for each dataset" in result.output


@pytest.mark.parametrize(
    "text", ["channel,threshold\nCD3,high\n", "channel,threshold\nCD3,1\n,2\n"]
)
def test_bad_thresholds(data, tmp_path, run_cli, text):
    (data / "thresholds.csv").write_text(text)
    rewrite(data, 'labels = "truth.csv"', 'thresholds = "thresholds.csv"')
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "s")
    assert result.exit_code == 2, result.output
    assert "hreshold" in result.output
    assert "Traceback" not in result.output


def test_rows_wider_than_their_header(data, tmp_path, run_cli):
    """Else pandas moves every column by one."""
    (data / "matrix.csv").write_text("type,CD20\nB cell,+,-\nT helper,-,-\n")
    rewrite(data, 'labels = "truth.csv"', 'assignment = "matrix.csv"')
    result = run_cli("build", data / "dataset.toml", "--out", tmp_path / "s")
    assert result.exit_code == 2
    assert "more fields than its header" in result.output


def test_a_folder_of_panm(tmp_path, run_cli):
    """One command: what is missing is named, and bad rows are counted."""
    from panm_layout import write_panm

    write_panm(tmp_path / "panm", ["vectra_colon", "codex_colon"])
    result = run_cli("build", tmp_path / "panm", "--out", tmp_path / "s", "--tile", 32)
    assert result.exit_code == 0, result.output
    assert "Pan-M: mibi_breast, mibi_decidua, vectra_pancreas: not in" in result.output
    assert "20x is assumed, 0.5 µm per pixel" in result.output
    assert Store.open(tmp_path / "s").info.percentile == 99.99
    change_table(
        tmp_path / "panm" / "codex_colon",
        "cell_table.csv",
        lambda f: pd.concat([f, f.iloc[:3].assign(labels=[900, 901, 902])]),
    )
    only = ("build", tmp_path / "panm", "--datasets", "codex_colon", "--only-report")
    result = run_cli(*only, "--out", tmp_path / "t")
    assert result.exit_code == 2
    assert "--skip-bad-rows" in result.output
    result = run_cli(*only, "--out", tmp_path / "t", "--skip-bad-rows")
    assert result.exit_code == 0, result.output
    assert "bad rows of cells left out: 3 of cells that are not in" in result.output
    result = run_cli(*only[:2], "--datasets", "mibi_breast", "--out", tmp_path / "t")
    assert result.exit_code == 2
    assert "available: codex_colon, vectra_colon" in result.output
