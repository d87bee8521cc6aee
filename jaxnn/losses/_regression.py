"""Regression losses: functions of the residual, and negative log-likelihoods of Poisson and normal distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.losses._checks import _excess, _masked, _pair, _positive, _rest, _small

__all__ = [
    "absolute_error",
    "absolute_percentage_error",
    "gaussian_nll",
    "huber",
    "log_cosh",
    "poisson_nll",
    "quantile",
    "squared_error",
    "squared_log_error",
]


def squared_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Squared error, elementwise [...], [...] -> [...]: r² with r = prediction - target; gradient 2r; range [0, inf).

    The mean of the targets minimises its average. Use it for normally distributed errors. Avoid it for targets with
    outliers, which count by their square, and for classification: on logits or probabilities it is not a classification
    loss, and logits over 1000 give gradients over 1000.

    Args:
      prediction: floating array.
      target: real array of the prediction's shape.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the prediction is not floating.
      ValueError: if the shapes differ.

    Differences: same as optax's `squared_error`; optax's `l2_loss` is half of it. PyTorch's MSELoss and Keras's
    MeanSquaredError also take the mean, Keras over the last axis.

    >>> squared_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 2.0])).tolist()
    [0.0, 9.0]
    """
    p, t = _pair("squared_error", "prediction", prediction, "target", target)
    return _masked("squared_error", lambda p, t: (p - t) ** 2, [p, t.astype(p.dtype)], p.shape, weights, where)


def absolute_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Absolute error, elementwise [...], [...] -> [...]: |r| with r = prediction - target; range [0, inf).

    The gradient is sign(r), and 0 at r = 0, the middle of the subgradients [-1, 1]; that of jnp.abs is 1 there. The
    median of the targets minimises its average. Use it for targets with outliers. Near the optimum it converges slowly,
    because the gradient does not shrink with the error.

    Args:
      prediction: floating array.
      target: real array of the prediction's shape.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the prediction is not floating.
      ValueError: if the shapes differ.

    Differences: same as PyTorch's L1Loss and Keras's MeanAbsoluteError before the mean.

    >>> absolute_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 8.0])).tolist()
    [0.0, 3.0]
    """
    p, t = _pair("absolute_error", "prediction", prediction, "target", target)
    return _masked("absolute_error", _absolute, [p, t.astype(p.dtype)], p.shape, weights, where)


def _absolute(p: Array, t: Array) -> Array:
    r = p - t
    return r * jnp.sign(r)


def absolute_percentage_error(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    eps: ArrayLike = 1e-7,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Absolute error relative to the target, elementwise [...], [...] -> [...]: |p - t| / max(|t|, ε); range [0, inf).

    A share, not a percentage: 0.1 is an error of 10 %. The gradient with respect to the prediction is sign(p - t) /
    max(|t|, ε), and 0 at p = t. Use it for targets of different magnitudes that are far from 0: one target near 0 can
    outweigh all others, and predictions that are too low are never off by more than 1 for positive targets.

    Args:
      prediction: floating array.
      target: real array of the prediction's shape.
      eps: lower bound ε of the divisor, 0 < ε < 1, in units of the target; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the prediction is not floating.
      ValueError: if the shapes differ or `eps` is out of range.

    Differences: same as scikit-learn's `mean_absolute_percentage_error` before the mean, with another ε. Keras's
    MeanAbsolutePercentageError (MAPE) is 100 times this.

    >>> absolute_percentage_error(jnp.array([11.0, 1.0]), jnp.array([10.0, 2.0])).tolist()
    [0.1..., 0.5]
    """
    name = "absolute_percentage_error"
    p, t = _pair(name, "prediction", prediction, "target", target)
    eps = _small(name, "eps", eps, p.dtype)

    def loss(p: Array, t: Array) -> Array:
        return _absolute(p, t) / jnp.maximum(jnp.abs(t), eps)

    return _masked(name, loss, [p, t.astype(p.dtype)], p.shape, weights, where)


