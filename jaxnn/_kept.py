"""Bytes of the values that a model keeps from the forward to the backward pass, by layer, from its traced program."""

from __future__ import annotations

import re
from functools import cache
from math import prod
from typing import Any

import jax
from jax.extend.core import Literal

from jaxnn._flops import programs_in
from jaxnn._layer import Layer
from jaxnn.types import Arrays, Key, Params, State

VIEWS = frozenset(["reshape", "squeeze", "expand_dims", "name", "copy"])  # the same bytes under another shape
CALLS = frozenset(["jit", "pjit", "closed_call", "checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call"])


def kept_in(model: Layer, params: Params, state: State, x: Arrays) -> dict[str, int]:
    """Bytes kept for the gradient with respect to the params, by the scope (layer path) that computes them.

    Args:
      model: a layer.
      params, state, x: arrays or their shapes.
    """

    def residuals(params: Params, state: State, x: Arrays, key: Key) -> list[Any]:
        def forward(params: Params) -> Arrays:
            return model.apply(params, state, x, key=key, train=True)[0]

        return jax.tree.leaves(jax.vjp(forward, params)[1])  # the function that vjp returns is a pytree of them

    program = jax.make_jaxpr(residuals)(params, state, x, jax.random.key(0)).jaxpr
    origins = {v: _origin(program, v) for v in program.outvars if not _on_host(v.aval)}
    bytes_by_value = {at: bytes_of(v.aval) for v, at in origins.items() if isinstance(at, tuple)}
    kept: dict[str, int] = {}
    for (scope, _), n in bytes_by_value.items():
        kept[scope] = kept.get(scope, 0) + n
    return kept


def _origin(program: Any, v: Any, scope: str = "") -> tuple[str, Any] | int | None:
    """Scope and variable of the operation that computes v; the number of an input; None for a constant."""
    if isinstance(v, Literal):
        return None
    if v in program.invars:
        return int(program.invars.index(v))
    eqn, i = _made_in(program).get(v, (None, 0))
    if eqn is None or all(isinstance(a, Literal) for a in eqn.invars):
        return None
    name = eqn.primitive.name
    if name in VIEWS:
        return _origin(program, eqn.invars[0], scope)
    at = "/".join(filter(None, (scope, re.sub(r"\w+\(|\)", "", str(eqn.source_info.name_stack)))))
    if name not in CALLS and name != "scan":
        return at, v
    inner = next(p for value in eqn.params.values() for p in programs_in(value))
    found = _origin(inner, inner.outvars[i], at)
    if not isinstance(found, int):
        return found
    if name == "scan" and found in _carried(eqn, inner):
        return at, v
    return _origin(program, eqn.invars[found], scope)


def _carried(eqn: Any, inner: Any) -> range:
    """Numbers of the inputs of a scan that are its carry, by the shapes: inputs and results of steps are stacked.

    The parameters of the operation that tell it are not the same in all versions of JAX.
    """
    whole, carry = (
        sum(a.aval.shape == b.aval.shape for a, b in zip(outer, step, strict=True))
        for outer, step in ((eqn.invars, inner.invars), (eqn.outvars, inner.outvars))
    )
    return range(whole - carry, whole)


@cache
def _made_in(program: Any) -> dict[Any, tuple[Any, int]]:
    """The operation that computes each variable of a program, and the number of this result."""
    return {v: (eqn, i) for eqn in program.eqns for i, v in enumerate(eqn.outvars)}


def bytes_of(x: Any) -> int:
    """Bytes of an array, or of one of this shape and dtype."""
    return prod(x.shape) * int(x.dtype.itemsize)


def _on_host(aval: Any) -> bool:
    return getattr(aval, "memory_space", None) not in (None, jax.memory.Space.Device)
