"""Losses of similarity: embeddings [..., d] of things that belong together, or do not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid
from jaxnn.losses._checks import (
    _bits,
    _cost,
    _distance,
    _features,
    _mask,
    _masked,
    _positive,
    _unit,
)

__all__ = ["contrastive", "cosine_distance", "nt_xent", "triplet", "triplet_semi_hard"]


def cosine_distance(
    x: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """1 - cos of the angle between two vectors, [..., d], [..., d] -> [...]: 1 - x·y / (|x| |y|).

    In [0, 2]: 0 for one direction, 1 for a right angle, 2 for opposite ones. Good where length carries no meaning, as
    with embeddings; it hurts where it does. A zero vector has no direction: distance 1, gradient 0. No length over- or
    underflows. Computed as |u - v|²/2 of the unit vectors, or 2 - |u + v|²/2 beyond a right angle, so that a small
    angle keeps its digits: the angle is off by a rounding, 6e-8 in float32.

    Args:
      x, y: the vectors, floating.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a pair out.

    Raises:
      TypeError for integer vectors; ValueError if the shapes differ.

    Differences: optax's `cosine_distance` has the gradient NaN at a zero vector unless given an epsilon. Keras's
    CosineSimilarity is this less 1. PyTorch's CosineEmbeddingLoss is this for pairs that belong together.

    >>> cosine_distance(jnp.array([[3.0, 0.0], [1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [0.0, 1.0]
    """
    x, y = _features("cosine_distance", ("x", "y"), (x, y))

    def loss(x: Array, y: Array) -> Array:
        u, v = _unit(x), _unit(y)
        acute = (u * v).sum(axis=-1, keepdims=True) >= 0
        half = ((u - jnp.where(acute, v, -v)) ** 2).sum(axis=-1) / 2
        value = jnp.where(acute.squeeze(-1), half, 2 - half)
        directed = (x != 0).any(axis=-1) & (y != 0).any(axis=-1)
        return jnp.where(directed, value, 1)

    return _masked("cosine_distance", loss, [x, y], x.shape[:-1], weights, where)


def contrastive(
    x: ArrayLike,
    y: ArrayLike,
    same: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Contrastive loss of pairs, [..., d], [..., d], [...] -> [...], with the distance D = |x - y|:

        same D²/2 + (1 - same) max(0, margin - D)²/2

    Draws together what is the same and pushes the rest a margin apart: good for Siamese networks on pairs. It hurts
    where likeness is a matter of degree, since every same pair is drawn to a single point; see `triplet`. Where a pair
    that differs meets exactly there is no direction to part in: its gradient is 0.

    In [0, inf).

    Args:
      x, y: the vectors of the pairs, floating.
      same: booleans, the integers 0 and 1 (others give NaN), or probabilities. In the paper, 0 marks the same.
      margin: > 0, in units of distance; may be traced.
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a pair out.

    Raises:
      TypeError for integer vectors; ValueError where the shapes do not fit or for a margin out of range.

    Reference: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006.

    >>> x, y = jnp.array([[0.0, 0.0], [0.0, 0.0]]), jnp.array([[0.3, 0.4], [0.3, 0.4]])
    >>> contrastive(x, y, jnp.array([1, 0])).tolist()  # both are 0.5 apart
    [0.125, 0.125]
    """
    x, y = _features("contrastive", ("x", "y"), (x, y))
    check.shape("contrastive", "same", same, x.shape[:-1], ", one for each pair")
    check.kind("contrastive", "same", same, "real")
    margin = _positive("contrastive", "margin", margin, x.dtype)

    def loss(x: Array, y: Array, same: Array) -> Array:
        d = _distance(x, y)
        short = jnp.where(d >= margin, 0, margin - d)
        return (same * d**2 + (1 - same) * short**2) / 2

    return _masked("contrastive", loss, [x, y, _bits(jnp.asarray(same), x.dtype)], x.shape[:-1], weights, where)


def triplet(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    squared: bool = False,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Triplet loss, [..., d], [..., d], [..., d] -> [...]: max(0, D(a, p) - D(a, n) + margin) with D = |a - ·|.

    Only the order of distances counts, so a class need not shrink to a point: good for retrieval and faces. Most
    triplets soon give 0: `triplet_semi_hard` picks those that still teach. Where two of the vectors meet the gradient
    of their distance is 0; so is that of the loss once the margin is reached. In [0, inf).

    Args:
      anchor, positive, negative: the vectors, floating.
      margin: > 0, in units of D; may be traced.
      squared: D is the squared distance, as in FaceNet (margin 0.2 there, on vectors of length 1).
      weights: of the loss's shape, or a scalar; multiplies the loss.
      where: of the loss's shape: False leaves a triplet out.

    Raises:
      TypeError for integer vectors; ValueError if the shapes differ or for a margin out of range.

    Differences: PyTorch's TripletMarginLoss and optax's `triplet_margin_loss` add 1e-6 within the distance.

    Reference: Schroff, Kalenichenko and Philbin, FaceNet, 2015.

    >>> triplet(jnp.array([[0.0]]), jnp.array([[1.0]]), jnp.array([[1.5]])).tolist()
    [0.5]
    """
    a, p, n = _features("triplet", ("anchor", "positive", "negative"), (anchor, positive, negative))
    margin = _positive("triplet", "margin", margin, a.dtype)
    check.flags("triplet", squared=squared)

    def loss(a: Array, p: Array, n: Array) -> Array:
        return _ranked(_distance(a, p, squared), _distance(a, n, squared), margin)

    return _masked("triplet", loss, [a, p, n], a.shape[:-1], weights, where)


def triplet_semi_hard(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    squared: bool = True,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Triplet loss with semi-hard negatives from within the batch, [n, d], integer [n] -> [n].

    For an anchor a and each positive p (another example of its class), the negative is the nearest one that lies
    further than p; without such, the furthest. The loss of an anchor is the mean of `triplet` over its positives, and 0
    without a positive or a negative. The hardest negatives would make training collapse, the easy ones teach nothing.
    The batch has to hold several examples of several classes. The choice has no gradient. In [0, inf).

    Args:
      embeddings: floating.
      labels: whole numbers that are equal within a class; no number is out of range.
      margin: > 0, in units of the (squared) distance; may be traced.
      squared: distances are squared, as in the paper; False is the distance itself.
      weights: [n], or a scalar; multiplies the loss.
      where: False takes an example out altogether, as anchor, positive and negative.

    Raises:
      TypeError for embeddings that are not floating or labels that are not integers; ValueError where the shapes do not
      fit or for a margin out of range.

    Differences: TensorFlow Addons' TripletSemiHardLoss is the mean over all pairs of anchor and positive: the same as
    the mean over anchors if all classes have the same number of examples.

    Reference: Schroff, Kalenichenko and Philbin, FaceNet, 2015.

    >>> x = jnp.array([[0.0], [1.0], [1.5], [9.0]])
    >>> triplet_semi_hard(x, jnp.array([0, 0, 1, 1])).tolist()  # squared: 1 - 2.25 + 1 < 0, then 1 - 64 + 1, ...
    [0.0, 0.0, 55.0, 0.0]
    """
    name = "triplet_semi_hard"
    (x,) = _features(name, ("embeddings",), (embeddings,))
    if x.ndim != 2:
        raise invalid(name, "embeddings of shape [n, d]", x)
    check.kind(name, "labels", labels, "integer")
    if jnp.shape(labels) != x.shape[:1]:
        raise invalid(name, f"labels of shape [{x.shape[0]}] for embeddings {describe(x)}", labels)
    margin = _positive(name, "margin", margin, x.dtype)
    check.flags(name, squared=squared)
    live = jnp.ones(x.shape[0], bool) if where is None else _mask(name, where, x.shape[:1])

    def loss(x: Array, y: Array) -> Array:
        if not len(x):
            return jnp.zeros((0,), x.dtype)
        both = live[:, None] & live[None, :]
        same = y[:, None] == y[None, :]
        positive = same & both & ~jnp.eye(len(x), dtype=bool)
        negative = ~same & both
        d = _distance(x[:, None, :], x[None, :, :], squared)
        chosen = _semi_hard(jax.lax.stop_gradient(d), negative)
        each = _ranked(d, jnp.take_along_axis(d, chosen, axis=1), margin)
        taught = positive & negative.any(axis=1, keepdims=True)
        return jnp.where(taught, each, 0).sum(axis=1) / jnp.maximum(taught.sum(axis=1), 1).astype(x.dtype)

    return _masked(name, loss, [x, jnp.asarray(labels)], x.shape[:1], weights, where)


def _semi_hard(d: Array, negative: Array) -> Array:
    """For each anchor and positive, the number of the nearest negative beyond the positive, or of the furthest."""
    order = jnp.argsort(jnp.where(negative, d, jnp.inf), axis=1)
    ranked = jnp.take_along_axis(jnp.where(negative, d, jnp.inf), order, axis=1)
    first_beyond = jax.vmap(lambda row, p: jnp.searchsorted(row, p, side="right"))(ranked, d)
    last = jnp.maximum(negative.sum(axis=1, keepdims=True) - 1, 0)
    return jnp.take_along_axis(order, jnp.minimum(first_beyond, last.astype(first_beyond.dtype)), axis=1)


def _ranked(near: Array, far: Array, margin: Array) -> Array:
    short = near - far + margin
    return jnp.where(short <= 0, 0, short)


def nt_xent(
    x: ArrayLike,
    y: ArrayLike,
    *,
    temperature: ArrayLike = 0.5,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Normalised, temperature-scaled cross-entropy of two views of each example, [n, d], [n, d] -> [n]:

        ℓ(i, j) = -log (exp(cos(z_i, z_j) / τ) / Σ_k≠i exp(cos(z_i, z_k) / τ)),    z = x and y, 2n vectors

    and the loss of example i is the mean of ℓ from x_i to y_i and from y_i to x_i. The 2n - 2 other vectors are its
    negatives: good for learning from unlabelled examples in large batches; it hurts where a batch holds many examples
    of one thing, which it drives apart. In [0, inf): log(2n - 1) if nothing is told apart, 0 without negatives. A zero
    vector has the cosine 0 to all. Cosines are exact to a rounding, 6e-8 in float32, so the scores cos / τ are to
    6e-8 / τ, and so is the loss.

    Args:
      x, y: the two views, floating; row i of x belongs with row i of y.
      temperature: τ > 0; lower weighs the hardest negatives more. SimCLR's is 0.1 to 0.5. May be traced.
      weights: [n], or a scalar; multiplies the loss.
      where: False takes a pair out altogether, as example and as negative.

    Raises:
      TypeError for vectors that are not floating; ValueError where the shapes do not fit or for a temperature out of
      range.

    Differences: optax's `ntxent` takes one array with labels, 0.07, and returns the mean over pairs.

    Reference: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, 2020.

    >>> nt_xent(jnp.eye(2), jnp.eye(2), temperature=1.0).tolist()  # -log(e / (e + 2))
    [0.551..., 0.551...]
    """
    x, y = _features("nt_xent", ("x", "y"), (x, y))
    if x.ndim != 2:
        raise invalid("nt_xent", "x of shape [n, d]", x)
    n = x.shape[0]
    temperature = _positive("nt_xent", "temperature", temperature, x.dtype)
    live = jnp.ones(n, bool) if where is None else _mask("nt_xent", where, (n,))

    def loss(x: Array, y: Array) -> Array:
        z = jnp.concatenate([_unit(x), _unit(y)])
        other = jnp.tile(live, 2)[None, :] & ~jnp.eye(2 * n, dtype=bool)
        cosines = jnp.matmul(z, z.T, precision="highest")
        scores = jnp.where(other, (cosines - 1) / temperature, -jnp.inf)
        scores = jnp.where(jnp.tile(live, 2)[:, None], scores, 0)
        each = _cost(scores, jnp.roll(jnp.arange(2 * n, dtype=jnp.int32), n))
        return (each[:n] + each[n:]) / 2

    return _masked("nt_xent", loss, [x, y], (n,), weights, where)
