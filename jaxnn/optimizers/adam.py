"""Adam and what differs from it by an option: decoupled decay, Nesterov's momentum, the largest second moment."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._numbers import check_decay, check_number, complement, ema, known, number
from jaxnn.optimizers._lift import Slots, per_leaf
from jaxnn.optimizers._moments import Corrections, corrections, first_moment, second_moment
from jaxnn.optimizers._rule import (
    bounded,
    check_dtype,
    check_flag,
    check_style,
    ema_square,
    over,
    plus_eps,
    real_f32,
    zeros_f32,
)


@recorded
def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = False,
    style: str = "optax",
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam on every leaf, [...] -> [...]: the mean gradient over its root mean square.

        m <- m + (1 - b1)(g - m);   v <- v + (1 - b2)(|g|² - v)
        m̂ = m / (1 - b1^t);   v̂ = v / (1 - b2^t);   update = -lr m̂ / (sqrt(v̂ + eps_root) + eps)
        with Nesterov  m̂ = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)

    Args:
      learning_rate: lr >= 0, or a schedule (count from 0 -> rate).
      b1, b2: in [0, 1); an array is held half a spacing of its dtype below 1, so a bfloat16 0.999 stays finite.
      eps: >= 0, outside the root; at 0 a gradient of 0 gives 0, NaN in optax and PyTorch.
      eps_root: >= 0, inside the root; above 0 where update is differentiated, as √ has no slope at 0.
      mu_dtype: of the slot `mu`; None is the parameter's, but at least float32. The slot `nu` is real.
      style: whose numbers: "optax" and "torch" are the formula above, "keras" adds eps before √v is corrected,
        eps / sqrt(1 - b2^t) here. It sets the formula alone, not the defaults: Keras has eps 1e-7.
      weight_decay: λ >= 0 or a schedule: λ p is added to g (L2), and `update` needs params. None leaves it out.
      mask: which leaves decay: globs of their paths ("*/w"), a tree of bools, a prefix of params, or a function to one.
      decoupled: λ p is added to m̂ / (...) instead, as in `adamw` and in Keras.

    Raises ValueError for an argument out of range and for what another style lacks, TypeError for one of another kind.

    As optax, and PyTorch at the same arguments. Unlike optax: slots are at least float32 (bfloat16 rounds b2 to 1 and
    freezes them); 1 - b and 1 - b^t are taken without cancellation and slots move by increments, which brings the error
    of an update over 2000 float32 steps from 1e-5 to 1e-6 of the coordinate's largest; a finite gradient beyond 4.6e18
    (in float32) counts as 4.6e18, as its square would overflow and stop the coordinate for good; `nu` of a complex
    parameter is real.

    Kingma and Ba, Adam: a method for stochastic optimization, 2015, Algorithm 1; Dozat, Incorporating Nesterov
    momentum into Adam, 2016.

    >>> opt = adam(0.5)
    >>> update, state = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4), int(state["count"])
    (Array([-0.5,  0.5], dtype=float32), 1)
    """
    check_style("adam", style, nesterov=nesterov, eps_root=bool(known(eps_root) and eps_root != 0))
    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    return _adam(
        "adam", learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, early_eps=style == "keras", **decay
    )


@recorded
def adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with decoupled weight decay on every leaf, [...] -> [...].

        update = -lr (m̂ / (sqrt(v̂ + eps_root) + eps) + λ p)

    The decay of a weight is λ whatever its gradients are, where L2 inside Adam is divided by their size.

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov: as in `adam`.
      weight_decay: λ >= 0 or a schedule; it is scaled by the rate. All but a Python 0 need params in `update`.
      mask: which leaves decay: globs of their paths ("*/w"), a tree of bools, a prefix of params, or a function to one.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax; PyTorch's default λ is 1e-2, Keras's 4e-3. Beyond optax: what `adam` says, and globs for mask.

    Loshchilov and Hutter, Decoupled weight decay regularization, 2019, Algorithm 2.

    >>> opt = adamw(0.5, weight_decay=0.1, mask="w")
    >>> params, grads = {"w": jnp.ones(1), "b": jnp.ones(1)}, {"w": jnp.ones(1), "b": jnp.ones(1)}
    >>> update, _ = opt.update(grads, opt.init(params), params)
    >>> update["w"].round(4), update["b"].round(4)
    (Array([-0.55], dtype=float32), Array([-0.5], dtype=float32))
    """
    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": True}
    return _adam("adamw", learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, **decay)


@recorded
def nadam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    *,
    nesterov: bool = True,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with Nesterov's momentum on every leaf, [...] -> [...].

        m̂ = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t);   update = -lr m̂ / (sqrt(v̂ + eps_root) + eps)

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, decoupled: as in `adam`.
      nesterov: False is `adam`; the argument is optax's.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax. PyTorch and Keras raise b1 from step to step, b1 (1 - 0.5 · 0.96^(t/250)), as Dozat's report has it;
    the later paper, and optax, leave it.

    Dozat, Incorporating Nesterov momentum into Adam, 2016.

    >>> opt = nadam(0.5)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4)
    Array([-0.736...,  0.736...], dtype=float32)
    """
    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    return _adam("nadam", learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, **decay)


