"""A stream of chunks against the regression on all of them: chunks, merges, devices, weights, conditioning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _tiers import only

from jaxnn import linear

RNG = np.random.default_rng(0)
X, Y, V = RNG.normal(size=(90, 5)) + 30, RNG.normal(size=(90, 2)), RNG.uniform(size=90) * (RNG.uniform(size=90) > 0.2)
CHUNKS = (slice(0, 2), slice(2, 50), slice(50, 51), slice(51, 90))  # smaller than the features, and larger
METHODS = ("qr", "gram")


def states(method, dtype, y=Y, weights=None):
    """A state for each chunk."""
    for chunk in CHUNKS:
        v = None if weights is None else jnp.asarray(weights[chunk])
        empty = linear.stream(5, *y.shape[1:], method=method, dtype=dtype)
        yield linear.update(empty, jnp.asarray(X[chunk]), jnp.asarray(y[chunk]), weights=v)


def same(model, want):
    jax.tree.map(assert_close, model, want)


OPTIONS = {
    "plain": {},
    "ridge": {"ridge": 0.7},
    "no intercept": {"intercept": False},
}


@pytest.mark.parametrize("weights", [None, V], ids=["equal", "weighted"])
@pytest.mark.parametrize("options", only({"ridge"}, OPTIONS))
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_a_stream_is_the_regression_on_all_examples(method, options, weights, x64):
    state = linear.stream(5, 2, method=method, dtype="float64")
    for chunk in CHUNKS:
        v = None if weights is None else jnp.asarray(weights[chunk])
        state = linear.update(state, jnp.asarray(X[chunk]), jnp.asarray(Y[chunk]), weights=v)
    root = np.ones(90) if weights is None else np.sqrt(weights)
    columns = np.concatenate([X, np.ones((90, 1))], 1)[:, : 5 if options == "no intercept" else 6]
    penalty = np.sqrt(OPTIONS[options].get("ridge", 0)) * np.eye(5, columns.shape[1])
    rows = np.concatenate([root[:, None] * columns, penalty])
    want = np.linalg.lstsq(rows, np.concatenate([root[:, None] * Y, np.zeros((5, 2))]))[0]
    model = linear.solve(state, **OPTIONS[options])
    np.testing.assert_allclose(model.weights, want[:5], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(model.intercept, want[5] if len(want) > 5 else np.zeros(2), rtol=1e-9, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_merged_in_any_order(method, x64):
    parts = list(states(method, "float64", Y[:, 0], V))
    whole = linear.linear_regression(jnp.asarray(X), jnp.asarray(Y[:, 0]), weights=jnp.asarray(V))
    for order in (parts, parts[::-1], [parts[0], linear.merge(*parts[1:3]), parts[3]]):
        np.testing.assert_allclose(linear.solve(linear.merge(*order)).weights, whole.weights, rtol=1e-9, atol=1e-10)


def test_a_new_state_changes_nothing():
    state = next(states("qr", "float32"))
    again = linear.merge(linear.stream(5, 2), state)
    same(linear.solve(again, ridge=1.0), linear.solve(state, ridge=1.0))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_gathered_from_devices(method):
    mesh = jax.make_mesh((1,), ("parts",), axis_types=(jax.sharding.AxisType.Auto,))
    x, y = jnp.asarray(X, jnp.float32) - 30, jnp.asarray(Y, jnp.float32)

    def fit(x, y):
        state = linear.update(linear.stream(5, 2, method=method), x, y)
        return linear.solve(linear.gather(state, "parts"))

    want = linear.linear_regression(x, y)
    spec = jax.sharding.PartitionSpec("parts")
    sharded = jax.shard_map(fit, mesh=mesh, in_specs=spec, out_specs=jax.sharding.PartitionSpec(), check_vma=False)
    same(sharded(x, y), want)
    three = jax.vmap(fit, axis_name="parts")(x.reshape(3, 30, 5), y.reshape(3, 30, 2))
    same(jax.tree.map(lambda a: a[2], three), want)


ACCURATE = {  # the largest condition number that the docstring promises, in float32 with "qr"
    "qr": (1e4, 1e-2),
    "gram": (1e2, 1e-2),
}


@pytest.mark.parametrize("method", METHODS)
def test_accuracy_by_method(method):
    number, most = ACCURATE[method]
    u, v = (np.linalg.qr(RNG.normal(size=shape))[0] for shape in ((400, 6), (6, 6)))
    x = (20 * u * np.geomspace(1, 1 / number, 6) @ v.T).astype(np.float32)
    y = (x.astype(np.float64) @ np.ones(6)).astype(np.float32)
    want = np.linalg.lstsq(x.astype(np.float64), y.astype(np.float64))[0]

    def add(state, chunk):
        return linear.update(state, *chunk), None

    chunks = jnp.asarray(x.reshape(8, 50, 6)), jnp.asarray(y.reshape(8, 50))
    state, _ = jax.jit(lambda chunks: jax.lax.scan(add, linear.stream(6, method=method), chunks))(chunks)
    assert np.abs(np.asarray(linear.solve(state, intercept=False).weights) - want).max() < most


def test_several_penalties_of_one_state():
    state = next(states("gram", "float32"))
    every = jax.vmap(lambda ridge: linear.solve(state, ridge=ridge).weights)(jnp.array([0.1, 1.0]))
    assert_close(every[1], linear.solve(state, ridge=1.0).weights)


@pytest.mark.slow
def test_equal_columns_have_the_solution_of_minimum_norm():
    for method in METHODS:
        state = linear.stream(2, method=method)
        x = jnp.asarray(RNG.normal(size=(20, 1)), jnp.float32)
        model = linear.solve(linear.update(state, jnp.concatenate([x, x], 1), 2 * x[:, 0]))
        assert_close(model.weights, np.ones(2))


STATE = linear.stream(5)
WRONG = {
    "a method": (
        lambda: linear.stream(5, method="svd"),
        "stream: expected method to be one of 'qr', 'gram', got 'svd'.",
    ),
    "a dtype": (
        lambda: linear.stream(5, dtype=jnp.bfloat16),
        "stream: expected dtype to be float32 or float64, got bfloat16.",
    ),
    "shapes": (
        lambda: linear.update(STATE, jnp.ones((3, 4)), jnp.ones(3)),
        "update: expected x of shape [n, 5] and y of shape [n], as in stream(features, targets), "
        "got (float32[3, 4], float32[3]).",
    ),
    "no states": (lambda: linear.merge(), "merge: expected at least one state, got none."),
    "features": (
        lambda: linear.merge(linear.stream(1), linear.stream(2)),
        "merge: expected states of equal features, targets and dtype, got (Root(total=float32[], x_mean=float32[1], "
        "y_mean=float32[], root=float32[2, 2]), Root(total=float32[], x_mean=float32[2], y_mean=float32[], "
        "root=float32[3, 3])).",
    ),
    "methods": (
        lambda: linear.merge(linear.stream(1), linear.stream(1, method="gram")),
        "merge: expected states of streams with equal methods, got Gram(total=float32[], x_mean=float32[1], "
        "y_mean=float32[], gram=float32[2, 2]). Make it by linear.stream(features).",
    ),
    "no state": (
        lambda: linear.solve(3),
        "solve: expected a state of a stream, got 3. Make it by linear.stream(features).",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
    assert isinstance(caught.value, TypeError) == (case in ("methods", "no state"))


def test_the_states_are_named():
    assert isinstance(STATE, linear.Root)
    assert isinstance(linear.stream(5, method="gram"), linear.Gram)
