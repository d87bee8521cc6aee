"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxnn import _checks as check
from jaxnn import ops
from jaxnn._calls import recorded
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid, wrong_type
from jaxnn._filled import full
from jaxnn._inputs import whole
from jaxnn._layer import Layer, PaddedRule, layer, of_function
from jaxnn._padded import Padded, on_values, padded_pair, values_of
from jaxnn.layers._weights import check_fits
from jaxnn.types import Arrays, Key, Params, State


@recorded
def batch_norm(
    *,
    momentum: float | jax.Array = 0.9,
    eps: float | jax.Array = 1e-5,
    scale: bool = True,
    bias: bool = True,
    axis_name: str | tuple[str, ...] | None = None,
    name: str | None = None,
) -> Layer:
    """Batch normalisation over all axes except the last, [n, ..., c] -> [n, ..., c].

        y = (x - mean) / sqrt(var + eps) · scale + bias

    With `train=True`, mean and variance are those of the batch, and the running statistics in the state are updated:
    `mean <- momentum · mean + (1 - momentum) · batch mean`. With `train=False` the running statistics are used.
    Statistics are in at least float32, in two passes. The layer before it needs no bias.

    Params scale [c], initially ones, and bias [c], initially zeros, as in PyTorch, Keras and flax; state mean [c] and
    var [c].

    Args:
      momentum: fraction of the running statistics kept at each step, in [0, 1].
      eps: added to the variance, >= 0.
      scale, bias: False omits scale or bias, as PyTorch's affine=False omits both; Keras's scale and center.
      axis_name: name or names of the axes over which the batch is distributed, of a mesh under `jax.shard_map` or of
        `jax.vmap(axis_name=)`. The statistics are then those of the whole batch, equal on all shards. Without it each
        shard has its own batch statistics there, and running statistics that differ between shards. Not needed under
        `jit` with sharded arrays, where the batch is the whole one. Used only in training.
      name: pins the name.

    Raises:
      ValueError: if a batch in training is empty, x has another number of channels, an argument is out of range, or no
        surrounding `shard_map` or `vmap` has the axis `axis_name`.
      TypeError: if x is not floating, or `axis_name` is not a string, a tuple of strings or None.

    Differences: the variance is the biased one in the batch and in the running statistics, as in Keras and flax;
    PyTorch keeps an unbiased running variance. PyTorch's momentum is one minus this one. In place of `axis_name`
    PyTorch has the class SyncBatchNorm; flax's axis_name and Keras's synchronized are equivalent.

    Reference: Ioffe & Szegedy, Batch Normalization, 2015.

    >>> params, state = batch_norm().init(jax.random.key(0), jnp.ones((4, 3)))
    >>> y, state = batch_norm().apply(params, state, jnp.arange(12.0).reshape(4, 3), train=True)
    >>> jnp.allclose(y.mean(axis=0), 0, atol=1e-6).item(), state["mean"].round(2).tolist()
    (True, [0.44999..., 0.55000..., 0.64999...])
    """
    where = name or "batch_norm"
    fix = "PyTorch's momentum is one minus this one."
    check.scalar(where, "momentum", momentum, below=1.0, ends="[]", fix=fix)
    check.scalar(where, "eps", eps)
    check.flags(where, scale=scale, bias=bias)
    names = (axis_name,) if isinstance(axis_name, str) else axis_name or ()
    if not (isinstance(names, tuple) and all(isinstance(axis, str) for axis in names)):
        raise wrong_type(where, "axis_name to be a name, several or None", axis_name)

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        x = values_of(x)
        check.array(where, "x", x, least=2, shape="[n, ..., c]")
        c, dtype = x.shape[-1], param_dtype(x)
        return _params((c,), dtype, scale, bias), {"mean": full((c,), 0, dtype), "var": full((c,), 1, dtype)}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        given, c = x, state["mean"].shape[0]
        x = check.array(where, "x", values_of(given), least=2, shape=f"[n, ..., {c}]")
        check_fits(where, x, "mean", c, "[n, ..., {}]")
        counts = None
        if isinstance(given, Padded):
            x, counts = given.zeroed, given.mask_over(x)
        if not train:
            mean, var = state["mean"], state["var"]
        elif x.size == 0:
            raise invalid(where, "at least one example to take statistics over", x)
        else:
            mean, var = ops.moments(x, axis=tuple(range(x.ndim - 1)), where=counts)
            n = _examples(x, counts)
            if names:
                mean, var, n = _over_shards(where, names, mean, var, n)
            state = _renewed(state, mean, var, n, momentum)
        y = ops.normalize(x, mean, var, eps, *_affine(params, scale, bias))
        return on_values(lambda _: y, given), state

    return layer(init, apply, "batch_norm", name=name, padded="seen")


