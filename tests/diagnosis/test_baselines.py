"""Baselines against SciPy's optimum of a constant, and scikit-learn's models."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import jaxnn as nn
from jaxnn.diagnosis import baseline_scores, best_constant

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], [5, 3, 2]).astype(np.int32)
REAL = RNG.gamma(2.0, size=(11, 2)).astype(np.float32)
BINARY = np.float32([0, 1, 1, 1, 0, 1])

# loss, its residuals in float64, shape of the prediction, target
CONSTANTS = {
    "softmax": (nn.losses.softmax_cross_entropy, lambda z, y: np.log(np.exp(z).sum()) - z[y], (10, 3), LABELS),
    "squared": (nn.losses.squared_error, lambda z, y: (z - y) ** 2, (11, 2), REAL),
    "absolute": (nn.losses.absolute_error, lambda z, y: np.abs(z - y), (11, 2), REAL),
    "binary": (nn.losses.binary_cross_entropy, lambda z, y: np.log1p(np.exp(z)) - z * y, (6,), BINARY),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_best_constant_is_the_minimum(name):
    loss, residual, shape, y = CONSTANTS[name]

    def mean(z):
        return np.mean([np.mean(residual(z, t)) for t in y])

    known = minimize(mean, np.zeros(shape[1:]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).fun
    np.testing.assert_allclose(best_constant(loss, np.zeros(shape, np.float32), y), known, rtol=2e-4)


@pytest.mark.slow
def test_scores_are_those_of_scikit_learn():
    x, held = RNG.normal(size=(60, 4)), RNG.normal(size=(40, 4))
    y, wanted = (a @ [1.0, -2.0, 0.5, 0.0] + a[:, 0] ** 2 for a in (x, held))
    labels, correct = ((a > 0).astype(int) for a in (y, wanted))
    z, t = ((a - x.mean(0)) / x.std(0) for a in (x, held))
    found = baseline_scores(x, y, (held, wanted), None)
    np.testing.assert_allclose(found.linear, r2_score(wanted, Ridge(0.6).fit(z, y).predict(t)), atol=0.01)
    np.testing.assert_allclose(found.nearest, r2_score(wanted, KNeighborsRegressor(5).fit(z, y).predict(t)), atol=0.01)
    found = baseline_scores(x, labels, (held, correct), 2)
    assert found.nearest == KNeighborsClassifier(5).fit(z, labels).score(t, correct)
    assert found.constant == max(correct.mean(), 1 - correct.mean())
    assert found.deviation == pytest.approx((found.constant * (1 - found.constant) / 40) ** 0.5)
