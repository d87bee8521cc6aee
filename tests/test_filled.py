"""Constant arrays and copies: values as JAX's, and the number of compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import _filled


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5)])
@pytest.mark.parametrize("value", [0, -1.5, np.nan, jnp.float32(2)])
def test_full_is_that_of_jax(shape, value, dtype):
    if dtype == jnp.int32 and not np.isfinite(value):
        value = 7
    got, traced = _filled.full(shape, value, dtype), jax.jit(lambda: _filled.full(shape, value, dtype))()
    want = jnp.full(shape, value, jax.dtypes.canonicalize_dtype(dtype))
    for x in (got, traced):
        assert (x.dtype, x.weak_type, x.committed) == (want.dtype, False, False)
        np.testing.assert_array_equal(np.asarray(x, np.float64), np.asarray(want, np.float64))


def test_full_like_keeps_the_device_of_a_committed_array():
    x = jax.device_put(jnp.ones(3), jax.devices()[0])
    assert _filled.full_like(x, 1, jnp.float32).committed
    assert not _filled.full_like(jnp.ones(3), 1, jnp.float32).committed


def test_params_and_the_state_of_an_optimizer_compile_no_constants(compilations):
    nn.serial(nn.dense(37, w_init=nn.init.zeros), nn.batch_norm(), nn.layer_norm()).init(
        jax.random.key(0), np.ones((2, 41))
    )
    start = compilations()
    nn.adam(0.1).init(jax.device_put({"w": np.ones((43, 47), np.float32), "b": np.ones(53, np.float32)}))
    assert compilations() == start


def test_copies_are_one_program_and_no_aliases(compilations):
    tree = jax.device_put({"a": np.ones((59, 2), np.float32), "b": (np.arange(61, dtype=np.int32),)})
    made = _filled.copied(tree)
    assert compilations() == 1
    jax.tree.map(np.testing.assert_array_equal, made, tree)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((made, tree))]
    assert len(set(pointers)) == 4
