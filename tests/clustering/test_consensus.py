"""Metaclusters: by hand, by law, and the rare population that must survive."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import pdist, squareform

from panimbus.clustering.consensus import (
    _cut,
    _proposed,
    _silhouette,
    consensus,
    node_profiles,
    shrunken,
)
from panimbus.clustering.som import fit_som
from panimbus.core.errors import InputError

metrics = pytest.importorskip("sklearn.metrics")


def groups_of_nodes(sizes=(12, 8, 5), *, seed=0, spread=0.05, markers=4):
    """Nodes around far apart profiles: (n, C) codes, (n,) cells, (n,) group."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    codes = 3 * np.eye(len(sizes), markers)[of] + spread * rng.standard_normal((len(of), markers))
    return codes, rng.integers(20, 200, len(of)), of


def test_profiles_by_hand():
    profiles = node_profiles([[0.0, 0.0, 7.0], [1.0, 0.1, 7.0], [5.0, 9.0, 9.0]], [2, 2, 0])
    # mean 0.5 and 0.05 over the cells; standard deviations 0.5 and 0.05, which counts as 0.25
    np.testing.assert_allclose(profiles, [[-1, -0.2, 0], [1, 0.2, 0], [3, 3, 3]], rtol=1e-5)
    assert profiles.dtype == np.float32
    np.testing.assert_array_equal(node_profiles([[2.0, 3.0]], [4]), [[0, 0]])


def test_small_nodes_borrow_and_large_ones_do_not():
    """By hand: 100 nodes on a line have two neighbours each; 20 cells' worth of their mean is
    borrowed."""
    codes = np.arange(100, dtype=float)[:, None]
    sizes = np.full(100, 10)
    sizes[[49, 50, 51, 90]] = [30, 5, 90, 10**6]
    result = shrunken(codes, sizes)[:, 0]
    assert result[50] == pytest.approx((5 * 50 + 20 * (30 * 49 + 90 * 51) / 120) / 25)
    assert result[0] == pytest.approx((10 * 0 + 20 * 1.5) / 30)
    assert result[90] == pytest.approx(90, abs=1e-3)
    np.testing.assert_array_equal(codes[:, 0], np.arange(100))


def test_nothing_is_borrowed_from_or_by_empty_nodes():
    codes = np.arange(120, dtype=float)[:, None]
    sizes = np.where(np.arange(120) % 2, 0, 7)
    result = shrunken(codes, sizes)[:, 0]
    np.testing.assert_array_equal(result[1::2], codes[1::2, 0])
    assert result[60] == pytest.approx((7 * 60 + 20 * 58) / 27)  # of equally near ones the first


def test_a_map_of_few_nodes_is_left_as_it_is():
    codes = np.random.default_rng(0).random((49, 3))
    np.testing.assert_array_equal(shrunken(codes, np.full(49, 3)), codes)


def test_noise_of_few_cells_does_not_hide_groups():
    """Nodes of a dozen cells between two groups, half of whose distance is noise: the groups are
    result all the same."""
    rng = np.random.default_rng(0)
    of = np.repeat([0, 1, 2, 3], 50)
    codes = 1.0 * np.eye(4, 12)[of] + 0.3 * rng.standard_normal((200, 12))
    result = consensus(codes, np.full(200, 12), 8)
    named = np.array([np.bincount(of[result.labels == group]).argmax() for group in range(8)])[
        result.labels
    ]
    assert (named == of).mean() > 0.95


def test_three_groups():
    codes, sizes, of = groups_of_nodes()
    result = consensus(codes, sizes, 3)
    assert metrics.adjusted_rand_score(of, result.labels) == 1
    cells = np.bincount(result.labels, sizes)
    assert (np.diff(cells) <= 0).all()
    assert (result.stability > 0.9).all()
    same = of[:, None] == of
    assert (result.co_association[same] > 0.9).all()
    assert (result.co_association[~same] < 0.1).all()


