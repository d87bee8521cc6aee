"""ops.conv_transpose against loops in float64, and as the gradient of ops.conv."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax.test_util import check_grads

from jaxnn import ops

# x, w [*kernel_size, features / groups, c], what follows them, space of the result
CASES = {
    "1-d": ((2, 5, 3), (3, 2, 3), {}, (5,)),
    "1-d same, stride": ((2, 4, 1), (3, 2, 1), {"stride": 2}, (8,)),
    "1-d same, stride beyond the kernel": ((1, 3, 2), (2, 1, 2), {"stride": 4}, (12,)),
    "1-d valid": ((2, 4, 2), (3, 3, 2), {"stride": 2, "padding": "valid"}, (9,)),
    "1-d more behind": ((1, 4, 2), (3, 2, 2), {"stride": 3, "padding": 1, "output_padding": 2}, (12,)),
    "1-d padding beyond the kernel": ((1, 6, 1), (2, 2, 1), {"stride": 2, "padding": [(3, 1)]}, (8,)),
    "2-d": ((2, 3, 4, 2), (3, 2, 3, 2), {"stride": (2, 1), "padding": [(0, 1), 1], "dilation": (1, 2)}, (6, 4)),
    "2-d groups": ((2, 3, 3, 4), (2, 3, 3, 4), {"stride": 2, "groups": 2, "padding": "valid"}, (6, 7)),
    "2-d depthwise": ((1, 3, 3, 3), (2, 2, 2, 3), {"stride": 2, "groups": 3}, (6, 6)),
    "3-d": ((2, 4, 3, 5, 2), (2, 2, 3, 2, 2), {"stride": (1, 2, 1), "padding": [0, 1, (1, 1)]}, (5, 4, 5)),
    "3-d, fatal to XLA": ((1, 2, 3, 2, 2), (2, 2, 2, 1, 2), {"stride": (1, 2, 1), "padding": [0, 1, 0]}, (3, 4, 3)),
    "1-d, like it": ((1, 3, 2), (2, 1, 2), {"stride": 2, "padding": 1}, (4,)),
    "empty batch": ((0, 3, 2), (3, 1, 2), {"stride": 2}, (6,)),
}


def operands(case, dtype=jnp.float64):
    x_shape, w_shape, how, size = CASES[case]
    rng = np.random.default_rng(0)
    return *(jnp.asarray(rng.standard_normal(s), dtype) for s in (x_shape, w_shape)), how, size


def by_loops(x, w, size, stride=1, padding="same", dilation=1, groups=1, output_padding=0):
    """Each value of x adds its multiple of the kernel where it stands."""
    rank = x.ndim - 2
    stride, dilation = ((v,) * rank if isinstance(v, int) else v for v in (stride, dilation))
    if padding == "same":  # the smaller half of what reaches beyond stride · space is in front
        before = [max((k - 1) * d + 1 - s, 0) // 2 for k, d, s in zip(w.shape[:rank], dilation, stride, strict=True)]
    else:
        each = (0,) * rank if padding == "valid" else (padding,) * rank if isinstance(padding, int) else padding
        before = [p if isinstance(p, int) else p[0] for p in each]
    features, c = w.shape[-2], x.shape[-1] // groups
    y = np.zeros((x.shape[0], *size, features * groups))
    for i in product(*map(range, x.shape[1:-1])):
        for k in product(*map(range, w.shape[:rank])):
            at = tuple(a * s + b * d - p for a, b, s, d, p in zip(i, k, stride, dilation, before, strict=True))
            if all(0 <= a < n for a, n in zip(at, size, strict=True)):
                for g in range(groups):
                    part = x[(slice(None), *i)][:, g * c : (g + 1) * c] @ w[k][:, g * c : (g + 1) * c].T
                    y[(slice(None), *at)][:, g * features : (g + 1) * features] += part
    return y


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_values(case):
    x, w, how, size = operands(case)
    want = by_loops(np.asarray(x), np.asarray(w), size, **how)
    y = jax.jit(lambda x, w: ops.conv_transpose(x, w, **how))(x, w)
    assert y.shape == (x.shape[0], *size, w.shape[-2] * how.get("groups", 1))
    assert_close(y, want)


@pytest.mark.parametrize("case", [case for case in CASES if "groups" not in CASES[case][2]])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_it_is_the_gradient_of_conv(case):
    x, w, how, size = operands(case)
    how = {k: v for k, v in how.items() if k != "output_padding"}
    image = jnp.zeros((x.shape[0], *size, w.shape[-2]))
    y, pull = jax.vjp(lambda image: ops.conv(image, w, **how), image)
    assert y.shape == x.shape
    more = {"output_padding": CASES[case][2]["output_padding"]} if "output_padding" in CASES[case][2] else {}
    assert_close(ops.conv_transpose(x, w, **how, **more), pull(x)[0])


@pytest.mark.parametrize("case", ["1-d same, stride beyond the kernel", "1-d more behind", "2-d", "2-d groups"])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_vmap_and_scan(case):
    x, w, how, _ = operands(case)
    f = jax.jit(lambda x, w: ops.conv_transpose(x, w, **how))
    check_grads(f, (x, w), order=2, atol=1e-6, rtol=1e-6)
    xs, ws = jnp.stack([x, 2 * x]), jnp.stack([w, w - 1])
    assert_close(jax.vmap(f)(xs, ws)[1], f(xs[1], ws[1]))
    assert_close(jax.lax.scan(lambda n, x: (n, f(x, w)), 0, xs)[1][1], f(xs[1], w))


# kernel size, stride, output_padding, dilation, and what Keras 3 returns with padding="same" for x = 1, 2, 3 and a
# kernel 1, 10, 100, ...
KERAS = [
    (3, 2, 0, 1, [10, 102, 20, 203, 30]),
    (3, 2, 1, 1, [1, 10, 102, 20, 203, 30]),
    (4, 3, 0, 1, [100, 1002, 20, 200, 2003, 30]),
    (4, 3, 2, 1, [10, 100, 1002, 20, 200, 2003, 30, 300]),
    (5, 3, 1, 1, [10, 100, 1002, 10020, 200, 2003, 20030, 300]),
    (2, 1, 0, 3, [3, 10]),
]


def test_same_with_output_padding_is_keras():
    x = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)

    @jax.jit
    def all_of(x):
        return [
            ops.conv_transpose(
                x, 10.0 ** np.arange(k, dtype=np.float32).reshape(k, 1, 1), stride=s, output_padding=more, dilation=d
            )
            for k, s, more, d, _ in KERAS
        ]

    for y, (*_, want) in zip(all_of(x), KERAS, strict=True):
        assert y[0, :, 0].tolist() == want


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_dtypes(dtype):
    x, w, how, size = operands("2-d", dtype)
    y = ops.conv_transpose(x, w, **how)
    assert y.dtype == dtype
    assert_close(y, by_loops(*(np.asarray(v, np.float64) for v in (x, w)), size, **how))


X, W = jnp.ones((1, 3, 2)), jnp.ones((3, 1, 2))
BYTES = "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: ops.conv_transpose(X, jnp.ones(3)),
            ValueError,
            "expected w of shape [*kernel_size, features / groups, c] with 1 to 3 kernel axes, got float32[3].",
        ),
        (
            lambda: ops.conv_transpose(jnp.ones((3, 2)), W),
            ValueError,
            "expected x of shape [n, h, c], got float32[3, 2].",
        ),
        (
            lambda: ops.conv_transpose(X.astype(jnp.int32), W),
            TypeError,
            f"expected x of shape [n, h, c] and a floating dtype, got int32[1, 3, 2]. {BYTES}",
        ),
        (
            lambda: ops.conv_transpose(X, W.astype(jnp.bfloat16)),
            TypeError,
            "expected w of x's dtype float32, got bfloat16[3, 1, 2]. Cast one of them.",
        ),
        (
            lambda: ops.conv_transpose(X, jnp.ones((3, 1, 4))),
            ValueError,
            "expected x with the c = 4 channels of w, in 1 equal groups, got (float32[1, 3, 2], float32[3, 1, 4]).",
        ),
        (
            lambda: ops.conv_transpose(X, W, stride=2, padding=1, output_padding=2),
            ValueError,
            "expected output_padding less than the stride or the dilation, got 2.",
        ),
        (
            lambda: ops.conv_transpose(X[:, :1], jnp.ones((2, 1, 2)), stride=2, output_padding=0),
            ValueError,
            "expected padding that leaves something of (2,) steps, got 'same'.",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == f"conv_transpose: {text}"
