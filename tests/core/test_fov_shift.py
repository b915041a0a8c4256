"""The comparison of FOVs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from panimbus.core.fov_shift import compare_fovs


def fovs(shares, n=400):
    scores = np.concatenate([np.arange(n)[:, None] < n * np.array(row)[None] for row in shares])
    return scores, np.repeat([f"f{i}" for i in range(len(shares))], n)


def test_a_fov_that_stands_out():
    scores, fov = fovs([(0.3, 0.1), (0.32, 0.11), (0.28, 0.09), (0.31, 0.1), (0.9, 0.1)])
    compared = compare_fovs(scores, fov, ("CD3", "CD20"))
    assert np.argwhere(compared.outlying.to_numpy()).tolist() == [[4, 0]]
    (warning,) = compared.warnings
    assert warning.startswith("FOV f4 differs in 1 of 2 markers, which tissue does, too")
    assert warning.endswith("CD3 90.0 % (others 31.0 %)")
    assert compared.fraction.loc["f4", "CD3"] == 0.9


def test_a_fov_in_which_all_is_shifted():
    scores, fov = fovs(
        [(0.3, 0.1, 0.2), (0.32, 0.11, 0.21), (0.28, 0.09, 0.19), (0.31, 0.1, 0.2), (0.9, 0.8, 0.9)]
    )
    assert any(
        "most markers are shifted the same way" in w
        for w in compare_fovs(scores, fov, ("a", "b", "c")).warnings
    )


def test_too_few_fovs_to_tell():
    scores, fov = fovs([(0.3,), (0.9,)])
    compared = compare_fovs(scores, fov, ("CD3",))
    assert not compared.outlying.to_numpy().any()
    assert "only 2 FOVs" in compared.warnings[0]
    assert compare_fovs(*fovs([(0.3,)]), ("CD3",)).warnings == ()


@given(st.integers(4, 8), st.integers(0, 10))
def test_equal_fovs_never_stand_out(n, tenth):
    scores, fov = fovs([(tenth / 10,)] * n, 20)
    assert compare_fovs(scores, fov, ("CD3",)).warnings == ()
