"""Neighbours by brute force, and the heterogeneity of a marker."""

import numpy as np

from panimbus.evaluate.confounders import heterogeneity, neighbours


def test_neighbours_by_brute_force():
    rng = np.random.default_rng(0)
    xy, positive, rows = rng.random((80, 2)) * 400, rng.random(80) < 0.3, np.array([0, 7, 79])
    near = np.linalg.norm(xy[rows, None] - xy[None], axis=2) <= 120
    near[np.arange(3), rows] = False
    cells, plus = neighbours(xy, rows, positive)
    assert cells.tolist() == near.sum(1).tolist()
    assert plus.tolist() == (near & positive).sum(1).tolist()
    assert neighbours(xy, rows, np.zeros(80, bool))[1].tolist() == [0, 0, 0]
    assert len(neighbours(xy, np.zeros(0, int), positive)[0]) == 0


def test_heterogeneity():
    assert heterogeneity(np.array([1.0, 3.0])) == 0.5
    assert np.isnan(heterogeneity(np.zeros(3)))
