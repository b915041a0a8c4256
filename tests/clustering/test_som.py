"""The map: by hand, by law, against k-means, and on one and two threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panimbus.clustering import som as som_module
from panimbus.clustering.som import fit_som
from panimbus.core.errors import InputError

sk_cluster = pytest.importorskip("sklearn.cluster")


def blobs(n, markers=6, groups=8, *, seed=0, spread=0.06):
    rng = np.random.default_rng(seed)
    of = rng.integers(0, groups, n)
    return (rng.random((groups, markers))[of] + spread * rng.standard_normal((n, markers))).astype(
        np.float32
    ), of


def brute_force(x, codes):
    return np.square(x[:, None, :].astype(np.float64) - codes[None]).sum(2).argmin(1)


def test_two_groups_by_hand():
    result = fit_som([[0.0, 0.0], [0.2, 0.0], [1.0, 1.0], [1.0, 0.8]], grid=(1, 2))
    order = np.argsort(result.codes[:, 0])
    np.testing.assert_allclose(result.codes[order], [[0.1, 0.0], [1.0, 0.9]], atol=1e-6)
    assert result.sizes[order].tolist() == [2, 2]
    assert result.quantisation_error == pytest.approx(0.1)
    assert result.codes.dtype == np.float32
    assert result.nodes.dtype == np.int32


def test_cells_go_to_their_nearest_node():
    x, _ = blobs(3000)
    result = fit_som(x, grid=(6, 7), seed=3)
    np.testing.assert_array_equal(result.nodes, brute_force(x, result.codes))
    np.testing.assert_array_equal(result.sizes, np.bincount(result.nodes, minlength=42))
    assert result.quantisation_error == pytest.approx(
        np.linalg.norm(x - result.codes[result.nodes], axis=1).mean(), rel=1e-5
    )


@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-3, 1.0, 1e4]),
    st.booleans(),
)
def test_laws(rows, cols, markers, seed, size, coarse):
    """Every cell has a node; sizes add up; no node lies outside the data; far from 0 nothing is
    lost."""
    rng = np.random.default_rng(seed)
    x = (
        rng.random((int(rng.integers(rows * cols, 150)), markers)).round(1 if coarse else 6) * size
        + 3 * size
    )
    result = fit_som(x, (rows, cols), seed=seed, epochs=6)
    assert result.codes.shape == (rows * cols, markers)
    assert result.sizes.sum() == len(x)
    live = result.codes[result.sizes > 0]
    assert (live >= x.min(0) - 1e-5 * size).all()
    assert (live <= x.max(0) + 1e-5 * size).all()
    near = np.square(x[:, None] - result.codes[None].astype(np.float64)).sum(2)
    assert (near[np.arange(len(x)), result.nodes] <= near.min(1) + 1e-5 * size**2).all()


def test_not_far_from_k_means():
    """The last epochs are k-means; a k-means of three starts has about the same error."""
    x, _ = blobs(3000, markers=10, groups=30, spread=0.15)
    result = fit_som(x, grid=(8, 8))
    best = sk_cluster.KMeans(64, n_init=3, random_state=0).fit(x)
    squares = np.square(x - result.codes[result.nodes]).sum()
    assert squares < 1.03 * best.inertia_


def test_neighbours_on_the_map_are_alike():
    x = np.random.default_rng(0).random((20000, 2)).astype(np.float32)
    codes = fit_som(x, grid=(10, 10)).codes.reshape(10, 10, 2)
    steps = (
        np.linalg.norm(np.diff(codes, axis=0), axis=2).mean(),
        np.linalg.norm(np.diff(codes, axis=1), axis=2).mean(),
    )
    assert max(steps) < 0.2  # a grid that covers the square has 0.1; nodes in random order 0.5


@pytest.mark.parametrize("n", [300, 70_000])
def test_same_seed_same_map_on_any_number_of_threads(n):
    x, _ = blobs(n)
    one, two = (fit_som(x, (8, 8), seed=5, epochs=4, threads=t) for t in (1, 2))
    np.testing.assert_array_equal(one.codes, two.codes)
    np.testing.assert_array_equal(one.nodes, two.nodes)
    assert one.quantisation_error == two.quantisation_error


def test_same_map_whatever_blas_is_told():
    code = (
        "import numpy as np, hashlib; from panimbus.clustering.som import fit_som; "
        "s = fit_som(np.random.default_rng(0).random((9000, 30)), (12, 12), epochs=4); "
        "print(hashlib.sha256(s.codes.tobytes() + s.nodes.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.run(  # noqa: RUF100, S603
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_another_seed_is_another_map_of_the_same_quality(monkeypatch):
    monkeypatch.setattr(
        som_module, "_ORDERING", 5
    )  # or all cells are looked at and the seed decides nothing
    x, _ = blobs(4000, spread=0.2)
    one, two = (fit_som(x, (8, 8), seed=s) for s in (0, 1))
    assert not np.array_equal(one.codes, two.codes)
    assert one.quantisation_error == pytest.approx(two.quantisation_error, rel=0.03)


def test_order_of_the_cells_does_not_matter():
    x, _ = blobs(4000)
    shuffled = np.random.default_rng(1).permutation(len(x))
    one, two = fit_som(x, (5, 5)), fit_som(x[shuffled], (5, 5))
    assert one.quantisation_error == pytest.approx(two.quantisation_error, rel=0.02)


def test_few_different_cells_leave_nodes_empty():
    x = np.repeat([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [50, 30, 20], axis=0)
    result = fit_som(x, (5, 5))
    assert sorted(result.sizes[result.sizes > 0].tolist()) == [20, 30, 50]
    assert result.quantisation_error == pytest.approx(0, abs=1e-6)


def test_all_cells_the_same():
    result = fit_som(np.full((40, 3), 0.3), (3, 3))
    assert result.sizes.max() == 40
    np.testing.assert_allclose(result.codes, 0.3, atol=1e-6)


def test_constant_columns_say_nothing():
    x, _ = blobs(2000)
    wide = np.concatenate([x, np.full((len(x), 2), 7.0, np.float32)], axis=1)
    result = fit_som(wide, (5, 5))
    np.testing.assert_allclose(result.codes[:, -2:], 7)
    assert result.quantisation_error == pytest.approx(
        fit_som(x, (5, 5)).quantisation_error, rel=0.02
    )


def test_no_node_is_lost_to_a_bad_start():
    """Two far groups: the nodes that the plane between them would waste are put where cells are."""
    x, _ = blobs(4000, markers=3, groups=2, spread=0.01)
    assert (fit_som(x, (10, 10)).sizes > 0).mean() > 0.95


def test_views_and_other_kinds_of_numbers():
    x, _ = blobs(1000)
    want = fit_som(x, (4, 4)).codes
    np.testing.assert_array_equal(fit_som(np.asfortranarray(x), (4, 4)).codes, want)
    np.testing.assert_array_equal(fit_som(x.astype(np.float64), (4, 4)).codes, want)
    np.testing.assert_array_equal(fit_som(np.repeat(x, 2, axis=1)[:, ::2], (4, 4)).codes, want)
    assert fit_som(np.eye(4, dtype=bool).repeat(5, 0), (2, 2)).quantisation_error == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e20])
@pytest.mark.parametrize("row", [0, 70_000])
def test_bad_values_are_named(bad, row):
    x = np.zeros((70_001, 2))
    x[row, 1] = bad
    with pytest.raises(InputError, match=rf"Column 1 .*\n.*\n.*row {row}\n"):
        fit_som(x, (2, 2))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros((8, 2)), {"grid": (3, 3)}, "fewer cells than nodes"),
        (np.zeros((1, 2)), {}, "fewer cells than nodes"),
        (np.zeros((0, 2)), {"grid": (1, 1)}, "fewer cells than nodes"),
        (np.zeros(9), {}, "table of numbers"),
        (np.zeros((9, 0)), {}, "table of numbers"),
        (np.array([["a"], ["b"]]), {}, "table of numbers"),
        (np.zeros((9, 2)), {"grid": (0, 3)}, "grid"),
        (np.zeros((9, 2)), {"grid": (3,)}, "grid"),
        (np.zeros((9, 2)), {"grid": (2, 2), "epochs": 1}, "epochs"),
    ],
)
def test_bad_input(x, options, message):
    with pytest.raises(InputError, match=message):
        fit_som(x, **options)
