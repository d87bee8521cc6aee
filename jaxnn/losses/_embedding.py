"""Losses on embeddings [..., d]: cosine distance, contrastive, triplet and NT-Xent losses."""

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
    _positive_part,
    _share,
    _unit,
)

__all__ = ["circle", "contrastive", "cosine_distance", "cosine_embedding", "nt_xent", "triplet", "triplet_semi_hard"]


def cosine_distance(
    x: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None, where: ArrayLike | None = None
) -> Array:
    """Cosine distance, [..., d], [..., d] -> [...]: 1 - x·y / (|x| |y|); range [0, 2].

    0 for equal directions, 1 for orthogonal vectors, 2 for opposite ones. Use it where the length of a vector carries
    no information, as in most embeddings. A zero vector has distance 1 and gradient 0. Lengths do not overflow or
    underflow. Computed from unit vectors as |u - v|²/2 for acute angles and 2 - |u + v|²/2 for obtuse ones, so that
    small angles stay accurate: the error of the angle is one rounding, 6e-8 in float32.

    Args:
      x: floating array.
      y: floating array of the shape of x.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient of a pair to exactly 0.

    Raises:
      TypeError: if a vector is not floating.
      ValueError: if the shapes differ.

    Differences: optax's `cosine_distance` has a NaN gradient at a zero vector unless epsilon is given. Keras's
    CosineSimilarity is this minus 1. PyTorch's CosineEmbeddingLoss is this for similar pairs.

    >>> cosine_distance(jnp.array([[3.0, 0.0], [1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [0.0, 1.0]
    """
    x, y = _features("cosine_distance", ("x", "y"), (x, y))

    def loss(x: Array, y: Array) -> Array:
        return _one_minus_cosine(_unit(x), _unit(y))

    return _masked("cosine_distance", loss, [x, y], x.shape[:-1], weights, where)


def _one_minus_cosine(u: Array, v: Array) -> Array:
    """1 - u·v of unit vectors; 1 where one of them is 0."""
    acute = (u * v).sum(axis=-1, keepdims=True) >= 0
    half = ((u - jnp.where(acute, v, -v)) ** 2).sum(axis=-1) / 2
    value = jnp.where(acute.squeeze(-1), half, 2 - half)
    directed = (u != 0).any(axis=-1) & (v != 0).any(axis=-1)
    return jnp.where(directed, value, 1)


def cosine_embedding(
    x: ArrayLike,
    y: ArrayLike,
    same: ArrayLike,
    *,
    margin: ArrayLike = 0.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Cosine loss of pairs, [..., d], [..., d], [...] -> [...], with c = x·y / (|x| |y|); range [0, 2]:

        same (1 - c) + (1 - same) max(0, c - margin)

    `contrastive` for directions: turns similar pairs to the same direction, and dissimilar ones apart until their
    cosine is the margin. A zero vector has c = 0 and gradient 0.

    Args:
      x: floating array.
      y: floating array of the shape of x.
      same: array [...]: booleans, the integers 0 and 1 (others give NaN), or probabilities that the pair is similar.
      margin: cosine below which a dissimilar pair has no loss, in [0, 1]; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient of a pair to exactly 0.

    Raises:
      TypeError: if a vector is not floating or `same` is not real.
      ValueError: if the shapes do not fit or `margin` is out of range.

    Differences: PyTorch's CosineEmbeddingLoss marks dissimilar pairs by -1, and accepts a margin from -1.

    >>> x, y = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[3.0, 4.0], [3.0, 4.0]])
    >>> [round(loss, 3) for loss in cosine_embedding(x, y, jnp.array([1, 0]), margin=0.5).tolist()]
    [0.4, 0.1]
    """
    x, y, similar = _pairs("cosine_embedding", x, y, same)
    margin = _share("cosine_embedding", "margin", margin, x.dtype)

    def loss(x: Array, y: Array, same: Array) -> Array:
        u, v = _unit(x), _unit(y)
        cosine = (u * v).sum(axis=-1)
        return same * _one_minus_cosine(u, v) + (1 - same) * _positive_part(cosine - margin)

    return _masked("cosine_embedding", loss, [x, y, similar], x.shape[:-1], weights, where)


def contrastive(
    x: ArrayLike,
    y: ArrayLike,
    same: ArrayLike,
    *,
    margin: ArrayLike = 1.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Contrastive loss of pairs, [..., d], [..., d], [...] -> [...], with the distance D = |x - y|; range [0, inf):

        same D²/2 + (1 - same) max(0, margin - D)²/2

    Pulls similar pairs together and pushes dissimilar pairs apart up to the margin. Use it for Siamese networks trained
    on pairs. It pulls every similar pair to a single point, so for graded similarity see `triplet`. For dissimilar
    pairs at distance 0 the direction is undefined and the gradient 0.

    Args:
      x: floating array.
      y: floating array of the shape of x.
      same: array [...]: booleans, the integers 0 and 1 (others give NaN), or probabilities that the pair is similar.
        The paper marks similar pairs by 0.
      margin: distance up to which dissimilar pairs are pushed apart, > 0; may be traced.
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient of a pair to exactly 0.

    Raises:
      TypeError: if a vector is not floating or `same` is not real.
      ValueError: if the shapes do not fit or `margin` is out of range.

    Reference: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006.

    >>> x, y = jnp.array([[0.0, 0.0], [0.0, 0.0]]), jnp.array([[0.3, 0.4], [0.3, 0.4]])
    >>> contrastive(x, y, jnp.array([1, 0])).tolist()  # both are 0.5 apart
    [0.125, 0.125]
    """
    x, y, similar = _pairs("contrastive", x, y, same)
    margin = _positive("contrastive", "margin", margin, x.dtype)

    def loss(x: Array, y: Array, same: Array) -> Array:
        d = _distance(x, y)
        return (same * d**2 + (1 - same) * _positive_part(margin - d) ** 2) / 2

    return _masked("contrastive", loss, [x, y, similar], x.shape[:-1], weights, where)


