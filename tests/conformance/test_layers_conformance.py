"""Every public layer against everything a layer is used with."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _layer_cases import (
    CASES,
    FEW,
    KEY,
    NOISES,
    TRAIN,
    applied,
    assert_same,
    initialized,
    keyed,
    made,
    quick,
    shapes,
    taken,
    without,
)

import jaxnn as nn


def test_every_public_layer_has_a_row():
    public = {n for n in nn.__all__ if callable(f := getattr(nn, n)) and _makes_a_layer(f)}
    # what the others are made of, a view of a model, and many of them, which give no array (train/test_ensemble.py)
    not_factories = {"capture", "layer", "lift", "ensemble"}
    assert {name.split()[0] for name in CASES} == public - not_factories


def _makes_a_layer(f):
    return inspect.isfunction(f) and inspect.signature(f).return_annotation in (nn.Layer, "Layer")


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("case", FEW)
def test_eager_is_jit_traced_once_with_the_shapes_foretold(case, train):
    model, x, params, state = made(case)
    traces = []

    @quick
    def apply(params, state, x, key):
        traces.append(1)
        return model.apply(params, state, x, key=key, train=train)

    eager = model.apply(params, state, x, key=KEY(), train=train)
    assert_same(apply(params, state, x, KEY()), eager)
    again = apply(params, eager[1], x + jnp.ones((), x.dtype), KEY())
    assert len(traces) == 1
    assert shapes(again[1]) == shapes(eager[1]) == shapes(state)
    assert jax.eval_shape(partial(model.apply, train=train), params, state, x, key=KEY()) == shapes(eager)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_init_from_shapes_and_under_jit_gives_the_same_numbers(case):
    model, x, *jitted = made(case)
    eager = model.init(KEY(), x)
    for a, b in zip(
        *(jax.tree.leaves(m) for m in (eager, model.init(KEY(), jax.ShapeDtypeStruct(x.shape, x.dtype)))), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert_same(tuple(jitted), eager)
    assert jax.eval_shape(lambda key: model.init(key, x), KEY()) == shapes(eager)
    others = initialized(case)(jax.random.key(4), x)[0]
    assert "w" not in eager[0] or not np.array_equal(eager[0]["w"], others["w"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_same_key_same_output(case):
    _, x, params, state = made(case)
    one, two, other = (keyed(case)(params, state, x, jax.random.key(k))[0] for k in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert np.array_equal(one, other) == (not any(noise in case for noise in NOISES))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_vmap_over_params_state_and_keys_is_one_by_one(case):
    model, xs = taken(case, members=(3,))
    keys = jax.random.split(KEY(), 3)
    params, state = quick(jax.vmap(lambda key: model.init(key, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))))(keys)
    got = quick(jax.vmap(keyed(case).__wrapped__))(params, state, xs, keys)
    each = [keyed(case)(*jax.tree.map(lambda v, i=i: v[i], (params, state, xs, keys))) for i in range(3)]
    assert_same(got, jax.tree.map(lambda *v: jnp.stack(v), *each))


@pytest.mark.parametrize("case", without("one by one"))
@pytest.mark.slow
def test_a_batch_is_its_examples(case):
    _, x, params, state = made(case)
    y, *rows = (keyed(case)(params, state, part, KEY())[0] for part in (x, *np.split(x, len(x))))
    assert_close(y, np.concatenate(rows))


@pytest.mark.parametrize("case", ["batch_norm", "batch_norm image", "dropout", "serial"])
def test_a_batch_is_its_examples_when_not_training(case):
    _, x, params, state = made(case)
    y, *rows = (applied(case, False)(params, state, part)[0] for part in (x, *np.split(x, len(x))))
    assert_close(y, np.concatenate(rows))


@pytest.mark.parametrize("case", without("integers"))
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_output_has_the_dtype_of_x_and_params_at_least_float32(case):
    for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
        _, x = taken(case, dtype)
        params, state = initialized(case)(KEY(), x)
        at_least = jnp.float64 if dtype == jnp.float64 else jnp.float32
        assert {v.dtype for v in jax.tree.leaves((params, state))} <= {jnp.dtype(at_least)}
        y, new = keyed(case)(params, state, x, KEY())
        assert (y.dtype, shapes(new)) == (dtype, shapes(state))
        if "max_pool" not in case and "own dtype" not in CASES[case][2]:
            wide = jax.tree.map(lambda v: v.astype(jnp.float64), (params, state, x))
            assert_close(y, keyed(case)(*wide, KEY())[0])


@pytest.mark.parametrize("case", without("integers", "own dtype", "held"))  # held: it stops a gradient by design
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_are_differences(case):
    """Forward along a random direction, and backward from a random cotangent, against central differences."""
    model, x = taken(case, jnp.float64)
    random = np.random.default_rng(0)
    if "max_pool" in case:
        x = jnp.asarray(random.permutation(x.size).reshape(x.shape) / x.size)
    params, state = initialized(case)(KEY(), x)
    steps = jax.tree.map(lambda v: random.standard_normal(v.shape), (params, x))

    def f(inputs):
        return model.apply(inputs[0], state, inputs[1], key=KEY(), train=True)[0]

    @quick
    def compared(inputs, steps, cotangent):
        up = f(jax.tree.map(lambda v, step: v + 1e-5 * step, inputs, steps))
        down = f(jax.tree.map(lambda v, step: v - 1e-5 * step, inputs, steps))
        _, slope = jax.jvp(f, (inputs,), (steps,))
        (pulled,) = jax.vjp(f, inputs)[1](cotangent)
        backward = sum(jnp.vdot(g, step) for g, step in zip(*map(jax.tree.leaves, (pulled, steps)), strict=True))
        return (up - down) / 2e-5, slope, backward

    cotangent = random.standard_normal(jax.eval_shape(f, (params, x)).shape)
    difference, slope, backward = compared((params, x), steps, cotangent)
    np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(backward, np.vdot(cotangent, difference), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_train_must_not_be_traced(case):
    model, x = taken(case)
    with pytest.raises(TypeError) as caught:
        jax.jit(lambda train: model.apply({}, {}, x, train=train))(True)
    assert str(caught.value) == (
        f"{model.name}: expected train to be a Python bool, got a traced value. "
        "Bind it before the transformation: functools.partial(model.apply, train=True), or static_argnames."
    )