def _examples(x: jax.Array, counts: jax.Array | None) -> int | jax.Array:
    """Number of values in the statistics of one channel."""
    if counts is None:
        return x.size // x.shape[-1]
    places = x.size // x.shape[-1] // counts.size  # positions of each element of the mask
    return jnp.sum(counts, dtype=jnp.float32) * places


def _renewed(
    state: State, mean: jax.Array, var: jax.Array, n: int | jax.Array, momentum: float | jax.Array
) -> dict[str, Any]:
    """Running statistics after a batch of n values for each channel; unchanged if n is 0."""
    if "count" in state:
        return _merged(state, mean, var, n)
    moved = {"mean": _moved(state["mean"], mean, momentum), "var": _moved(state["var"], var, momentum)}
    return moved if isinstance(n, int) else {name: jnp.where(n > 0, moved[name], state[name]) for name in moved}


def _moved(running: jax.Array, batch: jax.Array, momentum: float | jax.Array) -> jax.Array:
    batch = jax.lax.stop_gradient(batch).astype(running.dtype)
    return running + jnp.asarray(1 - momentum, running.dtype) * (batch - running)


def _over_shards(
    where: str, names: tuple[str, ...], mean: jax.Array, var: jax.Array, n: Arrays
) -> tuple[jax.Array, jax.Array, Any]:
    """Mean, variance and count over all shards, from those of each shard; exact, in two passes.

    With fractions s = n / Σ n over the shards: mean <- Σ s mean, var <- Σ s (var + (mean of the shard - mean)²).
    """
    for axis in names:
        try:
            jax.lax.axis_size(axis)
        except NameError as error:
            fix = "Leave axis_name out where the batch is not spread by hand: under jit it is the whole one."
            expected = f"axis_name={axis!r} to be an axis of a jax.shard_map or a jax.vmap(axis_name=) around it"
            raise invalid(where, expected, told="no such axis", fix=fix) from error
    total = jax.lax.psum(n, names)
    share = jnp.asarray(n / jnp.maximum(total, 1), mean.dtype)
    whole = jax.lax.psum(share * mean, names)
    return whole, jax.lax.psum(share * (var + jnp.square(mean - whole)), names), total


def _merged(state: State, mean: jax.Array, var: jax.Array, n: int | jax.Array) -> dict[str, Any]:
    """Exact statistics of all examples so far and n more; `recalibrate` stores the count next to them."""
    before, dtype = state["count"], state["mean"].dtype
    n = jnp.asarray(n, before.dtype)
    share = (n / jnp.maximum(before + n, 1)).astype(dtype)
    gap = jax.lax.stop_gradient(mean).astype(dtype) - state["mean"]
    spread = jax.lax.stop_gradient(var).astype(dtype) - state["var"]
    moved = state["var"] + share * spread + share * (1 - share) * jnp.square(gap)
    return {"mean": state["mean"] + share * gap, "var": moved, "count": before + n}