def _pairs(name: str, x: ArrayLike, y: ArrayLike, same: ArrayLike) -> tuple[Array, Array, Array]:
    """Vectors [..., d] of pairs, and how similar each pair should be, 0 to 1, [...]."""
    x, y = _features(name, ("x", "y"), (x, y))
    check.shape(name, "same", same, x.shape[:-1], ", one for each pair")
    check.kind(name, "same", same, "real")
    return x, y, _bits(jnp.asarray(same), x.dtype)


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

    Range [0, inf). Only the order of distances matters, so a class need not collapse to a point. Use it for retrieval
    and face recognition. During training most triplets soon have loss 0: `triplet_semi_hard` selects informative ones.
    The gradient of a distance is 0 where the two vectors are equal, and the gradient of the loss is 0 where the margin
    is met.

    Args:
      anchor: floating array.
      positive: embedding of the anchor's class, floating, of the anchor's shape.
      negative: embedding of another class, floating, of the anchor's shape.
      margin: required difference of the distances, > 0, in units of D; may be traced.
      squared: if True, D is the squared distance, as in FaceNet (which uses margin 0.2 on unit vectors).
      weights: scalar or array of the loss's shape; multiplies the loss.
      where: boolean mask of the loss's shape; False sets loss and gradient of a triplet to exactly 0.

    Raises:
      TypeError: if a vector is not floating or `squared` is not a bool.
      ValueError: if the shapes differ or `margin` is out of range.

    Differences: PyTorch's TripletMarginLoss and optax's `triplet_margin_loss` add 1e-6 inside the distance.

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
    """Triplet loss with semi-hard negatives mined within the batch, [n, d], integer [n] -> [n]; range [0, inf).

    For an anchor a and each positive p (another example of its class), the negative is the nearest one that is further
    from a than p; if there is none, the furthest. The loss of an anchor is the mean of `triplet` over its positives,
    and 0 without positives or negatives. Mining the hardest negatives can make training collapse, and easy negatives
    give no gradient. The batch must contain several examples of several classes. No gradient flows through the
    selection.

    Args:
      embeddings: floating array [n, d].
      labels: integer class labels [n]; any integer is a valid label.
      margin: required difference of the distances, > 0, in units of the (squared) distance; may be traced.
      squared: True uses squared distances, as in the paper; False uses distances.
      weights: scalar or [n]; multiplies the loss.
      where: boolean mask [n]; False excludes an example as anchor, positive and negative.

    Raises:
      TypeError: if the embeddings are not floating, the labels are not integers or `squared` is not a bool.
      ValueError: if the shapes do not fit or `margin` is out of range.

    Differences: TensorFlow Addons' TripletSemiHardLoss is the mean over all pairs of anchor and positive. It equals the
    mean over anchors if all classes have the same number of examples.

    Reference: Schroff, Kalenichenko and Philbin, FaceNet, 2015.

    >>> x = jnp.array([[0.0], [1.0], [1.5], [9.0]])
    >>> triplet_semi_hard(x, jnp.array([0, 0, 1, 1])).tolist()  # squared: 1 - 2.25 + 1 < 0, then 1 - 64 + 1, ...
    [0.0, 0.0, 55.0, 0.0]
    """
    name = "triplet_semi_hard"
    x, y, live = _labelled(name, embeddings, labels, where)
    margin = _positive(name, "margin", margin, x.dtype)
    check.flags(name, squared=squared)

    def loss(x: Array, y: Array) -> Array:
        if not len(x):
            return jnp.zeros((0,), x.dtype)
        positive, negative = _pairs_within(y, live)
        d = _distance(x[:, None, :], x[None, :, :], squared)
        chosen = _semi_hard(jax.lax.stop_gradient(d), negative)
        each = _ranked(d, jnp.take_along_axis(d, chosen, axis=1), margin)
        taught = positive & negative.any(axis=1, keepdims=True)
        return jnp.where(taught, each, 0).sum(axis=1) / jnp.maximum(taught.sum(axis=1), 1).astype(x.dtype)

    return _masked(name, loss, [x, y], x.shape[:1], weights, where)


