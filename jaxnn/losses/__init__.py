"""Losses: (prediction, target) -> one loss per residual; the mean is the caller's, and there is no `reduction`.

Elementwise losses are `[...], [...] -> [...]`, classification is `[..., k] -> [...]`, losses of embeddings are
`[..., d] -> [...]`. `jnp.mean(loss)` is the mean over residuals, so the mean squared error of a 4 × 3 × 8 × 8 batch
divides by 768. In all of them:

* Shapes are equal, integer labels one rank less: `(n, 1)` against `(n,)` raises ValueError, nothing is broadcast.
* The prediction is floating, else TypeError. Losses are computed and returned in its dtype, but at least in float32;
  the target is cast to that.
* `weights` multiplies: an array of the loss's shape or a scalar.
* `where`, a boolean mask of the loss's shape, makes loss and gradient exactly 0 where it is False, even if the inputs
  are nan or inf there.
* A mean is a total and a count. `jnp.mean(loss)` divides by n, whatever counts. `nn.trainer` takes the mean over what
  counts: Σ loss / Σ w, where w of a residual is its `where` (0 or 1), times its entry of an array of `weights`, times
  0 if its label is the `ignore_label`, times the class weight of an integer label, as PyTorch's mean. Scalar `weights`
  and `positive_weight` scale the loss and do not count. By hand, the mean over a mask is
  `jnp.mean(loss, where=where)`.
* An integer label out of range gives NaN, in value and gradient, and never counts as another class.
* Softmax losses take at least 2 classes: one logit for two classes is for `binary_cross_entropy`.
* Hyper-parameters may be traced; those given as Python or NumPy numbers are checked against their range.
* The relative error in float32 is at most 2e-6, or one rounding of the inputs times the loss's own sensitivity to them
  where that is more. Values stay in the range of the docstring to the last bit.
"""

from typing import TYPE_CHECKING

from jaxnn import _elsewhere
from jaxnn.losses._checks import _classes as _classes
from jaxnn.losses._checks import _costs as _costs
from jaxnn.losses._checks import _not_ignored as _not_ignored
from jaxnn.losses.classification import focal, hinge, kl_divergence, softmax_focal
from jaxnn.losses.cross_entropy import (
    binary_cross_entropy,
    binary_cross_entropy_on_probabilities,
    cross_entropy_on_log_probabilities,
    cross_entropy_on_probabilities,
    softmax_cross_entropy,
)
from jaxnn.losses.embedding import contrastive, cosine_distance, nt_xent, triplet, triplet_semi_hard
from jaxnn.losses.overlap import dice, tversky
from jaxnn.losses.regression import (
    absolute_error,
    gaussian_nll,
    huber,
    log_cosh,
    poisson_nll,
    quantile,
    squared_error,
)
from jaxnn.losses.sequence import ctc

__all__ = [
    "absolute_error",
    "binary_cross_entropy",
    "binary_cross_entropy_on_probabilities",
    "contrastive",
    "cosine_distance",
    "cross_entropy_on_log_probabilities",
    "cross_entropy_on_probabilities",
    "ctc",
    "dice",
    "focal",
    "gaussian_nll",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "nt_xent",
    "poisson_nll",
    "quantile",
    "softmax_cross_entropy",
    "softmax_focal",
    "squared_error",
    "triplet",
    "triplet_semi_hard",
    "tversky",
]


if not TYPE_CHECKING:  # a type checker shall see which names there are

    def __getattr__(name):
        raise _elsewhere.missing(__name__, name)
