"""What the optimizers with two moments share: their corrections for a start at 0, and Nesterov's look ahead."""

from typing import Any, NamedTuple

import numpy as np
import optax
from jax import Array

from jaxnn._numbers import known, number, weight
from jaxnn.optimizers._rule import root


class Corrections(NamedTuple):
    """What all leaves share at a step: m̂ = of_mu m + of_g g (None without Nesterov); v̂ = of_nu v."""

    of_mu: Any
    of_g: Any
    of_nu: Any


def corrections(
    w1: float | Array, w2: float | Array, t: Array, dtype: np.dtype, *, nesterov: bool = False
) -> Corrections:
    """The factors at step t of means that move by w1 = 1 - b1 and w2 = 1 - b2.

    >>> corrections(0.5, 0.25, jnp.array(1), np.dtype("float32")).of_mu.item()
    2.0
    """
    c1, c2 = weight(w1, t, dtype), weight(w2, t, dtype)
    if not nesterov:
        return Corrections(1.0 / c1, None, 1.0 / c2)
    w = number(w1, c1)
    return Corrections((1.0 - w) / weight(w1, optax.safe_increment(t), dtype), w / c1, 1.0 / c2)


def first_moment(c: Corrections, mu: Array, g: Array) -> Array:
    """m̂, [...], [...] -> [...]."""
    m = number(c.of_mu, mu) * mu
    return m if c.of_g is None else m + number(c.of_g, g) * g


def second_moment(c: Corrections, nu: Array, eps_root: Any) -> Array:
    """sqrt(v̂ + eps_root), [...] -> [...]. XLA keeps a sum with 0: a Python 0 is left out."""
    v = number(c.of_nu, nu) * nu
    return root(v if known(eps_root) and eps_root == 0 else v + number(eps_root, nu))
