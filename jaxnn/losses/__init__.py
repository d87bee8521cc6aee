"""Losses: (prediction, target) -> one loss per residual; the mean is the caller's, and there is no `reduction`.

Elementwise losses are `[...], [...] -> [...]`, classification is `[..., k] -> [...]`, losses of embeddings are
`[..., d] -> [...]`. `jnp.mean(loss)` is the mean over residuals, so the mean squared error of a 4 × 3 × 8 × 8 batch
divides by 768. In all of them:

* Shapes are equal, integer labels one rank less: `(n, 1)` against `(n,)` raises ValueError, nothing is broadcast.
* The prediction is floating, else TypeError. Losses are computed and returned in its dtype, but at least in float32;
  the target is cast to that.
* `weights` multiplies: an array of the loss's shape or a scalar. A mean still divides by n, where PyTorch divides by
  the sum of class weights.
* `where`, a boolean mask of the loss's shape, makes loss and gradient exactly 0 where it is False, even if the inputs
  are nan or inf there. The mean over the rest is `jnp.mean(loss, where=where)`.
* An integer label out of range gives NaN, in value and gradient, and never counts as another class.
* Hyper-parameters may be traced; those given as Python numbers are checked against their range.
"""

from jaxnn.losses._checks import _classes as _classes
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
