"""Moments of 8 bits: how many bytes, how far off, what becomes of zeros and of what is not finite."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnn as nn
from jaxnn.optimizers._quantized import _decode, _encode

pytestmark = pytest.mark.usefixtures("optimized")

LEVELS = (np.arange(128) / 127) ** 4  # the docstring's, float64
tables = jax.jit(lambda x, step, block: _decode(*_encode(x, block, step), block), static_argnums=2)


def stored(x, block, step=0):
    """What is read back of `x`."""
    return np.asarray(tables(jnp.asarray(x, jnp.float32), jnp.uint32(step), block))


def heavy(*shape, seed=0):
    """Numbers of all sizes within twelve decades, and zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 10.0 ** rng.uniform(-10, 2, shape)
    return np.where(rng.random(shape) < 0.1, 0, x).astype(np.float32)


def nbytes(opt, params):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(opt.init, params)))


def two_updates(opt, first, second):
    """Both updates and both states; one program, as one by one every operation would be compiled for itself."""

    def run(first, second):
        u, state = opt.update(first, opt.init(first), first)
        return u, state, *opt.update(second, state, first)

    return jax.jit(run)(first, second)


# ---- bytes


@pytest.mark.parametrize("block", [64, 256, 2048])
@pytest.mark.parametrize("adam", [nn.adam, optax.adam], ids=["nn", "optax"])
def test_a_quarter_of_the_bytes(adam, block):
    params = {"w": jnp.zeros((300, 100)), "v": jnp.zeros((100, 64))}
    plain, opt = adam(0.1), nn.quantized(adam(0.1), block=block)
    blocks = 2 * (-(-30000 // block) - (-6400 // block))
    assert nbytes(plain, params) == 4 + 2 * 4 * 36400
    assert nbytes(opt, params) == 4 + 4 + 2 * 36400 + 4 * blocks  # the counts, the codes, the scales
    assert nbytes(opt, params) < 0.27 * nbytes(plain, params)


def test_what_is_stored_in_eight_bits():
    kinds = {
        "large": jnp.zeros((64, 64)),
        "half": jnp.zeros((64, 64), jnp.bfloat16),
        "small": jnp.zeros(4095),
        "complex": jnp.zeros((64, 64), jnp.complex64),
    }
    state = jax.eval_shape(nn.quantized(nn.sgd(0.1, 0.9)).init, kinds)
    assert jax.tree.map(lambda x: str(x.dtype), state["inner"]["trace"]) == {
        "large": "int8",
        "half": "int8",
        "small": "float32",
        "complex": "complex64",
    }
    assert (state["scale"].shape, state["scale"].dtype, state["step"].dtype) == ((32,), jnp.float32, jnp.uint32)


def test_float64_moments_stay(x64):
    x = jnp.linspace(0, 1, 5000, dtype=jnp.float64)
    u, state, *_ = two_updates(nn.quantized(nn.adam(0.1)), x, x)
    np.testing.assert_array_equal(u, two_updates(nn.adam(0.1), x, x)[0])
    assert {str(s.dtype) for s in jax.tree.leaves(state["inner"])} == {"int32", "float64"}
    assert state["scale"].shape == (0,)


def test_small_arrays_keep_every_bit():
    x = jnp.asarray(heavy(7, 9))
    *got, state = two_updates(nn.quantized(nn.adam(0.1)), x, 2 * x)
    *want, plain = two_updates(nn.adam(0.1), x, 2 * x)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[2], want[2])
    jax.tree.map(np.testing.assert_array_equal, state["inner"], plain)


# ---- codes


SIZES = [((1,), 1), ((1,), 256), ((5,), 8), ((8,), 8), ((9,), 8), ((33, 31), 64), ((3, 0), 8), ((), 4)]


@pytest.mark.parametrize(("shape", "block"), SIZES, ids=str)
@pytest.mark.parametrize("step", [0, 1, 12345])
def test_a_value_becomes_one_of_the_two_levels_around_it(shape, block, step):
    x = heavy(*shape)
    y = stored(x, block, step)
    assert y.shape == x.shape
    x, y = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
    for i in range(0, x.size, block):
        own, read = np.abs(x[i : i + block]), np.abs(y[i : i + block])
        scale = own.max()
        above = np.clip(np.searchsorted(LEVELS * scale, own * (1 - 1e-6)), 1, 127)
        low, high = LEVELS[above - 1] * scale, LEVELS[np.minimum(above + 1, 127)] * scale
        exact = np.isclose(own, LEVELS[above] * scale, rtol=2e-6)
        high = np.where(exact, high, LEVELS[above] * scale)
        assert (read >= low * (1 - 1e-6)).all()
        assert (read <= high * (1 + 1e-6)).all()
        assert (np.abs(read - own) <= 0.0316 * scale).all()  # 1 - (126/127)⁴ is the widest
        np.testing.assert_allclose(read[own == scale], scale, rtol=1e-6)  # the largest is kept
    np.testing.assert_array_equal(np.sign(y), np.sign(x))


def test_what_is_read_is_stored_again_as_it_is():
    x = stored(heavy(40, 50), 64)
    for step in range(20):
        np.testing.assert_allclose(stored(x, 64, step), x, rtol=2e-6)


def test_over_the_steps_a_value_is_its_own_mean():
    x = heavy(256)
    reads = np.stack([stored(x, 64, step) for step in range(256)]).astype(np.float64)
    scale = np.repeat(np.abs(x).reshape(-1, 64).max(axis=1), 64).astype(np.float64)
    above = np.clip(np.searchsorted(LEVELS, np.abs(x) / scale), 1, 127)
    gap = (LEVELS[above] - LEVELS[above - 1]) * scale
    inside = np.abs(x) > LEVELS[1] * scale  # below the first level all are the first level
    # evenly over the steps: the error of the mean is a few gaps in 256, by chance it would be sixteen times a gap
    assert (np.abs(reads.mean(axis=0) - x) <= (3 / 256) * gap + 1e-6 * np.abs(x))[inside].all()


def test_a_moment_that_moves_by_a_thousandth_moves():
    opt = nn.quantized(nn.sgd(1.0, 0.999, dampening=0.999), min_size=1)
    g = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, 512), jnp.float32)

    @jax.jit
    def run(g):
        first = opt.update(jnp.zeros(512), opt.init(g))[1]
        return jax.lax.scan(lambda state, _: opt.update(g, state)[::-1], first, None, length=3000)[1]

    # a level and the next are 4/71 apart at a tenth of the largest; over all elements the errors are none
    moved = np.asarray(run(g))[999:] / (-np.asarray(g) * (1 - 0.999 ** np.arange(1000, 3001))[:, None])
    np.testing.assert_allclose(moved, 1, atol=4 / 71)
    np.testing.assert_allclose(moved.mean(axis=1), 1, atol=0.005)


