"""Otsu's threshold against scikit-image, the mixture of two Gaussians against scikit-learn."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from panimbus.core.stats import bic_gain, fit_mixture, otsu_positive

mixture_ = pytest.importorskip("sklearn.mixture")


def test_otsu_baseline():
    values = np.random.default_rng(0).gamma(2, 3, 500)
    np.testing.assert_array_equal(otsu_positive(values), values > threshold_otsu(values))
    assert not otsu_positive(np.full(5, 3)).any()
    assert otsu_positive(np.zeros(0)).shape == (0,)


def test_mixture_is_scikit_learns():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 3000), rng.normal(5, 0.7, 800)])
    mixture = fit_mixture(x)
    oracle = mixture_.GaussianMixture(2, tol=1e-9, max_iter=1000, random_state=0).fit(x[:, None])
    order = np.argsort(oracle.means_.ravel())
    np.testing.assert_allclose(mixture.weight, oracle.weights_[order], atol=1e-3)
    np.testing.assert_allclose(mixture.mean, oracle.means_.ravel()[order], atol=1e-2)
    np.testing.assert_allclose(mixture.variance, oracle.covariances_.ravel()[order], rtol=3e-2)
    probability = oracle.predict_proba(x[:, None])[:, order[1]]
    np.testing.assert_allclose(mixture.posterior(x), probability, atol=5e-3)
    one = mixture_.GaussianMixture(1).fit(x[:, None])
    assert bic_gain(x, mixture) == pytest.approx(
        one.bic(x[:, None]) - oracle.bic(x[:, None]), rel=1e-3
    )
