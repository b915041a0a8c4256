"""What the default model's training makes of staining read by eye (tools/)."""

from __future__ import annotations

import csv
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
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
        name for name, one in real.DATASETS.items() if not one.read_as
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


def test_shares_are_the_readers_mean_made_to_fall(real: ModuleType, tmp_path: Path) -> None:
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
    held_out = load("train_default").REAL["held_out"]
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
    return real.Field(
        image,
        index,
        mean,
        np.zeros(2, np.float32),
        truth,
        ("CD3", "DNA"),
        np.array([0, 1], np.float32),
    )


def test_hazed_field(real: ModuleType, field: object) -> None:
    for seed in range(6):
        out = real.hazed(field, ("DNA",), np.random.default_rng(seed))
        assert out.channels == ("CD3",)
        assert set(out.truth[0, :10].tolist()) <= {1, -1}
        assert set(out.truth[0, 10:].tolist()) == {0}
        assert np.median(out.mean[0, 10:]) > 0.03  # negative cells are brighter than before
        shown = np.bincount(out.index.ravel() + 1, out.image[0].ravel())[1:] / 36
        np.testing.assert_allclose(shown, out.mean[0], atol=4e-3)  # pixels and means tell the same
    assert (
        real.hazed(
            real.Field(**{**vars(field), "truth": np.ones((2, 40), np.int8)}),
            ("DNA",),
            np.random.default_rng(0),
        )
        is None
    )


def test_softened_nuclear_channels(real: ModuleType, field: object) -> None:
    out = real.softened(field, ("DNA",), np.random.default_rng(0), times=3)
    assert out.channels == ("DNA",) * 3
    assert set(out.truth.ravel().tolist()) == {1}
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
    assert set(np.unique(out.truth).tolist()) == {-1, 0, 1}
    empty = ~(out.truth == 1).any(1)
    assert 2 < empty.sum() < 20
    for plane, mean, truth in zip(out.image, out.mean, out.truth, strict=True):
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
        (some.image[0], nuclear.astype(np.float16) / 2, some.truth[0], "haze"),
        (some.image[1], mean[1], some.truth[1], "DNA"),
    ]
    assert real.Field.of(rows, some, [1]).counterstain.tolist() == pytest.approx([0.999, 1])
    assert np.isnan(real.Field.of(rows[:1], some, []).counterstain).all()


