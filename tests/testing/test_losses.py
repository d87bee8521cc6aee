"""`nn.testing.check_loss` on losses of the library; planted faults are in `test_properties.py`."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn as nn
from jaxnn import losses
from jaxnn.testing._losses import PROPERTIES

RNG = np.random.default_rng(0)
P, T = (jnp.asarray(RNG.standard_normal((4, 3)), jnp.float32) for _ in range(2))
LOGITS = jnp.asarray(RNG.standard_normal((4, 3, 5)), jnp.float32)
CHANCES = jnp.asarray(RNG.uniform(0.2, 0.8, (4, 3)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 5, (4, 3)), jnp.int32)
BITS = jnp.asarray(RNG.integers(0, 2, (4, 3)), jnp.int32)

# loss, prediction, target, further arguments
TABLE = {
    "squared_error": (losses.squared_error, P, T, {"minimum": 0.0}),
    "absolute_error": (losses.absolute_error, P, T, {"minimum": 0.0}),
    "huber": (partial(losses.huber, delta=0.7), P, T, {"minimum": 0.0}),
    "log_cosh": (losses.log_cosh, P, T, {"minimum": 0.0}),
    "quantile": (losses.quantile, P, T, {}),
    "softmax_cross_entropy": (losses.softmax_cross_entropy, LOGITS, LABELS, {"axes": 1}),
    "softmax_focal": (losses.softmax_focal, LOGITS, LABELS, {"axes": 1}),
    "binary_cross_entropy": (losses.binary_cross_entropy, P, BITS, {}),
    "hinge": (losses.hinge, P, BITS, {}),
    "poisson_nll": (losses.poisson_nll, P, BITS, {"extremes": (0.0, 10.0, -100.0)}),
    "on probabilities": (losses.binary_cross_entropy_on_probabilities, CHANCES, BITS, {"extremes": (0.0, 1.0)}),
    "cosine_distance": (losses.cosine_distance, LOGITS, LOGITS[::-1], {"axes": 1, "minimum": None}),
}


SLOW = ("squared_error", "softmax_cross_entropy", "on probabilities")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name in SLOW else pytest.param(name, marks=pytest.mark.nightly) for name in TABLE]
)
def test_losses_have_the_properties(name):
    loss, prediction, target, settings = TABLE[name]
    names = nn.testing.check_loss(loss, prediction, target, slack=1.0, **settings)
    assert names == tuple(rule for rule in PROPERTIES if rule != "minimum" or settings.get("minimum") is not None)


def test_optional_arguments_of_a_loss_are_not_needed():
    def loss(p, t):
        if p.shape != t.shape:
            raise ValueError("shapes differ")
        p, t = (a.astype(jnp.float64 if p.dtype == jnp.float64 else jnp.float32) for a in (p, t))
        return (p - t) ** 2

    names = nn.testing.check_loss(loss, P, T, minimum=0.0, without=("precision",))
    assert set(PROPERTIES) - set(names) == {"precision", "weights", "where"}
