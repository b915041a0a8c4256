"""What the default model's training makes of staining read by eye (tools/)."""

from __future__ import annotations

import csv
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def real() -> ModuleType:
    return load("real_labels")


def test_readings_are_whole(real: ModuleType) -> None:
    with real.READINGS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["dataset"] for r in rows} == {
        name for name in real.LADDERS if not real.DATASETS[name].read_as
    }
    for row in rows:
        pairs = [[float(v) for v in pair.split("/")] for pair in row["counts"].split()]
        assert len(pairs) == len(real.TOP)
        assert all(0 <= n <= of <= real.SHOWN for n, of in pairs)
    keys = [(r["dataset"], r["channel"], r["reader"]) for r in rows]
    assert len(keys) == len(set(keys))


def test_no_field_of_view_of_dev_gold(real: ModuleType) -> None:
    paths = [p for one in real.DATASETS.values() for p in (*one.images, *one.labels)]
    assert not [p for p in paths if "r10" in p or "lymphoma" in p or "dcis" in p]
    judged = pd.read_csv(real.CALLS.parents[1] / "benchmarks/model/unseen_calls.csv.gz")
    for dataset, fov in set(zip(judged["dataset"], judged["fov"], strict=True)):
        assert f"{dataset}/images/{fov}.ome.tiff" not in paths


def test_shares_are_the_readers_mean_made_to_fall(real: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    first = ["13/13"] * 6 + ["6/12"] + ["0/13"] * 11
    second = ["13/13"] * 5 + ["0/13", "6.5/13"] + ["0/13"] * 11
    path = tmp_path / "readings.csv"
    path.write_text(
        f"dataset,channel,reader,counts\nd,CD3,A,{' '.join(first)}\nd,CD3,B,{' '.join(second)}\n"
    )
    (share,) = real.shares(path).values()
    np.testing.assert_allclose(share, [1] * 5 + [0.5, 0.5] + [0] * 11)


def test_share_by_place_in_the_ranking(real: ModuleType) -> None:
    share = np.array([1.0] * 9 + [0.45] + [0.0] * 8)  # 11 % all, 15 % about half, 20 % none
    ranks = np.array([1.0, 0.9, 0.85, 0.79, 0.01])  # in the top 0, 10, 15, 21 and 99 %
    np.testing.assert_allclose(real.at_rank(ranks, share), [1, 1, 0.45, 0, 0], atol=1e-9)


def test_calls_are_of_cells_that_are_trained_on(real: ModuleType) -> None:
    calls = pd.read_csv(real.CALLS)
    assert set(calls["call"]) == {"positive", "negative", "undetermined"}
    assert not calls.duplicated(["dataset", "fov", "channel", "cell_id"]).any()
    assert set(calls["dataset"]) == {name for name, one in real.DATASETS.items() if not one.read_as}
    held_out = real.HELD_OUT
    assert not calls["fov"].isin([*held_out, "r10"]).any()


@pytest.fixture
def known(
    real: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[pd.DataFrame, np.ndarray]:
    """Evidence of 2,000 cells in CD3, where only the brightest are positive, and in DNA; 300 calls;
    which are positive."""
    rng = np.random.default_rng(0)
    bright = rng.uniform(-3, 0.5, 2000)
    positive = bright + 0.1 * rng.normal(size=2000) > -0.2
    one = pd.DataFrame(
        {"fov": "f", "cell_id": np.arange(2000), "channel": "vectra_inform/CD3", "bright": bright}
    )
    for name in ("ladder", "score", "before"):
        one[name] = np.clip(
            2 * bright + 3 + rng.normal(size=2000), -3.9, 3.9
        )  # the border they see is too low
    every = pd.concat(
        [one, one.assign(channel="vectra_inform/DAPI", ladder=3.9)], ignore_index=True
    )
    monkeypatch.setattr(
        real,
        "evidence",
        lambda name, run, data: every if name == "vectra_inform" else every.iloc[:0],
    )
    cells = rng.choice(2000, 300, replace=False)
    calls = pd.DataFrame(
        {"dataset": "vectra_inform", "fov": "f", "channel": "CD3", "cell_id": cells}
    )
    calls["call"] = np.where(positive[cells], "positive", "negative")
    calls.loc[0, "call"] = "undetermined"
    path = tmp_path / "cell_calls.csv"
    calls.to_csv(path, index=False)
    monkeypatch.setattr(real, "CALLS", path)
    return every, positive


def test_labels_follow_the_calls(
    real: ModuleType, known: tuple[pd.DataFrame, np.ndarray], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    every, positive = known
    found = real.targets("vectra_inform", real.chances(real.read(tmp_path, tmp_path)))
    assert list(found) == ["CD3", "DAPI"]
    before, sure = every["ladder"].to_numpy()[:2000] > 0, found["CD3"] >= 0
    assert (before == positive).mean() < 0.75
    assert sure.mean() > 0.8
    assert ((found["CD3"] == 1) == positive)[sure].mean() > 0.95
    calls = pd.read_csv(real.CALLS)
    of = {"positive": 1, "negative": 0, "undetermined": -1}
    assert found["CD3"][calls["cell_id"]].tolist() == [
        of[c] for c in calls["call"]
    ]  # a call is the label
    assert set(found["DAPI"].tolist()) == {1}  # a nuclear channel goes by its ladder
    alone = real.targets("vectra_inform", real.read(tmp_path, tmp_path))
    sure = alone["CD3"] >= 0
    assert (alone["CD3"][sure] == 1).tolist() == before[sure].tolist()
    np.testing.assert_array_equal(alone["DAPI"], found["DAPI"])


def test_nuclei_of_ten_discs(real: ModuleType) -> None:
    y, x = np.mgrid[:120, :260]
    stain = sum(
        100.0 * np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / 40) ** 2))
        for cy in (35, 85)
        for cx in range(30, 260, 50)
    )
    labels = real.nuclei(stain + 1, 0.5)
    assert labels.max() == 10
    assert len({int(labels[cy, cx]) for cy in (35, 85) for cx in range(30, 260, 50)} - {0}) == 10


