"""All measurements that the rules of `diagnose` judge."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxnn.diagnosis._baselines import Scores
from jaxnn.diagnosis._look import Look
from jaxnn.diagnosis._symmetry import Symmetry


class Facts(NamedTuple):
    """Measurements before the first step and in short runs at multiples of the rate.

    Attributes:
      x: features of some training inputs, [n, d]; None if they are not one array.
      labels: their targets.
      y: all targets as an array; None for other targets.
      broken: numbers of inputs and targets that are not finite.
      fractions: fraction of each class; None for regression.
      classes: width of the predictions of a classifier; None for regression.
      absent: class that train lacks -> its fraction of the validation data.
      determined: largest η² of one feature for the classes, and the feature; None if unknown.
      copied: number of validation examples that are in train, and of all; None without validation data.
      baselines: `Scores` on held-out examples; None if unknown.
      kind: kind of the loss.
      constant: loss of the best constant; NaN if unknown.
      held_constant, few_constant: the same for held-out examples, and for those of `few`.
      edges: the same for the examples with the smallest and the largest label.
      held: held-out loss of the best short run.
      layers: paths of the innermost layers with params.
      random: path of a param -> True if init draws it at random.
      trained: paths of the params with gradients.
      symmetry: path of a trained matrix -> its `Symmetry` over the run at a tenth of the rate.
      stacks: rows of weighted layers that compute one affine map.
      first, slow, last: `Look` at the initial state, after a tenth of the rate, and after the rate itself.
      scales: multiples of the rate.
      losses: training losses of the short runs, [scales, steps].
      few: training losses on eight examples alone, at the best of the scales, [steps].
    """

    x: np.ndarray | None
    labels: np.ndarray | None
    y: np.ndarray | None
    broken: dict[str, int]
    fractions: np.ndarray | None
    classes: int | None
    absent: dict[int, float]
    determined: tuple[float, int] | None
    copied: tuple[int, int] | None
    baselines: Scores | None
    kind: str
    constant: float
    held_constant: float
    few_constant: float
    edges: float
    held: float
    layers: list[str]
    random: dict[str, bool]
    trained: set[str]
    symmetry: dict[str, Symmetry]
    stacks: list[tuple[str, ...]]
    first: Look
    slow: Look
    last: Look
    scales: np.ndarray
    losses: np.ndarray
    few: np.ndarray

    def loss_at(self, scale: float) -> float:
        """Mean training loss over the last tenth of the steps at a multiple of the rate; inf if it is not finite."""
        losses = self.losses[list(self.scales).index(scale)]
        value = float(losses[-max(1, len(losses) // 10) :].mean())
        return value if np.isfinite(value) else float("inf")

    @property
    def start(self) -> float:
        """Training loss before the first step."""
        return float(self.losses[0, 0])

    def group(self, look: Look, layer: str) -> float:
        """Largest root mean square of a gradient in a layer."""
        inside = [float(v) for path, v in look.gradients.items() if not layer or path.startswith(f"{layer}/")]
        return max(inside, default=0.0)

    def figures(self) -> dict[str, Any]:
        """Figures for the report."""
        losses = {float(s): row for s, row in zip(self.scales, self.losses, strict=True)}
        found: dict[str, Any] = {"first loss": self.start, "best constant": self.constant, "losses": losses}
        found |= {"overfit": self.few, "overfit constant": self.few_constant}
        found |= {"outputs": self.first.outputs, "gradients": self.first.gradients}
        return found if self.baselines is None else found | {"baselines": self.baselines}
