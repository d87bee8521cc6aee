"""Losses of regression: of residuals, and the negative log-likelihoods of counts and of normal distributions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn.losses._checks import _excess, _masked, _pair, _positive, _rest, _small

__all__ = ["absolute_error", "gaussian_nll", "huber", "log_cosh", "poisson_nll", "quantile", "squared_error"]


def squared_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Squared error, elementwise [...], [...] -> [...]: r² with r = prediction - target; its gradient is 2r.

    In [0, inf). Its mean is least at the mean of the targets: good for errors that are normal, and it hurts where some
    targets are wrong, since outliers weigh by their square. On logits or probabilities it is no loss of classification:
    logits over 1000 give gradients over 1000.

    Args:
      prediction, target: of one shape; the prediction floating, the target real.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for an integer prediction; ValueError if the shapes differ.

    Differences: optax's `squared_error` is the same, its `l2_loss` half of it. PyTorch's MSELoss and Keras take a mean
    at once, Keras over the last axis.

    >>> squared_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 2.0])).tolist()
    [0.0, 9.0]
    """
    p, t = _pair("squared_error", "prediction", prediction, "target", target)
    return _masked("squared_error", lambda p, t: (p - t) ** 2, [p, t.astype(p.dtype)], p.shape, weights, where)


def absolute_error(
    prediction: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Absolute error, elementwise [...], [...] -> [...]: |r| with r = prediction - target.

    In [0, inf). Its gradient is sign(r), and 0 at r = 0, the middle of the subgradients [-1, 1] (jnp.abs has 1 there).
    Its mean is least at the median of the targets: good where some of them are wrong, and it hurts near the optimum,
    where steps do not shrink with the error.

    Args:
      prediction, target: of one shape; the prediction floating, the target real.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for an integer prediction; ValueError if the shapes differ.

    Differences: PyTorch's L1Loss and Keras's MeanAbsoluteError, before their means.

    >>> absolute_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 8.0])).tolist()
    [0.0, 3.0]
    """
    p, t = _pair("absolute_error", "prediction", prediction, "target", target)
    return _masked("absolute_error", _absolute, [p, t.astype(p.dtype)], p.shape, weights, where)


def _absolute(p: Array, t: Array) -> Array:
    r = p - t
    return r * jnp.sign(r)


def huber(
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    delta: ArrayLike = 1.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Huber loss, elementwise [...], [...] -> [...], with r = prediction - target:

        r²/2 if |r| <= δ, else δ (|r| - δ/2)

    Half the squared error within δ and a multiple of the absolute error beyond; its gradient is r clipped to ±δ. Good
    for regression with outliers, as bounded as the absolute error and smooth at 0; δ has to suit the targets' scale. In
    [0, inf).

    Args:
      prediction, target: of one shape; the prediction floating, the target real.
      delta: where the square ends, > 0, in units of the target; may be traced. math.inf is half the squared error.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for an integer prediction; ValueError if the shapes differ or for δ <= 0.

    Differences: optax, Keras and PyTorch's HuberLoss agree; PyTorch's SmoothL1Loss is this divided by its `beta`, the δ
    here.

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
    """Log of the hyperbolic cosine, elementwise [...], [...] -> [...]: log cosh r with r = prediction - target.

    r²/2 for small r and |r| - log 2 for large; its gradient is tanh r. A Huber loss without a corner and without a δ:
    the scale of the targets decides where it turns, so bring them to a deviation of about 1. In [0, inf).

    Args:
      prediction, target: of one shape; the prediction floating, the target real.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for an integer prediction; ValueError if the shapes differ.

    Differences: small residuals keep their relative precision, where optax's and Keras's differences of large terms end
    in the rounding of log 2.

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

    Its mean is least at the q-quantile of the targets: good for intervals (q = 0.05 and 0.95) and for costs that differ
    by side; q = 0.5 is half the absolute error. The gradient is -q below the target and 1 - q above, and at r = 0 it is
    0, one of the subgradients [-q, 1 - q]. Quantiles fitted apart may cross. In [0, inf).

    Args:
      prediction, target: of one shape; the prediction floating, the target real.
      q: which quantile, between 0 and 1; may be traced. Several at once are several heads, or a `jax.vmap` over q.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for an integer prediction; ValueError if the shapes differ or for a q out of range.

    Differences: scikit-learn's `mean_pinball_loss`, before its mean.

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

    From the log of the rate, so that any output is a rate; the gradient is e^x - y. Good for counts, whose spread grows
    with their mean; it hurts where they spread more than that. A rate of 0 (x = -inf) is certain of a count of 0.

    Args:
      log_rate: log of the expected count. Of rates, pass their logarithm.
      counts: >= 0, of any real dtype; negative ones give NaN.
      full: adds the term that does not depend on the prediction, exactly: the loss is at least 0 for whole counts, and
        keeps its digits where the rate is near a large count.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for an integer log rate; ValueError if the shapes differ.

    Differences: PyTorch's PoissonNLLLoss has Stirling's approximation with `full`. Keras's Poisson takes rates.

    >>> poisson_nll(jnp.log(jnp.array([2.0, 4.0])), jnp.array([0, 4])).tolist()
    [2.0, -1.545...]
    """
    x, y = _pair("poisson_nll", "log_rate", log_rate, "counts", counts)
    check.flags("poisson_nll", full=full)

    def loss(x: Array, y: Array) -> Array:
        y = jnp.where(y < 0, jnp.nan, y)
        settled = (x == jnp.inf) | ((x == -jnp.inf) & (y == 0))  # e^x outgrows y x, and 0 · inf is 0
        value = jnp.exp(x) - y * jnp.where(settled, 0, x)
        return _poisson(x, y, value) if full else value

    return _masked("poisson_nll", loss, [x, y.astype(x.dtype)], x.shape, weights, where)


def _poisson(x: Array, y: Array, value: Array) -> Array:
    """e^x - y x + log y!; where e^x is near y as y (e^u - 1 - u) plus Stirling's remainder, with u = x - log y.

    Neither of those cancels, where e^x - y x and log y! are both of the order of y log y (Loader, Fast and Accurate
    Computation of Binomial Probabilities, 2000).
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

    For a network that tells how sure it is, by a second output. From the log of the variance, so that any output is a
    variance and none is 0. Large errors count less where the variance is large, so a network may buy off what it
    finds hard; starting with a constant variance helps (Seitzer et al., On the Pitfalls of Heteroscedastic Uncertainty
    Estimation, 2022).

    Args:
      mean, target: of one shape; the mean floating, the target real.
      log_variance: of the mean's shape; `jnp.log(variance)` of a variance.
      full: adds the constant.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a residual out.

    Raises:
      TypeError for an integer mean or log variance; ValueError if the shapes differ.

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
        certain = (r == 0) & (precision == jnp.inf)  # 0 · inf is 0
        z = r * jnp.where(certain, 0, precision)
        return (s + z**2 + (jnp.log(2 * jnp.pi).astype(s.dtype) if full else 0)) / 2

    return _masked("gaussian_nll", loss, [p, t.astype(p.dtype), s.astype(p.dtype)], p.shape, weights, where)
