"""Predictions for any number of examples, in batches of one size."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn._errors import wrong_type
from jaxnn._inputs import check_count, check_examples
from jaxnn.compiler import compiler_options
from jaxnn.layer import Layer


def predict(model: Layer, params: Any, state: Any, x: Any, *, batch_size: int = 256) -> Any:
    """The model's outputs with `train=False` for any number of examples, [n, ...] -> [n, ...], compiled once.

    All batches have `batch_size` examples, the last one filled up with copies that are cut off again: neither another n
    nor a second call compiles anew, as long as `model` is the same object.

    Args:
      x: an array, or a pytree of arrays with examples on axis 0.
      batch_size: examples at a time, >= 1.

    Raises TypeError for what is no model and for no arrays, ValueError for arrays of different lengths.

    >>> import jaxnn as nn
    >>> model = nn.dense(3)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 4)))
    >>> predict(model, params, state, jnp.ones((1000, 4))).shape
    (1000, 3)
    """
    if not isinstance(model, Layer):
        raise wrong_type("predict", "model to be a Layer", model)
    check_count("predict", "batch_size", batch_size)
    x = jax.tree.map(jnp.asarray, x)
    n = check_examples("predict", "x", x, least=0)
    if n == 0:
        one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), x)
        shape = jax.eval_shape(partial(_apply, model), params, state, one)
        return jax.tree.map(lambda y: jnp.zeros((0, *y.shape[1:]), y.dtype), shape)
    ys, program = [], _program(inside=_traced((params, state, x)))
    for start in range(0, n, batch_size):
        batch = jax.tree.map(lambda a, start=start: a[start : start + batch_size], x)
        missing = start + batch_size - n
        if missing > 0:
            batch = jax.tree.map(lambda a, m=missing: jnp.concatenate([a, jnp.repeat(a[:1], m, axis=0)]), batch)
        ys.append(program(model, params, state, batch))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:n], *ys)


def _apply(model: Layer, params: Any, state: Any, x: Any) -> Any:
    return model.apply(params, state, x)[0]


@cache
def _program(*, inside: bool) -> Callable:
    """Compiled once; inside another program it follows that one's options."""
    return jax.jit(_apply, static_argnums=0, compiler_options=None if inside else compiler_options())


def _traced(tree: Any) -> bool:
    """Whether any leaf is traced, or all that is computed now, as within `jit`."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in (*jax.tree.leaves(tree), jnp.zeros(())))
