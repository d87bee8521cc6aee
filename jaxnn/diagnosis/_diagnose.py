"""The report on a training run: measurements before and in a few short runs, judged by rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid, wrong_type
from jaxnn._keys import split
from jaxnn.diagnosis._curves import fitted, learning_curve, limited
from jaxnn.diagnosis._finished import finished
from jaxnn.diagnosis._measure import Task, measured, prediction_of, rows_of
from jaxnn.diagnosis._report import Finding, Report
from jaxnn.diagnosis._rules import TRAINING
from jaxnn.diagnosis._rules_data import DATA
from jaxnn.diagnosis._rules_model import HINTS, MODEL
from jaxnn.diagnosis._rules_run import RUN
from jaxnn.train import Run, Trainer
from jaxnn.types import Data, Key, Params, State

SAMPLE, HELD, KNOWN = 256, 1000, 2000  # examples for outputs and gradients, for evaluation, for baselines at least


def diagnose(
    trainer: Trainer,
    key: Key,
    train: Data,
    valid: Data = None,
    *,
    batch_size: int | None = None,
    steps: int = 100,
    run: Run | None = None,
    sizes: Sequence[int] = (),
    params: Params | None = None,
    state: State | None = None,
) -> Report:
    """Report on a training run, before it is started or after it: faults of data, model, loss and learning rate.

    The model is initialised, observed on a sample, trained for a few steps at six multiples of its learning rate, and
    trained on eight examples alone. Findings:

    | finding | measured |
    |---|---|
    | non-finite data, labels out of range | values |
    | unscaled inputs | root mean square of the inputs and of the first layer's output |
    | leakage | validation examples that are in train; one feature that determines the class |
    | imbalance | fraction of the rarest class; classes of `valid`, or a few of the model's, that train lacks |
    | target shape, broadcasting loss | shapes; the loss with permuted targets |
    | unrelated targets | linear model, nearest neighbours and the model against the best constant, held out |
    | softmax twice, wrong last activation | range of the predictions, kind of the loss, range of the targets |
    | symmetric initialisation, frozen layer | weights and gradients by layer |
    | linear stack | outputs of layers on lines through random inputs |
    | saturated units | slopes of bounded activations after the steps |
    | vanishing gradient, exploding gradient | gradient of the first layer over that of the last |
    | initial loss | loss before the first step against the best constant |
    | dead units | units that are 0 for all examples after the steps |
    | rate too high, rate too low | losses at multiples of the rate |
    | cannot overfit | loss after 200 steps on eight examples against the best constant |
    | overfitting, underfitting, stopped early, non-finite step | history of `run` |
    | label noise | validation labels that `run`'s best params and the nearest neighbours contradict |
    | miscalibrated, failing class | calibration error and recalls of `run`'s best params on `valid` |

    Hints of the report are no faults: a bias that a batch norm subtracts has no gradient; and with `sizes`, the losses
    of runs on more and on fewer examples tell if more data or a larger model would help.

    Args:
      trainer: a `Trainer` of `nn.trainer`; of another, only data, gradients and rates are judged.
      key: key of the initialisation and of the order of the examples.
      train: arrays as in `fit`, `(x, y)` or `(x, y, weights)`.
      valid: data for validation; None: a fifth of `train` is held out.
      batch_size: examples per step, as in `fit`; None is 64, or all if there are fewer.
      steps: length of the short runs, >= 10.
      run: a finished `Run` of this trainer; its history is judged, its last state is searched for dead and
        saturated units, and its best one predicts `valid`, which must not be among its training data.
      sizes: numbers of training examples for a `learning_curve` with as many epochs as `run`; on `valid`, or without it
        cross-validated by five folds. It takes as long as one, or five, such runs for each size.
      params, state: initial arrays, as in `trainer.init`.

    Returns:
      The `Report`.

    Raises:
      TypeError: if an argument is of another kind, or the data are not arrays.
      ValueError: if a number is out of range, `sizes` come without a run, or the data do not fit the trainer.

    Differences: cleanlab judges data alone, and PyTorch Lightning's `lr_find` the rate alone.

    Reference: Karpathy, A recipe for training neural networks, 2019.

    >>> import jaxnn as nn
    >>> x = 300 * jax.random.normal(jax.random.key(1), (256, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(1e-2))
    >>> nn.diagnose(t, jax.random.key(0), (x, x[:, :1] / 300)).names[0]
    'unscaled inputs'
    """
    if not isinstance(trainer, Trainer):
        fix = "Make one: nn.trainer(model, loss, optimizer)."
        raise wrong_type("diagnose", "trainer to be a Trainer", trainer, fix)
    key = check.typed_key("diagnose", key, "diagnose(trainer, key, train, valid)")
    steps = check.count("diagnose", "steps", steps, 10)
    n = check.examples("diagnose", "train", train, 2)
    m = None if valid is None else check.examples("diagnose", "valid", valid)
    size = min(n, 64) if batch_size is None else check.count("diagnose", "batch_size", batch_size)
    if len(sizes) and run is None:
        raise invalid("diagnose", "a run with sizes", run, "A learning curve has its number of epochs: pass run=.")
    init_key, order_key = split(key)
    random = np.random.default_rng(int(jax.random.bits(order_key)))
    order = random.permutation(n)
    if m is None:
        cut = max(1, n // 5)
        held, order = rows_of(train, order[:cut][:HELD]), order[cut:]
    else:
        rows = random.permutation(m)[:HELD]
        held = rows_of(valid, rows)
    size = min(size, len(order))
    part = rows_of(train, order[: max(KNOWN, steps * size)])
    sample = rows_of(part, slice(SAMPLE))
    given = {name: tree for name, tree in (("params", params), ("state", state)) if tree is not None}
    if (fault := _shapes(trainer, init_key, sample, given)) is not None:
        return Report((fault,), {})
    task = Task(trainer, init_key, order_key, part, held, sample, size, steps, given, None if run is None else run.ts)
    facts = measured(task, train, valid is not None)
    found = [finding for rule in (*DATA, *MODEL, *TRAINING) for finding in rule(facts)]
    figures = facts.figures()
    if run is not None:
        found += fitted(run, facts.constant)
        after = None if m is None else finished(trainer, run, facts, held, rows)
        found += [] if after is None else [finding for rule in RUN for finding in rule(after)]
        figures |= {} if after is None else after.figures()
    hints = [hint for rule in HINTS for hint in rule(facts)]
    if run is not None and len(sizes):
        how: dict[str, Any] = {"sizes": sizes, "epochs": int(run.epoch), "batch_size": size}
        curve = learning_curve(trainer, init_key, train, valid, **how)
        figures |= {"learning curve": curve}
        hints += limited(curve)
    return Report(tuple(found), figures, tuple(hints))


def _shapes(trainer: Trainer, key: Key, batch: Data, given: dict[str, Any]) -> Finding | None:
    """A finding if a step fails because the shapes of predictions and targets differ by axes of length 1."""
    try:
        jax.eval_shape(lambda key, batch: trainer.step(trainer.init(key, batch, **given), batch), key, batch)
        return None
    except (TypeError, ValueError):
        if trainer.model is None or not isinstance(batch, tuple | list) or not hasattr(batch[1], "shape"):
            raise
        ts = jax.eval_shape(lambda key, batch: trainer.init(key, batch, **given), key, batch)
        made = prediction_of(trainer.model, ts, batch[0])
        shapes = getattr(made, "shape", None), batch[1].shape
        if shapes[0] is None or shapes[0] == shapes[1] or 1 not in (shapes[0][-1], shapes[1][-1]):
            raise
        why = "They broadcast to every pair of examples, or the loss refuses them."
        fix = "y = y[:, None]" if len(shapes[0]) > len(shapes[1]) else "y = y[:, 0]"
        return Finding("target shape", f"prediction {describe(made)}, target {describe(batch[1])}", "", why, fix)
