"""Weight decay: how strong, of which leaves, and whether it passes through the optimizer's rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import optax
from jax import Array

from jaxnn import _checks as check
from jaxnn._errors import InvalidType, is_function, wrong_type
from jaxnn._flat import Flat
from jaxnn._inputs import known
from jaxnn._paths import cut, matching, whole_of
from jaxnn.optimizers._checks import check_flags, check_numbers, check_params
from jaxnn.types import Arrays, Mask

Rate = Callable[[Array], Any]  # the step t = 1, 2, ... -> the rate, a number or a scalar


Strengths = Callable[[Array, Arrays, int], list[Any]]  # step, params, number of leaves -> λ of each leaf, None for none


class Decay(Protocol):
    """Weight decay for the lift: `WeightDecay`, or another with a λ for each leaf."""

    @property
    def mask(self) -> Mask:
        """None if all leaves decay alike."""

    @property
    def decoupled(self) -> bool:
        """True if λ p is added to the direction, after the rule."""

    def checked(self, name: str) -> Strengths:
        """The λ of every leaf; raises TypeError or ValueError for numbers that are not valid."""


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
      argument: name of the rate, for errors.
    """

    rate: optax.ScalarOrSchedule | None = None
    mask: Mask = None
    decoupled: bool = False
    argument: str = "weight_decay"

    @property
    def on(self) -> bool:
        """False if weight decay is left out of the program."""
        return self.rate is not None and not (known(self.rate) and self.rate == 0)

    def checked(self, name: str) -> Strengths:
        """The λ of every leaf; raises TypeError or ValueError for a rate or `decoupled` that is not valid."""
        check_flags(name, decoupled=self.decoupled)
        rate_at = rate(name, self.argument, 0.0 if self.rate is None else self.rate)

        def strengths(t: Array, params: Arrays, leaves: int) -> list[Any]:
            now = rate_at(t)
            return [now if decays else None for decays in self.leaves(name, params)] if self.on else [None] * leaves

        return strengths

    def leaves(self, name: str, params: Arrays) -> list[bool]:
        """The mask of every leaf of `params`. If params are a part of others, patterns and prefixes may cover all."""
        return selected(name, params, self.mask, "weight decay")


def selected(name: str, params: Arrays, mask: Mask, of: str) -> list[bool]:
    """The mask of every leaf of `params`. If params are a part of others, patterns and prefixes may cover all.

    Args:
      name: the optimizer's name, for errors.
      params: the params of `update`; None raises ValueError.
      mask: as that of `WeightDecay`.
      of: the masked operation, for errors.
    """
    check_params(name, params, of)
    if mask is not None and isinstance(params, Flat):
        raise InvalidType(name, f"a {of} mask selects leaves, but `flat` joins them. Leave out one of the two.")
    whole = whole_of(params)
    if isinstance(mask, str) or (isinstance(mask, list | tuple) and mask and all(isinstance(m, str) for m in mask)):
        mask = cut(matching(name, whole, mask, argument=f"the mask of {of}"), params)
    mask = True if mask is None else mask(params) if is_function(mask) else mask
    try:
        leaves = _broadcast(mask, params, whole)
    except ValueError as error:
        fix = "Give it the structure of params, or of their upper levels."
        raise wrong_type(name, f"a {of} mask that is a prefix of params", mask, fix) from error
    for x in leaves:
        if not isinstance(x, bool | np.bool_):
            raise wrong_type(name, f"a {of} mask of bools", x, MASK_FIX[of])
    return leaves


MASK_FIX = {
    "weight decay": "True decays a leaf, False leaves it alone.",
    "trust ratio": "True scales the update of a leaf, False leaves it alone.",
}


def _broadcast(mask: Mask, params: Arrays, whole: Arrays) -> list[Any]:
    """The leaves of `mask`, a prefix of `params` or of `whole`, repeated for the leaves of `params`."""
    try:
        return jax.tree.leaves(jax.tree.broadcast(mask, params))
    except ValueError:
        if whole is params:
            raise
    return jax.tree.leaves(jax.tree.broadcast(cut(jax.tree.broadcast(mask, whole), params), params))