@recorded
def layer_norm(
    *,
    scale: bool = True,
    bias: bool = True,
    axis: int = -1,
    eps: float | jax.Array = 1e-5,
    name: str | None = None,
) -> Layer:
    """Layer normalisation over the axes from `axis` to the last, [..., *d] -> [..., *d], as `ops.layer_norm`.

    The same in training and evaluation, and independent of the batch. Params scale [*d], initially ones, and bias [*d],
    initially zeros.

    Args:
      scale, bias: False omits scale or bias; both False is PyTorch's elementwise_affine=False.
      axis: first of the normalised axes; -1 is the last axis alone, the features.
      eps: added to the variance, >= 0. The default is PyTorch's; Keras's is 1e-3, flax's 1e-6.
      name: pins the name.

    Raises:
      ValueError: if x has other features than the params, x has no such axis, or `eps` is out of range.
      TypeError: if x is not floating.

    >>> params, state = layer_norm().init(jax.random.key(0), jnp.ones((4, 2)))
    >>> layer_norm().apply(params, state, jnp.array([[1.0, 3.0]]))[0].round(2).tolist()
    [[-1.0, 1.0]]
    """

    def apply(x: Arrays, scale: jax.Array | None, bias: jax.Array | None, counts: jax.Array | None) -> jax.Array:
        return ops.layer_norm(x, scale, bias, axis=axis, eps=eps)

    return _by_example("layer_norm", apply, 1, eps, scale, bias, name, axis)


@recorded
def rms_norm(*, scale: bool = True, axis: int = -1, eps: float | jax.Array = 1e-6, name: str | None = None) -> Layer:
    """RMS normalisation over the axes from `axis` to the last, [..., *d] -> [..., *d], as `ops.rms_norm`.

    Params scale [*d], initially ones.

    Args:
      scale: False omits the scale.
      axis: first of the normalised axes; -1 is the last axis alone, the features.
      eps: added to the mean square, >= 0.
      name: pins the name.

    Raises:
      ValueError: if x has other features than the params, x has no such axis, or `eps` is out of range.
      TypeError: if x is not floating.

    >>> params, state = rms_norm().init(jax.random.key(0), jnp.ones((4, 2)))
    >>> rms_norm().apply(params, state, jnp.array([[2.0, -2.0]]))[0].round(2).tolist()
    [[1.0, -1.0]]
    """

    def apply(x: Arrays, scale: jax.Array | None, bias: jax.Array | None, counts: jax.Array | None) -> jax.Array:
        return ops.rms_norm(x, scale, axis=axis, eps=eps)

    return _by_example("rms_norm", apply, 1, eps, scale, False, name, axis)


@recorded
def group_norm(
    groups: int,
    *,
    scale: bool = True,
    bias: bool = True,
    eps: float | jax.Array = 1e-5,
    name: str | None = None,
) -> Layer:
    """Group normalisation: each example over space and groups of channels, [n, *space, c] -> [n, *space, c].

    As `ops.group_norm`. Params scale [c], initially ones, and bias [c], initially zeros.

    Args:
      groups: number of equal groups of consecutive channels, an integer >= 1 that divides c; flax's default is 32.
      scale, bias: False omits scale or bias.
      eps: added to the variance, >= 0.
      name: pins the name.

    Raises:
      ValueError: if x has other channels than the params, the groups do not divide them, or an argument is out of
        range.
      TypeError: if x is not floating.

    >>> params, state = group_norm(2).init(jax.random.key(0), jnp.ones((1, 8, 8, 4)))
    >>> params["scale"].shape
    (4,)
    """
    groups = check.count(name or "group_norm", "groups", groups)

    def apply(x: Arrays, scale: jax.Array | None, bias: jax.Array | None, counts: jax.Array | None) -> jax.Array:
        return ops.group_norm(x, groups, scale, bias, eps=eps, where=counts)

    return _by_example("group_norm", apply, 2, eps, scale, bias, name, groups=groups)


@recorded
def instance_norm(
    *, scale: bool = True, bias: bool = True, eps: float | jax.Array = 1e-5, name: str | None = None
) -> Layer:
    """Instance normalisation: each channel of each example over space, [n, *space, c] -> [n, *space, c].

    As `ops.instance_norm`. Params scale [c], initially ones, and bias [c], initially zeros.

    Args:
      scale, bias: False omits scale or bias.
      eps: added to the variance, >= 0.
      name: pins the name.

    Raises:
      ValueError: if x has other channels than the params, or `eps` is out of range.
      TypeError: if x is not floating.

    Differences: PyTorch's has no params by default: scale=False, bias=False.

    >>> params, state = instance_norm().init(jax.random.key(0), jnp.ones((1, 8, 8, 4)))
    >>> params["bias"].shape
    (4,)
    """

    def apply(x: Arrays, scale: jax.Array | None, bias: jax.Array | None, counts: jax.Array | None) -> jax.Array:
        return ops.instance_norm(x, scale, bias, eps=eps, where=counts)

    return _by_example("instance_norm", apply, 3, eps, scale, bias, name)


