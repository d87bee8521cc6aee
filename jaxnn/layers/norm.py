"""Normalisation layers."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import ops
from jaxnn._errors import invalid
from jaxnn._inputs import floating, param_dtype
from jaxnn.layer import Layer, layer
from jaxnn.layers._checks import check_number


def batch_norm(*, momentum: float | jax.Array = 0.9, eps: float | jax.Array = 1e-5, name: str | None = None) -> Layer:
    """Batch normalisation over all axes but the last, [n, ..., c] -> [n, ..., c] (Ioffe & Szegedy 2015).

        y = (x - mean) / sqrt(var + eps) · scale + bias

    With `train=True`, mean and variance are those of the batch, and the running ones in the state move towards them:
    `mean <- momentum · mean + (1 - momentum) · batch mean`; with `train=False` the running ones are used. Statistics in
    at least float32, in two passes. The variance is the biased one in both places, as in Keras and flax; PyTorch keeps
    an unbiased running variance, and its momentum is one minus this one. A layer before it does without a bias.

    Args:
      momentum: share of the running statistics that stays at each step, in [0, 1].
      eps: added to the variance, >= 0.

    Params scale [c], of ones, and bias [c], of zeros, as in PyTorch, Keras and flax; state mean, var [c]. Raises
    ValueError for an empty batch in training or another number of channels, TypeError for an x that is not floating.

    >>> params, state = batch_norm().init(jax.random.key(0), jnp.ones((4, 3)))
    >>> y, state = batch_norm().apply(params, state, jnp.arange(12.0).reshape(4, 3), train=True)
    >>> jnp.allclose(y.mean(axis=0), 0, atol=1e-6).item(), state["mean"].round(2).tolist()
    (True, [0.44999..., 0.55000..., 0.64999...])
    """
    where = name or "batch_norm"
    fix = "PyTorch's momentum is one minus this one."
    check_number(where, "momentum in [0, 1]", momentum, lambda v: 0 <= v <= 1, fix)
    check_number(where, "eps >= 0", eps, lambda v: v >= 0)

    def init(key: jax.Array, x: Any) -> tuple[dict, dict]:
        floating(where, x, least=2, shape="[n, ..., c]")
        c, dtype = x.shape[-1], param_dtype(x)
        params = {"scale": jnp.ones(c, dtype), "bias": jnp.zeros(c, dtype)}
        return params, {"mean": jnp.zeros(c, dtype), "var": jnp.ones(c, dtype)}

    def apply(params: dict, state: dict, x: Any, *, key: jax.Array | None, train: bool) -> tuple[Any, dict]:
        c = params["scale"].shape[0]
        x = floating(where, x, least=2, shape=f"[n, ..., {c}]")
        if x.shape[-1] != c:
            raise invalid(where, f"x of shape [n, ..., {c}]", x)
        if not train:
            return ops.normalize(x, state["mean"], state["var"], eps, params["scale"], params["bias"]), state
        if x.size == 0:
            raise invalid(where, "at least one example to take statistics over", x)
        mean, var = ops.moments(x, axis=tuple(range(x.ndim - 1)))
        y = ops.normalize(x, mean, var, eps, params["scale"], params["bias"])
        return y, {"mean": _moved(state["mean"], mean, momentum), "var": _moved(state["var"], var, momentum)}

    return layer(init, apply, "batch_norm", name=name)


def _moved(running: jax.Array, batch: jax.Array, momentum: float | jax.Array) -> jax.Array:
    batch = jax.lax.stop_gradient(batch).astype(running.dtype)
    return running + jnp.asarray(1 - momentum, running.dtype) * (batch - running)
