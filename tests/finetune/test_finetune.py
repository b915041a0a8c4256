"""Fine-tuning on calls: it helps where the operating point is wrong, and is refused where calls are
noise."""

import json

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from panimbus.annotations.table import check_annotations  # noqa: E402
from panimbus.core.errors import InputError  # noqa: E402
from panimbus.core.fov import Fov  # noqa: E402
from panimbus.core.scale import ChannelScale  # noqa: E402
from panimbus.finetune.finetune import finetune  # noqa: E402
from panimbus.finetune.report import check_out, report_markdown, save_finetuned, sentence  # noqa: E402
from panimbus.finetune.steps import FinetuneSettings, pick_device, settings_of  # noqa: E402
from panimbus.infer.predict import PredictSettings, predict  # noqa: E402
from panimbus.model.card import ModelCard  # noqa: E402
from panimbus.model.unet import build  # noqa: E402
from panimbus.model.weights import load_torch, read_card, save_model  # noqa: E402
from panimbus.train.start import with_correction  # noqa: E402

THRESHOLD = 0.3  # of the model, in units of the normaliser


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A net that says how far the mean of 3 x 3 pixels is above `THRESHOLD`, and can learn
    another."""
    torch.set_num_threads(1)
    card = ModelCard(
        name="simple", architecture="compact_unet", settings={"widths": (4,), "blocks": 0, "unshuffle": 1},
        planes=("image", "interior"), mpp=1.0, percentile=99.9, trained_on="Nothing.", tta="none",
    )  # fmt: skip
    net = build(card)
    with torch.no_grad():
        net.encoder[0].first.conv.weight[0] = torch.tensor([1 / 9, 0.0])[:, None, None]
        net.encoder[0].first.conv.bias.zero_()
        net.head.weight.zero_()
        net.head.weight[0, 0] = 15.0
        net.head.bias.fill_(-15 * THRESHOLD)
    return save_model(tmp_path_factory.mktemp("model") / "simple", net, card).safetensors


@pytest.fixture(scope="module")
def data(make_tissue):
    """``data(cut)``: two FOVs, and calls of 160 cells: positive from a brightness on, which ``cut``
    says for each channel."""

    def make(cuts, *, fovs=2, n=80, random=False):
        rng = np.random.default_rng(0)
        found, rows = [], []
        for k in range(fovs):
            _, labels = make_tissue((96, 110), n, seed=k, radius=4)
            bright = rng.random((len(cuts), labels.max() + 1)) ** 1.5
            bright[:, 0] = 0
            image = 100 * bright[:, labels] + rng.gamma(2, 1, (len(cuts), *labels.shape))
            found.append(Fov(f"f{k}", image.astype(np.float32), tuple(cuts), labels, 1.0))
            for c, (name, cut) in enumerate(cuts.items()):
                ids = np.unique(labels[labels > 0])
                says = rng.random(len(ids)) < 0.5 if random else bright[c, ids] > cut
                rows += [
                    (f"f{k}", i, name, "positive" if s else "negative")
                    for i, s in zip(ids, says, strict=True)
                ]
        return found, check_annotations(
            pd.DataFrame(rows, columns=["fov", "cell_id", "channel", "call"])
        )

    return make


def judged(table, calls):
    """Share of the calls that a table of scores agrees with at 0.5."""
    at = {name: k for k, name in enumerate(table.obs_names)}
    column = {name: k for k, name in enumerate(table.var_names)}
    scores = [table.X[at[f"{r.fov}:{r.cell_id}"], column[r.channel]] for r in calls.itertuples()]
    return float(((np.array(scores) >= 0.5) == (calls["call"] == "positive")).mean())


def test_a_shifted_operating_point_is_learned(model, data, tmp_path):
    fovs, calls = data({"a": 0.6, "b": 0.55}, n=120)
    settings = FinetuneSettings(steps=60, rate=0.03, pull=0.001)
    found = finetune(fovs, calls, model=model, settings=settings)
    assert found.kept, found.verdict
    assert found.verdict.new.f1 > found.verdict.old.f1 + 0.1
    path = save_finetuned(found, tmp_path / "out", command="panimbus finetune")
    card = read_card(path)
    assert card.name == "simple-tuned"
    assert "calls" in card.trained_on
    assert card.trained_on.startswith("Nothing.")
    assert "held-out" in card.measured
    assert not card.calibration
    quick = PredictSettings(threads=1, precision="float32")
    before, after = (judged(predict(fovs, model=m, settings=quick), calls) for m in (model, path))
    assert after > before + 0.1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["kept"]
    assert report["model"] == "simple-tuned.safetensors"
    held = pd.read_csv(tmp_path / "out" / "held_out.csv")
    assert len(held) == report["calls"]["held_out"]
    assert held[["score_before", "score_after"]].notna().all().all()
    wrong = (held["score_after"] - held["positive"]).abs().to_numpy()
    assert (np.diff(wrong) <= 1e-5).all()
    assert "The new model is kept" in (tmp_path / "out" / "report.md").read_text()


def test_random_calls_leave_the_old_model(model, data, tmp_path):
    fovs, calls = data({"a": 0.5}, random=True)
    found = finetune(fovs, calls, model=model, settings=FinetuneSettings(steps=20, rate=0.01))
    assert not found.kept
    assert save_finetuned(found, tmp_path / "out") is None
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "held_out.csv",
        "report.json",
        "report.md",
    ]
    assert "The old model stays" in (tmp_path / "out" / "report.md").read_text()
    assert "No model was written" in sentence(found)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["model"] is None


def test_the_same_twice(model, data):
    fovs, calls = data({"a": 0.5})
    settings = FinetuneSettings(steps=5)
    one, two = (finetune(fovs, calls, model=model, settings=settings) for _ in range(2))
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        assert torch.equal(a, b)
    pd.testing.assert_frame_equal(one.calls, two.calls)


def test_held_out_calls_are_never_trained_on(model, data, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "panimbus.finetune.finetune.finetune_net",
        lambda net, card, examples, **_: seen.extend(examples) or net,
    )
    fovs, calls = data({"a": 0.5})
    found = finetune(fovs, calls, model=model)
    assert (
        sorted(example.crop.row for example in seen)
        == np.flatnonzero(~found.calls["held_out"]).tolist()
    )
    assert found.calls["score_after"].isna().equals(~found.calls["held_out"])


def test_folding_a_correction_into_the_net(model):
    net, card = load_torch(model)
    x = torch.rand(1, len(card.planes), 16, 16)
    torch.testing.assert_close(with_correction(net, (2.0, -1.0)).logits(x), net.logits(x) / 2 - 1)


def test_likely_undetermined_and_several_annotators(model, data):
    fovs, calls = data({"a": 0.6})
    calls.loc[:9, "call"] = "undetermined"
    calls.loc[10:19, "call"] = ["likely " + c for c in calls.loc[10:19, "call"]]
    second = calls.iloc[20:40].assign(annotator="bob")
    found = finetune(
        fovs,
        check_annotations(pd.concat([calls, second])),
        model=model,
        settings=FinetuneSettings(steps=2),
    )
    assert len(found.calls) == len(calls) - 10
    assert set(found.notes) >= {
        "several annotators: their consensus was used",
        "10 undetermined annotations are left out",
    }
    assert "undetermined" in report_markdown(found, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.assign(fov="f9"), "not among the images: f9"),
        (lambda c: c.assign(channel="z"), "no channel z"),
        (lambda c: c.assign(cell_id=c["cell_id"] + 1000), "no cell 1001"),
        (lambda c: c.head(12), "too few annotations"),
        (lambda c: c.assign(call="positive"), "All annotations are of one kind"),
        (lambda c: c.assign(call="undetermined"), "too few annotations"),
        (lambda c: c.assign(dataset=["x", "y"] * (len(c) // 2)), "several datasets"),
    ],
)
def test_calls_that_cannot_be_used(model, data, change, says):
    fovs, calls = data({"a": 0.6})
    calls = calls.head(len(calls) // 2 * 2)
    with pytest.raises(InputError, match=says):
        finetune(fovs, change(calls), model=model)


def test_blank_channels_and_wrong_settings(model, data, tmp_path):
    fovs, calls = data({"a": 0.6, "b": 0.6})
    blank = [f.with_(image=f.image * np.array([1, 0], np.float32)[:, None, None]) for f in fovs]
    found = finetune(blank, calls, model=model, settings=FinetuneSettings(steps=2))
    assert set(found.calls["channel"]) == {"a"}
    assert "calls of blank channels are left out: b" in found.notes
    other = ChannelScale(50.0, "all", {"a": 1.0}, {"a": {}})
    with pytest.raises(InputError, match="not made for this model"):
        finetune(fovs, calls, model=model, scale=other)
    with pytest.raises(InputError, match="steps"):
        settings_of(steps=0)
    with pytest.raises(InputError, match="tpu"):
        pick_device("tpu")
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(InputError, match="new folder"):
        check_out(tmp_path)
