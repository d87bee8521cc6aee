"""The largest elements of rows against a stable sort: by bins and at once, with ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.retrieval._top import BIN, FEW, top


@pytest.mark.parametrize(
    "n", [5, BIN * FEW * 3 - 1, BIN * FEW * 3, 1000]
)  # at once, and by bins with a rest and without
def test_the_first_of_equal_elements_come_first(n):
    k = 3
    x = np.random.default_rng(n).integers(0, 7, (4, n)).astype(np.float32)  # each value stands many times
    x[1], x[2, ::2] = -np.inf, -np.inf
    x[3, -1] = 9  # in the rest
    values, places = jax.jit(top, static_argnums=1)(x, k)
    want = np.argsort(-x, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(places, want)
    np.testing.assert_array_equal(values, np.take_along_axis(x, want, 1))
    assert places.dtype == jnp.int32
