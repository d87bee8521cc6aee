"""Every loss against its float64 formula and its peers, in value and gradient, at the edges, weighted and masked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from _close import TOLERANCE, assert_close
from jax.test_util import check_grads

from jaxnn import losses
from jaxnn.losses import absolute_error, binary_cross_entropy, softmax_cross_entropy, squared_error
from tests.losses import test_table, test_whole_batch

INF, NAN = np.inf, np.nan
DTYPES = [*TOLERANCE]
K = 5
N = (4, 3)  # residuals in a batch


@dataclass(frozen=True)
class Case:
    f: Callable
    target: Callable  # rng -> targets of a batch of N
    reference: Callable  # float64 prediction and target of one residual -> loss
    slope: Callable  # the same -> derivative by the prediction
    peer: Callable  # optax
    classes: bool = False  # the prediction has an axis of K classes
    rubbish: int = 0  # a target of integers or booleans that a mask has to hide


def one_hot(y, x):
    return np.eye(K)[y] if np.ndim(y) == 0 else y


def bits(rng):
    return rng.integers(0, 2, N)


def cross_entropy(x, y):
    return -np.sum(one_hot(y, x) * np.log(np.exp(x) / np.sum(np.exp(x))))


BINARY = {
    "f": binary_cross_entropy,
    "reference": lambda x, y: (
        -scipy.special.xlogy(y, 1 / (1 + np.exp(-x))) - scipy.special.xlogy(1 - y, 1 / (1 + np.exp(x)))
    ),
    "slope": lambda x, y: scipy.special.expit(x) - y,
    "peer": optax.sigmoid_binary_cross_entropy,
}
CLASSES = {
    "f": softmax_cross_entropy,
    "reference": cross_entropy,
    "slope": lambda x, y: scipy.special.softmax(x) - one_hot(y, x),
    "classes": True,
}

CASES = {
    "softmax_cross_entropy": Case(
        target=lambda rng: rng.integers(0, K, N),
        peer=optax.softmax_cross_entropy_with_integer_labels,
        rubbish=-1,
        **CLASSES,
    ),
    "softmax_cross_entropy(one_hot)": Case(
        target=lambda rng: np.eye(K)[rng.integers(0, K, N)], peer=optax.softmax_cross_entropy, **CLASSES
    ),
    "softmax_cross_entropy(soft)": Case(
        target=lambda rng: rng.dirichlet(np.ones(K), N), peer=optax.softmax_cross_entropy, **CLASSES
    ),
    "binary_cross_entropy": Case(target=lambda rng: rng.uniform(0, 1, N), **BINARY),
    "binary_cross_entropy(int)": Case(target=bits, rubbish=-7, **BINARY),
    "binary_cross_entropy(bool)": Case(target=lambda rng: bits(rng) == 1, rubbish=True, **BINARY),
    "squared_error": Case(
        squared_error,
        lambda rng: rng.normal(0, 2, N),
        lambda p, t: (p - t) ** 2,
        lambda p, t: 2 * (p - t),
        optax.squared_error,
    ),
    "squared_error(int)": Case(
        squared_error,
        lambda rng: rng.integers(-3, 4, N),
        lambda p, t: (p - t) ** 2,
        lambda p, t: 2 * (p - t),
        optax.squared_error,
        rubbish=99,
    ),
    "absolute_error": Case(
        absolute_error,
        lambda rng: rng.normal(0, 2, N),
        lambda p, t: max(p - t, t - p),
        lambda p, t: 1.0 if p > t else -1.0,
        lambda p, t: optax.huber_loss(p, t, delta=1e-8) / 1e-8,
    ),
}

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
named = pytest.mark.parametrize("name", CASES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def batch(case: Case, dtype: str = "float32", seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """A prediction in `dtype`; targets in it too if they are floating, else int32 or bool."""
    rng = np.random.default_rng(seed)
    prediction = jnp.asarray(rng.normal(0, 3, (*N, K) if case.classes else N), dtype)
    target = case.target(rng)
    return prediction, jnp.asarray(target, dtype if target.dtype == np.float64 else None)


def one_by_one(f: Callable, prediction: jax.Array, target: jax.Array) -> np.ndarray:
    p, t = np.asarray(prediction).astype(np.float64), np.asarray(target)
    t = t if t.dtype.kind in "iu" else t.astype(np.float64)
    return np.asarray([[f(p[i, j], t[i, j]) for j in range(N[1])] for i in range(N[0])])


def gradient(f: Callable, prediction: jax.Array, target: jax.Array, **options) -> jax.Array:
    return jax.grad(lambda p: jnp.sum(f(p, target, **options)))(prediction)


def wide(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


def test_every_public_name_has_a_row():
    alone = {name.split("(")[0] for name in [*CASES, *test_table.CASES]}
    whole = {name for name in losses.__all__ if hasattr(test_whole_batch, name)}
    assert alone | whole == set(losses.__all__)
    assert list(losses.__all__) == sorted(losses.__all__)


@cache
def compiled(dtype: str) -> dict:
    """What jit, grad, vmap and scan make of every case, in one program: compiling is what costs."""

    def of(f, p, t):
        results = {"value": f(p, t), "gradient": gradient(f, p, t)}
        if dtype == "float32":
            results["vmapped"] = jax.vmap(jax.vmap(f))(p, t)
            results["per_example"] = jax.vmap(jax.vmap(jax.grad(f)))(p, t)
            results["scanned"] = jax.lax.scan(lambda _, pt: (None, f(*pt)), None, (p, t))[1]
        return results

    with jax.enable_x64(dtype == "float64"):
        batches = {name: batch(case, dtype) for name, case in CASES.items()}
        return jax.jit(lambda batches: {name: of(CASES[name].f, *pt) for name, pt in batches.items()})(batches)


@named
@dtypes
@pytest.mark.slow
def test_value_and_gradient(name, dtype):
    case, jitted = CASES[name], compiled(dtype)[name]
    with jax.enable_x64(dtype == "float64"):
        prediction, target = batch(case, dtype)
        value = case.f(prediction, target)
    assert (value.shape, str(value.dtype)) == (N, wide(dtype))
    assert_close(value, one_by_one(case.reference, prediction, target))
    assert_close(jitted["value"], value)
    slope = jitted["gradient"]
    assert (slope.shape, str(slope.dtype)) == (prediction.shape, dtype)
    assert_close(slope, one_by_one(case.slope, prediction, target))


@named
@pytest.mark.slow
def test_transformations(name):
    case, jitted = CASES[name], compiled("float32")[name]
    prediction, target = batch(case)
    singles = jnp.stack([case.f(prediction[i, j], target[i, j]) for i in range(4) for j in range(3)]).reshape(N)
    for value in (jitted["value"], jitted["vmapped"], jitted["scanned"]):
        assert_close(value, singles)
    assert_close(jitted["gradient"], gradient(case.f, prediction, target))
    assert_close(jitted["per_example"], gradient(case.f, prediction, target))


@every
@pytest.mark.slow
def test_optax_agrees(case):
    prediction, target = batch(case)
    value = case.f(prediction, target)
    with jax.numpy_dtype_promotion("standard"):
        assert_close(value, case.peer(prediction, target))


@every
@pytest.mark.slow
def test_derivatives_by_differences(case, x64):
    """Of the loss by its target, and of its gradient: the gradient has its formula above."""
    prediction, target = batch(case, "float64")
    close = {"order": 1, "atol": 1e-6, "rtol": 1e-6}
    check_grads(jax.jit(lambda p: gradient(case.f, p, target)), (prediction,), modes=("fwd",), **close)
    if jnp.issubdtype(target.dtype, jnp.floating):
        check_grads(jax.jit(case.f), (prediction, target), modes=("rev",), **close)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_empty(case, dtype):
    prediction, target = batch(case, dtype)
    for rows in ((slice(0), slice(None)), (slice(None), slice(0))):
        p, t = prediction[rows], target[rows]
        value, slope = jax.jit(lambda p, t: (case.f(p, t), gradient(case.f, p, t)))(p, t)
        assert (value.shape, value.dtype) == (p.shape[:2], jnp.float32)
        assert (slope.shape, slope.dtype) == (p.shape, p.dtype)
    assert jnp.isnan(jnp.mean(value))


@every
def test_numpy_arrays(case):
    prediction, target = batch(case)
    assert_close(case.f(np.asarray(prediction, np.float64), np.asarray(target)), case.f(prediction, target))


@every
@dtypes
def test_low_precision_is_computed_in_float32(case, dtype):
    prediction, target = batch(case, dtype if dtype != "float64" else "float32")
    floating = jnp.issubdtype(target.dtype, jnp.floating)
    exact = case.f(prediction.astype(jnp.float32), target.astype(jnp.float32) if floating else target)
    assert (case.f(prediction, target) == exact).all()


# Weights and masks


@every
@dtypes
def test_weights_multiply(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        prediction, target = batch(case, dtype)
        weights = jnp.asarray(np.random.default_rng(1).uniform(0, 2, N), dtype)
        value = case.f(prediction, target)
        for w in (weights, weights[0, 0], 0.25, 3, np.float64(1.5), jnp.asarray([[0, 1, 2]] * 4)):
            weighted = case.f(prediction, target, weights=w)
            assert weighted.dtype == value.dtype
            assert_close(weighted, np.asarray(value, np.float64) * np.asarray(w).astype(np.float64))
        slope = jax.grad(lambda w: jnp.sum(case.f(prediction, target, weights=w)))(weights)
        assert_close(slope, value, dtype=dtype)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_a_mask_hides_anything(case, dtype):
    mask = np.asarray([[True, False, True], [True] * 3, [False] * 3, [False, True, True]])

    @jax.jit
    def everything(prediction, target, weights):
        def total(p, w):
            value = case.f(p, target, weights=w, where=mask)
            return value.sum(), value

        (_, value), slopes = jax.value_and_grad(total, (0, 1), has_aux=True)(prediction, weights)
        return value, *slopes, gradient(case.f, prediction, target, where=mask)

    prediction, target = batch(case, dtype)
    weights = jnp.asarray(np.random.default_rng(1).uniform(1, 2, N), dtype)
    clean = everything(prediction, target, weights)
    assert_close(clean[0], np.where(mask, case.f(prediction, target, weights=weights), 0))
    for part in clean:
        assert (part[~mask] == 0).all()

    def spoil(x, rubbish):
        keep = mask[..., None] if x.ndim > mask.ndim else mask
        return jnp.where(
            keep, x, jnp.asarray(rubbish if jnp.issubdtype(x.dtype, jnp.floating) else case.rubbish, x.dtype)
        )

    for rubbish in (NAN, INF, -INF):
        dirty = everything(spoil(prediction, rubbish), spoil(target, rubbish), spoil(weights, rubbish))
        for a, b in zip(clean, dirty, strict=True):
            assert (a == b).all()


@every
def test_a_mask_hides_the_gradient_of_float_targets(case):
    prediction, target = batch(case)
    if jnp.issubdtype(target.dtype, jnp.floating):
        where = jnp.asarray([[True, False, True]] * 4)
        bad = prediction.at[:, 1].set(NAN)
        slope = jax.jit(jax.grad(lambda t: jnp.sum(case.f(bad, t, where=where))))(target)
        assert (slope[:, 1] == 0).all()
        assert (slope[:, ::2] != 0).all()


@every
@pytest.mark.slow
def test_a_mask_of_the_last_batch(case):
    prediction, target = batch(case)
    where = jnp.arange(4)[:, None].repeat(3, 1) < 3
    value = jax.jit(case.f)(prediction, target, where=where)
    assert_close(jnp.mean(value, where=where), case.f(prediction[:3], target[:3]).mean())


# Errors


def message_of(f, *args, **options):
    with pytest.raises((TypeError, ValueError)) as caught:
        f(*args, **options)
    return type(caught.value).__mro__[2].__name__, str(caught.value)


@named
def test_shapes_are_never_broadcast(name):
    case = CASES[name]
    f = case.f.__name__
    prediction, target = batch(case)
    names = "prediction and target" if "error" in f else "logits and labels"
    for p, t in (
        (prediction, target[:1]),
        (prediction, target[0]),
        (prediction[0, :1], target),
        (prediction, target[None]),
    ):
        kind, message = message_of(case.f, p, t)
        assert kind == "ValueError"
        dt = str(t.dtype)
        p_shape, t_shape = ", ".join(map(str, p.shape)), ", ".join(map(str, t.shape))
        if case.classes:
            labels, shape = ("integer", p.shape[:-1]) if "int" in dt else ("float", p.shape)
            assert message == (
                f"{f}: expected {labels} labels of shape {list(shape)} for logits float32[{p_shape}], "
                f"got {dt}[{t_shape}]. Integers are class numbers, floats are probabilities of all k classes."
            )
        else:
            assert message == (
                f"{f}: expected {names} of equal shape, got float32[{p_shape}] and {dt}[{t_shape}]. "
                "Nothing is broadcast: reshape one of them."
            )


@named
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
def test_predictions_are_floating(name, dtype):
    case = CASES[name]
    prediction, target = batch(case)
    what = "prediction" if "error" in name else "logits"
    shape = ", ".join(map(str, prediction.shape))
    kind, message = message_of(case.f, prediction.astype(dtype), target)
    assert kind == "TypeError"
    assert message == (
        f"{case.f.__name__}: expected {what} of a floating dtype, got {dtype}[{shape}]. "
        "Cast it: jnp.asarray(x, jnp.float32)."
    )


@named
def test_weights_and_masks_fit(name):
    case = CASES[name]
    f, args = case.f.__name__, batch(case)
    mask = jnp.ones(N, bool)
    mask_of_bool, loss_shape = "where of a boolean dtype", "of shape [4, 3], that of the loss"
    real = "weights of a floating or integer dtype"
    leaves_out, not_broadcast = "It is a mask: False leaves a residual out.", "Nothing is broadcast."
    for options, kind, expected, got, fix in (
        ({"where": mask[0]}, "ValueError", f"where {loss_shape}", "bool[3]", not_broadcast),
        ({"where": True}, "ValueError", f"where {loss_shape}", "True", not_broadcast),
        ({"where": mask.astype(jnp.float32)}, "TypeError", mask_of_bool, "float32[4, 3]", leaves_out),
        ({"where": [True]}, "TypeError", mask_of_bool, "[True]", leaves_out),
        ({"weights": jnp.ones(3)}, "ValueError", f"weights {loss_shape}", "float32[3]", not_broadcast),
        ({"weights": jnp.ones((4, 3, 1))}, "ValueError", f"weights {loss_shape}", "float32[4, 3, 1]", not_broadcast),
        ({"weights": mask}, "TypeError", real, "bool[4, 3]", "A mask is passed as where=."),
        ({"weights": [1.0]}, "TypeError", real, "[1.0]", "A mask is passed as where=."),
    ):
        assert message_of(case.f, *args, **options) == (kind, f"{f}: expected {expected}, got {got}. {fix}")


def test_labels_and_targets_of_other_kinds():
    x = jnp.zeros((2, 3))
    assert message_of(softmax_cross_entropy, x, jnp.zeros((2, 3), bool)) == (
        "TypeError",
        "softmax_cross_entropy: expected integer or float labels, got bool[2, 3]. "
        "Pass an array of class numbers or of probabilities; cast one-hot booleans.",
    )
    assert message_of(softmax_cross_entropy, jnp.zeros((2, 0)), jnp.zeros(2, jnp.int32)) == (
        "ValueError",
        "softmax_cross_entropy: expected logits of shape [..., k] with k >= 1, got float32[2, 0]. "
        "The last axis holds the classes.",
    )
    assert message_of(softmax_cross_entropy, jnp.zeros(()), jnp.zeros(())) == (
        "ValueError",
        "softmax_cross_entropy: expected logits of shape [..., k] with k >= 1, got float32[]. "
        "The last axis holds the classes.",
    )
    for f, what in ((binary_cross_entropy, "labels"), (squared_error, "target"), (absolute_error, "target")):
        assert message_of(f, x, x.astype(jnp.complex64)) == (
            "TypeError",
            f"{f.__name__}: expected {what} of a real dtype, got complex64[2, 3].",
        )
        assert message_of(f, x, [1.0]) == ("TypeError", f"{f.__name__}: expected {what} of a real dtype, got [1.0].")


def test_the_trap_of_n_1_against_n():
    kind, message = message_of(squared_error, jnp.zeros((4, 1)), jnp.zeros(4))
    assert kind == "ValueError"
    assert message == (
        "squared_error: expected prediction and target of equal shape, got float32[4, 1] and float32[4]. "
        "Nothing is broadcast: reshape one of them."
    )
    jitted = jax.jit(jax.vmap(squared_error))
    assert message_of(jitted, jnp.zeros((2, 4, 1)), jnp.zeros((2, 4)))[1] == message
