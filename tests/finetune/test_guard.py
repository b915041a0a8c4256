"""The guard: what is held out, and when a changed model counts as better; recalibration as a fit
with two unknowns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from panimbus.core.correction import after
from panimbus.core.errors import InputError
from panimbus.finetune.guard import compare_scores, figures, folds, groups_of, hold_out
from panimbus.finetune.recalibrate import (
    CellLogits,
    Prior,
    behind,
    combined,
    fit_corrections,
    fit_markers,
)


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


@given(st.lists(st.integers(1, 9), min_size=2, max_size=30), st.integers(2, 6))
def test_folds_are_even_and_keep_groups_whole(sizes, k):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    fold = folds(groups, k, seed=0)
    assert len({*zip(groups.tolist(), fold.tolist(), strict=True)}) == len(sizes)
    counts = np.bincount(fold)
    assert len(counts) == min(k, len(sizes))
    assert counts.max() - counts.min() <= max(sizes)


def test_folds_need_two_places():
    with pytest.raises(InputError, match="one place"):
        folds(np.zeros(9, np.intp), 5, seed=0)


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


def cells(rng, n, pixels=30):
    """Logits of the pixels of cells, spread around a value each."""
    return CellLogits.of(
        [rng.normal(2.5 * rng.standard_normal(), 0.5, (2, pixels)) for _ in range(n)]
    )


def test_scores_are_means_of_pixels():
    logits = CellLogits.of([np.array([[0.0, 2.0]]), np.array([[-1.0]])])
    np.testing.assert_allclose(logits.scores(), [(0.5 + expit(2)) / 2, expit(-1)])
    np.testing.assert_allclose(logits.scores((2.0, 1.0)), [(expit(1) + expit(2)) / 2, expit(0.5)])
    np.testing.assert_allclose(logits.only(np.array([False, True])).scores(), [expit(-1)])


def test_fit_finds_the_correction():
    rng = np.random.default_rng(0)
    logits = cells(rng, 4000)
    truth = (rng.random(4000) < logits.scores((2.0, -1.5))).astype(float)
    found = fit_corrections(logits, truth)
    assert found == pytest.approx((2.0, -1.5), rel=0.15)


def test_fit_is_logistic_regression_where_cells_are_pixels():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(3)
    z = 2 * rng.standard_normal(300)
    truth = (rng.random(300) < expit(0.7 * z - 1)).astype(float)
    oracle = linear.LogisticRegression(C=1e6, tol=1e-8).fit(z[:, None], truth)
    temperature, offset = fit_corrections(
        CellLogits.of([np.array([v]) for v in z]), truth, Prior(100, 100)
    )
    assert 1 / temperature == pytest.approx(oracle.coef_[0, 0], rel=1e-3)
    assert offset == pytest.approx(oracle.intercept_[0], rel=1e-3)


def test_few_calls_move_little_and_one_sign_stays_finite():
    rng = np.random.default_rng(0)
    logits = cells(rng, 3)
    narrow = Prior(0.01, 0.01)
    assert fit_corrections(logits, np.ones(3), narrow) == pytest.approx((1, 0), abs=0.02)
    temperature, offset = fit_corrections(logits, np.ones(3))
    assert 0 < temperature < 8
    assert 0 < offset < 12


def test_markers_are_drawn_towards_the_common_correction():
    rng = np.random.default_rng(0)
    logits = cells(rng, 400)
    marker = np.repeat(["a", "b"], 200)
    offset = np.where(marker == "a", -2.0, 0.0)
    truth = (logit(logits.scores()) + offset + 0.3 * rng.standard_normal(400) > 0).astype(float)
    found = fit_markers(logits, truth, marker)
    assert found["a"][1] < -1
    assert found["b"][1] > -0.7
    common = fit_corrections(logits, truth)
    assert fit_corrections(
        logits.only(marker == "c"), np.zeros(0), Prior(1, 1, common)
    ) == pytest.approx(common)


corrections = st.tuples(st.floats(0.3, 3), st.floats(-2, 2))


@given(st.floats(-5, 5), corrections, corrections)
def test_corrections_compose(z, marker, common):
    apply = lambda v, c: v / c[0] + c[1]  # noqa: E731
    wanted = apply(apply(z, marker), common)
    assert apply(z, after(marker, common)) == pytest.approx(wanted, abs=1e-9)
    assert apply(z, combined({"m": marker}, {"m": common})["m"]) == pytest.approx(wanted, abs=1e-9)
    assert apply(apply(z, common), behind({"m": marker}, common)["m"]) == pytest.approx(
        wanted, abs=1e-9
    )
    assert combined({}, {"m": common}) == {"m": pytest.approx(common)}
