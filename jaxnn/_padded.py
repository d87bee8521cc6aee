"""Sequences of different lengths in one array, and how they travel through layers."""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
from jax import Array


class Padded(NamedTuple):
    """Sequences of different lengths in one array: x [n, t, ...] with lengths [n].

    The steps after a sequence's length are padding: they may hold anything, NaN included, and change no output, no
    gradient and no running statistic. Every layer takes a `Padded` in one of three ways, or raises an error:

    * Layers that treat each step alone (dense, embed, activations, dropout, layer_norm, ...) give a `Padded` of the
      same lengths.
    * Layers that combine steps and know about lengths (recurrent layers, attention and its blocks, batch_norm,
      group_norm, instance_norm, convolutions, global pools) leave the padding out. The result is a `Padded`, or an
      array where time is gone.
    * Containers and wrappers (serial, parallel, residual, repeat, remat, cast, time_distributed, capture) hand it on.
      Inside `time_distributed` each step is an example, and `lengths` says which of them count, as booleans [t · n].

    All other layers, and functions of which nothing is known, refuse it: take `s.x` and `s.lengths`, and put together
    what comes next. A layer of your own says how it takes one by `nn.layer(..., padded=)`. Layers of the library take
    a plain pair (x [n, t, ...], integers [n]) for a `Padded`; only a recurrent layer that is called by itself on a pair
    gives an array. What attention may see beyond lengths, a `mask`, is given to it in a dict, and its blocks hand the
    dict on.

    Attributes:
      x: [n, t, ...]; inside `time_distributed` [m, ...].
      lengths: integers [n], from 0 to t: how many first steps count; or booleans [m]: which examples count.

    Differences: PyTorch packs sequences (`PackedSequence`) for recurrent layers; Keras attaches a mask to arrays.

    >>> import jaxnn as nn
    >>> s = nn.Padded(jnp.ones((2, 3, 4)), jnp.array([3, 1]))
    >>> s.mask.tolist()
    [[True, True, True], [True, False, False]]
    >>> model = nn.serial(nn.dense(5), nn.relu, nn.lstm(6), nn.global_avg_pool())
    >>> params, state = model.init(jax.random.key(0), s)
    >>> model.apply(params, state, s)[0].shape
    (2, 6)
    """

    x: Any
    lengths: Any

    @property
    def mask(self) -> Array:
        """The steps that count, booleans [n, t], or the examples, [m]."""
        lengths = jnp.asarray(self.lengths)
        if lengths.dtype == bool:
            return lengths
        steps = jnp.arange(self.x.shape[1], dtype=jnp.int32)[None, :]
        return steps < lengths.astype(jnp.int32)[:, None]

    def mask_over(self, x: Any) -> Array:
        """The mask with 1 for each further axis of x, so that it broadcasts."""
        mask = self.mask
        return mask.reshape(*mask.shape, *(1,) * (x.ndim - mask.ndim))

    @property
    def zeroed(self) -> Array:
        """x with zeros in place of the padding."""
        x = jnp.asarray(self.x)
        return jnp.where(self.mask_over(x), x, jnp.zeros((), x.dtype))

    def _refuse(self, other: Any) -> NoReturn:
        raise TypeError("Padded: no arithmetic on padded sequences. Compute on s.x, and rebuild: s._replace(x=...).")

    __add__ = __radd__ = __mul__ = __rmul__ = _refuse  # type: ignore[assignment,misc]


class Given(Padded):
    """A plain pair as the caller gave it: layers that know lengths take it for a `Padded`, all others get the pair."""

    __slots__ = ()


def padded_pair(x: Any) -> Any:
    """A plain pair (x [n, t, ...], integers [n]) as a `Padded`; anything else as it is."""
    if type(x) not in (tuple, list) or len(x) != 2:
        return x
    values, lengths = x
    shape, of = getattr(values, "shape", ()), getattr(lengths, "dtype", None)
    fits = of is not None and jnp.issubdtype(of, jnp.integer) and len(shape) >= 2 and lengths.shape == shape[:1]
    return Given(values, lengths) if fits else x


def values_of(x: Any) -> Any:
    """The array of a `Padded`; anything else as it is."""
    return x.x if isinstance(x, Padded) else x


def on_values(f: Callable[..., Any], *xs: Any) -> Any:
    """`f` of arrays, or of the arrays of several `Padded` of the same lengths, which the result keeps."""
    padded = [x for x in xs if isinstance(x, Padded)]
    if not padded:
        return f(*xs)
    return Padded(f(*map(values_of, xs)), padded[0].lengths)
