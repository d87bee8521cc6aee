"""Choices by platform. The measurement behind each choice is stated where it is used."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal

import jax
from jax import lax
from jax.sharding import Mesh

from jaxnn.types import Arrays

# Forms that a program is traced with: "fast", those of its platform; "portable", without those that are chosen while
# tracing, for programs that another platform may run; "plain", without those that are chosen at lowering either.
_FORMS: ContextVar[str] = ContextVar("forms", default="fast")


@contextmanager
def forms(kind: Literal["portable", "plain"]) -> Iterator[None]:
    """Traces programs in portable or plain forms."""
    token = _FORMS.set(kind)
    try:
        yield
    finally:
        _FORMS.reset(token)


def forms_on(mesh: Mesh) -> AbstractContextManager[None]:
    """Traces programs for a mesh without the forms of one CPU, which the process that compiles may be."""
    elsewhere = mesh.size > 1 or mesh.devices.flat[0].platform != "cpu"
    return forms("portable") if elsewhere and _FORMS.get() == "fast" else nullcontext()


def plain() -> bool:
    """True if the program is traced in plain forms."""
    return _FORMS.get() == "plain"


def on_cpu(cpu: Callable[..., Any], default: Callable[..., Any], *args: Any) -> Arrays:
    """`cpu(*args)` if the program is lowered for a CPU, else `default(*args)`; chosen at lowering, not at tracing."""
    return lax.platform_dependent(*args, cpu=cpu, default=default)


def primitive_by_platform(name: str, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """A primitive that lowers to `cpu` on CPUs and to `default` elsewhere; the caller must define its other rules.

    Unlike with `on_cpu`, the program contains only one of the two forms, and no residuals of the other's gradient.
    Under an Explicit mesh, where sharding is part of the types, a CPU uses `default` as well, because the sharding
    rules cover it.
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
    """True if the only device of the process is one CPU: no array is sharded then, and axes may be merged.

    Evaluated while tracing, for variants whose choice inside the program would cost more than it gains.
    """
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def local_cpu() -> bool:
    """True if the arrays traced now are whole and on one CPU, so that merging their axes is free.

    That is so in a process with one CPU device and no mesh, and inside a `shard_map` over all axes of the mesh on CPUs;
    never in portable or plain `forms`.
    """
    if _FORMS.get() != "fast":
        return False
    mesh = jax.sharding.get_abstract_mesh()
    return one_cpu() if mesh.empty else mesh.are_all_axes_manual and jax.default_backend() == "cpu"
