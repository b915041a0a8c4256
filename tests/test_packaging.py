"""What is shipped: one model, and extras that are named as they are called."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import panimbus
from panimbus.model.weights import DEFAULT_MODEL, SHIPPED, resolve_model, shipped_models

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = {"clients", "dev", "docs"}
EXTRAS = set(PROJECT["optional-dependencies"]) - FOR_DEVELOPERS


def test_the_default_model_is_the_only_one():
    assert shipped_models() == [DEFAULT_MODEL]
    assert {path.suffix for path in SHIPPED.iterdir()} == {".onnx", ".safetensors"}


def test_the_package_stays_small():
    files = [p for p in (ROOT / "src").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files if p.suffix != ".py") < 3e6
    assert not [p for p in files if p.stat().st_size > 1.5e6]


@pytest.mark.parametrize("text", ["errors", "documentation"])
def test_extras_are_named_as_they_are_called(text):
    if text == "errors":
        code = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
        names = set(re.findall(r'MissingExtraError\(\s*[^()]*?"(\w+)",?\s*\)', code))
        assert names
        assert names <= EXTRAS
    else:
        page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
        assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == EXTRAS


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for():
    text = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    run = text.split("  run:\n")[1].split("\n\n")[0]
    asked = {line.strip("- ").replace(" ", "") for line in run.splitlines()}
    needed = {d.replace("matplotlib>", "matplotlib-base>") for d in PROJECT["dependencies"]}
    assert asked == needed | {f"python{PROJECT['requires-python']}"}
    assert f"license: {PROJECT['license']}" in text
    assert PROJECT["description"] in text
    (entry,) = PROJECT["scripts"].items()
    assert f"- {entry[0]} = {entry[1]}" in text


def test_the_container_installs_extras_that_there_are():
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    (extras,) = re.findall(r"\.whl\)\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= EXTRAS
    wheels = re.findall(r"^EXTRAS  \?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(wheels[0].split(",")) == EXTRAS - {"train", "backbones"}  # these bring torch


def test_a_version_is_the_same_everywhere():
    version = panimbus.__version__.split(".dev")[0]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    recipe = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    (cited,) = re.findall(r"^version: (.*)$", citation, re.MULTILINE)
    assert f"\n  version: {cited}\n" in recipe
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## (.*)$", changes, re.MULTILINE)[0]
    if ".dev" in panimbus.__version__:
        assert newest == "Unreleased"
    else:
        (date,) = re.findall(r'^date-released: "(.*)"$', citation, re.MULTILINE)
        assert cited == version
        assert newest == f"{version} - {date}"


def test_the_model_package_holds_what_predict_computes(monkeypatch):
    """Inputs and scores of the package's example; bioimageio.core tests the rest (make bioimageio)."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    zoo = pytest.importorskip("model_zoo")
    files = resolve_model(DEFAULT_MODEL)
    planes, stats = zoo.example_input(files.card)
    assert planes.shape == (1, len(files.card.planes), zoo.SIDE, zoo.SIDE)
    assert stats.shape == (1, len(files.card.stats))
    scores = zoo.scores_of(files.onnx, planes, stats)
    assert zoo.opset_of(files.onnx) == onnx.load(files.onnx).opset_import[0].version
    tissue = panimbus.simulate_tissue(
        (zoo.SIDE, zoo.SIDE), files.card.mpp, panel=1, seed=zoo.SEED, platform="codex"
    )
    fov = panimbus.from_array(tissue.image, tissue.labels, channels=["CD3"], mpp=files.card.mpp)
    table = panimbus.predict(fov, settings=panimbus.PredictSettings("none", precision="float32"))
    cells = table.obs["cell_id"].to_numpy()
    mean = [scores[0, 0][tissue.labels == cell].mean() for cell in cells]
    np.testing.assert_allclose(mean, table.X[:, 0], atol=2e-3)
    texts = files.card.model_dump() | dict.fromkeys(("planes", "stats"), "")
    assert files.card.not_for in zoo.DOCUMENTATION.format(**texts)
