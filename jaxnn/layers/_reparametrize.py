"""Wrappers that reparametrise a layer's weights: weight norm and spectral norm."""

from __future__ import annotations

from functools import reduce
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._keys import fold_in, quick
from jaxnn._layer import Layer, as_layer, wrap
from jaxnn._mesh import einsum, merged, placed_as
from jaxnn.types import Arrays, Key, Params, State


@recorded
def weight_norm(child: Layer, *, param: str = "w", axis: int = -1) -> Layer:
    """Weight normalisation, w = g v / |v| for each feature: the length of the weights is separate from their direction.

    A large gradient changes the direction v without shrinking the weights. Initially g = |w|, so the layer computes the
    same function as without the wrapper. If w is 0, g is 0 and v all ones, so that g can learn. A v of 0 gives w = 0,
    and finite gradients.

    Params w_v, of w's shape, and w_g [features], in place of w.

    Args:
      child: a layer, or a whole model; all its weights called `param` are normalised.
      param: name of the weights: "w", or "w_x", "w_h", "w_q", ...
      axis: axis of the features, each of which has its own length.

    Raises:
      ValueError: if the child has no such weights.

    Differences: PyTorch stores the features first, so its default `dim` is 0.

    Reference: Salimans & Kingma, Weight Normalization, 2016.

    >>> import jaxnn as nn
    >>> params, state = weight_norm(nn.dense(3)).init(jax.random.key(0), jnp.ones((2, 4)))
    >>> {name: leaf.shape for name, leaf in sorted(params.items())}
    {'b': (3,), 'w_g': (3,), 'w_v': (4, 3)}
    """
    child = as_layer(child, "weight_norm")
    check.text("weight_norm", "param", param)

    direction, length = f"{param}_v", f"{param}_g"

    def split(node: dict[str, Any]) -> dict[str, Any]:
        rest, w = _without(node, param), jnp.asarray(node[param])
        norm = _length(w, axis)
        return {**rest, direction: jnp.where(norm == 0, 1, w), length: norm.reshape(-1)}

    def joined(node: dict[str, Any]) -> dict[str, Any]:
        v, g = jnp.asarray(node[direction]), jnp.asarray(node[length])
        norm = _length(v, axis)
        return {**_without(node, direction, length), param: v * (g.reshape(norm.shape).astype(v.dtype) / _or_1(norm))}

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        params, state = child.init(key, x)
        for path in _found("weight_norm", params, param):
            params = _put(params, path, split(_get(params, path)))
        return params, state

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        for path in _nodes(params, direction):
            params = _put(params, path, joined(_get(params, path)))
        return child.apply(params, state, x, key=key, train=train)

    return wrap(child, init, apply)


@recorded
def spectral_norm(child: Layer, *, param: str = "w", steps: int = 1, eps: float = 1e-12) -> Layer:
    """Spectral normalisation, w / σ(w), with σ the largest singular value: the linear map has Lipschitz constant 1.

    σ is estimated by power iteration on w as a matrix [inputs, features], `steps` steps at each training call, starting
    from the last vector. No gradient passes through the vectors. With `train=False` they are unchanged. Products have
    the highest precision of the platform. Weights of 0, whose σ is 0, are unchanged.

    State w_u [features], next to the child's state.

    Args:
      child: a layer, or a whole model; all its weights called `param` are normalised.
      param: name of the weights.
      steps: number of power iterations at each training call, an integer >= 1.
      eps: smallest σ, and smallest length of a vector, that is used as a divisor, > 0.

    Raises:
      ValueError: if the child has no such weights, or `steps` is out of range.

    Reference: Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018.

    >>> import jaxnn as nn
    >>> params, state = spectral_norm(nn.dense(3)).init(jax.random.key(0), jnp.ones((2, 4)))
    >>> state["w_u"].shape
    (3,)
    """
    child = as_layer(child, "spectral_norm")
    steps = check.count("spectral_norm", "steps", steps)
    check.text("spectral_norm", "param", param)
    check.scalar("spectral_norm", "eps", eps)

    vector = f"{param}_u"

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        own = fold_in(key, 0)
        params, state = child.init(key, x)
        for path in _found("spectral_norm", params, param):
            w = _get(params, path)[param]
            own_u = quick(fold_in(own, crc32("/".join(path).encode())))
            u = jax.random.normal(own_u, w.shape[-1:], w.dtype)
            state = _put(state, (*path, vector), _unit(u, u, eps))
        return params, state

    def divided(w: Array, u: Array, train: bool) -> tuple[Array, Array]:
        flat = merged(w, 0, w.ndim - 1)
        fixed, none = lax.stop_gradient(flat), jnp.zeros(flat.shape[0], flat.dtype)
        v = _unit(_product("io,o->i", fixed, u), none, eps)
        for _ in range(steps if train else 0):
            u = _unit(_product("io,i->o", fixed, v), u, eps)
            v = _unit(_product("io,o->i", fixed, u), none, eps)
        sigma = _product("i,i->", v, _product("io,o->i", flat, u))
        return w / jnp.where(sigma > eps, sigma, 1), u

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        vectors = {}
        for path in _nodes(params, param):
            node, u = _get(params, path), _get(state, path)[vector]
            w = jnp.asarray(node[param])
            w, new = divided(w, jnp.asarray(u).astype(w.dtype), train)
            params = _put(params, path, {**node, param: w})
            vectors[*path, vector] = new.astype(u.dtype)
        y, state = child.apply(params, state, x, key=key, train=train)
        for path, u in vectors.items():  # a child that returns only its own state has dropped them
            state = _put(state, path, u)
        return y, state

    return wrap(child, init, apply)


def _product(equation: str, a: Array, b: Array) -> Array:
    return einsum(equation, a, b, precision=lax.Precision.HIGHEST)


def _unit(v: Array, otherwise: Array, eps: float) -> Array:
    """v / |v|, or `otherwise` if v is 0 or nearly so."""
    length = jnp.linalg.norm(v)
    return jnp.where(length > eps, v / jnp.maximum(length, eps), placed_as(otherwise, v))


def _length(w: Array, axis: int) -> Array:
    """|w| for each index of `axis`, with the other axes kept at size 1; its gradient is 0 where w is 0."""
    kept = check.axis("weight_norm", "axis", axis, w.ndim, "the weights") % w.ndim
    others = tuple(a for a in range(w.ndim) if a != kept)
    square = jnp.sum(jnp.square(w), others, keepdims=True)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _or_1(length: Array) -> Array:
    return jnp.where(length == 0, 1, length)


def _found(where: str, params: Params, param: str) -> list[tuple[str, ...]]:
    """Paths of all nodes with weights called `param`; raises if there are none."""
    nodes = _nodes(params, param)
    if not nodes:
        raise invalid(where, f"a child with params named {param!r}", list(params), "Name them by param=.")
    return nodes


def _nodes(tree: Params, leaf: str) -> list[tuple[str, ...]]:
    """Paths of all nodes with a leaf of that name."""
    inner = [(name, *path) for name, node in tree.items() if isinstance(node, dict) for path in _nodes(node, leaf)]
    return [(), *inner] if leaf in tree and not isinstance(tree[leaf], dict) else inner


def _get(tree: Params, path: tuple[str, ...]) -> Arrays:
    return reduce(dict.__getitem__, path, tree)


def _put(tree: Params, path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The tree with a value replaced, or added, at a path."""
    return {**tree, path[0]: _put(tree.get(path[0], {}), path[1:], value)} if path else value


def _without(node: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: leaf for name, leaf in node.items() if name not in names}
