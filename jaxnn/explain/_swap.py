"""A function with another ReLU, by evaluation of its program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxnn._errors import invalid
from jaxnn._inputs import known

Relu = Callable[[Array], Array]

# Operations of functions with a derivative of their own that may be a ReLU, as relu and relu6 are; softplus, which
# contains max(x, 0) too, has others.
SIMPLE = {"broadcast_in_dim", "convert_element_type", "custom_jvp_call", "ge", "gt", "jit", "lt", "max", "min", "pjit"}
SIMPLE |= {"select_n"}
OTHERS = {"erf", "exp", "expm1", "log", "log1p", "logistic", "sin", "square", "tanh"}  # parts of other activations


def with_relu(where: str, f: Callable[[Array], Array], relu: Relu) -> Callable[[Array], Array]:
    """`f` with `relu` in place of each ReLU; raises ValueError if it has none."""

    def swapped(x: Array) -> Array:
        program = jax.make_jaxpr(f)(x)
        evaluation = Evaluation(relu)
        (y,) = evaluation.outputs(program.jaxpr, program.consts, [x])
        if not evaluation.found:
            others = ", ".join(sorted(names(program.jaxpr) & OTHERS))
            told = f"one with {others}" if others else "one without"
            raise invalid(where, "a model with ReLUs, max(x, 0)", told=told)
        return y

    return swapped


class Evaluation:
    """Evaluation of a program, operation by operation, with a ReLU of one's own.

    Attributes:
      found: number of ReLUs so far.
      zeros: values known to be 0, by identity.
      positive: masks x > 0 and their x, by the identity of the mask.
    """

    def __init__(self, relu: Relu):
        self.relu, self.found = relu, 0
        self.zeros: dict[int, Any] = {}
        self.positive: dict[int, tuple[Any, Any]] = {}

    def outputs(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        """Outputs of a program for constants and arguments."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(v: Any) -> Any:
            return v.val if isinstance(v, Literal) else values[v]

        for eqn in jaxpr.eqns:
            values |= zip(eqn.outvars, self.operation(eqn, [read(v) for v in eqn.invars]), strict=True)
        return [read(v) for v in jaxpr.outvars]

    def operation(self, eqn: Any, args: list[Any]) -> list[Any]:
        """Outputs of one operation: a ReLU is replaced, inner programs are searched."""
        name, inner = eqn.primitive.name, _inner(eqn)
        if name in ("jit", "pjit"):
            return self.outputs(inner[0].jaxpr, inner[0].consts, args)
        if name.startswith(("custom_jvp_call", "custom_vjp_call")):  # a function with a derivative of its own
            return self.custom(eqn, args) or _evaluated(eqn, args)
        if inner:
            return _evaluated(eqn.replace(params={key: self.inside(value) for key, value in eqn.params.items()}), args)
        x = self.rectified(name, args)
        if x is not None and x.shape == eqn.outvars[0].aval.shape and jnp.issubdtype(x.dtype, jnp.floating):
            self.found += 1
            return [self.relu(x)]
        outs = _evaluated(eqn, args)
        self.note(name, args, outs)
        return outs

    def custom(self, eqn: Any, args: list[Any]) -> list[Any] | None:
        """Outputs of a function with a derivative of its own if it is a ReLU, otherwise None."""
        (program,) = _inner(eqn)
        before = self.found
        outs = self.outputs(program.jaxpr, program.consts, args) if names(program.jaxpr) <= SIMPLE else None
        return outs if self.found > before else None

    def inside(self, value: Any) -> Any:
        """A parameter of an operation, with the programs in it searched."""
        if isinstance(value, tuple):
            return tuple(map(self.inside, value))
        if not isinstance(value, ClosedJaxpr | Jaxpr):
            return value
        before, closed = self.found, _closed(value)
        shapes = [
            jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype, weak_type=v.aval.weak_type) for v in closed.jaxpr.invars
        ]
        new = jax.make_jaxpr(lambda *args: self.outputs(closed.jaxpr, closed.consts, args))(*shapes)
        if self.found == before:
            return value
        return new if isinstance(value, ClosedJaxpr) else new.jaxpr

    def rectified(self, name: str, args: list[Any]) -> Any:
        """x of the operation max(x, 0), or of select(x > 0, x, 0); None for other operations."""
        if name == "max":
            for x, zero in (args, args[::-1]):
                if self.is_zero(zero) and not known(x):
                    return x
        if name == "select_n" and len(args) == 3 and self.is_zero(args[1]):
            mask, x = self.positive.get(id(args[0]), (None, None))
            return x if mask is not None and x is args[2] else None
        return None

    def note(self, name: str, args: list[Any], outs: list[Any]) -> None:
        """Remembers outputs that are 0, and masks x > 0."""
        if name in ("broadcast_in_dim", "convert_element_type") and self.is_zero(args[0]):
            self.zeros[id(outs[0])] = outs[0]
        if name in ("gt", "ge") and self.is_zero(args[1]):
            self.positive[id(outs[0])] = outs[0], args[0]
        if name == "lt" and self.is_zero(args[0]):
            self.positive[id(outs[0])] = outs[0], args[1]

    def is_zero(self, value: Any) -> bool:
        """True for the number 0, cast or broadcast."""
        return (known(value) and value == 0) or id(value) in self.zeros


def names(jaxpr: Jaxpr) -> set[str]:
    """Names of the operations of a program, with those of inner programs."""
    found = {eqn.primitive.name for eqn in jaxpr.eqns}
    return found.union(*(names(program.jaxpr) for eqn in jaxpr.eqns for program in _inner(eqn)))


def _inner(eqn: Any) -> list[ClosedJaxpr]:
    """Programs inside an operation."""
    leaves = jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: isinstance(v, ClosedJaxpr | Jaxpr))
    return [_closed(value) for value in leaves if isinstance(value, ClosedJaxpr | Jaxpr)]


def _closed(value: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    return value if isinstance(value, ClosedJaxpr) else ClosedJaxpr(value, ())


def _evaluated(eqn: Any, args: list[Any]) -> list[Any]:
    """Outputs of an operation as it stands, evaluated as a program of one operation."""
    named = [(v, value) for v, value in zip(eqn.invars, args, strict=True) if not isinstance(v, Literal)]
    empty = jax.make_jaxpr(lambda: ())().jaxpr
    program = empty.replace(invars=[v for v, _ in named], outvars=eqn.outvars, eqns=[eqn])
    return jax.core.eval_jaxpr(program, (), *(value for _, value in named))
