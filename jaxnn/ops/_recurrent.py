"""Recurrent networks over whole sequences, with the carry as input and output.

The carry is in at least float32, whatever the dtype of x: the change of a step is often below the resolution of
bfloat16.

Each function defines `step(w, carry, affine, each) -> (carry, y)`. `affine(f, *v)` is f(a, w, *v), sums of products
with weights w, where a is x_t w_x + b; `each(f, *v, gates=a)` is f(*σ(a), *v), an elementwise function. `_scanned` runs
the steps, in the form that is fast on the platform.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from operator import mul
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.export import is_symbolic_dim
from jax.lax import PrecisionLike

from jaxnn import _checks as check
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._mesh import fitting, gathered, scan
from jaxnn._platform import local_cpu
from jaxnn.ops._conv import conv
from jaxnn.ops._lengths import before_end, check_lengths, without_padding
from jaxnn.ops._recurrence import as_rows, each, recurrence
from jaxnn.ops._wide import wide_einsum
from jaxnn.types import Arrays

Affine: TypeAlias = Callable[..., Any]
Each: TypeAlias = Callable[..., Array]


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
    times = partial(_times, dtype=x.dtype, precision=precision)

    def step(w: Arrays, h: Array, affine: Affine, _: Each) -> tuple[Array, Array]:
        h = activation(affine(lambda a, w, h: a + times(h, w["h"]), h))
        return h, h

    w = {"x": w_x, "h": w_h, "b": b}
    plain = _holds_traced(activation, h)
    return _scanned(step, w, h, partial(_from_x, precision), x, lengths, reverse, plain)


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
    w = {"x": w_x, "h": w_h, "b": b, "projection": projection}
    if peephole is not None:
        check.shape("lstm", "peephole", peephole, (3, size))
        w["peephole"] = jnp.asarray(peephole, param_dtype(x)).reshape(3, 1, size)
    h, c = _two("lstm", carry)
    out = size if projection is None else projection.shape[1]
    start = _start("lstm", h, (n, out), x), _start("lstm", c, (n, size), x)
    times = partial(_times, dtype=x.dtype, precision=precision)

    def step(w: Arrays, carry: Arrays, affine: Affine, each: Each) -> tuple[Any, Array]:
        h, c = carry
        h, c = _lstm_cell(affine(lambda a, w, h: a + times(h, w["h"]), h), c, each, *w.get("peephole", ()))
        h = h if projection is None else affine(lambda a, w, h: times(h, w["projection"]), h)
        return (h, c), h

    return _scanned(step, w, start, partial(_from_x, precision), x, lengths, reverse)


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
    times, gates = partial(_times, dtype=x.dtype, precision=precision), 2 * size

    def after(a: Array, w: Arrays, h: Array) -> tuple[Array, Array, Array]:
        u = times(h, w["h"]) + w["b_h"]
        return a[:, :gates] + u[:, :gates], a[:, gates:], u[:, gates:]

    def before(a: Array, w: Arrays, h: Array) -> Array:
        u = times(h, w["h"][:, :gates]) + w["b_h"][:, :gates]
        return a[:, :gates] + u

    def candidate(a: Array, w: Arrays, rh: Array) -> Array:
        return a[:, gates:] + times(rh, w["h"][:, gates:]) + w["b_h"][:, gates:]

    def step(w: Arrays, h: Array, affine: Affine, each: Each) -> tuple[Array, Array]:
        if reset == "after":
            rz, n, u = affine(after, h)
            h = each(_gru_state, n, u, h, gates=rz)
        else:
            r, z = jnp.split(each(jax.nn.sigmoid, affine(before, h)), 2, -1)
            h = each(_between, z, affine(candidate, each(mul, r, h)), h)
        return h, h

    w = {"x": w_x, "h": w_h, "b": b, "b_h": bias.reshape(1, -1)}
    return _scanned(step, w, h, partial(_from_x, precision), x, lengths, reverse)


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
    n, _, *space, _ = x.shape
    check_lengths("conv_lstm", lengths, n)
    h, c = _two("conv_lstm", carry)
    shape = (n, *space, features)
    start = _start("conv_lstm", h, shape, x), _start("conv_lstm", c, shape, x)
    dtype, wide = x.dtype, param_dtype(x)

    def from_x(w: Arrays, x: Array) -> Array:
        lead, image = x.shape[: x.ndim - rank - 1], x.shape[x.ndim - rank - 1 :]
        a = conv(x.reshape(prod(lead), *image), w["x"].astype(dtype), precision=precision)
        a = a.astype(wide).reshape(*lead, *a.shape[1:])
        return a if w["b"] is None else a + jnp.asarray(w["b"]).astype(wide).reshape(*(1,) * (a.ndim - 1), -1)

    def gates(a: Array, w: Arrays, h: Array) -> Array:
        return a + conv(h.astype(dtype), w["h"].astype(dtype), precision=precision).astype(wide)

    def step(w: Arrays, carry: Arrays, affine: Affine, each: Each) -> tuple[Any, Array]:
        h, c = carry
        h, c = _lstm_cell(affine(gates, h), c, each)
        return (h, c), h

    return _scanned(step, {"x": w_x, "h": w_h, "b": b}, start, from_x, x, lengths, reverse)


def _lstm_cell(a: Array, c: Array, each: Each, *peephole: Array) -> tuple[Array, Array]:
    i, f, g, o = jnp.split(a, 4, -1)
    c = each(_lstm_state, i, f, g, c, *peephole[:2])
    return each(_lstm_output, o, c, *peephole[2:]), c


def _lstm_state(i: Array, f: Array, g: Array, c: Array, *peephole: Array) -> Array:
    if peephole:
        i, f = i + peephole[0] * c, f + peephole[1] * c
    return jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)


def _lstm_output(o: Array, c: Array, *peephole: Array) -> Array:
    o = o + peephole[0] * c if peephole else o
    return jax.nn.sigmoid(o) * jnp.tanh(c)


def _gru_state(r: Array, z: Array, n: Array, u: Array, h: Array) -> Array:
    return _between(z, n + r * u, h)


def _between(z: Array, n: Array, h: Array) -> Array:
    g = jnp.tanh(n)
    return g + z * (h - g)


def _times(h: Array, w: Array, dtype: Any, precision: PrecisionLike) -> Array:
    """h w with factors in `dtype` and sums in h's dtype."""
    return wide_einsum("nh,hk->nk", h.astype(dtype), jnp.asarray(w).astype(dtype), h.dtype, precision)


