"""Recurrent layers over [n, t, d]: params, stacked layers and directions; the steps are computed by `ops`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._filled import full
from jaxnn._keys import fold_in, split
from jaxnn._layer import Layer, layer
from jaxnn._padded import Padded
from jaxnn.layers._weights import Weights, check_fits
from jaxnn.ops._window import check_sizes, per_axis
from jaxnn.types import Arrays, Initializer, Key, Params, State


@recorded
def rnn(
    features: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    last: bool = False,
    return_carry: bool = False,
    cached: bool = False,
    bias: bool = True,
    activation: Callable[..., Any] = jnp.tanh,
    preset: str = "jaxnn",
    w_x_init: Initializer | None = None,
    w_h_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Elman recurrent network, [n, t, d] -> [n, t, features], as `ops.rnn`.

    The input is x [n, t, d]; or `Padded(x, lengths)`, in which steps after the end of a sequence give zeros and do not
    affect others, with a `Padded` as the result; or a tuple (x, lengths) or (x, lengths, carry), with an array as the
    result. lengths and carry may be None.

    Params w_x [d, features], w_h [features, features], b [features]. Those of several layers are stored under "0", "1",
    ..., those of two directions under "forward" and "backward".

    Args:
      features: size of the state, an integer >= 1.
      layers: number of stacked layers, an integer >= 1; each receives the outputs of the layer before.
      bidirectional: if True, a second network runs from the end to the start; both outputs are concatenated, [n, t, 2
        features]. With `layers`, each layer receives both directions of the one before.
      last: if True, the result is h after the last step (of `lengths`), [n, features], in place of all steps.
      return_carry: if True, the result is (y, carry), to process a sequence in pieces. The carry is h [n, features]; a
        tuple for several layers; a pair in each for two directions.
      cached: if True, each call continues where the last one ended, each sequence of a `Padded` at its own end; state
        carry, zeros for the n of init's x. Use it for `generate` and for streams. Not with two directions.
      bias: False omits b.
      activation: an elementwise function.
      preset: the default initialization, "jaxnn", "torch", "keras" or "flax" (`init.preset`).
      w_x_init, w_h_init, b_init: initializers (key, shape, dtype) -> array; override the preset.
      precision: of all products, as in `dense`.
      name: pins the name.

    Raises:
      ValueError: if x or the carry does not fit, or an argument is out of range.
      TypeError: if x is not floating, or the lengths are not integers.

    >>> params, state = rnn(8, layers=2).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> rnn(8, layers=2).apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 5, 8)
    """
    weights = Weights(name or "rnn", "rnn", preset, {"w_x": w_x_init, "w_h": w_h_init, "b": b_init}, bias)
    run = partial(ops.rnn, activation=activation, precision=precision)
    cell = _Cell("rnn", features, 1, weights, run)
    return _recurrent(cell, layers, bidirectional, last, return_carry, cached, name)


