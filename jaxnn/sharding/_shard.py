"""A trainer over the devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnn import _checks as check
from jaxnn._calls import called_as
from jaxnn._errors import invalid
from jaxnn._gather import STAGE, Use, uses
from jaxnn._platform import forms_on
from jaxnn.sharding._checks import (
    Rule,
    check_divides,
    check_mesh,
    check_parts,
    check_trainer,
    divides,
    names_in,
    rules_in,
    size_of,
    spec_of_batch,
)
from jaxnn.sharding._rules import specs, without
from jaxnn.train import Trainer, TrainState
from jaxnn.types import Batch, Key, Metrics, Params, State


def shard(
    trainer: Trainer,
    mesh: Mesh,
    rules: Rule | Sequence[Rule] = (),
    *,
    batch: PartitionSpec | None = None,
    microbatches: int | None = None,
) -> Trainer:
    """Trainer whose params, optimizer state and batches are spread over the devices of a mesh.

    The numbers are those on one device, up to rounding: a batch norm uses the whole batch, dropout draws the same
    masks, except in a pipeline, which draws them for each microbatch. `fit`, `drive`, `predict` and `jit`, with
    donation, take the result as any other trainer. Kinds of parallelism, which may be combined:

        data parallel       mesh("data=8")            batch over data, params on every device
        fully sharded       mesh("data=8")            fsdp(): params and optimizer state over data, too
        tensor parallel     mesh("data=4, model=2")   tensor_parallel(): products of a layer over model
        sequence parallel   mesh("data=2, seq=4")     steps of a sequence over seq
        expert parallel     mesh("data=2, expert=4")  expert_parallel(): experts over expert; the batch over both
        pipeline            mesh("data=2, stage=4")   pipeline("blocks/*"): copies of a repeat over stage

    `init` draws each part of a param on the device that holds it: no device ever has the whole. Optimizer state of the
    shape of a param is sharded as that param; other state, such as that of `nn.flat` and `nn.quantized`, and the
    model's state are on every device. Mesh axes of the batch in the spec of a param are for storage: the layer that
    reads the param gathers it first. A param of two or more axes is sent in the dtype of the layer's input if that is
    narrower, to which layers cast it: a layer of yours that computes in float32 from bfloat16 inputs gets it rounded.

    Args:
      trainer: a `Trainer`, without `axis_name`.
      mesh: the devices, from `nn.mesh`, or another mesh of Auto axes.
      rules: the PartitionSpec of each param. A dict from glob patterns of paths to `PartitionSpec`, of which the first
        that matches holds; a function `(path, shape, spec, sizes) -> PartitionSpec` of the spec so far and the sizes of
        the mesh axes, such as `nn.sharding.fsdp()`; or several of both, applied in order:
        `[tensor_parallel(), {"head/*": P()}, fsdp()]`. Params without a rule are on every device.
      batch: PartitionSpec of the arrays of a batch; those of lower rank take its first entries. None is
        P(("data", "expert"), "seq"), without the axes that the mesh lacks.
      microbatches: number of equal parts, >= 1, into which a pipeline cuts a batch; several times the number of stages.
        Required with params along "stage", and only then. An evaluation of a batch that it does not divide uses fewer.

    Returns:
      A `Trainer` with the functions of the given one. An evaluation of a batch that the mesh does not divide is not
      spread.

    Raises:
      TypeError: if an argument is of another type, or the mesh has Explicit axes.
      ValueError: when the params are known, for a pattern that matches none of them, a rule that shards none, and a
        mesh axis that does not divide an axis of a param or of the batch; for `microbatches` without a pipeline, or
        that do not divide the batch; for a pipeline of blocks with state.

    Differences: flax names axes of params inside of models and maps those names to mesh axes. PyTorch wraps modules
    (FSDP2, DTensor).

    >>> import jaxnn as nn
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> t = shard(t, nn.mesh("data=1"), nn.sharding.fsdp())
    >>> batch = jnp.ones((4, 3)), jnp.zeros((4, 1))
    >>> ts, _ = jax.jit(t.step, donate_argnums=0)(t.init(jax.random.key(0), batch), batch)
    >>> int(ts.step)
    1
    """
    check_trainer("shard", trainer, None, "without axis_name, which is for jax.shard_map")
    check_mesh("shard", mesh)
    rules_in("shard", rules)
    if microbatches is not None:
        microbatches = check.count("shard", "microbatches", microbatches)
    place = Placement(mesh, rules, spec_of_batch("shard", mesh, batch), microbatches)

    def init(key: Key, batch: Batch, *, params: Params | None = None, state: State | None = None) -> TrainState:
        known = {name: tree for name, tree in (("params", params), ("state", state)) if tree is not None}
        shapes = jax.eval_shape(trainer.init, key, batch, **known)
        held = place.shardings(shapes)
        if params is not None:
            known["params"] = jax.tree.map(jax.device_put, params, _part(held.params, params))
        with forms_on(mesh):
            return jax.jit(trainer.init, out_shardings=held)(key, batch, **known)

    def within(f: Callable[..., Any], ts: TrainState, batch: Batch, strict: bool, **how: Any) -> Any:
        """`f` of the state and the batch in their places."""
        with uses(place.uses(ts.params)), forms_on(mesh):
            return f(place.held(ts), place.batch(batch, strict), **how)

    def step(ts: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        ts, metrics = within(trainer.step, ts, batch, True)
        return place.held(ts), metrics

    def evaluate(ts: TrainState, batch: Batch, **totals: bool) -> Any:
        return within(trainer.evaluate, ts, batch, False, **totals)

    optional: dict[str, Any] = {
        name: partial(within, f, strict=False)
        for name in ("gradients", "outcome")
        if (f := getattr(trainer, name)) is not None
    }
    return called_as(trainer._replace(init=init, step=step, evaluate=evaluate, **optional), trainer)


class Placement(NamedTuple):
    """Shardings of the state of a trainer and of its batches.

    Attributes:
      mesh, rules: as in `shard`.
      examples: PartitionSpec of the arrays of a batch.
      microbatches: parts of a batch in a pipeline; None without one.
    """

    mesh: Mesh
    rules: Rule | Sequence[Rule]
    examples: PartitionSpec
    microbatches: int | None

    def held(self, ts: TrainState) -> TrainState:
        """The state, sharded by the rules."""
        return jax.lax.with_sharding_constraint(ts, self.shardings(ts))

    def shardings(self, ts: TrainState) -> TrainState:
        """The sharding of each array of a state.

        An array of the optimizer whose path ends in the path of a param and that has its shape is sharded as the param.
        """
        spec_of = self._specs(ts.params)
        of_path = {path: (p.shape, spec_of[path]) for path, p in zip(spec_of, jax.tree.leaves(ts.params), strict=True)}

        def sharding(path: Any, leaf: Any) -> NamedSharding:
            names = _text(path).split("/")
            ends = ("/".join(names[i:]) for i in range(len(names)))  # the longest first
            shape, spec = next((of_path[end] for end in ends if end in of_path), (None, PartitionSpec()))
            return NamedSharding(self.mesh, spec if leaf.shape == shape else PartitionSpec())

        whole = jax.tree.map(lambda _: NamedSharding(self.mesh, PartitionSpec()), ts)
        as_params = {name: getattr(ts, name) for name in ("params", "opt_state", "average")}
        return whole._replace(**jax.tree_util.tree_map_with_path(sharding, as_params))

    def uses(self, params: Params) -> dict[str, Any]:
        """Shardings with which layers read the params that are sharded along mesh axes of the batch or of stages."""
        spread, tree, found = names_in(self.examples), dict[str, Any](), self._specs(params)
        staged = any(STAGE in names_in(spec) for spec in found.values())
        if staged != (self.microbatches is not None):
            expected = "microbatches with params along 'stage', and only then"
            raise invalid("shard", expected, told=f"microbatches={self.microbatches}")
        for path, spec in found.items():
            if names_in(spec) & (spread | {STAGE}):
                *parents, name = path.split("/")
                node = reduce(lambda node, parent: node.setdefault(parent, {}), parents, tree)
                held, read = (NamedSharding(self.mesh, s) for s in (spec, without(spec, spread - {STAGE})))
                node[name] = Use(held, read, self.microbatches or 1)
        return tree

    def batch(self, batch: Batch, strict: bool) -> Batch:
        """The batch, spread over the devices; unless `strict`, arrays that the mesh does not divide are unchanged."""

        def spread(path: Any, x: Any) -> Any:
            shape = np.shape(x)
            spec = PartitionSpec(*self.examples[: len(shape)])
            if strict:
                check_divides("shard", f"batch[{_text(path)}]", shape, spec, self.mesh.shape)
                devices = size_of(self.examples[0] if len(self.examples) else None, self.mesh.shape)
                check_parts(f"batch[{_text(path)}]", shape, devices, self.microbatches or 1)
            fits = len(shape) and divides(shape, spec, self.mesh.shape)
            return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, spec)) if fits else x

        return jax.tree_util.tree_map_with_path(spread, batch)

    def _specs(self, params: Params) -> dict[str, PartitionSpec]:
        return specs("shard", params, self.mesh.shape, self.rules)


def _text(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _part(whole: Params, part: Params) -> Params:
    """`whole` at the paths that `part` has."""
    return {k: _part(whole[k], v) if isinstance(v, dict) else whole[k] for k, v in part.items() if k in whole}
