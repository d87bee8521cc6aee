"""Hook of `drive` that warns of faults while a run is young."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import wrong_type
from jaxnn.compiler import compiler_options
from jaxnn.diagnosis._gradients import update_ratios
from jaxnn.diagnosis._outputs import at, order, ordered, outputs, with_params
from jaxnn.train import Trainer
from jaxnn.types import Batch

DEAD = 0.5  # fraction of dead units, as in `diagnose`
LARGE, SMALL = 0.3, 1e-6  # ratio of update to param
RISEN = 1.1  # training loss over that of the first epoch


def watch(
    trainer: Trainer, sample: Batch, *, epochs: int | None = None, record: list[dict[str, Any]] | None = None
) -> Callable[[Any], None]:
    """Hook `on_epoch` of `drive` that warns of dead units, of updates too large or too small, and of no progress.

    It observes the state at the end of an epoch on a sample: two forward passes and one backward pass of it. Each
    warning is shown once.

    Args:
      trainer: the `Trainer` of the run, made by `nn.trainer`.
      sample: some examples of the training data in the form of a batch, such as 128.
      epochs: number of first epochs that are observed, >= 1; None observes all.
      record: list to which the measurements of each epoch are appended, dicts with "epoch", "dead" by layer, and
        "update" by param. None records nothing.

    Returns:
      The hook. It always returns None, so that the run continues.

    Raises:
      TypeError: if the trainer has no model.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.01))
    >>> kept = []
    >>> hook = watch(t, (x[:32], x[:32, :1]), record=kept)
    >>> run = nn.drive(t, jax.random.key(0), (x, x[:, :1]), epochs=2, batch_size=16, progress=False, on_epoch=hook)
    >>> [row["epoch"] for row in kept], sorted(kept[0]["update"])
    ([1, 2], ['b', 'w'])
    """
    if not isinstance(trainer, Trainer) or trainer.model is None:
        fix = "Make it by nn.trainer(model, loss, optimizer)."
        raise wrong_type("watch", "a Trainer with a model", told="one without, or another object", fix=fix)
    epochs = None if epochs is None else check.count("watch", "epochs", epochs)
    model = trainer.model

    @partial(jax.jit, compiler_options=compiler_options())
    def measure(ts: Any, sample: Batch) -> Any:
        key = jax.random.fold_in(check.typed_key("watch", ts.key), ts.step)
        found = outputs(model, ts.params, ts.state, sample[0], key=key, train=True)
        return {name: v.dead for name, v in found.items()}, update_ratios(trainer, ts, sample)

    paths: list[str] = []  # of the layers from the first with params on
    told: set[str] = set()

    def hook(look: Any) -> None:
        if look.run is None or look.run.ts.step.ndim or (epochs is not None and look.epoch > epochs):
            return
        ts = look.run.ts
        if not paths:
            names, first = (f(model, ts.params, ts.state, sample[0]) for f in (order, with_params))
            paths.extend(names[names.index(first[0]) if first[0] in names else 0 :] or [""])
        dead, update = jax.device_get(measure(ts, sample))
        if record is not None:
            record.append({"epoch": look.epoch, "dead": ordered(dead, paths), "update": update})
        dead = {path: float(dead[path]) for path in paths if path in dead}
        weights = [path for path in update if at(ts.params, path).ndim >= 2] or list(update)  # biases start at 0
        update = {path: float(update[path]) for path in weights}
        losses = np.asarray(look.run.history["train"]["loss"])[: look.epoch].mean(axis=1)
        for fault, text in _faults(look.epoch, dead, update, losses):
            if fault not in told:
                told.add(fault)
                warnings.warn(f"epoch {look.epoch}: {text}", RuntimeWarning, stacklevel=2)

    return hook


def _faults(
    epoch: int, dead: dict[str, float], update: dict[str, float], losses: np.ndarray
) -> Iterator[tuple[str, str]]:
    """Names and texts of the faults of an epoch.

    Args:
      epoch: number of epochs done.
      dead: fraction of dead units by layer.
      update: ratio of the next update to the param, by weight.
      losses: training loss of each epoch.
    """
    for path, fraction in dead.items():
        if fraction > DEAD:
            remedy = "Lower the rate, or use nn.leaky_relu."
            yield "dead", f"{fraction:.0%} of the units of {path} are 0 for all examples. {remedy}"
            break
    largest = max(update, key=lambda path: update[path])
    if update[largest] > LARGE:
        text = f"a step changes {largest} by {update[largest]:.0%} of its size."
        yield "large", f"{text} Divide the learning rate by 10."
    elif update[largest] < SMALL and epoch == 1:  # later a schedule may end at 0
        text = f"a step changes no weight by more than {update[largest]:.1e} of its size."
        yield "small", f"{text} Multiply the learning rate by 10 or more."
    if losses[-1] > RISEN * losses[0]:
        yield (
            "rises",
            f"the training loss rose from {losses[0]:.3g} to {losses[-1]:.3g}. Divide the learning rate by 10.",
        )
