"""Label encodings: strings, integer codes and one-hot vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
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
    strings = array.ravel().tolist()
    for label in strings:
        if not isinstance(label, str):
            raise wrong_type("encode", "labels to be strings", label, "Integers are codes already.")
    classes = tuple(sorted(set(strings))) if classes is None else _classes("encode", classes)
    codes = {label: code for code, label in enumerate(classes)}
    for label in strings:
        if label not in codes:
            raise invalid("encode", f"labels among {_some(classes)}", label, "Add it to classes.")
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
    classes = _classes("decode", classes)
    codes = np.asarray(codes)
    if jnp.issubdtype(codes.dtype, jnp.floating) or codes.dtype == bool:
        if codes.ndim == 0 or codes.shape[-1] != len(classes):
            raise invalid("decode", f"rows of shape [..., {len(classes)}], or integer codes", codes)
        if not (((codes == 0) | (codes == 1)).all() and (codes.sum(-1) == 1).all()):
            raise invalid(
                "decode", "one-hot rows", told="others", fix="Take argmax(-1) of scores; a label out of range is NaN."
            )
        codes = codes.argmax(-1)
    elif not jnp.issubdtype(codes.dtype, jnp.integer):
        raise wrong_type("decode", "integer codes or one-hot rows", codes)
    outside = codes[(codes < 0) | (codes >= len(classes))]
    if outside.size:
        raise invalid("decode", f"codes of {_some(classes)}", told=str(outside[0]))
    return np.array(classes, dtype=str)[codes]


def _classes(where: str, classes: Sequence[str]) -> tuple[str, ...]:
    classes = tuple(classes)
    for name in classes:
        if not isinstance(name, str):
            raise wrong_type(where, "classes to be strings", name)
        if name.endswith("\0"):
            raise invalid(where, "classes that a NumPy string can hold", name, "It drops a null at the end.")
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise invalid(where, "classes to differ", told=f"{twice!r} twice")
    return classes


def _some(classes: tuple[str, ...]) -> str:
    first = ", ".join(map(repr, classes[:5])) + (", ..." if len(classes) > 5 else "")
    return f"the {len(classes)} classes {first}" if classes else "no classes"
