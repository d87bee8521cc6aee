"""Padded sequences of different lengths in one array, and their passage through layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
from jax import Array

from jaxnn.types import Arrays


class Padded(NamedTuple):
    """Sequences of different lengths in one array: x [n, t, ...] with lengths [n].

    Steps after a sequence's length are padding: their values, even NaN, change no output, no gradient and no running
    statistic. Every layer handles a `Padded` in one of three ways, or raises an error:

    * Layers that act on each step independently (dense, embed, activations, dropout, layer_norm, ...) return a `Padded`
      of the same lengths.
    * Layers that combine steps and use lengths (recurrent layers, attention and its blocks, batch_norm, group_norm,
      instance_norm, convolutions, global pools) ignore the padding. They return a `Padded`, or an array if the time
      axis is reduced.
    * Containers and wrappers (serial, parallel, residual, repeat, remat, cast, time_distributed, capture) pass it on.
      Inside `time_distributed` each step is an example, and `lengths` is a boolean mask [t · n] of the steps that
      count.

    All other layers, and functions other than the library's activations, raise an error: pass them `s.x` and
    `s.lengths`, and build the next input yourself. A layer of your own declares its handling by `nn.layer(...,
    padded=)`. Layers of the library treat a plain pair (x [n, t, ...], integers [n]) as a `Padded`; only a recurrent
    layer called directly on a pair returns an array. For attention, restrictions other than lengths are passed as a
    `mask` in a dict, which attention blocks pass on.

    Attributes:
      x: [n, t, ...]; inside `time_distributed` [m, ...].
      lengths: integers [n] from 0 to t, the number of valid steps; or booleans [m], True for valid examples.

    Differences: PyTorch packs sequences (`PackedSequence`) for recurrent layers. Keras attaches a mask to arrays.

    >>> import jaxnn as nn
    >>> s = nn.Padded(jnp.ones((2, 3, 4)), jnp.array([3, 1]))
    >>> s.mask.tolist()
    [[True, True, True], [True, False, False]]
    >>> model = nn.serial(nn.dense(5), nn.relu, nn.lstm(6), nn.global_avg_pool())
    >>> params, state = model.init(jax.random.key(0), s)
    >>> model.apply(params, state, s)[0].shape
    (2, 6)
    """

    x: Arrays
    lengths: Arrays

    @property
    def mask(self) -> Array:
        """Boolean mask of the valid steps, [n, t], or of the valid examples, [m]."""
        lengths = jnp.asarray(self.lengths)
        if lengths.dtype == bool:
            return lengths
        steps = jnp.arange(self.x.shape[1], dtype=jnp.int32)[None, :]
        return steps < lengths.astype(jnp.int32)[:, None]

    def mask_over(self, x: Arrays) -> Array:
        """Mask with an axis of size 1 for each further axis of x, so that it broadcasts."""
        mask = self.mask
        return mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim))

    @property
    def zeroed(self) -> Array:
        """x with zeros in place of the padding."""
        x = jnp.asarray(self.x)
        return jnp.where(self.mask_over(x), x, jnp.zeros((), x.dtype))

    def _refuse(self, other: Any) -> NoReturn:
        raise TypeError("Padded: no arithmetic on padded sequences. Compute on s.x, and rebuild: s._replace(x=...).")

    __add__ = __radd__ = __mul__ = __rmul__ = _refuse  # type: ignore[misc]


class Given(Padded):
    """Plain pair as passed by the caller: layers that use lengths treat it as a `Padded`, all others get the pair."""

    __slots__ = ()


def padded_pair(x: Arrays) -> Arrays:
    """`Padded` of a plain pair (x [n, t, ...], integers [n]); anything else unchanged."""
    if type(x) not in (tuple, list) or len(x) != 2:
        return x
    values, lengths = x
    shape, of = getattr(values, "shape", ()), getattr(lengths, "dtype", None)
    fits = of is not None and jnp.issubdtype(of, jnp.integer) and len(shape) >= 2 and lengths.shape == shape[:1]
    return Given(values, lengths) if fits else x


def values_of(x: Arrays) -> Arrays:
    """Array of a `Padded`; anything else unchanged."""
    return x.x if isinstance(x, Padded) else x


def on_values(f: Callable[..., Any], *xs: Any) -> Arrays:
    """`f` of arrays, or of the arrays of several `Padded` with equal lengths, which the result keeps."""
    padded = [x for x in xs if isinstance(x, Padded)]
    if not padded:
        return f(*xs)
    return Padded(f(*map(values_of, xs)), padded[0].lengths)