def _from_x(precision: PrecisionLike, w: Arrays, x: Array) -> Array:
    """x w_x + b, of one step, [n, d], or of all, [n, t, d]."""
    wide, axes = param_dtype(x), "nd" if x.ndim == 2 else "ntd"
    a = wide_einsum(f"{axes},dk->{axes[:-1]}k", x, jnp.asarray(w["x"]).astype(x.dtype), wide, precision)
    b = w["b"]
    return a if b is None else a + fitting(jnp.asarray(b).astype(wide).reshape(*(1,) * (x.ndim - 1), -1), a)


def _scanned(
    step: Callable[..., Any],
    w: Arrays,
    carry: Arrays,
    from_x: Callable[..., Array],
    x: Array,
    lengths: Array | None,
    reverse: bool,
    plain: bool = False,
) -> tuple[Any, Any]:
    """Scan of a step along axis 1; after the lengths the carry is unchanged and y is 0.

    On accelerators x w_x is one product for all steps before the scan, and JAX differentiates the scan. On a CPU that
    product is part of each step, because reading it back costs more than it saves: a train step of the LSTM of
    `benchmarks/recurrent.py` takes 0.8 of the time, its forward pass 0.5. With few rows each step would mostly read
    w_x: there it stays before the scan (n = 8, d = h = 512: 1.3 times the time in each step).

    Args:
      from_x: (w, x) -> x w_x + b, for x of one step or of all.
      plain: if True, the form for accelerators.
    """
    x, dtype = without_padding(x, lengths), x.dtype
    fast = local_cpu() and not plain
    xs = x if fast else gathered(from_x(w, x), axis=1)  # on an Explicit mesh: steps are processed sequentially
    counts = None if lengths is None else jnp.moveaxis(before_end(lengths, xs), 1, 0)
    xs = jnp.moveaxis(xs, 1, 0)

    def until_end(w: Arrays, carry: Arrays, counts: Array | None, affine: Affine, each: Each) -> tuple[Any, Array]:
        new, y = step(w, carry, affine, each)
        if counts is not None:
            new = jax.tree.map(lambda new, old: jnp.where(counts, new, old), new, carry)
            y = jnp.where(counts, y, jnp.zeros((), y.dtype))
        return new, y.astype(dtype)

    def one(carry: Arrays, inputs: Any) -> tuple[Any, Array]:
        a, counts = inputs
        return until_end(w, carry, counts, lambda f, *v: f(a, w, *v), each)

    def one_on_cpu(w: Arrays, carry: Arrays, inputs: Any, affine: Affine, each: Each) -> tuple[Any, Array]:
        def of_x(f: Callable[..., Any], *v: Array) -> Any:
            return affine(lambda w, inputs, *v: f(inputs[0] if early else from_x(w, inputs[0]), w, *v), *v)

        return until_end(w, carry, inputs[1], of_x, each)

    if fast:
        if early := _few_rows(xs):
            a = from_x(w, as_rows(xs))
            xs = a.reshape(*xs.shape[:2], *a.shape[1:])
        carry, y = recurrence(one_on_cpu, reverse, w, carry, (xs, counts))
    else:
        carry, y = scan(one, carry, (xs, counts), reverse=reverse)
    return jnp.moveaxis(y, 0, 1), carry


def _few_rows(xs: Array) -> bool:
    """True if a step has few rows for the number of their features, xs [t, n, ..., d]."""
    rows = xs.shape[1:-1]
    return not any(map(is_symbolic_dim, xs.shape)) and xs.shape[-1] > 16 * prod(rows)


def _holds_traced(f: Callable[..., Any], *args: Array) -> bool:
    """True if f closes over traced arrays."""
    return any(isinstance(v, jax.core.Tracer) for v in jax.make_jaxpr(f)(*args).consts)


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
