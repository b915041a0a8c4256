"""The table of calls: read, checked, written; agreement and consensus of annotators."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panimbus.annotations.agreement import (
    annotator_agreement,
    consensus_annotations,
    paired_annotations,
    split_cells,
)
from panimbus.annotations.matching import mismatches, raise_mismatches
from panimbus.annotations.read import read_annotations
from panimbus.annotations.table import (
    CALLS,
    check_annotations,
    sample_annotations,
    silver_to_annotations,
    truth,
    write_annotations,
)
from panimbus.core.errors import InputError
from panimbus.core.stats import cohen_kappa


def table(*rows, columns="fov cell_id channel call annotator"):
    return pd.DataFrame([dict(zip(columns.split(), row, strict=True)) for row in rows])


def test_read_what_was_written(tmp_path):
    calls = check_annotations(
        table(
            ("fov1", 3, "CD3", " Likely_Positive ", "ann"), ("fov1", "4", "CD3", "negative", "ann")
        )
    )
    assert calls["call"].tolist() == ["likely positive", "negative"]
    write_annotations(tmp_path / "calls.csv", calls)
    pd.testing.assert_frame_equal(read_annotations(tmp_path / "calls.csv"), calls)
    assert calls.columns.tolist() == ["fov", "cell_id", "channel", "call", "annotator", "time"]


def test_other_columns_and_weights_are_kept():
    frame = table(
        ("a", 1, "x", "positive", 2.5, "?"), columns="fov cell_id channel call sampling_weight note"
    )
    calls = check_annotations(frame)
    assert calls.loc[0, "sampling_weight"] == 2.5
    assert calls.columns.tolist()[-1] == "note"


def test_all_problems_in_one_message(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text(
        "fov,cell_id,channel,call,sampling_weight\na,0,CD3,pos,1\n,2,CD3,maybe,-1\nb,1.5,,negative,x\n"
    )
    with pytest.raises(InputError) as caught:
        read_annotations(path)
    message = str(caught.value)
    says = (
        "calls.csv",
        "without a fov: line 3",
        "without a channel: line 4",
        "'0'",
        "do the ids count from 0?",
        "'1.5'",
        "'pos'",
        "'maybe'",
        CALLS[1],
    )
    for words in (*says, "sampling_weight is not a positive number: lines 3, 4"):
        assert words in message, message


def test_columns_are_missing():
    with pytest.raises(InputError, match="missing: cell_id, call"):
        check_annotations(pd.DataFrame({"fov": ["a"], "channel": ["x"]}))


def test_called_twice():
    rows = [
        ("a", 1, "x", "positive", "ann"),
        ("a", 1, "x", "negative", "bob"),
        ("a", 1, "y", "positive", "ann"),
    ]
    check_annotations(table(*rows))
    with pytest.raises(
        InputError, match="1 cells are annotated twice by the same annotator: a 1 x"
    ):
        check_annotations(table(*rows, ("a", 1, "x", "negative", "ann")))


@pytest.mark.parametrize("text", ["", "\x00\x01", "fov,cell_id\n1,2,3,4\n"])
def test_not_a_csv(tmp_path, text):
    path = tmp_path / "calls.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"calls\.csv"):
        read_annotations(path)
    with pytest.raises(InputError, match="no such file"):
        read_annotations(tmp_path / "nowhere.csv")


def test_calls_of_what_is_not_there():
    calls = check_annotations(
        table(
            ("a", 1, "x", "positive", ""),
            ("a", 9, "z", "positive", ""),
            ("b", 1, "x", "negative", ""),
        )
    )
    with pytest.raises(InputError) as caught:
        raise_mismatches(mismatches(calls, {"a": np.array([1, 2])}, {"a": ("x", "y")}), "them")
    for words in ("not among the images: b", "'a' has no channel z", "'a' has no cell 9"):
        assert words in str(caught.value)
    assert mismatches(calls.iloc[:1], {"a": np.array([1, 2])}, {"a": ("x", "y")}) == []


def test_truth():
    calls = check_annotations(table(*(("a", k, "x", word, "") for k, word in enumerate(CALLS, 1))))
    np.testing.assert_array_equal(truth(calls), [1, 1, np.nan, 0, 0])
    np.testing.assert_array_equal(truth(calls, likely=False), [1, np.nan, np.nan, np.nan, 0])


def test_silver_labels_wait_for_an_annotator():
    silver = table(
        ("a", 1, "x", 1), ("a", 2, "x", 0), ("a", 3, "x", None), columns="fov cell_id channel label"
    )
    assert silver_to_annotations(silver)["call"].tolist() == [
        "positive",
        "negative",
        "undetermined",
    ]
    with pytest.raises(InputError, match="label"):
        silver_to_annotations(silver.drop(columns="label"))


def test_draw_is_even():
    calls = check_annotations(
        table(
            *(("a", k, "x", "positive" if k < 4 else "negative", "") for k in range(1, 60)),
            ("a", 1, "y", "negative", ""),
        )
    )
    drawn = sample_annotations(calls, 7, seed=3)
    assert drawn.groupby(["channel", "call"]).size().tolist() == [3, 3, 1]
    pd.testing.assert_frame_equal(drawn, sample_annotations(calls, 7, seed=3))
    assert len(sample_annotations(calls, 1000)) == len(calls)
    with pytest.raises(InputError, match="positive"):
        sample_annotations(calls, 0)


words = st.lists(st.tuples(st.sampled_from(CALLS), st.sampled_from(CALLS)), min_size=2, max_size=60)


@given(words, st.sampled_from(["none", "linear", "quadratic"]))
def test_kappa_is_scikit_learns(pairs, weights):
    metrics = pytest.importorskip("sklearn.metrics")
    one, other = zip(*pairs, strict=True)
    kappa = cohen_kappa(one, other, order=CALLS, weights=weights)
    if len(set(one) | set(other)) == 1:
        assert np.isnan(kappa)
        return
    expected = metrics.cohen_kappa_score(
        one, other, labels=list(CALLS), weights=None if weights == "none" else weights
    )
    assert kappa == pytest.approx(expected, abs=1e-12)


def test_kappa_says_what_is_wrong():
    with pytest.raises(InputError, match="cubic"):
        cohen_kappa(["a"], ["a"], order="a", weights="cubic")
    with pytest.raises(InputError, match="b"):
        cohen_kappa(["a"], ["b"], order="a")
    with pytest.raises(InputError, match="1 and 2"):
        cohen_kappa(["a"], ["a", "a"], order="a")
    assert np.isnan(cohen_kappa([], [], order="a"))


@pytest.fixture
def two():
    """Ann and Bob on three cells both saw and one that only Ann did."""
    votes = {
        1: ("positive", "likely positive"),
        2: ("negative", "negative"),
        3: ("negative", "positive"),
        4: ("positive", None),
    }
    rows = [
        ("a", k, "x", call, annotator)
        for k, calls in votes.items()
        for annotator, call in zip(("ann", "bob"), calls, strict=True)
        if call
    ]
    return check_annotations(table(*rows))


def test_both_and_agreement(two):
    assert paired_annotations(two, "ann", "bob")["cell_id"].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="eve"):
        paired_annotations(two, "ann", "eve")
    agreed = annotator_agreement(two)
    assert agreed["channel"].tolist() == ["all", "x"]
    assert agreed.loc[0, "cells"] == agreed.loc[0, "decided"] == 3
    assert agreed.loc[0, "agree"] == pytest.approx(2 / 3)
    assert agreed.loc[0, "kappa"] == pytest.approx(0.4)
    with pytest.raises(InputError, match="two annotators"):
        annotator_agreement(two[two["annotator"] == "ann"])
    apart = two.assign(cell_id=range(1, len(two) + 1))
    with pytest.raises(InputError, match="No cell and channel"):
        annotator_agreement(apart)


def test_consensus(two):
    one = consensus_annotations(two).set_index("cell_id")
    assert one["call"].to_dict() == {
        1: "likely positive",
        2: "negative",
        3: "undetermined",
        4: "positive",
    }
    assert one["annotator"].to_dict() == {1: "consensus", 2: "consensus", 3: "consensus", 4: "ann"}
    assert one.loc[3, "votes"] == "1 : 1 : 0"


@settings(max_examples=25)
@given(st.lists(st.sampled_from(CALLS), min_size=1, max_size=7))
def test_consensus_rules(votes):
    calls = check_annotations(
        table(*(("a", 1, "x", call, f"reader {k}") for k, call in enumerate(votes)))
    )
    call = consensus_annotations(calls).loc[0, "call"]
    plus, minus = (sum(side in word for word in votes) for side in ("positive", "negative"))
    assert (call == "undetermined") == (plus == minus)
    if plus != minus:
        assert ("positive" in call) == (plus > minus)
    if len(set(votes)) == 1:
        assert call == votes[0]
    swapped = [CALLS[::-1][CALLS.index(word)] for word in votes]
    mirrored = check_annotations(
        table(*(("a", 1, "x", c, f"reader {k}") for k, c in enumerate(swapped[::-1])))
    )
    assert consensus_annotations(mirrored).loc[0, "call"] == CALLS[::-1][CALLS.index(call)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_head_without_calls(tmp_path, encoding):
    """Columns of an empty table have no text in them."""
    (tmp_path / "gold.csv").write_bytes("dataset,fov,cell_id,channel,activity\n".encode(encoding))
    assert len(read_annotations(tmp_path / "gold.csv")) == 0


def test_split_cells_are_those_whose_signs_differ():
    calls = check_annotations(
        table(
            ("a", 1, "x", "positive", "ann"),
            ("a", 1, "x", "likely positive", "bob"),  # as positive, if less sure
            ("a", 2, "x", "positive", "ann"),
            ("a", 2, "x", "likely negative", "bob"),
            ("a", 2, "y", "negative", "ann"),
            ("a", 2, "y", "negative", "bob"),
            ("a", 3, "x", "undetermined", "ann"),
            ("a", 3, "x", "negative", "bob"),
            ("a", 4, "x", "positive", "ann"),  # by one only
        )
    )
    rows = split_cells(calls)[["fov", "cell_id", "channel"]].to_numpy().tolist()
    assert rows == [["a", 2, "x"], ["a", 3, "x"]]
    assert not len(split_cells(calls.iloc[:0]))