@recorded
def local_response_norm(
    size: int = 5,
    *,
    alpha: float | jax.Array = 1e-4,
    beta: float | jax.Array = 0.75,
    k: float | jax.Array = 1.0,
    name: str | None = None,
) -> Layer:
    """Local response normalisation, division by the activity of neighbouring channels, [..., c] -> [..., c].

    As `ops.local_response_norm`.

    Args:
      size: number of channels in the sum, an integer >= 1.
      alpha, beta, k: as in `ops.local_response_norm`.
      name: pins the name.

    Raises:
      ValueError: if `size` is not an integer >= 1.
      TypeError: if x is not floating.

    >>> local_response_norm(3).apply({}, {}, jnp.ones((2, 8, 8, 4)))[0].shape
    (2, 8, 8, 4)
    """
    size = check.count(name or "local_response_norm", "size", size)
    op = partial(ops.local_response_norm, size=size, alpha=alpha, beta=beta, k=k)
    return of_function(op, "local_response_norm", name, 1)


def _by_example(
    kind: str,
    op: Callable[..., Any],
    least: int,
    eps: float | jax.Array,
    scale: bool,
    bias: bool,
    name: str | None,
    axis: int = -1,
    groups: int = 1,
) -> Layer:
    """A norm without state, with params over the axes from `axis` to the last; norms over space exclude padding."""
    where = name or kind
    shape = "[n, *space, c]" if least > 1 else "[..., *d]"
    check.scalar(where, "eps", eps)
    check.flags(where, scale=scale, bias=bias)

    over_space, last = least > 1, whole(axis)
    rule: PaddedRule = "lengths" if over_space else -last if last is not None and last < 0 else "examples"

    def init(key: Key, x: Arrays) -> tuple[Params, State]:
        x = check.array(where, "x", values_of(padded_pair(x)), least=least, shape=shape)
        at = check.axis(where, "axis", axis, len(x.shape))
        if x.shape[-1] % groups:
            raise invalid(where, f"x with channels in {groups} equal groups", x)
        fit, dtype = x.shape[at:], param_dtype(x)
        return _params(fit, dtype, scale, bias), {}

    def apply(params: Params, state: State, x: Arrays, *, key: Key | None, train: bool) -> tuple[Arrays, State]:
        given, vectors = padded_pair(x), _affine(params, scale, bias)
        x = check.array(where, "x", values_of(given), least=least, shape=shape)
        for param, fit in [
            (name, v.shape) for name, v in zip(("scale", "bias"), vectors, strict=True) if v is not None
        ]:
            if x.shape[x.ndim - len(fit) :] != fit:
                fix = f"{param} was made for {list(fit)}: initialise with x of this shape, or feed it the other."
                raise invalid(where, f"x of shape [..., {', '.join(map(str, fit))}]", x, fix)
        counts = None
        if isinstance(given, Padded):
            x, counts = given.zeroed, given.mask_over(x)
        y = op(x, *vectors, counts)
        return on_values(lambda _: y, given), state

    return layer(init, apply, kind, name=name, padded=rule)


def _params(shape: tuple[int, ...], dtype: DTypeLike, scale: bool, bias: bool) -> dict[str, jax.Array]:
    """Initial scale and bias, as far as the layer has them."""
    return ({"scale": full(shape, 1, dtype)} if scale else {}) | ({"bias": full(shape, 0, dtype)} if bias else {})


def _affine(params: Params, scale: bool, bias: bool) -> tuple[jax.Array | None, jax.Array | None]:
    return params["scale"] if scale else None, params["bias"] if bias else None
