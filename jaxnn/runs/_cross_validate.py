"""Cross-validation with every fold as a member of one sweep."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import invalid, wrong_type
from jaxnn._keys import fold_name
from jaxnn.runs._sweep import Strategy, Sweep, sweep
from jaxnn.train._weigh import takes
from jaxnn.types import Arrays, Key


class CrossValidation(NamedTuple):
    """Result of `cross_validate`: scores, predictions, and the runs.

    Attributes:
      scores: score of each fold, [folds], or a tree of such arrays.
      mean, std: mean and standard deviation of the scores; the latter divides by the number of folds, as in NumPy.
      predictions: prediction for every example, [n, ...], by the run that did not train on it.
      fold: number of the fold in which each example was held out, int32[n].
      sweep: the `Sweep` of the runs, with the strategy that was used.

    >>> import jaxnn as nn
    >>> y = np.arange(6) % 2
    >>> found = nn.cross_validate(lambda key, train, x: jnp.eye(2)[x], jax.random.key(0), (y, y), nn.metrics.accuracy,
    ...                           folds=3)
    >>> found.scores.tolist(), found.mean.item(), found.predictions.shape
    ([1.0, 1.0, 1.0], 1.0, (6, 2))
    """

    scores: Any
    mean: Arrays
    std: Any
    predictions: Any
    fold: np.ndarray
    sweep: Sweep


def cross_validate(
    run: Callable[..., Any],
    key: Key,
    data: tuple[Any, ...],
    score: Callable[..., Any],
    *,
    folds: int = 10,
    stratified: bool = True,
    strategy: Strategy = "auto",
) -> CrossValidation:
    """k-fold cross-validation: each of k folds is predicted by a run that was trained on the others, in one `sweep`.

    Every example is held out exactly once. Fold sizes differ by at most one example. One compiled program serves all
    folds: each run trains on n - ⌈n/k⌉ examples, and a run with a smaller held-out fold leaves out one more example,
    drawn at random. Smaller folds are padded for the program; the padding is removed before scoring, so scores and
    predictions are exact.

    Args:
      run: `run(key, train, x) -> predictions`, traceable. It trains on `train`, n - ⌈n/k⌉ examples of `data`, `(x, y)`
        or `(x, y, weights)`, and returns predictions for `x`, ⌈n/k⌉ other examples: a tree of arrays with the examples
        on axis 0. For example `nn.predict(model, *nn.fit(trainer, key, train, epochs=20).best, x)`.
      key: a JAX key for the split into folds and for the runs, each of which gets its own key.
      data: `(x, y)` or `(x, y, weights)`, each a tree of arrays with n examples on axis 0.
      score: `score(predictions, y) -> number`, or a tree of numbers, such as `nn.metrics.accuracy`. It is called
        outside the compiled program, once for each fold, with NumPy arrays of exactly its examples. If the data have
        weights it is called as `score(predictions, y, weights=weights)`.
      folds: number of folds k, 2 to n.
      stratified: True for y one array of integer labels [n]: every fold gets ⌊n_c/k⌋ or ⌈n_c/k⌉ of a class's n_c
        examples, as in scikit-learn's StratifiedKFold. False ignores y, as in KFold.
      strategy: as in `sweep`.

    Returns:
      A `CrossValidation`.

    Raises:
      TypeError: under a trace, if the data are not two or three arrays, if labels are not integers, or if the data have
        weights and `score` has no parameter `weights`.
      ValueError: if arrays differ in length, `folds` is out of range, or predictions have another length than x.

    >>> import jaxnn as nn
    >>> x, y = np.linspace(-1, 1, 35, dtype=np.float32)[:, None], np.arange(35) // 18
    >>> def run(key, train, x):
    ...     model = nn.dense(2)
    ...     trainer = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(0.1))
    ...     return nn.predict(model, *nn.fit(trainer, key, train, epochs=50).best, x)
    >>> nn.cross_validate(run, jax.random.key(0), (x, y), nn.metrics.accuracy, folds=5).mean.item() > 0.9
    True
    """
    check.function("cross_validate", "run", run)
    check.function("cross_validate", "score", score)
    check.flags("cross_validate", stratified=stratified)
    check.eager("cross_validate", (key, data), "Call it outside of jit, vmap and grad.")
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise wrong_type("cross_validate", "data to be (x, y) or (x, y, weights)", data)
    data = tuple(data)
    if len(data) == 3 and not takes(score, "weights"):
        fix = "Give it the parameter weights=, as the metrics of nn have it."
        raise wrong_type("cross_validate", "score to be a function that knows the weights of the data", score, fix)
    n = check.examples("cross_validate", "data", data, least=2)
    folds = check.count("cross_validate", "folds", folds, 2, n, f"There are {n} examples.")
    key = check.typed_key("cross_validate", key, "cross_validate(run, key, data, score)")
    order = np.asarray(jax.random.permutation(fold_name(key, "order"), n))  # type: ignore[arg-type]
    if stratified:
        order = order[np.argsort(_labels(data[1])[order], kind="stable")]
    fold = np.empty(n, np.int32)
    fold[order] = np.arange(n) % folds  # examples are assigned in rotation, class by class
    held = [np.flatnonzero(fold == i) for i in range(folds)]
    shuffled = np.asarray(jax.random.permutation(fold_name(key, "left out"), n))  # type: ignore[arg-type]
    size = -(-n // folds)
    points = {
        "key": jax.random.split(fold_name(key, "runs"), folds),  # type: ignore[arg-type]
        "train": np.stack([np.sort(shuffled[fold[shuffled] != i][: n - size]) for i in range(folds)]),
        "held": np.stack([np.resize(rows, size) for rows in held]),
    }
    done = sweep(_of_fold(run), points, *data, strategy=strategy)
    wrong = [p for p in jax.tree.leaves(done.results) if p.shape[1:2] != (size,)]
    if wrong:
        got = jax.ShapeDtypeStruct(wrong[0].shape[1:], wrong[0].dtype)
        raise invalid("cross_validate", f"run to predict for the {size} examples of x, [{size}, ...]", got)
    predicted, targets = jax.tree.map(np.asarray, (done.results, data[1:]))
    parts = [jax.tree.map(lambda p, i=i, rows=rows: p[i, : len(rows)], predicted) for i, rows in enumerate(held)]
    known = [jax.tree.map(lambda a, rows=rows: a[rows], targets) for rows in held]
    scored = [score(part, y, **({"weights": w[0]} if w else {})) for part, (y, *w) in zip(parts, known, strict=True)]
    scores = jax.tree.map(lambda *s: np.stack([np.asarray(v) for v in s]), *scored)
    at = np.argsort(np.concatenate(held))
    whole = jax.tree.map(lambda *p: np.concatenate(p)[at], *parts)
    mean, std = (jax.tree.map(lambda s, f=f: f(s, 0), scores) for f in (np.mean, np.std))
    return CrossValidation(scores, mean, std, whole, fold, done)


@lru_cache(maxsize=32)
def _of_fold(run: Callable[..., Any]) -> Callable[..., Any]:
    """The function of one fold; cached by `run`, so that it compiles once."""

    def of_fold(point: dict[str, jax.Array], *data: Arrays) -> Arrays:
        train = jax.tree.map(lambda a: a[point["train"]], data)
        return run(point["key"], train, jax.tree.map(lambda a: a[point["held"]], data[0]))

    return of_fold


def _labels(y: Arrays) -> np.ndarray:
    """The labels by which the folds are stratified, checked."""
    labels = np.asarray(y) if hasattr(y, "dtype") else None
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "biu":
        fix = "For other targets pass stratified=False."
        raise wrong_type("cross_validate", "y to be one array of labels, integers [n]", y, fix)
    return labels
