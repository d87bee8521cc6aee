"""The losses at their edges: hand-worked numbers, extreme and infinite logits, labels out of range."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import sklearn.metrics
from _close import TOLERANCE, assert_close

from jaxnn.losses import absolute_error, binary_cross_entropy, softmax_cross_entropy, squared_error

INF, NAN = np.inf, np.nan
K = 5
dtypes = pytest.mark.parametrize("dtype", [*TOLERANCE])


def gradient(f, prediction, target):
    return jax.grad(lambda p: jnp.sum(f(p, target)))(prediction)


derivative = jax.jit(gradient, static_argnums=0)
cross_entropy_of = jax.jit(softmax_cross_entropy)


# Softmax cross-entropy


def test_worked_by_hand():
    log = np.log
    x = jnp.asarray([[0.0, log(3.0)], [log(3.0), 0.0]], jnp.float32)
    assert_close(cross_entropy_of(x, jnp.asarray([0, 0])), [log(4), log(4 / 3)])
    p = jnp.asarray([[0.25, 0.75], [1.0, 0.0]])
    assert_close(cross_entropy_of(x, p), [log(4) / 4 + 3 * log(4 / 3) / 4, log(4 / 3)])
    assert_close(cross_entropy_of(x[0], jnp.asarray([2.0, 1.0])), 2 * log(4) + log(4 / 3))  # taken as they are
    assert_close(cross_entropy_of(x[0], jnp.zeros(2)), 0.0)
    x = jnp.asarray([log(3.0), log(3.0), 0.0])
    assert_close(binary_cross_entropy(x, jnp.asarray([1, 0, 1])), [log(4 / 3), log(4), log(2)])
    assert_close(squared_error(jnp.asarray([1.0, -2.0]), jnp.asarray([3.0, -2.0])), [4.0, 0.0])
    assert_close(absolute_error(jnp.asarray([1.0, -2.0]), jnp.asarray([3.0, -2.0])), [2.0, 0.0])


@pytest.mark.parametrize("k", [2, 10, 1000])
def test_equal_logits_lose_log_k(k):
    labels = jnp.asarray([0, k // 2, k - 1])
    for level in (0.0, -7.0, 1e4, 1e8, -1e30):
        x = jnp.full((3, k), level)
        np.testing.assert_allclose(cross_entropy_of(x, labels), np.log(k), rtol=1e-6)
        np.testing.assert_allclose(cross_entropy_of(x, np.eye(k)[labels]), np.log(k), rtol=1e-6)


def test_log_loss_of_scikit_learn(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 2, (50, K)), rng.integers(0, K, 50)
    expected = sklearn.metrics.log_loss(y, scipy.special.softmax(x, -1), labels=np.arange(K))
    assert_close(cross_entropy_of(jnp.asarray(x), jnp.asarray(y)).mean(), expected)
    expected = sklearn.metrics.log_loss(y > 2, scipy.special.expit(x[:, 0]))
    assert_close(binary_cross_entropy(jnp.asarray(x[:, 0]), jnp.asarray(y > 2)).mean(), expected)
    weights = rng.uniform(0, 1, 50)
    expected = sklearn.metrics.log_loss(y > 2, scipy.special.expit(x[:, 0]), sample_weight=weights, normalize=False)
    assert_close(binary_cross_entropy(jnp.asarray(x[:, 0]), jnp.asarray(y > 2), weights=weights).sum(), expected)


@pytest.mark.parametrize("dtype", ["int8", "int32"])
def test_a_label_out_of_range_is_nan(dtype):
    y = np.asarray([0, -1, 1, -5, 2, 5, 3, 6, 4, 127, -128], dtype)
    known = (y >= 0) & (y < K)
    x = jax.random.normal(jax.random.key(0), (y.size, K))
    value, slope = cross_entropy_of(x, y), derivative(softmax_cross_entropy, x, y)
    assert (jnp.isnan(value) == ~known).all()
    assert (jnp.isnan(slope) == ~known[:, None]).all()
    assert_close(cross_entropy_of(x, y, where=known), jnp.where(known, value, 0))


def test_optax_takes_negative_labels_for_other_classes():
    x = jax.random.normal(jax.random.key(0), (1, K))
    theirs = optax.softmax_cross_entropy_with_integer_labels(x, jnp.asarray([-1]))
    assert_close(theirs, cross_entropy_of(x, jnp.asarray([K - 1])))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32", "int64", "uint64"])
@pytest.mark.slow
def test_every_integer_dtype(dtype):
    """300 classes do not fit into int8, and 2³² is 0 in int32: neither may wrap around to another class."""
    with jax.enable_x64("64" in dtype):
        x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (3, 300)), jnp.float32)
        info = np.iinfo(dtype)
        y = np.asarray([7, 120, info.max], dtype)
        expected = one_hot_loss(x, [7, 120, min(int(info.max), 299)])
        expected[2] = expected[2] if info.max < 300 else NAN
        assert_close(cross_entropy_of(x, jnp.asarray(y)), expected)
        if info.bits == 64:
            assert jnp.isnan(cross_entropy_of(x, jnp.asarray([2**32, 2**32 + 7, 2**62], dtype))).all()


def one_hot_loss(x, y):
    x = np.asarray(x, np.float64)
    return np.asarray([-np.log(scipy.special.softmax(row)[label]) for row, label in zip(x, y, strict=True)])


EXTREME = [  # logits, label, loss, gradient
    ([1e4, -1e4, 0.0], 0, 0.0, [0.0, 0.0, 0.0]),
    ([1e4, -1e4, 0.0], 1, 2e4, [1.0, -1.0, 0.0]),
    ([1e4, -1e4, 0.0], 2, 1e4, [1.0, 0.0, -1.0]),
    ([1e30, -1e30, 0.0], 0, 0.0, [0.0, 0.0, 0.0]),
    ([1e30, -1e30, 0.0], 1, 2e30, [1.0, -1.0, 0.0]),
    ([-1e30, -1e30, -1e30], 1, np.log(3), [1 / 3, -2 / 3, 1 / 3]),
    ([0.0, -INF, 0.0], 0, np.log(2), [-0.5, 0.0, 0.5]),
    ([0.0, -INF, 0.0], 1, INF, [0.5, -1.0, 0.5]),
    ([-INF, -INF, 3.0], 2, 0.0, [0.0, 0.0, 0.0]),
    ([NAN, 0.0, 0.0], 1, NAN, [NAN, NAN, NAN]),
    ([-INF, -INF, -INF], 1, NAN, [NAN, NAN, NAN]),
]


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits(one_hot, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray([row[0] for row in EXTREME], dtype)
        y = jnp.asarray([row[1] for row in EXTREME])
        y = jax.nn.one_hot(y, 3, dtype=dtype) if one_hot else y
        values, slopes = cross_entropy_of(x, y), derivative(softmax_cross_entropy, x, y)
        for value, slope, (*_, true_value, true_slope) in zip(values, slopes, EXTREME, strict=True):
            assert_close(value, true_value, scale=1)
            assert_close(slope, true_slope)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_infinite_logits_are_never_a_good_fit(label):
    x = jnp.asarray([0.0, INF, 1.0])
    for labels in (jnp.asarray(label), jax.nn.one_hot(label, 3)):
        assert not jnp.isfinite(cross_entropy_of(x, labels))
        assert jnp.isnan(derivative(softmax_cross_entropy, x, labels)).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_a_class_of_minus_infinity_is_ruled_out(dtype):
    """Loss and gradient are those of the other classes alone, whatever kind the labels are."""

    @jax.jit
    def derivatives(x, labels):
        f = partial(gradient, softmax_cross_entropy)
        return f(x, labels), jax.jvp(lambda x: f(x, labels), (x,), (jnp.ones_like(x),))[1]

    x = jnp.asarray(np.random.default_rng(0).normal(0, 2, (6, 4)), dtype).at[:, 2].set(-INF)
    rest = np.asarray([0, 1, 3])
    y = np.asarray([0, 1, 2, 0, 1, 2])
    for labels, fewer in ((rest[y], y), (np.eye(4)[rest[y]], np.eye(3)[y])):
        assert_close(cross_entropy_of(x, labels), cross_entropy_of(x[:, rest], fewer))
        slope, curve = derivatives(x, labels)
        assert (slope[:, 2] == 0).all()
        assert jnp.isfinite(curve).all()
        assert_close(slope[:, rest], derivatives(x[:, rest], fewer)[0])
    assert jnp.isfinite(jax.grad(lambda p: cross_entropy_of(x, p).sum())(jnp.eye(4)[rest[y]])).all()


# Binary cross-entropy, squared and absolute error


@pytest.mark.parametrize("labels", [[0.0, 0.5, 1.0], [0, 1], [False, True]], ids=str)
@dtypes
def test_binary_at_extreme_logits(labels, dtype):
    z = np.asarray([0.0, -0.0, 12.0, -12.0, 1e4, -1e4, 6e4, -6e4, INF, -INF], dtype).astype(np.float64)

    @jax.jit
    def everything(x, y):
        slope = partial(gradient, binary_cross_entropy)
        curve = jax.jvp(lambda x: slope(x, y), (x,), (jnp.ones_like(x),))[1]
        return binary_cross_entropy(x, y), slope(x, y), curve

    with jax.enable_x64(dtype == "float64"):
        for y in labels:
            target = jnp.full(z.shape, y, dtype if isinstance(y, float) else None)
            value, slope, curve = everything(jnp.asarray(z, dtype), target)
            right = y * np.logaddexp(0, -z) if y else np.zeros_like(z)
            wrong = (1 - y) * np.logaddexp(0, z) if y < 1 else np.zeros_like(z)
            assert_close(value, right + wrong, scale=0)
            assert_close(slope, (1 - y) * scipy.special.expit(z) - y * scipy.special.expit(-z), scale=0)
            assert_close(curve, scipy.special.expit(z) * scipy.special.expit(-z), scale=0)
            assert all(jnp.isnan(part).all() for part in everything(jnp.full(z.shape, NAN, dtype), target))


@pytest.mark.parametrize("label", [-1, 2, 255])
def test_an_integer_label_other_than_0_and_1_is_nan(label):
    x = jnp.asarray([0.3, 0.3])
    y = jnp.asarray([1, label])
    assert jnp.isnan(binary_cross_entropy(x, y)).tolist() == [False, True]
    assert jnp.isnan(derivative(binary_cross_entropy, x, y)).tolist() == [False, True]


@pytest.mark.parametrize("w", [3.0, 0.0, 1e-8, 1e8, np.asarray([1.0, 0.5, 4.0])], ids=str)
@pytest.mark.slow
def test_positive_weight_is_pos_weight_of_pytorch(w):
    """-w y log σ(x) - (1 - y) log(1 - σ(x)), for soft labels too; PyTorch's gradient with it."""
    x = np.asarray([[-1.0, 0.5, 2.0], [0.0, 0.0, 0.0], [-80.0, 80.0, 1e4]])
    for y in (np.asarray([[1, 0, 1]] * 3), np.asarray([[0.25, 0.5, 0.9]] * 3)):
        expected = w * y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x)
        slope = (1 - y) * scipy.special.expit(x) - w * y * scipy.special.expit(-x)

        def f(x, y=y):
            return binary_cross_entropy(x, jnp.asarray(y), positive_weight=w)

        assert_close(f(jnp.asarray(x)), expected, scale=0)
        assert_close(jax.grad(lambda x, f=f: f(x).sum())(jnp.asarray(x)), slope)
    half = jnp.asarray([0.5])
    assert_close(binary_cross_entropy(jnp.zeros(1), half, positive_weight=3.0), [1.3862943611])  # PyTorch
    traced = jax.jit(lambda w: binary_cross_entropy(jnp.zeros(1), half, positive_weight=w))
    assert_close(traced(jnp.asarray(3.0)), [1.3862943611])


