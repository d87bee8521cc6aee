"""Statistics of normalisation layers over a whole data set."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn.layer import Layer


def recalibrate(
    model: Layer, params: Any, state: Any, x: Any, *, batch_size: int = 256, key: jax.Array | None = None
) -> Any:
    """The state with the mean and variance of every batch norm over all of x, [n, ...], and no longer a moving mean.

    The model runs over the batches with `train=True`; each layer merges what its batches hold, exactly and whatever
    their size, so its statistics are those of all n of its inputs. After averaged weights (EMA, ensembles) and with
    short training the moving ones are of other weights. A pure function: it jits and vmaps.

    Args:
      x: an array, or a pytree of arrays with examples on axis 0.
      batch_size: examples at a time, >= 1; the last batch may be smaller. Layers see those before them normalised by
        the statistics of a batch.
      key: for layers that draw.

    Returns the state; that of other layers is what training would leave. PyTorch's `update_bn` weighs batches alike.
    Raises TypeError for what is no model and for no arrays, ValueError for no examples or arrays of different lengths.

    >>> import jaxnn as nn
    >>> model = nn.batch_norm()
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 1)))
    >>> state = recalibrate(model, params, state, jnp.array([[1.0], [2.0], [6.0]]), batch_size=2)
    >>> jnp.allclose(state["mean"], 3).item(), jnp.allclose(state["var"], 14 / 3).item()
    (True, True)
    """
    check.model("recalibrate", "model", model)
    batch_size = check.count("recalibrate", "batch_size", batch_size)
    x = jax.tree.map(jnp.asarray, x)
    n = check.examples("recalibrate", "x", x)
    whole = n // batch_size

    def step(carry: Any, batch: Any) -> tuple[Any, None]:
        state, i = carry
        k = None if key is None else jax.random.fold_in(key, i)
        return (model.apply(params, state, batch, key=k, train=True)[1], i + 1), None

    carry = _counting(state), jnp.zeros((), jnp.int32)
    if whole:
        cut = jax.tree.map(lambda a: a[: whole * batch_size].reshape(whole, batch_size, *a.shape[1:]), x)
        carry, _ = jax.lax.scan(step, carry, cut)
    if n % batch_size:
        carry, _ = step(carry, jax.tree.map(lambda a: a[whole * batch_size :], x))
    return _counted(carry[0])


def _counting(state: Any) -> Any:
    """The state with a count of 0 beside every mean and variance, by which a norm merges instead of moving."""
    if not isinstance(state, dict):
        return state
    new = {name: _counting(node) for name, node in state.items()}
    return new | {"count": jnp.zeros((), jnp.float32)} if {"mean", "var"} <= set(new) else new


def _counted(state: Any) -> Any:
    if not isinstance(state, dict):
        return state
    gone = {"count"} if {"mean", "var"} <= set(state) else set()
    return {name: _counted(node) for name, node in state.items() if name not in gone}
