"""The small default net: shapes, FiLM, training and folding."""

import pytest

torch = pytest.importorskip("torch")

from panimbus.model.unet import CompactUNet  # noqa: E402


def test_scores_have_the_input_size_and_lie_in_0_1():
    net = CompactUNet(widths=(8, 12), planes=3, stats=2).eval()
    with torch.inference_mode():
        out = net(torch.rand(2, 3, 24, 32), torch.rand(2, 2))
    assert out.shape == (2, 1, 24, 32)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_stats_do_nothing_before_training_and_something_after():
    torch.manual_seed(0)
    net = CompactUNet(widths=(8, 12), planes=1, stats=2)
    planes, low, high = torch.rand(1, 1, 16, 16), torch.zeros(1, 2), torch.ones(1, 2)
    assert torch.equal(net.logits(planes, low), net.logits(planes, high))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        net.logits(planes, high).square().mean().backward()
        optimiser.step()
    assert not torch.equal(net.logits(planes, low), net.logits(planes, high))


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_every_parameter_gets_a_gradient(unshuffle):
    torch.manual_seed(0)
    net = CompactUNet(widths=(6, 8, 10), planes=2, stats=0, unshuffle=unshuffle, norm=True)
    net.logits(torch.rand(2, 2, 32, 32)).square().mean().backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for n, p in net.named_parameters()
        if "bias" not in n
    )
