"""Activations along axes against float64: values, gradients, axes, dtypes, transformations, rows at the ends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from _close import assert_close

from jaxnn import activations as act

DTYPES = ["float32", "bfloat16", "float16", "float64"]


def glu(x, axis):
    a, b = np.split(x, 2, axis)
    return a * scipy.special.expit(b)


def standardize(x, axis, eps=1e-5):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


CASES = {
    "glu": (act.glu, glu, (-1, 0, 1)),
    "softmax": (act.softmax, scipy.special.softmax, (-1, 0, (0, -1), (0, 1, 2))),
    "log_softmax": (act.log_softmax, scipy.special.log_softmax, (-1, 1, (0, 2))),
    "standardize": (act.standardize, standardize, (-1, 0, (1, 2), (0, 1, 2))),
    "standardize eps": (partial(act.standardize, eps=0.5), partial(standardize, eps=0.5), (-1,)),
}
every = pytest.mark.parametrize("name", CASES)


def drawn(dtype="float32", size=3.0):
    return jnp.asarray(size * np.random.default_rng(0).standard_normal((4, 6, 2)), dtype)


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_along_every_axis(name, dtype, x64):
    f, reference, axes = CASES[name]
    x = drawn(dtype)
    for axis in axes:
        y = f(x, axis=axis)
        assert y.dtype == dtype
        assert_close(y, reference(np.asarray(x, np.float64), axis=axis))


@every
@pytest.mark.slow
def test_gradients_are_differences(name, x64):
    f, reference, axes = CASES[name]
    x, rng, h = np.asarray(drawn("float64")), np.random.default_rng(1), 1e-6
    for axis in axes:
        u = rng.standard_normal(reference(x, axis=axis).shape)
        along = rng.standard_normal(x.shape)
        slope = jax.grad(lambda x, axis=axis, u=u: jnp.sum(u * f(x, axis=axis)))(jnp.asarray(x))
        difference = (reference(x + h * along, axis=axis) - reference(x - h * along, axis=axis)) / (2 * h)
        np.testing.assert_allclose(np.sum(slope * along), np.sum(u * difference), rtol=1e-6, atol=1e-8)


@every
def test_transformed_is_the_same(name):
    f, *_ = CASES[name]
    x = drawn()
    y = f(x)
    assert_close(jax.jit(f)(x), y)
    assert_close(jax.vmap(f)(x), y)
    assert_close(jax.lax.map(f, x), y)


@pytest.mark.parametrize(
    ("row", "share", "logarithm"),
    [
        ([1e4, -1e4], [1, 0], [0, -2e4]),
        ([-np.inf, 0.0, 0.0], [0, 0.5, 0.5], [-np.inf, -np.log(2), -np.log(2)]),
        ([3e38, 3e38], [0.5, 0.5], [-np.log(2), -np.log(2)]),
        ([5.0], [1], [0]),
        ([-np.inf, -np.inf], [np.nan] * 2, [np.nan] * 2),
        ([np.inf, 0.0], [np.nan] * 2, [np.nan] * 2),
    ],
    ids=str,
)
def test_softmax_at_the_ends(row, share, logarithm):
    x = jnp.array(row)
    np.testing.assert_allclose(act.softmax(x), share, rtol=1e-6)
    np.testing.assert_allclose(act.log_softmax(x), logarithm, rtol=1e-6)


def test_a_masked_entry_gets_no_gradient():
    for f in (act.softmax, act.log_softmax):
        slope = jax.grad(lambda x, f=f: f(x)[1])(jnp.array([-jnp.inf, 0.3, 0.7]))
        assert np.isfinite(slope).all()
        assert slope[0] == 0


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "standardize"])
def test_no_examples(name):
    assert getattr(act, name)(jnp.zeros((0, 3))).shape == (0, 3)
    assert act.glu(jnp.zeros((0, 4))).shape == (0, 2)


def test_a_large_mean_costs_no_precision():
    x = np.random.default_rng(0).standard_normal((3, 50)) / 16 + 1000
    x = x.astype(np.float32)
    assert_close(act.standardize(jnp.asarray(x), eps=1e-9), standardize(x.astype(np.float64), -1, 1e-9))


def test_an_odd_number_has_no_halves():
    with pytest.raises(ValueError, match=r"^glu: expected an even number of entries along axis 0, got float32\[3, 4\]"):
        act.glu(jnp.zeros((3, 4)), axis=0)
