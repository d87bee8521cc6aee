"""Trees of arrays as one vector per dtype, and the optimizers that may be applied to such vectors."""

from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxnn._calls import call_of
from jaxnn._errors import describe, wrong_type

FROZEN = "frozen_"  # prefix of the dtype in the name of a vector of frozen params


class Optimizer(optax.GradientTransformationExtraArgs):
    """An optax.GradientTransformationExtraArgs whose repr is the call by which it was made."""

    __slots__ = ()

    def __repr__(self) -> str:
        call = call_of(self)
        return "an optimizer" if call is None else call.text()


class Elementwise(Optimizer):
    """An optimizer whose update treats every element independently of its array, as `flat` requires."""

    __slots__ = ()


def check_elementwise(where: str, optimizer: Any) -> None:
    """Raises TypeError unless `optimizer` is declared elementwise."""
    if not isinstance(optimizer, Elementwise):
        got = "another transformation" if isinstance(optimizer, optax.GradientTransformation) else describe(optimizer)
        fix = "Those of nn without a mask do, and compensated ones."
        raise wrong_type(where, "an optimizer that treats every element alike", told=got, fix=fix)


class Layout(NamedTuple):
    """The structure of a tree, and the dtype and shape of each leaf in order.

    Attributes:
      structure: the pytree structure.
      leaves: pairs (name of the vector, shape).
    """

    structure: Any
    leaves: tuple[tuple[str, tuple[int, ...]], ...]


@jax.tree_util.register_pytree_with_keys_class
class Flat:
    """A tree of arrays as one vector per dtype: a pytree with as many leaves as there are dtypes.

    A tree map over a thousand small arrays performs a thousand small operations; over their vector it performs one.

    Attributes:
      vectors: dtype name -> [n], the leaves of this dtype in the tree's order, or [..., n] if the tree was stacked.
        Frozen leaves are in vectors of their own, such as "frozen_float32".
      layout: structure of the tree, and vector name and shape of each leaf; static. It describes the whole tree, even
        if `vectors` are only a part.

    >>> params = Flat.of({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    >>> params.vectors["float32"].shape, params.tree()["w"].shape
    ((9,), (2, 3))
    """

    __slots__ = ("layout", "vectors")

    def __init__(self, vectors: dict[str, Any], layout: Layout) -> None:
        self.vectors, self.layout = vectors, layout

    @classmethod
    def of(cls, tree: Any, like: Any = None, frozen: Any = None) -> "Flat":
        """The vectors of a tree.

        Args:
          tree: the tree.
          like: tree of the same structure, by whose dtypes the leaves are grouped; None groups by their own dtypes.
          frozen: tree of bools; leaves with True are kept in separate vectors. None: all leaves are together.
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
        """The tree. The gradient of `lax.split` is a concatenation, that of separate slices a sum of padded vectors."""
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
        """The vectors of trained params, and those of frozen params."""
        trained = {name: v for name, v in self.vectors.items() if not name.startswith(FROZEN)}
        frozen = {name: v for name, v in self.vectors.items() if name.startswith(FROZEN)}
        return Flat(trained, self.layout), Flat(frozen, self.layout)

    def joined(self, other: "Flat") -> "Flat":
        """Both parts as one; the inverse of `divided`."""
        return Flat({**self.vectors, **other.vectors}, self.layout)

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple[tuple[str, ...], Layout]]:
        """The vectors, with their names as keys, and the static parts."""
        names = tuple(self.vectors)
        return tuple((jax.tree_util.DictKey(name), self.vectors[name]) for name in names), (names, self.layout)

    @classmethod
    def tree_unflatten(cls, static: tuple[tuple[str, ...], Layout], vectors: Any) -> "Flat":
        """The inverse of `tree_flatten_with_keys`."""
        names, layout = static
        return cls(dict(zip(names, vectors, strict=True)), layout)

    def __repr__(self) -> str:
        return f"Flat({self.vectors})"
