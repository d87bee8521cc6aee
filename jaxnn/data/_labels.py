"""Label encodings: strings, integer codes and one-hot vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn.data._checks import check_codes, check_known, classes_of, strings_of
from jaxnn.types import Arrays


def one_hot(
    labels: ArrayLike, classes: int, dtype: DTypeLike = jnp.float32, *, axis: int = -1, unknown: float = math.nan
) -> Array:
    """One-hot encoding of integer labels, [...] -> [..., classes].

    A label out of range 0 ... classes - 1 gives a vector of NaN.

    Args:
      labels: integer array.
      classes: number of classes, >= 1.
      dtype: floating dtype of the result, as NaN requires.
      axis: axis of the classes in the result.
      unknown: value that fills the vector of a label out of range, such as 0 for labels to be ignored.

    Raises:
      TypeError: if the labels are not integers, `classes` is not an int or dtype is not floating.
      ValueError: if `classes` < 1 or `axis` is out of range.

    Differences: for labels out of range `jax.nn.one_hot` and Keras give zeros; PyTorch raises.

    >>> one_hot(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    labels = labels if isinstance(labels, Array) else np.asarray(labels)
    check.kind("one_hot", "labels", labels, "integer", "Strings become integers by encode.")
    k = check.count("one_hot", "classes", classes, fix="Pass their number, len(classes).")
    axis = check.axis("one_hot", "axis", axis, jnp.ndim(labels) + 1, "the result")
    dtype = check.dtype("one_hot", "dtype", dtype)
    check.scalar("one_hot", "unknown", unknown, -math.inf, ends="[]", nan=True)
    if isinstance(labels, np.ndarray):  # JAX would wrap 2³² + 1 to the class 1
        labels = jnp.asarray(np.clip(labels.astype(np.int64), -1, k).astype(np.int32))
    elif labels.dtype.itemsize < 4:  # int8 cannot represent class 200
        labels = labels.astype(jnp.int32)
    labels = labels.reshape(*labels.shape, 1)
    hot = labels == lax.broadcasted_iota(labels.dtype, (*labels.shape[:-1], k), labels.ndim - 1)
    inside = (labels >= 0) & (labels < k)
    return jnp.moveaxis(jnp.where(inside, hot.astype(dtype), jnp.asarray(unknown, dtype)), -1, axis)


def encode(labels: Arrays, classes: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Integer codes of string labels, [...] -> int32 [...], and the classes of the codes. `decode` is the inverse.

    Args:
      labels: string array, or nested lists of strings.
      classes: strings of the codes 0, 1, ...; None takes the labels that occur, sorted by code point.

    Returns:
      (codes, classes).

    Raises:
      TypeError: if a label or class is not a string.
      ValueError: if a label is not among the classes or a class occurs twice.

    >>> encode(["dog", "cat", "dog"])
    (array([1, 0, 1], dtype=int32), ('cat', 'dog'))
    """
    array = np.asarray(labels, dtype=object)
    strings = strings_of(array)
    classes = tuple(sorted(set(strings))) if classes is None else classes_of("encode", classes)
    codes = {label: code for code, label in enumerate(classes)}
    check_known(strings, codes)
    return np.array([codes[label] for label in strings], np.int32).reshape(array.shape), classes


def decode(codes: Arrays, classes: Sequence[str]) -> np.ndarray:
    """Strings of integer codes, [...] -> [...], or of one-hot vectors (floating or bool), [..., k] -> [...].

    Args:
      codes: integer codes, or one-hot vectors. For scores take `argmax(-1)` first.
      classes: strings of the codes 0, 1, ...

    Returns:
      NumPy array of strings.

    Raises:
      TypeError: if `codes` has another dtype or a class is not a string.
      ValueError: if a code is out of range, a vector is not one-hot or not of length `len(classes)`, or a class occurs
        twice.

    >>> decode(np.array([1, 0]), ("cat", "dog")).tolist(), decode(np.eye(2), ("cat", "dog")).tolist()
    (['dog', 'cat'], ['cat', 'dog'])
    """
    classes = classes_of("decode", classes)
    codes = np.asarray(codes)
    check_codes(codes, classes)
    if not jnp.issubdtype(codes.dtype, jnp.integer):
        codes = codes.argmax(-1)
    return np.array(classes, dtype=str)[codes]
