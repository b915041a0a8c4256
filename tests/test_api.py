"""The public Python API: its names, their documentation and types, and what a user sees of them."""

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import panimbus
from panimbus.core.table import CELL

SOURCE = Path(panimbus.__file__)
SCRIPT = Path(__file__).with_name("api_user.py")
FUNCTIONS = [n for n in panimbus.__all__ if inspect.isfunction(getattr(panimbus, n))]
TYPES = [n for n in panimbus.__all__ if inspect.isclass(getattr(panimbus, n))]


def test_importing_is_fast_and_loads_nothing_else():
    code = (
        "import sys, time; begin = time.process_time(); import panimbus;"
        "print(time.process_time() - begin, *{'numpy', 'pandas', 'anndata'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (seconds,) = done.stdout.split()
    assert float(seconds) < 0.1


def test_the_names_for_type_checkers_are_the_lazy_ones():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert imports == panimbus._MODULES
    assert set(panimbus.__all__) == {*imports, "__version__"}
    assert dir(panimbus) == sorted(panimbus.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'Foo'; it has .*predict"):
        _ = panimbus.Foo


def test_no_name_hides_a_module():
    assert [n for n in panimbus.__all__ if importlib.util.find_spec(f"panimbus.{n}")] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_documents_its_parameters(name):
    function = getattr(panimbus, name)
    section = re.search(
        r"Parameters\n-+\n(.*?)(\n\n\w+\n---|\Z)", inspect.getdoc(function), re.DOTALL
    )
    documented = {
        word
        for line in re.findall(r"^(\w.*)$", section[1], re.M)
        for word in re.findall(r"\w+", line)
    }
    assert set(inspect.signature(function).parameters) <= documented
    assert ">>>" in function.__doc__


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_documented(name):
    assert len(getattr(panimbus, name).__doc__) > 20


@pytest.mark.slow
def test_a_users_script_is_typed():
    pytest.importorskip("mypy")
    text = SCRIPT.read_text(encoding="utf-8")
    assert [n for n in panimbus.__all__ if not re.search(rf"\b{n}\b", text)] == []
    assert SOURCE.with_name("py.typed").is_file()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--config-file=",
            SCRIPT,
        ],
        env=os.environ | {"MYPYPATH": str(SOURCE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.stdout.startswith("Success"), done.stdout + done.stderr


def test_what_a_user_holds_has_a_short_repr():
    tissue = panimbus.simulate_tissue((64, 64), panel=7, seed=1)
    fov = panimbus.from_array(tissue.image, channels=tissue.channels, mpp=None, fov_id="tonsil")
    names = "7 channels: marker_1, marker_2, marker_3, marker_4, marker_5, ... and 2 more"
    assert repr(fov) == f"<Fov 'tonsil': 64 x 64 pixels, {fov.image.dtype}, no labels, {names}>"
    assert re.fullmatch(
        rf"<SimulatedTissue: \w+, 64 x 64 pixels .*, \d+ cells, {names}>", repr(tissue)
    )
    assert repr(panimbus.PredictSettings(threads=2)) == "PredictSettings(threads=2)"


def test_truth_of_simulated_tissue_as_annotations(tmp_path):
    tissue = panimbus.simulate_tissue((64, 64), panel=2, seed=1)
    table = tissue.annotations("a")
    assert len(table) == tissue.truth.size
    called = table["call"].map({"undetermined": -1, "negative": 0, "positive": 1}).to_numpy()
    np.testing.assert_array_equal(called, tissue.truth.T.ravel())
    panimbus.write_annotations(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(
        panimbus.read_annotations(tmp_path / "a.csv")[["fov", "cell_id", "channel", "call"]],
        table[["fov", "cell_id", "channel", "call"]],
        check_dtype=False,
    )


@pytest.mark.parametrize("suffix", [".h5ad", ".csv"])
def test_scores_are_read_as_they_were_written(tmp_path, suffix, cell_table):
    panimbus.write_scores(tmp_path / f"cells{suffix}", cell_table)
    again = panimbus.read_scores(tmp_path / f"cells{suffix}")
    np.testing.assert_array_equal(np.asarray(again.X), np.asarray(cell_table.X))
    assert again.obs[CELL].tolist() == cell_table.obs[CELL].tolist()


@pytest.fixture
def cell_table():
    from panimbus.core.table import FovScores, to_anndata

    scores = np.array([[0.25, 0.5], [0.75, 1.0], [0.0, 0.125]], np.float32)
    part = FovScores(
        "a",
        np.arange(1, 4),
        scores,
        scores * 0,
        scores,
        np.full(3, 50.0),
        np.zeros((3, 2)),
        mpp=0.5,
    )
    return to_anndata([part], ["CD3", "CD8"], normaliser={"CD3": 1.0, "CD8": 2.0}, provenance={})


def test_scores_compared_with_annotations(cell_table):
    """Precision and recall by hand: CD3 calls cell 2; CD8 calls cells 1 and 2, of which 1 is wrong."""
    cell_table.uns["panimbus"] = {"threshold": 0.5}
    cell_table.obsm["spatial"] = np.array([[5.0, 5.0], [15.0, 5.0], [25.0, 5.0]])
    annotations = pd.DataFrame(
        {
            "fov": "a",
            "cell_id": [1, 2, 3, 1, 2, 3],
            "channel": ["CD3"] * 3 + ["CD8"] * 3,
            "call": ["negative", "positive", "negative", "negative", "likely positive", "negative"],
        }
    )
    settings = panimbus.EvaluateSettings(draws=10)
    markers = panimbus.evaluate_scores(cell_table, annotations, settings=settings).markers
    model = markers[markers["method"] == "model"].set_index("channel")
    assert model.loc["CD3", "f1"] == 1
    assert model.loc["CD8", "f1"] == pytest.approx(2 / 3)


def test_training_and_building_refuse_what_they_cannot_do(tmp_path):
    with pytest.raises(panimbus.InputError, match="Unknown preset"):
        panimbus.train_model("huge", None, tmp_path / "run")
    with pytest.raises(panimbus.InputError, match="no such file"):
        panimbus.build_dataset(tmp_path / "d.toml", tmp_path / "store")
