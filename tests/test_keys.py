"""The draws of quick keys against those of `jax.random`, to the bit; folds and splits on the host."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import _keys
from jaxnn._keys import fold_in, quick, split

DRAWS = {
    "bits": jax.random.bits,
    "uniform": lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -1, 1),
    "truncated normal": lambda key, shape: jax.random.truncated_normal(key, -2, 2, shape),
    "bfloat16": lambda key, shape: jax.random.normal(key, shape, jnp.bfloat16),
}
SHAPES = [(), (7,), (0, 3), (3, 3, 5, 7)]
KEYS = {
    "typed": jax.random.key(0),
    "named": jax.random.key(123, impl="threefry2x32"),
    "raw": jax.random.PRNGKey(2**32 - 1),
    "rbg": jax.random.key(0, impl="rbg"),
}


@pytest.fixture(params=[True, False], ids=["partitionable", "not partitionable"])
def partitionable(request):
    with jax.threefry_partitionable(request.param):
        yield


def same(mine, theirs):
    mine, theirs = (
        jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in (mine, theirs)
    )
    assert mine.dtype == theirs.dtype
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_to_the_bit(draw, partitionable):
    for shape in SHAPES:
        same(draw(quick(KEYS["raw"]), shape), draw(KEYS["raw"], shape))
        same(jax.jit(lambda key, shape=shape: draw(quick(key), shape))(KEYS["typed"]), draw(KEYS["typed"], shape))


@pytest.mark.parametrize("shape", [(7,), (3, 4)])
def test_a_draw_to_the_bit(shape):
    for name in ("typed", "rbg"):
        same(jax.random.truncated_normal(quick(KEYS[name]), -2, 2, shape), DRAWS["truncated normal"](KEYS[name], shape))


@pytest.mark.slow
def test_under_vmap_and_in_float64(partitionable, x64):
    keys = jax.random.split(KEYS["typed"], 3)
    for dtype in (jnp.float32, jnp.float64):
        draw = partial(jax.random.normal, shape=(4, 3), dtype=dtype)
        same(jax.vmap(lambda key, draw=draw: draw(quick(key)))(keys), jax.vmap(draw)(keys))


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("traced", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_folds_and_splits_to_the_bit(name, traced, partitionable):
    key = KEYS[name]
    run = jax.jit if traced else lambda f: f
    for number in (0, 3, 2**31, 2**32 - 1):
        same(run(lambda key, number=number: fold_in(key, number))(key), jax.random.fold_in(key, np.uint32(number)))
    for mine, theirs in zip(run(lambda key: split(key, 3))(key), jax.random.split(key, 3), strict=True):
        same(mine, theirs)


def test_one_key_is_asked_for():
    keys = jax.random.split(KEYS["typed"], 2)
    for not_one in (keys, 3, None):
        assert quick(not_one) is not_one


def test_keys_that_are_checked_for_reuse_stay_as_they_are():
    with jax.debug_key_reuse(True):
        key = jax.random.key(5)
        assert quick(key) is key
        jax.random.normal(quick(key))
        with pytest.raises(jax.errors.KeyReuseError):
            jax.random.normal(quick(key))


def test_a_key_that_a_traced_function_closes_over():
    key = KEYS["typed"]
    same(jax.jit(lambda x: jax.random.key_data(fold_in(key, 3)) + 0 * x)(jnp.uint32(1)), jax.random.fold_in(key, 3))


def test_where_arrays_may_be_sharded_the_draw_is_that_of_jax(monkeypatch):
    monkeypatch.setattr(_keys, "local_cpu", lambda: False)
    assert quick(KEYS["typed"]) is KEYS["typed"]


def test_the_init_of_a_model_folds_keys_on_the_host(monkeypatch):
    def compiled(*_):
        raise AssertionError

    expected = nn.serial(nn.dense(3), nn.dense(2)).init(jax.random.key(0), jnp.ones((1, 4)))
    for name in ("fold_in", "split"):
        monkeypatch.setattr(jax.random, name, compiled)
    found = nn.serial(nn.dense(3), nn.dense(2)).init(jax.random.key(0), jnp.ones((1, 4)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
