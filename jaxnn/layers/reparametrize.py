"""Wrappers that keep a layer's weights in another form."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnn._errors import describe, invalid
from jaxnn._inputs import check_count
from jaxnn.layer import Layer, as_layer, wrap


def weight_norm(child: Layer, *, param: str = "w", axis: int = -1) -> Layer:
    """A layer whose weights are a length times a direction, w = g v / |v|, for each feature.

    It frees the length from the direction: a large gradient turns v without shrinking it. At the start g = |w|, so the
    layer is what it was.

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

    def split(w: Array) -> dict:
        return {f"{param}_v": w, f"{param}_g": _length(w, axis).reshape(-1)}

    def joined(node: dict) -> dict:
        v, g = node[f"{param}_v"], node[f"{param}_g"]
        length = _length(v, axis)
        w = v * (g.reshape(length.shape).astype(v.dtype) / jnp.where(length == 0, 1, length))
        return {k: leaf for k, leaf in node.items() if k not in (f"{param}_v", f"{param}_g")} | {param: w}

    def init(key: Array, x: Any) -> tuple[dict, dict]:
        params, state = child.init(key, x)
        return _replaced("weight_norm", params, param, split), state

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        return child.apply(_nodes(params, f"{param}_v", joined), state, x, key=key, train=train)

    return wrap(child, init, apply)


def spectral_norm(child: Layer, *, param: str = "w", steps: int = 1, eps: float = 1e-12) -> Layer:
    """A layer whose weights are divided by their largest singular value, w / σ(w): it stretches nothing.

    σ is estimated by power iteration on w as [inputs, features], one step for each training call, from where the last
    one stopped; no gradient goes through the vectors. With `train=False` they stay.

    Args:
      child: a layer, or a whole model, all of whose weights are kept so.
      param: the name of the weights.
      steps: of power iteration for each call, >= 1.
      eps: the least length of a vector.

    State w_u [features], beside the child's. Raises ValueError for a child without such weights.

    Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018.

    >>> import jaxnn as nn
    >>> params, state = spectral_norm(nn.dense(3)).init(jax.random.key(0), jnp.ones((2, 4)))
    >>> state["w_u"].shape
    (3,)
    """
    child = as_layer(child, "spectral_norm")
    check_count("spectral_norm", "steps", steps)

    def init(key: Array, x: Any) -> tuple[dict, dict]:
        params, state = child.init(key, x)
        _replaced("spectral_norm", params, param, lambda w: {})
        return params, _met(params, state, lambda w, node: {**node, f"{param}_u": _first_vector(key, w)})[1]

    def _met(params: dict, state: dict, f: Callable[[Array, dict], Any]) -> tuple[dict, dict]:
        """Params with f's weights, if it gives them, and the state with its vectors."""
        new_params, new_state = dict(params), dict(state)
        for name, leaf in params.items():
            if isinstance(leaf, dict):
                new_params[name], inner = _met(leaf, state.get(name, {}), f)
                new_state |= {name: inner} if inner else {}
        if param in params and not isinstance(params[param], dict):
            got = f(params[param], new_state)
            new_params[param], new_state = got if isinstance(got, tuple) else (params[param], got)
        return new_params, new_state

    def apply(params: dict, state: dict, x: Any, *, key: Array | None, train: bool) -> tuple[Any, dict]:
        def divided(w: Array, node: dict) -> tuple[Array, dict]:
            flat, u = w.reshape(-1, w.shape[-1]), node[f"{param}_u"].astype(w.dtype)
            fixed = lax.stop_gradient(flat)
            v = _unit(fixed @ u, eps)
            for _ in range(steps if train else 0):
                u = _unit(v @ fixed, eps)
                v = _unit(fixed @ u, eps)
            sigma = v @ flat @ u
            return w / jnp.maximum(sigma, eps), {**node, f"{param}_u": u.astype(node[f"{param}_u"].dtype)}

        params, vectors = _met(params, state, divided)
        y, state = child.apply(params, _without(state, f"{param}_u"), x, key=key, train=train)
        return y, _with(state, vectors, f"{param}_u")

    return wrap(child, init, apply)


def _first_vector(key: Array, w: Array) -> Array:
    return _unit(jax.random.normal(key, w.shape[-1:], w.dtype), 1e-12)


def _unit(v: Array, eps: float) -> Array:
    return v / jnp.maximum(jnp.linalg.norm(v), eps)


def _length(w: Array, axis: int) -> Array:
    others = tuple(a for a in range(w.ndim) if a != axis % w.ndim)
    return jnp.sqrt(jnp.sum(jnp.square(w), others, keepdims=True))


def _nodes(tree: dict, key: str, f: Callable[[dict], dict]) -> dict:
    """The tree with f of every dict in it that has the key."""
    tree = {k: _nodes(v, key, f) if isinstance(v, dict) else v for k, v in tree.items()}
    return f(tree) if key in tree and not isinstance(tree[key], dict) else tree


def _replaced(where: str, params: dict, param: str, f: Callable[[Array], dict]) -> dict:
    """The params with f's leaves in the place of every one of that name."""
    found = []

    def swap(node: dict) -> dict:
        found.append(node)
        return {k: v for k, v in node.items() if k != param} | f(node[param])

    new = _nodes(params, param, swap)
    if not found:
        raise invalid(where, f"a child with params named {param!r}", describe(list(params)), "Name them by param=.")
    return new


def _without(tree: dict, key: str) -> dict:
    pruned = {k: _without(v, key) if isinstance(v, dict) else v for k, v in tree.items() if k != key}
    return {k: v for k, v in pruned.items() if not (isinstance(v, dict) and not v)}


def _with(tree: dict, other: dict, key: str) -> dict:
    """The tree with the leaves of that name from another."""
    merged = dict(tree)
    for k, v in other.items():
        if k == key:
            merged[k] = v
        elif isinstance(v, dict):
            inner = _with(tree.get(k, {}), v, key)
            merged |= {k: inner} if inner else {}
    return merged
