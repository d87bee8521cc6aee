"""Wrappers that keep a layer's weights in another form."""

from functools import reduce
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn import _checks as check
from jaxnn._calls import recorded
from jaxnn._errors import invalid
from jaxnn._placement import einsum, merged, placed_as
from jaxnn._random import fold_in, quick
from jaxnn.layer import Layer, as_layer, wrap


@recorded
def weight_norm(child: Layer, *, param: str = "w", axis: int = -1) -> Layer:
    """A layer whose weights are a length times a direction, w = g v / |v|, for each feature.

    It frees the length from the direction: a large gradient turns v without shrinking it. At the start g = |w|, so the
    layer is what it was; where w is 0, g is 0 and v all ones, so that g can learn. A v of 0 gives w = 0, and finite
    gradients.

    Args:
      child: a layer, or a whole model, all of whose weights are kept so.
      param: the name of the weights: "w", or "w_x", "w_h", "w_q", ...
      axis: of the features, each with a length of its own.

    Params w_v, of w's shape, and w_g [features], in w's place. Raises ValueError for a child without such weights.

    Salimans & Kingma, Weight Normalization, 2016. PyTorch keeps the features first, so its dim is 0.

    >>> import jaxnn as nn
    >>> params, state = weight_norm(nn.dense(3)).init(jax.random.key(0), jnp.ones((2, 4)))
    >>> {name: leaf.shape for name, leaf in sorted(params.items())}
    {'b': (3,), 'w_g': (3,), 'w_v': (4, 3)}
    """
    child = as_layer(child, "weight_norm")
    check.text("weight_norm", "param", param)

    direction, length = f"{param}_v", f"{param}_g"

    def split(node: dict) -> dict:
        rest, w = _without(node, param), jnp.asarray(node[param])
        norm = _length(w, axis)
        return {**rest, direction: jnp.where(norm == 0, 1, w), length: norm.reshape(-1)}

    def joined(node: dict) -> dict:
        v, g = jnp.asarray(node[direction]), jnp.asarray(node[length])
        norm = _length(v, axis)
        return {**_without(node, direction, length), param: v * (g.reshape(norm.shape).astype(v.dtype) / _or_1(norm))}

    def init(key: Array, x: Any) -> tuple[dict, dict]:
        params, state = child.init(key, x)
        for path in _found("weight_norm", params, param):
            params = _put(params, path, split(_get(params, path)))
        return params, state

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        for path in _nodes(params, direction):
            params = _put(params, path, joined(_get(params, path)))
        return child.apply(params, state, x, key=key, train=train)

    return wrap(child, init, apply)


@recorded
def spectral_norm(child: Layer, *, param: str = "w", steps: int = 1, eps: float = 1e-12) -> Layer:
    """A layer whose weights are divided by their largest singular value, w / σ(w): it stretches nothing.

    σ is estimated by power iteration on w as [inputs, features], one step for each training call, from where the last
    one stopped; no gradient goes through the vectors. With `train=False` they stay. Products are of the highest
    precision of the platform. Weights of 0, whose σ is 0, stay as they are.

    Args:
      child: a layer, or a whole model, all of whose weights are kept so.
      param: the name of the weights.
      steps: of power iteration for each call, >= 1.
      eps: the least σ, and the least length of a vector, that something is divided by.

    State w_u [features], beside the child's. Raises ValueError for a child without such weights.

    Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018.

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

    def init(key: Array, x: Any) -> tuple[dict, dict]:
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

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        vectors = {}
        for path in _nodes(params, param):
            node, u = _get(params, path), _get(state, path)[vector]
            w = jnp.asarray(node[param])
            w, new = divided(w, jnp.asarray(u).astype(w.dtype), train)
            params = _put(params, path, {**node, param: w})
            vectors[*path, vector] = new.astype(u.dtype)
        y, state = child.apply(params, state, x, key=key, train=train)
        for path, u in vectors.items():  # where the child left its own state alone they were lost
            state = _put(state, path, u)
        return y, state

    return wrap(child, init, apply)


def _product(equation: str, a: Array, b: Array) -> Array:
    return einsum(equation, a, b, precision=lax.Precision.HIGHEST)


def _unit(v: Array, otherwise: Array, eps: float) -> Array:
    """v / |v|; where v has no direction, `otherwise`."""
    length = jnp.linalg.norm(v)
    return jnp.where(length > eps, v / jnp.maximum(length, eps), placed_as(otherwise, v))


def _length(w: Array, axis: int) -> Array:
    """|w| for each index of `axis`, the other axes kept; its gradient is 0 where w is 0."""
    kept = check.axis("weight_norm", "axis", axis, w.ndim, "the weights") % w.ndim
    others = tuple(a for a in range(w.ndim) if a != kept)
    square = jnp.sum(jnp.square(w), others, keepdims=True)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _or_1(length: Array) -> Array:
    return jnp.where(length == 0, 1, length)


def _found(where: str, params: dict, param: str) -> list[tuple[str, ...]]:
    """The paths of all nodes with weights of that name, of which there must be some."""
    nodes = _nodes(params, param)
    if not nodes:
        raise invalid(where, f"a child with params named {param!r}", list(params), "Name them by param=.")
    return nodes


def _nodes(tree: dict, leaf: str) -> list[tuple[str, ...]]:
    """The paths of all nodes with a leaf of that name."""
    inner = [(name, *path) for name, node in tree.items() if isinstance(node, dict) for path in _nodes(node, leaf)]
    return [(), *inner] if leaf in tree and not isinstance(tree[leaf], dict) else inner


def _get(tree: dict, path: tuple[str, ...]) -> Any:
    return reduce(dict.__getitem__, path, tree)


def _put(tree: dict, path: tuple[str, ...], value: Any) -> dict:
    """The tree with another value, or one more, at a path."""
    return {**tree, path[0]: _put(tree.get(path[0], {}), path[1:], value)} if path else value


def _without(node: dict, *names: str) -> dict:
    return {name: leaf for name, leaf in node.items() if name not in names}
