"""Trees of arrays as one vector per dtype."""

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

FROZEN = "frozen_"  # before the dtype in the name of a vector that is not trained


class Layout(NamedTuple):
    """Where the leaves of a tree lie: its structure, and the dtype and shape of each leaf in its order."""

    structure: Any
    leaves: tuple[tuple[str, tuple[int, ...]], ...]


@jax.tree_util.register_pytree_with_keys_class
class Flat:
    """A tree of arrays as one vector per dtype: a pytree with as many leaves as there are dtypes.

    A thousand small arrays cost a thousand small operations wherever trees are mapped; their vector costs one.

    Attributes:
      vectors: dtype name -> [n], its leaves in the tree's order, [..., n] where the tree was stacked; those apart from
        the others lie in vectors of their own, "frozen_float32".
      layout: the tree's structure, and each leaf's vector and shape; static. It is the same for a part of the vectors.

    >>> params = Flat.of({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    >>> params.vectors["float32"].shape, params.tree()["w"].shape
    ((9,), (2, 3))
    """

    __slots__ = ("layout", "vectors")

    def __init__(self, vectors: dict[str, Any], layout: Layout) -> None:
        self.vectors, self.layout = vectors, layout

    @classmethod
    def of(cls, tree: Any, like: Any = None, frozen: Any = None) -> "Flat":
        """`tree`, joined in groups of the dtypes of `like`, a tree of its structure; by default its own.

        Where `frozen`, a tree of bools, is True, leaves are kept apart from the others.
        """
        leaves, structure = jax.tree.flatten(tree)
        leaves = [jnp.asarray(x) for x in leaves]
        names = [str(x.dtype) for x in (leaves if like is None else map(jnp.asarray, jax.tree.leaves(like)))]
        if frozen is not None:
            names = [FROZEN * bool(f) + name for name, f in zip(names, jax.tree.leaves(frozen), strict=True)]
        layout = Layout(structure, tuple((name, x.shape) for name, x in zip(names, leaves, strict=True)))
        vectors = {}
        for name in sorted(set(names)):
            group = [x for own, x in zip(names, leaves, strict=True) if own == name]
            dtype = jnp.result_type(*group)
            vectors[name] = jnp.concatenate([x.astype(dtype).reshape(-1) for x in group])
        return cls(vectors, layout)

    def tree(self) -> Any:
        """The tree. Its gradient is one concatenation; that of so many slices would be a sum of padded vectors."""
        parts = {}
        for name, vector in self.vectors.items():
            sizes = [prod(shape) for own, shape in self.layout.leaves if own == name]
            parts[name] = iter(jax.lax.split(vector, sizes, axis=vector.ndim - 1))
        leaves = []
        for name, shape in self.layout.leaves:
            part: Array = next(parts[name])
            leaves.append(part.reshape(*part.shape[:-1], *shape))
        return jax.tree.unflatten(self.layout.structure, leaves)

    def divided(self) -> tuple["Flat", "Flat"]:
        """Its vectors without the frozen ones, and these."""
        trained = {name: v for name, v in self.vectors.items() if not name.startswith(FROZEN)}
        frozen = {name: v for name, v in self.vectors.items() if name.startswith(FROZEN)}
        return Flat(trained, self.layout), Flat(frozen, self.layout)

    def joined(self, other: "Flat") -> "Flat":
        """The inverse of `divided`."""
        return Flat({**self.vectors, **other.vectors}, self.layout)

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple[tuple[str, ...], Layout]]:
        """The vectors under the names of their dtypes."""
        names = tuple(self.vectors)
        return tuple((jax.tree_util.DictKey(name), self.vectors[name]) for name in names), (names, self.layout)

    @classmethod
    def tree_unflatten(cls, static: tuple[tuple[str, ...], Layout], vectors: Any) -> "Flat":
        """The inverse."""
        names, layout = static
        return cls(dict(zip(names, vectors, strict=True)), layout)

    def __repr__(self) -> str:
        return f"Flat({self.vectors})"
