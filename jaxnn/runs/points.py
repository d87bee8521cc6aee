"""Points for `sweep`: dicts of stacked values [n, ...], from a grid or drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._keys import fold_name
from jaxnn.runs._checks import check_named, check_range, check_search, check_values, row_of
from jaxnn.types import Arrays, Key

__all__ = ["choice", "grid", "integers", "log_uniform", "random", "uniform"]

Draw = Callable[[jax.Array, tuple[int, ...]], jax.Array]  # (key, shape) -> array of this shape


def grid(**axes: Arrays) -> dict[str, jax.Array]:
    """Cartesian product of the values of all axes, {name: [k, ...]} -> {name: [n, ...]}, the last axis fastest.

    Args:
      **axes: the values of each axis on axis 0 of an array, or as a sequence of numbers. `np.geomspace(1e-4, 1e-1, 7)`
        has equal steps in the logarithm; `jax.random.split` makes a batch of keys. Layer sizes are static, so they
        cannot be axes: use one sweep for each.

    Returns:
      Dict of arrays with n = Πk points, in the order of scikit-learn's ParameterGrid for sorted names.

    Raises:
      TypeError: if the values of an axis are not an array or sequence of numbers or keys.
      ValueError: if there are no axes, or an axis is empty.

    >>> points = grid(rate=[0.1, 0.01], decay=[0.0, 0.5, 0.9])
    >>> points["rate"].shape, [round(d, 1) for d in points["decay"].tolist()]
    ((6,), [0.0, 0.5, 0.9, 0.0, 0.5, 0.9])
    """
    check_named("grid", axes, "grid(rate=[1e-3, 1e-2])")
    rows = {name: row_of("grid", name, values) for name, values in axes.items()}
    places = np.unravel_index(np.arange(prod(map(len, rows.values()))), tuple(map(len, rows.values())))
    return {name: row[place] for (name, row), place in zip(rows.items(), places, strict=True)}


def random(key: Key, n: int, /, **draws: Draw) -> dict[str, jax.Array]:
    """Random search: n points with independently drawn values, {name: (key, shape) -> [n, ...]} -> {name: [n, ...]}.

    If only few of the hyper-parameters matter, n random points try n values of each of them, a grid of n points only
    few.

    Args:
      key: a JAX key.
      n: number of points, >= 1.
      **draws: functions of `(key, shape)`, such as the results of `uniform`, `log_uniform`, `integers` and `choice`,
        `jax.random.normal`, or `jax.random.split` for a key per point. Each function gets its own key, derived from its
        name: adding an axis does not change the values of the others.

    Returns:
      Dict of arrays [n, ...].

    Raises:
      TypeError: if a draw is not a function.
      ValueError: if there are no draws, or a draw does not return n values.

    Reference: Bergstra & Bengio, Random Search for Hyper-Parameter Optimization, 2012.

    >>> points = random(jax.random.key(0), 20, rate=log_uniform(1e-4, 1e-1), units=integers(1, 9), key=jax.random.split)
    >>> points["rate"].shape, points["units"].dtype, points["key"].shape
    ((20,), dtype('int32'), (20,))
    """
    n = check_search(key, n, draws)
    points = {name: draw(fold_name(key, name), (n,)) for name, draw in draws.items()}  # type: ignore[arg-type]
    check_values(points, n)
    return points


def uniform(low: float, high: float) -> Draw:
    """Draw for `random`: uniform distribution over [low, high).

    Args:
      low, high: bounds, finite, low < high.

    Returns:
      A function `(key, shape) -> array`.

    Raises:
      TypeError: if a bound is not a number.
      ValueError: unless low < high.

    >>> draw = uniform(-1.0, 1.0)
    >>> bool(jnp.all(jnp.abs(draw(jax.random.key(0), (100,))) <= 1))
    True
    """
    check_range("uniform", low, high)
    return lambda key, shape: jax.random.uniform(key, shape, minval=low, maxval=high)


def log_uniform(low: float, high: float) -> Draw:
    """Draw for `random`: log-uniform distribution over [low, high], such as for learning rates; log x is uniform.

    The distribution of SciPy's `loguniform`.

    Args:
      low, high: bounds, finite, 0 < low < high.

    Returns:
      A function `(key, shape) -> array`.

    Raises:
      TypeError: if a bound is not a number.
      ValueError: unless 0 < low < high.

    >>> rates = log_uniform(1e-4, 1e-1)(jax.random.key(0), (900,))
    >>> [round(float(jnp.mean((1e-4 * 10**i <= rates) & (rates < 1e-3 * 10**i))), 1) for i in range(3)]
    [0.3, 0.3, 0.3]
    """
    check.scalar("log_uniform", "low", low, ends="()", static=True, fix="For ranges that reach 0 use uniform.")
    check_range("log_uniform", low, high)
    start, stop = float(np.log(low)), float(np.log(high))
    return lambda key, shape: jnp.clip(jnp.exp(jax.random.uniform(key, shape, minval=start, maxval=stop)), low, high)


def integers(low: int, high: int) -> Draw:
    """Draw for `random`: uniform integers in [low, high), int32.

    Args:
      low, high: integer bounds, low < high; `high` is excluded, as in NumPy's `Generator.integers`.

    Returns:
      A function `(key, shape) -> array`.

    Raises:
      TypeError: if a bound is not an integer.
      ValueError: unless low < high.

    >>> sorted(set(integers(2, 5)(jax.random.key(0), (100,)).tolist()))
    [2, 3, 4]
    """
    low, high = (check.count("integers", name, n, least=None) for name, n in (("low", low), ("high", high)))
    check_range("integers", low, high)
    return lambda key, shape: jax.random.randint(key, shape, low, high, jnp.int32)


def choice(values: Arrays) -> Draw:
    """Draw for `random`: one of the values, [k, ...], with equal probabilities.

    Args:
      values: an array, or a sequence of numbers, with the values on axis 0.

    Returns:
      A function `(key, shape) -> array`.

    Raises:
      TypeError: if `values` are not an array or sequence of numbers or keys.
      ValueError: if there are no values.

    >>> sorted(set(choice([16, 64, 256])(jax.random.key(0), (100,)).tolist()))
    [16, 64, 256]
    """
    row = row_of("choice", "values", values)
    return lambda key, shape: row[jax.random.randint(key, shape, 0, len(row))]