@pytest.fixture
def field(real: ModuleType) -> object:
    """Forty cells of 6 x 6 px; ten of them carry CD3, all DNA."""
    index = np.full((40, 80), -1, np.int32)
    image = np.zeros((2, 40, 80), np.float16)
    for k in range(40):
        y, x = divmod(k, 8)
        box = (slice(8 * y, 8 * y + 6), slice(10 * x, 10 * x + 6))
        index[box] = k
        image[0][box] = 0.6 if k < 10 else 0.02
        image[1][box] = 0.5
    mean = image[:, ::8, ::10].reshape(2, 40)
    truth = np.stack([np.arange(40) < 10, np.ones(40, bool)]).astype(np.int8)
    counterstain = np.array([0, 1], np.float32)
    return real.LabelledFov(image, index, mean, truth, ("CD3", "DNA"), counterstain)


def test_hazed_field(real: ModuleType, field: object) -> None:
    for seed in range(6):
        out = real.hazed(field, ("DNA",), np.random.default_rng(seed))
        assert out.channels == ("CD3",)
        assert set(out.target[0, :10].tolist()) <= {1, -1}
        assert set(out.target[0, 10:].tolist()) == {0}
        assert np.median(out.mean[0, 10:]) > 0.03  # negative cells are brighter than before
        shown = np.bincount(out.index.ravel() + 1, out.image[0].ravel())[1:] / 36
        np.testing.assert_allclose(shown, out.mean[0], atol=4e-3)  # pixels and means tell the same
    assert (
        real.hazed(
            replace(field, target=np.ones((2, 40), np.int8)),
            ("DNA",),
            np.random.default_rng(0),
        )
        is None
    )


def test_softened_nuclear_channels(real: ModuleType, field: object) -> None:
    out = real.softened(field, ("DNA",), np.random.default_rng(0), times=3)
    assert out.channels == ("DNA",) * 3
    assert set(out.target.ravel().tolist()) == {1}
    inside, edge = out.index[3, 3], out.index[3, 6]
    assert (inside, edge) == (0, -1)
    assert (out.image[:, 3, 6] > 0.02).all()  # it is blurred
    assert out.image.max(axis=(1, 2)).min() > 0.9  # in units of its own normaliser
    for plane, mean in zip(out.image, out.mean, strict=True):
        np.testing.assert_allclose(
            np.bincount(out.index.ravel() + 1, plane.ravel())[1:] / 36, mean, atol=4e-3
        )
    assert real.softened(field, ("DAPI",), np.random.default_rng(0)) is None


def test_drawn_markers(real: ModuleType, field: object) -> None:
    large = replace(
        field,
        index=np.kron(field.index, np.ones((2, 2), np.int32)),
        image=np.kron(field.image, np.ones((1, 2, 2), np.float16)),
    )
    bright = np.random.default_rng(1).uniform(0.5, 1.5, 40).astype(np.float16)
    image, mean = large.image.copy(), large.mean.copy()
    image[1] *= np.append(bright, 0)[large.index]
    mean[1] *= bright
    large = replace(large, image=image, mean=mean)
    out = real.drawn(large, ("DNA",), np.random.default_rng(0), times=40)
    assert out.image.shape == (40, 80, 160)
    assert {c.split()[1] for c in out.channels} == {"membrane", "cytoplasm", "nuclear"}
    assert set(np.unique(out.target).tolist()) == {-1, 0, 1}
    empty = ~(out.target == 1).any(1)
    assert 2 < empty.sum() < 20
    for plane, mean, truth in zip(out.image, out.mean, out.target, strict=True):
        shown = np.bincount(out.index.ravel() + 1, plane.ravel())[1:] / 144
        whole = np.setdiff1d(
            np.arange(40), out.index[plane == 8]
        )  # the pool keeps no brighter pixel
        np.testing.assert_allclose(
            shown[whole], mean[whole], atol=4e-3
        )  # pixels and means tell the same
        if (truth == 1).sum() > 3 and (truth == 0).sum() > 3:
            assert np.median(mean[truth == 1]) > np.median(mean[truth == 0])
    assert out.counterstain.max() < 1  # a drawn marker is no counterstain
    assert out.counterstain[empty].max() > 0.5  # though haze may look like one


def test_fields_know_how_much_their_channels_look_like_the_counterstain(
    real: ModuleType, field: object
) -> None:
    rng = np.random.default_rng(0)
    nuclear = rng.uniform(0.3, 0.7, 40)
    mean = np.stack([np.where(np.arange(40) < 10, 0.6, 0.02), nuclear]).astype(np.float16)
    some = replace(field, mean=mean)
    rows = [
        (some.image[0], nuclear.astype(np.float16) / 2, some.target[0], "haze"),
        (some.image[1], mean[1], some.target[1], "DNA"),
    ]
    assert real.with_channels(rows, some, [1]).counterstain.tolist() == pytest.approx([0.999, 1])
    assert np.isnan(real.with_channels(rows[:1], some, []).counterstain).all()
