"""The guard: what is held out, and when a changed model counts as better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.core.errors import InputError
from panimbus.finetune.guard import compare_scores, figures, groups_of, hold_out


def test_groups_are_fovs_or_blocks():
    fov = np.repeat(["a", "b", "c", "d"], 5)
    xy = np.random.default_rng(0).random((20, 2))
    assert len(set(zip(fov, groups_of(fov, xy), strict=True))) == 4
    one = groups_of(np.repeat("a", 20), xy)
    assert 4 <= len(np.unique(one)) <= 16
    corner = groups_of(np.repeat("a", 4), np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]]))
    assert len(np.unique(corner)) == 4
    assert groups_of(np.repeat("a", 3), np.zeros((3, 2))).tolist() == [0, 0, 0]


@settings(max_examples=10)
@given(st.integers(0, 50))
def test_hold_out_keeps_groups_whole_and_both_signs_apart(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 12, 150)
    groups[:12] = np.arange(12)
    truth = (rng.random(150) < 0.4).astype(float)
    out = hold_out(groups, truth, share=0.3, seed=seed)
    assert not set(groups[out]) & set(groups[~out])
    assert 0.15 < out.mean() < 0.45
    for side in (out, ~out):
        assert min(truth[side].sum(), (1 - truth[side]).sum()) >= 5
    np.testing.assert_array_equal(out, hold_out(groups, truth, share=0.3, seed=seed))


def test_hold_out_says_why_not():
    with pytest.raises(InputError, match="cannot be split") as caught:
        hold_out(np.zeros(30, np.intp), np.arange(30) % 2.0, share=0.3, seed=0)
    assert "15 positive and 15 negative calls in 1 groups" in str(caught.value)


def test_figures_are_scikit_learns():
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, truth, w = rng.random(80), (rng.random(80) < 0.3).astype(float), rng.random(80) + 0.1
    mine, called = figures(scores, truth, w, 0.4), scores >= 0.4
    assert mine.f1 == pytest.approx(sk.f1_score(truth, called, sample_weight=w))
    assert mine.precision == pytest.approx(sk.precision_score(truth, called, sample_weight=w))
    assert mine.recall == pytest.approx(sk.recall_score(truth, called, sample_weight=w))
    assert mine.balanced_accuracy == pytest.approx(
        sk.balanced_accuracy_score(truth, called, sample_weight=w)
    )
    assert mine.log_loss == pytest.approx(
        sk.log_loss(truth, np.clip(scores, 1e-4, 1 - 1e-4), sample_weight=w)
    )


@pytest.fixture
def held():
    """Calls, a model that misses a third of the positive ones, and one that misses few."""
    rng = np.random.default_rng(1)
    truth = (rng.random(150) < 0.4).astype(float)
    old = np.where((truth == 1) & (rng.random(150) > 0.33), 0.9, 0.1)
    new = np.where((truth == 1) & (rng.random(150) > 0.05), 0.9, 0.1)
    return old, new, truth, np.arange(150)


def test_better_is_better(held):
    old, new, truth, units = held
    verdict = compare_scores(old, new, truth, units=units)
    assert verdict.better
    assert not compare_scores(new, old, truth, units=units).better
    assert not compare_scores(old, old, truth, units=units).better
    assert verdict.gain["f1"][0] > 0
    assert verdict.to_dict()["better"] is True


@pytest.mark.parametrize("everything", [0.0, 0.5, 1.0])
def test_one_answer_for_all_is_not_better(held, everything):
    """All positive has a fair F1 where half is positive, all undecided a fair log loss where the
    calls are noise."""
    rng = np.random.default_rng(2)
    truth = (rng.random(150) < 0.6).astype(
        float
    )  # calls at random: the old model can only be wrong
    assert not compare_scores(held[0], np.full(150, everything), truth, units=held[3]).better


def test_random_calls_are_refused():
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(60):
        truth, old, new = (rng.random((3, 80)) < 0.5).astype(float)
        kept += compare_scores(old, new, truth, units=np.arange(80)).better
    assert kept <= 4


def test_calls_of_one_cell_are_drawn_together(held):
    old, new, truth, units = held
    many = [np.repeat(a, 4) for a in (old, new, truth, units)]
    apart = compare_scores(*many[:3], units=np.arange(600)).gain["f1"]
    together = compare_scores(*many[:3], units=many[3]).gain["f1"]
    once = compare_scores(old, new, truth, units=units).gain["f1"]
    assert together == pytest.approx(once, abs=0.02)
    assert np.diff(apart)[0] < 0.7 * np.diff(together)[0]
