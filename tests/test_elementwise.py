"""Elementwise optimizers: those of the library, of optax and chains of both, and the transformations that are not."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnn as nn
from jaxnn._elementwise import Elementwise, Optimizer, is_elementwise

ADAM = nn.adam(1e-3)


def everything(params):
    return jax.tree.map(lambda _: True, params)


def halved(updates, state, params=None):
    return jax.tree.map(lambda g: g / 2, updates), state


YES = {
    "chain with clip": lambda: optax.chain(optax.clip(1.0), ADAM),
    "chain of ours": lambda: optax.chain(nn.rmsprop(0.1, centered=True, momentum=0.9), nn.lion(0.1), nn.rprop(0.1)),
    "chain of chains": lambda: optax.chain(optax.chain(nn.adamax(0.1), optax.scale(0.5)), optax.ema(0.9)),
    "schedule": lambda: optax.chain(nn.radam(optax.cosine_decay_schedule(1.0, 10)), optax.scale(0.5)),
    "optax": lambda: optax.rmsprop(0.1, centered=True, momentum=0.9),
    "injected": lambda: optax.inject_hyperparams(nn.adam)(1e-3),
    "compensated": lambda: nn.compensated(optax.chain(optax.clip(1.0), nn.adadelta())),
    "of the user": lambda: optax.GradientTransformation(lambda params: optax.EmptyState(), halved),
}
NO = {
    "global norm": lambda: optax.chain(optax.clip_by_global_norm(1.0), ADAM),
    "norms of arrays": lambda: optax.clip_by_block_rms(1.0),
    "trust ratio": lambda: optax.lamb(1e-3),
    "factored": lambda: optax.adafactor(1e-3),
    "centralized": lambda: optax.chain(optax.centralize(), ADAM),
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, key=0), ADAM),
    "stochastic": lambda: nn.stochastic_rounding(ADAM, jax.random.key(0)),
    "quantized": lambda: nn.quantized(ADAM),
    "mask": lambda: optax.chain(nn.adamw(1e-3, mask="*/w")),
    "mask function": lambda: optax.chain(nn.adamw(1e-3, mask=everything)),
    "mask of optax": lambda: optax.chain(optax.add_decayed_weights(0.1, mask=everything), ADAM),
    "groups": lambda: optax.chain(nn.by_path({"*": ADAM})),
    "groups of optax": lambda: optax.partition({True: ADAM}, everything),
    "all or nothing": lambda: optax.apply_if_finite(ADAM, 2),
    "accumulated": lambda: optax.MultiSteps(ADAM, 2).gradient_transformation(),
    "not an optimizer": lambda: nn.adam,
}


@pytest.mark.parametrize("name", YES)
def test_elementwise(name):
    assert is_elementwise(YES[name]())


@pytest.mark.parametrize("name", NO)
def test_not_elementwise(name):
    assert not is_elementwise(NO[name]())


def test_optimizers_of_the_library_say_so_by_their_class():
    assert type(ADAM) is Elementwise
    assert type(nn.adam(1e-3, weight_decay=0.1, mask="*/w")) is Optimizer
    assert repr(ADAM) == "adam(0.001)"


def test_asking_runs_nothing():
    """The question is answered by a trace of abstract arrays, without a computation."""
    seen = []

    def update(updates, state, params=None):
        seen.extend(jax.tree.leaves(updates))
        return updates, state

    assert is_elementwise(optax.GradientTransformation(lambda params: (), update))
    assert seen
    assert all(isinstance(x, jax.core.Tracer) for x in seen)
    assert jnp.dtype("float32") in {x.dtype for x in seen}
