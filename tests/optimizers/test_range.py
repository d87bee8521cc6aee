"""Gradients at the ends of the range: each has a named outcome."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.optimizers import adadelta, adagrad, adam, adamax, adamw, amsgrad, lion, nadam, radam, rmsprop, rprop, sgd

RATE = 0.5
MU, NEXT = (0.9 * (1 - 0.96 ** (t / 250) / 2) for t in (1, 2))
LOOK = NEXT * 0.1 / (1 - MU * NEXT) + 1  # the first m̂ of PyTorch's NAdam, of a gradient of 1
# an optimizer, and its first updates for gradients of 0, 1e-40 and 1e30, in units of the rate
TABLE = {
    "sgd": (sgd(RATE), (0, 1e-40, 1e30)),
    "sgd momentum": (sgd(RATE, 0.9), (0, 1e-40, 1e30)),
    "sgd nesterov": (sgd(RATE, 0.9, True), (0, 1e-40, 1.9e30)),
    "rmsprop": (rmsprop(RATE), (0, 1e-36, 10**0.5)),
    "rmsprop outside": (rmsprop(RATE, eps_in_sqrt=False), (0, 1e-32, 10**0.5)),
    "rmsprop momentum": (rmsprop(RATE, momentum=0.9, nesterov=True), (0, 1.9e-36, 1.9 * 10**0.5)),
    "rmsprop corrected": (rmsprop(RATE, bias_correction=True), (0, 1e-36, 1)),
    "rmsprop centered": (rmsprop(RATE, centered=True), (0, 1e-36, 1 / 0.09**0.5)),
    # the first variance is 0, so the update is g / eps, of the bounded g
    "rmsprop both": (rmsprop(RATE, 0.9, 1e-2, 0, False, True, bias_correction=True), (0, 1e-38, 4.6116860e20)),
    "adadelta": (adadelta(RATE), (0, 1e-40, (1e-6 / 0.1) ** 0.5)),
    "adagrad": (adagrad(RATE), (0, 1e-40 / 0.1**0.5, 1)),
    "adagrad of nothing": (adagrad(RATE, 0.0, 0.0), (0, 0, 1)),
    "adam": (adam(RATE), (0, 1e-32, 1)),
    "adam keras": (adam(RATE, preset="keras"), (0, 1e-32 * 0.001**0.5, 1)),
    "adamw": (adamw(RATE, weight_decay=0.0), (0, 1e-32, 1)),
    "nadam": (nadam(RATE), (0, (0.09 / 0.19 + 1) * 1e-32, 0.09 / 0.19 + 1)),
    "nadam torch": (nadam(RATE, preset="torch"), (0, LOOK * 1e-32, LOOK)),
    "amsgrad": (amsgrad(RATE), (0, 1e-32, 1)),
    "amsgrad torch": (amsgrad(RATE, preset="torch"), (0, 1e-32, 1)),
    "amsgrad keras": (amsgrad(RATE, preset="keras"), (0, 1e-32 * 0.001**0.5, 1)),
    "adamax": (adamax(RATE), (0, 1e-32, 1)),
    "radam": (radam(RATE), (0, 1e-40, 4.6116860e18)),  # no root in the first steps, but the bound
    "lion": (lion(RATE, weight_decay=0.0), (0, 0, 1)),  # a denormal is 0 to a CPU
    "rprop": (rprop(RATE), (0, 0, 1)),
    "rmsprop torch": (rmsprop(RATE, preset="torch"), (0, 1e-32, 10**0.5)),
    "adam nesterov": (adam(RATE, nesterov=True), (0, (0.09 / 0.19 + 1) * 1e-32, 0.09 / 0.19 + 1)),
}

every = pytest.mark.parametrize(("opt", "first"), TABLE.values(), ids=TABLE)


def finite(*trees):
    return all(np.isfinite(leaf.astype(jnp.float32)).all() for leaf in jax.tree.leaves(trees))


@every
def test_zero_denormal_and_huge(opt, first):
    g = jnp.array([0.0, 1e-40, 1e30], jnp.float32)
    u, state = opt.update(g, opt.init(jnp.zeros(3)))
    # a denormal may be flushed to 0
    np.testing.assert_allclose(u, -RATE * np.array(first), rtol=1e-5, atol=2e-32)
    for _ in range(3):
        u, state = opt.update(g, state)
        assert finite(u, state)


@pytest.mark.parametrize("options", [{}, {"bias_correction": True}, {"momentum": 0.9}], ids=str)
def test_no_eps_in_the_root_leaves_a_zero_gradient_at_0(options):
    opt = rmsprop(RATE, eps=0.0, **options)
    u, state = opt.update(jnp.array([0.0, 1.0]), opt.init(jnp.zeros(2)))
    np.testing.assert_allclose(u, [0, -RATE if "bias_correction" in options else -RATE * 10**0.5], rtol=1e-6)
    u, _ = opt.update(jnp.array([0.0, 1.0]), state)
    assert u[0] == 0
    assert np.isfinite(u).all()


@every
def test_infinite_and_nan_are_never_hidden(opt, first):
    u, state = opt.update(jnp.array([jnp.inf, -jnp.inf, jnp.nan]), opt.init(jnp.zeros(3)))
    assert not np.isfinite(u).any()
    if len(state) > 1:  # and they stay, until somebody looks
        assert not np.isfinite(opt.update(jnp.ones(3), state)[0]).any()


@every
def test_float16_is_squared_in_float32(opt, first):
    g = jnp.array([6e4, 1e-7], jnp.float16)
    u, state = opt.update(g, opt.init(jnp.zeros(2, jnp.float16)))
    want, _ = opt.update(g.astype(jnp.float32), opt.init(jnp.zeros(2)))
    np.testing.assert_array_equal(u, want.astype(jnp.float16))
    assert finite(state)


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(
    "make",
    [
        lambda c: adam(c(0.1), c(0.9), c(0.999), c(1e-8), c(0.0)),
        lambda c: adam(c(0.1), c(0.9999), c(0.9999), c(1e-8), nesterov=True),
        lambda c: nadam(c(0.1), c(0.9999), c(0.9999), c(1e-8), preset="torch"),
        lambda c: rmsprop(c(0.1), c(0.999), c(1e-8), c(0.0), momentum=c(0.9)),
        lambda c: rmsprop(c(0.1), c(0.9999), c(1e-8), centered=True, bias_correction=True),
        lambda c: adadelta(c(1.0), c(0.9999), c(1e-6)),
    ],
    ids=["adam", "nadam", "nadam torch", "rmsprop", "rmsprop both", "adadelta"],
)
def test_hyper_parameters_rounded_to_16_bits_stay_finite(make, kind):
    opt = make(lambda value: jnp.asarray(value, kind))  # 0.999 is 1 in bfloat16, 1e-8 is 0 in float16
    state = opt.init(jnp.zeros(3, kind))
    for _ in range(3):
        u, state = opt.update(jnp.array([0.0, 1.0, -2.0], kind), state)
        assert finite(u, state)
        assert u[0] == 0
        assert u[1] < 0 < u[2]


# ---- in float64 the same rules have room to spare

SCALED = {  # the update does not depend on the gradient's scale: it is that of float64, and no step beyond these
    "adam": (adam(RATE, eps=0.0), 3.0),
    "adam keras": (adam(RATE, eps=0.0, preset="keras"), 3.0),
    "amsgrad": (amsgrad(RATE, eps=0.0), 3.0),
    "nadam": (nadam(RATE, eps=0.0), 3.0),
    "nadam torch": (nadam(RATE, eps=0.0, preset="torch"), 3.0),
    "amsgrad torch": (amsgrad(RATE, eps=0.0, preset="torch"), 3.0),
    "adamax": (adamax(RATE), 1.0),
    "adamax of nothing": (adamax(RATE, eps=0.0), 1.0),
    "adagrad": (adagrad(RATE), 1.0),
    "rmsprop": (rmsprop(RATE, eps=0.0), 3.2),
    "rmsprop outside": (rmsprop(RATE, eps=0.0, eps_in_sqrt=False), 3.2),
    "rmsprop centered": (rmsprop(RATE, eps=0.0, centered=True), 3.4),
    "adadelta": (adadelta(RATE), 1.0),
    "adadelta of nothing": (adadelta(RATE, eps=0.0), 1.0),
    "lion": (lion(RATE, weight_decay=0.0), 1.0),
    "rprop": (rprop(RATE), 4.0),
}


def updates(opt, gradients, dtype):
    update, state, found = jax.jit(opt.update), opt.init(jnp.zeros(1, dtype)), []
    for g in gradients:
        u, state = update(jnp.full(1, g, dtype), state)
        found.append(u[0])
    return np.array(found, np.float64)


@pytest.mark.parametrize("size", [1.0, 1e-15, 1e18, 1e30, 3e38])
@pytest.mark.parametrize(("opt", "largest"), SCALED.values(), ids=SCALED)
def test_a_constant_gradient_of_any_size_moves_as_in_float64(opt, largest, size):
    signs = np.array([1, 1, 1, -1, -1, -1, 1, -1.0])
    got = updates(opt, signs * size, jnp.float32)
    with jax.enable_x64(True):
        want = updates(opt, signs * size, jnp.float64)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * np.abs(want).max())
    assert np.abs(got).max() <= largest * RATE * (1 + 1e-6)


@pytest.mark.parametrize(("opt", "largest"), SCALED.values(), ids=SCALED)
def test_no_gradient_however_small_makes_a_large_step(opt, largest):
    g = jnp.array([0.0, 2e-38, 1e-30, 1e-20, 1e-19, -1e-19])  # their squares are 0 in float32, or nearly
    state = opt.init(jnp.zeros(6))
    for _ in range(3):
        u, state = opt.update(g, state)
        assert finite(u, state)
        assert u[0] == 0
        assert np.abs(u).max() <= largest * RATE * (1 + 1e-6)
        assert np.all(u[1:5] <= 0)
        assert u[5] >= 0


@pytest.mark.parametrize("opt", [adamax(RATE), lion(RATE, weight_decay=0.0)], ids=["adamax", "lion"])
def test_a_mean_of_the_largest_numbers_does_not_overflow(opt):
    state, update = opt.init(jnp.zeros(2)), jax.jit(opt.update)
    for g in (*[3.4e38] * 40, *[-3.4e38] * 40, 1.0, -1.0):
        u, state = update(jnp.array([g, -g]), state)
        assert finite(u, state)
        assert np.abs(u).max() <= 1.001 * RATE


def test_the_sum_of_adagrad_ends_at_the_largest_number():
    got = updates(adagrad(RATE), [3e38] * 40, jnp.float32)
    assert np.all(got < -0.1 * RATE)  # 1 / sqrt(40) is 0.16: it moves on