def test_what_a_net_is_told_of_the_counterstain(
    field: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load("train_default")
    at = train.NET["stats"].index("counterstain")
    monkeypatch.setitem(train.CROPS, "side", 96)
    fov = replace(fov_of(train, field), real=True, counterstain=np.array([0.5, 1.0]))
    monkeypatch.setitem(train.REAL, "nameless", 0.0)
    told = {
        tuple(train.example(fov, np.random.default_rng(seed))[1][:, at].tolist())
        for seed in range(8)
    }
    assert told == {(0.5, 0.5), (-2.0, -2.0)}  # no normaliser changes it
    monkeypatch.setitem(train.REAL, "nameless", 1.0)
    assert not train.example(fov, np.random.default_rng(0))[1][:, at].any()
    rng = np.random.default_rng(0)
    assert train.drawn_likeness(np.array([1] * 19 + [-1, 0]), rng) == 1
    assert (
        train.drawn_likeness(np.array([0, 0, -1]), rng)
        > 0.6
        > train.drawn_likeness(np.array([0, 1]), rng)
    )


def test_kinds_of_real_fields(field: object, tmp_path: Path) -> None:
    train = load("train_default")
    for kind in ("0", "1", "drawn2", "nuclei"):
        np.savez(
            tmp_path / f"real_d__f__1__{kind}.npz", **vars(field), seldom=np.array([False, True])
        )

    def found(*without: str) -> list[tuple[str, list[str]]]:
        read = train.read_real(tmp_path, without)
        assert {(dataset, name) for (dataset, name, _), _ in read} == {("d", "f__1")}
        return [(kind, fov.channels) for (*_, kind), fov in read]

    both = ["CD3", "DNA"]
    assert found() == [("plain", both), ("hazed", both), ("drawn", both), ("nuclei", both)]
    assert found("*/hazed/*", "d/nuclei/CD3") == [
        ("plain", both),
        ("drawn", both),
        ("nuclei", ["DNA"]),
    ]


def test_examples_of_real_tissue_keep_cells_and_labels(
    field: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load("train_default")
    monkeypatch.setitem(train.CROPS, "side", 176)
    fov = replace(fov_of(train, field), real=True)
    side = train.CROPS["side"]
    sides = []
    for seed in range(8):
        planes, stats, index, truth, area = train.example(fov, np.random.default_rng(seed))
        assert planes.shape == (2, len(train.NET["planes"]), side, side)
        assert stats.shape == (2, len(train.NET["stats"]))
        assert truth.shape == (40,)
        assert set(np.unique(index)) <= set(range(-1, 40))
        sides.append(float(area[0]))
    assert min(sides) < 648 < max(sides)


def fov_of(train: ModuleType, field: object) -> object:
    """The field, large enough for crops."""
    return train.Fov(
        image=np.tile(field.image, (1, 6, 3)),
        index=np.tile(field.index, (6, 3)),
        mean=field.mean,
        outside=field.outside,
        truth=field.truth,
        area=np.full(40, 648),
        seldom=np.zeros(2, bool),
        real=False,
        channels=["CD3", "DNA"],
        counterstain=field.counterstain,
    )


def test_a_batch_sees_each_crop_with_two_normalisers(field: object) -> None:
    pytest.importorskip("torch")
    train = load("train_default")
    planes, stats, cells, target, weight = train.batch(
        [fov_of(train, field)], {}, np.random.default_rng(0), 6
    )
    n = (len(target) - 1) // 2
    assert planes.shape[0] == stats.shape[0] == cells.shape[0] == 6
    np.testing.assert_array_equal(target[1 : n + 1], target[n + 1 :])
    np.testing.assert_array_equal(weight[1 : n + 1], weight[n + 1 :])
    np.testing.assert_array_equal(np.where(cells[:3] > 0, cells[:3] + n, 0), cells[3:])
    assert sorted(np.unique(cells)) == list(range(2 * n + 1))
    image, cell = (train.NET["planes"].index(k) for k in ("sqrt", "cell"))
    np.testing.assert_array_equal(planes[:3, cell], planes[3:, cell])
    for k in range(3):
        one, two = planes[k, image].numpy(), planes[k + 3, image].numpy()
        inside = (one > 0) & (two > 0) & (one < 1) & (two < 1)
        ratio = one[inside] / two[inside]
        assert ratio.std() < 1e-3 < abs(ratio.mean() - 1)


def test_loss_of_views_that_disagree() -> None:
    torch = pytest.importorskip("torch")
    train = load("train_default")
    cells = torch.tensor(
        [[[[1, 1, 2]]], [[[3, 3, 4]]]]
    )  # two crops that are one: cells 1 and 3, 2 and 4
    target, weight = torch.tensor([0.0, 1, 0, 1, 0]), torch.tensor([0.0, 3, 1, 3, 1])

    def loss(first: float, second: float) -> tuple[float, float]:
        logits = torch.tensor(
            [[[[first, first, -1]]], [[[second, second, -1]]]], requires_grad=True
        )
        value, _ = train.loss_of(logits, cells, target, weight)
        train.OPTIMISER["agreement"] = 0
        plain, _ = train.loss_of(logits, cells, target, weight)
        train.OPTIMISER["agreement"] = 0.4
        pull = torch.autograd.grad(value - plain, logits)[0]
        return float(value.detach() - plain.detach()), float(pull.abs().max())

    train.OPTIMISER["agreement"] = 0.4
    assert loss(1.0, 1.0)[0] == pytest.approx(0, abs=1e-6)
    assert loss(1.0, 2.5)[0] == pytest.approx(0.4 * 1.5**2 * 3 / 4, rel=1e-4)
    assert loss(2.5, 1.0)[1] > 0.1
    assert loss(-3.0, 3.0) == pytest.approx((0.4 * 4 * 3 / 4, 0), rel=1e-4)  # too far apart to pull


def test_what_calls_lack_of_f1_is_part_of_the_loss() -> None:
    torch = pytest.importorskip("torch")
    from panimbus.model.loss import cell_losses, lack_of_f1

    train = load("train_default")
    logits = torch.tensor([[[[2.0, 2, -1]]], [[[-2, 1, 1]]]])
    cells = torch.tensor([[[1, 1, 2]], [[0, 3, 4]]])
    target, weight = torch.tensor([0.0, 1, 0, 1, 0]), torch.tensor([0.0, 1, 1, 1, 1])
    losses = []
    for f1 in (0, 2):
        train.OPTIMISER |= {"agreement": 0, "f1": f1}
        losses.append(float(train.loss_of(logits, cells, target, weight)[0]))
    lack = lack_of_f1(cell_losses(logits, cells, target)[2], target, cells, weight > 0)
    assert losses[1] - losses[0] == pytest.approx(2 * float(lack.mean()), rel=1e-5)


def test_statistics_are_those_of_the_whole_dataset() -> None:
    train = load("train_default")
    common = {
        "image": np.zeros((2, 4, 4), np.float16),
        "index": np.zeros((4, 4), np.int32),
        "truth": np.zeros((2, 50), np.int8),
        "area": np.ones(50),
        "seldom": np.zeros(2, bool),
        "real": True,
    }
    alike = np.array([np.nan, 0.25]), np.array([0.75, 1])
    dim = train.Fov(
        mean=np.full((2, 50), 0.25),
        outside=np.array([0.1, 0.3]),
        channels=["CD3", "CD8"],
        counterstain=alike[0],
        **common,
    )
    bright = train.Fov(
        mean=np.full((2, 50), 0.75),
        outside=np.array([0.2, 0.4]),
        channels=["CD8", "DNA"],
        counterstain=alike[1],
        **common,
    )
    train.pool_statistics([dim, bright])
    cd3, cd8 = dim.pooled
    assert (cd3["q10"], cd3["q90"], cd3["outside"]) == pytest.approx((0.25, 0.25, 0.1))
    assert (cd8["q10"], cd8["q90"], cd8["outside"]) == pytest.approx((0.25, 0.75, 0.25))
    assert "counterstain" not in cd3
    assert cd8["counterstain"] == 0.5
    assert bright.pooled[0] == cd8
    assert bright.pooled[1]["q50"] == 0.75


def test_two_halves_of_a_batch_give_the_mean_gradient(field: object) -> None:
    torch = pytest.importorskip("torch")
    train = load("train_default")
    train.change_recipe(["steps = 10", 'start = ""', "net.widths = [4, 6]", "crops.batch = 2"])
    assert train.RECIPE["steps"] == 10
    assert train.NET["widths"] == [4, 6]
    fov = fov_of(train, field)
    rng = np.random.default_rng(0)
    halves = [train.batch([fov], {}, rng, 2) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        state = train.load_state(Path("none"))
        before = [p.detach().clone() for p in state.net.parameters()]
        wanted = [
            torch.stack(g).mean(0)
            for g in zip(*(train.gradient(state.net, h)[1] for h in halves), strict=True)
        ]
        train.train_step(state, halves, threads)
    scale = min(
        1.0, 1.0 / float(torch.cat([g.ravel() for g in wanted]).norm())
    )  # clipped to a norm of 1
    for parameter, gradient in zip(state.net.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient * scale, rtol=1e-4, atol=1e-7)
    assert any(not torch.equal(a, b) for a, b in zip(before, state.net.parameters(), strict=True))


def test_a_small_field_goes_on_as_its_mirror_image(
    field: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = load("train_default")
    monkeypatch.setitem(train.CROPS, "side", 230)
    monkeypatch.setitem(train.REAL, "zoom", 0.1)
    small = fov_of(train, field)
    large = train.mirrored(small)
    assert large.index.shape == (256, 256)  # 230 e^0.1, rounded up, and one
    assert large.image.shape == (2, 256, 256)
    np.testing.assert_array_equal(large.index[240:, :240], small.index[:223:-1])
    np.testing.assert_array_equal(large.image[:, :240, 240:], small.image[:, :, :223:-1])
    np.testing.assert_array_equal(large.area, small.area)


def test_a_net_that_sees_more_begins_as_the_one_it_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    from panimbus.model import CompactUNet, ModelCard, save_model

    train = load("train_default")
    widths = tuple(train.NET["widths"])
    settings = {k: train.NET[k] for k in ("blocks", "unshuffle")} | {"widths": widths}
    inputs = {"planes": ("image", "interior"), "stats": ("q50", "otsu")}
    card = ModelCard(
        name="old",
        architecture="compact_unet",
        settings=settings,
        mpp=1.0,
        percentile=99.9,
        **inputs,
    )
    old = CompactUNet(**settings, planes=2, stats=2).eval()
    start = str(save_model(tmp_path / "old", old, card).safetensors)
    names, told = ["relative", *card.planes], ["q99/otsu", *card.stats]
    monkeypatch.setitem(train.NET, "planes", names)
    monkeypatch.setitem(train.NET, "stats", told)
    monkeypatch.setitem(train.RECIPE, "start", start)
    net = train.new_net().eval()
    drawn = {k: v.clone() for k, v in net.state_dict().items()}
    train.start_from(net, start)
    planes, stats = torch.rand(2, len(names), 32, 32), torch.rand(2, len(told))
    with torch.inference_mode():
        torch.testing.assert_close(net(planes, stats), old(planes[:, 1:], stats[:, 1:]))

    mixed = train.averaged([drawn, net.state_dict()]).state_dict()
    for name, begun in net.state_dict().items():
        offset = train.RECIPE["offset"] if name == "head.bias" else 0
        torch.testing.assert_close(mixed[name], 0.5 * drawn[name] + 0.5 * begun + offset)
