"""Normalisation of each example by itself: float64 loops, gradients, extremes, narrow dtypes, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax.test_util import check_grads

from jaxnn import ops

SHAPE = (3, 4, 5, 6)


def standardized(part, eps):
    return (part - part.mean()) / np.sqrt(((part - part.mean()) ** 2).mean() + eps)


def by_part(x, parts, f):
    y = np.empty_like(x)
    for part in parts:
        y[part] = f(x[part])
    return y


def each(n):
    return [(i,) for i in range(n)]


PLACES = [(i, j, k) for i in range(3) for j in range(4) for k in range(5)]
CHANNELS = [(i, slice(None), slice(None), c) for i in range(3) for c in range(6)]
GROUPS = [(i, slice(None), slice(None), slice(2 * g, 2 * g + 2)) for i in range(3) for g in range(3)]


def response(x):
    y = np.empty_like(x)
    for c in range(6):
        near = x[..., max(0, c - 2) : c + 2]  # an even size reaches one further down
        y[..., c] = x[..., c] / (2 + 0.1 / 4 * (near**2).sum(-1)) ** 0.6
    return y


# the function of x, scale and bias, what it must be without them
CASES = {
    "layer_norm": (
        lambda x, s, b: ops.layer_norm(x, s, b, eps=0.1),
        lambda x: by_part(x, PLACES, partial(standardized, eps=0.1)),
    ),
    "layer_norm of all": (
        lambda x, s, b: ops.layer_norm(x, axis=1, eps=0.1) * s[None, None, None] + b[None, None, None],
        lambda x: by_part(x, each(3), partial(standardized, eps=0.1)),
    ),
    "rms_norm": (
        lambda x, s, b: ops.rms_norm(x, s, eps=0.1) + b[None, None, None],
        lambda x: by_part(x, PLACES, lambda part: part / np.sqrt((part**2).mean() + 0.1)),
    ),
    "group_norm": (
        lambda x, s, b: ops.group_norm(x, 3, s, b, eps=0.1),
        lambda x: by_part(x, GROUPS, partial(standardized, eps=0.1)),
    ),
    "instance_norm": (
        lambda x, s, b: ops.instance_norm(x, s, b, eps=0.1),
        lambda x: by_part(x, CHANNELS, partial(standardized, eps=0.1)),
    ),
    "local_response_norm": (
        lambda x, s, b: (
            ops.local_response_norm(x, 4, alpha=0.1, beta=0.6, k=2.0) * s[None, None, None] + b[None, None, None]
        ),
        response,
    ),
}


def operands(dtype=jnp.float64):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.standard_normal(s) + 1, dtype) for s in (SHAPE, 6, 6))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
def test_values(case):
    f, want = CASES[case]
    x, s, b = operands()
    assert_close(jax.jit(f)(x, s, b), want(np.asarray(x)) * np.asarray(s) + np.asarray(b))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_and_vmap(case):
    f, _ = CASES[case]
    args = operands()
    check_grads(jax.jit(f), args, order=2, eps=1e-4, atol=1e-5, rtol=1e-5)
    assert_close(jax.vmap(f)(*(jnp.stack([v, 2 * v]) for v in args))[1], f(*(2 * v for v in args)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", CASES)
def test_dtypes_and_an_x_of_1e4(case, dtype):
    f, want = CASES[case]
    x, s, b = operands(dtype)
    for big in (x, x * jnp.asarray(1e4, dtype)):  # the squares overflow float16
        y = f(big, s, b)
        assert y.dtype == dtype
        wide = [np.asarray(v, np.float64) for v in (big, s, b)]
        assert_close(y, want(wide[0]) * wide[1] + wide[2])


@pytest.mark.parametrize("level", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("f", [ops.layer_norm, ops.instance_norm, partial(ops.group_norm, groups=2)])
@pytest.mark.slow
def test_constant_rows_are_zero_with_a_finite_gradient(f, level):
    y, pull = jax.vjp(f, jnp.full((2, 3, 4), level))
    assert not np.asarray(y).any()
    assert np.isfinite(pull(jnp.ones_like(y))[0]).all()


@pytest.mark.parametrize("f", [ops.layer_norm, ops.rms_norm, ops.instance_norm, ops.local_response_norm])
def test_an_empty_batch(f):
    assert f(jnp.zeros((0, 3, 4))).shape == (0, 3, 4)


X = jnp.ones((2, 3, 4))
BYTES = "Convert it first, for example x.astype(jnp.float32) / 255 for images of bytes."


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: ops.layer_norm(X, jnp.ones(3)),
            "layer_norm: expected scale of shape [4], got float32[3]. Nothing is broadcast.",
        ),
        (
            lambda: ops.layer_norm(X, None, jnp.ones(4), axis=1),
            "layer_norm: expected bias of shape [3, 4], got float32[4]. Nothing is broadcast.",
        ),
        (lambda: ops.layer_norm(X, axis=3), "layer_norm: expected axis from -3 to 2, an axis of x, got 3."),
        (
            lambda: ops.rms_norm(X, jnp.ones(3)),
            "rms_norm: expected scale of shape [4], got float32[3]. Nothing is broadcast.",
        ),
        (
            lambda: ops.rms_norm(X.astype(int)),
            f"rms_norm: expected x of shape [..., *d] and a floating dtype, got int32[2, 3, 4]. {BYTES}",
        ),
        (lambda: ops.group_norm(X, 3), "group_norm: expected x with channels in 3 equal groups, got float32[2, 3, 4]."),
        (
            lambda: ops.group_norm(X, 2, jnp.ones(2)),
            "group_norm: expected scale of shape [4], got float32[2]. Nothing is broadcast.",
        ),
        (lambda: ops.instance_norm(X[0]), "instance_norm: expected x of shape [n, *space, c], got float32[3, 4]."),
    ],
)
def test_errors(call, text):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.slow
def test_lp_normalize_divides_by_the_norm_of_numpy_and_leaves_zeros():
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    for p in (1, 1.5, 2.0, 3, np.inf):
        for axis in (-1, 1, (1, 2)):
            size = np.abs(x.astype(np.float64))
            total = size.max(axis, keepdims=True) if p == np.inf else (size**p).sum(axis, keepdims=True) ** (1 / p)
            np.testing.assert_allclose(ops.lp_normalize(jnp.asarray(x), p, axis=axis), x / total, rtol=2e-6)
    for scale in (1e-30, 1e30):  # above: its squares overflow; below: eps, as PyTorch
        y = ops.lp_normalize(jnp.array([[3.0, 4.0]]) * scale, eps=1e-38)
        np.testing.assert_allclose(y, [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(ops.lp_normalize(jnp.array([3e-13, 4e-13])), [0.3, 0.4], rtol=1e-6)
    for p in (1, 1.5, 2.0, np.inf):
        y, pull = jax.vjp(lambda x, p=p: ops.lp_normalize(x, p), jnp.zeros((2, 3)))
        assert not np.asarray(y).any()
        assert not np.asarray(pull(jnp.ones_like(y))[0]).any()


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_of_lp_normalize_are_differences(p):
    check_grads(lambda x: ops.lp_normalize(x, p), (jnp.asarray([[0.3, -1.0, 2.0]]),), order=2, atol=1e-6, rtol=1e-6)
