"""Recurrences over time, with a tangent that transposes into few large products: the form for CPUs.

JAX's gradient of a scan adds to the gradient of every weight at each step, and saves every factor of a derivative. Here
a step consists of products with weights and of elementwise functions, and its tangent is arranged by hand:

- In the scan that is differentiated, weights and x are constant. A tangent of them is a shift of the products, such as
  e_t = x_t dw_x + h_{t-1} dw_h, computed for all steps at once. Its transpose, the gradient of the weight, is one large
  product after the backward scan.
- An elementwise function saves one coefficient for each argument.

So the backward scan has one product with each w_h a step. The tangent is plain JAX: all modes of differentiation work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from operator import add
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxnn._mesh import equally_varying, scan, zeros_like
from jaxnn.types import Arrays

# step(w, carry, x, affine, each) -> (carry, y) for one step of n rows. `affine(f, *v)` is f(w, x, *v), of products with
# weights that treat all rows alike. `each(f, *v)` is f(*v), elementwise, and `each(f, *v, gates=a)` is f(*σ(a), *v), of
# gates that lie side by side in a. Other uses of w are differentiated as usual.
Step: TypeAlias = Callable[..., tuple[Any, Any]]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def recurrence(step: Step, reverse: bool, w: Arrays, carry: Arrays, xs: Arrays) -> tuple[Any, Any]:
    """Scan of `step` over the leading axis of xs, -> (carry, ys).

    Args:
      step: as described at `Step`; it must not close over traced arrays.
      reverse: if True, runs from the last step to the first.
      w: pytree of weights.
      carry: pytree of arrays [n, ...].
      xs: pytree of arrays [t, n, ...].
    """

    def one(carry: Arrays, x: Arrays) -> tuple[Any, Any]:
        return step(w, carry, x, lambda f, *v: f(w, x, *v), each)

    return scan(one, carry, xs, reverse=reverse)


@partial(recurrence.defjvp, symbolic_zeros=True)
def _tangent(step: Step, reverse: bool, primals: Arrays, tangents: Arrays) -> tuple[Any, Any]:
    (w, carry, xs), (dw, dcarry, dxs) = primals, tangents
    functions: list[Callable[..., Any]] = []  # those of `affine` in one step

    def shifted(direct: Arrays, carry: Arrays, shifts: Arrays) -> tuple[Any, Any]:
        """The scan with the results of `affine` shifted, and `direct` as the weights of all other uses.

        The second part holds the inputs v of `affine` for all steps; without shifts (None) also its results.
        """

        def one(carry: Arrays, inputs: Any) -> tuple[Any, Any]:
            x, shift = inputs
            results: list[Any] = []
            entered: list[Any] = []
            functions.clear()

            def affine(f: Callable[..., Any], *v: Array) -> Any:
                y = f(w, x, *v)
                y = y if shift is None else jax.tree.map(_shifted, y, shift[len(functions)])
                functions.append(f)
                results.append(y)
                entered.append(v)
                return y

            carry, y = step(direct, carry, x, affine, _elementwise)
            return carry, (y, entered, results if shift is None else None)

        carry, (ys, *more) = scan(one, carry, (xs, shifts), reverse=reverse)
        return (carry, ys), more

    unshifted = jax.tree.map(zeros_like, jax.eval_shape(shifted, w, carry, None)[1][1])
    out, tangent, (entered, _) = jax.linearize(shifted, w, carry, unshifted, has_aux=True)
    shifts = [
        _shift(f, v, (w, xs), (dw, dxs), zeros) for f, v, zeros in zip(functions, entered, unshifted, strict=True)
    ]
    return out, tangent(*jax.tree.map(_instantiated, (dw, dcarry), is_leaf=_is_zero), shifts)


def _shift(f: Callable[..., Any], v: Arrays, primals: Arrays, tangents: Arrays, zeros: Arrays) -> Any:
    """Tangent of f(w, x, *v) along w and x, of all rows of all steps at once, with the shapes of `zeros`."""
    leaves, structure = jax.tree.leaves(primals), cast(Any, jax.tree.structure(primals))
    dots = structure.flatten_up_to(tangents)
    moving = [i for i, dot in enumerate(dots) if not _is_zero(dot)]
    if not moving:
        return zeros

    def of_moving(*moved: Array) -> Any:
        given = dict(zip(moving, moved, strict=True))
        w, xs = structure.unflatten([given.get(i, leaf) for i, leaf in enumerate(leaves)])
        return f(w, as_rows(xs), *as_rows(v))

    e = jax.jvp(of_moving, [leaves[i] for i in moving], [dots[i] for i in moving])[1]
    return jax.tree.map(lambda e, zeros: e.reshape(zeros.shape), e, zeros)


def as_rows(tree: Arrays) -> Any:
    """Arrays [t, n, ...] as [t · n, ...]."""
    return jax.tree.map(lambda v: v.reshape(v.shape[0] * v.shape[1], *v.shape[2:]), tree)


@jax.custom_jvp
def _shifted(y: Array, shift: Array) -> Array:
    """y; its tangent is shifted, its value is not, so that a shift of zeros costs nothing."""
    return y


@_shifted.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[0], tangents[0] + tangents[1]


def each(f: Callable[..., Array], *v: Array, gates: Array | None = None) -> Array:
    """f(*v), or f(*σ(gates), *v)."""
    return f(*v) if gates is None else f(*_split(jax.nn.sigmoid(gates), v[-1]), *v)


def _elementwise(f: Callable[..., Array], *v: Array, gates: Array | None = None) -> Array:
    """`each`, whose tangent has one coefficient for each argument and each gate: ∂f/∂v, computed with the value."""
    parts = [] if gates is None else _split(gates, v[-1])

    def value(*args: Array) -> Array:
        return f(*map(jax.nn.sigmoid, args[: len(parts)]), *args[len(parts) :])

    def jvp(primals: Arrays, tangents: Arrays) -> tuple[Array, Array]:
        shape = jax.eval_shape(value, *primals).shape
        y, back = jax.vjp(value, *equally_varying(*(jnp.broadcast_to(v, shape) for v in primals)))
        slopes = back(jnp.ones_like(y))
        return y, reduce(add, (k * dv for k, dv in zip(slopes, tangents, strict=True) if not _is_zero(dv)))

    g = jax.custom_jvp(value)
    g.defjvp(jvp, symbolic_zeros=True)
    return g(*parts, *v)


def _split(gates: Array, like: Array) -> list[Array]:
    return jnp.split(gates, gates.shape[-1] // like.shape[-1], -1)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def _instantiated(tangent: Any) -> Array:
    return zeros_like(tangent) if _is_zero(tangent) else tangent
