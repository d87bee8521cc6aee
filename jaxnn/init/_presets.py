"""Presets: the default initialization of every layer in jaxnn, PyTorch, Keras and flax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._keys import split
from jaxnn.init._draws import (
    _checked,
    constant,
    glorot_uniform,
    lecun_normal,
    normal,
    ones,
    orthogonal,
    uniform,
    zeros,
)
from jaxnn.types import Initializer, Key

Kinds = dict[str, dict[str, Initializer]]  # kind of layer -> param name -> initializer

NORM: dict[str, Initializer] = {"scale": ones, "bias": zeros}
ATTENTION_BIASES: dict[str, Initializer] = {"b_q": zeros, "b_k": zeros, "b_v": zeros, "b_o": zeros}


def preset(name: str, kind: str, fan_in: int, *, heads: int = 1) -> dict[str, Initializer]:
    """Default initialization of a layer in a library: param name -> initializer `(key, shape, dtype) -> array`.

        kind                params              torch                   keras                   flax
        dense, conv         w, b                U(±1/√fan_in), both     glorot_uniform, zeros   lecun_normal, zeros
        conv_transpose      w, b                U(±1/√fan_in), both     glorot_uniform, zeros   lecun_normal, zeros
        embed               w                   N(0, 1)                 U(±0.05)                N(0, 1/features)
        norm                scale, bias         ones, zeros             ones, zeros             ones, zeros
        rnn, lstm, gru      w_x                 U(±1/√h)                glorot_uniform          lecun_normal
                            w_h                 U(±1/√h)                orthogonal              orthogonal, each gate
                            b                   sum of two U(±1/√h)     zeros; lstm's forget 1  zeros
        gru                 b_h                 U(±1/√h)                zeros                   zeros
        attention           w_q, w_k, w_v       U(±√(1.5/d))            glorot_uniform, heads   lecun_normal
                            w_o                 U(±1/√d)                glorot_uniform, heads   lecun_normal
                            b_q, b_k, b_v, b_o  zeros                   zeros                   zeros
        prelu               slope               0.25                    zeros                   0.01

    "jaxnn" is flax's column, with 1 for the bias of the lstm's forget gate (Jozefowicz et al. 2015) and 0.25 for prelu.

    Weights are `[*space, in, out]`. `w_h` is [h, gates h]; an lstm's `b` is [4 h] in the order input, forget, cell,
    output. Where the libraries store params in other shapes, the distribution is that of the other library. PyTorch's
    recurrent layers have two biases: `b` is drawn as their sum, except for the candidate gate of a gru (the last third
    of `b`), whose second bias is `b_h`. PyTorch's attention draws one packed [3 d, d] projection: its bound applies to
    `w_q`, `w_k` and `w_v` of size [d, d].

    Args:
      name: "jaxnn", "torch", "keras" or "flax" (linen).
      kind: kind of layer, as in the table.
      fan_in: integer >= 0 that bounds PyTorch's uniform distributions: the inputs d of dense; prod(kernel_size)
        channels / groups of conv; prod(kernel_size) features / groups of conv_transpose, as PyTorch counts for its
        transposed weight; the hidden size h of recurrent layers; the width d of attention. For 0 the bound is 0. Other
        kinds and libraries ignore it and take their fans from the shape.
      heads: heads of attention, >= 1, which enter Keras's fans: w_q is [d, heads, size], w_o is [heads, size, d].

    Raises:
      ValueError: if `name` or `kind` is unknown, or `fan_in` or `heads` is not an integer in range.

    >>> draw = preset("torch", "dense", fan_in=4)
    >>> sorted(draw), bool(jnp.all(jnp.abs(draw["b"](jax.random.key(0), (100,))) <= 0.5))
    (['b', 'w'], True)
    """
    check.choice("preset", "name", name, list(PRESETS))
    fan_in = check.count("preset", "fan_in", fan_in, least=0)
    heads = check.count("preset", "heads", heads)
    kinds = PRESETS[name](fan_in, heads)
    check.choice("preset", "kind", kind, list(kinds))
    return dict(kinds[kind])


def _jaxnn(fan_in: int, heads: int) -> Kinds:
    kinds = _flax(fan_in, heads)
    lstm = kinds["lstm"] | {"b": _forget_gate_of_one}
    return kinds | {"lstm": lstm, "prelu": {"slope": partial(constant, value=0.25)}}


def _torch(fan_in: int, heads: int) -> Kinds:
    bound = fan_in**-0.5 if fan_in else 0.0
    within = partial(uniform, scale=bound)
    affine: dict[str, Initializer] = {"w": within, "b": within}
    recurrent: dict[str, Initializer] = {"w_x": within, "w_h": within, "b": partial(_sum_of_two, scale=bound)}
    packed = partial(uniform, scale=1.5**0.5 * bound)  # √(6 / (d + 3 d))
    return {
        "dense": affine,
        "conv": affine,
        "conv_transpose": affine,
        "embed": {"w": partial(normal, stddev=1.0)},
        "norm": NORM,
        "rnn": recurrent,
        "lstm": recurrent,
        "gru": recurrent | {"b": partial(_sum_of_two_but_last, scale=bound), "b_h": within},
        "attention": {"w_q": packed, "w_k": packed, "w_v": packed, "w_o": within} | ATTENTION_BIASES,
        "prelu": {"slope": partial(constant, value=0.25)},
    }


def _keras(fan_in: int, heads: int) -> Kinds:
    affine: dict[str, Initializer] = {"w": glorot_uniform, "b": zeros}
    recurrent: dict[str, Initializer] = {"w_x": glorot_uniform, "w_h": orthogonal, "b": zeros}
    into, out = partial(_glorot_by_heads, heads=heads), partial(_glorot_by_heads, heads=heads, out=True)
    return {
        "dense": affine,
        "conv": affine,
        "conv_transpose": affine,
        "embed": {"w": partial(uniform, scale=0.05)},
        "norm": NORM,
        "rnn": recurrent,
        "lstm": recurrent | {"b": _forget_gate_of_one},
        "gru": recurrent | {"b_h": zeros},
        "attention": {"w_q": into, "w_k": into, "w_v": into, "w_o": out} | ATTENTION_BIASES,
        "prelu": {"slope": zeros},
    }


def _flax(fan_in: int, heads: int) -> Kinds:
    affine: dict[str, Initializer] = {"w": lecun_normal, "b": zeros}
    recurrent: dict[str, Initializer] = {"w_x": lecun_normal, "w_h": _orthogonal_by_gate, "b": zeros}
    attention: dict[str, Initializer] = dict.fromkeys(("w_q", "w_k", "w_v", "w_o"), lecun_normal)
    return {
        "dense": affine,
        "conv": affine,
        "conv_transpose": affine,
        "embed": {"w": _unit_vectors},
        "norm": NORM,
        "rnn": recurrent,
        "lstm": recurrent,
        "gru": recurrent | {"b_h": zeros},
        "attention": attention | ATTENTION_BIASES,
        "prelu": {"slope": partial(constant, value=0.01)},
    }


PRESETS: dict[str, Callable[[int, int], Kinds]] = {"jaxnn": _jaxnn, "torch": _torch, "keras": _keras, "flax": _flax}


def _unit_vectors(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Vectors of length 1 on average: N(0, 1 / features) for a table [size, features]."""
    features = _checked("embed", shape, dtype, rank=2)[0][-1]
    return normal(key, shape, dtype, stddev=max(features, 1) ** -0.5)


