"""Linear regression against scikit-learn and NumPy in float64, by shape, rank and conditioning; its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _tiers import only
from jax.test_util import check_grads
from sklearn.linear_model import LinearRegression, Ridge

import jaxnn as nn
from jaxnn import linear

RNG = np.random.default_rng(0)
X, Y, V = RNG.normal(size=(40, 5)) + 3, RNG.normal(size=(40, 2)), RNG.uniform(size=40) * (RNG.uniform(size=40) > 0.2)


def fitted(x, y, dtype=jnp.float32, weights=None, **options):
    weights = None if weights is None else jnp.asarray(weights, dtype)
    return linear.linear_regression(jnp.asarray(x, dtype), jnp.asarray(y, dtype), weights=weights, **options)


CASES = {
    "one target": (X, Y[:, 0], None, {}),
    "two targets": (X, Y, None, {}),
    "no intercept": (X, Y, None, {"intercept": False}),
    "weights": (X, Y, V, {}),
    "ridge": (X, Y, V, {"ridge": 0.7}),
    "fewer examples than features": (X[:3], Y[:3], None, {"ridge": 0.7}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_against_scikit_learn(case, dtype, x64):
    x, y, weights, options = CASES[case]
    peer = Ridge(options["ridge"]) if "ridge" in options else LinearRegression()
    peer = peer.set_params(fit_intercept=options.get("intercept", True)).fit(x, y, weights)
    model = fitted(x, y, dtype, weights, **options)
    assert model.weights.dtype == dtype
    assert_close(model.weights, peer.coef_.T)
    assert_close(model.intercept, np.broadcast_to(peer.intercept_, y.shape[1:]))
    assert_close(linear.predict(model, jnp.asarray(x, dtype)), peer.predict(x))


def test_diabetes():
    x, y = (jnp.asarray(a, jnp.float32) for a in nn.data.load("diabetes").train)
    model = fitted(x, y)
    assert abs(float(nn.metrics.r2(linear.predict(model, x), y)) - 0.517748) < 1e-5
    assert abs(float(model.intercept) - 152.1335) < 1e-3


RANKS = {
    "equal columns": X[:, [0, 1, 1, 2]],
    "a constant column": np.concatenate([X, np.ones((40, 1))], 1),
    "fewer examples than features": X[:4],
    "zeros": np.zeros((6, 2)),
}


@pytest.mark.parametrize("case", only({"equal columns"}, RANKS))
def test_the_solution_of_minimum_norm(case):
    x = RANKS[case]
    y = Y[: len(x), 0]
    want = np.linalg.pinv(x - x.mean(0), rcond=1e-9) @ (y - y.mean())
    assert_close(fitted(x, y).weights, want.astype(np.float32))


def test_singular_values_up_to_rcond_count_as_0():
    x = np.linalg.qr(RNG.normal(size=(9, 2)))[0] * [1.0, 1e-2]
    y = x @ [1.0, 1.0]
    kept, cut = (fitted(x, y, intercept=False, rcond=rcond).weights for rcond in (1e-3, 0.1))
    assert_close(kept, np.ones(2))
    assert_close(cut, np.array([1.0, 0.0]))


def conditioned(number, n=200, d=6):
    """Columns of a condition number, with weights that are all of the size of 1."""
    u, v = (np.linalg.qr(RNG.normal(size=shape))[0] for shape in ((n, d), (d, d)))
    return u * np.geomspace(1, 1 / number, d) @ v.T


@pytest.mark.parametrize("number", [1e1, 1e3, 1e5])
def test_the_error_grows_with_the_condition_number_and_not_its_square(number):
    x = conditioned(number).astype(np.float32)
    y = (x.astype(np.float64) @ np.ones(6)).astype(np.float32)
    want = np.linalg.lstsq(x.astype(np.float64), y.astype(np.float64))[0]
    model = fitted(x, y, intercept=False)
    assert np.abs(np.asarray(model.weights) - want).max() < 8 * number * np.finfo(np.float32).eps


def test_a_large_mean_costs_no_accuracy():
    x = (X + 1e4).astype(np.float32)
    want = LinearRegression().fit(x.astype(np.float64), Y).coef_.T
    np.testing.assert_allclose(fitted(x, Y).weights, want, rtol=1e-4, atol=1e-5)


def test_no_example_with_a_weight_gives_zeros():
    assert fitted(X, Y, weights=np.zeros(40)) == jax.tree.map(lambda a: pytest.approx(0 * a), fitted(X, Y))


DERIVATIVES = {"full rank": 9, "fewer examples than features": 3}


@pytest.mark.slow
@pytest.mark.parametrize("case", DERIVATIVES)
def test_derivatives(case, x64):
    n = DERIVATIVES[case]
    args = [jnp.asarray(a) for a in (X[:n, :4], Y[:n, 0], V[:n] + 0.1)]
    check_grads(lambda x, y, v: linear.linear_regression(x, y, weights=v), args, order=1)
    check_grads(lambda r: linear.linear_regression(*args[:2], weights=args[2], ridge=r), [0.3], order=1)


def test_a_batch_of_regressions():
    x, y = jnp.asarray(X, jnp.float32).reshape(4, 10, 5), jnp.asarray(Y, jnp.float32).reshape(4, 10, 2)
    each = [linear.linear_regression(*pair) for pair in zip(x, y, strict=True)]
    together = jax.jit(jax.vmap(linear.linear_regression))(x, y)
    jax.tree.map(lambda a, *b: assert_close(a, np.stack(b)), together, *each)


MODEL = linear.Linear(jnp.ones(5), jnp.zeros(()))
WRONG = {
    "x, rank": (
        lambda: fitted(X[0], Y[0]),
        "linear_regression: expected x of shape [n, d], got float32[5].",
    ),
    "y, length": (
        lambda: fitted(X, Y[:3]),
        "linear_regression: expected y of shape [40] or [40, k], one target for each row of x, got float32[3, 2].",
    ),
    "weights": (
        lambda: fitted(X, Y, weights=V[:3]),
        "linear_regression: expected weights of shape [40], one for each example, got float32[3]. "
        "Nothing is broadcast.",
    ),
    "ridge": (lambda: fitted(X, Y, ridge=-1.0), "linear_regression: expected ridge in [0, inf), got -1.0."),
    "features": (
        lambda: linear.predict(MODEL, jnp.ones((2, 3))),
        "predict: expected x of shape [n, 5], with the features of the model, got float32[2, 3].",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == text


def test_x_must_be_floating():
    with pytest.raises(TypeError) as caught:
        linear.linear_regression(jnp.ones((3, 2), jnp.int32), jnp.ones(3))
    assert str(caught.value) == (
        "linear_regression: expected x of shape [n, d] and a floating dtype, got int32[3, 2]. "
        "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."
    )
