"""The steps of fine-tuning take the loss and the step of training."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from panimbus.core.progress import silent  # noqa: E402
from panimbus.finetune.crops import Crop  # noqa: E402
from panimbus.finetune.steps import (  # noqa: E402
    LOSS,
    FinetuneExample,
    FinetuneSettings,
    _item,
    crop_side,
    finetune_net,
)
from panimbus.model.card import ModelCard  # noqa: E402
from panimbus.model.loss import cell_losses  # noqa: E402
from panimbus.model.unet import build  # noqa: E402
from panimbus.train.batches import collate  # noqa: E402
from panimbus.train.step import objective  # noqa: E402

CARD = ModelCard(
    name="tiny",
    architecture="compact_unet",
    settings={"widths": (8,), "blocks": 1, "unshuffle": 2},
    planes=("image", "interior"),
    stats=("q50",),
    mpp=1.0,
    percentile=99.9,
)


def example(target):
    index = np.full((40, 48), -1, np.int32)
    index[10:20, 10:20], index[25:30, 30:44] = 0, 1
    image = np.where(index == 0, 0.8, 0.1).astype(np.float32)
    known = {f"q{q:02d}": 0.2 for q in range(1, 100)} | {"outside": 0.1}
    crop = Crop(0, image, index, np.array([0.8, 0.1], np.float32), known, index == 0)
    return FinetuneExample(crop, target, (1.0, 0.0))


def test_only_the_annotated_cell_carries_a_loss_whatever_the_view():
    for seed in range(8):
        item = _item(example(0.9), CARD, crop_side(CARD), np.random.default_rng(seed))
        assert item.planes.shape == (2, 96, 96)
        assert item.cells.shape == (96, 96)
        assert (item.cells > 0).sum() == 100
        assert item.planes[0][item.cells > 0] == pytest.approx(item.planes[0][item.cells > 0][0])
        assert item.planes[0][item.cells > 0].min() > 0.5  # the bright cell


def test_the_loss_is_that_of_scores_and_half_that_of_pixels():
    rng = np.random.default_rng(0)
    batch = collate([_item(example(t), CARD, 96, rng) for t in (0.975, 0.15)])
    logits = torch.randn(2, 1, 96, 96)
    losses = cell_losses(logits, batch.cells, batch.target)
    loss = objective(losses, batch, batch.weight, LOSS, total=batch.weight.sum(), crops=2)
    expected = []
    for z, cells, target in zip(logits[:, 0], batch.cells, (0.975, 0.15), strict=True):
        inside, soft = z[cells > 0], torch.tensor(target)
        pixel = torch.nn.functional.binary_cross_entropy_with_logits(inside, soft.expand_as(inside))
        whole = torch.nn.functional.binary_cross_entropy(torch.sigmoid(inside).mean(), soft)
        expected.append(whole + 0.5 * pixel)
    assert float(loss) == pytest.approx(float(sum(expected)) / 2, rel=1e-5)


def test_the_pull_keeps_the_weights_near_their_start():
    torch.manual_seed(0)
    net = build(CARD)
    examples = [example(0.975), example(0.025)]

    def moved(pull):
        settings = FinetuneSettings(steps=8, batch=2, rate=1e-2, pull=pull)
        new = finetune_net(net, CARD, examples, settings=settings, device="cpu", progress=silent)
        pairs = zip(net.parameters(), new.parameters(), strict=True)
        return sum(float(((p - q) ** 2).sum().detach()) for p, q in pairs)

    assert 0 < moved(100.0) < 0.5 * moved(0.0)
