"""Linear probes: the accuracy with which a linear classifier finds the classes in activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxnn import _checks as check
from jaxnn._errors import wrong_type
from jaxnn.explain._components import pca
from jaxnn.explain._features import Reduce, activations, flat
from jaxnn.explain._target import ModelLike
from jaxnn.linear import classify, logistic_regression
from jaxnn.types import Params, State


def linear_probe(
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    classes: int,
    components: int = 64,
    l2: float | Array = 1.0,
) -> Array:
    """Accuracy on test examples of a logistic regression fitted to representations, [n, ...], labels [n] -> [].

    It is fitted to the principal components of largest variance, divided by the root of their mean variance, so that
    representations of any size and scale are compared by classifiers with equal numbers of weights and penalties.

    Args:
      train: representations, floating [n, ...], and class numbers, integer [n].
      test: those to measure the accuracy on.
      classes: number of classes, >= 2.
      components: number of principal components, >= 1, at most all of them.
      l2: strength of the squared penalty, >= 0, as in `nn.linear.logistic_regression`; may be traced.

    Raises:
      TypeError: if representations are not floating or labels not integer.
      ValueError: if shapes do not fit or a number is out of range.

    Differences: with scikit-learn it is a pipeline of PCA, a scaler and LogisticRegression.

    Reference: Alain & Bengio, Understanding intermediate layers using linear classifier probes, 2016, arXiv:1610.01644.

    >>> x, y = jnp.array([[-2.0, 0.0], [-1.0, 1.0], [1.0, 1.0], [2.0, 0.0]]), jnp.array([0, 0, 1, 1])
    >>> linear_probe((x, y), (3 * x, y), classes=2, components=1).item()
    1.0
    """
    where = "linear_probe"
    (x, y), (x_test, y_test) = _pair(where, "train", train), _pair(where, "test", test)
    rows, tested = (flat(where, a) for a in (x, x_test))
    components = check.count(where, "components", components)
    fitted = pca(rows, min(components, *rows.shape))
    scale = jnp.sqrt(jnp.maximum(fitted.variances.mean(), jnp.finfo(fitted.variances.dtype).tiny))
    model = logistic_regression(fitted.apply(rows) / scale, y, classes=classes, l2=l2)
    return jnp.mean(classify(model, fitted.apply(tested) / scale) == jnp.asarray(y_test, jnp.int32))


def linear_probes(
    model: ModelLike,
    params: Params,
    state: State,
    train: tuple[Any, ArrayLike],
    test: tuple[Any, ArrayLike],
    paths: Sequence[str],
    *,
    classes: int,
    components: int = 64,
    l2: float | Array = 1.0,
    reduce: Reduce | None = None,
    batch_size: int = 256,
) -> dict[str, Array]:
    """Accuracy of a linear probe on the activations of each layer, x [n, ...], labels [n] -> {path: []}.

    Args:
      model, params, state: as in `activations`.
      train, test: inputs of the model and class numbers, integer [n], to fit the probes and to measure their accuracy.
      paths: paths of the layers.
      classes, components, l2: as in `linear_probe`.
      reduce, batch_size: as in `activations`. Components cost min(n, d)³ operations for d activations: some thousands
        of them, or a mean over parts of space as `reduce`.

    Raises:
      TypeError, ValueError: as `activations` and `linear_probe`.

    Differences: as `linear_probe`.

    Reference: as `linear_probe`.

    >>> data = jnp.array([[-3.0], [-1.0], [1.0], [3.0]]), jnp.array([1, 0, 0, 1])
    >>> probes = linear_probes(nn.serial(nn.relu, jnp.square), {}, {}, data, data, ["relu", "square"], classes=2)
    >>> sorted(probes)
    ['relu', 'square']
    """
    where = "linear_probes"
    if isinstance(paths, str) or not isinstance(paths, Sequence) or not paths:
        raise wrong_type(where, "paths to be a list of paths of layers", paths)
    (x, y), (x_test, y_test) = _pair(where, "train", train), _pair(where, "test", test)
    found = {}
    for path in paths:
        both = [activations(model, params, state, a, path, reduce=reduce, batch_size=batch_size) for a in (x, x_test)]
        found[path] = linear_probe((both[0], y), (both[1], y_test), classes=classes, components=components, l2=l2)
    return found


def _pair(where: str, argument: str, data: Any) -> tuple[Any, Any]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise wrong_type(where, f"{argument} to be a pair of inputs and labels", data)
    check.kind(where, f"labels of {argument}", data[1], "integer or boolean")
    return data[0], data[1]
