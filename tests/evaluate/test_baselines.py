"""The mixture against scikit-learn's."""

import numpy as np
import pytest

from panimbus.core.errors import InputError
from panimbus.evaluate.baselines import mixture_posterior


@pytest.mark.parametrize("seed", range(6))
def test_mixture_equals_scikit_learn(seed):
    mixture = pytest.importorskip("sklearn.mixture")
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.gamma(4, 1, 400), rng.gamma(9, 4 + seed, 150)])
    x = np.log(values + 0.01 * 50)[:, None]
    fit = mixture.GaussianMixture(2, random_state=0, reg_covar=1e-4, tol=1e-7, max_iter=500).fit(x)
    expected = fit.predict_proba(x)[:, int(np.argmax(fit.means_[:, 0]))]
    between = (x[:, 0] > fit.means_.min()) & (x[:, 0] < fit.means_.max())
    got = mixture_posterior(values, 50.0)
    np.testing.assert_allclose(got[between], expected[between], atol=0.01)
    assert (np.diff(got[np.argsort(values)]) >= -1e-12).all()  # the brighter, the surer


def test_the_bright_ones_are_positive_whatever_the_unit():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 1, 100), rng.normal(100, 5, 30)])
    posterior = mixture_posterior(values, 120.0)
    assert ((posterior > 0.5) == (np.arange(130) >= 100)).all()
    np.testing.assert_allclose(mixture_posterior(values / 7, 120.0 / 7), posterior, atol=1e-9)


def test_nothing_to_split():
    assert not mixture_posterior(np.full(5, 3.0), 1.0).any()
    assert not mixture_posterior(np.arange(5.0), float("nan")).any()
    assert mixture_posterior(np.zeros(0), 1.0).shape == (0,)
    assert np.isfinite(mixture_posterior(np.array([0.0, 0, 0, 5]), 1.0)).all()
    with pytest.raises(InputError, match="finite"):
        mixture_posterior(np.array([1.0, np.inf]), 1.0)
