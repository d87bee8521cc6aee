"""Losses: (prediction, target) -> one loss per residual. There is no `reduction` argument: the caller takes the mean.

Shapes: elementwise losses are `[...], [...] -> [...]`, classification losses `[..., k] -> [...]`, losses of embeddings
`[..., d] -> [...]`. `jnp.mean(loss)` is the mean over residuals: the mean squared error of a 4 × 3 × 8 × 8 batch
divides by 768. These rules hold for all losses:

* Nothing is broadcast. Prediction and target have equal shapes; integer labels have one axis less than the logits. `(n,
  1)` against `(n,)` raises ValueError.
* The prediction must be floating, otherwise TypeError is raised. Losses are computed and returned in its dtype, but at
  least in float32. The target is cast to that dtype.
* `weights` multiplies the loss: a scalar or an array of the loss's shape.
* `where` is a boolean mask of the loss's shape. Where it is False, loss and gradient are exactly 0, even if the inputs
  are NaN or inf.
* `jnp.mean(loss)` divides by n, masked residuals included. `nn.trainer` divides by the total weight: Σ loss / Σ w. The
  weight w of a residual is the product of its `where` (0 or 1), its entry of an array `weights`, 0 if its label is the
  `ignore_label`, and the class weight of its integer label. This is PyTorch's mean. Scalar `weights` and
  `positive_weight` scale the loss and do not enter w. Without a trainer, `jnp.mean(loss, where=where)` is the mean over
  a mask.
* An integer label out of range gives NaN, in value and gradient. It is never treated as another class.
* Softmax losses need at least 2 classes. For one logit and two classes use `binary_cross_entropy`.
* Hyper-parameters may be traced. Python and NumPy numbers are checked against the documented range.
* The relative error in float32 is at most 2e-6, or one rounding of the inputs times the condition number of the loss
  where that is larger. Values stay within the documented range to the last bit.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.losses._checks import _classes as _classes
from jaxnn.losses._checks import _cost as _cost
from jaxnn.losses._checks import _costs as _costs
from jaxnn.losses._checks import _distance as _distance
from jaxnn.losses._checks import _excess as _excess
from jaxnn.losses._checks import _not_ignored as _not_ignored
from jaxnn.losses._checks import _number as _number
from jaxnn.losses._checks import _of_known as _of_known
from jaxnn.losses._checks import _unit as _unit
from jaxnn.losses._classification import focal, focal_on_probabilities, kl_divergence, softmax_focal
from jaxnn.losses._cross_entropy import (
    binary_cross_entropy,
    binary_cross_entropy_on_probabilities,
    cross_entropy_on_log_probabilities,
    cross_entropy_on_probabilities,
    softmax_cross_entropy,
)
from jaxnn.losses._embedding import (
    circle,
    contrastive,
    cosine_distance,
    cosine_embedding,
    nt_xent,
    triplet,
    triplet_semi_hard,
)
from jaxnn.losses._margin import hinge, margin_ranking, multi_class_hinge, squared_hinge
from jaxnn.losses._overlap import dice, tversky
from jaxnn.losses._regression import (
    absolute_error,
    absolute_percentage_error,
    gaussian_nll,
    huber,
    log_cosh,
    poisson_nll,
    quantile,
    squared_error,
    squared_log_error,
)
from jaxnn.losses._sequence import ctc

__all__ = [
    "absolute_error",
    "absolute_percentage_error",
    "binary_cross_entropy",
    "binary_cross_entropy_on_probabilities",
    "circle",
    "contrastive",
    "cosine_distance",
    "cosine_embedding",
    "cross_entropy_on_log_probabilities",
    "cross_entropy_on_probabilities",
    "ctc",
    "dice",
    "focal",
    "focal_on_probabilities",
    "gaussian_nll",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "margin_ranking",
    "multi_class_hinge",
    "nt_xent",
    "poisson_nll",
    "quantile",
    "softmax_cross_entropy",
    "softmax_focal",
    "squared_error",
    "squared_hinge",
    "squared_log_error",
    "triplet",
    "triplet_semi_hard",
    "tversky",
]


if not TYPE_CHECKING:  # lets type checkers report names that do not exist

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
