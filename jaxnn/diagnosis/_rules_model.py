"""Rules about the model: from facts to findings, and to hints for properties that cost little."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxnn.diagnosis._facts import Facts
from jaxnn.diagnosis._report import Finding

SATURATED = 0.5  # fraction of the outputs of an activation with a slope below 0.01
IDLE = 1e-4  # gradient of a bias over that of its weights


def bounded_outputs(f: Facts) -> Iterator[Finding]:
    """A last activation that the loss applies again, or that keeps predictions away from the targets."""
    seen = f.slow if f.slow.spread else f.first  # predictions may start equal, or become equal
    r = seen.range
    if r is None or not seen.spread:
        return
    low, high = float(r.low), float(r.high)
    span = f"predictions stay in [{low:.3g}, {high:.3g}]"
    if (f.kind == "softmax" and r.simplex) or (f.kind == "sigmoid" and low >= -1e-3 and high <= 1.001):
        why = f"The loss applies a {f.kind} itself: applied twice, probabilities cannot come near 0 and 1."
        yield Finding("softmax twice", span, "", why, "Remove the last activation: the loss takes logits.")
    elif f.kind in ("softmax", "sigmoid") and (low >= -1e-3 or (low >= -1.1 and high <= 1.1)):
        why = "The loss takes logits of both signs and any size; an activation bounds them."
        yield Finding("wrong last activation", span, "", why, "End the model with nn.dense(classes).")
    elif f.kind == "probabilities" and (low < -1e-3 or high > 1.001):
        why = "The loss takes probabilities, but the model predicts other numbers."
        yield Finding("wrong last activation", span, "", why, "Use a loss on logits, such as softmax_cross_entropy.")
    elif f.kind == "other" and f.y is not None and f.y.dtype.kind == "f" and f.classes is None:
        margin = 0.02 * max(float(f.y.std()), 1e-12)
        outside = float(np.mean((f.y < low - margin) | (f.y > high + margin)))
        if outside > 0.03:
            why = f"{outside:.0%} of the targets are outside: no params can predict them."
            yield Finding("wrong last activation", span, "", why, "Remove the last activation for regression.")


def symmetric_paths(f: Facts) -> list[str]:
    """Paths of the matrices whose units start equal and stay equal, because gradients are equal or 0."""
    found = []
    for path, s in f.symmetry.items():
        still = float(f.first.gradients[path]) == float(f.slow.gradients[path]) == 0
        if (s.equal and s.moved and s.kept) or (still and (s.equal or not np.isnan(s.value))):
            found.append(path)
    return found


def symmetric(f: Facts) -> Iterator[Finding]:
    """Units with equal weights that training does not separate."""
    if paths := symmetric_paths(f):
        values = {float(f.symmetry[path].value) for path in paths}
        value = values.pop() if len(values) == 1 else np.nan
        figure = "all units are equal" if np.isnan(value) else f"all weights are {value:g}"
        figure += f" in {len(paths)} matrices" if len(paths) > 1 else ""
        why = "Units that start equal get equal gradients, or none, and stay equal: the layer has one unit."
        path, fix = ", ".join(paths[:3]), "w_init=nn.init.he_normal()"
        yield Finding("symmetric initialisation", figure, path, why, fix)


def frozen(f: Facts) -> Iterator[Finding]:
    """Params that are drawn at random and never trained."""
    still = [path for path, drawn in f.random.items() if drawn and path not in f.trained]
    sizes = {path: float(f.first.gradients[path]) + float(f.slow.gradients[path]) for path in f.first.gradients}
    if not symmetric_paths(f):  # otherwise equal units are the reason
        still += [path for path, size in sizes.items() if size == 0 and f.random[path]]
    if still:
        figure = f"{len(still)} of {len(f.random)} params get no update"
        why = "They keep their random initial values."
        yield Finding("frozen layer", figure, ", ".join(still[:3]), why, "Check frozen= and stop_gradient.")


def stack(f: Facts) -> Iterator[Finding]:
    """Weighted layers without a nonlinearity between them."""
    for paths in f.stacks:
        figure = f"{len(paths)} weighted layers compute one affine map"
        why = "A single layer computes the same with fewer weights; the depth adds nothing."
        yield Finding("linear stack", figure, ", ".join(paths[:3]), why, "Put nn.relu or nn.gelu between them.")


def saturated(f: Facts) -> Iterator[Finding]:
    """Bounded activations that are flat for most of their inputs."""
    worst = next((path for path, share in f.last.flat.items() if share > SATURATED), None)
    if worst is not None:
        shares = [float(look.flat[worst]) for look in (f.last, f.first)]
        figure = f"the slope is below 0.01 at {shares[0]:.0%} of the outputs ({shares[1]:.0%} before training)"
        why = "A unit that is flat passes no gradient to the layers before it."
        fix = "Scale the inputs, lower the rate, or put nn.layer_norm() before the activation."
        yield Finding("saturated units", figure, worst, why, fix)


def idle_bias(f: Facts) -> Iterator[Finding]:
    """Biases that the next normalization subtracts."""
    idle = []
    for path in f.first.gradients:
        layer = path.rpartition("/")[0]
        weights = [p for p in f.symmetry if p.rpartition("/")[0] == layer]
        if path in f.symmetry or not weights:
            continue
        looks = [(float(v.gradients[path]), max(float(v.gradients[p]) for p in weights)) for v in (f.first, f.slow)]
        if all(bias < IDLE * weight for bias, weight in looks):
            idle.append(path)
    if idle:
        figure = f"gradient below {IDLE:g} of that of the weights for {len(idle)} biases"
        why = "The next normalization subtracts the bias: it costs memory and time, and changes nothing."
        yield Finding("bias without effect", figure, ", ".join(idle[:3]), why, "nn.conv(..., bias=False)")


MODEL = (bounded_outputs, symmetric, frozen, stack, saturated)
HINTS = (idle_bias,)
