"""Augmentations that mix the examples of a batch, labels included: mixup and cutmix."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxnn import _checks as check
from jaxnn._dtypes import is_kind, widened
from jaxnn._errors import invalid, wrong_type
from jaxnn.augment._checks import batch_of
from jaxnn.augment._filters import between
from jaxnn.augment._images import from_unit, to_unit, uniform
from jaxnn.types import Augmentation, Batch, Key


def mixup(alpha: float | Array = 0.2, classes: int | None = None) -> Augmentation:
    """Mixes each example of a batch with another: `(key, (x, y)) -> (x, y)`, [n, h, w, c], [n, k] -> the same.

        x = λ x_i + (1 - λ) x_j,    y = λ y_i + (1 - λ) y_j,    λ from Beta(alpha, alpha)

    j is a random permutation of i; each example has its own λ.

    Args:
      alpha: parameter of the distribution, >= 0: small values give λ near 0 or 1; may be traced. 0 is the identity.
      classes: number of classes, for integer labels [n], which become one-hot [n, classes], a label out of range NaN.
        None for floating y of any shape [n, ...], such as probabilities of classes.

    Raises:
      TypeError: if an argument has the wrong type, or labels are integers without `classes`.
      ValueError: if an argument is out of range, or shapes do not fit.

    Differences: the paper's program and timm draw one λ for the whole batch.

    Reference: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018.

    >>> x, y = jnp.ones((2, 1, 1, 1)), jnp.array([0, 1])
    >>> mixup(classes=3)(jax.random.key(0), (x, y))[1].sum(1).round(3).tolist()
    [1.0, 1.0]
    """
    _check("mixup", alpha, classes)

    def augment(key: Key, batch: Batch) -> Batch:
        x, y = batch_of("mixup", batch)
        y = _soft("mixup", y, classes)
        keys = jax.random.split(key)
        part = _beta(keys[0], alpha, len(x))
        other = jax.random.permutation(keys[1], len(x))
        wide = to_unit(x)
        return from_unit(_mixed(wide, wide[other], part), x.dtype), _mixed(widened(y), widened(y[other]), part).astype(
            y.dtype
        )

    augment.__name__ = "mixup"
    return augment


def cutmix(alpha: float | Array = 1.0, classes: int | None = None) -> Augmentation:
    """Replaces a random rectangle of each example by that of another: `(key, (x, y)) -> (x, y)`.

    The rectangle has 1 - λ of the area before it is cut at the borders, λ from Beta(alpha, alpha), the aspect ratio of
    the image, and a uniform centre. y is mixed by the fractions of pixels. Each example has its own rectangle.

    Args:
      alpha: parameter of the distribution, >= 0; may be traced. 0 is the identity.
      classes: as in `mixup`.

    Raises:
      TypeError: if an argument has the wrong type, or labels are integers without `classes`.
      ValueError: if an argument is out of range, or shapes do not fit.

    Differences: the paper's program and timm draw one rectangle for the whole batch.

    Reference: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019.

    >>> x, y = jnp.ones((2, 4, 4, 1)), jnp.array([0, 1])
    >>> cutmix(classes=3)(jax.random.key(0), (x, y))[1].sum(1).round(3).tolist()
    [1.0, 1.0]
    """
    _check("cutmix", alpha, classes)

    def augment(key: Key, batch: Batch) -> Batch:
        x, y = batch_of("cutmix", batch)
        y = _soft("cutmix", y, classes)
        keys = jax.random.split(key, 3)
        side = jnp.sqrt(1 - _beta(keys[0], alpha, len(x)))
        at = uniform(keys[1], (0.0, 1.0), (len(x), 2))
        other = jax.random.permutation(keys[2], len(x))

        def inside(at: Array, side: Array) -> Array:
            """Mask [h, w, 1] of the rectangle."""
            rows, columns = (
                between(at[axis], jnp.floor(side * x.shape[1 + axis]).astype(jnp.int32), x.shape[1:], axis)
                for axis in (0, 1)
            )
            return rows & columns

        replaced = jax.vmap(inside)(at, side)
        part = 1 - replaced.astype(jnp.float32).mean((1, 2, 3))
        return jnp.where(replaced, x[other], x), _mixed(widened(y), widened(y[other]), part).astype(y.dtype)

    augment.__name__ = "cutmix"
    return augment


def _check(where: str, alpha: Any, classes: Any) -> None:
    check.scalar(where, "alpha", alpha)
    if classes is not None:
        check.count(where, "classes", classes)


def _soft(where: str, y: Array, classes: int | None) -> Array:
    """Labels as floating numbers: one-hot for integers."""
    if classes is None:
        if not is_kind(y, "floating"):
            raise wrong_type(where, "floating y, such as one-hot labels", y, "Pass classes= for integer labels.")
        return y
    if not is_kind(y, "integer") or y.ndim != 1:
        raise invalid(where, "integer labels y of shape [n] with classes=", y)
    known = (y >= 0) & (y < classes)
    return jnp.where(known[:, None], jax.nn.one_hot(y, classes, dtype=jnp.float32), jnp.nan)


def _beta(key: Key, alpha: Any, n: int) -> Array:
    """n numbers from Beta(alpha, alpha), [n]; 1 for alpha = 0."""
    a = jnp.asarray(alpha, jnp.float32)
    positive = a > 0
    safe = jnp.where(positive, a, 1)
    return jnp.where(positive, jax.random.beta(key, safe, safe, (n,), jnp.float32), 1)


def _mixed(a: Array, b: Array, part: Array) -> Array:
    """part · a + (1 - part) · b, one part for each example; for a part of 1 also if b is not finite."""
    part = part.reshape(-1, *(1,) * (a.ndim - 1)).astype(a.dtype)
    return jnp.where(part == 1, a, part * a + (1 - part) * b)
