"""Recurrent networks over whole sequences, with the carry as input and output.

The carry is in at least float32, whatever the dtype of x: the change of a step is often below the resolution of
bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._mesh import fitting, gathered, scan
from jaxnn._platform import local_cpu
from jaxnn.ops._conv import conv
from jaxnn.ops._lengths import before_end, check_lengths, without_padding
from jaxnn.ops._wide import wide_einsum
from jaxnn.types import Arrays


def rnn(
    x: Array,
    carry: Array | None,
    w_x: Array,
    w_h: Array,
    b: Array | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    activation: Callable[[Array], Array] = jnp.tanh,
    precision: PrecisionLike = None,
) -> tuple[Array, Array]:
    """Elman recurrent network, [n, t, d] -> ([n, t, h], carry [n, h]).

        h_t = activation(x_t w_x + h_{t-1} w_h + b)

    Args:
      x: sequences, floating.
      carry: h before the first step; None is zeros. To process a sequence in pieces, pass the carry that the piece
        before returned.
      w_x, w_h, b: [d, h], [h, h], [h]; b is optional.
      lengths: integers [n], the number of valid steps of each sequence. Later steps give zeros, leave the carry
        unchanged and get no gradient, whatever they hold.
      reverse: if True, runs from the last step (of `lengths`) to the first.
      activation: an elementwise function.
      precision: of the products, as in `jax.lax.dot_general`.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating, or the lengths are not integers.

    Reference: Elman, Finding Structure in Time, 1990.

    >>> y, h = rnn(jnp.ones((1, 3, 1)), None, jnp.ones((1, 1)), jnp.ones((1, 1)), activation=lambda v: v)
    >>> y[0, :, 0].tolist(), h.tolist()
    ([1.0, 2.0, 3.0], [[3.0]])
    """
    check.flags("rnn", reverse=reverse)
    x, size = _checked("rnn", x, w_x, w_h, b, 1, lengths)
    h = _start("rnn", carry, (x.shape[0], size), x)

    def step(h: Array, a: Array) -> tuple[Array, Array]:
        h = activation(a + _times(h, w_h, x, precision))
        return h, h

    return _scanned(step, h, _inputs(x, w_x, b, lengths, precision), x, lengths, reverse)


def lstm(
    x: Array,
    carry: tuple[Array, Array] | None,
    w_x: Array,
    w_h: Array,
    b: Array | None = None,
    *,
    peephole: Array | None = None,
    projection: Array | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
    precision: PrecisionLike = None,
) -> tuple[Array, tuple[Array, Array]]:
    """Long short-term memory, [n, t, d] -> ([n, t, h], carry (h [n, h], c [n, h])).

        i, f, g, o = x_t w_x + h_{t-1} w_h + b
        c_t = σ(f) c_{t-1} + σ(i) tanh(g)
        h_t = σ(o) tanh(c_t)

    Args:
      x: sequences, floating.
      carry: (h, c) before the first step; None is zeros.
      w_x, w_h, b: [d, 4 h], [h, 4 h], [4 h]; b is optional. The gates are in the order input, forget, cell, output, as
        in PyTorch and Keras. PyTorch has two biases, which are added.
      peephole: weights [3, h] with which the cell state is added to the input and forget gates (c_{t-1}) and to the
        output gate (c_t). None omits them.
      projection: [h, p]; h_t is replaced by h_t projection, and w_h is [p, 4 h]. None omits it.
      lengths: integers [n], the number of valid steps of each sequence. Later steps give zeros, leave the carry
        unchanged and get no gradient, whatever they hold.
      reverse: if True, runs from the last step (of `lengths`) to the first.
      precision: of the products, as in `jax.lax.dot_general`.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating, the carry is not (h, c), or the lengths are not integers.

    Reference: Hochreiter & Schmidhuber, Long Short-Term Memory, 1997; Gers & Schmidhuber, Recurrent Nets that Time and
    Count, 2000 (peephole); Sak et al., Long Short-Term Memory Based Recurrent Neural Network Architectures, 2014
    (projection).

    >>> y, (h, c) = lstm(jnp.ones((2, 5, 3)), None, jnp.ones((3, 8)), jnp.ones((2, 8)))
    >>> y.shape, h.shape, c.shape
    ((2, 5, 2), (2, 2), (2, 2))
    """
    check.flags("lstm", reverse=reverse)
    x, size = _checked("lstm", x, w_x, w_h, b, 4, lengths, projection)
    n = x.shape[0]
    wide = param_dtype(x)
    if peephole is not None:
        check.shape("lstm", "peephole", peephole, (3, size))
        peephole = jnp.asarray(peephole, wide).reshape(3, 1, size)
    h, c = _two("lstm", carry)
    out = size if projection is None else projection.shape[1]
    start = _start("lstm", h, (n, out), x), _start("lstm", c, (n, size), x)

    def step(carry: Arrays, a: Array) -> tuple[Any, Array]:
        h, c = carry
        h, c = _lstm_cell(a + _times(h, w_h, x, precision), c, peephole)
        h = h if projection is None else _times(h, projection, x, precision)
        return (h, c), h

    return _scanned(step, start, _inputs(x, w_x, b, lengths, precision), x, lengths, reverse)


def gru(
    x: Array,
    carry: Array | None,
    w_x: Array,
    w_h: Array,
    b: Array | None = None,
    b_h: Array | None = None,
    *,
    reset: Literal["after", "before"] = "after",
    lengths: Array | None = None,
    reverse: bool = False,
    precision: PrecisionLike = None,
) -> tuple[Array, Array]:
    """Gated recurrent unit, [n, t, d] -> ([n, t, h], carry [n, h]).

        r, z = σ(x_t w_x + b + h_{t-1} w_h + b_h)           the first two of three parts
        g = tanh(x_t w_x + b + r (h_{t-1} w_h + b_h))       the third, reset="after"
        g = tanh(x_t w_x + b + (r h_{t-1}) w_h + b_h)       the third, reset="before"
        h_t = (1 - z) g + z h_{t-1}

    Args:
      x: sequences, floating.
      carry: h before the first step; None is zeros.
      w_x, w_h, b, b_h: [d, 3 h], [h, 3 h], [3 h], [3 h]; b and b_h are optional. The parts are in the order reset,
        update, candidate, as in PyTorch; Keras has update, reset, candidate.
      reset: position of the reset gate: "after" the product with w_h, as in cuDNN, PyTorch and Keras (one product a
        step), or "before" it, as in the paper.
      lengths: integers [n], the number of valid steps of each sequence. Later steps give zeros, leave the carry
        unchanged and get no gradient, whatever they hold.
      reverse: if True, runs from the last step (of `lengths`) to the first.
      precision: of the products, as in `jax.lax.dot_general`.

    Raises:
      ValueError: if the shapes do not fit, or `reset` is unknown.
      TypeError: if x is not floating, or the lengths are not integers.

    Reference: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014, where z and 1 - z are
    exchanged.

    >>> y, h = gru(jnp.ones((2, 5, 3)), None, jnp.ones((3, 6)), jnp.ones((2, 6)))
    >>> y.shape, h.shape
    ((2, 5, 2), (2, 2))
    """
    check.choice("gru", "reset", reset, ("after", "before"))
    check.flags("gru", reverse=reverse)
    x, size = _checked("gru", x, w_x, w_h, b, 3, lengths)
    if b_h is not None:
        check.shape("gru", "b_h", b_h, (3 * size,))
    h = _start("gru", carry, (x.shape[0], size), x)
    bias = jnp.zeros(3 * size, h.dtype) if b_h is None else jnp.asarray(b_h).astype(h.dtype)
    bias = bias.reshape(1, -1)

    def step(h: Array, a: Array) -> tuple[Array, Array]:
        if reset == "after":
            u = _times(h, w_h, x, precision) + bias
            r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * size] + u[:, : 2 * size]), 2, -1)
            g = jnp.tanh(a[:, 2 * size :] + r * u[:, 2 * size :])
        else:
            u = _times(h, w_h[:, : 2 * size], x, precision) + bias[:, : 2 * size]
            r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * size] + u), 2, -1)
            g = jnp.tanh(a[:, 2 * size :] + _times(r * h, w_h[:, 2 * size :], x, precision) + bias[:, 2 * size :])
        h = g + z * (h - g)
        return h, h

    return _scanned(step, h, _inputs(x, w_x, b, lengths, precision), x, lengths, reverse)


def conv_lstm(
    x: Array,
    carry: tuple[Array, Array] | None,
    w_x: Array,
    w_h: Array,
    b: Array | None = None,
    *,
    lengths: Array | None = None,
    reverse: bool = False,
    precision: PrecisionLike = None,
) -> tuple[Array, tuple[Array, Array]]:
    """Convolutional LSTM, for video, [n, t, *space, c] -> ([n, t, *space, f], carry (h, c)).

    `lstm` with convolutions in place of products.

    Args:
      x: sequences of images, floating.
      carry: (h, c), each [n, *space, f], before the first step; None is zeros.
      w_x, w_h, b: [*kernel_size, c, 4 f], [*kernel_size, f, 4 f], [4 f]; b is optional. The gates are in the order
        input, forget, cell, output.
      lengths: integers [n], the number of valid steps of each sequence, as in `lstm`.
      reverse: if True, runs from the last step (of `lengths`) to the first.
      precision: of the products, as in `conv`.

    Raises:
      ValueError: if the shapes do not fit.
      TypeError: if x is not floating, the carry is not (h, c), or the lengths are not integers.

    Differences: without the peephole of the paper, as in Keras.

    Reference: Shi et al., Convolutional LSTM Network, 2015.

    >>> y, (h, c) = conv_lstm(jnp.ones((2, 5, 8, 8, 3)), None, jnp.ones((3, 3, 3, 8)), jnp.ones((3, 3, 2, 8)))
    >>> y.shape, c.shape
    ((2, 5, 8, 8, 2), (2, 8, 8, 2))
    """
    check.flags("conv_lstm", reverse=reverse)
    x = check.array("conv_lstm", "x", x, least=4, shape="[n, t, *space, c]")
    rank = x.ndim - 3
    if jnp.ndim(w_x) != rank + 2 or jnp.ndim(w_h) != rank + 2 or rank > 3:
        raise invalid("conv_lstm", f"w_x and w_h with {rank} kernel axes, of 1 to 3", (w_x, w_h))
    features = w_h.shape[-2]
    fits = w_x.shape[-1] == w_h.shape[-1] == 4 * features and w_x.shape[-2] == x.shape[-1]
    if not fits or (b is not None and jnp.shape(b) != (4 * features,)):
        expected = f"w_x [*kernel_size, {x.shape[-1]}, 4 f], w_h [*kernel_size, f, 4 f] and b [4 f]"
        raise invalid("conv_lstm", expected, (w_x, w_h, b))
    n, t, *space, _ = x.shape
    check_lengths("conv_lstm", lengths, n)
    h, c = _two("conv_lstm", carry)
    shape = (n, *space, features)
    start = _start("conv_lstm", h, shape, x), _start("conv_lstm", c, shape, x)
    a = conv(without_padding(x, lengths).reshape(n * t, *x.shape[2:]), w_x.astype(x.dtype), precision=precision)
    a = a.astype(param_dtype(x)).reshape(n, t, *a.shape[1:])
    if b is not None:
        a = a + jnp.asarray(b).astype(a.dtype).reshape(*(1,) * (a.ndim - 1), -1)

    def step(carry: Arrays, a: Array) -> tuple[Any, Array]:
        h, c = carry
        from_h = conv(h.astype(x.dtype), w_h.astype(x.dtype), precision=precision)
        h, c = _lstm_cell(a + from_h.astype(a.dtype), c, None)
        return (h, c), h

    return _scanned(step, start, a, x, lengths, reverse)


def _lstm_cell(a: Array, c: Array, peephole: Array | None) -> tuple[Array, Array]:
    i, f, g, o = jnp.split(a, 4, -1)
    if peephole is not None:
        i, f = i + peephole[0] * c, f + peephole[1] * c
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    o = o if peephole is None else o + peephole[2] * c
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _times(h: Array, w: Array, x: Array, precision: PrecisionLike) -> Array:
    """h w with factors in x's dtype and sums in the carry's dtype."""
    return wide_einsum("nh,hk->nk", h.astype(x.dtype), jnp.asarray(w).astype(x.dtype), h.dtype, precision)


def _inputs(x: Array, w_x: Array, b: Array | None, lengths: Array | None, precision: PrecisionLike) -> Array:
    """x w_x + b for all steps at once: one large product in place of many small ones in the loop."""
    wide, (n, t, d) = param_dtype(x), x.shape
    x, w_x = without_padding(x, lengths), jnp.asarray(w_x).astype(x.dtype)
    if local_cpu():  # batch and time merged as in `dense`, for the gradient of w_x
        a = wide_einsum("ad,dk->ak", x.reshape(n * t, d), w_x, wide, precision).reshape(n, t, w_x.shape[1])
    else:
        a = wide_einsum("ntd,dk->ntk", x, w_x, wide, precision)
    return a if b is None else a + fitting(jnp.asarray(b).astype(wide).reshape(1, 1, -1), a)


def _scanned(
    step: Callable[..., Any], carry: Arrays, a: Array, x: Array, lengths: Array | None, reverse: bool
) -> tuple[Any, Any]:
    """Scan of `step(carry, a_t) -> (carry, y_t)` along axis 1; after the lengths the carry is unchanged and y is 0.

    On an Explicit mesh the steps of a sequence are gathered, because they are processed sequentially.
    """
    a = gathered(a, axis=1)
    counts = None if lengths is None else jnp.moveaxis(before_end(lengths, a), 1, 0)

    def one(carry: Arrays, inputs: Any) -> tuple[Any, Array]:
        a, counts = inputs
        new, y = step(carry, a)
        if counts is not None:
            new = jax.tree.map(lambda new, old: jnp.where(counts, new, old), new, carry)
            y = jnp.where(counts, y, jnp.zeros((), y.dtype))
        return new, y.astype(x.dtype)

    carry, y = scan(one, carry, (jnp.moveaxis(a, 1, 0), counts), reverse=reverse)
    return jnp.moveaxis(y, 0, 1), carry


def _checked(
    where: str,
    x: Array,
    w_x: Array,
    w_h: Array,
    b: Array | None,
    gates: int,
    lengths: Array | None,
    projection: Array | None = None,
) -> tuple[Array, int]:
    """x as an array, and the size of the state."""
    x = check.array(where, "x", x, rank=3, shape="[n, t, d]")
    if jnp.ndim(w_x) != 2 or jnp.ndim(w_h) != 2:
        raise invalid(where, "w_x and w_h with two axes", (w_x, w_h))
    size, odd = divmod(w_x.shape[1], gates)
    if projection is not None and (jnp.ndim(projection) != 2 or projection.shape[0] != size):
        raise invalid(where, f"projection of shape [{size}, p]", projection)
    out = size if projection is None else projection.shape[1]
    fits = not odd and w_x.shape[0] == x.shape[-1] and w_h.shape == (out, w_x.shape[1])
    if not fits or (b is not None and jnp.shape(b) != w_x.shape[1:]):
        wide = "h" if gates == 1 else f"{gates} h"
        raise invalid(where, f"w_x [{x.shape[-1]}, {wide}], w_h [h, {wide}] and b [{wide}]", (w_x, w_h, b))
    check_lengths(where, lengths, x.shape[0])
    return x, size


def _two(where: str, carry: Arrays) -> tuple[Any, Any]:
    if carry is None:
        return None, None
    if not isinstance(carry, tuple | list) or len(carry) != 2:
        raise wrong_type(where, "carry to be (h, c) or None", carry)
    return carry[0], carry[1]


def _start(where: str, carry: Array | None, shape: tuple[int, ...], x: Array) -> Array:
    dtype = param_dtype(x)
    if carry is None:
        return jnp.zeros(shape, dtype)
    check.shape(where, "a carry", carry, shape)
    return jnp.asarray(carry).astype(dtype)
