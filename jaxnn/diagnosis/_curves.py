"""Under- and overfitting, from the history of a run and from runs on parts of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid
from jaxnn._keys import split
from jaxnn.diagnosis._report import Finding
from jaxnn.train import Run, Trainer, fit
from jaxnn.types import Data, Key

WORSE = 1.15  # last validation loss over the best one
GAP = 1.2  # last validation loss over the training loss
FALLS = 0.95  # validation loss of the largest size over that of the one before
POOR = 0.9  # last training loss over that of the best constant


class LearningCurve(NamedTuple):
    """Result of `learning_curve`.

    Attributes:
      sizes: numbers of training examples, [m].
      train, valid: losses at the best epoch on the examples used and on the validation data, [m]; [m, folds]
        with folds.
    """

    sizes: np.ndarray
    train: jax.Array
    valid: jax.Array


def learning_curve(
    trainer: Trainer,
    key: Key,
    train: Data,
    valid: Data = None,
    *,
    sizes: Sequence[int],
    epochs: int,
    batch_size: int | None = None,
    folds: int | None = None,
) -> LearningCurve:
    """Losses of runs on parts of the training data, of equal numbers of steps; pure and traceable.

    A run on m of n examples repeats them n / m times in an epoch, so that one compiled program serves all sizes and no
    run has fewer steps. A validation loss that still falls with the size calls for more data; two equal losses above
    the desired one call for a larger model.

    Args:
      trainer: a Trainer.
      key: key of the parts and of the runs.
      train: arrays, as in `fit`.
      valid: data for validation; None: `folds` parts of `train` take turns.
      sizes: numbers of examples, from 1 to n, or with folds to n - ⌊n/folds⌋.
      epochs, batch_size: as in `fit`.
      folds: number of validation parts of ⌊n/folds⌋ random examples, from 2 to n; None is 5. Only without `valid`.

    Returns:
      The `LearningCurve`. Several keys are a `vmap`.

    Raises:
      ValueError: if a size or the number of folds is out of range, or `valid` comes with folds.

    Differences: scikit-learn's `learning_curve` trains on a smaller part for fewer steps, and its folds of a classifier
      are stratified.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 8))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> data = x[:32], x[:32, :1]
    >>> found = learning_curve(t, jax.random.key(0), data, (x[32:], x[32:, :1]), sizes=[4, 32], epochs=20)
    >>> bool(found.valid[1] < found.valid[0])
    True
    """
    n = check.examples("learning_curve", "train", train)
    if folds is not None:
        folds = check.count("learning_curve", "folds", folds, 2, n)
        if valid is not None:
            fix = "With folds, parts of train take turns as valid."
            raise invalid("learning_curve", "folds without valid", folds, fix)
    turns = 1 if valid is not None else folds or min(5, n)
    held = n // turns if valid is None else 0
    counts = np.array([check.count("learning_curve", "each of sizes", m, 1, n - held) for m in sizes])
    order_key, run_key = split(key)
    order = jax.random.permutation(order_key, n)

    def run(size: jax.Array, fold: jax.Array) -> tuple[jax.Array, jax.Array]:
        turned = jnp.roll(order, -held * fold)
        test, part = (_taken(train, r) for r in (turned[:held], turned[held:][jnp.arange(n - held) % size]))
        seen = test if valid is None else valid
        found = fit(trainer, run_key, part, seen, epochs=epochs, batch_size=batch_size)
        ts = found.ts._replace(params=found.best.params, state=found.best.state, average=None)
        return trainer.evaluate(ts, part)["loss"], found.best_value

    every = jnp.repeat(jnp.asarray(counts), turns), jnp.tile(jnp.arange(turns), len(counts))
    losses = jax.lax.map(lambda both: run(*both), every)
    shape = (len(counts),) if valid is not None else (len(counts), turns)
    return LearningCurve(counts, *(a.reshape(shape) for a in losses))


def _taken(data: Data, rows: jax.Array) -> Data:
    return jax.tree.map(lambda a: jnp.asarray(a)[rows], data)


def limited(curve: LearningCurve) -> tuple[Finding, ...]:
    """Hints from a learning curve: more data would help, or they would not.

    Args:
      curve: of two sizes or more; its last two are compared.

    >>> limited(LearningCurve(np.array([100, 200]), jnp.array([0.1, 0.1]), jnp.array([0.5, 0.4])))[0].name
    'more data'
    """
    train, valid = (np.asarray(a, np.float64).reshape(len(curve.sizes), -1).mean(1) for a in curve[1:])
    if len(valid) < 2 or not np.isfinite([*train, *valid]).all():
        return ()
    figure = (
        f"validation loss {valid[-2]:.3g} with {curve.sizes[-2]} examples, {valid[-1]:.3g} with {curve.sizes[-1]}; "
        f"training loss {train[-1]:.3g}"
    )
    if valid[-1] < FALLS * valid[-2] and valid[-1] > GAP * train[-1]:
        why = "The validation loss still falls with the number of examples."
        fix = "Collect more, augment (nn.augment), or start from trained params."
        return (Finding("more data", figure, "", why, fix),)
    if valid[-1] >= FALLS * valid[-2] and valid[-1] <= GAP * train[-1]:
        why = "More examples of this kind hardly change the validation loss, and the model does not memorise."
        return (Finding("larger model", figure, "", why, "More units or layers, or more informative inputs."),)
    return ()


def fitted(run: Run, constant: float = float("nan")) -> tuple[Finding, ...]:
    """Findings about a finished run, from its history: overfitting, underfitting, a stop too early, and failure.

    Args:
      run: a `Run` of `fit` or `drive` with validation data.
      constant: loss of the best constant prediction; NaN if unknown.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (64, 3))
    >>> t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.1))
    >>> fitted(nn.fit(t, jax.random.key(0), (x, x[:, :1]), (x, x[:, :1]), epochs=50))
    ()
    """
    check.scalar("fitted", "constant", constant, -np.inf, np.inf, "[]", static=True, nan=True)
    n = int(run.epoch)
    if int(run.failed) >= 0:
        why = "Params or the loss became non-finite."
        return (Finding("non-finite step", f"step {int(run.failed)}", "", why, "Lower the rate or clip gradients."),)
    train = np.asarray(run.history["train"]["loss"])[:n].mean(axis=1)
    if not n or "valid" not in run.history:
        return ()
    valid = np.asarray(run.history["valid"]["loss"])[:n]
    best = int(valid.argmin())
    found: list[Any] = []
    if valid[-1] > WORSE * valid[best] and train[-1] < train[best] and valid[-1] > GAP * train[-1]:
        figure = f"validation loss {valid[best]:.3g} at epoch {best + 1}, {valid[-1]:.3g} at the end"
        why = f"The training loss fell to {train[-1]:.3g}: the model memorises."
        fix = "patience=5, run.best, nn.dropout, nn.regularizers.l2, nn.augment, or more data."
        found.append(Finding("overfitting", figure, "", why, fix))
    if train[-1] > POOR * constant:
        figure = f"training loss {train[-1]:.3g} after {n} epochs, {constant:.3g} for the best constant"
        why = "The model does not fit its own training data."
        found.append(Finding("underfitting", figure, "", why, "A larger model, more epochs, less regularisation."))
    elif n >= 4 and best == n - 1 and valid[-1] < 0.97 * valid[-2] and valid[-2] < 0.97 * valid[-3]:
        figure = f"validation loss {valid[-3]:.3g}, {valid[-2]:.3g}, {valid[-1]:.3g} in the last epochs"
        why = "It still falls by more than 3 % an epoch."
        found.append(Finding("stopped early", figure, "", why, f"epochs={2 * n}, or nn.drive(..., run=run)."))
    return tuple(found)
