"""Adam and its variants: decoupled weight decay, Nesterov momentum, the largest second moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnn._calls import recorded
from jaxnn._inputs import known
from jaxnn._moments import Average, Time, bounded, root_plus_eps
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_dtype, check_flags, check_numbers, check_preset
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import Rule, Slots, SlotValues, per_leaf, real_f32, zeros_f32
from jaxnn.types import Arrays, Mask


class Moments(NamedTuple):
    """Adam's averages of g (decay b1) and |g|² (decay b2), the terms added to the root, and the place of eps."""

    first: Average
    second: Average
    eps: Any
    eps_root: Any
    preset: str = "optax"

    @classmethod
    def of(cls, name: str, b1: Any, b2: Any, eps: Any, eps_root: Any, preset: str = "optax") -> Moments:
        """Raises ValueError or TypeError, in the name of the optimizer, for a number that is not in its range."""
        check_numbers(name, b1=b1, b2=b2, eps=eps, eps_root=eps_root)
        return cls(Average(b1), Average(b2), eps, eps_root, preset)

    def divisor(self, v_hat: Array, t: Time) -> Array:
        """sqrt(v̂ + eps_root) + eps, [...] -> [...]; Keras adds eps before v is debiased: eps / sqrt(1 - b2^t) here."""
        if self.preset != "keras":
            return root_plus_eps(v_hat, self.eps, self.eps_root)
        eps_scale = jnp.sqrt(t.once(self.second.correction, v_hat.dtype))
        return root_plus_eps(v_hat, self.eps, self.eps_root, eps_scale=eps_scale)


def _adam_step(h: Moments, g: Array, s: SlotValues, p: Arrays, t: Time) -> tuple[Array, SlotValues]:
    v, g = h.second.update_square(s["nu"], g), bounded(g)
    m = h.first.update(s["mu"], g)
    m_hat, v_hat = h.first.debias(m, t), h.second.debias(v, t)
    return m_hat / h.divisor(v_hat, t).astype(g.dtype), {"mu": m, "nu": v}


Nesterov = Callable[[Array, Array, Time], Array]  # m, g, t -> m̂


def _nadam_step(nesterov: Nesterov, h: Moments, g: Array, s: SlotValues, p: Arrays, t: Time) -> Any:
    v, g = h.second.update_square(s["nu"], g), bounded(g)
    m = h.first.update(s["mu"], g)
    m_hat, v_hat = nesterov(m, g, t), h.second.debias(v, t)
    return m_hat / h.divisor(v_hat, t).astype(g.dtype), {"mu": m, "nu": v}


def _step(h: Moments, nesterov: bool) -> Callable[..., Any]:
    return partial(_nadam_step, h.first.debias_nesterov, h) if nesterov else partial(_adam_step, h)


def adam_rule(
    name: str, b1: Any, b2: Any, eps: Any, eps_root: Any, mu_dtype: Any = None, nesterov: bool = False
) -> tuple[Slots, Rule]:
    """Slots and rule of Adam, with its arguments checked in the name of the optimizer."""
    check_flags(name, nesterov=nesterov)
    return _slots(name, mu_dtype), _step(Moments.of(name, b1, b2, eps, eps_root), nesterov)


class WarmedMomentum(NamedTuple):
    """Nesterov's look ahead with the momentum μ_t = b1 (1 - e^(-rate t) / 2), debiased by the product of all μ.

    Attributes:
      average: the average m, with decay b1.
      rate: decay of the warm-up per step, > 0.
    """

    average: Average
    rate: float

    def ahead(self, m: Array, g: Array, t: Time) -> Array:
        """m̂ = μ_(t+1) m / (1 - μ_1 ... μ_(t+1)) + (1 - μ_t) g / (1 - μ_1 ... μ_t), [...], [...] -> [...]."""
        of_m, of_g = t.once(self._weights, jnp.finfo(m.dtype).dtype)
        return number(of_m, m) * m + number(of_g, g) * g

    def _weights(self, t: Array, dtype: DTypeLike) -> tuple[Array, Array]:
        w, t = self.average.w, t.astype(dtype)
        log_b1 = (math.log1p(-w) if w < 1 else -math.inf) if known(w) else jnp.log1p(-jnp.asarray(w, dtype))
        w = number(w, t)
        half, half_next = jnp.exp(-self.rate * t) / 2, jnp.exp(-self.rate * (t + 1)) / 2
        log_product = t * log_b1 + _log_warm_up(t, self.rate)
        log_next = log_product + log_b1 + jnp.log1p(-half_next)
        return (1.0 - w) * (1.0 - half_next) / -jnp.expm1(log_next), (w + (1.0 - w) * half) / -jnp.expm1(log_product)


