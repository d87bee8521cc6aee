"""Pooling against loops in float64; where the gradient goes; NaN, infinities and padding."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax.test_util import check_grads

from jaxnn import ops
from jaxnn.ops import _largest as pool

# x, kernel_size and how
CASES = {
    "1-d": ((2, 6, 3), 2, {}),
    "1-d overlapping, remainder": ((2, 8, 2), 3, {"stride": 2}),
    "1-d gaps": ((1, 7, 2), 2, {"stride": 3}),
    "1-d same": ((2, 7, 2), 3, {"stride": 2, "padding": "same"}),
    "1-d same, even kernel": ((2, 5, 1), 4, {"stride": 1, "padding": "same"}),
    "1-d one step": ((2, 5, 1), 1, {}),
    "2-d": ((2, 5, 6, 2), 2, {}),
    "2-d padded": ((2, 5, 6, 2), (3, 2), {"stride": 2, "padding": 1}),
    "2-d asymmetric": ((1, 5, 4, 3), 3, {"stride": (2, 1), "padding": [(0, 2), (1, 0)]}),
    "2-d large": ((2, 8, 7, 2), (6, 7), {"stride": (2, 1), "padding": "same"}),
    "3-d": ((2, 4, 4, 5, 2), 2, {"stride": (2, 1, 2)}),
    "3-d large": ((1, 4, 5, 5, 2), 4, {"stride": 1, "padding": [1, 0, (2, 0)]}),
    "empty batch": ((0, 4, 4, 2), 2, {}),
}


def windows(shape, kernel_size, stride=None, padding="valid"):
    """For each output index the slices of x that its kernel covers, padding cut off."""
    rank = len(shape) - 2
    kernel_size = (kernel_size,) * rank if isinstance(kernel_size, int) else kernel_size
    stride = kernel_size if stride is None else (stride,) * rank if isinstance(stride, int) else stride
    axes = []
    for i, (n, k, s) in enumerate(zip(shape[1:-1], kernel_size, stride, strict=True)):
        if padding == "same":
            out = int(np.ceil(n / s))
            before = max(0, (out - 1) * s + k - n) // 2
        else:
            side = 0 if padding == "valid" else padding if isinstance(padding, int) else padding[i]
            before, after = (side, side) if isinstance(side, int) else side
            out = (n + before + after - k) // s + 1
        axes.append([slice(max(0, j * s - before), min(n, j * s - before + k)) for j in range(out)])
    return [len(a) for a in axes], {
        i: tuple(a[j] for a, j in zip(axes, i, strict=True)) for i in product(*(range(len(a)) for a in axes))
    }


def by_loops(reduce, x, kernel_size, **how):
    sizes, seen = windows(x.shape, kernel_size, **how)
    y = np.empty((x.shape[0], *sizes, x.shape[-1]))
    for i, cut in seen.items():
        y[:, *i] = reduce(x[:, *cut], axis=tuple(range(1, x.ndim - 1)))
    return y


def operand(case, dtype=jnp.float64):
    shape, kernel_size, how = CASES[case]
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype), kernel_size, how


OPS = {"max_pool": (ops.max_pool, np.max), "avg_pool": (ops.avg_pool, np.mean)}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_the_value_is_that_of_each_window(case, op):
    f, reduce = OPS[op]
    x, kernel_size, how = operand(case)
    want = by_loops(reduce, np.asarray(x), kernel_size, **how)
    assert_close(f(x, kernel_size, **how), want)
    assert_close(jax.jit(lambda x: f(x, kernel_size, **how))(x), want)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", ["2-d padded", "2-d large"])
@pytest.mark.slow
def test_narrow_dtypes(case, op, dtype):
    f, reduce = OPS[op]
    x, kernel_size, how = operand(case, dtype)
    y, pull = jax.vjp(lambda x: f(x, kernel_size, **how), x)
    assert (y.dtype, pull(y)[0].dtype) == (dtype, dtype)
    assert_close(y, by_loops(reduce, np.asarray(x, np.float64), kernel_size, **how))


def test_the_mean_of_many_bfloat16_is_summed_in_float32():
    x = jnp.ones((1, 4096, 1), jnp.bfloat16)  # a bfloat16 sum of ones stops at 256
    assert ops.avg_pool(x, 4096).item() == 1.0


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", ["2-d padded", "2-d large"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients(case, op):
    x, kernel_size, how = operand(case)
    x = jnp.asarray(np.random.default_rng(0).permutation(x.size).reshape(x.shape) / x.size)  # no ties, far apart
    check_grads(
        jax.jit(partial(OPS[op][0], kernel_size=kernel_size, **how)), (x,), order=2, eps=1e-4, atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("op", OPS)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_vmap_and_scan(op):
    f = partial(OPS[op][0], kernel_size=3, stride=1, padding="same")
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 2, 5, 5, 2)))
    assert_close(jax.vmap(f)(x), np.stack([f(v) for v in x]))
    y, _ = jax.lax.scan(lambda x, _: (f(x), None), x[0], length=2)
    assert_close(y, f(f(x[0])))


@pytest.mark.parametrize("taps", [pool.SLICED_TAPS_OF_A_GRADIENT, 0])
def test_the_gradient_goes_to_the_first_of_equal_values(monkeypatch, taps):
    monkeypatch.setattr(pool, "SLICED_TAPS_OF_A_GRADIENT", taps)
    x = jnp.array([[1.0, 2.0, 2.0], [2.0, 0.0, 3.0], [3.0, 3.0, 3.0]])[None, :, :, None]
    grad = jax.grad(lambda x: jnp.sum(ops.max_pool(x, 2, stride=1)))(x)
    assert grad[0, :, :, 0].tolist() == [[0, 1, 0], [0, 0, 2], [1, 0, 0]]
    # windows: (1 2 / 2 0) and (2 2 / 0 3) above, (2 0 / 3 3) and (0 3 / 3 3) below


@pytest.mark.parametrize("case", ["1-d same", "2-d padded", "2-d asymmetric", "3-d"])
@pytest.mark.slow
def test_slices_and_reduce_window_agree(monkeypatch, case):
    x, kernel_size, how = operand(case, jnp.float32)
    x = x.at[0, 0, ..., 0].set(jnp.nan).at[0, 1, ..., -1].set(-jnp.inf).at[0, 2].set(jnp.inf)
    sliced = ops.max_pool(x, kernel_size, **how)
    monkeypatch.setattr(pool, "SLICED_TAPS", 0)
    monkeypatch.setattr(pool, "SLICED_TAPS_OF_A_GRADIENT", 0)
    np.testing.assert_array_equal(sliced, ops.max_pool(x, kernel_size, **how))
    np.testing.assert_array_equal(sliced, by_loops(np.max, np.asarray(x), kernel_size, **how))


@pytest.mark.parametrize("kernel_size", [3, 40])
def test_nan_and_infinities(kernel_size):
    x = np.full((1, kernel_size, 4), -1.0, np.float32)
    x[0, 1, 0], x[0, :, 1], x[0, 2, 2], x[0, 0, 3] = np.nan, -np.inf, np.inf, -np.inf
    np.testing.assert_array_equal(ops.max_pool(x, kernel_size)[0, 0], [np.nan, -np.inf, np.inf, -1.0])
    np.testing.assert_array_equal(ops.avg_pool(x, kernel_size)[0, 0], [np.nan, -np.inf, np.inf, -np.inf])


def test_padding_never_wins_and_never_counts():
    x = jnp.full((1, 3, 1), -5.0)
    assert ops.max_pool(x, 2, stride=1, padding=1)[0, :, 0].tolist() == [-5.0] * 4
    assert ops.avg_pool(x, 2, stride=1, padding=1)[0, :, 0].tolist() == [-5.0] * 4


ERRORS = {
    "rank": (
        (np.zeros((4, 4), np.float32), 2),
        {},
        ValueError,
        "expected x of shape [n, *space, c], got float32[4, 4].",
    ),
    "too many axes": (
        (np.zeros((1, 2, 2, 2, 2, 1), np.float32), 2),
        {},
        ValueError,
        "expected x of shape [n, *space, c] with 1 to 3 space axes, got float32[1, 2, 2, 2, 2, 1].",
    ),
    "integers": (
        (np.zeros((1, 4, 1), np.uint8), 2),
        {},
        TypeError,
        "expected x of shape [n, *space, c] and a floating dtype, got uint8[1, 4, 1]. "
        "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes.",
    ),
    "a list": (
        ([1.0], 2),
        {},
        TypeError,
        "expected x to be an array of shape [n, *space, c], got [1.0]. Convert it: np.asarray(x, np.float32).",
    ),
    "padding by another name": (
        (np.zeros((1, 4, 1), np.float32), 2),
        {"padding": "SAME"},
        ValueError,
        "expected padding to be 'same', 'valid', an integer >= 0, or 1 of them or of pairs, got 'SAME'. "
        "Write padding='same'.",
    ),
    "padding alone": (
        (np.zeros((1, 4, 1), np.float32), 2),
        {"padding": 2},
        ValueError,
        "expected padding shorter than the kernel (2,), got ((2, 2),). A kernel over padding alone has no value.",
    ),
    "too short": (
        (np.zeros((1, 4, 1), np.float32), 5),
        {},
        ValueError,
        "expected a kernel_size that fits in x, 5 steps long, got 4 steps, padding included. "
        "Use padding='same', a smaller kernel_size or a smaller dilation.",
    ),
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("case", ERRORS)
def test_errors(case, op):
    args, how, kind, text = ERRORS[case]
    with pytest.raises(kind) as caught:
        OPS[op][0](*args, **how)
    assert str(caught.value) == f"{op}: {text}"
