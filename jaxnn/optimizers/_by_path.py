"""Another optimizer, or another rate, for each group of params, told apart by their paths."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

from jaxnn._calls import recorded
from jaxnn._elementwise import Optimizer
from jaxnn._errors import invalid, wrong_type
from jaxnn._paths import matching, path_tree


@recorded
def by_path(groups: Mapping[str, optax.GradientTransformation | None]) -> optax.GradientTransformationExtraArgs:
    """Each param is updated by the optimizer of the first glob pattern that its path, `stem/conv/w`, matches.

    For a pretrained body at a lower rate than its new head, weight decay on some layers only, or parts that rest. It is
    optax.partition with labels found by path; the update of a param is what its group's optimizer gives it alone, so
    what looks at the whole tree, such as clipping by global norm, sees one group: chain it outside.

    Args:
      groups: pattern -> optimizer, in the order in which they are tried; `*` crosses `/`, so "*" takes what is left,
        and None freezes: updates of 0, no state. In `nn.trainer` the paths under `frozen` are gone before.

    Its state is an optax.PartitionState, a dict with the patterns for names. `init` and `update` raise ValueError for
    params that no pattern matches and for a pattern that gets none, by its own fault or that of an earlier one. PyTorch
    takes groups as lists of parameters, and trains only what is in some list.

    >>> optimizer = by_path({"head/*": optax.sgd(1.0), "*": None})
    >>> params = {"stem": {"w": jnp.ones(2)}, "head": {"w": jnp.ones(2)}}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["stem"]["w"].tolist(), updates["head"]["w"].tolist()
    ([0.0, 0.0], [-1.0, -1.0])
    """
    if not isinstance(groups, Mapping):
        raise wrong_type("by_path", "a dict of patterns and optimizers", groups)
    if not groups:
        raise invalid("by_path", "at least one pattern", told="none", fix="'*' matches every param.")
    for pattern, optimizer in groups.items():
        if not isinstance(pattern, str):
            raise wrong_type("by_path", "glob patterns, as 'stem/*'", pattern)
        if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
            fix = "None freezes the group."
            raise wrong_type("by_path", f"an optax.GradientTransformation for {pattern!r}", optimizer, fix)
    optimizers = {pattern: optax.set_to_zero() if o is None else o for pattern, o in groups.items()}
    inner = optax.partition(optimizers, lambda tree: _labels(tree, tuple(groups)), mask_compatible_extra_args=True)

    def init(params: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # optax's own code is not strict about dtypes
            return inner.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(updates, state, params, **extra)

    return Optimizer(init, update)


def _labels(tree: Any, patterns: tuple[str, ...]) -> Any:
    """The tree with the first pattern that matches the path of a leaf in its place."""
    matching("by_path", tree, patterns, argument="patterns")

    def label(path: str) -> str | None:
        return next((pattern for pattern in patterns if fnmatchcase(path, pattern)), None)

    paths = path_tree(tree)
    first = {path: label(path) for path in jax.tree.leaves(paths)}
    missed = [path for path, pattern in first.items() if pattern is None]
    if missed:
        fix = "Add '*' last, with an optimizer for the rest or with None to freeze it."
        raise invalid("by_path", "every param to match some pattern", told=", ".join(missed), fix=fix)
    for pattern in patterns:
        if first and pattern not in first.values():
            fix = "The first match wins: put it before them."
            raise invalid(
                "by_path", f"a param for {pattern!r}", told="none that an earlier pattern does not take", fix=fix
            )
    return jax.tree.map(first.__getitem__, paths)