@partial(jax.jit, static_argnames="rate")
def _log_warm_up(t: Array, rate: float) -> Array:
    """Σ log(1 - e^(-rate i) / 2) over i = 1 ... t, a scalar of t's dtype.

    With -log(1 - x) = Σ x^k / k the sum over i is geometric for each k, so that no state keeps the product.
    """
    k = np.arange(1, jnp.finfo(t.dtype).nmant + 3)
    weights = 1 / (k * 2.0**k * np.expm1(rate * k))
    return jnp.sum(jnp.asarray(weights, t.dtype) * jnp.expm1(-jnp.asarray(rate * k, t.dtype) * t))


WARM_UPS = {"torch": -0.004 * math.log(0.96), "keras": -math.log(0.96)}


Debias = Callable[[Average, Array, Time], Array]


def _amsgrad_step(debias_m: Debias, debias_v: Debias, h: Moments, g: Array, s: SlotValues, p: Arrays, t: Time) -> Any:
    v, g = h.second.update_square(s["nu"], g), bounded(g)
    m = h.first.update(s["mu"], g)
    if h.preset == "optax":
        v_max = v_hat = jnp.maximum(s["nu_max"], debias_v(h.second, v, t))
    else:
        v_max = jnp.maximum(s["nu_max"], v)
        v_hat = debias_v(h.second, v_max, t)
    m_hat = debias_m(h.first, m, t)
    return m_hat / h.divisor(v_hat, t).astype(g.dtype), {"mu": m, "nu": v, "nu_max": v_max}


def _as_it_is(average: Average, mean: Array, t: Time) -> Array:
    return mean


