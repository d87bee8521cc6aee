"""Similarity of representations: centred kernel alignment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._dtypes import widened
from jaxnn._errors import invalid, wrong_type


def cka(a: ArrayLike, b: ArrayLike, *, bandwidth: float | Array | None = None, unbiased: bool = False) -> Array:
    """Centred kernel alignment of two representations of the same examples, [n, ...], [n, ...] -> []: 1 if equal.

        CKA = <K', L'> / (|K'| |L'|),    K_ij = a_i·a_j,    L_ij = b_i·b_j

    K' is K with centred rows and columns. The linear kernel makes it invariant to rotation and to scale of either
    representation, but not to other linear maps. Both matrices n × n are in memory.

    Args:
      a, b: activations of two layers or networks, floating; the axes after the first are one vector.
      bandwidth: None for the linear kernel. A number σ > 0, which may be traced, for the kernel
        exp(-|a_i - a_j|² / (2 σ² m²)), m the median distance.
      unbiased: use the unbiased estimates of HSIC, which exclude K_ii; negative values are possible. The others are
        larger for few examples: for independent data of d dimensions about d / (n + d).

    Raises:
      TypeError: if a or b is not floating, or an argument has a wrong type.
      ValueError: if the numbers of examples differ or are less than 4, or `bandwidth` is out of range.

    Differences: none of the other libraries has it.

    Reference: Kornblith et al., Similarity of Neural Network Representations Revisited, 2019, arXiv:1905.00414; the
      unbiased estimate: Song et al., Feature Selection via Dependence Maximization, 2012.

    >>> x = jnp.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0], [3.0, 2.0]])
    >>> cka(x, 5 * x[:, ::-1]).round(4).item()
    1.0
    """
    return _between("cka", [a], [b], bandwidth, unbiased)[0, 0]


def cka_matrix(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], *, bandwidth: float | Array | None = None, unbiased: bool = False
) -> Array:
    """Centred kernel alignment of each of one list of representations with each of another, -> [len(a), len(b)].

    The n × n matrix of each representation is computed once, and all are in memory.

    Args:
      a, b: activations of layers, each [n, ...] for the same examples, such as the values of `activations` of several
        paths for two networks.
      bandwidth, unbiased: as in `cka`.

    Raises:
      TypeError, ValueError: as `cka`, and if a or b is not a sequence of arrays.

    Differences: none of the other libraries has it.

    Reference: as `cka`.

    >>> x = jnp.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0], [3.0, 2.0]])
    >>> cka_matrix([x, x[:, :1]], [2 * x]).shape
    (2, 1)
    """
    for name, given in (("a", a), ("b", b)):
        if not isinstance(given, list | tuple) or not given:
            raise wrong_type("cka_matrix", f"{name} to be a list of arrays [n, ...]", given)
    return _between("cka_matrix", a, b, bandwidth, unbiased)


def _between(
    where: str, a: Sequence[ArrayLike], b: Sequence[ArrayLike], bandwidth: float | Array | None, unbiased: bool
) -> Array:
    check.flags(where, unbiased=unbiased)
    if bandwidth is not None:
        check.scalar(where, "bandwidth", bandwidth, ends="()")
    both = [[check.array(where, name, x, least=2, shape="[n, ...]") for x in xs] for name, xs in (("a", a), ("b", b))]
    sizes = {len(x) for xs in both for x in xs}
    if len(sizes) > 1 or min(sizes) < 4:
        counts = ", ".join(map(str, sorted(sizes)))
        raise invalid(where, "a and b of the same examples, at least 4", told=f"{counts} examples")
    left, right = (jnp.stack([_kernel(x, bandwidth, unbiased).ravel() for x in xs]) for xs in both)
    return jnp.matmul(left, right.T, precision=lax.Precision.HIGHEST)


@partial(jax.jit, static_argnames="unbiased")
def _kernel(x: Array, bandwidth: float | Array | None, unbiased: bool) -> Array:
    """Centred kernel matrix of norm 1, [n, ...] -> [n, n]."""
    x = widened(x).reshape(len(x), -1)
    n = len(x)
    x = x - x.mean(0, keepdims=True)
    k = jnp.matmul(x, x.T, precision=lax.Precision.HIGHEST)
    others = ~jnp.eye(n, dtype=bool)
    if bandwidth is not None:
        squares = jnp.maximum(jnp.diag(k)[:, None] + jnp.diag(k)[None] - 2 * k, 0)
        median = jnp.nanmedian(jnp.where(others, squares, jnp.nan))  # of squares: the square of the median distance
        k = jnp.exp(-squares / (2 * jnp.asarray(bandwidth, x.dtype) ** 2 * median))
    if unbiased:  # U-centring (Székely & Rizzo 2014): its inner product is the unbiased HSIC times n (n - 3)
        k = jnp.where(others, k, 0)
        rows = k.sum(0) / (n - 2)
        k = jnp.where(others, k - rows[:, None] - rows[None] + k.sum() / ((n - 1) * (n - 2)), 0)
    else:
        rows = k.mean(0)
        k = k - rows[:, None] - rows[None] + rows.mean()
    return k / jnp.sqrt(jnp.sum(k**2))
