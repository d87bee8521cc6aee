"""Rules about a finished run of a classifier: from its predictions on validation data to findings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxnn.diagnosis._finished import Finished
from jaxnn.diagnosis._report import Finding

NOISE = 0.1  # fraction of labels that the model and the neighbours contradict
FAR = 0.15  # expected calibration error
MANY = 100  # examples from which it is meaningful
FAILED = 0.5  # recall of a class over the median of all
FEW = 10  # examples of a class
CHANCE = 3.0  # standard deviations below the median
SHOWN = 5  # examples named in a finding


def wrong_labels(f: Finished) -> Iterator[Finding]:
    """Labels that the model and the nearest neighbours contradict."""
    n = len(f.suspected)
    if n > NOISE * len(f.labels):
        rows = ", ".join(map(str, f.rows[f.suspected[:SHOWN]]))
        figure = f"model and neighbours agree on another class for {n / len(f.labels):.0%} of valid, such as {rows}"
        why = "Wrong labels hide the true accuracy, and a model that fits them becomes worse."
        fix = "Look at report.figures['suspected labels']; label_smoothing=, patience=5."
        yield Finding("label noise", figure, "", why, fix)


def calibration(f: Finished) -> Iterator[Finding]:
    """Probabilities far above the frequencies of correct predictions; those of an unfinished run are below."""
    right = float(np.trace(f.failures.confusion) / len(f.labels))
    if f.calibration > FAR and f.confidence > right and len(f.labels) >= MANY:
        figure = f"mean confidence {f.confidence:.0%}, accuracy {right:.0%}, calibration error {f.calibration:.2f}"
        why = "Its probabilities are no measure of how sure a prediction is."
        fix = "logits / nn.metrics.calibration_temperature(logits, y), or stop earlier by patience=5."
        yield Finding("miscalibrated", figure, "", why, fix)


def classes(f: Finished) -> Iterator[Finding]:
    """A class that fails far more often than the others."""
    recall, counts = np.asarray(f.failures.recall), np.asarray(f.failures.confusion).sum(1)
    known = counts >= FEW
    if known.sum() < 2:
        return
    usual = float(np.median(recall[known]))
    deviation = np.sqrt(usual * (1 - usual) / np.maximum(counts, 1))
    low = known & (recall < FAILED * usual) & (recall < usual - CHANCE * deviation)
    if low.any():
        worst = int(np.where(low, recall, 2).argmin())
        others = np.array(f.failures.confusion[worst])
        others[worst] = -1
        figure = (
            f"recall {recall[worst]:.0%} of class {worst}, median {usual:.0%}; mostly predicted as {others.argmax()}"
        )
        why = "The mean accuracy hides it."
        fix = "Look at its examples; weigh them, train = (x, y, weights), or collect more."
        yield Finding("failing class", figure, "", why, fix)


RUN = (wrong_labels, calibration, classes)
