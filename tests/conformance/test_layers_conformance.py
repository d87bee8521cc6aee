"""Every public layer against everything a layer is used with."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from _layer_cases import CASES, FEW, KEY, NOISES, TRAIN, assert_same, shapes, taken, without
from jax.test_util import check_grads

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
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    traces = []

    @jax.jit
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
    model, x = taken(case)
    made = model.init(KEY(), x)
    for a, b in zip(
        *(jax.tree.leaves(m) for m in (made, model.init(KEY(), jax.ShapeDtypeStruct(x.shape, x.dtype)))), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert_same(jax.jit(lambda key: model.init(key, x))(KEY()), made)
    assert jax.eval_shape(lambda key: model.init(key, x), KEY()) == shapes(made)
    others = model.init(jax.random.key(4), x)[0]
    assert "w" not in made[0] or not np.array_equal(made[0]["w"], others["w"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_same_key_same_output(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    one, two, other = (model.apply(params, state, x, key=jax.random.key(k), train=True)[0] for k in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert np.array_equal(one, other) == (not any(noise in case for noise in NOISES))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_vmap_over_params_state_and_keys_is_one_by_one(case):
    model, xs = taken(case, members=(3,))
    keys = jax.random.split(KEY(), 3)
    params, state = jax.vmap(model.init, (0, None))(keys, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
    apply = jax.jit(lambda p, s, x, k: model.apply(p, s, x, key=k, train=True))
    got = jax.vmap(apply)(params, state, xs, keys)
    each = [apply(*jax.tree.map(lambda v, i=i: v[i], (params, state, xs, keys))) for i in range(3)]
    assert_same(got, jax.tree.map(lambda *v: jnp.stack(v), *each))


@pytest.mark.parametrize("case", without("one by one"))
@pytest.mark.slow
def test_a_batch_is_its_examples(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    apply = jax.jit(lambda x: model.apply(params, state, x, train=True)[0])
    assert_close(apply(x), np.concatenate([apply(x[i : i + 1]) for i in range(len(x))]))


@pytest.mark.parametrize("case", ["batch_norm", "batch_norm image", "dropout", "serial"])
def test_a_batch_is_its_examples_when_not_training(case):
    model, x = taken(case)
    params, state = model.init(KEY(), x)
    apply = jax.jit(lambda x: model.apply(params, state, x, train=False)[0])
    assert_close(apply(x), np.concatenate([apply(x[i : i + 1]) for i in range(len(x))]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("case", without("integers"))
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_output_has_the_dtype_of_x_and_params_at_least_float32(case, dtype):
    model, x = taken(case, dtype)
    params, state = model.init(KEY(), x)
    at_least = jnp.float64 if dtype == jnp.float64 else jnp.float32
    assert {v.dtype for v in jax.tree.leaves((params, state))} <= {jnp.dtype(at_least)}
    apply = jax.jit(partial(model.apply, train=True))
    y, new = apply(params, state, x, key=KEY())
    assert (y.dtype, shapes(new)) == (dtype, shapes(state))
    if "max_pool" not in case and "own dtype" not in CASES[case][2]:
        wide = jax.tree.map(lambda v: v.astype(jnp.float64), (params, state, x))
        assert_close(y, apply(*wide, key=KEY())[0])


@pytest.mark.parametrize("case", without("integers", "own dtype", "held"))  # held: it stops a gradient by design
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_are_differences(case):
    model, x = taken(case, jnp.float64)
    if "max_pool" in case:
        x = jnp.asarray(np.random.default_rng(0).permutation(x.size).reshape(x.shape) / x.size)
    params, state = model.init(KEY(), x)
    f = jax.jit(lambda p, x: model.apply(p, state, x, key=KEY(), train=True)[0])
    check_grads(f, (params, x), order=1, modes=["fwd", "rev"], eps=1e-5, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_train_must_not_be_traced(case):
    model, x = taken(case)
    with pytest.raises(TypeError) as caught:
        jax.jit(lambda train: model.apply({}, {}, x, train=train))(True)
    assert str(caught.value) == (
        f"{model.name}: expected train to be a Python bool, got a traced value. "
        "Bind it before the transformation: functools.partial(model.apply, train=True), or static_argnames."
    )
