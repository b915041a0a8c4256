"""Weights to begin from, and mean weights."""

import pytest

torch = pytest.importorskip("torch")

from panimbus.core.errors import InputError  # noqa: E402
from panimbus.model.unet import build  # noqa: E402
from panimbus.model.weights import load_torch, resolve_model  # noqa: E402
from panimbus.train.config import load_config, make_config, overlaid  # noqa: E402
from panimbus.train.start import load_start, mean_weights, with_correction  # noqa: E402


def test_a_net_with_further_inputs_begins_as_the_model_it_starts_from():
    old, card = load_torch(resolve_model().weights)
    more = card.model_copy(
        update={"planes": card.planes[::-1], "stats": ("q05", *card.stats)},
    )
    net = build(more)
    load_start(net, more, "default")
    planes, stats = torch.rand(2, len(more.planes), 32, 32), torch.rand(2, len(more.stats))
    with torch.inference_mode():
        torch.testing.assert_close(net(planes, stats), old(planes.flip(1), stats[:, 1:]))


def test_weights_of_another_shape_are_refused(tiny):
    card = tiny().card(mpp=1.0, percentile=99.9, over="all")
    with pytest.raises(InputError, match=r"do not fit the net[^$]*compact_unet with"):
        load_start(build(card), card, "default")


def test_mean_weights_and_offset(tiny):
    card = tiny().card(mpp=1.0, percentile=99.9, over="all")
    nets = [build(card) for _ in range(2)]
    mean = mean_weights([net.state_dict() for net in nets])
    net = build(card)
    net.load_state_dict(mean)
    moved = with_correction(net, (1.0, -0.5))
    first, second = (n.state_dict()["head.bias"] for n in nets)
    torch.testing.assert_close(moved.state_dict()["head.bias"], 0.5 * first + 0.5 * second - 0.5)
    torch.testing.assert_close(net.state_dict()["head.bias"], 0.5 * first + 0.5 * second)


def test_the_runs_of_the_default_recipe():
    runs = load_config("default").runs()
    assert [(r.seed, r.data.crop, r.data.batch, r.loss.f1, r.stages.naive) for r in runs] == [
        (91, 224, 4, 1.5, 3000),
        (92, 176, 6, 3.0, 3000),
        (93, 224, 4, 1.5, 3000),
    ]
    assert not any(r.average or r.logit_offset for r in runs)


def test_runs_that_are_averaged_have_one_net():
    base = {"extends": "small", "average": [{"seed": 1}]}
    assert len(make_config(base, source="test").runs()) == 2
    other = overlaid(base, {"average": [{"net": {"planes": ["image"]}}]})
    with pytest.raises(InputError, match=r"average\[0\]: net must be the same in all runs"):
        make_config(other, source="test")
