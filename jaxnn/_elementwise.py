"""Elementwise optimizers: an element's update depends on that element alone, whatever array contains it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxnn._calls import call_of
from jaxnn._errors import wrong_type
from jaxnn._flat import Flat
from jaxnn.types import Params


class Optimizer(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """An optax.GradientTransformationExtraArgs that prints as the call that made it."""

    __slots__ = ()

    def __repr__(self) -> str:
        call = call_of(self)
        return "an optimizer" if call is None else call.text()


class Elementwise(Optimizer):
    """An elementwise optimizer by construction, which `is_elementwise` does not need to trace."""

    __slots__ = ()


CALLS = {"closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit"}
NAMES = """
    abs add add_any and atan2 cbrt ceil clamp complex conj convert_element_type copy copy_p cos cosh div eq erf erf_inv
    erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le log log1p logistic lt max min mul ne neg nextafter not
    or pow real reduce_precision rem round rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan tanh xor
"""
ELEMENTWISE = frozenset(NAMES.split())


def is_elementwise(optimizer: Any) -> bool:
    """True if `update` consists of elementwise operations on arrays, as its trace shows, and does not look at paths.

    This also recognises chains: optax.chain(optax.clip(1.0), nn.adam(1e-3)) is elementwise, with
    optax.clip_by_global_norm it is not. Masks and groups of params depend on paths and are not elementwise.

    >>> is_elementwise(optax.chain(optax.clip(1.0), optax.adam(1e-3))), is_elementwise(optax.lamb(1e-3))
    (True, False)
    """
    if isinstance(optimizer, Elementwise):
        return True
    if not isinstance(optimizer, optax.GradientTransformation):
        return False
    masked: list[Any] = []

    def run(params: Params) -> Any:
        state = optimizer.init(params)
        groups = (optax.MaskedState, optax.transforms.PartitionState)
        masked.extend(
            x for x in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, groups)) if isinstance(x, groups)
        )
        return optimizer.update(params, state, params)

    # a large matrix, which some transformations treat differently, and vectors, for which a mask of `nn` raises
    tree = {"matrix": jax.ShapeDtypeStruct((256, 256), jnp.float32), "vector": jax.ShapeDtypeStruct((3,), jnp.float32)}
    for params in (tree, jax.eval_shape(Flat.of, tree)):
        try:
            with jax.numpy_dtype_promotion("standard"):
                program = jax.make_jaxpr(run)(params)
        except Exception:  # whatever a transformation of the user raises for trees other than its own
            return False
        if masked or not _all_elementwise(program.jaxpr):
            return False
    return True


def _all_elementwise(program: Jaxpr) -> bool:
    for step in program.eqns:
        arrays, results = ([x for x in xs if getattr(x.aval, "ndim", 0)] for xs in (step.invars, step.outvars))
        inside = [p.jaxpr if isinstance(p, ClosedJaxpr) else p for p in step.params.values()]
        if not arrays and not results:
            continue
        if step.primitive.name in CALLS:
            if not all(_all_elementwise(p) for p in inside if isinstance(p, Jaxpr)):
                return False
        elif step.primitive.name not in ELEMENTWISE and (step.primitive.name != "broadcast_in_dim" or arrays):
            return False
    return True


def check_elementwise(where: str, optimizer: Any) -> None:
    """Raise TypeError unless `optimizer` is elementwise."""
    if not is_elementwise(optimizer):
        fix = "Those of nn without a mask are, and their chains with elementwise transformations such as optax.clip."
        raise wrong_type(where, "an elementwise optimizer", optimizer, fix)
