"""Checks of meshes, of rules, and of specs against shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxnn._calls import call_of
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn.train import Trainer

Rule: TypeAlias = Mapping[str, PartitionSpec] | Callable[..., PartitionSpec]


def check_trainer(where: str, trainer: Any, axis_name: str | None, expected: str, fix: str = "") -> None:
    """Raises unless `trainer` is a Trainer that was made with this axis of `shard_map`, as far as it is known."""
    if not isinstance(trainer, Trainer):
        raise wrong_type(where, "a Trainer", trainer, "nn.trainer(model, loss, optimizer) makes one.")
    call = call_of(trainer)
    if call is not None and (name := call.kwargs.get("axis_name")) != axis_name:
        raise invalid(where, f"a trainer {expected}", told=f"axis_name={name!r}", fix=fix)


def check_mesh(where: str, mesh: Any) -> None:
    """Raises TypeError unless `mesh` is a mesh of Auto axes."""
    known = isinstance(mesh, Mesh)
    if not known or set(mesh.axis_types) != {AxisType.Auto}:
        told = "a mesh of other axes" if known else describe(mesh)
        raise wrong_type(where, "a mesh of Auto axes", told=told, fix="nn.mesh('data=4, model=2') makes one.")


def rules_in(where: str, rules: Rule | Sequence[Rule]) -> tuple[Rule, ...]:
    """Rules as a tuple; raises TypeError for anything else."""
    each = tuple(rules) if isinstance(rules, list | tuple) else (rules,)
    for rule in each:
        known = isinstance(rule, Mapping) and all(isinstance(spec, PartitionSpec) for spec in rule.values())
        if not known and (isinstance(rule, Mapping) or not callable(rule)):
            fix = "Such as {'*/w': jax.sharding.PartitionSpec(None, 'model')}, or nn.sharding.fsdp()."
            raise wrong_type(where, "rules to be dicts from patterns to PartitionSpecs, or functions", rule, fix)
    return each


def check_axis(where: str, name: str, sizes: Mapping[str, int]) -> None:
    """Raises ValueError unless the mesh has an axis of this name."""
    if name not in sizes:
        raise invalid(where, f"axis_name to be an axis of the mesh, {' or '.join(sizes)}", told=repr(name))


def check_changed(where: str, rule: Any, before: Any, after: Any) -> None:
    """Raises ValueError for a rule that changes the PartitionSpec of no param."""
    if before and before == after:
        name = getattr(rule, "__qualname__", str(rule)).partition(".")[0]
        raise invalid(where, "each rule to change the sharding of some param", told=f"{name}, which changes none")


def spec_of_batch(where: str, mesh: Mesh, batch: PartitionSpec | None) -> PartitionSpec:
    """The PartitionSpec of a batch, by default over the axes "data", "expert" and "seq" of the mesh."""
    if batch is None:
        examples = tuple(name for name in ("data", "expert") if name in mesh.shape)
        steps = "seq" if "seq" in mesh.shape else None
        batch = PartitionSpec(examples if len(examples) > 1 else examples[0] if examples else None, steps)
    if not isinstance(batch, PartitionSpec):
        raise wrong_type(where, "batch to be a PartitionSpec", batch)
    if not names_in(batch) <= set(mesh.shape):
        raise invalid(where, f"batch of mesh axes among {', '.join(mesh.shape)}", told=_text(batch))
    return batch


def check_divides(where: str, path: str, shape: tuple[int, ...], spec: PartitionSpec, sizes: Mapping[str, int]) -> None:
    """Raises ValueError unless each mesh axis of the spec exists, is used once, and divides its axis of the array."""
    array = f"{path} of shape {list(shape)}"
    if len(spec) > len(shape):
        raise invalid(where, f"a PartitionSpec of at most {len(shape)} axes for {array}", told=_text(spec))
    if not names_in(spec) <= set(sizes) or len(names_in(spec)) < sum(map(len, map(names_of, spec))):
        raise invalid(where, f"mesh axes among {', '.join(sizes)}, each once, for {array}", told=_text(spec))
    for i, (n, by) in enumerate(zip(shape, spec, strict=False)):
        if n % size_of(by, sizes):
            expected = f"axis {i} of {array} to be divisible by {' · '.join(names_of(by))} = {size_of(by, sizes)}"
            raise invalid(where, expected, told=f"{n}")


def check_parts(array: str, shape: tuple[int, ...], devices: int, microbatches: int) -> None:
    """Raises ValueError unless every device has an equal number of examples in each microbatch."""
    if shape and shape[0] % (devices * microbatches):
        expected = f"axis 0 of {array} of shape {list(shape)} to be divisible by microbatches · devices"
        raise invalid("shard", f"{expected} = {devices * microbatches}", told=f"{shape[0]}")


def divides(shape: tuple[int, ...], spec: PartitionSpec, sizes: Mapping[str, int]) -> bool:
    """True if the mesh axes of the spec divide the axes of the array."""
    return all(n % size_of(by, sizes) == 0 for n, by in zip(shape, spec, strict=False))


def size_of(axes: Any, sizes: Mapping[str, int]) -> int:
    """Number of parts of an axis that lies along these mesh axes."""
    return prod(sizes[name] for name in names_of(axes))


def parts_of(spec: PartitionSpec, sizes: Mapping[str, int]) -> int:
    """Number of different parts of an array with this PartitionSpec."""
    return prod(size_of(axes, sizes) for axes in spec)


def _text(spec: PartitionSpec) -> str:
    return f"PartitionSpec({', '.join(map(repr, spec))})"  # JAX's own text differs between its versions


def names_in(spec: PartitionSpec) -> set[str]:
    """Names of the mesh axes in a PartitionSpec."""
    return {name for axes in spec for name in names_of(axes)}


def names_of(axes: Any) -> tuple[str, ...]:
    """Names of the mesh axes in an entry of a PartitionSpec."""
    return () if axes is None else axes if isinstance(axes, tuple) else (axes,)
