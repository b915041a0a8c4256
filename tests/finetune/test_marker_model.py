"""The small model of a marker: what it is fitted to, drawn to, and when it is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm

from panimbus.core.table import EVIDENCE
from panimbus.finetune.marker_model import (
    FEATURES,
    OFFSET,
    Answers,
    Prior,
    cell_features,
    clearly_worse,
    fit_marker,
    fit_markers,
    held_out_logits,
    prior_for,
)

WIDE = Prior(features=("score",), centre=(0,), scale=(1,), mean=(0, 1), width=(1e3, 1e3))


def answers(rng, n, *, offset=0.0, slope=1.0):
    z = 2 * rng.standard_normal(n)
    truth = (rng.random(n) < expit(slope * z + offset)).astype(float)
    return Answers(np.stack([np.ones(n), z], 1), truth)


def test_features_of_known_cells():
    score = np.array([0.1, 0.5, 0.9, np.nan])
    mean = np.array([0.0, 10.0, 10.0, np.nan])
    rim = np.array([0.0, 4.0, 10.0, np.nan])
    features = cell_features(score, np.full(4, 0.2), mean, {"rim_low": rim})
    assert set(features) == {"score", "score_rank", "intensity_rank", "spread", "rim"}
    np.testing.assert_allclose(features["score"][:3], logit(score[:3]))
    expected = norm.ppf([0.5 / 3, 1.5 / 3, 2.5 / 3])
    np.testing.assert_allclose(features["score_rank"][:3], expected)
    np.testing.assert_allclose(features["intensity_rank"][:3], norm.ppf([0.5 / 3, 2 / 3, 2 / 3]))
    floor = 0.1 * 5  # a tenth of the middle half: quartiles 5 and 10
    np.testing.assert_allclose(features["rim"][:3], [0, np.log((4 + floor) / (10 + floor)), 0])
    for values in (features[n] for n in ("score", "score_rank", "intensity_rank", "rim")):
        assert np.isnan(values[3])


@given(st.floats(0.01, 1e4), st.integers(0, 20))
def test_features_do_not_depend_on_the_unit_of_intensity(unit, seed):
    rng = np.random.default_rng(seed)
    score, mean, rim = rng.random((3, 30))
    one = cell_features(score, score, mean, dict.fromkeys(EVIDENCE, rim))
    other = cell_features(score, score, unit * mean, dict.fromkeys(EVIDENCE, unit * rim))
    assert set(one) == set(FEATURES)
    for name in FEATURES:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)


def test_without_a_prior_it_is_logistic_regression():
    linear = pytest.importorskip("sklearn.linear_model")
    one = answers(np.random.default_rng(3), 300, offset=-1, slope=0.7)
    oracle = linear.LogisticRegression(C=1e9, tol=1e-10).fit(one.design[:, 1:], one.target)
    offset, slope = fit_marker(one, np.array([0.0, 1.0]), np.full(2, 1e-9))
    assert slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert offset == pytest.approx(oracle.intercept_[0], rel=1e-4)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 8))
def test_the_fit_is_the_maximum(seed, n):
    """No step from it raises the posterior, also with answers of one kind or none."""
    rng = np.random.default_rng(seed)
    one = answers(rng, n, offset=rng.normal())
    mean, precision = np.array([0.2, 1.5]), np.array([0.5, 4.0])

    def posterior(b):
        z = one.design @ b
        return -np.logaddexp(0, z).sum() + one.target @ z - precision @ (b - mean) ** 2 / 2

    best = fit_marker(one, mean, precision)
    for step in 1e-3 * rng.standard_normal((20, 2)):
        assert posterior(best + step) <= posterior(best) + 1e-12
    if n == 0:
        np.testing.assert_allclose(best, mean)


def test_a_marker_is_drawn_to_its_fellows():
    rng = np.random.default_rng(0)
    prior = OFFSET
    few = Answers(np.array([[1.0, 0.0]]), np.array([0.0]))
    alone = fit_markers([few], prior)[0]
    shifted = [answers(rng, 200, offset=-2) for _ in range(6)]
    among = fit_markers([few, *shifted], prior)[0]
    assert among[0] < alone[0] - 0.3
    assert alone[0] < 0
    none = Answers(np.zeros((0, 2)), np.zeros(0))
    with_none = fit_markers([few, none, *shifted], prior)
    np.testing.assert_allclose(with_none[0], among, atol=1e-6)
    assert with_none[1][0] < -0.3  # without answers of its own it is as its fellows


def test_held_out_logits_do_not_see_their_answer():
    rng = np.random.default_rng(1)
    markers = [answers(rng, 7), answers(rng, 3)]
    held = held_out_logits(markers, WIDE.model_copy(update={"width": (1.0, 1.0)}))
    prior = WIDE.model_copy(update={"width": (1.0, 1.0)})
    for k, one in enumerate(markers):
        for i in range(len(one.target)):
            turned = one.target.copy()
            turned[i] = 1 - turned[i]
            other = [*markers]
            other[k] = Answers(one.design, turned)
            again = held_out_logits(other, prior)
            assert again[k][i] == pytest.approx(held[k][i], abs=1e-9)
    assert held_out_logits([], prior) == []


def test_the_guard():
    truth = np.arange(20) % 2.0
    good, bad = np.where(truth == 1, 2.0, -2.0), np.where(truth == 1, -2.0, 2.0)
    assert clearly_worse(good, bad, truth)
    assert not clearly_worse(bad, good, truth)
    assert not clearly_worse(good, good, truth)
    assert not clearly_worse(good, bad, np.ones(2))  # two answers tell nothing
    less_sure = good / 4
    assert not clearly_worse(good, less_sure, truth)  # no call differs
    one_off = good.copy()
    one_off[0] *= -0.1
    assert not clearly_worse(good, one_off, truth)  # may be chance


def test_priors_that_are_shipped():
    name, prior = prior_for("compact-7", [*EVIDENCE, "score_sd"])
    assert name == "evidence"
    assert prior.features == FEATURES
    assert prior_for("compact-7-tuned", EVIDENCE)[0] == "evidence"
    assert prior_for("compact-7", ["score_sd"])[0] == "plain"
    assert prior_for("nimbus", EVIDENCE) == ("offset", OFFSET)
    for one in (prior, prior_for("compact-7", [])[1], OFFSET):
        sizes = {len(one.centre), len(one.scale), len(one.mean) - 1, len(one.width) - 1}
        assert sizes == {len(one.features)}
        assert min(one.scale) > 0
        assert min(one.width) > 0
        assert one.mean[1] > 0  # the score speaks for positive
