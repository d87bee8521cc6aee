"""Loops with a traced number of iterations and with derivatives: forward mode directly, reverse mode as a scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnn._errors import invalid
from jaxnn.types import Arrays

Carry = TypeVar("Carry")


def bounded_while(more: Callable[[Carry], Any], body: Callable[[Carry], Carry], carry: Carry, most: int) -> Carry:
    """`jax.lax.while_loop(more, body, carry)` with at most `most` iterations, differentiable in reverse mode.

    A while loop has no reverse mode, because the number of values to store is unknown; here it is bounded. Without
    differentiation this is the while loop. Its derivative is that of a scan of `most` iterations, in which iterations
    after the end change nothing. `body` is traced once for both, and arrays that it closes over become arguments. A
    body with effects, such as printing, uses the plain loop.
    """
    test, turn = jax.make_jaxpr(more)(carry), jax.make_jaxpr(body)(carry)
    structure = jax.tree.structure(carry)
    if turn.effects or test.effects:
        return jax.lax.while_loop(more, body, carry)

    def goes(consts: tuple[Any, ...], carry: Arrays) -> Arrays:
        return jax.core.eval_jaxpr(test.jaxpr, consts[0], *jax.tree.leaves(carry))[0]

    def turned(consts: tuple[Any, ...], carry: Arrays) -> Arrays:
        leaves = jax.core.eval_jaxpr(turn.jaxpr, consts[1], *jax.tree.leaves(carry))
        return jax.tree.unflatten(structure, leaves)

    def scanned(consts: tuple[Any, ...], carry: Arrays) -> Arrays:
        def step(carry: Arrays, _: None) -> tuple[Any, None]:
            going, new = goes(consts, carry), turned(consts, carry)
            return jax.tree.map(lambda now, old: jnp.where(going, now, old), new, carry), None

        return jax.lax.scan(step, carry, None, length=most)[0]

    @jax.custom_jvp
    def loop(consts: tuple[Any, ...], carry: Arrays) -> Arrays:
        return jax.lax.while_loop(partial(goes, consts), partial(turned, consts), carry)

    def derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, ...]:
        leaves, inputs = jax.tree.flatten(primals)
        dots = jax.tree.leaves(tangents, is_leaf=lambda t: isinstance(t, SymbolicZero))
        moving = [i for i, dot in enumerate(dots) if not isinstance(dot, SymbolicZero)]

        def of_moving(*moved: Any) -> Arrays:
            given = dict(zip(moving, moved, strict=True))
            return scanned(*jax.tree.unflatten(inputs, [given.get(i, leaf) for i, leaf in enumerate(leaves)]))

        return jax.jvp(of_moving, [leaves[i] for i in moving], [dots[i] for i in moving])

    loop.defjvp(derivative, symbolic_zeros=True)
    return loop((test.consts, turn.consts), carry)


_forward_only = Primitive("forward_only")
_forward_only.def_impl(lambda x: x)
_forward_only.def_abstract_eval(lambda x: x)
mlir.register_lowering(_forward_only, mlir.lower_fun(lambda x: x, multiple_results=False))
batching.defvectorized(_forward_only)


def _refuse(*_: Any) -> Any:
    fix = "Use jax.jacfwd, or leave patience out: such a run has both modes."
    raise invalid("fit", "forward-mode differentiation of a run with patience", told="reverse mode", fix=fix)


ad.deflinear(_forward_only, _refuse)


@jax.custom_jvp
def forward_only(tree: Arrays) -> Arrays:
    """The tree unchanged; its derivatives exist in forward mode only, reverse mode raises."""
    return tree


@forward_only.defjvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, ...]:
    def marked(dot: Any) -> Arrays:
        return dot if dot.dtype == jax.dtypes.float0 else _forward_only.bind(dot)

    return primals[0], jax.tree.map(marked, tangents[0])
