"""Distance of two sets of features: Fréchet distance of their normal approximations."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid


def frechet_distance(a: ArrayLike, b: ArrayLike) -> Array:
    """Fréchet distance of normal distributions with the moments of two sets of features, [n, d], [m, d] -> []:

        |μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)

    On the features of a trained classifier it measures how far generated samples are from data. It is symmetric, and 0
    if the means and covariances are equal, although the sets may differ in other ways. Its unit is that of the
    features, squared: values on different features do not compare. Few examples bias it upwards, so values compare at
    equal n and m only; the distance of two disjoint sets of real examples is the least to expect of samples.

    Σ = R'R by a QR decomposition of the centred features, and tr (Σ_a Σ_b)^½ is the sum of the singular values of
    R_a R_b'. This needs no product of covariances and no root of rounded eigenvalues, so float32 suffices where Σ is
    singular, as it is for n <= d.

    Args:
      a: floating array [n, d] with n >= 2 examples on axis 0, the features of one set.
      b: floating array [m, d] with m >= 2, those of the other set.

    Returns:
      The squared distance, >= 0, computed in at least float32.

    Raises:
      TypeError: if a set is not floating.
      ValueError: if a set is not [n, d] with n >= 2, or the sets differ in d.

    Differences: torchmetrics' FrechetInceptionDistance, with covariances of divisor n - 1 as here, includes the
    Inception network; here the features are an argument. PyTorch, Keras, optax and flax have no such function.

    Reference: Dowson, Landau, The Fréchet Distance between Multivariate Normal Distributions, 1982. Heusel et al., GANs
    Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, 2017, arXiv:1706.08500.

    >>> a = jnp.array([[-1.0], [0.0], [1.0]])  # mean 0, deviation 1
    >>> round(frechet_distance(a, 3 * a + 2).item(), 4)  # mean 2, deviation 3: (0 - 2)² + (1 - 3)²
    8.0
    """
    where = "frechet_distance"
    a, b = (widened(_features(where, name, x)) for name, x in (("a", a), ("b", b)))
    if a.shape[1] != b.shape[1]:
        raise invalid(where, "a and b with equal numbers of features", told=f"{a.shape[1]} and {b.shape[1]}")
    b = b.astype(a.dtype)
    roots = [jnp.linalg.qr(_centred(x), mode="r") for x in (a, b)]
    fidelity = jnp.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    spread = sum((root**2).sum() for root in roots)
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * fidelity
    return jnp.maximum(distance, 0).astype(jnp.float32)


def _features(where: str, name: str, x: ArrayLike) -> Array:
    """`x` as an array [n, d]."""
    x = check.array_like(where, name, x)
    if x.ndim != 2 or x.shape[0] < 2 or not x.shape[1]:
        raise invalid(where, f"{name} of shape [n, d] with n >= 2 and d >= 1", x, "Axis 0 holds the examples.")
    return x


def _centred(x: Array) -> Array:
    """Deviations from the mean, over (n - 1)^½: their Gram matrix is the covariance."""
    return (x - x.mean(0, keepdims=True)) / (x.shape[0] - 1) ** 0.5