def _labelled(
    name: str, embeddings: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Embeddings [n, d], their labels [n], and the mask of the examples that take part, [n]."""
    (x,) = _features(name, ("embeddings",), (embeddings,))
    if x.ndim != 2:
        raise invalid(name, "embeddings of shape [n, d]", x)
    check.kind(name, "labels", labels, "integer")
    if jnp.shape(labels) != x.shape[:1]:
        raise invalid(name, f"labels of shape [{x.shape[0]}] for embeddings {describe(x)}", labels)
    return x, jnp.asarray(labels), jnp.ones(x.shape[0], bool) if where is None else _mask(name, where, x.shape[:1])


def _pairs_within(y: Array, live: Array) -> tuple[Array, Array]:
    """Masks [n, n] of the pairs of different examples of a class, and of the pairs of different classes."""
    both = live[:, None] & live[None, :]
    same = y[:, None] == y[None, :]
    return same & both & ~jnp.eye(len(y), dtype=bool), ~same & both


def _semi_hard(d: Array, negative: Array) -> Array:
    """Index of the semi-hard negative per anchor and positive: the nearest beyond the positive, or the furthest."""
    order = jnp.argsort(jnp.where(negative, d, jnp.inf), axis=1)
    ranked = jnp.take_along_axis(jnp.where(negative, d, jnp.inf), order, axis=1)
    first_beyond = jax.vmap(lambda row, p: jnp.searchsorted(row, p, side="right"))(ranked, d)
    last = jnp.maximum(negative.sum(axis=1, keepdims=True) - 1, 0)
    return jnp.take_along_axis(order, jnp.minimum(first_beyond, last.astype(first_beyond.dtype)), axis=1)


def _ranked(near: Array, far: Array, margin: Array) -> Array:
    return _positive_part(near - far + margin)


def circle(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.25,
    gamma: ArrayLike = 256.0,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Circle loss of the pairs within a batch, [n, d], integer [n] -> [n], with cosines s; range [0, inf):

        log(1 + Σ_q exp(γ α_q (s_q - m)) Σ_p exp(-γ α_p (s_p - 1 + m)))
        with α_p = max(0, 1 + m - s_p), α_q = max(0, s_q + m)

    For an anchor, p are the other examples of its class and q those of other classes. Raises all s_p above 1 - m and
    lowers all s_q below m; the factors α give the pairs that are furthest from their optimum the largest gradients,
    where `triplet` weights all equally. The factors get no gradient. The loss of an anchor without positives or
    negatives is 0. The batch must contain several examples of several classes. A zero vector has cosine 0 with all
    others. Cosines are exact to one rounding, 6e-8 in float32, the loss to a few γ of them.

    Args:
      embeddings: floating array [n, d].
      labels: integer class labels [n]; any integer is a valid label.
      margin: m, the distance of the cosines from 1 and 0 that is aimed at, in [0, 1]; may be traced. The paper uses
        0.25 for faces and 0.4 for birds and cars.
      gamma: γ > 0, the scale of the cosines: the larger, the more the hardest pairs count; may be traced. The paper
        uses 256 for faces, 128 for persons and 80 for birds and cars.
      weights: scalar or [n]; multiplies the loss.
      where: boolean mask [n]; False excludes an example as anchor, positive and negative.

    Raises:
      TypeError: if the embeddings are not floating or the labels are not integers.
      ValueError: if the shapes do not fit, or `margin` or `gamma` is out of range.

    Differences: the authors' code sums over all pairs of the batch in one logarithm. PyTorch, Keras and optax have no
    circle loss; that of pytorch-metric-learning is the mean over anchors with m = 0.4 and γ = 80.

    Reference: Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, 2020.

    >>> x, y = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 0, 1])
    >>> circle(x, y, gamma=1.0).tolist()  # log(1 + e^(-m²) e^(-m²)), and no positives for the last
    [0.632..., 0.632..., 0.0]
    """
    x, y, live = _labelled("circle", embeddings, labels, where)
    margin = _share("circle", "margin", margin, x.dtype)
    gamma = _positive("circle", "gamma", gamma, x.dtype)

    def loss(x: Array, y: Array) -> Array:
        positive, negative = _pairs_within(y, live)
        unit = _unit(x)
        s = jnp.matmul(unit, unit.T, precision="highest")
        near = _positive_part(1 + margin - jax.lax.stop_gradient(s)) * (s - 1 + margin)
        far = _positive_part(jax.lax.stop_gradient(s) + margin) * (s - margin)
        taught = positive.any(axis=1) & negative.any(axis=1)
        all_of = ~taught[:, None]  # whose loss is 0: finite terms keep NaN out of the gradient
        total = _log_sum(gamma * far, negative | all_of) + _log_sum(-gamma * near, positive | all_of)
        return jnp.where(taught, jax.nn.softplus(total), 0)

    return _masked("circle", loss, [x, y], x.shape[:1], weights, where)


def _log_sum(x: Array, mask: Array) -> Array:
    """log Σ exp(x) over the last axis where the mask is True."""
    return jax.nn.logsumexp(jnp.where(mask, x, -jnp.inf), axis=-1)


def nt_xent(
    x: ArrayLike,
    y: ArrayLike,
    *,
    temperature: ArrayLike = 0.5,
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Array:
    """Normalised temperature-scaled cross-entropy (SimCLR) of two views of each example, [n, d], [n, d] -> [n]:

        ℓ(i, j) = -log (exp(cos(z_i, z_j) / τ) / Σ_k≠i exp(cos(z_i, z_k) / τ)),    z = x and y, 2n vectors

    The loss of example i is the mean of ℓ from x_i to y_i and from y_i to x_i. The other 2n - 2 vectors are its
    negatives. Use it for self-supervised learning in large batches. It pushes apart similar examples of the same batch.
    Range [0, inf): log(2n - 1) if all vectors are equal, 0 without negatives. A zero vector has cosine 0 with all
    others. Cosines are exact to one rounding, 6e-8 in float32, so the scores cos / τ and the loss are exact to 6e-8 /
    τ.

    Args:
      x: first views [n, d], floating.
      y: second views [n, d], floating; x[i] and y[i] are views of the same example.
      temperature: τ > 0; a lower τ gives hard negatives more weight. SimCLR uses 0.1 to 0.5. May be traced.
      weights: scalar or [n]; multiplies the loss.
      where: boolean mask [n]; False excludes a pair as example and as negatives.

    Raises:
      TypeError: if a view is not floating.
      ValueError: if the shapes do not fit or `temperature` is out of range.

    Differences: optax's `ntxent` takes one array with labels, has temperature 0.07 by default, and returns the mean
    over pairs.

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
