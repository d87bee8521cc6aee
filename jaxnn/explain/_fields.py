"""Receptive fields, from the support of the Jacobian, and the patches of images that activate each channel most."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid
from jaxnn._layer import Layer
from jaxnn.explain._features import activations, to_layer
from jaxnn.explain._target import ModelLike, Target, check_x, explained
from jaxnn.types import Params, State

DRAWS = 2, 64  # of noise, in which a support is looked for: as many as have NUMBERS numbers, within these limits
NUMBERS = 2**16


def receptive_field(
    model: ModelLike, params: Params, state: State, x: Array, path: str, positions: ArrayLike | None = None
) -> Array:
    """Input indices that positions of a layer's output depend on, -> [*space, axes, 2]: the first, and the last + 1.

    The support of the Jacobian, of the output [n, *space, c] by x [n, *axes, c]. Inputs are noise with the mean and
    deviation of x, so that a 0 by chance, as of a relu or a max pool, is not one for all inputs, channels and places.
    A backward pass gives the support of a whole row or column; the field of a position is their intersection. Borders
    clip it. A dense layer [n, c] depends on all of x.

    Args:
      model: layer, model or function of one input.
      params, state: params and state of the model, which runs in inference mode. Weights that are 0 have no support.
      x: floating inputs [n, *axes, c], of which the shape, mean and deviation count.
      path: path of the layer.
      positions: integer [..., s], positions on the s space axes of the output, from 0; concrete values. None: all of
        them, [*space, s].

    Returns:
      int32 [..., a, 2] for positions [..., s] and the a space axes of x; 0, 0 where nothing is differentiable.

    Raises:
      TypeError: if x is not floating, `path` not a str or `positions` not integer.
      ValueError: if the path is unknown, or a shape does not fit.

    Differences: other tools multiply kernel sizes and strides, which needs a rule for each kind of layer.

    >>> model = nn.serial(nn.conv(1, 3), nn.relu, nn.conv(1, 3, stride=2))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 8, 1)))
    >>> receptive_field(model, params, state, jnp.ones((1, 8, 1)), "conv_1").tolist()
    [[[0, 4]], [[1, 6]], [[3, 8]], [[5, 8]]]
    """
    where, inner = "receptive_field", to_layer(model, path)
    check.concrete(where, (x, positions), "Bounds select parts of arrays: call it outside of jit.")
    x = widened(check_x(where, x))
    if x.ndim < 2:
        raise invalid(where, "x of shape [n, *axes, c]", x)
    y = jax.eval_shape(lambda p, s, x: inner.apply(p, s, x)[0], params, state, x)
    if not isinstance(y, jax.ShapeDtypeStruct) or y.ndim < 2 or not jnp.issubdtype(y.dtype, jnp.floating):
        raise invalid(where, f"the output of {path} to be a floating array [n, *space, c]", y)
    space, size = y.shape[1:-1], x.shape[1:-1]
    if positions is None:
        positions = np.stack(np.meshgrid(*map(np.arange, space), indexing="ij"), -1) if space else np.zeros(0, int)
    else:
        check.kind(where, "positions", positions, "integer")
    at = np.asarray(positions)
    if at.shape[-1:] != (len(space),) or (at < 0).any() or (at >= np.array(space, int)).any():
        raise invalid(where, f"positions [..., {len(space)}] in an output of {list(space)}", positions)

    bounds = np.broadcast_to(np.array([[0, n] for n in size], np.int32).reshape(-1, 2), (*at.shape[:-1], len(size), 2))
    start, stop = bounds[..., 0], bounds[..., 1]
    for axis in range(len(space)):
        wanted = np.isin(np.arange(space[axis]), at[..., axis])
        found = np.asarray(explained(_extents, where, inner, params, state, x, None, wanted, axis=axis + 1))
        found = found[at[..., axis]]
        start, stop = np.maximum(start, found[..., 0]), np.minimum(stop, found[..., 1])
    return jnp.asarray(np.stack([start, np.maximum(start, stop)], -1))


def _extents(
    model: Layer, params: Params, state: State, x: Array, target: Target, wanted: Array, *, axis: int
) -> Array:
    """First index and last + 1 on each space axis of x that the output at each wanted index of an axis depends on."""
    draws = int(np.clip(NUMBERS // max(x[0].size, 1), *DRAWS))
    noise = jax.random.normal(jax.random.key(0), (draws, *x.shape[1:]), x.dtype)
    deviation = jnp.std(x)
    y, pull = jax.vjp(
        lambda x: model.apply(params, state, x)[0], x.mean() + jnp.where(deviation > 0, deviation, 1) * noise
    )
    weights = jax.random.normal(jax.random.key(1), y.shape, y.dtype)

    def extent(index: Array) -> Array:
        (slopes,) = pull(jnp.where(lax.broadcasted_iota(jnp.int32, y.shape, axis) == index, weights, 0))
        return jnp.stack([_extent((slopes != 0).any(_others(x.ndim, a))) for a in range(1, x.ndim - 1)])

    nothing = jnp.zeros((x.ndim - 2, 2), jnp.int32)
    indices = jnp.arange(len(wanted), dtype=jnp.int32)
    return lax.map(lambda i: lax.cond(wanted[i], extent, lambda _: nothing, i), indices)


def _others(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(a for a in range(rank) if a != axis)


def _extent(on: Array) -> Array:
    """Index of the first True and that behind the last one; 0, 0 without any."""
    ends = jnp.stack([jnp.argmax(on), len(on) - jnp.argmax(on[::-1])])
    return jnp.where(on.any(), ends, 0).astype(jnp.int32)


class Patches(NamedTuple):
    """Parts of images that activate each channel most, strongest first.

    Attributes:
      images: patches, each the receptive field of its position, with zeros outside of the image, [c, k, *size, d].
      values: activations, [c, k].
      examples: integer numbers of the images, [c, k].
      bounds: integer first index and last + 1 of each patch in its image, on each space axis, [c, k, axes, 2].

    >>> x = jnp.zeros((3, 5, 1)).at[1, 2].set(1.0)
    >>> maximal_patches(nn.serial(nn.max_pool(2)), {}, {}, x, "max_pool", 1).bounds.tolist()
    [[[[2, 4]]]]
    """

    images: Array
    values: Array
    examples: Array
    bounds: Array


def maximal_patches(
    model: ModelLike,
    params: Params,
    state: State,
    x: Any,
    path: str,
    k: int = 9,
    *,
    channels: ArrayLike | None = None,
    batch_size: int = 256,
) -> Patches:
    """The k patches of images x [n, *axes, d] that activate each channel of a layer most, at most one of each image.

    Images go through the model in batches, of which the largest activation of each channel and its position are kept.
    Patches are the receptive fields of these positions.

    Args:
      model, params, state: as in `receptive_field`.
      x: images, floating [n, *axes, d]; a NumPy array is read one batch at a time.
      path: path of a layer with outputs [n, *space, c].
      k: number of patches for each channel, 1 <= k <= n.
      channels: numbers of the channels, integer [m], from 0; None for all.
      batch_size: images per batch, >= 1.

    Returns:
      `Patches(images, values, examples, bounds)`.

    Raises:
      TypeError: if an argument has a wrong type.
      ValueError: if the path is unknown, or a number is out of range.

    Differences: none of the other libraries has it.

    Reference: Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, 2013, arXiv:1311.2901.

    >>> model = nn.serial(nn.conv(4, 3), nn.relu, nn.max_pool(2))
    >>> x = jax.random.normal(jax.random.key(0), (20, 8, 8, 1))
    >>> params, state = model.init(jax.random.key(1), x)
    >>> maximal_patches(model, params, state, x, "max_pool", 3).images.shape
    (4, 3, 4, 4, 1)
    """
    where = "maximal_patches"
    check.concrete(where, x, "Patches are cut on the host: call it outside of jit.")
    k = check.count(where, "k", k, most=check.examples(where, "x", x))
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    y = jax.eval_shape(lambda p, s, x: to_layer(model, path).apply(p, s, x)[0], params, state, one)
    largest = activations(model, params, state, x, path, reduce=_peaks, batch_size=batch_size)
    values, positions = (np.asarray(a).T for a in largest)  # [c, n]
    if channels is not None:
        check.kind(where, "channels", channels, "integer")
        chosen = np.asarray(channels)
        if chosen.ndim != 1 or (chosen < 0).any() or (chosen >= len(values)).any():
            raise invalid(where, f"channels [m] from 0 to {len(values) - 1}", channels)
        values, positions = values[chosen], positions[chosen]
    examples = np.argsort(-values, axis=1, kind="stable")[:, :k]
    values, positions = (np.take_along_axis(a, examples, axis=1) for a in (values, positions))
    space = y.shape[1:-1]
    places = np.stack(np.unravel_index(positions, space), -1) if space else np.zeros((*examples.shape, 0), int)
    bounds = np.asarray(receptive_field(model, params, state, x[:batch_size], path, places))
    return Patches(_cropped(x, examples, bounds), *map(jnp.asarray, (values, examples.astype(np.int32), bounds)))


def _peaks(y: Array) -> tuple[Array, Array]:
    """Largest value of each channel and its position, flat, [b, *space, c] -> [b, c], [b, c]."""
    flat = y.reshape(len(y), -1, y.shape[-1])
    return flat.max(1), flat.argmax(1).astype(jnp.int32)


def _cropped(x: Any, examples: np.ndarray, bounds: np.ndarray) -> Array:
    """Parts of the images in windows of equal size; a part that is cut by a border lies at the other side."""
    extent = bounds[..., 1] - bounds[..., 0]
    size = extent.reshape(-1, extent.shape[-1]).max(0, initial=0)
    cut = np.zeros((*examples.shape, *size, x.shape[-1]), x.dtype)
    for at in np.ndindex(examples.shape):
        shift = np.where(bounds[at][:, 0] == 0, size - extent[at], 0)
        inside = tuple(slice(s, s + n) for s, n in zip(shift, extent[at], strict=True))
        cut[at][inside] = np.asarray(x[examples[at]])[tuple(slice(*b) for b in bounds[at])]
    return jnp.asarray(cut)
