"""Logistic regression against scikit-learn at its optimum, and its derivatives against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tiers import only
from jax.test_util import check_grads
from sklearn.linear_model import LogisticRegression

import jaxnn as nn
from jaxnn import linear

RNG = np.random.default_rng(0)
X, V = RNG.normal(size=(90, 4)) * [1.0, 10.0, 0.1, 1.0] + [0.0, 30.0, 0.0, -2.0], RNG.uniform(size=90)
SCORES = (X - X.mean(0)) / X.std(0) @ RNG.normal(size=(4, 3)) + RNG.normal(size=(90, 3))
THREE = SCORES.argmax(1).astype(np.int32)
TWO = (SCORES[:, 0] > 0).astype(np.int32)

# labels, arguments, arguments of scikit-learn
CASES = {
    "two classes": (TWO, {}, {}),
    "stronger penalty": (TWO, {"l2": 20.0}, {"C": 0.05}),
    "no intercept": (TWO, {"intercept": False}, {"fit_intercept": False}),
    "balanced": (TWO, {"class_weights": "balanced"}, {"class_weight": "balanced"}),
    "class weights": (TWO, {"class_weights": jnp.array([1.0, 3.0])}, {"class_weight": {0: 1.0, 1: 3.0}}),
    "example weights": (TWO, {"weights": jnp.asarray(V, jnp.float32)}, {}),
    "three classes": (THREE, {"classes": 3}, {}),
    "three classes, balanced": (
        THREE,
        {"classes": 3, "class_weights": "balanced", "l2": 2.0},
        {"class_weight": "balanced", "C": 0.5},
    ),
}


@pytest.mark.parametrize("case", only({"three classes"}, CASES))
@pytest.mark.slow
def test_against_scikit_learn(case, x64):
    y, options, others = CASES[case]
    v = options.get("weights")
    peer = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000, **others).fit(
        X, y, None if v is None else np.asarray(v, np.float64)
    )
    model = linear.logistic_regression(jnp.asarray(X), jnp.asarray(y), **options)
    assert model.converged
    np.testing.assert_allclose(model.weights, peer.coef_.T.squeeze(), rtol=1e-6, atol=1e-8)
    # intercepts of three classes are free up to a common constant
    centre = np.mean if np.ndim(model.intercept) else lambda b: 0
    want = peer.intercept_.squeeze()
    np.testing.assert_allclose(model.intercept - centre(model.intercept), want - centre(want), rtol=1e-6, atol=1e-7)
    p = peer.predict_proba(X)
    np.testing.assert_allclose(linear.probabilities(model, jnp.asarray(X)), p if p.shape[1] > 2 else p[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(linear.classify(model, jnp.asarray(X)), peer.predict(X))


@pytest.mark.slow
def test_breast_cancer():
    x, y = nn.data.load("breast_cancer").train
    x, y = jnp.asarray((x - x.mean(0)) / x.std(0), jnp.float32), jnp.asarray(y, jnp.int32)
    model = jax.jit(linear.logistic_regression)(x, y)
    loss = nn.losses.binary_cross_entropy(linear.predict(model, x), y).mean()
    assert abs(float(loss) - 0.05339186) < 1e-5
    assert round(float((linear.classify(model, x) == y).mean()), 6) == 0.987698
    assert int(model.steps) < 15


PENALTIES = {"l1": (8.0, 0.0), "elastic net": (8.0, 1.0)}


@pytest.mark.parametrize("case", PENALTIES)
@pytest.mark.parametrize("classes", only({3}, [2, 3]))
def test_conditions_of_the_optimum_with_an_l1_penalty(classes, case, x64):
    """0 is in the subdifferential: the gradient is -l1 sign(w) where w is not 0, and at most l1 elsewhere."""
    l1, l2 = PENALTIES[case]
    x, y = (X - X.mean(0)) / X.std(0), TWO if classes == 2 else THREE
    model = linear.logistic_regression(jnp.asarray(x), jnp.asarray(y), classes=classes, l1=l1, l2=l2)
    assert model.converged
    w = np.asarray(model.weights).reshape(4, -1)
    z = x @ w + np.asarray(model.intercept)
    if classes == 2:
        residual = 1 / (1 + np.exp(-z)) - y[:, None]
    else:
        residual = np.exp(z) / np.exp(z).sum(1, keepdims=True) - np.eye(3)[y]
    gradient = x.T @ residual + l2 * w
    live = w != 0
    assert 0 < live.sum() < w.size
    np.testing.assert_allclose(gradient[live], -l1 * np.sign(w[live]), atol=1e-3)
    assert np.abs(gradient[~live]).max() < l1
    np.testing.assert_allclose(residual.sum(0), 0, atol=1e-3)  # the intercept has no penalty


@pytest.mark.slow
def test_separable_classes_without_a_penalty_are_reported():
    x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
    free, held = (linear.logistic_regression(x, jnp.array([0, 0, 1, 1]), l2=l2) for l2 in (0.0, 1.0))
    assert not free.converged
    assert bool(jnp.isfinite(free.weights).all())
    assert held.converged


@pytest.mark.slow
def test_collinear_features_without_a_penalty():
    x = jnp.asarray(np.stack([X[:, 0], X[:, 0], np.ones(90)], 1), jnp.float32)
    model = linear.logistic_regression(x, jnp.asarray(TWO), l2=0.0)
    alone = linear.logistic_regression(x[:, :1], jnp.asarray(TWO), l2=0.0)
    assert model.converged
    np.testing.assert_allclose(linear.predict(model, x), linear.predict(alone, x[:, :1]), rtol=1e-3, atol=1e-3)


BLOCKS = {"filled up": (89, 40), "the first search on a part": (90, 5)}


@pytest.mark.slow
@pytest.mark.parametrize("case", BLOCKS)
def test_blocks_of_examples_add_up(case, monkeypatch, x64):
    n, rows = BLOCKS[case]
    x, y = jnp.asarray(X[:n]), jnp.asarray(THREE[:n])
    whole = linear.logistic_regression(x, y, classes=3)
    monkeypatch.setattr("jaxnn.linear._logistic.ROWS", rows)
    parts = linear.logistic_regression(x, y, classes=3)
    np.testing.assert_allclose(parts.weights, whole.weights, rtol=1e-9)


@pytest.mark.slow
def test_labels_out_of_range_give_nan_and_weights_of_0_leave_them_out():
    x, y = jnp.asarray(X, jnp.float32), jnp.asarray(TWO).at[3].set(2)
    assert bool(jnp.isnan(linear.logistic_regression(x, y).weights).all())


@pytest.mark.slow
@pytest.mark.parametrize("l1", [None, 3.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_derivatives_of_the_optimum(classes, l1, x64):
    x = jnp.asarray((X - X.mean(0))[:30] / X.std(0))
    y = jnp.asarray((TWO if classes == 2 else THREE)[:30])

    def fitted(x, v, l2):
        return linear.logistic_regression(x, y, classes=classes, weights=v, l2=l2, l1=l1, tolerance=1e-20).weights

    check_grads(fitted, (x, jnp.asarray(V[:30]), jnp.array(0.7)), 1, modes=["rev"], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_batch_of_regressions():
    x, y = jnp.asarray(X, jnp.float32).reshape(3, 30, 4), jnp.asarray(TWO).reshape(3, 30)
    together = jax.jit(jax.vmap(linear.logistic_regression))(x, y)
    assert together.converged.all()
    alone = linear.logistic_regression(x[1], y[1])
    np.testing.assert_allclose(together.weights[1], alone.weights, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_threshold():
    model = linear.logistic_regression(jnp.asarray(X, jnp.float32), jnp.asarray(TWO))
    p = linear.probabilities(model, jnp.asarray(X, jnp.float32))
    for threshold in (0.0, 0.2, 0.9):
        np.testing.assert_array_equal(
            linear.classify(model, jnp.asarray(X, jnp.float32), threshold=threshold), p > threshold
        )
    assert isinstance(model, linear.Logistic)


ROW = jnp.ones((3, 2))
WRONG = {
    "float labels": (
        lambda: linear.logistic_regression(ROW, jnp.ones(3)),
        "logistic_regression: expected y of an integer or boolean dtype, class numbers, got float32[3]. "
        "Strings and other labels become class numbers by nn.data.encode.",
    ),
    "labels": (
        lambda: linear.logistic_regression(ROW, jnp.ones((3, 1), jnp.int32)),
        "logistic_regression: expected y of shape [3], one class number for each row of x, got int32[3, 1]. "
        "Nothing is broadcast.",
    ),
    "class weights": (
        lambda: linear.logistic_regression(ROW, jnp.ones(3, jnp.int32), class_weights=jnp.ones(3)),
        "logistic_regression: expected class_weights of shape [2], one for each class, got float32[3]. "
        "Nothing is broadcast.",
    ),
    "a name": (
        lambda: linear.logistic_regression(ROW, jnp.ones(3, jnp.int32), class_weights="equal"),
        "logistic_regression: expected class_weights to be one of 'balanced', got 'equal'.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
    assert isinstance(caught.value, TypeError) == (case == "float labels")
