"""Predictions in batches are those of the model at once, for any number of examples and one compilation."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

import jaxnn as nn
from jaxnn.train._predict import _pieces

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


@pytest.mark.slow
def test_a_handful_of_sizes_for_any_number_of_examples(compilations):
    x = np.random.default_rng(0).normal(size=(2100, 3)).astype(np.float32)
    params, state = nn.dense(2).init(jax.random.key(0), x[:1])
    expected = x @ np.asarray(params["w"]) + np.asarray(params["b"])
    before = compilations()
    for n in (1, *range(2, 300, 7), *range(300, 2100, 99), 2100):
        assert_close(nn.predict(nn.dense(2), params, state, x[:n]), expected[:n])
        assert_close(nn.predict(nn.dense(2), params, state, jax.device_put(x[:n])), expected[:n])
    assert 5 < compilations() - before <= 9  # the powers of two up to 256
    assert nn.predict(nn.dense(2), params, state, x[:0]).shape == (0, 2)


@pytest.mark.parametrize("batch_size", [1, 3, 100, 256])
@pytest.mark.parametrize("n", [1, 2, 3, 99, 100, 101, 255, 257, 700])
def test_the_pieces_are_the_examples_and_few_copies(n, batch_size):
    pieces = list(_pieces(n, batch_size))
    assert [p.start for p in pieces] == list(np.cumsum([0, *(p.taken for p in pieces)]))[:-1]
    assert sum(p.taken for p in pieces) == n
    sizes = {batch_size} | {2**i for i in range(20) if 2**i < batch_size}
    assert all(1 <= p.taken <= p.size and p.size in sizes for p in pieces)
    assert sum(p.size for p in pieces) <= n * 17 / 16


@pytest.mark.slow
def test_a_run_its_best_and_a_state_in_the_place_of_params():
    data = X, X[:, :1]
    t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1), average=0.9)
    run = nn.fit(t, jax.random.key(0), data, data, epochs=3, batch_size=4)
    expected = nn.predict(nn.dense(1), run.best.params, run.best.state, X)
    for known in (run, run.best):
        assert_close(nn.predict(nn.dense(1), known, X), expected)
        assert_close(nn.predict(nn.dense(1), known, x=X), expected)
    mean = {k: np.asarray(v) for k, v in run.ts.average.items()}
    assert_close(nn.predict(nn.dense(1), run.ts, X), X @ mean["w"] + mean["b"])


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, jaxnn as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
jax.config.update("jax_num_cpu_devices", 4)
model = nn.serial(nn.conv(4, 3), nn.relu, nn.flatten(), nn.dense(3))
x = np.random.default_rng(0).normal(size=(24, 6, 6, 2)).astype(np.float32)
params, state = model.init(jax.random.key(0), x[:1])
want = np.asarray(nn.predict(model, params, state, x, batch_size=5))
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
    there = NamedSharding(mesh, P("d"))
    for p in (params, jax.device_put(params, NamedSharding(mesh, P())), jax.device_put(params, jax.devices()[1])):
        y = nn.predict(model, p, state, jax.device_put(x, there), batch_size=5)
        assert y.sharding.is_equivalent_to(there, y.ndim), y.sharding
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
there = jax.devices()[2]
y = nn.predict(model, jax.device_put(params, there), state, jax.device_put(x, there), batch_size=5)
assert y.devices() == {there}
np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
"""


@pytest.mark.slow
def test_sharded_arrays_stay_where_they_are():
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_trees_in_and_out():
    model = nn.lift(lambda x: {"sum": x["a"] + x["b"], "half": (x["a"] / 2,)})
    a, b = np.arange(7.0, dtype=np.float32), np.ones(7, np.float32)
    got = nn.predict(model, {}, {}, {"a": a, "b": b}, batch_size=3)
    assert_close(got["sum"], a + 1)
    assert_close(got["half"][0], a / 2)
    empty = nn.predict(model, {}, {}, {"a": a[:0], "b": b[:0]})
    assert jax.tree.map(jnp.shape, empty) == {"sum": (0,), "half": ((0,),)}


@pytest.mark.slow
def test_inside_jit_and_vmap():
    assert_close(
        jax.jit(lambda x: nn.predict(MODEL, PARAMS, STATE, x, batch_size=4))(X), nn.predict(MODEL, PARAMS, STATE, X)
    )
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), PARAMS)
    got = jax.vmap(lambda p: nn.predict(MODEL, p, STATE, X, batch_size=4))(many)
    assert_close(got[0], nn.predict(MODEL, PARAMS, STATE, X))


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, lambda f: jax.jit(jax.grad(f))])
@pytest.mark.parametrize("asarray", [np.asarray, jnp.asarray])
def test_a_constant_batch_within_a_trace(transform, asarray):
    def total(predict):
        return lambda p: predict(p, asarray(X[:4])).sum()

    got = transform(total(lambda p, x: nn.predict(MODEL, p, STATE, x, batch_size=4)))(PARAMS)
    want = transform(total(lambda p, x: MODEL.apply(p, STATE, x)[0]))(PARAMS)
    jax.tree.map(assert_close, got, want)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtype_of_the_input_is_kept(dtype):
    assert nn.predict(MODEL, PARAMS, STATE, jnp.asarray(X, dtype), batch_size=4).dtype == dtype


ERRORS = {
    "model": ((nn.dense, X, 4), TypeError, "predict: expected model to be a Layer, got the function dense."),
    "lengths": (
        (MODEL, (X, X[:2]), 4),
        ValueError,
        "predict: expected x to have as many examples in every array, got (float32[11, 3], float32[2, 3]).",
    ),
    "a number": (
        (MODEL, 1.5, 4),
        TypeError,
        "predict: expected x to be arrays with examples on axis 0, got 1.5.",
    ),
    "strings": (
        (MODEL, np.array(["a", "b"]), 4),
        TypeError,
        "predict: expected x to be arrays with examples on axis 0, "
        "got <U1[2]. Labels that are strings become integers by nn.data.encode.",
    ),
    "nothing": ((MODEL, (), 4), TypeError, "predict: expected x to be arrays with examples on axis 0, got ()."),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    (model, x, batch_size), kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        nn.predict(model, PARAMS, STATE, x, batch_size=batch_size)
    assert str(excinfo.value) == text
