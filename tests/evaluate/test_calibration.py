"""Calibration against scikit-learn, and weights."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.evaluate.calibration import calibration


@pytest.mark.parametrize("seed", range(5))
def test_curve_equals_scikit_learn(seed):
    sk = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(seed)
    scores = rng.random(300)
    truth = (rng.random(300) < scores**2).astype(int)
    positive, score = sk.calibration_curve(truth, scores, n_bins=10, strategy="uniform")
    got = calibration(scores, truth)
    np.testing.assert_allclose(got.positive, positive)
    np.testing.assert_allclose(got.score, score)
    assert got.cells.sum() == 300
    assert got.weight.sum() == pytest.approx(1)
    assert got.error == pytest.approx(np.abs(positive - score) @ got.cells / 300)
    assert ((got.positive_low <= got.positive) & (got.positive <= got.positive_high)).all()
    assert got.brier == pytest.approx(
        pytest.importorskip("sklearn.metrics").brier_score_loss(truth, scores)
    )


def test_calibrated_scores_have_a_small_error():
    rng = np.random.default_rng(0)
    scores = rng.random(200_000)
    assert calibration(scores, (rng.random(200_000) < scores).astype(int)).error < 0.01


def test_weights_are_repetitions():
    scores, truth, weights = (
        np.array([0.05, 0.55, 0.55, 1.0]),
        np.array([0, 1, 0, 1]),
        np.array([2, 3, 1, 4]),
    )
    a = calibration(scores, truth, weights)
    b = calibration(np.repeat(scores, weights), np.repeat(truth, weights))
    assert a.error == pytest.approx(b.error)
    np.testing.assert_allclose(a.positive, b.positive)
    np.testing.assert_allclose(a.high, [0.1, 0.6, 1.0])


def test_edges():
    empty = calibration(np.zeros(2), np.full(2, -1))
    assert np.isnan(empty.error)
    assert len(empty.score) == 0
    with pytest.raises(InputError, match="between 0 and 1"):
        calibration(np.array([1.2]), np.array([1]))
    with pytest.raises(InputError, match="not aligned"):
        calibration(np.zeros(2), np.zeros(3))
