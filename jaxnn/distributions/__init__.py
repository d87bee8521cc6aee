"""Distributions as functions on arrays: log-probabilities, entropies, divergences and samples, for policies.

A function has the name of its distribution first: `categorical_log_prob(logits, value)`. Parameters come before values.
These rules hold for all of them:

* Nothing is broadcast, and no axis is summed but that of the classes: for a diagonal normal over [..., d], sum over the
  last axis. `jnp.broadcast_to(log_std, mean.shape)` repeats a log_std that all states share.
* Log-probabilities, entropies and divergences are in nats, in the dtype of the parameters, at least float32. Samples
  have the dtype of the parameters.
* Logits of -inf mask classes, such as actions that a state does not allow: they are never drawn, contribute nothing to
  entropies, and get gradient 0. A row without any other logit gives NaN.
* A value out of range gives NaN, in value and gradient.
* Samples of normal distributions have derivatives by mean and log_std; those of categorical ones have none.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.distributions._categorical import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    categorical_sample,
)
from jaxnn.distributions._normal import (
    normal_entropy,
    normal_kl,
    normal_log_prob,
    normal_sample,
    squashed_normal_log_prob,
    squashed_normal_sample,
)

__all__ = [
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_sample",
    "normal_entropy",
    "normal_kl",
    "normal_log_prob",
    "normal_sample",
    "squashed_normal_log_prob",
    "squashed_normal_sample",
]


if not TYPE_CHECKING:

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
