"""Losses on a line or a plane through the params: directions and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind, widened
from jaxnn._errors import invalid, wrong_type
from jaxnn._inputs import under_trace
from jaxnn._keys import fold_name
from jaxnn._paths import path_tree
from jaxnn.compiler import compiler_options
from jaxnn.train._programs import Programs
from jaxnn.types import Arrays, Key, Params


def random_direction(key: Key, params: Params) -> Params:
    """Random direction with filters as long as those of the params, a tree of their shapes:

        d_i = |w_i| z_i / |z_i|,    z_i ~ N(0, 1)

    for each filter w_i, the weights of one output: a slice along the last axis. Without these lengths, landscapes of
    networks that differ by a factor in their weights, which a batch norm removes, would differ. Arrays with less than
    two axes, biases and the params of norms, have the direction 0, as in the paper.

    Args:
      key: random key.
      params: the params.

    Raises:
      TypeError: if `key` is not a key.

    Differences: the code of the paper draws from the same distribution.

    Reference: Li et al., Visualizing the Loss Landscape of Neural Nets, 2018, arXiv:1712.09913.

    >>> d = random_direction(jax.random.key(0), {"w": jnp.array([[3.0, 0.0], [4.0, 0.0]]), "b": jnp.ones(2)})
    >>> jnp.linalg.norm(d["w"], axis=0).round(3).tolist(), d["b"].tolist()
    ([5.0, 0.0], [0.0, 0.0])
    """
    key = check.typed_key("random_direction", key, "random_direction(key, params)")

    def direction(path: str, w: Array) -> Array:
        if jnp.ndim(w) < 2 or not is_kind(w, "floating"):
            return jnp.zeros_like(w)
        w = jnp.asarray(w)
        drawn: Any = fold_name(key, path)
        z = jax.random.normal(drawn, w.shape, w.dtype)
        along, across = (jnp.linalg.norm(widened(a).reshape(-1, w.shape[-1]), axis=0) for a in (w, z))
        return z * (along / across).astype(w.dtype).reshape((1,) * (w.ndim - 1) + (-1,))

    return jax.tree.map(direction, path_tree(params), params)


class Trajectory(NamedTuple):
    """Principal directions of the params during training, seen from their last values.

    Attributes:
      directions: trees like the params, of norm 1 over all leaves, orthogonal; the main one first.
      coordinates: of each stage along the directions, [t, k]; the last are 0.
      ratios: fractions of the sum of squared distances from the last stage, [k].

    >>> made = trajectory_directions({"w": jnp.array([[0.0, 3.0], [1.0, 3.0], [4.0, 3.0]])}, 1)
    >>> jnp.abs(made.coordinates[:, 0]).round().tolist(), made.ratios.round().tolist()
    ([4.0, 3.0, 0.0], [1.0])
    """

    directions: tuple[Params, ...]
    coordinates: Array
    ratios: Array


def trajectory_directions(stages: Params, k: int = 2) -> Trajectory:
    """Principal directions of the path of params through training, stages [t, ...] -> `Trajectory`.

        D_s = θ_s - θ_t,    D = U S Vᵀ,    directions = rows of Vᵀ,    coordinates = U S

    Args:
      stages: params at t stages, stacked on axis 0 of every leaf; the last are those of the trained model.
      k: number of directions, 1 <= k < t.

    Returns:
      `Trajectory(directions, coordinates, ratios)`; `directions` are those of `landscape`.

    Raises:
      TypeError: if the stages are not arrays.
      ValueError: if their numbers differ or are less than 2, or k is out of range.

    Differences: the code of the paper calls scikit-learn's PCA, which subtracts the mean of the D_s, too.

    Reference: Li et al., Visualizing the Loss Landscape of Neural Nets, 2018, arXiv:1712.09913, section 7.

    >>> made = trajectory_directions({"w": jnp.array([[0.0, 3.0], [1.0, 3.0], [4.0, 3.0]])}, 1)
    >>> jnp.abs(made.directions[0]["w"]).round(3).tolist()
    [1.0, 0.0]
    """
    t = check.examples("trajectory_directions", "stages", stages, 2)
    k = check.count("trajectory_directions", "k", k, most=t - 1)
    moved = jax.tree.map(lambda a: widened(jnp.asarray(a) - jnp.asarray(a)[-1:]), stages)
    rows = [a.reshape(t, -1) for a in jax.tree.leaves(moved)]
    products = sum(jnp.matmul(a, a.T, precision=lax.Precision.HIGHEST) for a in rows)
    squares, u = jnp.linalg.eigh(products)
    whole = jnp.trace(products)
    squares, u = jnp.maximum(squares[::-1][:k], 0), u[:, ::-1][:, :k]
    length = jnp.sqrt(squares)
    mix = (u / jnp.where(length > 0, length, 1)[None]).T
    spanned = jax.tree.map(lambda a, of: jnp.tensordot(mix, a, 1).astype(of.dtype), moved, stages)
    directions = tuple(jax.tree.map(lambda a, i=i: a[i], spanned) for i in range(k))
    return Trajectory(directions, u * length[None], squares / jnp.where(whole > 0, whole, 1))


def landscape(
    loss: Callable[..., Array],
    params: Params,
    directions: Sequence[Params],
    *data: Arrays,
    coordinates: Sequence[ArrayLike] | None = None,
    block: int = 1,
) -> Array:
    """Losses on a grid through the params, L(θ + a d₁ + b d₂), -> [a] for one direction, [a, b] for two, and so on.

    Running statistics of batch norms fit the params at the origin only: elsewhere use those of the batch, with
    `train=True` in the loss.

    Args:
      loss: function `(params, *data) -> []`, such as a mean over examples.
      params: params at the origin.
      directions: trees like the params, by `random_direction` or `trajectory_directions`.
      data: further arguments of the loss; arrays passed here are not constants of the compiled program.
      coordinates: for each direction the values of its coordinate, floating [a]; None: 25 values from -1 to 1.
      block: number of points that are computed at a time, by `vmap`, >= 1.

    Returns:
      The losses, with an axis for each direction.

    Raises:
      TypeError: if `loss` is not a function, or a direction is not a tree like the params.
      ValueError: if the numbers of directions and coordinates differ, or the loss is not a scalar.

    Differences: none of the other libraries has it.

    Reference: Li et al., Visualizing the Loss Landscape of Neural Nets, 2018, arXiv:1712.09913.

    >>> loss = lambda params, x: jnp.sum((params["w"] - x) ** 2)
    >>> ahead = {"w": jnp.array([1.0, 0.0])}
    >>> landscape(loss, {"w": jnp.ones(2)}, [ahead], jnp.ones(2), coordinates=[jnp.array([-1.0, 0.0, 2.0])]).tolist()
    [1.0, 0.0, 4.0]
    """
    where = "landscape"
    check.function(where, "loss", loss, "(params, *data)")
    block = check.count(where, "block", block)
    if not isinstance(directions, list | tuple) or not directions:
        raise wrong_type(where, "directions to be a list of trees like the params", directions)
    shapes = _shapes(params)
    for direction in directions:
        if _shapes(direction) != shapes:
            raise wrong_type(where, "directions to be trees like the params", direction)
    if coordinates is None:
        coordinates = [jnp.linspace(-1.0, 1.0, 25)] * len(directions)
    if not isinstance(coordinates, list | tuple) or len(coordinates) != len(directions):
        raise invalid(where, f"coordinates to be {len(directions)} arrays, one for each direction", coordinates)
    along = [check.array(where, "coordinates", c, rank=1, shape="[a]") for c in coordinates]
    found = jax.eval_shape(loss, params, *data)
    check.shape(where, "the loss", found, (), fix="Take the mean.")
    grid = jnp.stack([c.ravel() for c in jnp.meshgrid(*along, indexing="ij")], -1)
    return _PROGRAMS.of(under_trace(), loss, block)(params, tuple(directions), grid, data).reshape(
        [len(c) for c in along]
    )


def _shapes(tree: Any) -> Any:
    return jax.tree.structure(tree), [jnp.shape(a) for a in jax.tree.leaves(tree)]


def _program(key: Callable[[], tuple[Any, ...]]) -> Callable[..., Array]:
    """Compiled losses at points [m, k] for a key (under a trace, loss, block), which is read while tracing.

    Within a trace JAX takes no compiler options.
    """

    def run(params: Params, directions: tuple[Params, ...], points: Array, data: tuple[Arrays, ...]) -> Array:
        _, loss, block = key()

        def at(point: Array) -> Array:
            def moved(p: Array, *ds: Array) -> Array:
                return p + sum(c.astype(p.dtype) * d.astype(p.dtype) for c, d in zip(point, ds, strict=True))

            return loss(jax.tree.map(moved, params, *directions), *data)

        return lax.map(at, points, batch_size=block)

    return jax.jit(run) if key()[0] else jax.jit(run, compiler_options=compiler_options())


_PROGRAMS = Programs(_program, size=16)
