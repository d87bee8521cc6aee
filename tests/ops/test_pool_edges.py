"""Pools at -inf, NaN, zeros and large exponents; their form by platform; symbolic sizes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _close import assert_close
from jax import export, lax

from jaxnn import ops
from jaxnn.ops import _largest

INF, NAN = jnp.inf, jnp.nan


def both_forms(monkeypatch, f):
    """What f gives by slices, as on a CPU, and by `select_and_scatter`, as on an accelerator, both run on this CPU."""
    sliced = jax.jit(lambda: f()).lower()
    monkeypatch.setattr(_largest, "SLICED_TAPS", 0)
    monkeypatch.setattr(_largest, "SLICED_TAPS_OF_A_GRADIENT", 0)
    other = jax.jit(lambda: f()).lower()
    assert sliced.as_text() != other.as_text()
    return sliced.compile()(), other.compile()()


@pytest.mark.slow
def test_padding_never_wins_against_an_infinity_of_x_as_in_pytorch():
    """torch.nn.functional.max_pool2d(x, 2, padding=1, return_indices=True): [[0, 1], [2, 3]]."""
    x = jnp.full((1, 2, 2, 1), -INF).at[0, 1, 1, 0].set(0)
    y, places = ops.max_pool_with_indices(x, 2, padding=1)
    assert places[0, :, :, 0].tolist() == [[0, 1], [2, 3]]
    assert y[0, :, :, 0].tolist() == [[-INF, -INF], [-INF, 0]]
    assert jnp.array_equal(ops.max_unpool(y, places, 2), x)


@pytest.mark.slow
def test_the_gradient_goes_to_the_first_of_equal_values_on_each_platform(monkeypatch):
    rows = [
        ([-INF, -INF, -INF], [2, 1, 1]),  # windows (pad, 0), (0, 1), (1, 2), (2, pad)
        ([-INF, 0.0, -INF], [1, 2, 1]),
        ([2.0, 2.0, 1.0], [2, 1, 1]),
        ([NAN, 1.0, 0.0], [2, 1, 1]),
        ([1.0, NAN, NAN], [1, 2, 1]),
        ([INF, INF, -INF], [2, 1, 1]),
    ]
    x, gradients = jnp.array([row for row, _ in rows])[..., None], [gradient for _, gradient in rows]
    f = lambda: jax.grad(lambda x: ops.max_pool(x, 2, stride=1, padding=1).sum())(x)  # noqa: E731
    for got in both_forms(monkeypatch, f):
        assert got[..., 0].tolist() == gradients
    by_index = jax.grad(lambda x: ops.max_pool_with_indices(x, 2, stride=1, padding=1)[0].sum())(x)
    assert by_index[..., 0].tolist() == gradients


@pytest.mark.parametrize(
    "how", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2, "dilation": 2}]
)
@pytest.mark.usefixtures("x64")
@pytest.mark.slow
def test_derivatives_of_both_forms_are_equal_in_all_modes(monkeypatch, how):
    rng = np.random.default_rng(0)
    x, t, s = (jnp.asarray(rng.standard_normal((2, 3, 6, 5, 2))) for _ in range(3))
    f = jax.vmap(lambda x: jnp.sin(ops.max_pool(x, **how)))

    def derivatives():
        y, pull = jax.vjp(f, x)
        second = jax.jvp(jax.grad(lambda x: f(x).sum()), (x,), (t,))
        reverse = jax.grad(lambda x: (jax.grad(lambda x: f(x).sum())(x) * s).sum())(x)
        return jax.jvp(f, (x,), (t,)), pull(y), second, reverse, jax.linearize(f, x)[1](t)

    got, want = both_forms(monkeypatch, derivatives)
    jax.tree.map(assert_close, got, want)


def test_the_form_of_max_pool_is_chosen_when_it_is_lowered():
    program = jax.jit(jax.grad(lambda x: jnp.square(ops.max_pool(x, 2)).sum())).trace(jnp.ones((1, 4, 4, 2)))
    texts = {p: program.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "tpu", "cuda")}
    assert {p: "select_and_scatter" in t for p, t in texts.items()} == {"cpu": False, "tpu": True, "cuda": True}
    assert {p: "reduce_window" in t for p, t in texts.items()} == {"cpu": False, "tpu": True, "cuda": True}


@pytest.mark.parametrize(
    ("kernel_size", "shape", "dtype", "fused"),
    [
        (2, (2, 6, 6, 16), "float32", True),
        (2, (2, 6, 6, 8), "float32", False),
        (3, (2, 6, 6, 16), "float32", False),
        (2, (2, 6, 6, 16), "bfloat16", False),
        (2, (32, 16, 16, 16), "float32", False),
    ],
)
def test_a_value_without_derivative_is_one_operation_where_xla_fuses_it(kernel_size, shape, dtype, fused):
    x = jnp.ones(shape, dtype)
    pool = partial(ops.max_pool, kernel_size=kernel_size)
    differentiated = jax.vmap(jax.value_and_grad(lambda x: pool(x[None]).astype(jnp.float32).sum()))
    assert ("reduce_window" in jax.jit(pool).lower(x).as_text()) == fused
    assert "reduce_window" not in jax.jit(differentiated).lower(x).as_text()


@pytest.mark.slow
def test_a_dilated_window_of_many_taps_has_a_gradient():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 12, 12, 1)), jnp.float32)
    got = jax.grad(lambda x: ops.max_pool(x, 6, dilation=2, stride=1).sum())(x)
    want = np.zeros((12, 12))
    for i in range(2):
        for j in range(2):
            seen = np.asarray(x)[0, i::2, j::2, 0]
            k, m = np.unravel_index(seen.argmax(), seen.shape)
            want[i + 2 * k, j + 2 * m] += 1
    np.testing.assert_array_equal(got[0, :, :, 0], want)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 50.0, 1000.0])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
@pytest.mark.slow
def test_lp_pool_of_any_exponent_and_magnitude(p, size):
    """In float64, of units of the largest: the p-norm scales with x."""
    x = np.random.default_rng(0).standard_normal((2, 6, 4, 3)).astype(np.float32)
    parts = np.abs(x.astype(np.float64)).reshape(2, 3, 2, 2, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(2, 3, 2, 3, 4)
    most = parts.max(-1)
    want = most * ((parts / most[..., None]) ** p).sum(-1) ** (1 / p)

    @jax.jit
    def pooled(x):
        y, pull = jax.vjp(lambda x: ops.lp_pool(x, 2, p=p), x)
        return y, pull(jnp.ones_like(y))[0]

    y, got = pooled(x * np.float32(size))
    np.testing.assert_allclose(y, want * size, rtol=1e-5)
    slope = (parts / want[..., None]) ** (p - 1)
    got = np.abs(np.asarray(got)).reshape(2, 3, 2, 2, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(2, 3, 2, 3, 4)
    np.testing.assert_allclose(got, slope, rtol=2e-3, atol=1e-5)


POOLS = {
    "max_pool": partial(ops.max_pool, kernel_size=3, stride=2),
    "max_pool, same": partial(ops.max_pool, kernel_size=3, stride=2, padding="same"),
    "max_pool, ceil": partial(ops.max_pool, kernel_size=3, stride=2, padding=1, ceil_mode=True),
    "max_pool_with_indices": partial(ops.max_pool_with_indices, kernel_size=3, stride=2, padding="same"),
    "max_unpool": lambda x: ops.max_unpool(*ops.max_pool_with_indices(x, 2), x.shape[1:-1]),
    "avg_pool": partial(ops.avg_pool, kernel_size=3, stride=2),
    "avg_pool, same": partial(ops.avg_pool, kernel_size=3, stride=2, padding="same"),
    "avg_pool, counted": partial(
        ops.avg_pool, kernel_size=3, stride=2, padding=1, ceil_mode=True, count_include_pad=True, dilation=1
    ),
    "lp_pool": partial(ops.lp_pool, kernel_size=3, stride=2, padding="same"),
    "global_max_pool": ops.global_max_pool,
    "global_avg_pool": ops.global_avg_pool,
    "adaptive_avg_pool": partial(ops.adaptive_avg_pool, size=2),
    "adaptive_max_pool": partial(ops.adaptive_max_pool, size=3),
    "gradient of max_pool": jax.grad(lambda x: jnp.sin(ops.max_pool(x, 3, stride=2, padding=1)).sum()),
    "gradient of avg_pool": jax.grad(lambda x: jnp.sin(ops.avg_pool(x, 3, stride=2, padding=1)).sum()),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.slow
def test_export_with_symbolic_batch_and_space(pool):
    f = POOLS[pool]
    b, h, w = export.symbolic_shape("b, h, w", constraints=["h>=2", "w>=2"])
    exported = export.export(jax.jit(f))(jax.ShapeDtypeStruct((b, h, w, 16), jnp.float32))
    for shape in ((2, 7, 6, 16), (1, 8, 9, 16)):
        x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), exported.call(x), jax.jit(f)(x))


@pytest.mark.parametrize("pool", [p for p in POOLS if "gradient" not in p])
@pytest.mark.parametrize(
    "x", [jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1)), jnp.zeros((1, 3, 3, 1)), -jnp.ones((2, 5, 4, 1))]
)
@pytest.mark.slow
def test_gradients_of_constant_inputs_are_finite_and_small(pool, x):
    out = POOLS[pool]
    loss = lambda x: (out(x)[0] if pool == "max_pool_with_indices" else out(x)).sum()  # noqa: E731
    assert np.abs(jax.jit(jax.grad(loss))(x)).max() <= 9


@pytest.mark.parametrize("pool", [p for p in POOLS if p != "max_unpool"])
@pytest.mark.slow
def test_no_examples_give_none(pool):
    x = jnp.zeros((0, 6, 6, 2))
    assert all(not v.size for v in jax.tree.leaves(POOLS[pool](x)))


@pytest.mark.parametrize("op", [ops.global_max_pool, partial(ops.adaptive_max_pool, size=1)])
def test_the_largest_of_infinities_and_of_nan(op):
    x = jnp.array([[-INF, -INF], [-INF, NAN]]).T.reshape(1, 2, 2)
    np.testing.assert_array_equal(op(x).reshape(-1), [-INF, NAN])
    assert jax.grad(lambda x: op(x).sum())(x[..., :1])[0, :, 0].tolist() == [0.5, 0.5]


def test_under_a_transformation_of_lax_it_is_one_operation():
    program = jax.make_jaxpr(lambda x: lax.map(lambda x: ops.max_pool(x, 2), x))(jnp.ones((3, 1, 4, 4, 1)))
    assert "jaxnn_largest" in str(program)
