"""Dilation, ceil_mode, counted padding, indices, p-norms and global pools against loops in float64."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax.test_util import check_grads

from jaxnn import ops

# x, kernel_size and how, all padding as pairs
CASES = {
    "1-d dilation": ((2, 9, 2), (3,), {"stride": 2, "dilation": 2}),
    "1-d ceil": ((2, 8, 1), (3,), {"stride": 3, "ceil_mode": True}),
    "1-d ceil, the last position left out": ((1, 5, 1), (2,), {"stride": 4, "padding": [(0, 0)], "ceil_mode": True}),
    "1-d ceil, begins in the padding behind": ((1, 4, 1), (2,), {"stride": 3, "padding": [(1, 1)], "ceil_mode": True}),
    "2-d ceil and padding": ((2, 6, 7, 3), (3, 2), {"stride": (2, 3), "padding": [(1, 1), (1, 0)], "ceil_mode": True}),
    "2-d all": (
        (2, 8, 7, 2),
        (3, 2),
        {"stride": (2, 3), "dilation": (2, 1), "padding": [(2, 1), (1, 1)], "ceil_mode": True},
    ),
    "3-d large": ((1, 7, 6, 5, 2), (4, 3, 3), {"stride": 2, "dilation": (1, 2, 1), "ceil_mode": True}),
}


def by_loops(reduce, x, kernel_size, stride, dilation=1, padding=None, ceil_mode=False, with_padding=False):
    """`reduce` of the values under the kernel, taps in row-major order; zeros of padding only where they count."""
    rank = len(kernel_size)
    stride, dilation = ((v,) * rank if isinstance(v, int) else v for v in (stride, dilation))
    padding = [(0, 0)] * rank if padding is None else padding
    starts = []
    for n, k, s, d, (before, after) in zip(x.shape[1:-1], kernel_size, stride, dilation, padding, strict=True):
        whole = [i for i in range(-before, n + after, s) if i + (k - 1) * d < n + after]
        more = [whole[-1] + s] if ceil_mode and whole[-1] + (k - 1) * d < n + after - 1 and whole[-1] + s < n else []
        starts.append(whole + more)
    y = np.empty((x.shape[0], *map(len, starts), x.shape[-1]))
    for at in product(*(range(len(s)) for s in starts)):
        values = []
        for tap in product(*map(range, kernel_size)):
            i = [s[a] + t * d for s, a, t, d in zip(starts, at, tap, dilation, strict=True)]
            if all(0 <= j < n for j, n in zip(i, x.shape[1:-1], strict=True)):
                values.append(x[(slice(None), *i)])
            elif with_padding and all(-p[0] <= j < n + p[1] for j, n, p in zip(i, x.shape[1:-1], padding, strict=True)):
                values.append(np.zeros_like(x[:, *(0,) * rank]))
        y[(slice(None), *at)] = reduce(np.stack(values))
    return y


OPS = {
    "max_pool": (ops.max_pool, lambda v: v.max(0), {}),
    "max_pool_with_indices": (lambda *a, **k: ops.max_pool_with_indices(*a, **k)[0], lambda v: v.max(0), {}),
    "avg_pool": (ops.avg_pool, lambda v: v.mean(0), {}),
    "avg_pool, padding counts": (
        partial(ops.avg_pool, count_include_pad=True),
        lambda v: v.mean(0),
        {"with_padding": True},
    ),
    "lp_pool": (ops.lp_pool, lambda v: np.sqrt((v**2).sum(0)), {}),
    "lp_pool 3": (partial(ops.lp_pool, p=3), lambda v: (np.abs(v) ** 3).sum(0) ** (1 / 3), {}),
}


def operand(case, dtype=jnp.float64):
    shape, kernel_size, how = CASES[case]
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype), kernel_size, how


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_values(case, op):
    f, reduce, more = OPS[op]
    x, kernel_size, how = operand(case)
    y = jax.jit(lambda x: f(x, kernel_size, **how))(x)
    assert_close(y, by_loops(reduce, np.asarray(x), kernel_size, **how, **more))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_indices_find_the_values_and_unpooling_puts_them_back(case):
    x, kernel_size, how = operand(case, jnp.float32)
    y, places = jax.jit(lambda x: ops.max_pool_with_indices(x, kernel_size, **how))(x)
    n, c = x.shape[0], x.shape[-1]
    flat = np.asarray(x).reshape(n, -1, c)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, np.asarray(places).reshape(n, -1, c), 1), y.reshape(n, -1, c)
    )
    back = np.asarray(jax.jit(lambda y, places: ops.max_unpool(y, places, x.shape[1:-1]))(y, places))
    seen = np.zeros(flat.shape, bool)
    np.put_along_axis(seen, np.asarray(places).reshape(n, -1, c), True, 1)
    np.testing.assert_array_equal(back, np.where(seen.reshape(x.shape), x, 0))


def test_the_first_of_equal_values_and_the_first_nan():
    x = jnp.array([2.0, 2.0, 1.0, jnp.nan, 5.0, jnp.nan]).reshape(1, 6, 1)
    y, places = ops.max_pool_with_indices(x, 3)
    np.testing.assert_array_equal(y[0, :, 0], [2.0, np.nan])
    assert places[0, :, 0].tolist() == [0, 3]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients(op):
    x, kernel_size, how = operand("2-d all")
    x = jnp.asarray(np.random.default_rng(0).permutation(x.size).reshape(x.shape) / x.size + 0.1)
    check_grads(jax.jit(lambda x: OPS[op][0](x, kernel_size, **how)), (x,), order=2, eps=1e-4, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_the_gradient_of_a_norm_of_zeros_is_zero():
    assert not jax.grad(lambda x: ops.lp_pool(x, 2).sum())(jnp.zeros((1, 4, 1))).any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_global_pools(dtype):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 5, 4)), dtype)
    wide = np.asarray(x, np.float64)
    for f, want in ((ops.global_max_pool, wide.max((1, 2))), (ops.global_avg_pool, wide.mean((1, 2)))):
        y = f(x)
        assert y.dtype == dtype
        assert_close(y, want)


X = jnp.ones((1, 4, 2))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ops.max_pool(X, 2, ceil_mode=1), "max_pool: expected ceil_mode to be True or False, got 1."),
        (
            lambda: ops.avg_pool(jnp.ones((1, 1, 1)), 2, padding=1, dilation=2, stride=1),
            "avg_pool: expected padding and dilation that leave each kernel position a value of x, "
            "got (float32[1, 1, 1], ((1, 1),)).",
        ),
        (
            lambda: ops.max_unpool(X, jnp.zeros((1, 3, 2), int), 8),
            "max_unpool: expected indices of shape [1, 4, 2], that of y, got int32[1, 3, 2]. Nothing is broadcast.",
        ),
        (lambda: ops.max_unpool(X, X, 8), "max_unpool: expected indices of an integer dtype, got float32[1, 4, 2]."),
        (
            lambda: ops.global_avg_pool(jnp.ones((1, 0, 2))),
            "global_avg_pool: expected x with at least one step on each space axis, got float32[1, 0, 2].",
        ),
        (
            lambda: ops.global_max_pool(jnp.ones((1, 2))),
            "global_max_pool: expected x of shape [n, *space, c], got float32[1, 2].",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == text
