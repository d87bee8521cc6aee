"""What is decided by platform, in one place; the measurement that decides stands beside each use."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax


def on_cpu(cpu: Callable[..., Any], default: Callable[..., Any], *args: Any) -> Any:
    """`cpu(*args)` where the program is lowered for a CPU, else `default(*args)`: chosen when lowered, not traced."""
    return lax.platform_dependent(*args, cpu=cpu, default=default)


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