def test_proposes_the_number_of_groups():
    codes, sizes, of = groups_of_nodes((12, 8, 5, 9, 7), markers=6)
    result = consensus(codes, sizes)
    assert 5 <= result.k <= 7
    assert max(result.silhouette, key=lambda k: result.silhouette[k]) == 5
    result = consensus(codes, sizes, 5)
    assert metrics.adjusted_rand_score(of, result.labels) == 1
    assert result.pac[5] < 0.1
    assert sorted(result.pac) == sorted(result.silhouette) == list(range(2, 31))


def test_it_does_resample():
    """Nodes without structure: no two runs agree, and it says so."""
    rng = np.random.default_rng(0)
    result = consensus(rng.random((60, 5)), np.full(60, 10), 6)
    pairs = result.co_association[np.triu_indices(60, 1)]
    assert ((pairs > 0) & (pairs < 1)).mean() > 0.2
    assert result.stability.mean() < 0.75
    assert result.pac[6] > 0.1


@given(st.integers(1, 25), st.integers(0, 2**32 - 1), st.integers(2, 8), st.booleans())
def test_laws(n, seed, k_max, coarse):
    rng = np.random.default_rng(seed)
    codes = rng.random((n, 3)).round(1 if coarse else 8)
    sizes = rng.integers(0, 4, n)
    sizes[0] = 1
    result = consensus(codes, sizes, k_max=k_max, runs=10, seed=seed)
    live = sizes > 0
    assert (result.labels[~live] == -1).all()
    assert set(result.labels[live]) == set(range(result.k))
    assert result.k <= max(k_max, 1)
    assert result.stability.shape == (result.k,)
    assert ((result.stability >= 0) & (result.stability <= 1 + 1e-9)).all()
    together = result.co_association
    np.testing.assert_array_equal(together, together.T)
    np.testing.assert_array_equal(np.diag(together), live)
    assert not together[~live].any()
    assert ((together >= 0) & (together <= 1)).all()
    again = consensus(codes, sizes, result.k, k_max=k_max, runs=10, seed=seed)
    np.testing.assert_array_equal(again.labels, result.labels)


@given(st.integers(2, 30), st.integers(0, 2**32 - 1), st.booleans())
def test_cut_is_scipys_and_never_short_of_clusters(n, seed, ties):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 3, (n, 2)) if ties else rng.random((n, 3))
    distance = squareform(pdist(points))
    cuts = _cut(distance, n + 2)
    tree = linkage(squareform(distance), "average")
    for k in range(1, n + 3):
        assert len(set(cuts[k - 1])) == min(k, n)
        if ties:  # scipy's order of equal merges is another
            continue
        want = cut_tree(tree, min(k, n))[:, 0]
        np.testing.assert_array_equal(cuts[k - 1][:, None] == cuts[k - 1], want[:, None] == want)


def test_silhouette_is_scikit_learns():
    rng = np.random.default_rng(0)
    points, groups = rng.random((40, 3)), rng.integers(0, 4, 40).astype(np.int32)
    groups[groups == 3] = 0
    groups[7] = 3  # alone in its cluster
    want = metrics.silhouette_score(points, groups)
    assert _silhouette(squareform(pdist(points)), groups, 4) == pytest.approx(want)


def test_proposal_leans_to_more():
    assert _proposed({2: 0.2, 3: 0.5, 4: 0.46, 5: 0.44}) == 4
    assert _proposed({2: -0.1, 3: -0.12}) == 2
    assert _proposed({2: 0.0, 3: 0.0}) == 3


def test_proposal_is_never_below_the_smallest():
    assert _proposed({2: 0.5, 3: 0.2, 4: 0.3, 5: 0.29}, 3) == 5
    assert _proposed({2: 0.5, 3: 0.2}, 7) == 3


@pytest.mark.parametrize("k", [None, 1, 2, 4])
def test_identical_profiles(k):
    result = consensus(np.ones((4, 3)), [5, 4, 3, 2], k)
    assert result.k == (k or 1)
    assert len(set(result.labels)) == result.k


