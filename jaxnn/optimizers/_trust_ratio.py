"""Trust ratios: updates scaled to the norm of the parameter, one factor for each array."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn._moments import floored, root, square
from jaxnn._numbers import number
from jaxnn.optimizers._checks import check_numbers
from jaxnn.optimizers._decay import selected
from jaxnn.types import Arrays, Mask


class TrustRatio(NamedTuple):
    """The factor c |p| / (|u| + eps) of an update u, with the norms of whole arrays; 1 if |p| or |u| is 0.

    Attributes:
      coefficient: c >= 0; may be traced.
      eps: >= 0, added to |u|; may be traced.
      mask: the leaves that are scaled: patterns, a tree of bools or a function of params, as for weight decay.
    """

    coefficient: Any = 1.0
    eps: Any = 0.0
    mask: Mask = None

    def checked(self, name: str) -> TrustRatio:
        """Itself; raises TypeError or ValueError for a number that is not in its range."""
        check_numbers(name, trust_coefficient=self.coefficient, eps=self.eps)
        return self

    def leaves(self, name: str, params: Arrays) -> list[bool]:
        """The mask of every leaf; raises ValueError without params."""
        return selected(name, params, self.mask, "trust ratio")

    def scaled(self, u: Array, p: Array) -> Array:
        """`u` times its trust ratio, [...], [...] -> [...]."""
        size, of_param = norm(u), norm(p)
        ratio = number(self.coefficient, size) * of_param / floored(size + number(self.eps, size))
        return u * jnp.where((size == 0) | (of_param == 0), 1.0, ratio).astype(u.dtype)


def norm(x: Array) -> Array:
    """sqrt(Σ |x|²), [...] -> [], real, with gradient 0 at 0. No square overflows or underflows."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0.0))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    return root(jnp.sum(square(x / scale.astype(x.dtype)))) * scale
