"""The cell head is fitted to the finished net's scores of annotated cells."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from panimbus.core.cell_head import FEATURES  # noqa: E402
from panimbus.core.errors import InputError  # noqa: E402
from panimbus.model.weights import read_card  # noqa: E402
from panimbus.train.cell_head import _turned, regression  # noqa: E402
from panimbus.train.loop import train  # noqa: E402


def test_regression_finds_the_rule():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, len(FEATURES))).astype(np.float32)
    odds = 0.5 + features @ np.array([2.0, 1.0, 0.0, -1.0])
    target = (rng.random(len(odds)) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    head = regression(features, target, np.ones(len(odds)))
    np.testing.assert_allclose([head.offset, *head.weights], [0.5, 2, 1, 0, -1], atol=0.1)


def test_one_cell_changes_little():
    features = np.array([[1.0, 0, 0, 0]], np.float32)
    head = regression(features, np.array([0.0]), np.ones(1))
    # p - y + (b - prior) = 0 with p = 1/2: offset and weight of the logit fall by 1/2
    np.testing.assert_allclose([head.offset, *head.weights], [-0.5, 0.5, 0, 0, 0], atol=1e-6)


def test_weights_count():
    """Two cells alike with other targets: the heavier one decides."""
    features = np.zeros((2, len(FEATURES)), np.float32)
    head = regression(features, np.array([1.0, 0.0]), np.array([3.0, 1.0]))
    assert head.offset > 0


@pytest.mark.parametrize("turn", range(8))
def test_turns_have_inverses(turn):
    x = torch.arange(12.0).reshape(1, 1, 4, 3)
    there = _turned(x, turn)
    assert torch.equal(_turned(there, turn, back=True), x)
    assert turn == 0 or there.shape != x.shape or not torch.equal(there, x)


def test_part_of_a_run(tiny, fake_store, tmp_path):
    settings = tiny(stages={"naive": 2, "robust": 0}, head={"dataset": "d0"})
    train(settings, fake_store(), tmp_path / "run")
    head = read_card(tmp_path / "run" / "model.onnx").cell_head
    assert head is not None
    assert read_card(tmp_path / "run" / "model.safetensors").cell_head == head


def test_dataset_that_is_not_there(tiny, fake_store, tmp_path):
    """Said before a run of hours, not after it."""
    steps = []
    settings = tiny(stages={"naive": 1, "robust": 0}, head={})
    with pytest.raises(InputError, match="no labelled cell of dataset 'annotated'"):
        train(settings, fake_store(), tmp_path / "run", steps.append)
    assert not steps