def _sum_of_two(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, scale: float) -> Array:
    """Sum of two independent draws from U[-scale, scale)."""
    shape, dtype, wide = _checked("bias", shape, dtype)
    first, second = split(key)
    return (uniform(first, shape, wide, scale=scale) + uniform(second, shape, wide, scale=scale)).astype(dtype)


def _sum_of_two_but_last(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, scale: float) -> Array:
    """Bias [3 h] of a GRU's reset, update and candidate gates: sums of two draws, single draws in the last third."""
    shape, dtype, wide = _checked("bias", shape, dtype)
    gates, candidate = split(key)
    both = _sum_of_two(gates, shape, wide, scale=scale)
    one = uniform(candidate, shape, wide, scale=scale)
    last = jnp.arange(shape[-1]) >= shape[-1] - shape[-1] // 3
    return jnp.where(last, one, both).astype(dtype)


def _forget_gate_of_one(key: Key | None, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Bias [4 h] of an LSTM's input, forget, cell and output gates: zeros, with ones in the second quarter."""
    shape, dtype, _ = _checked("bias", shape, dtype)
    if len(shape) != 1 or shape[0] % 4:
        raise invalid("bias", "a shape [4 h], h for each gate", shape)
    gate = jnp.arange(4, dtype=jnp.int32) == 1
    return jnp.repeat(gate.astype(dtype), shape[0] // 4)


def _orthogonal_by_gate(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
    """Recurrent weights w_h [h, gates h] with an independent orthogonal [h, h] for each gate.

    `orthogonal` on the whole shape would make its rows orthonormal instead.
    """
    shape, dtype, wide = _checked("w_h", shape, dtype, rank=2)
    h = shape[0]
    if len(shape) != 2 or h == 0 or shape[1] % h:
        raise invalid("w_h", "a shape [h, gates h]", shape)
    each = jax.vmap(lambda key: orthogonal(key, (h, h), wide))(jax.random.split(key, shape[1] // h))
    return jnp.swapaxes(each, 0, 1).reshape(shape).astype(dtype)


def _glorot_by_heads(
    key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32, *, heads: int, out: bool = False
) -> Array:
    """w [d, heads size] drawn as [d, heads, size], or [heads size, d] as [heads, size, d]; the first axis is space."""
    shape = _checked("attention", shape, dtype, rank=2)[0]
    split = shape[0] if out else shape[1]
    if len(shape) != 2 or split % heads:
        raise invalid("attention", f"a weight whose heads, {heads}, divide its features", shape)
    parts = (heads, split // heads)
    return glorot_uniform(key, (*parts, shape[1]) if out else (shape[0], *parts), dtype).reshape(shape)