def squared_log_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Squared error of logarithms, elementwise [...], [...] -> [...]: (log(1 + p) - log(1 + t))²; range [0, inf).

    Counts ratios, not differences, for targets >= 0 over several orders of magnitude, such as counts or prices. A
    prediction that is too low by some factor counts as much as one too high by it. The gradient with respect to the
    prediction is 2 (log(1 + p) - log(1 + t)) / (1 + p).

    Args:
      prediction: floating array, > -1; -1 gives inf, and lower values give NaN. End the network in a softplus.
      target: real array of the prediction's shape, > -1.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the prediction is not floating.
      ValueError: if the shapes differ.

    Differences: same as scikit-learn's `mean_squared_log_error` before the mean. Keras's MeanSquaredLogarithmicError
    (MSLE) replaces negative predictions and targets by 1e-7, with gradient 0.

    >>> squared_log_error(jnp.array([0.0, 3.0]), jnp.array([0.0, 1.0])).tolist()  # log(2)² for 4 against 2
    [0.0, 0.480...]
    """
    p, t = _pair("squared_log_error", "prediction", prediction, "target", target)

    pair = [p, t.astype(p.dtype)]
    return _masked("squared_log_error", lambda p, t: _log_ratio(p, t) ** 2, pair, p.shape, weights, where)


@jax.custom_jvp
def _log_ratio(p: Array, t: Array) -> Array:
    """log (1 + p) / (1 + t), without cancellation; NaN below -1."""
    low = jnp.minimum(p, t)
    size = jnp.log1p(jnp.abs(p - t) / jnp.where(low >= -1, 1 + low, jnp.nan))
    return jnp.where(p < t, -size, size)


_log_ratio.defjvps(lambda dp, value, p, t: dp / (1 + p), lambda dt, value, p, t: -dt / (1 + t))


def huber(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    delta: ArrayLike = 1.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Huber loss, elementwise [...], [...] -> [...], with r = prediction - target; range [0, inf):

        r²/2 if |r| <= δ, else δ (|r| - δ/2)

    Half the squared error for |r| <= δ, linear with slope δ beyond. The gradient is r clipped to [-δ, δ]. Use it for
    regression with outliers: its gradient is bounded like that of the absolute error, and it is smooth at 0. Choose δ
    to suit the scale of the targets.

    Args:
      prediction: floating array.
      target: real array of the prediction's shape.
      delta: residual at which the loss turns linear, > 0, in units of the target; may be traced. math.inf gives half
        the squared error.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the prediction is not floating.
      ValueError: if the shapes differ or `delta` <= 0.

    Differences: same as optax's, Keras's and PyTorch's Huber loss. PyTorch's SmoothL1Loss divides it by its `beta`, the
    δ here.

    Reference: Huber, Robust Estimation of a Location Parameter, 1964.

    >>> huber(jnp.array([0.5, -3.0]), jnp.array([0.0, 0.0])).tolist()
    [0.125, 2.5]
    """
    p, t = _pair("huber", "prediction", prediction, "target", target)
    delta = _positive("huber", "delta", delta, p.dtype, ends="(]")

    def loss(p: Array, t: Array) -> Array:
        r = p - t
        inner = jax.lax.clamp(-delta, r, delta)
        return inner * (r - inner / 2)

    return _masked("huber", loss, [p, t.astype(p.dtype)], p.shape, weights, where)


