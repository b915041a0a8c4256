"""Checks of thresholds, and the calls they give."""

import numpy as np
import pytest

from panimbus.core.errors import ChannelError, InputError
from panimbus.core.thresholds import calls, check_thresholds

PANEL = ("CD20", "CD4", "HLA-DR, DP", "a=b")


def test_checked_as_numbers():
    check_thresholds({"CD20": 0.5}, PANEL)
    check_thresholds({}, ())
    with pytest.raises(ChannelError, match=r"'CD2' \(did you mean 'CD20'\?\); CD4: 1"):
        check_thresholds({"CD2": 0.5, "CD4": 1}, PANEL)
    with pytest.raises(InputError, match="CD4: nan"):
        check_thresholds({"CD4": float("nan")}, PANEL)


def test_calls():
    scores = np.array([[0.7, 0.5], [0.69, 0.49]], np.float32)
    positive = calls(scores, [0.7, 0.5])
    assert positive.dtype == np.uint8
    assert positive.tolist() == [[1, 1], [0, 0]]
    assert calls(scores[:0], [0.7, 0.5]).shape == (0, 2)


def test_a_missing_score_is_no_call():
    positive = calls(np.array([[np.nan, 0.5]], np.float32), [0.7, 0.5])
    assert positive.dtype == np.float32
    np.testing.assert_array_equal(positive, [[np.nan, 1]])
