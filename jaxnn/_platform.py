"""What is decided by platform, in one place; the measurement that decides stands beside each use."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import lax


def on_cpu(cpu: Callable[..., Any], default: Callable[..., Any], *args: Any) -> Any:
    """`cpu(*args)` where the program is lowered for a CPU, else `default(*args)`: chosen when lowered, not traced."""
    return lax.platform_dependent(*args, cpu=cpu, default=default)


def primitive_by_platform(name: str, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """A primitive that is lowered to `cpu` on a CPU, else to `default`; its other rules are the caller's.

    Unlike `on_cpu`, nothing of one form is in the program of the other, residuals of gradients included. Under an
    Explicit mesh, where shards are part of the types, a CPU takes `default` as well: its rules know them.
    """
    from jax.extend.core import Primitive
    from jax.interpreters import mlir, xla

    p = Primitive(name)
    p.def_impl(partial(xla.apply_primitive, p))
    lowered_cpu, lowered_default = (mlir.lower_fun(form, multiple_results=False) for form in (cpu, default))

    def lower_cpu(ctx: Any, *operands: Any, **static: Any) -> Any:
        explicit = any(jax.sharding.AxisType.Explicit in v.sharding.mesh.axis_types for v in ctx.avals_in)
        return (lowered_default if explicit else lowered_cpu)(ctx, *operands, **static)

    mlir.register_lowering(p, lowered_default)
    mlir.register_lowering(p, lower_cpu, platform="cpu")
    return p


def one_cpu() -> bool:
    """Whether the process has one CPU device and nothing else: then no array is sharded, and axes may be merged.

    Decided while tracing, for forms whose choice inside the program would cost more than it gains.
    """
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def local_cpu() -> bool:
    """Whether arrays that are traced now are whole and lie on one CPU: axes of theirs may be merged at no cost.

    In a process with one CPU device and no mesh, or inside a `shard_map` over all axes of the mesh.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return one_cpu() if mesh.empty else mesh.are_all_axes_manual and jax.default_backend() == "cpu"