# ---- zeros and what is not finite


@pytest.mark.parametrize(
    "x",
    [[1e30, 1e-20, 0, -1e-35], [1.0, -1e-12, 0, 1e-30], [1e-36, 1e-37, 0, -2e-38], [3e38, 1.0, 0, -1.0]],
    ids=["wide", "small", "tiny", "large"],
)
def test_zeros_stay_and_nothing_else_becomes_0(x):
    for step in range(50):
        y = stored(np.array(x), 4, step)
        np.testing.assert_array_equal(np.sign(y), np.sign(x))
        assert np.isfinite(y).all()


def test_an_array_of_zeros():
    np.testing.assert_array_equal(stored(np.zeros(100), 8), np.zeros(100))
    u, state, *_ = two_updates(nn.quantized(nn.adam(0.1), min_size=1), jnp.zeros(100), jnp.zeros(100))
    assert not np.any(u)
    assert not np.any(state["scale"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_its_block_nan(bad):
    x = np.linspace(-1, 1, 32).astype(np.float32)
    x[9] = bad
    y = stored(x, 8)
    assert np.isnan(y[8:16]).all()
    assert np.isfinite(np.delete(y, np.arange(8, 16))).all()


# ---- in an optimizer


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (nn.adam, 0.08),
        (optax.adam, 0.08),
        (nn.adagrad, 0.09),
        (nn.rmsprop, 0.03),
        (partial(nn.sgd, momentum=0.9), 0.03),
    ],
    ids=["adam", "optax adam", "adagrad", "rmsprop", "momentum"],
)
@pytest.mark.slow
def test_updates_stay_as_near_as_levels_are_to_each_other(make, most):
    """Moments of gradients that were given, the same for both: their errors come to a level's width, and no further."""
    rng = np.random.default_rng(0)
    gs = jnp.asarray(rng.standard_normal(600) + 0.3 * rng.standard_normal((1200, 600)), jnp.float32)

    def updates(opt):
        @jax.jit
        def run(gs):
            with jax.numpy_dtype_promotion("standard"):  # optax's own is not strict
                return jax.lax.scan(lambda s, g: opt.update(g, s)[::-1], opt.init(gs[0]), gs)[1]

        return np.asarray(run(gs))

    got, want = updates(nn.quantized(make(0.01), min_size=1)), updates(make(0.01))
    np.testing.assert_array_equal(got[0], want[0])  # the first knows no code yet
    off = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert 0 < off.max() < most
    assert off[-200:].mean() < 1.25 * off[300:500].mean()


def test_equal_leaves_are_not_rounded_alike():
    g = jnp.asarray(np.random.default_rng(0).standard_normal(4096), jnp.float32)
    p = {"a": g, "b": g}
    trace = two_updates(nn.quantized(nn.sgd(1.0, 0.9)), p, p)[1]["inner"]["trace"]
    assert (trace["a"] != trace["b"]).mean() > 0.2
    assert np.abs(np.asarray(trace["a"], int) - np.asarray(trace["b"], int)).max() == 1


@pytest.mark.slow
def test_codes_find_their_scales():
    """Leaves of several sizes, one stored as it is."""
    rng = np.random.default_rng(0)
    sizes = {"a": 70, "b": 7, "c": 65, "d": 64}
    p = {k: jnp.asarray(10.0**i * rng.standard_normal(n), jnp.float32) for i, (k, n) in enumerate(sizes.items())}
    opt = nn.quantized(nn.sgd(1.0, 0.5), block=32, min_size=64)
    _, state, u, _ = two_updates(opt, p, jax.tree.map(jnp.zeros_like, p))
    assert state["scale"].shape == (3 + 3 + 2,)
    for name, x in p.items():
        np.testing.assert_allclose(u[name], -0.5 * x, atol=0.5 * 0.0316 * np.abs(x).max())


# ---- errors


class Counted:
    """An optimizer that keeps int8 of its own."""

    opt = optax.GradientTransformation(lambda p: jnp.zeros(3, jnp.int8), lambda g, s, p=None: (g, s))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nn.quantized(0.1), TypeError, "quantized: expected an optax.GradientTransformation, got 0.1."),
        (
            lambda: nn.quantized(Counted.opt).init(jnp.ones(3)),
            ValueError,
            "quantized: expected an optimizer without int8 arrays in its state, got int8[3]. "
            "Its own int8 arrays could not be told from codes.",
        ),
    ],
    ids=["no optimizer", "int8 of its own"],
)
def test_errors(call, error, text):
    with pytest.raises(error) as excinfo:
        call()
    assert str(excinfo.value) == text
