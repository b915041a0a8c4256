"""The loss of a batch and the step that follows: the recipe of the default model, number by number."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from panimbus.model.loss import cell_losses, disagreement, smoothed, soft_f1_loss  # noqa: E402
from panimbus.model.unet import build  # noqa: E402
from panimbus.train.batches import Batch  # noqa: E402
from panimbus.train.config import LossConfig, OptimiserConfig, load_config  # noqa: E402
from panimbus.train.step import Learner, objective  # noqa: E402

LOSS = load_config("default").loss


def batch_of(planes, stats, cells, target, weight):
    group = torch.zeros(len(target), dtype=torch.int64)
    return Batch(planes, stats, cells, target, weight, group)


def loss_of(net, batch, settings):
    logits = net.logits(batch.planes, batch.stats)
    losses = cell_losses(logits, batch.cells, smoothed(batch.target, settings.smoothing))
    total, crops = batch.weight.sum(), len(batch.planes)
    return objective(losses, batch, batch.weight, settings, total=total, crops=crops)


def reference(net, batch):
    """The loss as it was written in the tool that trained compact-1 to compact-6."""
    target, cells, weight = batch.target, batch.cells, batch.weight
    z = net.logits(batch.planes, batch.stats)[:, 0]
    soft = target * 0.95 + 0.025
    scores, loss = [torch.zeros(())], 0.0
    for c in range(1, len(target)):
        inside = z[cells == c]
        scores.append(torch.sigmoid(inside).mean())
        mean = scores[c].clamp(1e-4, 1 - 1e-4)
        pixel = -(
            soft[c] * torch.nn.functional.logsigmoid(inside)
            + (1 - soft[c]) * torch.nn.functional.logsigmoid(-inside)
        ).mean()
        whole = -(soft[c] * torch.log(mean) + (1 - soft[c]) * torch.log1p(-mean))
        loss = loss + (0.5 * pixel + whole) * weight[c]
    score, loss = torch.stack(scores), loss / weight.sum()
    first, second = torch.logit(score[1:].clamp(1e-4, 1 - 1e-4)).chunk(2)
    apart = (first - second).clamp(-2, 2) ** 2
    loss = loss + 0.3 * (apart * weight[1:].chunk(2)[0]).sum() / (0.5 * weight.sum())
    return loss + 1.5 * soft_f1_loss(score, target, cells, weight > 0).mean()


@pytest.fixture
def recipe():
    """A net and a batch of the default recipe: two crops, each in two views."""
    torch.manual_seed(0)
    config = load_config("default")
    card = config.card(mpp=1.0, percentile=99.9, over="all")
    net = build(card).train()
    cells = torch.zeros(4, 32, 32, dtype=torch.int64)
    for crop in range(2):
        for k in range(6):
            y, x = 10 * (k // 3), 10 * (k % 3)
            for view in range(2):
                cells[crop + 2 * view, y : y + 8, x : x + 8] = 1 + k + 6 * crop + 12 * view
    one = torch.tensor([1.0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0])
    target = torch.cat([torch.zeros(1), one, one])
    weight = torch.cat([torch.zeros(1), torch.full((24,), 6**0.5 / 6)])
    batch = batch_of(
        torch.rand(4, len(card.planes), 32, 32),
        torch.rand(4, len(card.stats)),
        cells,
        target,
        weight,
    )
    return net, batch


def test_the_default_recipe_has_the_loss_and_gradient_of_the_tool_before_it(recipe):
    net, batch = recipe
    new, old = loss_of(net, batch, LOSS), reference(net, batch)
    torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5)
    weights = list(net.parameters())
    for a, b in zip(
        torch.autograd.grad(new, weights), torch.autograd.grad(old, weights), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def views_loss(first, second):
    """Loss of views with these logits, and the largest pull, for the agreement alone."""
    cells = torch.tensor([[[1, 1, 2]], [[3, 3, 4]]])  # cells 1 and 3, 2 and 4 are the same
    target, weight = torch.tensor([0.0, 1, 0, 1, 0]), torch.tensor([0.0, 3, 1, 3, 1])
    logits = torch.tensor(
        [[[[first, first, -1.0]]], [[[second, second, -1.0]]]], requires_grad=True
    )
    batch = batch_of(torch.zeros(2, 1, 1, 3), torch.zeros(2, 0), cells, target, weight)
    losses = cell_losses(logits, cells, target)
    values = [
        objective(losses, batch, weight, LossConfig(agreement=a), total=weight.sum(), crops=2)
        for a in (0.4, 0.0)
    ]
    value = values[0] - values[1]
    (pull,) = torch.autograd.grad(value, logits)
    return float(value.detach()), float(pull.abs().max())


def test_loss_of_views_that_disagree():
    assert views_loss(1.0, 1.0)[0] == pytest.approx(0, abs=1e-6)
    assert views_loss(1.0, 2.5)[0] == pytest.approx(0.4 * 1.5**2 * 3 / 4, rel=1e-4)
    assert views_loss(2.5, 1.0)[1] > 0.1
    assert views_loss(-3.0, 3.0) == pytest.approx((0.4 * 4 * 3 / 4, 0), rel=1e-4)


def test_disagreement_of_literal_scores():
    score = torch.sigmoid(torch.tensor([9.0, 1.0, -1.0, 1.5, 5.0]))
    assert disagreement(score).tolist() == pytest.approx([0.25, 4.0], rel=1e-5)


def test_soft_f1_is_part_of_the_loss():
    cells = torch.tensor([[[1, 1, 2]], [[0, 3, 4]]])
    target, weight = torch.tensor([0.0, 1, 0, 1, 0]), torch.tensor([0.0, 1, 1, 1, 1])
    losses = cell_losses(torch.tensor([[[[2.0, 2, -1]]], [[[-2, 1, 1]]]]), cells, target)
    batch = batch_of(torch.zeros(2, 1, 1, 3), torch.zeros(2, 0), cells, target, weight)
    without, with_f1 = (
        float(objective(losses, batch, weight, LossConfig(f1=f1), total=weight.sum(), crops=2))
        for f1 in (0.0, 2.0)
    )
    soft = float(soft_f1_loss(losses.score, target, cells, weight > 0).mean())
    assert with_f1 - without == pytest.approx(2 * soft, rel=1e-5)


def test_a_step_moves_the_net_and_its_average_follows(recipe):
    net, batch = recipe
    before = copy.deepcopy(net.state_dict())
    learner = Learner(net, OptimiserConfig(kind="adamw", rate=1e-3, ema=0.9), net)
    learner.update(loss_of(net, batch, LOSS), 1e-3)
    assert (learner.step, learner.rate) == (1, 1e-3)
    head = net.state_dict()["head.weight"]
    assert not torch.equal(head, before["head.weight"])
    mean = 0.1 * before["head.weight"] + 0.9 * head  # the first step keeps 1/10 of the old
    torch.testing.assert_close(learner.ema.state_dict()["head.weight"], mean)
    state = copy.deepcopy(learner.state_dict())
    other = Learner(copy.deepcopy(net), learner.settings, net)
    other.load_state_dict(state)
    assert other.step == 1
    np.testing.assert_array_equal(
        other.ema.state_dict()["head.weight"], learner.ema.state_dict()["head.weight"]
    )
