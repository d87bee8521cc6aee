"""Trees of arrays as one vector per dtype."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn.types import Arrays


class Layout(NamedTuple):
    """The structure of a tree, with the vector (dtype name) and the shape of each leaf in order."""

    structure: Any
    leaves: tuple[tuple[str, tuple[int, ...]], ...]


@jax.tree_util.register_pytree_with_keys_class
class Flat:
    """A tree of arrays as one vector per dtype: a pytree with as many leaves as there are dtypes.

    Mapping over a thousand small arrays costs a thousand small operations; over their vector, one.

    Attributes:
      vectors: dtype name -> [n], the leaves of that dtype in the order of the tree; [..., n] for a stacked tree.
      layout: structure of the tree, and vector and shape of each leaf; static.

    >>> params = Flat.of({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    >>> params.vectors["float32"].shape, params.tree()["w"].shape
    ((9,), (2, 3))
    """

    __slots__ = ("layout", "vectors")

    def __init__(self, vectors: dict[str, Any], layout: Layout) -> None:
        self.vectors, self.layout = vectors, layout

    @classmethod
    def of(cls, tree: Arrays, like: Arrays = None) -> Flat:
        """The leaves of `tree` joined by the dtypes of `like`, a tree of the same structure; None is `tree` itself.

        Args:
          tree: arrays.
          like: tree whose dtypes select the vectors.
        """
        leaves, structure = jax.tree.flatten(tree)
        leaves = [jnp.asarray(x) for x in leaves]
        names = [str(x.dtype) for x in (leaves if like is None else map(jnp.asarray, jax.tree.leaves(like)))]
        layout = Layout(structure, tuple((name, x.shape) for name, x in zip(names, leaves, strict=True)))
        vectors = {}
        for name in sorted(set(names)):
            group = [x for own, x in zip(names, leaves, strict=True) if own == name]
            dtype = jnp.result_type(*group)
            vectors[name] = jnp.concatenate([x.astype(dtype).reshape(-1) for x in group])
        return cls(vectors, layout)

    def tree(self) -> Arrays:
        """The tree, by a split: its gradient is one concatenation, where that of slices is a sum of padded vectors."""
        parts = {}
        for name, vector in self.vectors.items():
            sizes = [prod(shape) for own, shape in self.layout.leaves if own == name]
            parts[name] = iter(jax.lax.split(vector, sizes, axis=vector.ndim - 1))
        leaves = []
        for name, shape in self.layout.leaves:
            part: Array = next(parts[name])
            leaves.append(part.reshape(*part.shape[:-1], *shape))
        return jax.tree.unflatten(self.layout.structure, leaves)

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], tuple[tuple[str, ...], Layout]]:
        """The vectors, with the names of their dtypes as keys."""
        names = tuple(self.vectors)
        return tuple((jax.tree_util.DictKey(name), self.vectors[name]) for name in names), (names, self.layout)

    @classmethod
    def tree_unflatten(cls, static: tuple[tuple[str, ...], Layout], vectors: Any) -> Flat:
        """The inverse of `tree_flatten_with_keys`."""
        names, layout = static
        return cls(dict(zip(names, vectors, strict=True)), layout)

    def __repr__(self) -> str:
        return f"Flat({self.vectors})"
