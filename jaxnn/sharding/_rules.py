"""Rules from the path and the shape of a param to its PartitionSpec."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from jaxnn import _checks as check
from jaxnn._gather import STAGE
from jaxnn._paths import globs, matching, path_tree
from jaxnn.sharding._checks import Rule, check_axis, check_changed, check_divides, names_in, names_of, rules_in
from jaxnn.types import Params

COLUMN = "w_q b_q w_k b_k w_v b_v up/w up/b head/w head/b"  # the last axis is sharded: heads, hidden units, classes
ROW = "w_o down/w embed/w"  # the first axis is sharded: heads, hidden units, entries of the vocabulary

OF_EXPERTS = {"w": 2, "b": 1, "scale": 1, "bias": 1}  # axes of a param in one expert; the one before them is of experts


def fsdp(axis_name: str = "data", *, least: int = 0) -> Callable[..., PartitionSpec]:
    """Rule for fully sharded data parallelism: each param is sharded along its largest axis that the mesh divides.

    Params, gradients and optimizer state take 1/n of the memory on each of n devices. A layer gathers its params just
    before it reads them, once in the forward and once in the backward pass.

    Args:
      axis_name: mesh axis, usually the one over which the batch is sharded.
      least: params with fewer elements stay as they are, >= 0: their communication would cost more than it saves.

    Returns:
      A rule for `nn.shard`. It leaves out axes that an earlier rule has sharded, and params of which no axis can be
      divided.

    Reference: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2020; Zhao et
    al., PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, 2023.

    >>> tuple(fsdp()("dense/w", (64, 512), PartitionSpec(), {"data": 8}))
    (None, 'data')
    """
    check.text("fsdp", "axis_name", axis_name)
    least = check.count("fsdp", "least", least, 0)

    def rule(path: str, shape: tuple[int, ...], spec: PartitionSpec, sizes: Mapping[str, int]) -> PartitionSpec:
        check_axis("fsdp", axis_name, sizes)
        axes = _padded(spec, len(shape))
        free = [i for i, n in enumerate(shape) if axes[i] is None and n and n % sizes[axis_name] == 0]
        if not free or prod(shape) < least or axis_name in names_in(spec):
            return spec
        axes[max(free, key=lambda i: shape[i])] = axis_name
        return PartitionSpec(*axes)

    return rule


def tensor_parallel(axis_name: str = "model") -> Callable[..., PartitionSpec]:
    """Rule for tensor parallelism: pairs of products whose first is sharded by columns and whose second by rows.

    Attention by heads (w_q, w_k, w_v, then w_o), the MLP of a transformer block (up, then down), dense layers in
    sequence (`dense` by columns, `dense_1` by rows, and so on), embeddings by vocabulary, and a head by classes, whose
    cross-entropy then never holds all logits of an example on one device. A pair takes one all-reduce in the forward
    and one in the backward pass. The mesh axis must divide the number of heads, of keys and values too.

    Args:
      axis_name: mesh axis.

    Returns:
      A rule for `nn.shard`.

    Reference: Shoeybi et al., Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism,
    2019.

    >>> tuple(tensor_parallel()("block1/down/w", (256, 64), PartitionSpec(), {"model": 2}))
    ('model',)
    """
    check.text("tensor_parallel", "axis_name", axis_name)

    def rule(path: str, shape: tuple[int, ...], spec: PartitionSpec, sizes: Mapping[str, int]) -> PartitionSpec:
        first, second = _in_chain(path)
        if first or _ends(path, COLUMN):
            return PartitionSpec(*[None] * (len(shape) - 1), axis_name)
        if second or _ends(path, ROW):
            return PartitionSpec(*[None] * (len(shape) - 2), axis_name)
        return spec

    return rule


def expert_parallel(axis_name: str = "expert") -> Callable[..., PartitionSpec]:
    """Rule for expert parallelism: the experts of each `nn.mixture_of_experts` are spread over a mesh axis.

    The batch lies along this axis, too: `nn.shard` spreads examples over "data" and "expert" by default. With a
    capacity, tokens travel to the devices of their experts and back by all-to-alls, two in the forward and two in the
    backward pass. Without one, every expert computes all tokens, so these are gathered.

    It applies to params below "experts" that are named as those of dense layers (w, b) and norms (scale, bias). For
    other experts write a dict: `{"*/experts/*": P("expert")}`, or P(None, "expert") inside a `repeat`.

    Args:
      axis_name: mesh axis, which divides the number of experts; "data" spreads them over the axis of the examples.

    Returns:
      A rule for `nn.shard`. It keeps the mesh axes of earlier rules: `[tensor_parallel(), expert_parallel(), fsdp()]`.

    Reference: Lepikhin et al., GShard: Scaling Giant Models with Conditional Computation and Automatic Sharding, 2020.

    >>> tuple(expert_parallel()("experts/up/w", (8, 64, 256), PartitionSpec(), {"data": 2, "expert": 4}))
    ('expert', None, None)
    """
    check.text("expert_parallel", "axis_name", axis_name)

    def rule(path: str, shape: tuple[int, ...], spec: PartitionSpec, sizes: Mapping[str, int]) -> PartitionSpec:
        check_axis("expert_parallel", axis_name, sizes)
        *parents, param = path.split("/")
        rank = OF_EXPERTS.get(param, len(shape))
        if "experts" not in parents or len(shape) <= rank:
            return spec
        axes = _padded(spec, len(shape))
        axes[len(shape) - 1 - rank] = axis_name
        return PartitionSpec(*axes)

    return rule


def pipeline(where: str | Sequence[str]) -> Callable[..., PartitionSpec]:
    """Rule for pipeline parallelism: the copies of an `nn.repeat` are spread over the mesh axis "stage".

    Each of s stages has n / s consecutive copies on its devices. `nn.shard(..., microbatches=m)` cuts a batch into m
    parts, which pass through the stages in sequence. The fraction (s - 1) / (m + s - 1) of the time is lost at the
    beginning and the end, when some stages have no part, so m should be several times s.

    Args:
      where: glob patterns of the paths of params of `repeat` layers, such as "repeat/*" or "*/blocks/*".

    Returns:
      A rule for `nn.shard`. It keeps the mesh axes of earlier rules: `[tensor_parallel(), pipeline("blocks/*"),
      fsdp()]`.

    Differences: GPipe's schedule, in which the backward passes of all parts follow the forward passes; PipeDream-Flush
    (1F1B) alternates them, with the same time and less memory. `nn.remat` of the block saves that memory here.

    Reference: Huang et al., GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism, 2019.

    >>> tuple(pipeline("blocks/*")("blocks/up/w", (8, 64, 256), PartitionSpec(), {"data": 2, "stage": 4}))
    ('stage', None, None)
    """
    patterns = globs("pipeline", "where", where)

    def rule(path: str, shape: tuple[int, ...], spec: PartitionSpec, sizes: Mapping[str, int]) -> PartitionSpec:
        check_axis("pipeline", STAGE, sizes)
        if not any(fnmatchcase(path, pattern) for pattern in patterns):
            return spec
        return PartitionSpec(STAGE, *_padded(spec, len(shape))[1:])

    return rule


def specs(
    where: str, params: Params, sizes: Mapping[str, int], rules: Rule | Sequence[Rule]
) -> dict[str, PartitionSpec]:
    """The PartitionSpec of each param by its path, with an entry for each axis.

    Args:
      where: public function, for errors.
      params: nested dict of arrays or shapes.
      sizes: sizes of the mesh axes.
      rules: as in `shard`.
    """
    shapes = dict(zip(jax.tree.leaves(path_tree(params)), map(np.shape, jax.tree.leaves(params)), strict=True))
    found = dict.fromkeys(shapes, PartitionSpec())
    for rule in rules_in(where, rules):
        before = found
        if isinstance(rule, Mapping):
            matching(where, params, tuple(rule), argument="rules")
            found = {path: _first(rule, path, spec) for path, spec in before.items()}
        else:
            found = {path: rule(path, shapes[path], spec, sizes) for path, spec in before.items()}
            check_changed(where, rule, before, found)
    for path, spec in found.items():
        check_divides(where, path, shapes[path], spec, sizes)
    return {path: PartitionSpec(*_padded(spec, len(shapes[path]))) for path, spec in found.items()}


def _first(rule: Mapping[str, PartitionSpec], path: str, spec: PartitionSpec) -> PartitionSpec:
    """The PartitionSpec of the first pattern that matches, or the given one."""
    return next((new for pattern, new in rule.items() if fnmatchcase(path, pattern)), spec)


def without(spec: PartitionSpec, names: set[str]) -> PartitionSpec:
    """The spec without some mesh axes."""
    kept = [tuple(name for name in names_of(axes) if name not in names) for axes in spec]
    return PartitionSpec(*(None if not axes else axes[0] if len(axes) == 1 else axes for axes in kept))


def _padded(spec: PartitionSpec, rank: int) -> list[Any]:
    return [*spec, *[None] * (rank - len(spec))]


def _in_chain(path: str) -> tuple[bool, bool]:
    """True, False for params of the first dense layer of a pair, False, True for the weight of the second.

    Layers in sequence are named dense, dense_1, ...; those of `models` dense1, dense2, ...
    """
    named = re.fullmatch(r"(?:.*/)?dense(?:_(\d+)|(\d+))?/([wb])", path)
    if named is None:
        return False, False
    odd = (int(named[1] or 0) if named[2] is None else int(named[2]) - 1) % 2 == 1
    return not odd, odd and named[3] == "w"


def _ends(path: str, ends: str) -> bool:
    return any(f"/{path}".endswith(f"/{end}") for end in ends.split())
