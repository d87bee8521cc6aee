"""Rules about data: from facts to findings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxnn.diagnosis._facts import Facts
from jaxnn.diagnosis._report import Finding

LARGE = 5.0  # root mean square of the first layer's output; 1 for standardized inputs
SMALL = 1e-2  # root mean square of the inputs
COPIED = 0.02  # fraction of the validation examples that are in train
DETERMINED = 0.995  # η² of one feature
ABSENT = 0.2  # fraction of the predicted classes; where more are absent, the model is made for other data
RARE = 0.2  # fraction of the rarest class, times the number of classes
CHANCE = 3.0  # standard deviations above the most frequent class
FREQUENT = 0.9  # accuracy of the most frequent class, above which accuracies are uninformative
RELATED = 0.05  # R² of a baseline
BETTER = 0.95  # held-out loss over that of the best constant


def broken_values(f: Facts) -> Iterator[Finding]:
    """Non-finite inputs, and labels that are not classes."""
    for name, n in f.broken.items():
        if n:
            figure = f"{n} numbers of the {name} are not finite"
            yield Finding("non-finite data", figure, "", "One of them makes all params NaN.", "x = np.nan_to_num(x)")
    outside = f.classes and f.y is not None and (f.y.min() < 0 or f.y.max() >= f.classes)
    if f.y is not None and outside and not np.isfinite(f.edges):  # a loss may ignore a label
        figure = f"labels from {f.y.min()} to {f.y.max()} for {f.classes} classes"
        why = "The loss of a label out of range is NaN."
        yield Finding("labels out of range", figure, "", why, f"nn.dense({int(f.y.max()) + 1}) as the last layer.")


def scale(f: Facts) -> Iterator[Finding]:
    """Inputs far from unit scale."""
    if f.x is None or not f.layers or f.layers[0] not in f.first.outputs:
        return
    inputs, size = float(np.sqrt((f.x**2).mean())), float(f.first.outputs[f.layers[0]].size)
    if size > LARGE or (0 < inputs < SMALL and size < SMALL):
        figure = f"root mean square {inputs:.3g} of the inputs, {size:.3g} after the first layer"
        why = "Initialisations and rates are made for inputs of mean 0 and variance 1."
        yield Finding("unscaled inputs", figure, f.layers[0], why, "x = (x - x.mean(0)) / (x.std(0) + 1e-6)")


def leaks(f: Facts) -> Iterator[Finding]:
    """Validation examples that are in train, and labels in the inputs."""
    if f.copied is not None and f.copied[0] > max(2, COPIED * f.copied[1]):
        figure = f"{f.copied[0]} of {f.copied[1]} validation examples are in train"
        why = "Validation measures memory and looks better than new data will."
        yield Finding("leakage", figure, "", why, "Split before augmenting; valid = np.delete(valid, duplicates).")
    classes = f.classes or (f.fractions is not None and len(f.fractions) == 2)  # other integers may be counts
    if classes and f.determined is not None and f.determined[0] > DETERMINED:
        figure = f"feature {f.determined[1]} alone determines the class (η² {f.determined[0]:.3f})"
        why = "The label seems to be among the inputs."
        yield Finding("leakage", figure, "", why, f"x = np.delete(x, {f.determined[1]}, axis=1)")


def imbalance(f: Facts) -> Iterator[Finding]:
    """A class that train lacks, or a rare one that is not weighted."""
    if f.fractions is None or (f.classes is None and len(f.fractions) != 2):  # counts are not classes
        return
    classes = f.classes or 0
    known = np.pad(f.fractions, (0, max(0, classes - len(f.fractions))))
    none = np.flatnonzero(known[:classes] == 0)
    if f.absent or 0 < len(none) <= ABSENT * classes:
        worst = max(f.absent, key=lambda c: f.absent[c]) if f.absent else int(none[0])
        told = f"{f.absent[worst]:.1%} of valid" if f.absent else f"one of the {classes} that are predicted"
        figure = f"class {worst} is absent from train, and {told}"
        why = "The model cannot predict a class that it has not seen."
        fix = "train, valid = nn.data.split(key, (x, y), 0.2, stratify=y), or collect examples of it."
        yield Finding("imbalance", figure, "", why, fix)
        return
    present = np.flatnonzero(f.fractions)
    least = int(present[f.fractions[present].argmin()])
    if len(present) > 1 and f.fractions[least] * len(present) < RARE:
        figure = f"class {least} is {f.fractions[least]:.1%} of train, the most frequent {f.fractions.max():.1%}"
        why = "The loss hardly changes if the model never predicts the rare class; accuracy hides it."
        fix = "train = (x, y, (1 / np.bincount(y))[y]), and judge by nn.metrics.f1."
        yield Finding("imbalance", figure, "", why, fix)


def pairing(f: Facts) -> Iterator[Finding]:
    """A loss that does not depend on the target of which example belongs to it."""
    losses = np.asarray(f.slow.losses, np.float64)
    if len(losses) < 3 or f.slow.spread is None or not np.isfinite(losses).all():
        return
    own, other, first = losses
    used = abs(first - own) > 1e-3 * abs(own)
    if used and float(f.slow.spread) > 1e-3 and abs(other - own) < 1e-5 * abs(own):
        figure = f"loss {own:.6g} with the targets in order, {other:.6g} with them permuted"
        why = "The loss compares every prediction with every target, [n, 1] with [n]."
        yield Finding("broadcasting loss", figure, "", why, "y = y[:, None], so that shapes are equal.")


def relation(f: Facts) -> Iterator[Finding]:
    """Targets that no model predicts from the inputs."""
    if f.baselines is None or not np.isfinite([f.held, f.held_constant]).all() or f.baselines.constant > FREQUENT:
        return
    b = f.baselines
    if f.classes:
        above = b.constant + CHANCE * b.deviation  # of 1 or more: too few examples to judge
        chance = max(b.linear, b.nearest) < above < 1
        figure = f"held-out accuracy {b.linear:.0%} linear, {b.nearest:.0%} neighbours, {b.constant:.0%} constant"
    else:
        chance = max(b.linear, b.nearest) < RELATED
        figure = f"held-out R² {b.linear:.2f} linear, {b.nearest:.2f} nearest neighbours"
    if chance and f.held > BETTER * f.held_constant:
        why = "Neither baselines nor the model beat a constant answer: targets seem unrelated to inputs."
        yield Finding("unrelated targets", figure, "", why, "Check that x and y are shuffled together.")


DATA = (broken_values, scale, leaks, imbalance, pairing, relation)
