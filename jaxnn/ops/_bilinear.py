"""`jaxnn_conv`, the primitive of every convolution: `lax.conv_general_dilated`, with a faster lowering on CPUs.

The primitive has the parameters and rules of lax's convolution: type, derivatives, batching and precision are lax's,
and on all platforms except CPU it lowers to lax's operation. On a CPU it has a lowering of its own, `_cpu_conv.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxnn._mesh import equally_varying
from jaxnn._platform import plain, primitive_by_platform
from jaxnn.ops._cpu_conv import UNROLLED, cpu_conv, names
from jaxnn.types import Arrays

# Static parameters for the CPU lowering; all others are lax's. `backward` is True for the transposes of a convolution.
OURS = ("members", "depthwise", "backward")


def bilinear_conv(
    x: Array,
    w: Array,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[Any, Any], ...],
    x_dilation: tuple[int, ...],
    w_dilation: tuple[int, ...],
    groups: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    depthwise: bool = False,
) -> Array:
    """Convolution, [n, *space, c], [*kernel_size, c / groups, features] -> [n, *space', features].

    All other arguments have one entry for each space axis. `depthwise` declares that each channel is a group; a CPU
    then sums over the elements of the kernel.
    """
    numbers = lax.conv_dimension_numbers(x.shape, w.shape, names(len(stride)))
    if preferred_element_type is not None:
        preferred_element_type = jax.dtypes.canonicalize_dtype(preferred_element_type)
    x, w = equally_varying(x, w)
    how: dict[str, Any] = {
        "window_strides": stride,
        "padding": padding,
        "lhs_dilation": x_dilation,
        "rhs_dilation": w_dilation,
        "dimension_numbers": numbers,
        "feature_group_count": groups,
        "batch_group_count": 1,
        "precision": _fixed(precision, getattr(jax.config, "jax_default_matmul_precision")),  # noqa: B009
        "preferred_element_type": preferred_element_type,
        "out_sharding": None,
    }
    if plain():
        return lax.conv_general_dilated_p.bind(x, w, **how)
    return primitive().bind(x, w, **how, members=1, depthwise=depthwise, backward=False)


@cache
def _fixed(precision: Any, default: Any) -> Any:
    """Precision parameter that lax fixes when it binds an operation, from the argument and the current default."""
    one = jax.ShapeDtypeStruct((1, 1, 1), jnp.float32)
    conv = partial(lax.conv_general_dilated, window_strides=(1,), padding="VALID", precision=precision)
    return jax.make_jaxpr(conv)(one, one).eqns[0].params["precision"]


@cache
def primitive() -> Any:
    """The primitive, made at the first convolution.

    JAX's interpreters take longer to import than the rest of the library.
    """
    from jax.experimental import checkify
    from jax.experimental.jet import jet_rules
    from jax.extend.core import Var
    from jax.interpreters import ad, batching, partial_eval

    native = lax.conv_general_dilated_p
    p = primitive_by_platform("jaxnn_conv", cpu_conv, lambda x, w, **how: native.bind(x, w, **_laxs(how)))
    p.def_abstract_eval(lambda x, w, **how: native.abstract_eval(x, w, **_laxs(how))[0])

    transpose = ad.primitive_transposes[native]

    def by_x(dy: Array, x: Arrays, w: Array, **how: Any) -> Arrays:
        if not dy.size:
            return ad.Zero(x.aval)
        x = ad.UndefinedPrimal(x.aval)
        return _as_lax(lambda dy, w: transpose(dy, x, w, **_laxs(how))[0], how | {"backward": True}, dy, w)

    def by_w(dy: Array, x: Array, w: Arrays, **how: Any) -> Arrays:
        if not dy.size:
            return ad.Zero(w.aval)
        w = ad.UndefinedPrimal(w.aval)
        return _as_lax(lambda dy, x: transpose(dy, x, w, **_laxs(how))[1], how | {"backward": True}, dy, x)

    ad.defbilinear(p, by_x, by_w)

    def batched(axis_data: Any, operands: Arrays, axes: Any, **how: Any) -> tuple[Array, int]:
        made: list[int] = []

        def rule(*operands: Array) -> Array:
            y, axis = batching.fancy_primitive_batchers[native](axis_data, operands, axes, **_laxs(how))
            made.append(axis)
            return y

        return _as_lax(rule, how, *operands), made[0]

    batching.fancy_primitive_batchers[p] = batched

    def remat(policy: Any, unknown: Any, instantiated: Any, eqn: Any) -> Any:
        """Passes lax's convolution to the policy of `jax.checkpoint`.

        Values that the policy would offload are saved without being moved.
        """
        needed = [v for v, there in zip(eqn.invars, instantiated, strict=True) if isinstance(v, Var) and not there]
        if any(unknown):
            return None, eqn, [True], [True], needed
        answer = policy(native, *(v.aval for v in eqn.invars), **_laxs(eqn.params))
        if answer is False or type(answer).__name__ == "RecomputeType":
            return eqn, eqn, [False], [True], needed
        return eqn, None, [False], [False], []

    partial_eval.partial_eval_jaxpr_custom_rules[p] = remat

    bilinear: Any = jet_rules[native]
    jet_rules[p] = partial(bilinear.func, p)
    checks = inspect.unwrap(checkify.checkify).__globals__["error_checks"]
    checks[p] = partial(checks[native].func, p)
    return p


def _laxs(how: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in how.items() if name not in OURS}


def _as_lax(rule: Callable[..., Any], how: dict[str, Any], *operands: Array) -> Array:
    """Result of a rule of lax's convolution on `operands`, with `jaxnn_conv` in place of lax's primitive.

    If the rule multiplies the number of groups, the factor is the number of members of a `vmap`, the outermost factor.
    """
    from jax.extend.core import Literal

    program = jax.make_jaxpr(rule)(*operands)
    variables = [*program.jaxpr.constvars, *program.jaxpr.invars]
    values: dict[Any, Any] = dict(zip(variables, [*program.consts, *operands], strict=True))

    def read(v: Any) -> Any:
        return v.val if isinstance(v, Literal) else values[v]

    groups = how["feature_group_count"] * how["batch_group_count"]
    for eqn in program.jaxpr.eqns:
        inputs = map(read, eqn.invars)
        if eqn.primitive is lax.conv_general_dilated_p:
            more = eqn.params["feature_group_count"] * eqn.params["batch_group_count"] // groups
            members = how["members"] * more if more <= UNROLLED else 0
            ours = {"depthwise": how["depthwise"], "backward": how["backward"]}
            made = primitive().bind(*inputs, **eqn.params, members=members, **ours)
        else:
            made = eqn.primitive.bind(*inputs, **eqn.params)
        values.update(zip(eqn.outvars, made if eqn.primitive.multiple_results else [made], strict=True))
    return read(program.jaxpr.outvars[0])
