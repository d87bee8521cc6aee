"""Every metric against scikit-learn, and at ties, NaN, no examples and labels out of range."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from _close import TOLERANCE

from jaxnn import metrics
from jaxnn.metrics import accuracy

NAN, INF = np.nan, np.inf
DTYPES = [*TOLERANCE]
K = 4


@dataclass(frozen=True)
class Case:
    f: Callable
    target: Callable  # class numbers of any shape -> targets
    reference: Callable  # float64 scores [n, k] and class numbers [n] -> number


def share(scores, y):
    return sklearn.metrics.accuracy_score(y, scores.argmax(-1))


CASES = {
    "accuracy": Case(accuracy, lambda y: y, share),
    "accuracy(one_hot)": Case(accuracy, lambda y: np.eye(K, dtype=np.float32)[y], share),
    "accuracy(soft)": Case(accuracy, lambda y: (0.7 * np.eye(K) + 0.3 / K).astype(np.float32)[y], share),
}

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def scores(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of k classes without ties in any dtype, and labels that half of them agree with."""
    rng = np.random.default_rng(seed)
    x = rng.permuted(np.broadcast_to(np.arange(K) - 1.5, (*shape, K)), axis=-1)
    y = np.where(rng.uniform(size=shape) < 0.5, x.argmax(-1), rng.integers(0, K, shape))
    return x, y


def test_every_public_name_has_a_row():
    assert {name.split("(")[0] for name in CASES} == set(metrics.__all__)
    assert list(metrics.__all__) == sorted(metrics.__all__)


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_value(case, dtype):
    x, y = scores(61)
    with jax.enable_x64(dtype == "float64"):
        value = case.f(jnp.asarray(x, dtype), jnp.asarray(case.target(y)))
        assert (value.shape, str(value.dtype)) == ((), "float32")
        assert value == np.float32(case.reference(x, y))
        assert 0.4 < value < 0.8


@every
def test_any_batch_shape_and_transformations(case):
    x, y = scores(3, 5)
    x, t = jnp.asarray(x, jnp.float32), jnp.asarray(case.target(y))
    whole = np.float32(case.reference(np.asarray(x).reshape(-1, K), y.ravel()))
    rows = [np.float32(case.reference(np.asarray(x)[i], y[i])) for i in range(3)]
    singles = jax.vmap(jax.vmap(case.f))(x, t)
    assert case.f(x, t) == jax.jit(case.f)(x, t) == whole
    assert jax.vmap(case.f)(x, t).tolist() == rows
    assert jax.lax.scan(lambda _, xt: (None, case.f(*xt)), None, (x, t))[1].tolist() == rows
    assert set(np.unique(singles)) == {0.0, 1.0}
    np.testing.assert_allclose(singles.mean(), whole, rtol=1e-6)
    assert case.f(x[0, 0], t[0, 0]) == singles[0, 0]
    assert case.f(np.asarray(x), np.asarray(t)) == whole


@every
def test_no_examples(case):
    for shape in ((0,), (3, 0)):
        x, y = scores(*shape)
        value = jax.jit(case.f)(jnp.asarray(x, jnp.float32), jnp.asarray(case.target(y)))
        assert value.dtype == jnp.float32
        assert jnp.isnan(value)


def test_ties_go_to_the_first_maximum():
    x = jnp.asarray([[2.0, 2.0, 1.0], [0.0, -0.0, 0.0], [1.0, INF, INF], [-INF, -INF, -INF]])
    first = jnp.asarray([0, 0, 1, 0])
    assert accuracy(x, first) == 1.0
    assert accuracy(x, first + 1) == 0.0
    assert accuracy(jax.nn.one_hot(first, 3), x) == 1.0  # a tie among labels goes the same way


def test_nan_is_wrong():
    x = jnp.asarray([[NAN, 0.0, 1.0], [0.0, NAN, 1.0], [0.0, 1.0, NAN], [NAN] * 3, [0.0, 1.0, 0.0]])
    for y in range(3):
        assert accuracy(x[:4], jnp.full(4, y)) == 0.0
        assert accuracy(x[:4], jax.nn.one_hot(jnp.full(4, y), 3)) == 0.0
        assert accuracy(jax.nn.one_hot(jnp.full(4, y), 3), x[:4]) == 0.0
    assert accuracy(x, jnp.full(5, 1)) == np.float32(0.2)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32", "int64", "uint64"])
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


def test_probabilities_do_as_well_as_logits():
    x, y = scores(61)
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
        ([0.0], np.zeros(3, int), TypeError, f"logits of a floating dtype, got [0.0]. {CAST}"),
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
def test_errors(logits, labels, kind, message):
    with pytest.raises(kind) as caught:
        accuracy(logits, labels)
    assert str(caught.value) == f"accuracy: expected {message}"
