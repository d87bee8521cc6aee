"""All measurements of `diagnose`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn._layer import Layer
from jaxnn._padded import values_of
from jaxnn._paths import path_tree
from jaxnn.compiler import compiler_options
from jaxnn.diagnosis._affine import linear_stacks
from jaxnn.diagnosis._baselines import best_constant
from jaxnn.diagnosis._facts import Facts
from jaxnn.diagnosis._look import look
from jaxnn.diagnosis._losses import kind_of
from jaxnn.diagnosis._measure_data import baselines, facts_of_data, parts_of
from jaxnn.diagnosis._outputs import order as paths_of
from jaxnn.diagnosis._outputs import ordered, with_params
from jaxnn.diagnosis._overfit import overfit_sample
from jaxnn.diagnosis._probe import probe
from jaxnn.diagnosis._symmetry import symmetries
from jaxnn.train import Trainer, TrainState
from jaxnn.train._programs import Programs
from jaxnn.types import Arrays, Data, Key

SCALES = 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0  # multiples of the rate
FEW, FEW_STEPS = 8, 200  # examples to overfit, and steps
MOST = 1000  # examples for the loss of a constant


class Task(NamedTuple):
    """A trainer with the data of its diagnosis.

    Attributes:
      trainer: the Trainer.
      key, order: keys of the initialisation and of the batches.
      part: training data in random order, enough for the short runs.
      held, sample: held-out examples, and some of `part`.
      size, steps: examples per step and steps of the short runs.
      given: initial params and state by name.
      end: state after a run; None before it.
    """

    trainer: Trainer
    key: Key
    order: Key
    part: Data
    held: Data
    sample: Data
    size: int
    steps: int
    given: dict[str, Any]
    end: TrainState | None


def rows_of(data: Data, rows: Any) -> Data:
    """Examples of data."""
    return jax.tree.map(lambda a: a[rows], data)


def prediction_of(model: Layer, ts: Any, x: Arrays) -> Any:
    """Shape of the predictions."""
    return values_of(jax.eval_shape(lambda ts, x: model.apply(ts.params, ts.state, x)[0], ts, x))


def measured(task: Task, train: Data, parted: bool) -> Facts:
    """All measurements.

    Args:
      task: the trainer and its data.
      train: all training data.
      parted: True if the user separated the held-out examples.
    """
    trainer, sample = task.trainer, task.sample
    start, looks, runs, evaluate, overfits, alike, _ = PROGRAMS.of(trainer, task.steps, task.size)
    ts, other = (start(key, sample, task.given) for key in (task.key, jax.random.fold_in(task.key, 1)))
    drawn = jax.tree.map(lambda a, b: bool((a != b).any()), ts.params, other.params)
    random = dict(zip(jax.tree.leaves(path_tree(drawn)), jax.tree.leaves(drawn), strict=True))
    scales = np.asarray(SCALES, np.float32)
    states, losses = runs(ts, rows_of(task.part, slice(task.steps * task.size)), scales, task.order)
    losses = np.asarray(losses)
    ends = np.nan_to_num(losses[:, -max(1, task.steps // 10) :].mean(axis=1), nan=np.inf).argmin()
    slow, last = (jax.tree.map(itemgetter(SCALES.index(scale)), states) for scale in (0.1, 1.0))
    symmetry = {} if trainer.gradients is None else jax.device_get(alike(ts, slow, sample))
    seen = [jax.device_get(looks(s, sample)) for s in (ts, slow, last if task.end is None else task.end)]
    names, layers, stacks = [], [""], []
    if trainer.model is not None:
        stacks = linear_stacks(trainer.model, slow.params, slow.state, rows_of(sample[0], slice(FEW)), task.key)
        names, layers = (f(trainer.model, ts.params, ts.state, sample[0]) for f in (paths_of, with_params))
    first, slow, last = (one._replace(outputs=ordered(one.outputs, names)) for one in seen)
    facts = Facts(
        **facts_of_data(train, task.part, task.held, parted),
        **_of_loss(task, ts, train),
        held=float(evaluate(jax.tree.map(itemgetter(ends), states), task.held)),
        layers=layers,
        random=random,
        trained=set(random if trainer.gradients is None else first.gradients),
        symmetry=symmetry,
        stacks=stacks,
        first=first,
        slow=slow,
        last=last,
        scales=scales,
        losses=losses,
        few=np.asarray(overfits(ts, rows_of(task.part, slice(FEW)), scales[ends])),
    )
    return facts._replace(baselines=baselines(facts, task.held))


def _of_loss(task: Task, ts: TrainState, train: Data) -> dict[str, Any]:
    """Kind of the loss, and its values for the best constants."""
    trainer, (x, y, _) = task.trainer, parts_of(task.sample)
    facts: dict[str, Any] = {"kind": "other", "classes": None}
    facts |= dict.fromkeys(("constant", "held_constant", "few_constant", "edges"), np.nan)
    if trainer.model is None or trainer.loss is None or x is None:
        return facts
    made = prediction_of(trainer.model, ts, x)
    if not all(hasattr(a, "shape") and a.shape for a in (made, y)):
        return facts
    facts["kind"] = kind_of(trainer.loss, jnp.zeros(made.shape, made.dtype), jnp.asarray(y))
    if jnp.issubdtype(y.dtype, jnp.integer) and len(made.shape) == len(y.shape) + 1:
        facts["classes"] = int(made.shape[-1])
    least = PROGRAMS.of(trainer, task.steps, task.size)[-1]
    labels = np.asarray(parts_of(train)[1])
    edges = np.array([labels.argmin(), labels.argmax()]) // max(1, labels[0].size)
    sets = {"constant": parts_of(task.part)[1], "held_constant": parts_of(task.held)[1]}
    sets |= {"few_constant": sets["constant"][:FEW], "edges": labels[edges]}
    for name, targets in sets.items():
        target = jnp.asarray(targets[:MOST])
        try:
            facts[name] = float(least(jnp.zeros((len(target), *made.shape[1:]), made.dtype), target))
        except (TypeError, ValueError):  # a loss of other arguments
            return facts
    return facts


def _compiled(key: Callable[[], tuple[Any, ...]]) -> tuple[Callable[..., Any], ...]:
    jit = partial(jax.jit, compiler_options=compiler_options())

    def start(k: Key, batch: Arrays, given: dict[str, Any]) -> Any:
        return key()[0].init(k, batch, **given)

    def runs(ts: Any, train: Data, scales: Any, order: Key) -> Any:
        trainer, steps, size = key()
        return probe(trainer, ts, train, scales, order, steps=steps, batch_size=size)

    def alike(before: Any, after: Any, batch: Arrays) -> Any:
        gradients = key()[0].gradients
        assert gradients is not None
        paths = jax.tree.leaves(path_tree(jax.eval_shape(gradients, before, batch)))
        return symmetries(before.params, after.params, paths)

    return (
        jit(start),
        jit(lambda ts, batch: look(key()[0], ts, batch)),
        jit(runs),
        jit(lambda ts, batch: key()[0].evaluate(ts, batch)["loss"]),
        jit(lambda ts, few, scale: overfit_sample(key()[0], ts, few, steps=FEW_STEPS, scale=scale).losses),
        jit(alike),
        jit(lambda prediction, target: best_constant(key()[0].loss, prediction, target)),
    )


PROGRAMS = Programs(_compiled, size=16)
