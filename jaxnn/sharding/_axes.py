"""Meshes of devices, by the names and sizes of their axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import jax
import numpy as np
from jax.experimental.mesh_utils import create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid, wrong_type


def mesh(axes: str, *, devices: Sequence[Any] | None = None) -> Mesh:
    """Mesh of the devices of all processes with named axes, for `nn.shard`.

    `nn.shard` gives five names a meaning: examples of a batch lie along "data" and "expert", their steps along "seq";
    `fsdp`, `tensor_parallel`, `expert_parallel` and `pipeline` spread params along "data", "model", "expert" and
    "stage".

    Args:
      axes: names and sizes, such as "data=4, model=2". A size is an integer >= 1; one may be -1, for all devices that
        remain. Neighbours along the last axis are the closest devices: give it the axis with most communication.

      devices: the devices; None is `jax.devices()`. Those of `jax.experimental.topologies` need not exist: a program
        for them is compiled, not run. Devices of several TPU slices lie along the first axis, which their number must
        divide.

    Returns:
      A `jax.sharding.Mesh` of Auto axes: the compiler chooses the shardings of intermediate values. If its size is
      smaller than the number of devices, it has the first of them.

    Raises:
      TypeError: if `axes` is not a string, or `devices` is not a sequence of devices.
      ValueError: if it is not of this form, repeats a name, or needs more devices than there are; if the number of
        slices does not divide the first axis.

    Differences: axes of `jax.make_mesh` are Explicit by default, and their sizes have no -1.

    >>> mesh("data=-1, model=1").shape["model"]
    1
    """
    sizes = sizes_of("mesh", axes)
    among = list(jax.devices()) if devices is None else _checked(devices)
    there, fixed = len(among), prod(size for size in sizes.values() if size > 0)
    sizes = {name: there // fixed if size < 0 else size for name, size in sizes.items()}
    if not 0 < prod(sizes.values()) <= there:
        cpu = devices is None and jax.default_backend() == "cpu"
        fix = f"For virtual ones: nn.cores_as_devices({fixed}) before the first computation."
        raise invalid("mesh", f"at least {fixed} devices for {axes!r}", told=f"{there}", fix=fix if cpu else "")
    among, kinds = among[: prod(sizes.values())], (AxisType.Auto,) * len(sizes)
    slices = len({getattr(device, "slice_index", 0) for device in among})
    if slices > 1:
        return Mesh(_over_slices(sizes, slices, among), tuple(sizes), axis_types=kinds)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=kinds, devices=among)


def _checked(devices: Any) -> list[Any]:
    several = isinstance(devices, Sequence | np.ndarray)
    if not several or not all(hasattr(device, "device_kind") for device in devices):
        raise wrong_type("mesh", "devices to be a sequence of devices", devices, "Such as jax.devices().")
    return list(devices)


def _over_slices(sizes: Mapping[str, int], slices: int, devices: list[Any]) -> np.ndarray:
    """Devices of several slices, each of which has neighbouring indices of the first axis."""
    (name, first), *others = sizes.items()
    if first % slices:
        raise invalid("mesh", f"the first axis to be divisible by {slices} slices", told=f"{name}={first}")
    within = first // slices, *(size for _, size in others)
    return create_hybrid_device_mesh(within, (slices, *[1] * len(others)), devices, allow_split_physical_axes=True)


def sizes_of(where: str, axes: str) -> dict[str, int]:
    """Sizes of the axes by name; -1 for the axis of the remaining devices."""
    check.text(where, "axes", axes)
    sizes: dict[str, int] = {}
    for part in axes.split(","):
        name, equals, size = (text.strip() for text in part.partition("="))
        number = int(size) if size.removeprefix("-").isdecimal() else 0
        if not (name.isidentifier() and equals and (number > 0 or number == -1)):
            raise invalid(where, "axes such as 'data=4, model=2', with sizes >= 1 or one of -1", told=describe(axes))
        if name in sizes or (number < 0 and -1 in sizes.values()):
            twice = "a size of -1" if name not in sizes else f"the axis {name}"
            raise invalid(where, f"{twice} at most once", told=describe(axes))
        sizes[name] = number
    return sizes


def sizes_in(where: str, mesh: Mesh | str) -> Mapping[str, int]:
    """Sizes of the axes of a mesh, or of a mesh of devices that need not exist."""
    if isinstance(mesh, Mesh):
        return mesh.shape
    if not isinstance(mesh, str):
        raise wrong_type(where, "mesh to be a mesh, or its axes such as 'data=4, model=2'", mesh)
    sizes = sizes_of(where, mesh)
    if -1 in sizes.values():
        raise invalid(where, "sizes >= 1 of axes without devices", told=describe(mesh))
    return sizes
