"""An optimizer for each group of params, selected by their paths."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from jaxnn._calls import recorded
from jaxnn._elementwise import Optimizer
from jaxnn._paths import matching, path_tree
from jaxnn.optimizers._checks import check_all_in_groups, check_groups
from jaxnn.types import Arrays, OptState


@recorded
def by_path(groups: Mapping[str, optax.GradientTransformation | None]) -> optax.GradientTransformationExtraArgs:
    """Updates each leaf with the optimizer of the first glob pattern that its path matches, [...] -> [...].

    For example a lower rate for a pretrained body than for a new head, weight decay on some layers, or frozen layers.
    Each optimizer gets the leaves of its group alone: clip by the global norm in a chain around `by_path`.

    Args:
      groups: pattern -> optimizer, in the order in which they are tried; None freezes the group: updates of 0, no
        state. A path is "stem/conv/w"; `*` also matches `/`, so "*" matches every leaf. In `nn.trainer` the leaves
        under `frozen` are removed before.

    Returns: an optimizer whose state is an optax.PartitionState, with the patterns as labels.

    Raises: TypeError unless groups is a dict of patterns and optimizers. `init` and `update` raise ValueError for
      a leaf that no pattern matches and for a pattern that gets no leaf.

    Differences: optax.partition takes a tree of labels. PyTorch takes lists of parameters, and trains only those in
      some list.

    >>> optimizer = by_path({"head/*": optax.sgd(1.0), "*": None})
    >>> params = {"stem": {"w": jnp.ones(2)}, "head": {"w": jnp.ones(2)}}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["stem"]["w"].tolist(), updates["head"]["w"].tolist()
    ([0.0, 0.0], [-1.0, -1.0])
    """
    check_groups(groups)
    optimizers = {pattern: optax.set_to_zero() if o is None else o for pattern, o in groups.items()}
    inner = optax.partition(optimizers, lambda tree: _labels(tree, tuple(groups)), mask_compatible_extra_args=True)

    def init(params: Arrays) -> Arrays:
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            return inner.init(params)

    def update(updates: Arrays, state: OptState, params: Arrays = None, **extra: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(updates, state, params, **extra)

    return Optimizer(init, update)


def _labels(tree: Arrays, patterns: tuple[str, ...]) -> Arrays:
    """The tree with each leaf replaced by the first pattern that matches its path."""
    matching("by_path", tree, patterns, argument="patterns")

    def label(path: str) -> str | None:
        return next((pattern for pattern in patterns if fnmatchcase(path, pattern)), None)

    paths = path_tree(tree)
    first = {path: label(path) for path in jax.tree.leaves(paths)}
    check_all_in_groups(first, patterns)
    return jax.tree.map(first.__getitem__, paths)
