"""`panimbus finetune` as a user runs it."""

import json

import pandas as pd
import pytest

pytest.importorskip("torch")


@pytest.fixture
def small(tmp_path):
    """A small net with random weights."""
    import torch

    from panimbus.model import CompactUNet, ModelCard
    from panimbus.model.weights import save_model

    torch.manual_seed(0)
    torch.set_num_threads(1)
    card = ModelCard(
        name="random", architecture="compact_unet", settings={"widths": (4,)}, planes=("image", "interior"), mpp=1.0,
        percentile=99.9, tta="none",
    )  # fmt: skip
    return save_model(
        tmp_path / "random", CompactUNet(widths=(4,), planes=2, stats=0).eval(), card
    ).safetensors


@pytest.fixture
def arguments(folder, small):
    """Two FOVs, 80 calls that mean nothing, and the command."""
    rows = []
    for k, fov in enumerate(("fov1", "fov2")):
        folder.add(fov, seed=k, n=40)
        rows += [
            (fov, c, ch, "positive" if (c + k) % 2 else "negative")
            for c in range(1, 21)
            for ch in ("CD3", "CD20")
        ]
    calls = folder.root / "calls.csv"
    pd.DataFrame(rows, columns=["fov", "cell_id", "channel", "call"]).to_csv(calls, index=False)
    options = (
        "--annotations",
        calls,
        "--labels",
        folder.labels,
        "--mpp",
        "0.5",
        "--model",
        small,
        "--out",
        folder.out,
    )
    return ("finetune", folder.images, *options)


def test_calls_that_mean_nothing(folder, arguments, panimbus):
    options = ("--steps", "3")
    done = panimbus(*arguments, *options)
    assert done.code == 0, done.err
    assert "The old model stays, random" in done.out
    assert folder.written() == ["held_out.csv", "report.json", "report.md"]
    assert json.loads((folder.out / "report.json").read_text())["calls"]["used"] == 80
    assert "finetune" in (folder.out / "report.md").read_text().splitlines()[-1]
    again = panimbus(*arguments, *options)
    assert again.code == 2
    assert "new folder" in again.err


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({"fov": "fov9"}, (), "not among the images: fov9"),
        ({"channel": "CD4"}, (), "has no channel CD4"),
        ({"cell_id": 999}, (), "has no cell 999"),
        ({"call": "maybe"}, (), "unknown answers in the column call: 'maybe'"),
        ({"cell_id": 2}, (), "annotated twice"),
        ({}, ("--recalibrate",), "panimbus recalibrate RESULTS ANNOTATIONS"),
        ({}, ("--per-marker",), "panimbus recalibrate RESULTS ANNOTATIONS"),
        ({}, ("--steps", "0"), "steps"),
        ({}, ("--device", "tpu"), "'tpu'"),
        ({}, ("--model", "nimbuss"), "Unknown model 'nimbuss'"),
        ({}, ("--normaliser", "nowhere.json"), "nowhere.json"),
    ],
)
def test_bad_input(folder, arguments, panimbus, change, options, says):
    frame = pd.read_csv(arguments[3])
    for column, value in change.items():
        frame.loc[0, column] = value
    frame.to_csv(arguments[3], index=False)
    done = panimbus(*arguments, *options)
    assert done.code == 2, done.out
    assert says in done.err
    assert "Traceback" not in done.err
    assert folder.written() == []


@pytest.mark.parametrize(("n", "says"), [(10, "too few annotations"), (40, "panimbus recalibrate")])
def test_too_few_calls(folder, arguments, panimbus, n, says):
    pd.read_csv(arguments[3]).head(n).to_csv(arguments[3], index=False)
    done = panimbus(*arguments)
    assert done.code == 2
    assert says in done.err