def test_outliers_of_a_few_cells_are_no_metaclusters():
    codes, sizes, of = groups_of_nodes()
    codes = np.concatenate([codes, [[9.0, 0, 0, 0], [0, 0, 0, -9.0]]])
    result = consensus(codes, np.append(sizes, [4, 1]), 3)
    assert metrics.adjusted_rand_score(of, result.labels[:-2]) == 1
    assert result.labels[-2] == result.labels[0]
    assert result.labels[-1] >= 0
    assert not result.co_association[-2:].any()
    assert len(set(consensus(codes, np.append(sizes, [5, 5]), 5).labels[-2:])) == 2


def test_one_node():
    result = consensus([[1.0, 2.0]], [7])
    assert (result.k, result.labels.tolist(), result.stability.tolist(), dict(result.pac)) == (
        1,
        [0],
        [1.0],
        {},
    )


def test_same_seed_same_result():
    codes, sizes, _ = groups_of_nodes(spread=0.9)
    one, two, other = (consensus(codes, sizes, 4, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.co_association, two.co_association)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert not np.array_equal(one.co_association, other.co_association)


@pytest.mark.parametrize(
    ("codes", "sizes", "options", "message"),
    [
        (np.zeros(3), [1, 1, 1], {}, "codes are"),
        (np.zeros((3, 2)), [1, 1], {}, "codes are"),
        (np.full((3, 2), np.nan), [1, 1, 1], {}, "NaN"),
        (np.zeros((3, 2)), [1, -1, 1], {}, "negative"),
        (np.zeros((3, 2)), [0, 0, 0], {}, "no node has cells"),
        (np.zeros((3, 2)), [1, 1, 1], {"runs": 5}, "5 runs are too few"),
        (np.zeros((3, 2)), [1, 1, 0], {"k": 3}, "k from 1 to 2"),
        (np.zeros((3, 2)), [1, 1, 1], {"k": 0}, "k from 1 to 3"),
        (np.zeros((3, 2)), [1, 1, 1], {"k_max": 1}, "k_max at least 2"),
    ],
)
def test_bad_input(codes, sizes, options, message):
    with pytest.raises(InputError, match=message):
        consensus(codes, sizes, **options)


def rare_cells(seed, n=20_000):
    """Nine populations on twelve markers, the last 0.3 % of the cells with a marker of its own:
    scores and population."""
    rng = np.random.default_rng(seed)
    carries = rng.random((9, 12)) < 0.3
    carries[:, -1] = False
    carries[-1] = False
    carries[-1, [0, -1]] = True
    share = np.append(rng.dirichlet(np.full(8, 3.0)) * 0.997, 0.003)
    of = rng.choice(9, n, p=share)
    wrong = rng.random((n, 12)) < [0.02] * 11 + [0.0005]
    scores = np.where(carries[of] ^ wrong, rng.beta(6, 2, (n, 12)), rng.beta(1, 8, (n, 12)))
    return scores.astype(np.float32), of


@pytest.fixture(scope="module")
def rare_maps():
    """Ten maps of cells with a rare population, and the population of each cell."""
    drawn = [rare_cells(seed) for seed in range(10)]
    return [
        (fit_som(scores, (13, 13), seed=seed, epochs=10), of)
        for seed, (scores, of) in enumerate(drawn)
    ]


@pytest.mark.parametrize("k", [None, 20])
def test_a_rare_population_survives(k, rare_maps):
    """0.3 % of the cells, with a distinct profile, lead a metacluster of their own in at least 9 of
    10 seeds."""
    survived = 0
    for seed, (som, of) in enumerate(rare_maps):
        result = consensus(som.codes, som.sizes, k, runs=40, seed=seed)
        groups, rare = result.labels[som.nodes], of == 8
        own = groups == np.bincount(groups[rare]).argmax()
        both = (own & rare).sum()
        survived += both > 0.8 * rare.sum() and both > 0.5 * own.sum()
    assert survived >= 9