def _slots(name: str, mu_dtype: Any) -> Slots:
    check_dtype(name, "mu_dtype", mu_dtype)
    return {"mu": partial(zeros_f32, dtype=mu_dtype), "nu": real_f32}


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
    slots, h = _slots("adam", mu_dtype), Moments.of("adam", b1, b2, eps, eps_root, preset)
    decay = WeightDecay(weight_decay, mask, decoupled)
    return per_leaf("adam", slots, _step(h, nesterov), learning_rate, decay)


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
    slots, rule = adam_rule("adamw", b1, b2, eps, eps_root, mu_dtype, nesterov)
    return per_leaf("adamw", slots, rule, learning_rate, WeightDecay(weight_decay, mask, decoupled=True))


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
    preset: str = "optax",
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with Nesterov momentum for every leaf, [...] -> [...].

        m̂ = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t);   update = -lr m̂ / (sqrt(v̂ + eps_root) + eps)
        torch, keras   m̂ = μ_(t+1) m / (1 - μ_1 ... μ_(t+1)) + (1 - μ_t) g / (1 - μ_1 ... μ_t)
                       μ_t = b1 (1 - 0.96^(t/250) / 2) in PyTorch, b1 (1 - 0.96^t / 2) in Keras

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype: as in `adam`.
      nesterov: False is `adam`; the argument is optax's.
      preset: the library whose formula is used. "optax" has a constant momentum b1; "torch" and "keras" raise it from
        about b1 / 2 to b1, over hundreds of steps and over about a hundred. Defaults do not change with it: PyTorch's
        learning rate is 2e-3, Keras's eps 1e-7.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, and for nesterov=False or `eps_root` with another preset than
      "optax"; TypeError for an argument of the wrong type.

    Differences: The formula is that of optax, with a constant b1 as in the 2016 paper. PyTorch's schedule of μ is that
      of Dozat's report; Keras leaves out its exponent 1/250. Both keep the product of all μ in their state; here it is
      computed from t. The numerical differences are those of `adam`.

    Reference: Dozat, Incorporating Nesterov momentum into Adam, 2016.

    >>> opt = nadam(0.5)
    >>> update, _ = opt.update(jnp.array([3.0, -0.01]), opt.init(jnp.zeros(2)))
    >>> update.round(4)
    Array([-0.736...,  0.736...], dtype=float32)
    """
    check_flags("nadam", nesterov=nesterov)
    check_preset("nadam", preset, nesterov=not nesterov, eps_root=bool(known(eps_root) and eps_root != 0))
    slots, h = _slots("nadam", mu_dtype), Moments.of("nadam", b1, b2, eps, eps_root)
    step = _step(h, nesterov)
    if preset != "optax":
        step = partial(_nadam_step, WarmedMomentum(h.first, WARM_UPS[preset]).ahead, h)
    decay = WeightDecay(weight_decay, mask, decoupled)
    return per_leaf("nadam", slots, step, learning_rate, decay)


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
    preset: str = "optax",
    weight_decay: optax.ScalarOrSchedule | None = None,
    mask: Mask = None,
    decoupled: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Adam with the largest second moment so far for every leaf, [...] -> [...]: step sizes that never grow.

        w <- max(w, v̂);   update = -lr m̂ / (sqrt(w + eps_root) + eps)
        torch, keras   w <- max(w, v);   update = -lr m̂ / (sqrt(w / (1 - b2^t)) + eps)

    Args:
      learning_rate, b1, b2, eps, eps_root, mu_dtype: as in `adam`. Slots `mu`, `nu`, `nu_max` (w).
      bias_correction_mu: m̂ = m / (1 - b1^t); False is m̂ = m.
      bias_correction_nu: v̂ = v / (1 - b2^t); False is v̂ = v. With both False it is the paper's algorithm.
      preset: the library whose formula is used. "torch" and "keras" keep the largest v and debias it afterwards, so
        that step sizes grow with t; "keras" adds eps before, which is eps / sqrt(1 - b2^t) here. Defaults do not change
        with it: Keras's eps is 1e-7.
      weight_decay, mask, decoupled: weight decay, as in `adam`.

    Raises: ValueError for a number out of its range, and for another `eps_root` or bias correction than the default
      with another preset than "optax"; TypeError for an argument of the wrong type.

    Differences: The formula is that of optax by default. In PyTorch and Keras it is Adam(amsgrad=True). The numerical
      differences are those of `adam`.

    Reference: Reddi, Kale, Kumar, On the convergence of Adam and beyond, 2018, Algorithm 2.

    >>> opt = amsgrad(0.5, b1=0.0, b2=0.0)
    >>> _, state = opt.update(jnp.array([4.0]), opt.init(jnp.zeros(1)))
    >>> opt.update(jnp.array([1.0]), state)[0].round(4)
    Array([-0.125], dtype=float32)
    """
    check_flags("amsgrad", bias_correction_mu=bias_correction_mu, bias_correction_nu=bias_correction_nu)
    given = {"bias_correction_mu": not bias_correction_mu, "bias_correction_nu": not bias_correction_nu}
    check_preset("amsgrad", preset, **given, eps_root=bool(known(eps_root) and eps_root != 0))
    debias_m = Average.debias if bias_correction_mu else _as_it_is
    debias_v = Average.debias if bias_correction_nu else _as_it_is
    slots, h = {**_slots("amsgrad", mu_dtype), "nu_max": real_f32}, Moments.of("amsgrad", b1, b2, eps, eps_root, preset)
    decay = WeightDecay(weight_decay, mask, decoupled)
    return per_leaf("amsgrad", slots, partial(_amsgrad_step, debias_m, debias_v, h), learning_rate, decay)
