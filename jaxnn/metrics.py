"""Metrics: (prediction, target) -> one number, for reading and not for training: their gradients are 0 or undefined.

Shapes and dtypes are checked as in `jaxnn.losses`: nothing is broadcast.
"""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn.losses import _classes

__all__ = ["accuracy"]


def accuracy(logits: ArrayLike, labels: ArrayLike) -> Array:
    """Share of examples with the largest logit at their label, [..., k], integer [...] or float [..., k] -> [].

    Float labels of the logits' shape (one-hot or soft) count by their own argmax. Ties go to the first maximum. An
    example with a NaN among its logits or labels is wrong, and so is one whose label is out of range. Of no
    examples it is NaN; of one, as under `vmap`, it is 1 or 0. The result is float32.

    Args:
      logits: scores over the last axis; only their order matters, so probabilities do as well.

    Raises TypeError for integer logits and boolean labels, ValueError where the shapes do not fit. As scikit-learn's
    `accuracy_score` of the argmax, and Keras's SparseCategoricalAccuracy and CategoricalAccuracy in one.

    >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1])).item()
    0.5
    """
    logits, labels = _classes("accuracy", logits, labels)
    best = jnp.argmax(logits, axis=-1)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        right = (best == jnp.argmax(labels, axis=-1)) & ~jnp.isnan(labels).any(axis=-1)
    else:
        right = best == labels.astype(best.dtype)
    return jnp.mean(right & ~jnp.isnan(logits).any(axis=-1), dtype=jnp.float32)
