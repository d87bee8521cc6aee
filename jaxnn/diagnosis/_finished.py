"""Measurements of a finished run of a classifier on its validation data."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn._padded import values_of
from jaxnn.diagnosis._baselines import votes
from jaxnn.diagnosis._data import features
from jaxnn.diagnosis._facts import Facts
from jaxnn.diagnosis._labels import Failures, LabelNoise, failures, label_noise
from jaxnn.diagnosis._measure_data import WIDEST, parts_of
from jaxnn.metrics import expected_calibration_error
from jaxnn.train import Run, Trainer, predict
from jaxnn.types import Data

NEIGHBOURS = 15
AGREED = 0.6  # fraction of them in one class
LISTED = 20  # most wrong examples
KINDS = "softmax", "sigmoid", "probabilities"  # losses whose predictions are logits or probabilities


class Finished(NamedTuple):
    """Predictions of a run's best params on validation data.

    Attributes:
      rows: their indices in the validation data, [n].
      labels: class numbers, [n].
      noise: `LabelNoise` of the predictions.
      votes: fraction of the 15 nearest training examples in each class, [n, k]; None if inputs are not one array.
      failures: `Failures` of the predictions.
      calibration: expected calibration error.
      confidence: mean probability of the predicted class.
    """

    rows: np.ndarray
    labels: np.ndarray
    noise: LabelNoise
    votes: np.ndarray | None
    failures: Failures
    calibration: float
    confidence: float

    @property
    def suspected(self) -> np.ndarray:
        """Suspected examples whose neighbours agree with the model, the most suspicious first, as positions in rows."""
        if self.votes is None:
            return np.zeros(0, int)
        sure = (self.votes.argmax(1) == self.noise.guess) & (self.votes.max(1) >= AGREED)
        found = np.flatnonzero(np.asarray(self.noise.suspected) & sure)
        return found[np.asarray(self.noise.margin)[found].argsort()]

    def figures(self) -> dict[str, Any]:
        """Figures for the report."""
        found = {"calibration error": self.calibration, "recall": self.failures.recall}
        found |= {"confusion": self.failures.confusion, "most wrong": self.rows[self.failures.worst]}
        return {**found, "suspected labels": self.rows[self.suspected]}


def finished(trainer: Trainer, run: Run, f: Facts, held: Data, rows: np.ndarray) -> Finished | None:
    """`Finished` of a run; None if it is not that of a classifier of single labels.

    Args:
      trainer: its trainer.
      run: the run.
      f: facts of the diagnosis.
      held: validation examples that the run was not trained on.
      rows: their indices in the validation data.
    """
    x, y, _ = parts_of(held)
    if trainer.model is None or f.kind not in KINDS or f.fractions is None:
        return None
    scores = values_of(predict(trainer.model, run.best.params, run.best.state, x))
    logits, labels = _logits(np.asarray(scores, np.float32), f.kind), np.asarray(y).reshape(-1).astype(np.int32)
    k = logits.shape[-1]
    if logits.ndim != 2 or len(labels) != len(logits) or not np.isfinite(logits).all():
        return None
    if labels.min() < 0 or labels.max() >= k or len(f.fractions) > k:
        return None
    p = np.asarray(jax.nn.softmax(logits))
    near = None
    if f.x is not None and f.labels is not None and f.x.shape[1] <= WIDEST and not any(f.broken.values()):
        near = votes(f.x, f.labels.reshape(-1).astype(int), features(x), k, NEIGHBOURS)
    return Finished(
        rows,
        labels,
        jax.device_get(label_noise(p, labels)),
        near,
        jax.device_get(failures(logits, labels, worst=min(LISTED, len(labels)))),
        float(expected_calibration_error(logits, labels)),
        float(p.max(1).mean()),
    )


def _logits(scores: np.ndarray, kind: str) -> np.ndarray:
    """Logits [n, k] of predictions for a kind of loss; those of one unit are for class 1."""
    scores = scores.reshape(len(scores), -1) if scores.ndim < 2 else scores
    if kind == "probabilities":
        scores = np.log(np.maximum(scores, 1e-30))
        return scores if scores.shape[-1] > 1 else scores - np.log1p(-np.exp(np.minimum(scores, -1e-7)))
    return np.concatenate([np.zeros_like(scores), scores], axis=1) if scores.shape[-1] == 1 else scores
