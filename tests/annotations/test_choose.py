"""Which cells are asked: the ones that teach most, and an honest random share."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from panimbus.annotations.choose import (
    Candidates,
    candidates_of,
    draw_questions,
    list_questions,
    moved_boundary,
    nearness,
    next_at_boundary,
)
from panimbus.core.errors import ChannelError, InputError


def made(score, *, fov=None, threshold=0.5, **doubts):
    score = np.asarray(score, float)
    fov = np.full(len(score), "a", object) if fov is None else np.asarray(fov, object)
    ids = np.arange(1, len(score) + 1)
    all_doubts = {"boundary": nearness(score, threshold)} | {
        k: np.asarray(v, float) for k, v in doubts.items()
    }
    return Candidates("CD3", fov, ids, score, score >= threshold, threshold, all_doubts)


def by_reason(questions):
    out = {}
    for q in questions:
        out.setdefault(q.sampling, []).append(q.row)
    return {k: sorted(v) for k, v in out.items()}


def test_chosen_cells_are_those_next_to_the_boundary():
    scores = np.r_[np.linspace(0.001, 0.1, 500), 0.48, 0.51, 0.55, np.linspace(0.9, 0.999, 500)]
    rows = by_reason(draw_questions(made(scores), 4))
    assert len(rows["random"]) == 2
    assert len(set(rows["boundary"]) - {500, 501, 502}) == 0


def test_every_reason_gets_its_share():
    n = 4000
    rng = np.random.default_rng(0)
    neighbours, views = np.zeros(n), np.zeros(n)
    neighbours[:30], views[100:130] = 1, rng.random(30)
    rows = by_reason(draw_questions(made(rng.random(n), neighbours=neighbours, views=views), 20))
    assert {k: len(v) for k, v in rows.items()} == {
        "random": 5, "neighbours": 3, "views": 3, "boundary": 9
    }  # fmt: skip
    assert max(rows["neighbours"]) < 30
    assert set(rows["views"]) <= set(range(100, 130))


def test_a_reason_without_cells_leaves_its_share_to_the_boundary():
    rows = by_reason(draw_questions(made(np.linspace(0.01, 0.99, 300), types=np.zeros(300)), 20))
    assert {k: len(v) for k, v in rows.items()} == {"random": 5, "boundary": 15}


def test_chosen_cells_are_spread_over_fovs():
    """Near the boundary lie 60 cells of one FOV and 3 of another; both are asked."""
    scores = np.r_[np.full(60, 0.5), np.full(3, 0.47), np.full(900, 0.01)]
    fov = ["a"] * 60 + ["b"] * 3 + ["a"] * 900
    rows = by_reason(draw_questions(made(scores, fov=fov), 14, share=0))
    assert {60, 61, 62} <= set(rows["boundary"])


def test_random_cells_are_half_positive_and_carry_weights():
    scores = np.r_[np.full(30, 0.9), np.full(970, 0.1)]
    questions = [
        q for q in draw_questions(made(scores), 40, share=0.5, seed=3) if q.sampling == "random"
    ]
    assert (
        sorted((q.weight, q.row < 30) for q in questions) == [(3, True)] * 10 + [(97, False)] * 10
    )
    assert all(q.weight is None for q in draw_questions(made(scores), 20, share=0))


def test_the_random_share_is_uniform_whatever_was_chosen_before():
    """Cells that were chosen before can still be drawn at random: else the share would be of the
    easy cells only."""
    scores = np.linspace(0.5, 0.9, 8)
    before = np.array(["boundary"] * 4 + [""] * 4, object)
    counts = np.zeros(8)
    for seed in range(400):
        for q in draw_questions(made(scores), 2, asked=before, share=1, seed=seed):
            counts[q.row] += 1
    assert counts.sum() == 800
    assert abs(counts - 100).max() < 40  # 4 standard deviations


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.integers(1, 80),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_laws_of_a_draw(scores, n, share, seed):
    candidates = made(scores, views=np.linspace(0, 1, len(scores)))
    first = draw_questions(candidates, n, share=share, seed=seed)
    assert first == draw_questions(candidates, n, share=share, seed=seed)
    rows = [q.row for q in first]
    assert len(set(rows)) == len(rows) == min(n, len(scores))
    assert all((q.sampling == "random") == (q.weight is not None) for q in first)
    asked = np.full(len(scores), "", object)
    for q in first:
        asked[q.row] = q.sampling
    again = draw_questions(candidates, n, asked=asked, share=share, seed=seed + 1)
    for q in again:
        assert asked[q.row] == "" or (q.sampling == "random" != asked[q.row])


def test_a_weight_total_is_the_number_of_cells():
    rng = np.random.default_rng(1)
    questions = draw_questions(made(rng.random(777)), 60)
    assert sum(q.weight or 0 for q in questions) == pytest.approx(777)


def test_no_cells_to_ask_is_an_error():
    with pytest.raises(InputError, match="at least 1"):
        draw_questions(made([0.5]), 0)


# -- the moving boundary --------------------------------------------------------------------------


def test_the_boundary_follows_the_answers():
    assert moved_boundary([], [], 0.3) == pytest.approx(0.3)
    assert moved_boundary([0.5], [1], 0.5) < 0.5 < moved_boundary([0.5], [0], 0.5)
    assert moved_boundary([0.5, 0.5], [1, 0], 0.5) == pytest.approx(0.5)
    assert moved_boundary([0.5], [np.nan], 0.5) == pytest.approx(0.5)
    sure, likely = moved_boundary([0.5], [1], 0.5), moved_boundary([0.5], [0.75], 0.5)
    assert sure < likely < 0.5
    assert abs(moved_boundary([0.99], [1], 0.5) - 0.5) < 0.02  # nothing new


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), max_size=20))
def test_one_more_positive_answer_never_raises_the_boundary(pairs):
    scores, answers = [p[0] for p in pairs], [p[1] for p in pairs]
    before = moved_boundary(scores, answers, 0.5)
    assert 0 < before < 1
    assert moved_boundary([*scores, 0.4], [*answers, 1], 0.5) <= before + 1e-9


def test_answers_one_after_another_meet_the_true_boundary():
    """Scores whose true boundary is 0.2: ten questions, each chosen after the last."""
    rng = np.random.default_rng(0)
    candidates = made(rng.random(3000))
    answer, asked = np.full(3000, np.nan), np.zeros(3000, bool)
    for _ in range(10):
        row = next_at_boundary(candidates, answer, asked)
        asked[row], answer[row] = True, float(candidates.score[row] > 0.2)
    given_ = ~np.isnan(answer)
    last = moved_boundary(candidates.score[given_], answer[given_], 0.5)
    assert 0.12 < last < 0.3
    assert candidates.score[asked].max() < 0.6  # near the boundary all the time


def test_the_next_cell_comes_from_the_fov_asked_least():
    candidates = made([0.5, 0.5, 0.5], fov=["a", "a", "b"])
    asked = np.array([True, False, False])
    answer = np.array([1.0, np.nan, np.nan])
    assert next_at_boundary(candidates, answer, asked) == 2
    assert next_at_boundary(candidates, answer, np.ones(3, bool)) is None


def test_answers_move_the_boundary_of_the_next_draw():
    """Three positive answers upon the threshold: the next draw asks lower scores."""
    candidates = made(np.linspace(0.001, 0.999, 2000))
    answer, asked = np.full(2000, np.nan), np.full(2000, "", object)
    answer[998:1001], asked[998:1001] = 1, "boundary"
    moved = candidates.with_answers(answer)
    rows = [q.row for q in draw_questions(moved, 10, asked=asked, share=0)]
    assert candidates.score[rows].max() < 0.4
    assert not {998, 999, 1000} & set(rows)


# -- from a cell table ----------------------------------------------------------------------------


def table():
    x = np.array([[0.9, 0.1], [0.6, 0.2], [np.nan, 0.3], [0.2, 0.4], [0.7, 0.5]], np.float32)
    obs = pd.DataFrame(
        {
            "fov_id": ["a", "a", "a", "b", "b"],
            "cell_id": [1, 2, 3, 1, 2],
            "object": ["cell", "cell", "cell", "cell", "sliver"],
        },
        index=list("vwxyz"),
    )
    layers = {
        "score_sd": np.full((5, 2), 0.1),
        "intensity_mean": np.array([[4, 1], [1, 1], [1, 1], [1, 1], [1, 1.0]]),
        "neighbour_max": np.array([[2, 1], [np.e, 1], [1, 1], [9, 1], [9, 1.0]]),
    }
    var = pd.DataFrame({"threshold": [0.5, 0.4]}, index=["CD3", "CD20"])
    return AnnData(x, obs=obs, var=var, layers=layers)


def test_candidates_of_a_table():
    made_ = candidates_of(table(), "CD3", contradicting=np.array([False, True, True, True, True]))
    assert list(zip(made_.fov, made_.cell_id.tolist(), strict=True)) == [
        ("a", 1), ("a", 2), ("b", 1)
    ]  # fmt: skip
    assert made_.positive.tolist() == [True, True, False]
    assert list(made_.doubts) == ["boundary", "neighbours", "types", "views"]
    np.testing.assert_allclose(made_.doubts["neighbours"], [0, 1, 0])
    assert (made_.doubts["types"] > 0).tolist() == [False, True, False]
    assert made_.doubts["boundary"].argmax() == 1
    assert made_.rows(["a", "b", "b"], [2, 1, 2]).tolist() == [1, 2, -1]


def test_a_threshold_of_the_table_decides():
    made_ = candidates_of(table(), "CD20")
    assert made_.positive.tolist() == [False, False, False, True]  # 0.4 as float32 reaches 0.4
    assert made_.threshold == 0.4


def test_an_unknown_marker():
    with pytest.raises(ChannelError, match="CD3"):
        candidates_of(table(), "CD2")


def test_the_list_is_an_annotation_table_without_answers():
    candidates = candidates_of(table(), "CD3")
    frame = list_questions(candidates, draw_questions(candidates, 3))
    assert list(frame) == ["fov", "cell_id", "channel", "call", "sampling", "sampling_weight"]
    assert set(frame["call"]) == {""}
    assert set(frame["channel"]) == {"CD3"}
    assert len(frame) == 3
