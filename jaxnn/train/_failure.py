"""Diagnosis of a failed run: the failing step, found by replaying the same program, and the non-finite values in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._paths import path_tree
from jaxnn.compiler import compiler_options
from jaxnn.train._epoch import augmented, batches, finite, spoiled, take_step, take_steps
from jaxnn.train._faults import Seen, fault_of, seen
from jaxnn.train._fit import Run
from jaxnn.train._plan import Plan
from jaxnn.train._programs import Programs
from jaxnn.train._trainer import TrainState
from jaxnn.types import Data, Metrics

LISTED = 8  # members of a batch of runs whose failures are described


class Step(NamedTuple):
    """Diagnosis of one step.

    Attributes:
      metrics: its metrics.
      finite: tree of booleans, True for finite gradients; None if gradients are unknown.
      lost: tree of booleans, True for params that were finite before the step and are not after it.
      data: its data.
    """

    metrics: Metrics
    finite: dict[str, Any] | None
    lost: dict[str, Any]
    data: Seen


def diagnose(plan: Plan, many: bool, run: Run, data: Data, failed: np.ndarray) -> tuple[Run, str]:
    """The run with the state just before the failing step, and a description of the failure.

    Args:
      plan: the plan of the run.
      many: True for a batch of runs.
      run: the run at the end of the loop, with `ts` from before the steps of `data` in which it failed.
      data: data of the last piece.
      failed: mask of the failed members; shape [] for one run.
    """
    replays, examine = _KEPT.of(plan, many)
    before, at = np.asarray(run.ts.step), np.asarray(run.failed)
    low, high = np.zeros_like(before), np.where(failed, at - before + 1, 1)  # `low` steps are fine, `high` are not
    middle = high - 1  # usually the last step fails; otherwise bisect, as the loss may show a failure late
    while (high - low > 1).any():
        _, fine = replays(run, data, middle)
        low, high = np.where(fine, middle, low), np.where(fine, high, middle)
        middle = (low + high) // 2
    ts, _ = replays(run, data, low)
    at = np.where(failed, before + low, at)
    broken = run._replace(ts=ts, failed=jnp.asarray(at))
    texts = []
    for i in map(tuple, np.argwhere(failed)[:LISTED]):
        one = jax.tree.map(lambda a, i=i: a[i], broken)
        step = jax.device_get(examine(one.ts, data, one.epoch, low[i]))
        texts.append(
            f"{f'run {i[0]} ' if many else ''}stopped at step {at[i]}, in epoch {one.epoch + 1}: "
            f"{_reason(step)}{f' ({fault})' if (fault := fault_of(step.data)) else ''}"
        )
    if (rest := int(failed.sum()) - LISTED) > 0:
        texts.append(f"{rest} more stopped")
    return broken, "; ".join(texts) + ". The run is kept as it was before that step."


def _reason(seen: Step) -> str:
    """Text that names the non-finite values of a step."""
    odd = [name for name, m in seen.metrics.items() if not np.isfinite(m)]
    reason = ", ".join(f"{name} is {seen.metrics[name]:g}" for name in odd or ["loss"])
    lost = _first(seen.lost)
    if seen.finite is not None:
        if path := _first(jax.tree.map(np.logical_not, seen.finite)):
            return f"{reason}, and the gradient of {path} is the first that is not finite"
        reason += ", and all gradients are finite"
    return f"{reason}; after the update {lost} is the first param that is not" if lost else reason


def _first(marks: dict[str, Any]) -> str | None:
    """The first path whose leaf is True, or None."""
    pairs = zip(jax.tree.leaves(path_tree(marks)), jax.tree.leaves(marks), strict=True)
    return next((path for path, mark in pairs if mark), None)


def _replays(plan: Plan, many: bool, run: Run, data: Data, count: jax.Array) -> tuple[TrainState, jax.Array]:
    """The state after `count` further steps, and a boolean: True if no step failed."""

    def replay(run: Run, data: Data, count: jax.Array) -> tuple[TrainState, jax.Array]:
        ts, _, failed = take_steps(plan, run.ts, data, run.epoch, count, jnp.ones((), bool), run.history["train"])
        return ts, failed < 0

    return (jax.vmap(replay, (0, None, 0)) if many else replay)(run, data, count)


def _examine(plan: Plan, ts: TrainState, data: Data, epoch: jax.Array, i: jax.Array) -> Step:
    """Diagnosis of step `i` of the epoch from the state before it."""
    batch = batches(plan, ts, data, epoch)(i)
    after, metrics = take_step(plan, ts, batch)
    gradients = plan.trainer.gradients
    grads = None if gradients is None else gradients(ts, augmented(plan, ts.key, batch, ts.step))
    found = seen(plan, ts, data, epoch, i)
    return Step(metrics, jax.tree.map(finite, grads), jax.tree.map(spoiled, ts.params, after.params), found)


def _compiled(key: Callable[[], tuple[Any, ...]]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    jit = partial(jax.jit, compiler_options=compiler_options())
    return jit(lambda *a: _replays(*key(), *a)), jit(lambda *a: _examine(key()[0], *a))


_KEPT = Programs(_compiled, size=16)