@pytest.mark.slow
def test_positive_weight_at_infinite_logits():
    x, y = jnp.asarray([INF, INF, -INF, -INF]), jnp.asarray([1, 0, 0, 1])
    value, slope = jax.value_and_grad(
        lambda x: jnp.where(jnp.isinf(each := binary_cross_entropy(x, y, positive_weight=2.0)), 0, each).sum()
    )(x)
    assert binary_cross_entropy(x, y, positive_weight=2.0).tolist() == [0.0, INF, 0.0, INF]
    assert (value, bool(jnp.isfinite(slope).all())) == (0.0, True)
    assert binary_cross_entropy(x[3:], y[3:], positive_weight=0.0).tolist() == [0.0]


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (True, "expected positive_weight of a floating or integer dtype, got True."),
        (np.ones(2), "expected positive_weight of shape [] or [3], the logits' last axis, got float64[2]. Nothing is "
         "broadcast."),
    ],
)  # fmt: skip
def test_positive_weight_is_checked(w, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        binary_cross_entropy(jnp.zeros((4, 3)), jnp.zeros((4, 3)), positive_weight=w)
    assert str(caught.value) == f"binary_cross_entropy: {message}"


@pytest.mark.slow
def test_the_mean_is_over_residuals():
    p, t = jax.random.normal(jax.random.key(0), (2, 4, 3, 8, 8))
    total = np.sum((np.asarray(p, np.float64) - np.asarray(t, np.float64)) ** 2)
    assert_close(jnp.mean(squared_error(p, t)), total / 768)


def test_the_subgradient_of_the_absolute_error_at_0_is_0():
    p = jnp.asarray([1.0, 1.0, -2.0, INF])
    assert gradient(absolute_error, p, jnp.asarray([1.0, 2.0, -5.0, 0.0])).tolist() == [0.0, -1.0, 1.0, 1.0]


def test_squares_of_low_precision_do_not_overflow():
    p = jnp.asarray([300.0, -6e4], jnp.float16)
    assert_close(squared_error(p, jnp.zeros_like(p)), [9e4, 6e4**2])
