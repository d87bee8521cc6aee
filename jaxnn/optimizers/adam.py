"""Adam, and Adam with Nesterov's momentum."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn.optimizers._lift import Slots, per_leaf
from jaxnn.optimizers._rule import (
    bounded,
    check_decay,
    check_dtype,
    check_flag,
    check_number,
    complement,
    ema,
    ema_square,
    epsilon,
    number,
    over,
    real_f32,
    weight,
    zeros_f32,
)


def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam on every leaf, [...] -> [...]: the mean gradient over its root mean square.

        m <- m + (1 - b1)(g - m);   v <- v + (1 - b2)(|g|² - v)
        m̂ = m / (1 - b1^t);   v̂ = v / (1 - b2^t);   update = -lr m̂ / (sqrt(v̂ + eps_root) + eps)
        with Nesterov  m̂ = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate).
      b1, b2: in [0, 1); an array is held half a spacing of its dtype below 1, so a bfloat16 0.999 stays finite.
      eps: >= 0, outside the root; at 0 a gradient of 0 gives NaN.
      eps_root: >= 0, inside the root; above 0 where update is differentiated, as √ has no slope at 0.
      mu_dtype: of the slot `mu`; None is the parameter's, but at least float32. The slot `nu` is real.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax, and PyTorch at the same arguments; Keras adds eps before it corrects √v, with 1e-7. Unlike optax: slots
    are at least float32 (bfloat16 rounds b2 to 1 and freezes them); 1 - b and 1 - b^t are taken without cancellation
    and slots move by increments, which brings the error of an update over 2000 float32 steps from 1e-5 to 1e-6 of
    the coordinate's largest; a finite gradient beyond 4.6e18 (in float32) counts as 4.6e18, as its square would
    overflow and stop the coordinate for good; `nu` of a complex parameter is real.

    Kingma and Ba, Adam: a method for stochastic optimization, 2015, Algorithm 1; Dozat, Incorporating Nesterov
    momentum into Adam, 2016.

    >>> opt = adam(0.5)
    >>> update, state = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4), int(state["count"])
    (Array([-0.5,  0.5], dtype=float32), 1)
    """
    check_decay("adam", "b1", b1)
    check_decay("adam", "b2", b2)
    check_number("adam", "eps", eps)
    check_number("adam", "eps_root", eps_root)
    check_dtype("adam", "mu_dtype", mu_dtype)
    check_flag("adam", "nesterov", nesterov)
    w1, w2 = complement(b1), complement(b2)

    def share(t: Array, dtype: np.dtype) -> tuple[Array, Array, Array]:
        c1, c2 = weight(w1, t, dtype), weight(w2, t, dtype)
        if not nesterov:
            return 1.0 / c1, jnp.zeros_like(c1), 1.0 / c2
        w = number(w1, c1)
        return (1.0 - w) / weight(w1, optax.safe_increment(t), dtype), w / c1, 1.0 / c2

    def step(g: Array, s: dict[str, Array], p: Any, shared: Any) -> tuple[Array, dict[str, Array]]:
        of_mu, of_g, of_nu = shared  # m̂ = of_mu m + of_g g;  v̂ = of_nu v
        nu = ema_square(s["nu"], g, w2)
        g = bounded(g)
        mu = ema(s["mu"], g, w1)
        m = number(of_mu, mu) * mu
        if nesterov:
            m = m + number(of_g, g) * g
        root = jnp.sqrt(of_nu * nu + number(eps_root, nu))
        return over(m, root + epsilon(eps, nu)), {"mu": mu, "nu": nu}

    slots: Slots = {"mu": partial(zeros_f32, dtype=mu_dtype), "nu": real_f32}
    return per_leaf(slots, step, learning_rate, name="adam", share=share)
