"""What a loss or a metric says of the weights in its mean: a mean is a total and a count, as PyTorch's is."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import losses, metrics
from jaxnn._means import counting
from jaxnn.metrics._direction import direction

NAN, INF = float("nan"), float("inf")
X = jnp.asarray([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 3.0], [0.5, 0.0, 0.0]])
Y = jnp.asarray([0, 2, 1, -1])
W = jnp.asarray([0.5, 1.0, 4.0])
EACH = jnp.asarray([1.0, 2.0, 0.0, 3.0])
KEPT = jnp.asarray([True, False, True, True])


def noted(f, *args, **options):
    with counting() as counts:
        value = f(*args, **options)
    assert [v is value for v, _ in counts.found] == [True]
    return counts.of(value)


SOFTMAX = (
    losses.softmax_cross_entropy,
    losses.softmax_focal,
    losses.cross_entropy_on_log_probabilities,
    lambda x, y, **o: losses.cross_entropy_on_probabilities(jax.nn.softmax(x), y, **o),
)


@pytest.mark.parametrize("f", SOFTMAX)
@pytest.mark.slow
def test_class_losses_note_masks_weights_ignored_labels_and_class_weights(f):
    y = jnp.maximum(Y, 0)
    assert noted(f, X, y) is None
    assert noted(f, X, y, weights=0.5) is None
    for options, expected in (
        ({"where": KEPT}, [1, 0, 1, 1]),
        ({"weights": EACH}, [1, 2, 0, 3]),
        ({"weights": EACH, "where": KEPT}, [1, 0, 0, 3]),
        ({"ignore_label": 2}, [1, 0, 1, 1]),
        ({"class_weights": W}, [0.5, 4, 1, 0.5]),
        ({"class_weights": W, "ignore_label": 1, "weights": EACH, "where": KEPT}, [0.5, 0, 0, 1.5]),
    ):
        assert noted(f, X, y, **options).tolist() == expected
    assert noted(f, X, jax.nn.softmax(X), class_weights=W) is None


def test_ignored_labels_in_the_mean_are_pytorchs():
    """torch.nn.functional.cross_entropy(x, y, weight=w, ignore_index=-1, label_smoothing=s), for s = 0 and 0.1."""
    x, y, w = np.asarray(X, np.float64), np.asarray(Y), np.asarray(W, np.float64)
    cost = np.log(np.exp(x).sum(-1, keepdims=True)) - x
    for s in (0.0, 0.1):
        total = count = 0.0
        for row, label in zip(cost, y, strict=True):
            if label != -1:
                total += (1 - s) * w[label] * row[label] + s / 3 * (w * row).sum()
                count += w[label]
        f = partial(losses.softmax_cross_entropy, X, Y, class_weights=W, ignore_label=-1, label_smoothing=s)
        np.testing.assert_allclose(f().sum() / noted(f).sum(), total / count, rtol=1e-6)


@pytest.mark.slow
def test_other_losses_note_masks_and_weights():
    a, b = X[:, 0], X[:, 1]
    for f in (
        partial(losses.squared_error, a, b),
        partial(losses.absolute_error, a, b),
        partial(losses.huber, a, b),
        partial(losses.log_cosh, a, b),
        partial(losses.quantile, a, b),
        partial(losses.poisson_nll, a, jnp.abs(b)),
        partial(losses.gaussian_nll, a, b, b),
        partial(losses.binary_cross_entropy, a, b, positive_weight=3.0),
        partial(losses.binary_cross_entropy_on_probabilities, a / 4, b),
        partial(losses.focal, a, b, alpha=0.25),
        partial(losses.focal_on_probabilities, a / 4, b),
        partial(losses.hinge, a, b),
        partial(losses.squared_hinge, a, b),
        partial(losses.multi_class_hinge, X, jnp.zeros(4, int)),
        partial(losses.margin_ranking, a, b, b),
        partial(losses.absolute_percentage_error, a, b),
        partial(losses.squared_log_error, a, b),
        partial(losses.cosine_embedding, X, X, b),
        partial(losses.kl_divergence, X, jax.nn.softmax(X)),
        partial(losses.cosine_distance, X, X),
        partial(losses.contrastive, X, X, b),
        partial(losses.triplet, X, X, X),
        partial(losses.triplet_semi_hard, X, jnp.arange(4)),
        partial(losses.circle, X, jnp.arange(4)),
        partial(losses.nt_xent, X, X),
        partial(losses.ctc, X[:, None], jnp.zeros((4, 0), int), jnp.ones(4, int), jnp.zeros(4, int)),
    ):
        assert noted(f) is None
        assert noted(f, weights=EACH, where=KEPT).tolist() == [1, 0, 0, 3]
    for f in (partial(losses.dice, X / 4, X > 0), partial(losses.tversky, X / 4, X > 0)):
        assert noted(f, where=X > 0) is None
        assert noted(f, weights=EACH).tolist() == EACH.tolist()


def test_nothing_is_traced_for_a_loss_in_which_all_counts():
    plain = jax.make_jaxpr(losses.squared_error)(X, X)
    with counting():
        assert str(jax.make_jaxpr(losses.squared_error)(X, X)) == str(plain)


def test_accuracies_note_a_total_and_a_count():
    y = jnp.asarray([0, 1, 1, -1])
    for f in (metrics.accuracy, partial(metrics.top_k_accuracy, k=2)):
        assert noted(f, X, y, ignore_label=-1) == (2, 3)
        assert f(X, y, ignore_label=-1) == np.float32(2 / 3)
        assert noted(f, X, y, ignore_label=-1, weights=EACH, where=KEPT)[1] == 1
    assert noted(metrics.binary_accuracy, X[:, 0], y == 0) == (2, 4)
    assert jnp.isnan(metrics.accuracy(X, y, where=jnp.zeros(4, bool)))


def test_ignored_labels_of_a_metric_are_checked():
    with pytest.raises(TypeError) as caught:
        metrics.accuracy(X, jax.nn.softmax(X), ignore_label=1)
    assert str(caught.value) == (
        "accuracy: expected integer labels with ignore_label, got float32[4, 3]. Leave residuals out by where=."
    )


# One class.

ONE = jnp.zeros((4, 1))


@pytest.mark.parametrize(
    ("f", "name", "what"),
    [
        (losses.softmax_cross_entropy, "softmax_cross_entropy", "logits"),
        (losses.softmax_focal, "softmax_focal", "logits"),
        (losses.cross_entropy_on_probabilities, "cross_entropy_on_probabilities", "probabilities"),
        (losses.cross_entropy_on_log_probabilities, "cross_entropy_on_log_probabilities", "log_probabilities"),
        (lambda x, y: losses.kl_divergence(x, x), "kl_divergence", "logits"),
        (metrics.accuracy, "accuracy", "logits"),
        (partial(metrics.top_k_accuracy, k=1), "top_k_accuracy", "logits"),
        (metrics.expected_calibration_error, "expected_calibration_error", "logits"),
        (metrics.calibration_temperature, "calibration_temperature", "logits"),
    ],
)
def test_one_class_is_refused(f, name, what):
    with pytest.raises(ValueError, match="at least 2 classes") as caught:
        f(ONE, jnp.zeros(4, jnp.int32))
    assert str(caught.value) == (
        f"{name}: expected {what} of at least 2 classes, [..., k], got float32[4, 1]. With one class softmax is always "
        "1. One logit for two classes is for losses.binary_cross_entropy and metrics.binary_accuracy, with labels of "
        "the logits' shape: logits.squeeze(-1) for labels [...]."
    )


def test_one_example_under_vmap_is_not_one_class():
    np.testing.assert_allclose(
        jax.vmap(losses.softmax_cross_entropy)(X, jnp.maximum(Y, 0)), losses.softmax_cross_entropy(X, jnp.maximum(Y, 0))
    )


# Binary accuracy.


@pytest.mark.parametrize("labels", [[1, 0, 0, 1], [True, False, False, True], [0.9, 0.1, 0.5, 0.6]])
def test_binary_accuracy(labels):
    y = jnp.asarray(labels)
    x = jnp.asarray([2.0, -1.0, 0.0, -3.0])  # at the threshold is a negative
    assert metrics.binary_accuracy(x, y) == 0.75
    assert metrics.binary_accuracy(x, y, threshold=-4.0) == 0.5
    assert metrics.binary_accuracy(jax.nn.sigmoid(x), y, threshold=0.5) == 0.75
    assert jax.jit(lambda t: metrics.binary_accuracy(x, y, threshold=t))(jnp.asarray(0)) == 0.75
    assert metrics.binary_accuracy(x, y, where=jnp.asarray([True, False, False, True])) == 0.5
    assert metrics.binary_accuracy(x, y, weights=jnp.asarray([1.0, 1.0, 0.0, 6.0])) == 0.25
    assert metrics.binary_accuracy(x.reshape(2, 2), y.reshape(2, 2)) == 0.75
    assert jnp.isnan(metrics.binary_accuracy(x[:0], y[:0]))


def test_binary_accuracy_counts_nan_and_strange_labels_as_wrong():
    x = jnp.asarray([NAN, 1.0, 1.0, -1.0])
    assert metrics.binary_accuracy(x, jnp.asarray([0, 1, 2, -1])) == 0.25
    assert metrics.binary_accuracy(x, jnp.asarray([0.0, NAN, 1.5, -0.5])) == 0.0
    assert metrics.binary_accuracy(jnp.asarray([INF, -INF]), jnp.asarray([1, 0])) == 1.0


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (
            (ONE, jnp.zeros(4)),
            {},
            "logits and labels of equal shape, got float32[4, 1] and float32[4]. Nothing is broadcast: reshape one of "
            "them.",
        ),
        (
            (jnp.zeros(4, jnp.int32), jnp.zeros(4)),
            {},
            "logits of a floating dtype, got int32[4]. Cast it: jnp.asarray(x, jnp.float32).",
        ),
    ],
)
def test_binary_accuracy_is_checked(args, options, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        metrics.binary_accuracy(*args, **options)
    assert str(caught.value) == f"binary_accuracy: expected {message}"


# Directions.


def test_every_metric_and_loss_has_a_direction():
    from jaxnn.metrics import _direction

    assert set(_direction._DIRECTIONS) == {"loss", *metrics.__all__, *losses.__all__}
    assert [direction(n) for n in ("loss", "accuracy", "expected_calibration_error", "confusion_matrix", "mine")] == [
        "min",
        "max",
        "min",
        None,
        None,
    ]
    assert all(direction(name) == "min" for name in losses.__all__)