def log_cosh(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Log-cosh loss, elementwise [...], [...] -> [...]: log cosh r with r = prediction - target; range [0, inf).

    About r²/2 for small r and |r| - log 2 for large r. The gradient is tanh r. It resembles the Huber loss, but is
    smooth everywhere and has no δ: the scale of the targets sets the transition, so scale them to a standard deviation
    of about 1.

    Args:
      prediction: floating array.
      target: real array of the prediction's shape.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the prediction is not floating.
      ValueError: if the shapes differ.

    Differences: small residuals keep their relative precision. optax and Keras subtract log 2 from a term of similar
    size, which leaves the rounding error of log 2.

    >>> log_cosh(jnp.array([0.002, 1e4]), jnp.array([0.0, 0.0])).tolist()
    [1.99999...e-06, 9999.30...]
    """
    p, t = _pair("log_cosh", "prediction", prediction, "target", target)
    return _masked("log_cosh", lambda p, t: _log_cosh(p - t), [p, t.astype(p.dtype)], p.shape, weights, where)


@jax.custom_jvp
def _log_cosh(r: Array) -> Array:
    size = jnp.abs(r)
    near = jnp.log1p(2 * jnp.sinh(jnp.minimum(size, 1) / 2) ** 2)
    far = size + jnp.log1p(jnp.exp(-2 * size)) - jnp.log(2.0).astype(r.dtype)
    return jnp.where(size < 1, near, far)


_log_cosh.defjvps(lambda tangent, value, r: tangent * jnp.tanh(r))


def quantile(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    q: ArrayLike = 0.5,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Pinball loss, elementwise [...], [...] -> [...], with r = target - prediction: q r if r > 0, else (q - 1) r.

    Range [0, inf). The q-quantile of the targets minimises its average. Use it for prediction intervals (q = 0.05 and
    0.95) and for costs that differ between over- and underestimates; q = 0.5 is half the absolute error. The gradient
    with respect to the prediction is -q below the target, 1 - q above it, and 0 at r = 0, one of the subgradients [-q,
    1 - q]. Quantiles predicted independently may cross.

    Args:
      prediction: floating array.
      target: real array of the prediction's shape.
      q: quantile, 0 < q < 1; may be traced. For several quantiles use several heads, or `jax.vmap` over q.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if the prediction is not floating.
      ValueError: if the shapes differ or `q` is out of range.

    Differences: same as scikit-learn's `mean_pinball_loss` before the mean.

    Reference: Koenker and Bassett, Regression Quantiles, 1978.

    >>> quantile(jnp.array([1.0, 3.0]), jnp.array([2.0, 2.0]), q=0.75).tolist()
    [0.75, 0.25]
    """
    p, t = _pair("quantile", "prediction", prediction, "target", target)
    above, below = _small("quantile", "q", q, p.dtype), _rest(q, p.dtype)

    def loss(p: Array, t: Array) -> Array:
        r = t - p
        return r * jnp.where(r > 0, above, jnp.where(r < 0, -below, 0))

    return _masked("quantile", loss, [p, t.astype(p.dtype)], p.shape, weights, where)


def poisson_nll(
    log_rate: ArrayLike,
    counts: ArrayLike,
    *,
    full: bool = False,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Negative log-likelihood of counts under Poisson distributions, elementwise [...], [...] -> [...]:

        e^x - y x        (+ log y! with `full`)

    The input is the log of the rate, so any network output is a valid rate. The gradient is e^x - y. Use it for counts
    whose variance equals their mean; it fits badly where the variance is larger. A rate of 0 (x = -inf) predicts a
    count of 0 with certainty.

    Args:
      log_rate: log of the expected count, floating. For rates pass their logarithm.
      counts: array of log_rate's shape, >= 0, of any real dtype; negative counts give NaN.
      full: adds log y!, which does not depend on the prediction, without approximation. The loss is then >= 0 for
        integer counts, and it stays accurate where the rate is close to a large count.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if `log_rate` is not floating or `full` is not a bool.
      ValueError: if the shapes differ.

    Differences: with `full`, PyTorch's PoissonNLLLoss uses Stirling's approximation. Keras's Poisson takes rates.

    >>> poisson_nll(jnp.log(jnp.array([2.0, 4.0])), jnp.array([0, 4])).tolist()
    [2.0, -1.545...]
    """
    x, y = _pair("poisson_nll", "log_rate", log_rate, "counts", counts)
    check.flags("poisson_nll", full=full)

    def loss(x: Array, y: Array) -> Array:
        y = jnp.where(y < 0, jnp.nan, y)
        settled = (x == jnp.inf) | ((x == -jnp.inf) & (y == 0))  # avoids inf - inf (e^x dominates y x) and 0 · inf
        value = jnp.exp(x) - y * jnp.where(settled, 0, x)
        return _poisson(x, y, value) if full else value

    return _masked("poisson_nll", loss, [x, y.astype(x.dtype)], x.shape, weights, where)


def _poisson(x: Array, y: Array, value: Array) -> Array:
    """e^x - y x + log y!, computed for small u = x - log y as y (e^u - 1 - u) plus the rest of Stirling's series.

    e^x - y x and log y! are both of order y log y and cancel there; the rewritten terms do not (Loader, Fast and
    Accurate Computation of Binomial Probabilities, 2000).
    """
    log_y = jnp.log(jnp.where(y > 0, y, 1))
    near = (y > 0) & (jnp.abs(x - log_y) < 1)
    u = jnp.where(near, x - log_y, 0)
    large = jnp.maximum(y, 10)
    series = (jnp.log(2 * jnp.pi * large) + (1 / 6 - (1 / 180 - 1 / 630 / large**2) / large**2) / large) / 2
    factorial = jax.scipy.special.gammaln(y + 1)
    remainder = jnp.where(y >= 10, series, factorial - y * (log_y - 1))
    return jnp.where(near, y * _excess(-u) + remainder, value + factorial)


def gaussian_nll(
    mean: ArrayLike,
    target: ArrayLike,
    log_variance: ArrayLike,
    *,
    full: bool = False,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Negative log-likelihood of targets under normal distributions, elementwise [...], [...], [...] -> [...]:

        (s + (target - mean)² e^-s) / 2        with s = log σ²        (+ log(2π) / 2 with `full`)

    For networks that predict their own uncertainty with a second output. The input is the log of the variance, so any
    network output is a valid variance and none is 0. Large errors count less where the predicted variance is large, so
    a network may raise the variance instead of fitting difficult examples. Starting with a constant variance helps
    (Seitzer et al., On the Pitfalls of Heteroscedastic Uncertainty Estimation, 2022).

    Args:
      mean: predicted mean, floating.
      target: real array of the mean's shape.
      log_variance: floating array of the mean's shape; for variances pass `jnp.log(variance)`.
      full: adds the constant log(2π) / 2.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient to exactly 0.

    Raises:
      TypeError: if `mean` or `log_variance` is not floating, or `full` is not a bool.
      ValueError: if the shapes differ.

    Differences: PyTorch's GaussianNLLLoss takes the variance and clips it at 1e-6.

    Reference: Nix and Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994.

    >>> gaussian_nll(jnp.array([1.0]), jnp.array([3.0]), jnp.log(jnp.array([4.0]))).tolist()  # (log 4 + 1) / 2
    [1.193...]
    """
    p, t = _pair("gaussian_nll", "mean", mean, "target", target)
    s = check.array_like("gaussian_nll", "log_variance", log_variance)
    check.same_shape("gaussian_nll", "mean", p, "log_variance", s)
    check.flags("gaussian_nll", full=full)

    def loss(p: Array, t: Array, s: Array) -> Array:
        r = t - p
        precision = jnp.exp(-s / 2)
        certain = (r == 0) & (precision == jnp.inf)  # avoids 0 · inf
        z = r * jnp.where(certain, 0, precision)
        return (s + z**2 + (jnp.log(2 * jnp.pi).astype(s.dtype) if full else 0)) / 2

    return _masked("gaussian_nll", loss, [p, t.astype(p.dtype), s.astype(p.dtype)], p.shape, weights, where)