@recorded
def lstm(
    features: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    last: bool = False,
    return_carry: bool = False,
    cached: bool = False,
    bias: bool = True,
    peephole: bool = False,
    projection: int | None = None,
    preset: str = "jaxnn",
    w_x_init: Initializer | None = None,
    w_h_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Long short-term memory, [n, t, d] -> [n, t, features], as `ops.lstm`.

    The input is x [n, t, d], a `Padded`, (x, lengths) or (x, lengths, carry), as in `rnn`. The carry is (h, c).

    Params w_x [d, 4 features], w_h [features, 4 features], b [4 features], in the order input, forget, cell, output.
    The bias of the forget gate is initially 1 with "jaxnn" and "keras", so that the cell retains its state from the
    start.

    Args:
      features: size of the state, an integer >= 1.
      layers, bidirectional, last, return_carry, cached, bias: as in `rnn`.
      peephole: if True, the gates also receive the cell state; param peephole [3, features], initially zeros.
      projection: number of features to which h is projected, which are those of y; param projection. None omits it.
      preset, w_x_init, w_h_init, b_init, precision: as in `rnn`.
      name: pins the name.

    Raises:
      ValueError: if x or the carry does not fit, or an argument is out of range.
      TypeError: if x is not floating, the carry is not (h, c), or the lengths are not integers.

    >>> model = lstm(8, bidirectional=True, last=True)
    >>> x, lengths = jnp.ones((2, 5, 3)), jnp.array([5, 2])
    >>> params, state = model.init(jax.random.key(0), (x, lengths))
    >>> model.apply(params, state, (x, lengths))[0].shape
    (2, 16)
    """
    if projection is not None:
        projection = check.count(name or "lstm", "projection", projection)
    weights = Weights(name or "lstm", "lstm", preset, {"w_x": w_x_init, "w_h": w_h_init, "b": b_init}, bias)
    run = partial(ops.lstm, precision=precision)
    cell = _Cell("lstm", features, 4, weights, run, peephole=peephole, projection=projection)
    return _recurrent(cell, layers, bidirectional, last, return_carry, cached, name)


@recorded
def gru(
    features: int,
    *,
    layers: int = 1,
    bidirectional: bool = False,
    last: bool = False,
    return_carry: bool = False,
    cached: bool = False,
    bias: bool = True,
    reset: Literal["after", "before"] = "after",
    preset: str = "jaxnn",
    w_x_init: Initializer | None = None,
    w_h_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Gated recurrent unit, [n, t, d] -> [n, t, features], as `ops.gru`.

    The input is x [n, t, d], a `Padded`, (x, lengths) or (x, lengths, carry), as in `rnn`.

    Params w_x [d, 3 features], w_h [features, 3 features], b [3 features], in the order reset, update, candidate. With
    reset="after" also b_h [features], the candidate's bias inside the reset gate; the other parts of a second bias
    would only add to b.

    Args:
      features: size of the state, an integer >= 1.
      layers, bidirectional, last, return_carry, cached, bias: as in `rnn`.
      reset: position of the reset gate: "after" the product with w_h, as in cuDNN, PyTorch and Keras, or "before" it,
        as in the paper.
      preset, w_x_init, w_h_init, b_init, precision: as in `rnn`.
      name: pins the name.

    Raises:
      ValueError: if x or the carry does not fit, or an argument is out of range.
      TypeError: if x is not floating, or the lengths are not integers.

    >>> params, state = gru(8).init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> gru(8).apply(params, state, jnp.ones((2, 5, 3)))[0].shape
    (2, 5, 8)
    """
    check.choice(name or "gru", "reset", reset, ("after", "before"))
    weights = Weights(name or "gru", "gru", preset, {"w_x": w_x_init, "w_h": w_h_init, "b": b_init}, bias)
    run = partial(ops.gru, reset=reset, precision=precision)
    cell = _Cell("gru", features, 3, weights, run, own_bias=reset == "after")
    return _recurrent(cell, layers, bidirectional, last, return_carry, cached, name)


@recorded
def conv_lstm(
    features: int,
    kernel_size: int | Sequence[int],
    *,
    layers: int = 1,
    bidirectional: bool = False,
    last: bool = False,
    return_carry: bool = False,
    cached: bool = False,
    bias: bool = True,
    preset: str = "jaxnn",
    w_x_init: Initializer | None = None,
    w_h_init: Initializer | None = None,
    b_init: Initializer | None = None,
    precision: jax.lax.PrecisionLike = None,
    name: str | None = None,
) -> Layer:
    """Convolutional LSTM, for video, [n, t, *space, c] -> [n, t, *space, features], as `ops.conv_lstm`.

    The input is x [n, t, *space, c], a `Padded`, (x, lengths) or (x, lengths, carry), as in `rnn`. The carry is (h, c).
    Params w_x [*kernel_size, c, 4 features], w_h [*kernel_size, features, 4 features], b [4 features].

    Args:
      features: number of channels of the state, an integer >= 1.
      kernel_size: of both convolutions, an integer >= 1 for all space axes or one for each.
      layers, bidirectional, last, return_carry, cached, bias, preset, w_x_init, w_h_init, b_init: as in `rnn`.
      precision: of the products, as in `ops.conv`.
      name: pins the name.

    Raises:
      ValueError: if x or the carry does not fit, or an argument is out of range.
      TypeError: if x is not floating, the carry is not (h, c), or the lengths are not integers.

    >>> params, state = conv_lstm(8, 3).init(jax.random.key(0), jnp.ones((2, 5, 16, 16, 3)))
    >>> conv_lstm(8, 3).apply(params, state, jnp.ones((2, 5, 16, 16, 3)))[0].shape
    (2, 5, 16, 16, 8)
    """
    check_sizes(name or "conv_lstm", kernel_size=kernel_size)
    weights = Weights(name or "conv_lstm", "lstm", preset, {"w_x": w_x_init, "w_h": w_h_init, "b": b_init}, bias)
    run = partial(ops.conv_lstm, precision=precision)
    cell = _Cell("conv_lstm", features, 4, weights, run, kernel_size=kernel_size)
    return _recurrent(cell, layers, bidirectional, last, return_carry, cached, name)


@dataclass(frozen=True)
class _Cell:
    """One direction of one layer: its params, and its computation over a sequence."""

    kind: str
    features: int
    gates: int
    weights: Weights
    op: Callable[..., Any]
    peephole: bool = False
    projection: int | None = None
    own_bias: bool = False
    kernel_size: Any = None

    @property
    def out(self) -> int:
        return self.features if self.projection is None else self.projection

    def params(self, key: Key, x: Arrays, inputs: int) -> dict[str, Any]:
        h, wide, rank = self.features, self.gates * self.features, len(x.shape) - 3
        sizes = () if self.kernel_size is None else per_axis(self.weights.where, "kernel_size", self.kernel_size, rank)
        fan_in = h * prod(sizes)
        x_key, h_key, b_key, own_key, projection_key = split(key, 5)
        own: dict[str, Any] = {"b_h": (own_key, (h,))} if self.own_bias else {}
        params = self.weights.draw(x, fan_in, w_x=(x_key, (*sizes, inputs, wide)), b=(b_key, (wide,)), **own)
        params |= self._recurrent_weight(h_key, x, fan_in, (*sizes, self.out, wide))
        if self.peephole:
            params["peephole"] = full((3, h), 0, param_dtype(x))
        if self.projection is not None:
            drawn = self.weights.draw(x, fan_in, w_x=(projection_key, (h, self.projection)))
            params["projection"] = drawn["w_x"]
        return params

    def _recurrent_weight(self, key: Key, x: Arrays, fan_in: int, shape: tuple[int, ...]) -> dict[str, Any]:
        """Initial w_h. A preset's has one square matrix for each gate.

        The state of a projected or convolutional cell has other axes, so its w_h is drawn as a convolution's.
        """
        if self.weights.given["w_h"] is not None or shape[:-1] == (self.features,):
            return self.weights.draw(x, fan_in, w_h=(key, shape))
        of_conv = replace(self.weights, kind="conv", given={})
        return {"w_h": of_conv.draw(x, prod(shape[:-1]), w=(key, shape))["w"]}

    def run(self, params: Params, x: Arrays, carry: Arrays, lengths: Arrays, reverse: bool) -> tuple[Any, Any]:
        extra: dict[str, jax.Array] = {k: params[k] for k in ("peephole", "projection") if k in params}
        if "b_h" in params:
            extra["b_h"] = jnp.concatenate([jnp.zeros(2 * self.features, params["b_h"].dtype), params["b_h"]])
        b = params.get("b")
        return self.op(x, carry, params["w_x"], params["w_h"], b, lengths=lengths, reverse=reverse, **extra)


def _recurrent(
    cell: _Cell, layers: int, bidirectional: bool, last: bool, return_carry: bool, cached: bool, name: str | None
) -> Layer:
    where = name or cell.kind
    cell = replace(cell, features=check.count(where, "features", cell.features))
    layers = check.count(where, "layers", layers)
    check.flags(where, bidirectional=bidirectional, last=last, return_carry=return_carry, cached=cached)
    if cached and bidirectional:
        fix = "The backward direction starts at the end of the sequence."
        raise invalid(where, "one direction with cached=True", told="bidirectional=True", fix=fix)
    check.flags(where, peephole=cell.peephole)
    directions = ("forward", "backward") if bidirectional else ("forward",)
    space = "*space, c" if cell.kernel_size is not None else "d"

    def parts(x: Arrays) -> tuple[Any, Any, Any]:
        if isinstance(x, tuple | list):
            if not 1 <= len(x) <= 3:
                raise wrong_type(where, "x, (x, lengths) or (x, lengths, carry)", x)
            x, lengths, carry = (*x, None, None)[:3]
            if isinstance(x, Padded):
                fix = "Pass (s.x, s.lengths, carry)."
                raise wrong_type(where, "an array first in (x, lengths, carry)", x, fix)
        else:
            lengths = carry = None
        least = 3 if cell.kernel_size is None else 4
        x = check.array(where, "x", x, rank=3 if least == 3 else None, least=least, shape=f"[n, t, {space}]")
        if len(x.shape) > 6:
            raise invalid(where, "x of shape [n, t, *space, c] with 1 to 3 space axes", x)
        return x, lengths, carry

    def of(tree: Params, i: int, direction: str) -> dict[str, Any]:
        tree = tree[str(i)] if layers > 1 else tree
        return tree[direction] if bidirectional else tree

    def initial(key: Key, x: Arrays) -> tuple[Params, State]:
        x = parts(x)[0]
        params: Params = {}
        for i in range(layers):
            inputs = x.shape[-1] if i == 0 else len(directions) * cell.out
            of_layer = fold_in(key, i) if layers > 1 else key
            made = {}
            for j, direction in enumerate(directions):
                own = fold_in(of_layer, j) if bidirectional else of_layer
                made[direction] = cell.params(own, x, inputs)
            made = made if bidirectional else made["forward"]
            params |= {str(i): made} if layers > 1 else made
        if not cached:
            return params, {}
        ends = jax.eval_shape(lambda x: through(params, x, None, _listed(where, None, layers, 1))[1], x)
        return params, {"carry": _by_layer(jax.tree.map(lambda end: jnp.zeros(end.shape, end.dtype), ends))}

    def through(params: Params, x: Arrays, lengths: Arrays, carries: list[list[Any]]) -> tuple[jax.Array, list[Any]]:
        """The outputs of the last layer, and the carries after the last steps of all layers and directions."""
        after = []
        for i in range(layers):
            ys = []
            for j, direction in enumerate(directions):
                y, end = cell.run(of(params, i, direction), x, carries[i][j], lengths, direction == "backward")
                ys.append(y)
                after.append(end)
            x = jnp.concatenate(ys, -1) if bidirectional else ys[0]
        return x, after

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        hands_on = isinstance(x, Padded)
        x, lengths, carry = parts(x)
        check_fits(where, x, "w_x", of(params, 0, "forward")["w_x"].shape[-2], f"[n, t, {space[:-1]}{{}}]")
        if cached:
            if carry is not None:
                raise invalid(where, "no carry with cached=True", told="one", fix="It is the state's.")
            carry = _of_layers(state["carry"], layers)
        x, after = through(params, x, lengths, _listed(where, carry, layers, len(directions)))
        if cached:
            state = {**state, "carry": _by_layer(after)}
        if last:
            ends = [end[0] if isinstance(end, tuple) else end for end in after[-len(directions) :]]
            x = jnp.concatenate(ends, -1).astype(x.dtype)
        y = Padded(x, lengths) if hands_on and not last else x
        if not return_carry:
            return y, state
        pairs = [tuple(after[i : i + 2]) for i in range(0, len(after), 2)] if bidirectional else after
        return (y, tuple(pairs) if layers > 1 else pairs[0]), state

    return layer(initial, apply, cell.kind, name=name, padded="lengths")


def _by_layer(carries: list[Any]) -> dict[str, Any]:
    """Carries of layers as a nested dict, with h and c by name."""
    named = [dict(zip("hc", carry if isinstance(carry, tuple) else (carry,), strict=False)) for carry in carries]
    return {str(i): carry for i, carry in enumerate(named)} if len(named) > 1 else named[0]


def _of_layers(tree: State, layers: int) -> Any:
    """The carry, or the tuple of carries, that `_by_layer` named."""
    of_layer = [tree[str(i)] for i in range(layers)] if layers > 1 else [tree]
    carries = [(node["h"], node["c"]) if "c" in node else node["h"] for node in of_layer]
    return tuple(carries) if layers > 1 else carries[0]


def _listed(where: str, carry: Arrays, layers: int, directions: int) -> list[list[Any]]:
    """Carry of each layer and direction, from the structure that `return_carry` gives."""
    if carry is None:
        return [[None] * directions] * layers

    def split(carry: Arrays, n: int) -> list[Any]:
        if n == 1:
            return [carry]
        if not isinstance(carry, tuple | list) or len(carry) != n:
            raise invalid(where, f"a carry of {layers} layers and {directions} directions", carry)
        return list(carry)

    return [split(of_layer, directions) for of_layer in split(carry, layers)]
