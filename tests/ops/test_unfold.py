"""ops.unfold against loops, and ops.fold as its transpose."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close

from jaxnn import ops

# shape of x, kernel size, what follows
CASES = {
    "1-d": ((2, 6, 3), 2, {}),
    "1-d remainder": ((1, 8, 1), 3, {"stride": 2}),
    "2-d": ((2, 5, 6, 2), (2, 3), {"stride": (2, 1), "padding": [(1, 0), 1], "dilation": (2, 1)}),
    "2-d same": ((1, 5, 5, 2), 3, {"padding": "same", "stride": 2}),
    "3-d": ((1, 3, 4, 3, 2), 2, {"padding": 1, "stride": 2}),
    "empty batch": ((0, 6, 3), 2, {}),
}


def by_loops(x, kernel_size, stride=1, padding="valid", dilation=1):
    rank = x.ndim - 2
    kernel, stride, dilation = ((v,) * rank if isinstance(v, int) else v for v in (kernel_size, stride, dilation))
    sides = (
        {"valid": [0] * rank, "same": [(1, 1)] * rank}.get(padding, padding) if isinstance(padding, str) else padding
    )
    sides = [sides] * rank if isinstance(sides, int) else sides
    x = np.pad(x, [(0, 0), *[(p, p) if isinstance(p, int) else p for p in sides], (0, 0)])
    steps = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[1:-1], kernel, dilation, stride, strict=True)]
    y = np.zeros((x.shape[0], *steps, int(np.prod(kernel)), x.shape[-1]), x.dtype)
    for i in product(*map(range, steps)):
        for k, tap in enumerate(product(*map(range, kernel))):
            at = tuple(a * s + t * d for a, s, t, d in zip(i, stride, tap, dilation, strict=True))
            y[(slice(None), *i, k)] = x[(slice(None), *at)]
    return y


@pytest.mark.parametrize("case", CASES)
def test_patches_and_their_sum(case):
    shape, kernel_size, how = CASES[case]
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(np.float32)
    want = by_loops(x, kernel_size, **how)
    y = rng.integers(-9, 9, want.shape).astype(np.float32)

    @jax.jit
    def all_of(x, y):
        pull = jax.vjp(lambda x: ops.unfold(x, kernel_size, **how), x)[1]
        folded = ops.fold(y, shape[1:-1], kernel_size, **how)
        push = jax.vjp(lambda y: ops.fold(y, shape[1:-1], kernel_size, **how), y)[1]
        return ops.unfold(x, kernel_size, **how), folded, pull(y)[0], push(x)[0]

    unfolded, folded, transposed, again = all_of(x, y)
    np.testing.assert_array_equal(unfolded, want)
    np.testing.assert_array_equal(again, want)
    np.testing.assert_array_equal(folded, transposed)
    assert np.vdot(want, y) == np.vdot(x, folded)  # exact for integers


def test_a_convolution_is_a_product_of_the_patches():
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((2, 6, 5, 3), (3, 2, 3, 4)))
    how = {"stride": (1, 2), "padding": 1}
    patches = ops.unfold(x, (3, 2), **how)
    assert_close(jnp.einsum("nhwkc,kcf->nhwf", patches, w.reshape(6, 3, 4)), ops.conv(x, w, **how))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_dtypes(dtype):
    y = ops.unfold(jnp.ones((1, 4, 1), dtype), 2)
    assert y.dtype == ops.fold(y, 4, 2).dtype == dtype


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: ops.unfold(jnp.ones((1, 3, 1)), 4),
            ValueError,
            "unfold: expected a kernel_size that fits in x, 4 steps long, got 3 steps, padding included. Use "
            "padding='same', a smaller kernel_size or a smaller dilation.",
        ),
        (
            lambda: ops.unfold(jnp.ones((1, 3, 1), jnp.int32), 2),
            TypeError,
            "unfold: expected x of shape [n, *space, c] and a floating dtype, got int32[1, 3, 1]. Convert it first, "
            "for example x.astype(jnp.float32) / 255 for images of bytes.",
        ),
        (
            lambda: ops.fold(jnp.ones((1, 3, 2, 1)), 5, 2),
            ValueError,
            "fold: expected y of shape [n, 4, 2, c], got float32[1, 3, 2, 1].",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == text
