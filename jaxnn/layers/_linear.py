"""Dense layers, embeddings and scores of their entries, identity and flattening."""

from __future__ import annotations

from math import prod
from string import ascii_lowercase

import jax
import jax.numpy as jnp
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid, wrong_type
from jaxnn._keys import split
from jaxnn._layer import Layer, layer, of_function
from jaxnn._mesh import einsum, merged, plus, rows
from jaxnn._platform import local_cpu
from jaxnn.layers._weights import Weights, check_fits
from jaxnn.types import Arrays, Initializer, Key, Params, State


@recorded
def dense(
    features: int,
    *,
    bias: bool = True,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Affine map of the last axis, y = x w + b, [..., d] -> [..., features]; params w [d, features], b [features].

    On a mesh the axes of x keep their sharding, and b and y have w's along the features. If w is sharded along the same
    mesh axis as the batch, as in FSDP, it is gathered. A sum over a sharded d is an all-reduce.

    Args:
      features: size of the last axis of y, an integer >= 1.
      bias: False omits b, for example before a norm layer, which would cancel it.
      preset: the default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`).
      w_init, b_init: initializers (key, shape, dtype) -> array; override the preset.
      precision: of the product, forward and backward, as in `jax.lax.dot_general`: None, "high", "highest", ...
      name: pins the name.

    Raises:
      ValueError: if x does not fit w.
      TypeError: if x is not floating.

    Differences: PyTorch's Linear stores w transposed, [features, d], and draws both params uniformly within ±1/√d.
    Keras initialises w by Glorot. The default here is LeCun's normal, as in flax; haiku's deviation is 0.88 of it.

    >>> params, state = dense(3).init(jax.random.key(0), jnp.ones((2, 4)))
    >>> dense(3).apply(params, state, jnp.ones((2, 4)))[0].shape
    (2, 3)
    """
    where = name or "dense"
    features = check.count(where, "features", features)
    weights = Weights(where, "dense", preset, {"w": w_init, "b": b_init}, bias)

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        d = check.array(where, "x", x, least=1, shape="[..., d]").shape[-1]
        w_key, b_key = split(key)
        return weights.draw(x, d, w=(w_key, (d, features)), b=(b_key, (features,))), {}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        w, b = params["w"], params["b"] if bias else None
        x = check.array(where, "x", x, least=1, shape=f"[..., {w.shape[0]}]")
        check_fits(where, x, "w", w.shape[0])
        return affine(x, w, b, precision), state

    return layer(initial, apply, "dense", name=name, padded=1)


def affine(x: jax.Array, w: jax.Array, b: jax.Array | None, precision: PrecisionLike = None) -> jax.Array:
    """x w + b over the last axis, [..., d], [d, features] -> [..., features], in x's dtype."""
    w = jnp.asarray(w).astype(x.dtype)
    y = _product(x, w, precision)
    return y if b is None else plus(y, jnp.asarray(b))


def _product(x: jax.Array, w: jax.Array, precision: PrecisionLike) -> jax.Array:
    """x w, with leading axes merged if they are on one CPU.

    Workaround for XLA:CPU, which with three axes recomputes the chain of residuals in every weight gradient: a train
    step of four transformer blocks (256 features, 128 steps, batch 16) takes 608 ms, merged 314 ms. On a mesh the
    product of merged axes would gather one of two sharded axes.
    """
    if local_cpu():
        flat = x.reshape(prod(x.shape[:-1]), x.shape[-1])
        return jnp.matmul(flat, w, precision=precision).reshape(*x.shape[:-1], w.shape[1])
    axes = ascii_lowercase[: x.ndim]
    return einsum(f"{axes},{axes[-1]}z->{axes[:-1]}z", x, w, precision=precision)


@recorded
def embed(
    size: int,
    features: int,
    *,
    padding: int | None = None,
    preset: str = "jaxnn",
    w_init: Initializer | None = None,
    name: str | None = None,
) -> Layer:
    """Embedding: looks up vectors by integer index, [...] -> [..., features]; params w [size, features].

    An index out of range, including a negative one, gives a vector of NaN, never another entry.

    Args:
      size: number of entries, an integer >= 1; indices are 0 to size - 1.
      features: size of a vector, an integer >= 1.
      padding: index of padding: its vector is 0, whatever the table holds there, and gets no gradient. None is no such
        index.
      preset: the default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`); "jaxnn" is a
        normal distribution with standard deviation 1/√features.
      w_init: initializer (key, shape, dtype) -> array; overrides the preset.
      name: pins the name.

    Raises:
      ValueError: if an argument is out of range.
      TypeError: if x is not an integer array.

    Differences: PyTorch raises for an index out of range on a CPU; JAX's indexing would clamp it. PyTorch's padding_idx
    looks up the row, which is initialised to 0 but may be set to other values.

    >>> params, state = embed(10, 4).init(jax.random.key(0), jnp.array([0]))
    >>> embed(10, 4).apply(params, state, jnp.array([[1, 2, 3]]))[0].shape
    (1, 3, 4)
    """
    where = name or "embed"
    size = check.count(where, "size", size)
    features = check.count(where, "features", features)
    weights = Weights(where, "embed", preset, {"w": w_init})
    if padding is not None:
        padding = check.count(where, "padding", padding, least=0, most=size - 1)

    def check_indices(x: Arrays) -> None:
        if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.integer):
            raise wrong_type(where, "x of shape [...] and an integer dtype", x)

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        check_indices(x)
        return weights.draw(jax.ShapeDtypeStruct((), jnp.float32), size, w=(key, (size, features))), {}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        check_indices(x)
        w = jnp.asarray(params["w"])
        i = jnp.asarray(x) if x.dtype.itemsize == 8 else jnp.asarray(x, jnp.int32)
        i = jnp.where((i >= 0) & (i < size), i, size)  # a gather alone wraps 64-bit indices above 2³²
        y = rows(w, i)
        return y if padding is None else jnp.where((i == padding)[..., None], jnp.zeros((), y.dtype), y), state

    return layer(initial, apply, "embed", name=name, padded=0)


@recorded
def unembed(*, precision: PrecisionLike = None, name: str | None = None) -> Layer:
    """Scores of the entries of an embedding by its own table, y = x wᵀ, [..., features] -> [..., size].

    It has no params of its own: called under the name of an `embed`, it reads that layer's w [size, features], whose
    gradient is the sum over both uses (tied embeddings).

    Args:
      precision: of the product, as in `dense`.
      name: pins the name.

    Raises:
      ValueError: if x does not fit w, or there is no w.
      TypeError: if x is not floating.

    Differences: flax's `Embed.attend`; in PyTorch, `linear.weight = embedding.weight`.

    Reference: Press & Wolf, Using the Output Embedding to Improve Language Models, 2017.

    >>> import jaxnn as nn
    >>> def apply(params, state, x, *, key, train):
    ...     h, state = nn.call(nn.embed(10, 4), "embed", params, state, x, key=key, train=train)
    ...     return nn.call(nn.unembed(), "embed", params, state, h, key=key, train=train)
    >>> model = nn.layer(None, apply, "tied")
    >>> params, state = model.init(jax.random.key(0), jnp.array([0]))
    >>> jax.tree.map(jnp.shape, params), model.apply(params, state, jnp.array([1, 2]))[0].shape
    ({'embed': {'w': (10, 4)}}, (2, 10))
    """
    where = name or "unembed"

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        w = jnp.asarray(params["w"])
        x = check.array(where, "x", x, least=1, shape=f"[..., {w.shape[1]}]")
        check_fits(where, x, "w", w.shape[1])
        return affine(x, w.T, None, precision), state

    return layer(lambda key, x: ({}, {}), apply, "unembed", name=name, padded=1)


@recorded
def identity(*, name: str | None = None) -> Layer:
    """The input unchanged, x -> x, of any structure: a placeholder for an optional layer, or a path for `capture`.

    Args:
      name: pins the name.

    >>> identity().apply({}, {}, jnp.ones(2))[0].tolist()
    [1.0, 1.0]
    """
    return of_function(lambda x: x, "identity", name, "seen")


@recorded
def flatten(*, name: str | None = None) -> Layer:
    """Flattens all axes except the first, [n, ...] -> [n, d].

    Args:
      name: pins the name.

    Raises:
      ValueError: if x has no batch axis.

    >>> flatten().apply({}, {}, jnp.ones((2, 4, 4, 3)))[0].shape
    (2, 48)
    """
    where = name or "flatten"

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        if not hasattr(x, "shape") or len(x.shape) < 1:
            raise invalid(where, "x of shape [n, ...]", x)
        return merged(jnp.asarray(x), 1, len(x.shape)) if len(x.shape) > 1 else x.reshape(x.shape[0], 1), state

    return layer(lambda key, x: ({}, {}), apply, "flatten", name=name, padded="examples")
