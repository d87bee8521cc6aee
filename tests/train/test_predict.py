"""Predictions in batches are those of the model at once, for any number of examples and one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn

MODEL = nn.serial(nn.dense(4), nn.batch_norm(), nn.dropout(0.5))
X = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
PARAMS, STATE = MODEL.init(jax.random.key(0), X)


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 8, 11])
def test_any_number_of_examples(n):
    got = nn.predict(MODEL, PARAMS, STATE, X[:n], batch_size=4)
    w, b = (np.asarray(PARAMS["dense"][k]) for k in "wb")
    norm = PARAMS["batch_norm"]
    seen = STATE["batch_norm"]
    z = (X[:n] @ w + b - np.asarray(seen["mean"])) / np.sqrt(np.asarray(seen["var"]) + 1e-5)
    assert_close(got, z * np.asarray(norm["scale"]) + np.asarray(norm["bias"]))
    assert got.dtype == jnp.float32


def test_one_trace_for_all():
    traces = []

    def count(x):
        traces.append(x.shape)
        return 2 * x

    model = nn.lift(count)
    for n in (1, 4, 7, 9):
        assert_close(nn.predict(model, {}, {}, X[:n], batch_size=4), 2 * X[:n])
    assert traces == [(4, 3)]
    assert nn.predict(model, {}, {}, X[:0], batch_size=4).shape == (0, 3)
    assert traces == [(4, 3), (1, 3)]


def test_trees_in_and_out():
    model = nn.lift(lambda x: {"sum": x["a"] + x["b"], "half": (x["a"] / 2,)})
    a, b = np.arange(7.0, dtype=np.float32), np.ones(7, np.float32)
    got = nn.predict(model, {}, {}, {"a": a, "b": b}, batch_size=3)
    assert_close(got["sum"], a + 1)
    assert_close(got["half"][0], a / 2)
    empty = nn.predict(model, {}, {}, {"a": a[:0], "b": b[:0]})
    assert jax.tree.map(jnp.shape, empty) == {"sum": (0,), "half": ((0,),)}


def test_inside_jit_and_vmap():
    assert_close(
        jax.jit(lambda x: nn.predict(MODEL, PARAMS, STATE, x, batch_size=4))(X), nn.predict(MODEL, PARAMS, STATE, X)
    )
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), PARAMS)
    got = jax.vmap(lambda p: nn.predict(MODEL, p, STATE, X, batch_size=4))(many)
    assert_close(got[0], nn.predict(MODEL, PARAMS, STATE, X))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtype_of_the_input_is_kept(dtype):
    assert nn.predict(MODEL, PARAMS, STATE, jnp.asarray(X, dtype), batch_size=4).dtype == dtype


ERRORS = {
    "model": ((nn.dense, X, 4), TypeError, "predict: expected model to be a Layer, got the function dense."),
    "batch": ((MODEL, X, 0), ValueError, "predict: expected batch_size to be a whole number >= 1, got 0."),
    "float batch": ((MODEL, X, 4.0), ValueError, "predict: expected batch_size to be a whole number >= 1, got 4.0."),
    "lengths": (
        (MODEL, (X, X[:2]), 4),
        ValueError,
        "predict: expected x to have as many examples in every array, got (float32[11, 3], float32[2, 3]).",
    ),
    "a number": (
        (MODEL, 1.5, 4),
        TypeError,
        "predict: expected x to be arrays with examples on axis 0, got float32[].",
    ),
    "nothing": ((MODEL, (), 4), TypeError, "predict: expected x to be arrays with examples on axis 0, got ()."),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    (model, x, batch_size), kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        nn.predict(model, PARAMS, STATE, x, batch_size=batch_size)
    assert str(excinfo.value) == text
