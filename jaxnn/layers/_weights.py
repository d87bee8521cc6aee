"""Shared by the layers with weights: initial values of their params, and the check that x fits them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jax import Array

from jaxnn import _checks as check
from jaxnn import init as initializers
from jaxnn._dtypes import param_dtype
from jaxnn._errors import invalid
from jaxnn.init._presets import PRESETS
from jaxnn.types import Arrays


@dataclass(frozen=True)
class Weights:
    """Initial values of a layer's params.

    Attributes:
      where: name of the layer, for errors.
      kind: kind of layer, a row of the table of `init.preset`.
      preset: name of the preset; raises when the layer is made unless there is one of this name.
      given: initializers passed to the layer, by param; None, or no entry, is the preset's.
      bias: False omits the biases, the params whose names begin with b.
      arranged: from the preset's initializer of w to one that takes the shape of the param.
    """

    where: str
    kind: str
    preset: str
    given: dict[str, Callable[..., Any] | None] = field(default_factory=dict)
    bias: bool = True
    arranged: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None

    def __post_init__(self) -> None:
        check.flags(self.where, bias=self.bias)
        check.choice(self.where, "preset", self.preset, list(PRESETS))

    def draw(
        self, x: Arrays, fan_in: int, *, heads: int = 1, **params: tuple[Array, tuple[int, ...]]
    ) -> dict[str, Array]:
        """Params for an input x, each from (key, shape), drawn in the order in which they are passed."""
        draws = initializers.preset(self.preset, self.kind, fan_in, heads=heads)
        if self.arranged is not None:
            draws["w"] = self.arranged(draws["w"])
        draws |= {param: draw for param, draw in self.given.items() if draw is not None}
        return {
            param: draws[param](key, shape, param_dtype(x))
            for param, (key, shape) in params.items()
            if self.bias or not param.startswith("b")
        }


def check_fits(where: str, x: Arrays, param: str, size: int, shape: str = "[..., {}]", argument: str = "x") -> None:
    """Raises unless the last axis of x has the size for which a param was made."""
    if x.shape[-1] != size:
        fix = f"{param} was made for {size} features: initialise with {argument} of this shape, or feed it the other."
        raise invalid(where, f"{argument} of shape {shape.format(size)}", x, fix)
