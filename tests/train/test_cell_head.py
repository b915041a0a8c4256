"""The cell head is fitted to the finished net's scores, and predicts as it was fitted."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from panimbus.core.cell_head import FEATURES  # noqa: E402
from panimbus.model.weights import read_card  # noqa: E402
from panimbus.train.cell_head import CellRows, fit  # noqa: E402
from panimbus.train.config import HeadConfig  # noqa: E402
from panimbus.train.loop import train  # noqa: E402

N, EXAMPLES = 4000, 40


def rows(rule, seed=0):
    """Cells with random features, of examples of equal size; positive by a rule."""
    features = np.random.default_rng(seed).normal(size=(N, len(FEATURES))).astype(np.float32)
    target = rule(*features.T).astype(np.float32)
    return CellRows(features, target, np.ones(N, np.float32), np.repeat(np.arange(EXAMPLES), 100))


def right(head, cells):
    calls = cells.features[:, 0] + head.shift(cells.features) >= 0
    return (calls == (cells.target > 0.5)).mean()


def linear(logit, _mean, low, _inside, neighbour, _outside):
    return logit + 2 * low - neighbour > 0.5


def test_linear_rule_is_learnt():
    settings = HeadConfig(steps=400, rate=0.02)
    head = fit(rows(linear), settings, seed=1)
    assert len(head.weights) == 1
    fresh = rows(linear, seed=9)
    assert right(head, fresh) > 0.97
    assert np.mean((fresh.features[:, 0] >= 0) == (fresh.target > 0.5)) < 0.8  # without the head
    assert fit(rows(linear), settings, seed=1) == head


def test_hidden_layer_learns_what_a_line_cannot():
    def rule(_logit, _mean, low, inside, *_rest):
        return low * inside > 0

    line = fit(rows(rule), HeadConfig(steps=400, rate=0.02), seed=1)
    deep = fit(rows(rule), HeadConfig(steps=800, rate=0.02, hidden=(16,)), seed=1)
    assert right(deep, rows(rule, 9)) > 0.9
    assert right(line, rows(rule, 9)) < 0.7


def test_part_of_a_run(tiny, fake_store, tmp_path):
    """Bright cells are positive from the start: the head of a poor net is told by `outside`."""
    run = tmp_path / "run"
    settings = tiny(
        stages={"naive": 2, "robust": 0}, head={"examples": 20, "steps": 300, "rate": 0.02}
    )
    train(settings, fake_store(), run)
    head = read_card(run / "model.onnx").cell_head
    assert head is not None
    assert head.weights[0][0][FEATURES.index("outside")] > 0.1
    assert read_card(run / "model.safetensors").cell_head == head
