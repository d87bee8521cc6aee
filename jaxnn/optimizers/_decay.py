"""Weight decay: how strong, of which leaves, and whether it passes through the optimizer's rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import Array

from jaxnn import _checks as check
from jaxnn._errors import InvalidType, invalid, is_function, wrong_type
from jaxnn._flat import Flat
from jaxnn._inputs import known
from jaxnn._paths import cut, matching, whole_of
from jaxnn.optimizers._checks import check_flags, check_numbers
from jaxnn.types import Arrays, Mask

Rate = Callable[[Array], Any]  # the step t = 1, 2, ... -> the rate, a number or a scalar


def rate(name: str, argument: str, value: Any) -> Rate:
    """A number, >= 0, or a schedule of the updates so far, t - 1, as a function of the step t = 1, 2, ..."""
    if not is_function(value):
        check_numbers(name, **{argument: value})
        return lambda t: value

    def scheduled(t: Array) -> Arrays:
        with jax.numpy_dtype_promotion("standard"):  # schedules of optax mix dtypes
            now = value(t - 1)
        check.scalar(name, f"the schedule's {argument}", now, low=-math.inf)
        return now

    return scheduled


class WeightDecay(NamedTuple):
    """Weight decay λ p, added to the gradient (L2) or to the direction of the update (decoupled, AdamW).

    Attributes:
      rate: λ >= 0, a traced scalar, or a schedule (count from 0 -> λ). None and a Python 0 switch it off; anything else
        makes `update` require params.
      mask: the leaves that decay: glob patterns of paths ("*/w", or a list of them), a tree of bools shaped like params
        or a prefix of it, or a function of params that returns one. None decays all.
      decoupled: add λ p to the direction, after the rule, instead of to the gradient, before it.
    """

    rate: optax.ScalarOrSchedule | None = None
    mask: Mask = None
    decoupled: bool = False

    @property
    def on(self) -> bool:
        """False if weight decay is left out of the program."""
        return self.rate is not None and not (known(self.rate) and self.rate == 0)

    def checked(self, name: str) -> Rate:
        """The rate as a function of t; raises TypeError or ValueError for a rate or `decoupled` that is not valid."""
        check_flags(name, decoupled=self.decoupled)
        return rate(name, "weight_decay", 0.0 if self.rate is None else self.rate)

    def leaves(self, name: str, params: Arrays) -> list[bool]:
        """The mask of every leaf of `params`. If params are a part of others, patterns and prefixes may cover all."""
        if params is None:
            raise invalid(name, "params", params, "Call update(grads, state, params): weight decay needs them.")
        if self.mask is not None and isinstance(params, Flat):
            raise InvalidType(
                name, "a weight decay mask selects leaves, but `flat` joins them. Leave out one of the two."
            )
        whole, mask = whole_of(params), self.mask
        if isinstance(mask, str) or (isinstance(mask, list | tuple) and mask and all(isinstance(m, str) for m in mask)):
            mask = cut(matching(name, whole, mask, argument="the mask of weight decay"), params)
        mask = True if mask is None else mask(params) if is_function(mask) else mask
        try:
            leaves = _broadcast(mask, params, whole)
        except ValueError as error:
            fix = "Give it the structure of params, or of their upper levels."
            raise wrong_type(name, "a weight decay mask that is a prefix of params", mask, fix) from error
        for x in leaves:
            if not isinstance(x, bool | np.bool_):
                raise wrong_type(name, "a weight decay mask of bools", x, "True decays a leaf, False leaves it alone.")
        return leaves


def _broadcast(mask: Mask, params: Arrays, whole: Arrays) -> list[Any]:
    """The leaves of `mask`, a prefix of `params` or of `whole`, repeated for the leaves of `params`."""
    try:
        return jax.tree.leaves(jax.tree.broadcast(mask, params))
    except ValueError:
        if whole is params:
            raise
    return jax.tree.leaves(jax.tree.broadcast(cut(jax.tree.broadcast(mask, whole), params), params))
