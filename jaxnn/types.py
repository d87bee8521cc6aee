"""Names of types, for annotations: params, state, keys, batches, metrics, augmentations.

Pytrees have no static type in JAX, so a type checker treats most of these names as Any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import optax

Key: TypeAlias = jax.Array
"""A random key: typed, `jax.random.key(0)`, or raw key data."""

Arrays: TypeAlias = Any
"""An array, or a pytree of arrays, such as the input of a layer, gradients or a data set."""

Params: TypeAlias = dict[str, Any]
"""Trained values of a layer or model: a nested dict of arrays, as `init` makes it."""

State: TypeAlias = dict[str, Any]
"""Values of a layer or model that are not trained, such as running statistics: a nested dict of arrays."""

OptState: TypeAlias = Any
"""State of an optimizer: a pytree of arrays."""

Schedule: TypeAlias = optax.ScalarOrSchedule
"""A hyper-parameter: a number, a scalar array, or a function of the updates so far that returns one."""

Mask: TypeAlias = Any
"""Selected params: glob patterns of paths, a tree of bools shaped like the params, or a function that returns one."""

Batch: TypeAlias = Any
"""Argument of a step: `(x, y)` or `(x, y, weights)` for `nn.trainer`, any pytree for `nn.objective_trainer`."""

Data: TypeAlias = Any
"""Data of a run: arrays in the structure of a batch, with examples along axis 0, or an iterable of batches."""

Metrics: TypeAlias = dict[str, jax.Array]
"""Measured values by name."""

Initializer: TypeAlias = Callable[..., jax.Array]
"""`(key, shape, dtype) -> array`."""

Augmentation: TypeAlias = Callable[[Key, Any], Any]
"""`(key, example) -> example`: a random change of one image, of a dict with an image, or of a batch."""
