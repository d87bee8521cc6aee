"""Activations of inner layers against passes by hand: batches, repeat, shared layers, programs; neighbours by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn import explain

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 4)).astype(np.float32)
MODEL = nn.serial(nn.dense(3), nn.relu, nn.dense(2))
PARAMS, STATE = MODEL.init(jax.random.key(0), X)
HIDDEN = np.maximum(X @ np.asarray(PARAMS["dense"]["w"]) + np.asarray(PARAMS["dense"]["b"]), 0)


@pytest.mark.parametrize("batch_size", [2, 256])
@pytest.mark.parametrize("x", [X, jnp.asarray(X)], ids=["NumPy", "JAX"])
def test_activations_in_batches(x, batch_size):
    found = explain.activations(MODEL, PARAMS, STATE, x, "relu", batch_size=batch_size)
    assert_close(found, HIDDEN)


def test_several_layers_in_one_pass():
    found = explain.activations(MODEL, PARAMS, STATE, X, ["relu", "dense_1"], batch_size=4)
    assert list(found) == ["relu", "dense_1"]
    assert_close(found["relu"], HIDDEN)
    assert_close(found["dense_1"], nn.predict(MODEL, PARAMS, STATE, X))
    assert list(explain.activations(MODEL, PARAMS, STATE, X, ["relu"])) == ["relu"]


def test_activations_reduced_by_batch():
    found = explain.activations(MODEL, PARAMS, STATE, X, "relu", reduce=lambda y: y.max(1), batch_size=4)
    assert_close(found, HIDDEN.max(1))


def test_examples_come_first_inside_repeat():
    model = nn.serial(nn.repeat(nn.residual(nn.serial(nn.dense(4), nn.tanh)), 3))
    params, state = model.init(jax.random.key(1), X)
    path = "serial/tanh"
    (_, inner), _ = nn.capture(model, path).apply(params, state, X)
    assert inner[path].shape == (3, 7, 4)
    for batch_size in (3, 256):  # of as many examples as blocks, too
        found = explain.activations(model, params, state, X, path, batch_size=batch_size)
        assert_close(found, np.moveaxis(inner[path], 0, 1))


def test_a_layer_that_runs_twice_gives_a_tuple():
    shared = nn.dense(4)

    def apply(params, state, x, *, key=None, train=False):
        y, state = nn.call(shared, "shared", params, state, x, key=key, train=train)
        return nn.call(shared, "shared", params, state, y, key=key, train=train)

    model = nn.layer(None, apply, "twice")
    params, state = model.init(jax.random.key(0), X)
    first, second = explain.activations(model, params, state, X, "shared", batch_size=4)
    assert_close(second, nn.predict(model, params, state, X))
    assert_close(first, nn.dense(4).apply(params["shared"], {}, X)[0])


def test_equal_models_share_a_program(compilations):
    explain.activations(nn.serial(nn.dense(3), nn.relu), {"dense": PARAMS["dense"]}, {}, X, "relu")
    before = compilations()
    explain.activations(nn.serial(nn.dense(3), nn.relu), {"dense": PARAMS["dense"]}, {}, X, "relu")
    assert compilations() == before


def test_a_model_that_ends_at_a_layer_is_a_layer():
    ends = explain.to_layer(MODEL, "relu")
    params, state = ends.init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, PARAMS)
    assert_close(jax.jit(lambda p, x: ends.apply(p, state, x)[0])(params, X), HIDDEN)
    rows = jax.vmap(lambda x: ends.apply(params, state, x[None])[0][0])(X)
    assert_close(rows, HIDDEN)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_in_the_space_of_a_layer(metric):
    queries = X[:3] + 0.1
    w, b = (np.asarray(PARAMS["dense"][k], np.float64) for k in "wb")
    vectors, wanted = (a.astype(np.float64) @ w + b for a in (X, queries))
    if metric == "cosine":
        vectors, wanted = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (vectors, wanted))
    distance = np.linalg.norm(vectors[None] - wanted[:, None], axis=-1)
    found = explain.neighbours(MODEL, PARAMS, STATE, X, queries, "dense", 2, metric=metric)
    np.testing.assert_array_equal(found.indices, np.argsort(distance, axis=1)[:, :2])


WRONG = {
    "an unknown path": (
        lambda: explain.activations(MODEL, PARAMS, STATE, X, "conv"),
        "capture: expected one of the paths dense, relu, dense_1, got 'conv'.",
    ),
    "no path": (
        lambda: explain.activations(MODEL, PARAMS, STATE, X, []),
        "activations: expected path to be the path of a layer or several, got [].",
    ),
    "a reduction that is a name": (
        lambda: explain.activations(MODEL, PARAMS, STATE, X, "relu", reduce="mean"),
        "activations: expected reduce to be a function of the outputs of a batch, got 'mean'.",
    ),
    "several arrays as vectors": (
        lambda: explain.neighbours(MODEL, PARAMS, STATE, X, X, "relu", 1, reduce=lambda y: (y, y)),
        "neighbours: expected activations that are an array [n, ...], got (float32[7, 3], float32[7, 3]). Select an "
        "array with reduce=, or another layer.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls(case):
    call, text = WRONG[case]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert str(caught.value) == text
