"""What holds of every rule whatever the shapes, dtypes and hyper-parameters: drawn at random."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxnn as nn
from jaxnn._dtypes import wide_dtype

# name -> its hyper-parameters and their ranges
RATES = {"learning_rate": (1e-6, 1.0)}
MOMENTS = {"b1": (0.0, 0.99), "b2": (0.0, 0.9999), "eps": (1e-8, 1.0)}
DECAY = {"weight_decay": (0.0, 1.0)}
RULES = {
    "sgd": (nn.sgd, RATES | {"momentum": (0.0, 0.99)} | DECAY),
    "rmsprop": (nn.rmsprop, RATES | {"decay": (0.0, 0.999), "eps": (1e-8, 1.0), "momentum": (0.0, 0.99)} | DECAY),
    "adadelta": (nn.adadelta, RATES | {"rho": (0.0, 0.999), "eps": (1e-8, 1.0)} | DECAY),
    "adagrad": (nn.adagrad, RATES | {"initial_accumulator_value": (0.0, 1.0), "eps": (1e-8, 1.0)} | DECAY),
    "adam": (nn.adam, RATES | MOMENTS | DECAY),
    "adamw": (nn.adamw, RATES | MOMENTS | DECAY),
    "amsgrad": (nn.amsgrad, RATES | MOMENTS | DECAY),
    "adamax": (nn.adamax, RATES | MOMENTS | DECAY),
    "nadam": (nn.nadam, RATES | MOMENTS | DECAY),
    "radam": (nn.radam, RATES | MOMENTS | DECAY),
    "lion": (nn.lion, RATES | {"b1": (0.0, 0.99), "b2": (0.0, 0.9999)} | DECAY),
    "lamb": (nn.lamb, RATES | MOMENTS | DECAY),
    "lars": (nn.lars, RATES | {"trust_coefficient": (0.0, 1.0), "momentum": (0.0, 0.99)} | DECAY),
    "adafactor": (
        partial(nn.adafactor, min_dim_size_to_factor=2),
        RATES | {"decay_rate": (0.1, 1.0), "momentum": (0.0, 0.99), "weight_decay_rate": (0.0, 0.0)},
    ),
    "muon": (nn.muon, RATES | {"beta": (0.0, 0.99), "adam_b2": (0.0, 0.9999), "eps": (1e-8, 1.0)} | DECAY),
    "rprop": (nn.rprop, RATES | {"eta_minus": (0.0, 0.9), "eta_plus": (1.0, 3.0)} | DECAY),
}
WHOLE = {"lamb", "lars", "adafactor", "muon"}  # their rules look at whole arrays
SHAPES = [(), (7,), (2, 0), (3, 4), (3, 2, 2)]
DTYPES = ["float32", "bfloat16", "float16", "complex64"]
STEPS = 3


@cache
def walk(name):
    """Updates of some steps as one program of gradients and hyper-parameters, all of them traced."""
    make, _ = RULES[name]

    def updates(gs, p, hyper):
        opt = make(**hyper)
        _, out = jax.lax.scan(lambda s, g: opt.update(g, s, p)[::-1], opt.init(p), gs)
        return out

    return jax.jit(updates)


@st.composite
def problems(draw, name):
    """Gradients [steps, ...], a parameter and hyper-parameters."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = 10.0 ** draw(st.integers(-6, 3))
    values = rng.normal(size=(STEPS + 1, *shape)) * size
    if dtype == "complex64":
        values = values + 1j * rng.normal(size=values.shape) * size
    values = jnp.asarray(values * (rng.uniform(size=values.shape) > 0.2), dtype)
    hyper = {k: np.float32(draw(st.floats(*bounds))) for k, bounds in RULES[name][1].items()}
    return values[:-1], values[-1], hyper


def drawn(test):
    """The test for every rule, on problems drawn from `data`."""
    test = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])(test)
    return pytest.mark.slow(pytest.mark.parametrize("name", RULES)(given(data=st.data())(test)))


@drawn
def test_finite_gradients_give_finite_updates_of_the_parameters_dtype(name, data):
    gs, p, hyper = data.draw(problems(name))
    out = walk(name)(gs, p, hyper)
    assert out.dtype == p.dtype
    assert out.shape == gs.shape
    # m / eps, where v is 0, may be 1e8: finite in float32, beyond float16
    unrounded = walk(name)(gs.astype(wide_dtype(gs.dtype)), p.astype(wide_dtype(p.dtype)), hyper)
    assert bool(jnp.all(jnp.isfinite(unrounded)))
    assert bool(jnp.all(jnp.isfinite(out) | (jnp.abs(unrounded) >= float(jnp.finfo(p.dtype).max))))


@drawn
def test_an_element_does_not_know_its_neighbours(name, data):
    gs, p, hyper = data.draw(problems(name))
    if not p.size or name in WHOLE:
        return
    finfo = jnp.finfo(gs.dtype)
    whole = np.asarray(walk(name)(gs, p, hyper)).reshape(STEPS, -1)
    for i in {0, p.size - 1}:
        one = np.asarray(walk(name)(gs.reshape(STEPS, -1)[:, i], p.reshape(-1)[i], hyper), whole.dtype)
        # the momentum and the gradient of a step may cancel: their roundings are as large as other steps' updates
        largest = float(np.max(np.abs(whole[:, i].astype(np.promote_types(whole.dtype, np.float32)))))
        atol = float(finfo.tiny) + 4 * float(finfo.eps) * largest
        np.testing.assert_allclose(one, whole[:, i], rtol=4 * float(finfo.eps), atol=atol)


@drawn
def test_a_rate_of_zero_moves_nothing(name, data):
    gs, p, hyper = data.draw(problems(name))
    if name == "rprop":  # its rate is the first step alone, bounded from below afterwards
        return
    out = walk(name)(gs, p, hyper | {"learning_rate": np.float32(0)})
    assert not np.any(np.asarray(out))


@drawn
def test_the_opposite_gradients_at_the_opposite_place_give_the_opposite_updates(name, data):
    gs, p, hyper = data.draw(problems(name))
    np.testing.assert_array_equal(walk(name)(-gs, -p, hyper), -walk(name)(gs, p, hyper))
