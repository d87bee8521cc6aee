"""Adam and its variants: decoupled weight decay, Nesterov momentum, the largest second moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._inputs import known
from jaxnn._moments import Average, Time, bounded, root_plus_eps
from jaxnn.optimizers._checks import check_dtype, check_flags, check_numbers, check_preset
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import Slots, SlotValues, per_leaf, real_f32, zeros_f32
from jaxnn.types import Arrays, Mask


class Moments(NamedTuple):
    """Adam's averages of g (decay b1) and |g|² (decay b2), and the terms added to the root."""

    first: Average
    second: Average
    eps: Any
    eps_root: Any

    @classmethod
    def of(cls, name: str, b1: Any, b2: Any, eps: Any, eps_root: Any) -> Moments:
        """Raises ValueError or TypeError, in the name of the optimizer, for a number that is not in its range."""
        check_numbers(name, b1=b1, b2=b2, eps=eps, eps_root=eps_root)
        return cls(Average(b1), Average(b2), eps, eps_root)


def _adam_step(h: Moments, g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
    v, g = h.second.update_square(s["nu"], g), bounded(g)
    m = h.first.update(s["mu"], g)
    m_hat, v_hat = h.first.debias(m, t), h.second.debias(v, t)
    return m_hat / root_plus_eps(v_hat, h.eps, h.eps_root).astype(g.dtype), {"mu": m, "nu": v}


def _keras_step(h: Moments, g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
    v, g = h.second.update_square(s["nu"], g), bounded(g)
    m = h.first.update(s["mu"], g)
    m_hat, v_hat = h.first.debias(m, t), h.second.debias(v, t)
    eps_scale = jnp.sqrt(t.once(h.second.correction, v.dtype))
    return m_hat / root_plus_eps(v_hat, h.eps, h.eps_root, eps_scale=eps_scale).astype(g.dtype), {"mu": m, "nu": v}


def _nadam_step(h: Moments, g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
    v, g = h.second.update_square(s["nu"], g), bounded(g)
    m = h.first.update(s["mu"], g)
    m_hat, v_hat = h.first.debias_nesterov(m, g, t), h.second.debias(v, t)
    return m_hat / root_plus_eps(v_hat, h.eps, h.eps_root).astype(g.dtype), {"mu": m, "nu": v}


Debias = Callable[[Average, Array, Time], Array]


def _amsgrad_step(debias_m: Debias, debias_v: Debias, h: Moments, g: Array, s: SlotValues, p: Arrays, t: Time) -> Any:
    v, g = h.second.update_square(s["nu"], g), bounded(g)
    m = h.first.update(s["mu"], g)
    m_hat, v_max = debias_m(h.first, m, t), jnp.maximum(s["nu_max"], debias_v(h.second, v, t))
    return m_hat / root_plus_eps(v_max, h.eps, h.eps_root).astype(g.dtype), {"mu": m, "nu": v, "nu_max": v_max}


def _as_it_is(average: Average, mean: Array, t: Time) -> Array:
    return mean


def _slots(name: str, mu_dtype: Any) -> Slots:
    check_dtype(name, "mu_dtype", mu_dtype)
    return {"mu": partial(zeros_f32, dtype=mu_dtype), "nu": real_f32}


STEPS = {"optax": _adam_step, "torch": _adam_step, "keras": _keras_step}


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
    preset: str = "optax",
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam for every leaf, [...] -> [...]: the average gradient over its root mean square.

        m <- m + (1 - b1)(g - m);   v <- v + (1 - b2)(|g|² - v)
        m̂ = m / (1 - b1^t);   v̂ = v / (1 - b2^t);   update = -lr m̂ / (sqrt(v̂ + eps_root) + eps)
        nesterov   m̂ = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)

    Args:
      learning_rate: lr >= 0: a number, a traced scalar, or a schedule (updates so far -> rate).
      b1, b2: decays of m and v, in [0, 1); an array is kept half a spacing of its dtype below 1, so that
        bfloat16(0.999) stays finite.
      eps: >= 0, outside the root. With eps = 0 a zero gradient gives a zero update.
      eps_root: >= 0, inside the root; > 0 to differentiate through the update where a gradient is near 0.
      mu_dtype: dtype of the slot `mu` (m); None is the parameter's, at least float32. The slot `nu` (v) is real.
      nesterov: Nesterov momentum, as in `nadam`.
      preset: the library whose formula is used. "optax" and "torch" are the formula above; "keras" adds eps before v is
        debiased, which is eps / sqrt(1 - b2^t) here. Defaults do not change with it: Keras's eps is 1e-7.
      weight_decay: λ >= 0, a traced scalar or a schedule. None or a Python 0 is no decay; otherwise `update` requires
        params.
      mask: the leaves that decay: glob patterns of paths ("*/w", or a list of them), a tree of bools shaped like params
        or a prefix of it, or a function of params that returns one. None is all.
      decoupled: add λ p to m̂ / (...), as `adamw` and Keras do. False adds λ p to the gradient (L2).

    Raises: ValueError for a number out of its range, and for `nesterov` or `eps_root` with another preset than "optax";
      TypeError for an argument of the wrong type.

    Differences: The formula is that of optax and PyTorch. Slots are at least float32 (bfloat16 rounds b2 to 1 and v
      stays 0). 1 - b and 1 - b^t are computed without cancellation and slots move by increments: over 2000 float32
      steps the error of an update falls from 1e-5 to 1e-6 of its largest element. A finite gradient beyond 4.6e18 (in
      float32) counts as 4.6e18, since its square would overflow and stop the element permanently. With eps = 0, a zero
      gradient gives NaN in optax and PyTorch. `nu` of a complex parameter is real, unlike in optax.

    Reference: Kingma and Ba, Adam: a method for stochastic optimization, 2015, Algorithm 1; Dozat, Incorporating
      Nesterov momentum into Adam, 2016.

    >>> opt = adam(0.5)
    >>> update, state = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4), int(state["count"])
    (Array([-0.5,  0.5], dtype=float32), 1)
    """
    check_flags("adam", nesterov=nesterov)
    check_preset("adam", preset, nesterov=nesterov, eps_root=bool(known(eps_root) and eps_root != 0))
    step = _nadam_step if nesterov else STEPS[preset]
    slots, h = _slots("adam", mu_dtype), Moments.of("adam", b1, b2, eps, eps_root)
    decay = WeightDecay(weight_decay, mask, decoupled)
    return per_leaf("adam", slots, partial(step, h), learning_rate, decay)


@recorded
def adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with decoupled weight decay for every leaf, [...] -> [...].

        update = -lr (m̂ / (sqrt(v̂ + eps_root) + eps) + λ p)

    Decoupled decay shrinks every parameter at the same relative rate, lr λ. L2 in Adam is divided by the size of the
    parameter's gradients.

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov: as in `adam`.
      weight_decay, mask: as in `adam`; λ is multiplied by the rate.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax. The default λ is 1e-2 in PyTorch and 4e-3 in Keras. Masks may be glob
      patterns; the numerical differences are those of `adam`.

    Reference: Loshchilov and Hutter, Decoupled weight decay regularization, 2019, Algorithm 2.

    >>> opt = adamw(0.5, weight_decay=0.1, mask="w")
    >>> params, grads = {"w": jnp.ones(1), "b": jnp.ones(1)}, {"w": jnp.ones(1), "b": jnp.ones(1)}
    >>> update, _ = opt.update(grads, opt.init(params), params)
    >>> update["w"].round(4), update["b"].round(4)
    (Array([-0.55], dtype=float32), Array([-0.5], dtype=float32))
    """
    check_flags("adamw", nesterov=nesterov)
    step = _nadam_step if nesterov else _adam_step
    slots, h = _slots("adamw", mu_dtype), Moments.of("adamw", b1, b2, eps, eps_root)
    decay = WeightDecay(weight_decay, mask, decoupled=True)
    return per_leaf("adamw", slots, partial(step, h), learning_rate, decay)


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
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with Nesterov momentum for every leaf, [...] -> [...].

        m̂ = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t);   update = -lr m̂ / (sqrt(v̂ + eps_root) + eps)

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype: as in `adam`.
      nesterov: False is `adam`; the argument is optax's.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax, with a constant b1 as in the 2016 paper. PyTorch and Keras raise it with
      t, b1 (1 - 0.5 · 0.96^(t/250)), as in Dozat's earlier report. The numerical differences are those of `adam`.

    Reference: Dozat, Incorporating Nesterov momentum into Adam, 2016.

    >>> opt = nadam(0.5)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4)
    Array([-0.736...,  0.736...], dtype=float32)
    """
    check_flags("nadam", nesterov=nesterov)
    step = _nadam_step if nesterov else _adam_step
    slots, h = _slots("nadam", mu_dtype), Moments.of("nadam", b1, b2, eps, eps_root)
    decay = WeightDecay(weight_decay, mask, decoupled)
    return per_leaf("nadam", slots, partial(step, h), learning_rate, decay)


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
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with the largest second moment so far for every leaf, [...] -> [...]: step sizes that never grow.

        w <- max(w, v̂);   update = -lr m̂ / (sqrt(w + eps_root) + eps)

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype: as in `adam`. Slots `mu`, `nu`, `nu_max` (w).
      bias_correction_mu: m̂ = m / (1 - b1^t); False is m̂ = m.
      bias_correction_nu: v̂ = v / (1 - b2^t); False is v̂ = v. With both False it is the paper's algorithm.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, TypeError for an argument of the wrong type.

    Differences: The formula is that of optax. PyTorch and Keras keep the largest v and debias it afterwards,
      max(v) / (1 - b2^t), which falls as t grows. The numerical differences are those of `adam`.

    Reference: Reddi, Kale, Kumar, On the convergence of Adam and beyond, 2018, Algorithm 2.

    >>> opt = amsgrad(0.5, b1=0.0, b2=0.0)
    >>> _, state = opt.update(jnp.array([4.0]), opt.init(jnp.zeros(1)))
    >>> opt.update(jnp.array([1.0]), state)[0].round(4)
    Array([-0.125], dtype=float32)
    """
    check_flags("amsgrad", bias_correction_mu=bias_correction_mu, bias_correction_nu=bias_correction_nu)
    debias_m = Average.debias if bias_correction_mu else _as_it_is
    debias_v = Average.debias if bias_correction_nu else _as_it_is
    slots, h = {**_slots("amsgrad", mu_dtype), "nu_max": real_f32}, Moments.of("amsgrad", b1, b2, eps, eps_root)
    decay = WeightDecay(weight_decay, mask, decoupled)
    return per_leaf("amsgrad", slots, partial(_amsgrad_step, debias_m, debias_v, h), learning_rate, decay)
