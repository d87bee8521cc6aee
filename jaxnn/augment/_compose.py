"""Augmentations made of others: one after another, with a probability, over a batch."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxnn import _checks as check
from jaxnn._errors import describe, invalid
from jaxnn._inputs import is_array
from jaxnn._keys import fold_in
from jaxnn.augment._checks import PARTS
from jaxnn.types import Augmentation, Batch, Key


def chain(*augmentations: Augmentation) -> Augmentation:
    """Applies augmentations in order; augmentation i gets the key `fold_in(key, i)`.

    Args:
      *augmentations: functions `(key, example) -> example`, of this room or user-defined. Functions of a batch, such as
        `mixup`, can be chained with `batched` ones.

    Raises:
      TypeError: if an argument is not a function.

    Differences: torchvision's `Compose` is called without keys.

    >>> twice = chain(nn.augment.invert(), nn.augment.invert())
    >>> twice(jax.random.key(0), jnp.full((1, 1, 1), 0.25)).tolist()
    [[[0.25]]]
    """
    for augmentation in augmentations:
        check.function("chain", "each argument", augmentation, "(key, example) -> example")

    def augment(key: Key, example: Any) -> Any:
        for i, augmentation in enumerate(augmentations):
            example = augmentation(fold_in(key, i), example)
        return example

    augment.__name__ = "chain"
    return augment


def sometimes(augmentation: Augmentation, probability: float | jax.Array = 0.5) -> Augmentation:
    """Applies an augmentation with a probability, otherwise returns the example unchanged.

    Under `vmap` both results are computed and one is selected.

    Args:
      augmentation: function `(key, example) -> example` that keeps shapes and dtypes.
      probability: number from 0 to 1; may be traced.

    Raises:
      TypeError: if `augmentation` is not a function, or `probability` is not a number.
      ValueError: if `probability` is out of range, or the augmentation changes shapes or dtypes.

    Differences: torchvision's `RandomApply`.

    >>> sometimes(nn.augment.invert(), 0.0)(jax.random.key(0), jnp.full((1, 1, 1), 0.25)).tolist()
    [[[0.25]]]
    """
    check.function("sometimes", "augmentation", augmentation, "(key, example) -> example")
    check.scalar("sometimes", "probability", probability, 0, 1, "[]")

    def augment(key: Key, example: Any) -> Any:
        example = jax.tree.map(jnp.asarray, example)
        inner = fold_in(key, 1)
        before, after = jax.eval_shape(lambda x: x, example), jax.eval_shape(augmentation, inner, example)
        if jax.tree.map(_shape, before) != jax.tree.map(_shape, after):
            expected = f"an augmentation that keeps {describe(before)}"
            raise invalid(
                "sometimes", expected, told=f"one that returns {describe(after)}", fix="Resize before it, or after it."
            )
        draw = jax.random.uniform(fold_in(key, 0), ())
        applied = draw < jnp.asarray(probability, draw.dtype)
        return jax.lax.cond(applied, augmentation, lambda _, x: x, inner, example)

    augment.__name__ = "sometimes"
    return augment


def _shape(x: Any) -> tuple[Any, ...]:
    return x.shape, x.dtype


def batched(augmentation: Augmentation, target: Literal["mask", "boxes", "keypoints"] | None = None) -> Augmentation:
    """Augments a batch, one key for each example: `(key, batch) -> batch`, for `nn.fit(..., augment=)`.

    A batch is x, or a tuple (x, y) or (x, y, weights), where x is a batch of images [n, h, w, c], or a dict of batches
    with "image" and any of "mask", "boxes" and "keypoints". y and weights are returned unchanged, except for `target`.

    Args:
      augmentation: function `(key, example) -> example` of one example.
      target: name of y, if it moves along with the image: "mask" for segmentation, "boxes" for detection, "keypoints"
        for landmarks. None leaves y unchanged.

    Raises:
      TypeError: if `augmentation` is not a function or `target` not a name.
      ValueError: if `target` is unknown, or the batch has no y for it.

    >>> x, y = jnp.zeros((2, 3, 3, 1)).at[0, 0, 0].set(1), jnp.array([[[0.5, 0.5]], [[2.5, 0.5]]])
    >>> mirrored = batched(nn.augment.flip(probability=1.0), target="keypoints")
    >>> mirrored(jax.random.key(0), (x, y))[1].tolist()
    [[[2.5, 0.5]], [[0.5, 0.5]]]
    """
    check.function("batched", "augmentation", augmentation, "(key, example) -> example")
    check.choice("batched", "target", target, (*PARTS[1:], None))

    def augment(key: Key, batch: Batch) -> Batch:
        parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        if not 1 <= len(parts) <= 3 or (target is not None and (len(parts) < 2 or not is_array(parts[0]))):
            kind = "(x, y) or (x, y, weights) with images x" if target else "x, (x, y) or (x, y, weights)"
            raise invalid("batched", f"a batch {kind}", batch)
        examples = parts[0] if target is None else {"image": parts[0], target: parts[1]}
        n = check.examples("batched", "the batch", examples, least=0)
        new = jax.vmap(augmentation)(jax.random.split(key, n), jax.tree.map(jnp.asarray, examples))
        parts = (new, *parts[1:]) if target is None else (new["image"], new[target], *parts[2:])
        return type(batch)(parts) if isinstance(batch, tuple | list) else parts[0]

    augment.__name__ = "batched"
    return augment
