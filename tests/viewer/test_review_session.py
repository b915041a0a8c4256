"""A reader's session of annotation, without a browser."""

import numpy as np
import pytest

from panimbus.annotations.choose import Candidates, nearness
from panimbus.annotations.log import AnnotationLog
from panimbus.core.errors import InputError
from panimbus.viewer.review import ReviewSession, agreement_of, estimate_of


@pytest.fixture
def log(tmp_path):
    return AnnotationLog(tmp_path / "log.jsonl")


@pytest.fixture
def candidates():
    """1000 cells of two FOVs; a cell is truly positive from a score of 0.3 on."""
    score = np.random.default_rng(0).random(1000)
    fov = np.array(["a", "b"], object)[np.arange(1000) % 2]
    near = nearness(score, 0.5)
    return Candidates("CD3", fov, np.arange(1, 1001), score, score >= 0.5, 0.5, {"boundary": near})


def session(log, candidates, annotator="ann", **more):
    return ReviewSession(log, candidates, annotator, **more)


def key(item):
    return item.fov, item.cell_id


def truth(item, candidates):
    (row,) = candidates.rows([item.fov], [item.cell_id])
    return "positive" if candidates.score[row] >= 0.3 else "negative"


def answer_all(one, candidates):
    while one.current is not None:
        one.answer(truth(one.current, candidates))
    return one


def test_twenty_answers_each_boundary_cell_chosen_after_the_last(log, candidates):
    one = answer_all(session(log, candidates), candidates)
    assert one.answered == len(one.items) == 20
    assert len({key(i) for i in one.items}) == 20
    chosen = [i for i in one.items if i.sampling == "boundary"]
    scores = [candidates.score[candidates.rows([i.fov], [i.cell_id])[0]] for i in chosen]
    assert abs(scores[0] - 0.5) < 0.15
    assert abs(np.median(scores[-5:]) - 0.3) < 0.1  # it has moved to where the answers change
    assert {i.fov for i in chosen} == {"a", "b"}
    assert len(log.table()) == 20


def test_a_new_session_continues_and_asks_other_cells(log, candidates):
    first = session(log, candidates, seed=1)
    for _ in range(7):
        first.answer("positive")
    again = session(log, candidates, seed=2)
    earlier, new = again.items[: again.at], again.items[again.at :]
    done = [key(i) for i in first.items[:7]]
    assert [key(i) for i in earlier] == [k for k in done if k not in map(key, new)]
    assert len(new) == 20
    repeated = [i for i in new if key(i) in done]  # drawn at random, after it was chosen
    assert all(i.sampling == "random" and i.given is None for i in repeated)
    answer_all(again, candidates)
    assert len({key(i) for i in again.items}) == len(again.items)


def test_undo_goes_back_to_the_cell_and_restores_what_stood(log, candidates):
    one = session(log, candidates)
    first, second = (one.answer("positive") for _ in range(2))
    assert one.undo() is second
    assert (one.current, second.given) == (second, None)
    one.back()
    one.answer("negative")
    assert first.given.call == "negative"
    assert one.undo() is first
    assert first.given.call == "positive"
    one.undo()
    with pytest.raises(InputError, match="no answer to undo"):
        one.undo()
    assert log.answers() == []


def test_after_a_restart_the_last_answer_can_still_be_undone(log, candidates):
    one = session(log, candidates)
    done = [one.answer("positive") for _ in range(3)]
    again = session(log, candidates)
    assert key(again.undo()) == key(done[2])
    assert again.at == 2
    assert len(log.answers()) == 2


def test_back_and_forward_stay_among_the_cells_that_were_shown(log, candidates):
    one = session(log, candidates)
    one.back()
    assert one.at == 0
    one.forward()
    assert one.at == 1
    assert one.items[0].given is None  # left without an answer
    one.go(15)
    assert one.at == 2  # cells not shown yet are not chosen yet
    one.go(0)
    one.answer("undetermined")
    assert one.at == 1


def test_the_second_reader_is_blind(log, candidates):
    first = answer_all(session(log, candidates), candidates)
    assert len(session(log, candidates, "ann", round=2).items) == 0
    bob = session(log, candidates, "bob", round=2, seed=5)
    assert {key(i) for i in bob.items} == {key(i) for i in first.items}
    assert [key(i) for i in bob.items] != [key(i) for i in first.items]  # in another order
    assert all(i.given is None and i.earlier == () for i in bob.items)
    reasons = {key(i): (i.sampling, i.weight) for i in first.items}
    assert all(reasons[key(i)] == (i.sampling, i.weight) for i in bob.items)
    while bob.answered < 19:
        bob.answer("positive")
        assert bob.is_blind  # agreement would tell what ann answered
    bob.answer("positive")
    assert not bob.is_blind
    assert agreement_of(log.answers())["cells"].tolist() == [20]


def test_the_discussion_is_of_split_cells_and_decides(log, candidates):
    answer_all(session(log, candidates), candidates)
    bob = session(log, candidates, "bob", round=2)
    split = []
    while bob.current is not None:
        right = truth(bob.current, candidates)
        wrong = bob.answered % 5 == 0
        split += [key(bob.current)] if wrong else []
        bob.answer({"positive": "negative", "negative": "positive"}[right] if wrong else right)
    talk = session(log, candidates, "ann", round=3)
    assert {key(i) for i in talk.items} == set(split)
    assert all(dict(i.earlier).keys() == {"ann", "bob"} for i in talk.items)
    kappa = agreement_of(log.answers())["kappa"].item()
    assert kappa < 1
    answer_all(talk, candidates)
    assert (
        agreement_of(log.answers())["kappa"].item() == kappa
    )  # of what was read, not of what was agreed
    assert session(log, candidates, "bob", round=3).items == []  # nothing is left to discuss
    table = log.table()
    rows = table[[(f, c) in split for f, c in zip(table["fov"], table["cell_id"], strict=True)]]
    assert rows["round"].tolist() == [3] * len(split)


def test_estimates_come_from_the_random_answers(log, candidates):
    one = answer_all(session(log, candidates, count=40), candidates)
    made = estimate_of(log.answers(), candidates)
    assert made.answers == sum(i.sampling == "random" for i in one.items) == 10
    assert made.precision.value == 1  # every cell from 0.5 on is positive
    assert made.recall.low < 500 / 700 < made.recall.high


def test_two_tabs_of_one_reader_lose_nothing(log, candidates):
    tabs = [session(log, candidates, seed=1), session(log, candidates, seed=1)]
    for k in range(10):
        tabs[k % 2].answer("positive")
    assert {key(i) for t in tabs for i in t.items if i.given} == {
        (a.fov, a.cell_id) for a in log.answers()
    }
    tabs[0].undo()
    tabs[1].undo()
    assert len([e for e in log.entries() if hasattr(e, "undo")]) == 2


def test_no_name_no_session(log, candidates):
    with pytest.raises(InputError, match="name"):
        session(log, candidates, "")
