"""Shapley values by sampled permutations."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind, widened
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._layer import Layer
from jaxnn.explain._target import ModelLike, Target, check_x, explained, filled, scorer, settled
from jaxnn.types import Key, Params, State


def shapley_values(
    model: ModelLike,
    params: Params,
    state: State,
    x: Array,
    key: Key,
    *,
    groups: ArrayLike | None = None,
    baseline: ArrayLike = 0.0,
    target: Target = None,
    permutations: int = 32,
    block: int = 16,
) -> Array:
    """Shapley values of the elements of the input, [n, ...] -> [n, ...], or of groups of them, -> [n, groups].

        φ_i = mean over permutations of S(x with i and its predecessors) - S(x with its predecessors)

    Elements that are not named have the values of the baseline. The values of an example add up to S(x) - S(baseline)
    exactly, for any number of permutations. Every second permutation is the one before it in reverse order, which makes
    the values exact where the score has interactions of at most two groups.

    Args:
      model, params, state, x, target: as in `saliency`. The predicted class is that of x.
      key: random key of the permutations, which are the same for all examples.
      groups: integers from 0 of the shape of one example, or of it without its last axis: elements of equal number are
        one feature. Use it for images, where `np.kron(np.arange(49).reshape(7, 7), np.ones((4, 4), int))` numbers the
        patches of 28 × 28 pixels; `values[:, groups]` is a map of them. None makes each element a group.
      baseline: values of absent elements: a number, or an array of the shape of x, of one example or of its last axis.
      permutations: number of permutations, >= 1. Each takes a forward pass for each group but one.
      block: number of inputs of each example that are computed at a time, >= 1.

    Raises:
      TypeError, ValueError: as `saliency`, or if another argument does not fit.

    Differences: captum's ShapleyValueSampling draws all permutations independently; its feature_mask are the groups.
      shap's PermutationExplainer also reverses each.

    Reference: Castro et al., Polynomial Calculation of the Shapley Value Based on Sampling, 2009; Mitchell et al.,
      Sampling Permutations for Shapley Value Estimation, 2022.

    >>> def score(x):
    ...     return x[:, :1] * x[:, 1:2] + x[:, 2:]
    >>> shapley_values(score, {}, {}, jnp.array([[2.0, 3.0, 1.0]]), jax.random.key(0), permutations=2).tolist()
    [[3.0, 3.0, 1.0]]
    """
    x = check_x("shapley_values", x)
    permutations = check.count("shapley_values", "permutations", permutations)
    block = check.count("shapley_values", "block", block)
    b = filled("shapley_values", "baseline", baseline, x)
    of = np.arange(math.prod(x.shape[1:])).reshape(x.shape[1:]) if groups is None else _checked(groups, x)
    number = int(of.max(initial=-1)) + 1
    keys = jax.random.split(check.typed_key("shapley_values", key), (permutations + 1) // 2)
    order = jax.vmap(lambda k: jax.random.permutation(k, number))(keys)
    order = jnp.stack([order, order[:, ::-1]], axis=1).reshape(-1, number)[:permutations]
    values: Array = explained(
        _shapley, "shapley_values", model, params, state, x, target, b, jnp.asarray(of), order, block=block
    )
    return values.reshape(x.shape) if groups is None else values


def _shapley(
    model: Layer,
    params: Params,
    state: State,
    x: Array,
    target: Target,
    baseline: Array,
    groups: Array,
    order: Array,
    *,
    block: int,
) -> Array:
    score = scorer("shapley_values", model, params, state, settled(model, params, state, x, target))
    permutations, number = order.shape
    place = jnp.argsort(order, axis=1)  # of each group in each permutation
    groups = groups.reshape(1, *groups.shape, *(1,) * (x.ndim - 1 - groups.ndim))

    def with_first(at: tuple[Array, Array]) -> Array:
        """Scores with the first j groups of a permutation."""
        p, j = at
        return widened(score(jnp.where(place[p][groups] < j, x, baseline)))

    p, j = jnp.meshgrid(jnp.arange(permutations), jnp.arange(1, number), indexing="ij")
    inner = jax.lax.map(with_first, (p.ravel(), j.ravel()), batch_size=block)
    inner = inner.reshape(permutations, number - 1, len(x))
    ends = (jnp.broadcast_to(widened(score(v)), (permutations, 1, len(x))) for v in (baseline, x))
    none, every = ends
    gains = jnp.diff(jnp.concatenate([none, inner, every], axis=1), axis=1)  # [permutations, place, n]
    return jnp.take_along_axis(gains, place[:, :, None], axis=1).mean(0).T.astype(x.dtype)


def _checked(groups: ArrayLike, x: Array) -> np.ndarray:
    """The groups as a NumPy array, whose number of groups is fixed."""
    expected = f"groups to be integers from 0 of shape {list(x.shape[1:])} or {list(x.shape[1:-1])}"
    if isinstance(groups, jax.core.Tracer) or not is_kind(groups, "integer"):
        raise wrong_type("shapley_values", expected, groups, "Their number is fixed while tracing.")
    if jnp.shape(groups) not in (x.shape[1:], x.shape[1:-1]):
        raise invalid("shapley_values", expected, groups, f"x is {describe(x)}.")
    of = np.asarray(groups)
    if of.min(initial=0) < 0:
        raise invalid("shapley_values", expected, told=f"a group {of.min()}")
    return of
