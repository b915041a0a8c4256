"""Losses of cells: background and cells without a label carry none."""

import math

import pytest

torch = pytest.importorskip("torch")

from panimbus.model.loss import cell_losses, smoothed, soft_f1_loss  # noqa: E402


def test_literal():
    logits = torch.tensor([[[[0.0, 0.0, 2.0], [5.0, -5.0, 2.0]]]])
    cells = torch.tensor([[[1, 1, 2], [0, 0, 2]]])
    pixel, whole, score, area = cell_losses(logits, cells, torch.tensor([0.0, 1.0, 0.0]))
    assert area.tolist() == [0, 2, 2]
    assert pixel[1:].tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(2))], rel=1e-6)
    p = 1 / (1 + math.exp(-2))
    assert score[1:].tolist() == pytest.approx([0.5, p], rel=1e-6)
    assert whole[1:].tolist() == pytest.approx([math.log(2), -math.log(1 - p)], rel=1e-5)


def test_pixels_without_a_label_get_no_gradient():
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    cells = torch.randint(0, 3, (2, 4, 4))
    pixel, whole, _, _ = cell_losses(logits, cells, torch.tensor([0.0, 1.0, 0.0]))
    (pixel + whole).sum().backward()
    assert (logits.grad[:, 0][cells == 0] == 0).all()
    assert (logits.grad[:, 0][cells > 0] != 0).all()


def test_no_labelled_cell_at_all():
    pixel, _, _, area = cell_losses(
        torch.randn(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1)
    )
    assert pixel.tolist() == area.tolist() == [0]


def test_smoothing():
    assert smoothed(torch.tensor([0.0, 1.0, 0.5]), 0.05).tolist() == pytest.approx(
        [0.025, 0.975, 0.5]
    )


def test_soft_f1_loss():
    cells = torch.tensor([[[1, 2, 3, 4]], [[5, 6, 6, 0]], [[7, 7, 0, 0]]])
    target = torch.tensor([0.0, 1, 1, 0, 0, 1, 0, 0])
    score = torch.tensor(
        [0.0, 0.999, 0.001, 0.999, 0.001, 0.999, 0.001, 0.999]
    )  # F1 of 0.5, 1, and none to find
    every = torch.ones(8, dtype=torch.bool)
    assert soft_f1_loss(score, target, cells, every).tolist() == pytest.approx(
        [0.5, 0, 0], abs=2e-3
    )
    without = every.clone()
    without[2] = False  # the positive cell that was missed
    assert soft_f1_loss(score, target, cells, without).tolist() == pytest.approx(
        [1 / 3, 0, 0], abs=2e-3
    )
    dim = torch.tensor([0.0, 0.3, 0.3, 0.1, 0.05, 0.9, 0.1, 0.2], requires_grad=True)
    (pull,) = torch.autograd.grad(soft_f1_loss(dim, target, cells, every).sum(), dim)
    assert (pull[1:3] < 0).all()
    assert (pull[3:5] > 0).all()
    assert pull[7] == 0
