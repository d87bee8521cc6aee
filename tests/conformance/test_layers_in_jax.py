"""Every public layer as the rest of JAX uses it: NumPy params, x64, empty axes, checked keys, exported programs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax import export
from test_layers_conformance import CASES, FEW, taken

KEY = partial(jax.random.key, 3)
SEQUENCES = [case for case, (_, shape, exempt) in CASES.items() if len(shape) == 3 and "integers" not in exempt]
# What needs a least number of steps: kernels without padding, windows, norms over an axis of x.
STEPS = {"avg_pool same", "conv 1-d", "conv causal", "conv_transpose groups", "depthwise_conv large", "max_pool same"}

OVER_THE_BATCH = {"batch_norm", "batch_norm image", "serial"}  # in training they refuse to take statistics of nothing


def run(model, params, state, x):
    return model.apply(params, state, x, key=KEY(), train=True)


def same(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("case", FEW)
def test_numpy_params_and_state_give_the_same_numbers(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    same(run(model, *jax.tree.map(np.asarray, (params, state)), np.asarray(x)), run(model, params, state, x))


@pytest.mark.parametrize("case", FEW)
def test_under_x64_float32_stays_and_runs(case):
    with jax.enable_x64(True):
        model, x = taken(case)
        params, state = model.init(KEY(), x)
        y, new = run(model, params, state, x)
        assert jnp.float64 not in {v.dtype for v in jax.tree.leaves((params, state, y, new))}


@pytest.mark.parametrize("case", [case for case in FEW if getattr(case, "values", (case,))[0] not in OVER_THE_BATCH])
def test_an_empty_batch_gives_an_empty_result_and_gradients_of_zero(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    empty = jax.eval_shape(partial(run, model), params, state, x)[0]
    y, pull = jax.vjp(lambda p: run(model, p, state, x[:0])[0], params)
    assert y.shape == (0, *empty.shape[1:])
    for g in jax.tree.leaves(pull(y)):
        assert not np.asarray(g).any()


@pytest.mark.parametrize("case", [case for case in SEQUENCES if case not in STEPS])
@pytest.mark.slow
def test_a_sequence_without_steps(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    y, _ = run(model, params, state, x[:, :0])
    assert y.shape[0] == x.shape[0]
    assert np.isfinite(y).all()


@pytest.mark.parametrize("case", FEW)
def test_no_key_is_used_twice(case):
    model, x = taken(case)
    with jax.debug_key_reuse(True):
        params, state = model.init(KEY(), x)
        run(model, params, state, x)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_exports_with_any_batch(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    f = jax.jit(lambda p, s, x: model.apply(p, s, x)[0])
    (n,) = export.symbolic_shape("n")
    shapes = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), (params, state))
    served = export.export(f)(*shapes, jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype))
    assert_close(served.call(params, state, x), f(params, state, x))


@pytest.mark.parametrize("case", SEQUENCES)
@pytest.mark.slow
def test_exports_with_any_number_of_steps(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    f = jax.jit(lambda x: model.apply(params, state, x)[0])
    n, t = export.symbolic_shape("n, t", constraints=["t>=2", "t<=7"])
    served = export.export(f)(jax.ShapeDtypeStruct((n, t, x.shape[2]), x.dtype))
    assert_close(served.call(x), f(x))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_runs_without_jit(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    with jax.disable_jit():
        got = run(model, params, state, x)
    jax.tree.map(assert_close, got, run(model, params, state, x))
