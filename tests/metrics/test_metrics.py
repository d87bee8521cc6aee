"""Every metric: against its reference in each dtype, under jit, vmap and scan, padded, weighted, and of no examples."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from _close import TOLERANCE, assert_close
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from jaxnn import metrics
from jaxnn.metrics import (
    accuracy,
    binary_accuracy,
    calibration_temperature,
    confusion_matrix,
    expected_calibration_error,
    f1,
    frechet_distance,
    iou,
    mean_average_precision,
    pr_auc,
    precision,
    r2,
    recall,
    recall_at_k,
    retrieval_average_precision,
    roc_auc,
    top_k_accuracy,
)

NAN, INF = np.nan, np.inf
K, N = 4, 60


@dataclass(frozen=True)
class Case:
    f: Callable
    make: Callable  # rng -> the arguments, examples along the first axis
    reference: Callable  # (*arguments in float64, weights) -> value
    weighted: bool = True
    empty: float = NAN


def grid(rng, *shape):
    """Numbers that every dtype holds, with ties."""
    return rng.integers(-12, 13, shape) / 4


def logits_and_labels(rng):
    """Scores without ties in any dtype, and labels that half of them agree with."""
    x = rng.permuted(np.broadcast_to(np.arange(K) - 1.5, (N, K)), axis=-1)
    return x, np.where(rng.uniform(size=N) < 0.5, x.argmax(-1), rng.integers(0, K, N))


def soft(rng):
    x, y = logits_and_labels(rng)
    return x, 0.75 * np.eye(K)[y] + 0.25 / K


def numbers(rng, k=K):
    y = rng.integers(0, k, N)
    return np.where(rng.uniform(size=N) < 0.5, y, rng.integers(0, k, N)), y


two_classes = partial(numbers, k=2)


def scores(rng):
    return grid(rng, N), rng.integers(0, 2, N)


def share(x, y, w):
    return sk.accuracy_score(y if y.ndim == 1 else y.argmax(-1), x.argmax(-1), sample_weight=w)


def classes(f, **options):
    return lambda p, y, w: f(y, p, sample_weight=w, zero_division=0.0, **options)


def calibration(x, y, w, bins=5):
    """One example after another into the bin whose interval holds its confidence."""
    gap = [0.0] * bins
    for row, label, weight in zip(x, y, w, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        b = next(b for b in range(bins) if b / bins < p.max() <= (b + 1) / bins)
        gap[b] += weight * ((p.argmax() == label) - p.max())
    return sum(map(abs, gap)) / w.sum()


def temperature(x, y, w):
    """The minimum that SciPy finds from values of the loss alone."""
    p = np.eye(K)[y] if y.ndim == 1 else y

    def loss(log_t):
        return -np.sum(w[:, None] * p * log_softmax(x * np.exp(-log_t), axis=-1)) / w.sum()

    return np.exp(minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-10}).x)


def neighbours(rng):
    return grid(rng, N, N), rng.integers(0, 12, N)


def hit_rate(s, y, w, k=2):
    hits = []
    for i in range(len(y)):
        others = sorted((j for j in range(len(y)) if j != i), key=lambda j: -s[i, j])
        if any(y[j] == y[i] for j in others):
            hits.append(any(y[j] == y[i] for j in others[:k]))
    return np.mean(hits)


def ranked(rng):
    return rng.integers(0, 2, (N, 5)), rng.integers(0, 9, N)


def averages(relevant, total, w):
    """One query after another, its precision at each relevant item."""
    each = [
        sum(r[: i + 1].mean() for i in range(len(r)) if r[i]) / max(t, 1) for r, t in zip(relevant, total, strict=True)
    ]
    return np.average(each, weights=w * (total > 0))


CASES = {
    "accuracy": Case(accuracy, logits_and_labels, share),
    "accuracy(soft)": Case(accuracy, soft, share),
    "binary_accuracy": Case(
        binary_accuracy,
        lambda rng: (grid(rng, N), rng.integers(0, 2, N)),
        lambda x, y, w: sk.accuracy_score(y, x > 0, sample_weight=w),
    ),
    "calibration_temperature": Case(calibration_temperature, logits_and_labels, temperature),
    "calibration_temperature(soft)": Case(calibration_temperature, soft, temperature),
    "confusion_matrix": Case(
        partial(confusion_matrix, num_classes=K),
        numbers,
        lambda p, y, w: sk.confusion_matrix(y, p, labels=range(K), sample_weight=w),
        empty=0.0,
    ),
    "expected_calibration_error": Case(
        partial(expected_calibration_error, bins=5), lambda rng: (grid(rng, N, K), rng.integers(0, K, N)), calibration
    ),
    "f1": Case(partial(f1, num_classes=K, average="macro"), numbers, classes(sk.f1_score, average="macro")),
    "f1(binary)": Case(f1, two_classes, classes(sk.f1_score)),
    "iou": Case(
        partial(iou, num_classes=K, average=None), numbers, classes(sk.jaccard_score, average=None, labels=range(K))
    ),
    "pr_auc": Case(pr_auc, scores, lambda s, y, w: sk.average_precision_score(y, s, sample_weight=w)),
    "precision": Case(
        partial(precision, num_classes=K, average="weighted"), numbers, classes(sk.precision_score, average="weighted")
    ),
    "r2": Case(r2, lambda rng: (grid(rng, N, 2), grid(rng, N, 2)), lambda p, t, w: sk.r2_score(t, p, sample_weight=w)),
    "recall": Case(partial(recall, num_classes=K, average="micro"), numbers, classes(sk.recall_score, average="micro")),
    "recall_at_k": Case(partial(recall_at_k, k=2), neighbours, hit_rate, weighted=False),
    "retrieval_average_precision": Case(retrieval_average_precision, ranked, averages),
    "roc_auc": Case(roc_auc, scores, lambda s, y, w: sk.roc_auc_score(y, s, sample_weight=w)),
    "top_k_accuracy": Case(
        partial(top_k_accuracy, k=2),
        logits_and_labels,
        lambda x, y, w: sk.top_k_accuracy_score(y, x, k=2, labels=range(K), sample_weight=w),
    ),
}
ELSEWHERE = {"frechet_distance": frechet_distance, "mean_average_precision": mean_average_precision}  # other arguments

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def arrays(case, seed=0, dtype="float32"):
    made = case.make(np.random.default_rng(seed))
    return [jnp.asarray(x, dtype if x.dtype.kind == "f" else "int32") for x in made]


def expected(case, seed=0, w=None):
    return case.reference(*case.make(np.random.default_rng(seed)), np.ones(N) if w is None else w)


def test_every_public_name_has_a_row():
    assert {name.split("(")[0] for name in CASES} | set(ELSEWHERE) == set(metrics.__all__)
    assert list(metrics.__all__) == sorted(metrics.__all__)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.make not in (numbers, two_classes)])
@pytest.mark.slow
def test_value_in_every_dtype(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        value = jax.jit(CASES[name].f)(*arrays(CASES[name], dtype=dtype))
        assert value.dtype == jnp.float32
        assert_close(value, expected(CASES[name]))


@every
@pytest.mark.slow
def test_in_a_scan_of_a_vmap(case):
    stacked = [jnp.stack(x).reshape(2, 2, *x[0].shape) for x in zip(*(arrays(case, i) for i in range(4)), strict=True)]
    value = jax.jit(partial(jax.lax.map, lambda x: jax.vmap(case.f)(*x)))(stacked)
    rows = np.asarray([expected(case, i) for i in range(4)])
    assert len(np.unique(rows)) > 1
    assert value.dtype == jnp.float32
    assert_close(value.reshape(rows.shape), rows)


@every
@pytest.mark.slow
def test_padding_weights_and_no_examples(case):
    args = arrays(case)
    where = np.arange(N + 5) % 13 != 4  # 60 of 65

    def pad(x):
        rubbish = jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else -7
        wide = (N + 5, N + 5) if x.shape[1:] == (N,) else (N + 5, *x.shape[1:])  # recall_at_k has columns, too
        inside = np.ix_(where, where) if x.shape[1:] == (N,) else where
        return jnp.full(wide, rubbish, x.dtype).at[inside].set(x)

    padded = [pad(x) for x in args]
    masked = jax.jit(case.f)
    assert_close(masked(*padded, where=where), expected(case))
    assert_close(masked(*padded, where=~where & where), np.full(np.shape(expected(case)), case.empty))
    none = [x[:0, :0] if x.shape[1:] == (N,) else x[:0] for x in args]
    assert_close(masked(*none), np.full(np.shape(expected(case)), case.empty))
    if case.weighted:
        rng = np.random.default_rng(3)
        w = np.full(N + 5, NAN, np.float32)
        w[where] = rng.uniform(0.1, 2.0, N)
        assert_close(masked(*padded, weights=w, where=where), expected(case, w=w[where]))
        w[where] = times = rng.integers(0, 4, N)
        gone = np.flatnonzero(where)[times == 0]
        padded = [x.at[gone].set(jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else -7) for x in padded]
        repeated = [np.repeat(x, times, axis=0) for x in case.make(np.random.default_rng(0))]
        assert_close(masked(*padded, weights=w, where=where), case.reference(*repeated, np.ones(times.sum())))


@every
def test_masks_and_weights_fit(case):
    args, name = arrays(case), getattr(case.f, "func", case.f).__name__
    for options, kind, message in (
        ({"where": jnp.ones(3, bool)}, ValueError, "where of shape [60], one for each example, got bool[3]"),
        ({"where": jnp.ones(N)}, TypeError, "where of a boolean dtype, got float32[60]"),
        ({"weights": jnp.ones((N, 1))}, ValueError, "weights of shape [60], one for each example, got float32[60, 1]"),
        ({"weights": jnp.ones(N, bool)}, TypeError, "weights of a floating or integer dtype, got bool[60]"),
    ):
        if "where" in options or case.weighted:
            fix = {
                "where": "It is a mask: False leaves an example out.",
                "weights": "A mask is passed as where=.",
            }[next(iter(options))]
            fix = fix if kind is TypeError else "Nothing is broadcast."
            with pytest.raises(kind) as caught:
                case.f(*args, **options)
            assert str(caught.value) == f"{name}: expected {message}. {fix}"


# Accuracy


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.slow
def test_accuracy_of_any_batch_shape_is_an_exact_share(soft):
    x, y = logits_and_labels(np.random.default_rng(0))
    x, y = jnp.asarray(x, jnp.float32).reshape(3, 20, K), jnp.asarray(y).reshape(3, 20)
    right = np.asarray(x).argmax(-1) == np.asarray(y)
    y = jax.nn.one_hot(y, K) if soft else y
    whole = np.float32(right.sum() / 60)
    singles = jax.vmap(jax.vmap(accuracy))(x, y)
    assert_close(accuracy(x, y), whole)
    assert_close(jax.jit(accuracy)(np.asarray(x), np.asarray(y)), whole)
    assert (np.asarray(singles) == right).all()
    assert float(accuracy(x[0, 0], y[0, 0])) == right[0, 0]
    assert jnp.isnan(accuracy(x[:, :0], y[:, :0]))


def test_ties_go_to_the_first_maximum():
    x = jnp.asarray([[2.0, 2.0, 1.0], [0.0, -0.0, 0.0], [1.0, INF, INF], [-INF, -INF, -INF]])
    first = jnp.asarray([0, 0, 1, 0])
    assert accuracy(x, first) == 1.0
    assert accuracy(x, first + 1) == 0.0
    assert accuracy(jax.nn.one_hot(first, 3), x) == 1.0  # a tie among labels goes the same way


@pytest.mark.slow
def test_nan_is_wrong():
    x = jnp.asarray([[NAN, 0.0, 1.0], [0.0, NAN, 1.0], [0.0, 1.0, NAN], [NAN] * 3, [0.0, 1.0, 0.0]])
    for y in range(3):
        assert accuracy(x[:4], jnp.full(4, y)) == 0.0
        assert accuracy(x[:4], jax.nn.one_hot(jnp.full(4, y), 3)) == 0.0
        assert accuracy(jax.nn.one_hot(jnp.full(4, y), 3), x[:4]) == 0.0
    assert accuracy(x, jnp.full(5, 1)) == np.float32(0.2)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32", "int64", "uint64"])
@pytest.mark.slow
def test_every_integer_dtype_and_labels_out_of_range(dtype):
    with jax.enable_x64("64" in dtype):
        x = jnp.zeros((4, 300)).at[jnp.arange(4), jnp.asarray([0, 44, 120, 299])].set(1.0)
        largest = np.iinfo(dtype).max
        y = jnp.asarray(np.asarray([0, 45, 120, largest], dtype))
        assert accuracy(x, y) == 0.5
        if np.iinfo(dtype).min < 0:
            assert accuracy(x, jnp.asarray([-300, -256, -180, -1] if dtype != "int8" else [-1] * 4, dtype)) == 0.0
        if np.iinfo(dtype).bits == 64:
            assert accuracy(x, jnp.asarray([2**32, 2**32 + 44, 2**62, 2**32 + 299], dtype)) == 0.0


@pytest.mark.slow
def test_probabilities_do_as_well_as_logits():
    x, y = logits_and_labels(np.random.default_rng(1))
    x = jnp.asarray(x, jnp.float32)
    assert accuracy(jax.nn.softmax(x), jnp.asarray(y)) == accuracy(x, jnp.asarray(y))


x34 = np.zeros((3, 4), np.float32)
KINDS = "Integers are class numbers, floats are probabilities of all k classes."
CAST = "Cast it: jnp.asarray(x, jnp.float32)."


@pytest.mark.parametrize(
    ("logits", "labels", "kind", "message"),
    [
        (x34.astype(int), np.zeros(3, int), TypeError, f"logits of a floating dtype, got int64[3, 4]. {CAST}"),
        (x34 > 0, np.zeros(3, int), TypeError, f"logits of a floating dtype, got bool[3, 4]. {CAST}"),
        (
            [0.0],
            np.zeros(3, int),
            TypeError,
            "logits to be an array, got [0.0]. Convert it: np.asarray(x, np.float32).",
        ),
        (
            x34,
            x34 > 0,
            TypeError,
            "integer or float labels, got bool[3, 4]. "
            "Pass an array of class numbers or of probabilities; cast one-hot booleans.",
        ),
        (
            x34,
            np.zeros((3, 1), np.int32),
            ValueError,
            f"integer labels of shape [3] for logits float32[3, 4], got int32[3, 1]. {KINDS}",
        ),
        (
            x34,
            np.zeros(3, np.float32),
            ValueError,
            f"float labels of shape [3, 4] for logits float32[3, 4], got float32[3]. {KINDS}",
        ),
        (
            x34,
            np.zeros((3, 4), np.int32),
            ValueError,
            f"integer labels of shape [3] for logits float32[3, 4], got int32[3, 4]. {KINDS}",
        ),
        (
            x34[:, :0],
            np.zeros(3, int),
            ValueError,
            "logits of shape [..., k] with k >= 1, got float32[3, 0]. The last axis holds the classes.",
        ),
        (
            x34[0, 0],
            np.zeros((), int),
            ValueError,
            "logits of shape [..., k] with k >= 1, got float32[]. The last axis holds the classes.",
        ),
    ],
)
@pytest.mark.parametrize(
    "f", [accuracy, partial(top_k_accuracy, k=2), expected_calibration_error, calibration_temperature]
)
def test_errors(f, logits, labels, kind, message):
    with pytest.raises(kind) as caught:
        f(logits, labels)
    assert str(caught.value) == f"{getattr(f, 'func', f).__name__}: expected {message}"