@recorded
def amsgrad(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Any = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with the largest second moment so far on every leaf, [...] -> [...]: rates that never rise.

        w <- max(w, v̂);   update = -lr m̂ / (sqrt(w + eps_root) + eps)

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, decoupled: as in `adam`.
      bias_correction_mu, bias_correction_nu: m̂ = m / (1 - b1^t), v̂ = v / (1 - b2^t); False leaves m or v as it is, and
        both False is the paper.

    Raises ValueError for an argument out of range, TypeError for one of another kind.

    As optax; PyTorch and Keras keep the largest v and correct it afterwards, max(v) / (1 - b2^t), so that their w does
    fall while the correction does. Slots `mu`, `nu`, `nu_max`.

    Reddi, Kale, Kumar, On the convergence of Adam and beyond, 2018, Algorithm 2.

    >>> opt = amsgrad(0.5, b1=0.0, b2=0.0)
    >>> _, state = opt.update(jnp.array([4.0]), opt.init(jnp.zeros(1)))
    >>> opt.update(jnp.array([1.0]), state)[0].round(4)
    Array([-0.125], dtype=float32)
    """
    check_flag("amsgrad", "bias_correction_mu", bias_correction_mu)
    check_flag("amsgrad", "bias_correction_nu", bias_correction_nu)
    corrected = (bias_correction_mu, bias_correction_nu)
    decay: dict[str, Any] = {"weight_decay": weight_decay, "mask": mask, "decoupled": decoupled}
    return _adam("amsgrad", learning_rate, b1, b2, eps, eps_root, mu_dtype, largest=True, corrected=corrected, **decay)


def _adam(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    b1: Any,
    b2: Any,
    eps: Any,
    eps_root: Any,
    mu_dtype: Any,
    *,
    nesterov: bool = False,
    early_eps: bool = False,
    largest: bool = False,
    corrected: tuple[bool, bool] = (True, True),
    **decay: Any,
) -> optax.GradientTransformationExtraArgs:
    check_decay(name, "b1", b1)
    check_decay(name, "b2", b2)
    check_number(name, "eps", eps)
    check_number(name, "eps_root", eps_root)
    check_dtype(name, "mu_dtype", mu_dtype)
    check_flag(name, "nesterov", nesterov)
    w1, w2 = complement(b1), complement(b2)

    def share(t: Array, dtype: np.dtype) -> Corrections:
        c = corrections(w1, w2, t, dtype, nesterov=nesterov)
        return c._replace(of_mu=c.of_mu if corrected[0] else 1.0, of_nu=c.of_nu if corrected[1] else 1.0)

    def step(g: Array, s: dict[str, Array], p: Any, c: Corrections) -> tuple[Array, dict[str, Array]]:
        new = {"nu": ema_square(s["nu"], g, w2)}
        g = bounded(g)
        new["mu"] = ema(s["mu"], g, w1)
        if largest:
            new["nu_max"] = jnp.maximum(s["nu_max"], number(c.of_nu, new["nu"]) * new["nu"])
            root = second_moment(c._replace(of_nu=1.0), new["nu_max"], eps_root)
        else:
            root = second_moment(c, new["nu"], eps_root)
        divisor = plus_eps(root, eps, jnp.sqrt(c.of_nu) if early_eps else 1.0)
        return over(first_moment(c, new["mu"], g), divisor), new

    slots: Slots = {"mu": partial(zeros_f32, dtype=mu_dtype), "nu": real_f32}
    if largest:
        slots = {**slots, "nu_max": real_f32}
    return per_leaf(slots, step, learning_rate, name=name, share=share, elementwise=True, **decay)
