"""Mean, variance and normalisation against float64, where cancellation and narrow dtypes hurt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax.test_util import check_grads

from jaxnn import ops


@pytest.mark.parametrize("axis", [0, -1, (0, 1), (0, 2), (0, 1, 2), [1]])
@pytest.mark.usefixtures("x64")
def test_moments(axis):
    x = np.random.default_rng(0).standard_normal((4, 5, 3))
    along = axis if isinstance(axis, int) else tuple(axis)
    for f in (lambda x: ops.moments(x, axis), jax.jit(lambda x: ops.moments(x, axis))):
        mean, var = f(x)
        assert_close(mean, np.sum(x, along) / np.prod(np.take(x.shape, along)))
        assert_close(var, np.std(x, along) ** 2)


def test_a_variance_of_2_5e_5_at_mean_1000():
    x = (1000 + 0.005 * np.random.default_rng(0).choice([-1.0, 1.0], (4096, 3))).astype(np.float32)
    mean, var = ops.moments(x, 0)
    want = x.astype(np.float64)
    np.testing.assert_allclose(mean, want.mean(0), rtol=1e-6)
    np.testing.assert_allclose(var, want.var(0), rtol=1e-4)
    y = ops.normalize(jnp.asarray(x), mean, var, 0.0, None, None)
    np.testing.assert_allclose(y, (want - want.mean(0)) / want.std(0), atol=0.02)  # 1000 has an ulp of 6e-5


@pytest.mark.parametrize("row", [10, 30, 50])  # on a CPU three rows are used to shift x: the 11th, 31st and 51st of 61
def test_an_outlier_of_1000_deviations_costs_no_digits(row):
    x = np.random.default_rng(0).standard_normal((61, 3)).astype(np.float32)
    x[row] = 1000
    mean, var = ops.moments(x, 0)
    assert_close(mean, x.astype(np.float64).mean(0))
    assert_close(var, x.astype(np.float64).var(0))


def test_a_constant_has_variance_0():
    assert ops.moments(jnp.full((7, 5, 1), 0.1), (0, 1))[1].item() == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_inputs_have_float32_statistics_and_their_own_output(dtype):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2000, 3)) * 100, dtype)  # 2000 squares overflow float16
    mean, var = ops.moments(x, 0)
    wide = np.asarray(x, np.float64)
    assert (mean.dtype, var.dtype) == (jnp.float32, jnp.float32)
    assert_close(mean, wide.mean(0), scale=100.0)
    assert_close(var, wide.var(0))
    scale, bias = jnp.array([1.0, 2.0, 3.0], dtype), jnp.array([0.0, 1.0, -1.0], dtype)
    y = ops.normalize(x, mean, var, 1e-5, scale, bias)
    assert y.dtype == dtype
    assert_close(y, (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5) * [1, 2, 3] + [0, 1, -1])


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (2, 2, 4, 3), (0, 3)])
@pytest.mark.usefixtures("x64")
def test_normalize_over_the_last_axis(shape):
    rng = np.random.default_rng(0)
    x, (mean, scale, bias), var = rng.standard_normal(shape), rng.standard_normal((3, 3)), np.array([0.5, 1.0, 4.0])
    assert_close(
        ops.normalize(*map(jnp.asarray, (x, mean, var)), 0.25, jnp.asarray(scale), jnp.asarray(bias)),
        (x - mean) * (var + 0.25) ** -0.5 * scale + bias,
    )
    assert_close(
        ops.normalize(*map(jnp.asarray, (x, mean, var)), jnp.float32(0.25), None, None),
        (x - mean) / np.sqrt(var + 0.25),
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_gradients_through_the_statistics():
    x, scale, bias = (jnp.asarray(np.random.default_rng(i).standard_normal(s)) for i, s in enumerate([(5, 3), 3, 3]))

    def f(x, scale, bias):
        return ops.normalize(x, *ops.moments(x, 0), 1e-3, scale, bias)

    check_grads(jax.jit(f), (x, scale, bias), order=2, atol=1e-5, rtol=1e-5)
    assert_close(jax.vmap(f)(*(jnp.stack([v, 2 * v]) for v in (x, scale, bias)))[1], f(2 * x, 2 * scale, 2 * bias))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (
            np.zeros((2, 3), np.int32),
            "moments: expected x of a floating dtype, got int32[2, 3]. Cast it: jnp.asarray(x, jnp.float32).",
        ),
        ([1.0], "moments: expected x to be an array, got [1.0]. Convert it: np.asarray(x, np.float32)."),
    ],
)
def test_errors(x, text):
    with pytest.raises(TypeError) as caught:
        ops.moments(x, 0)
    assert str(caught.value) == text
