"""Rules about training: from facts to findings. `benchmarks/diagnose.txt` shows how the thresholds were fixed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxnn.diagnosis._facts import Facts
from jaxnn.diagnosis._report import Finding
from jaxnn.diagnosis._rules_model import symmetric_paths

DEAD = 0.5  # fraction of dead units; healthy layers of rectified units are below 0.3
VANISHED = 1e-3  # gradient of the first layer over that of the last; 1e-2 after some steps
EXPLODED = 1e3
START = 10.0  # loss before the first step over that of the best constant
SLOW = 0.1  # progress at the rate over progress at a rate 100 or 1000 times as high
FAST = 0.5  # progress at the rate over progress at a lower one
FITTED = 0.7  # loss on eight examples over the first one and over that of the best constant
HIGHER = 2.0  # loss at the rate over loss at a lower one
PROGRESS = 0.1  # least decrease of the loss, as a fraction, that counts as progress
LEAST = 0.05  # the same for higher rates, far above the noise of ten batches


def gradients(f: Facts) -> Iterator[Finding]:
    """Gradients that shrink or grow from the last layer to the first."""
    layers = [layer for layer in f.layers if f.group(f.first, layer) > 0]
    if len(layers) < 3:
        return
    ends = [[f.group(look, layer) for layer in (layers[0], layers[-1])] for look in (f.first, f.last)]
    ratios = [a / b if b > 0 else np.nan for a, b in ends]
    figure = f"gradient {ends[0][0]:.1e} in the first layer, {ends[0][1]:.1e} in the last"
    if ratios[0] < VANISHED and ratios[1] < 10 * VANISHED:
        why = "Each layer shrinks the gradient: the first layers hardly learn."
        fix = "Use nn.relu or nn.gelu with nn.init.he_normal(), residual connections, or a norm."
        yield Finding("vanishing gradient", figure, layers[0], why, fix)
    elif ratios[0] > EXPLODED:
        why = "Each layer multiplies the gradient: updates of the first layers are too large."
        fix = "Use nn.init.he_normal(), a norm, or clip gradients."
        yield Finding("exploding gradient", figure, layers[0], why, fix)


def start(f: Facts) -> Iterator[Finding]:
    """A first loss far above that of a constant answer."""
    if np.isfinite(f.constant) and f.constant > 1e-6 and not f.start < START * f.constant:
        figure = f"loss {f.start:.3g} before the first step, {f.constant:.3g} for the best constant"
        why = "The model starts with confident wrong answers; the first steps only undo them."
        yield Finding("initial loss", figure, "", why, "Scale inputs and targets; smaller weights in the last layer.")


def dead(f: Facts) -> Iterator[Finding]:
    """Units that are 0 for every example; those of the last layer are predictions."""
    names = list(f.last.outputs)
    begun = names.index(f.layers[0]) if f.layers and f.layers[0] in names else 0
    shares = {name: float(f.last.outputs[name].dead) for name in names[begun:-1]}
    stuck = {name for name in shares if float(f.first.outputs[name].dead) > DEAD} if symmetric_paths(f) else set()
    worst = next((name for name, share in shares.items() if share > DEAD and name not in stuck), None)
    if worst is not None:
        early = float(f.first.outputs[worst].dead)
        figure = f"{shares[worst]:.0%} of the units are 0 for all examples ({early:.0%} before training)"
        why = "A unit that is 0 everywhere has no gradient and never recovers."
        yield Finding("dead units", figure, worst, why, "Divide the rate by 10 or more, or use nn.leaky_relu.")


def rate(f: Facts) -> Iterator[Finding]:
    """A learning rate at which a short run does worse than at a lower or a higher one."""
    gain = {float(s): f.start - f.loss_at(float(s)) for s in f.scales}
    below = max((s for s in gain if s < 1), key=lambda s: gain[s])
    above = max((s for s in gain if s >= 100), key=lambda s: gain[s])
    n = f.losses.shape[1]
    told = f"loss {f.start:.3g} -> {f.loss_at(1.0):.3g} in {n} steps; {{:.3g}} at {{:g}} x the rate"
    enough = PROGRESS * abs(f.start)
    end, other = f.loss_at(1.0), f.loss_at(below)
    overshoots = gain[1.0] < FAST * gain[below] or end > max(HIGHER * other, LEAST * abs(f.start))
    if not np.isfinite(gain[1.0]) or (gain[below] > enough and overshoots):
        why = "Steps overshoot the minimum."
        figure = told.format(f.loss_at(below), below)
        yield Finding("rate too high", figure, "", why, f"Multiply the learning rate by {below:g}.")
    elif gain[above] > LEAST * abs(f.start) and gain[1.0] < SLOW * gain[above]:
        why = "The loss would need many times as many steps."
        figure = told.format(f.loss_at(above), above)
        yield Finding("rate too low", figure, "", why, f"Multiply the learning rate by {above:g}.")


def overfit(f: Facts) -> Iterator[Finding]:
    """A loss on eight examples that hardly falls."""
    last = float(f.few[-20:].mean())
    if last > FITTED * float(f.few[0]) and last > FITTED * f.few_constant:
        figure = f"loss {f.few[0]:.3g} -> {last:.3g} in {len(f.few)} steps on 8 examples, {f.few_constant:.3g} constant"
        why = "A correct model and loss memorise a few examples: something between input and loss is broken."
        yield Finding("cannot overfit", figure, "", why, "Look at the other findings; check the loss on one example.")


TRAINING = (gradients, start, dead, rate, overfit)
