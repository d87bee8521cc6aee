"""Exponential moving averages against 50 decimal digits, at the ends of the range, with decays of every kind."""

from decimal import Decimal, localcontext

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn._moments import Average, Time

VALUES = [1.5, -2.0, 0.25, 1000.0, 1000.0, -0.001, 7.0, 7.0]


def exact(b, values=VALUES):
    """The averages after each value, in decimals: not debiased, debiased, and Nesterov's look ahead."""
    b, a, out = Decimal(b), Decimal(0), []
    with localcontext(prec=50):
        for t, x in enumerate(map(Decimal, values), 1):
            a = b * a + (1 - b) * x
            ahead = b * a / (1 - b ** (t + 1)) + (1 - b) * x / (1 - b**t)
            out.append((a, a / (1 - b**t), ahead))
    return np.array(out, float)


@pytest.mark.parametrize("b", [0.1, 0.5, 0.9, 0.999, 0.999999])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_an_average_and_its_corrections(b, dtype):
    average, a, debiased, got = Average(b), jnp.zeros((), dtype), jnp.zeros((), dtype), []
    for i, x in enumerate(VALUES):
        x, t = jnp.asarray(x, dtype), Time(jnp.array(i + 1))
        a, debiased = average.update(a, x), average.update_debiased(debiased, x, t)
        got.append((a, average.debias(a, t), average.debias_nesterov(a, x, t)))
        np.testing.assert_allclose(debiased, got[-1][1], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(np.array(got), exact(b), rtol=3e-6, atol=2e-6 * 1000)


@pytest.mark.parametrize("b", [0.0, 0.5, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("t", [1, 2, 1000, 2**31 - 1])
def test_the_weight_of_t_values_does_not_cancel(b, t):
    want = -np.expm1(np.float64(t) * np.log1p(-(1.0 - b))) if b else 1.0
    got = Average(b).weight(jnp.array(t), jnp.float32)
    np.testing.assert_allclose(got, want, rtol=3e-7)


DECAYS = {
    "np.float32": (np.float32(0.75), 0.25),
    "0-d": (np.array(0.75), 0.25),
    "float32": (jnp.float32(0.75), 0.25),
    "integer": (jnp.int32(0), 1.0),
    "bfloat16 below 1": (jnp.bfloat16(0.999), 2.0**-9),
    "float16 below 1": (jnp.float16(0.9999), 2.0**-12),
}


@pytest.mark.parametrize("kind", DECAYS)
def test_decays_of_every_kind(kind):
    b, w = DECAYS[kind]
    average = Average(b)
    assert float(average.w) == w
    a = average.update(jnp.zeros(()), jnp.array(3.0))
    np.testing.assert_allclose(average.debias(a, Time(jnp.array(1))), 3.0, rtol=1e-6)


LARGEST = float(np.finfo(np.float32).max)


def test_averages_at_the_ends_of_the_range():
    average, far = Average(0.5), jnp.array([LARGEST, -LARGEST, jnp.inf, jnp.nan])
    squares = average.update_square(jnp.zeros(4), far)
    assert np.isfinite(squares).tolist() == [True, True, False, False]
    assert np.isnan(squares[2:]).all()
    np.testing.assert_allclose(average.update_large(-far, far)[:2], [0.0, 0.0], atol=LARGEST * 1e-6)
    assert not np.isfinite(average.update_large(jnp.zeros(4), far)[2:]).any()


def test_scalars_of_a_step_are_computed_once_for_each_dtype():
    calls = []

    def f(t, dtype):
        calls.append(str(np.dtype(dtype)))
        return t.astype(dtype)

    t = Time(jnp.array(3))
    assert [float(t.once(f, d)) for d in (jnp.dtype("float32"), jnp.dtype("float16"), jnp.dtype("float32"))] == [3] * 3
    assert calls == ["float32", "float16"]
