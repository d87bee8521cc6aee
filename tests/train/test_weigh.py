"""What a batch weighs: the mean of every step, evaluation and accumulation is a total over a count."""

import functools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close
from _tiers import only

import jaxnn as nn
from jaxnn._means import counted

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
X = RNG.normal(size=(12, 3)).astype(np.float32)
Y = (X @ np.array([[1.0, 2.0], [-2.0, 0.5], [0.5, -1.0]], np.float32) + 1).astype(np.float32)
W = np.array([1, 0.5, 0, 2, 0, 0, 0, 0, 3, 0.25, 1, 1], np.float32)  # nothing counts in 4 to 8
PARTS = {
    "even": [slice(0, 4), slice(4, 8), slice(8, 12)],
    "uneven": [slice(0, 7), slice(7, 10), slice(10, 12)],
    "one by one": [slice(i, i + 1) for i in range(12)],
}


def masked_error(p, y, where=None):
    """A loss that leaves residuals out and says so, as those of `nn.losses`."""
    where = ~jnp.isnan(y) if where is None else where
    error = jnp.where(where, (p - jnp.where(where, y, 0)) ** 2, 0)
    return counted(error, where)


HOLES = np.where(RNG.random(Y.shape) < 0.5, np.nan, Y).astype(np.float32)
HOLES[4:8] = np.nan
BATCHES = {  # data, loss, and the weights of the residuals
    "plain": ((X, Y), nn.losses.squared_error, np.ones(Y.shape)),
    "weights of examples": ((X, Y, W), nn.losses.squared_error, np.repeat(W[:, None], 2, 1)),
    "a mask of residuals": ((X, HOLES, ~np.isnan(HOLES)), nn.losses.squared_error, ~np.isnan(HOLES)),
    "noted by the loss": ((X, HOLES), masked_error, ~np.isnan(HOLES)),
    "both": ((X, HOLES, W), masked_error, ~np.isnan(HOLES) * W[:, None]),
    "integer weights": (
        (X, Y, np.arange(12) % 3),
        nn.losses.squared_error,
        np.repeat(np.arange(12)[:, None] % 3, 2, 1),
    ),
    "a mean": (
        (X, Y),
        lambda p, y: nn.Mean(jnp.sum((p - y)[:, 0] ** 2), jnp.asarray(len(p), jnp.float32)),
        np.ones(Y.shape) * [1, 0],
    ),
    "a number": ((X, Y), lambda p, y: jnp.mean((p - y) ** 2), np.ones(Y.shape)),
}


def trainer(loss, optimizer=None, **how):
    return nn.trainer(nn.dense(2), loss, nn.adamw(0.05) if optimizer is None else optimizer, **how)


def cut(data, part):
    return jax.tree.map(lambda a: a[part], data)


def expected_loss(params, data, weights):
    """Σ w r² / Σ w in float64, as PyTorch's mean with weights or ignore_index divides."""
    r = np.asarray(X, np.float64) @ np.asarray(params["w"]) + np.asarray(params["b"]) - np.nan_to_num(data[1])
    return (weights * r**2).sum() / weights.sum()


@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.slow
def test_the_mean_of_a_step_divides_by_what_counts(case):
    data, loss, weights = BATCHES[case]
    t = trainer(loss, nn.sgd(0.1))
    ts = t.init(KEY, data)
    value, grads = jax.value_and_grad(
        lambda p: (
            jnp.sum(jnp.asarray(weights, jnp.float32) * (X @ p["w"] + p["b"][None] - np.nan_to_num(data[1])) ** 2)
            / np.float32(weights.sum())
        )
    )(ts.params)
    new, metrics = t.step(ts, data)
    assert_close(metrics["loss"], expected_loss(ts.params, data, weights))
    assert_close(value, metrics["loss"])
    for name, g in grads.items():
        assert_close((ts.params[name] - new.params[name]) / 0.1, g, scale=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("case", BATCHES)
@pytest.mark.parametrize("parts", PARTS)
def test_totals_and_counts_of_any_partition_are_those_of_the_set(case, parts):
    data, loss, weights = BATCHES[case]
    t = trainer(loss, regularizer=lambda p: 0.1 * jnp.sum(p["w"] ** 2), metrics={"error": loss})
    ts = t.init(KEY, data)
    penalty = 0.1 * float(jnp.sum(ts.params["w"] ** 2))
    expected = expected_loss(ts.params, data, weights)
    pieces = [t.evaluate(ts, cut(data, part), totals=True) for part in PARTS[parts]]
    whole = {name: sum((p[name] for p in pieces[1:]), pieces[0][name]) for name in pieces[0]}
    np.testing.assert_allclose(whole["loss"].value, expected + penalty, rtol=1e-6)
    np.testing.assert_allclose(whole["error"].value, expected, rtol=1e-6)
    together = t.evaluate(ts, data)
    np.testing.assert_allclose(together["loss"], whole["loss"].value, rtol=1e-6)


@pytest.mark.parametrize(
    "case", only(["both"], ["weights of examples", "a mask of residuals", "noted by the loss", "both"])
)
@pytest.mark.parametrize(
    "how", [{}, {"average": 0.9}, {"average": 0.9, "wrapper": nn.flat}], ids=["plain", "average", "flat"]
)
@pytest.mark.slow
def test_a_batch_in_which_nothing_counts_changes_nothing(case, how):
    data, loss, _ = BATCHES[case]
    model = nn.serial(nn.batch_norm(), nn.dense(2))
    optimizer, average = nn.adamw(0.05, weight_decay=0.1), how.get("average")
    if wrapper := how.get("wrapper"):
        optimizer = wrapper(optimizer)
    t = nn.trainer(model, loss, optimizer, regularizer=lambda p: jnp.sum(p["dense"]["w"] ** 2), average=average)
    ts, _ = t.step(t.init(KEY, data), data)
    for step in (t.step, jax.jit(t.step)):
        new, metrics = step(ts, cut(data, slice(4, 8)))
        assert int(new.step) == int(ts.step) + 1
        assert jax.tree.all(jax.tree.map(np.array_equal, new._replace(step=ts.step), ts))
        assert np.isfinite(metrics["loss"])
    assert float(t.evaluate(ts, cut(data, slice(4, 8)), totals=True)["loss"].count) == 0


@pytest.mark.slow
def test_no_examples_change_nothing():
    t = trainer(nn.losses.squared_error)
    ts, _ = t.step(t.init(KEY, (X, Y)), (X, Y))
    new, metrics = t.step(ts, (X[:0], Y[:0]))
    assert jax.tree.all(jax.tree.map(np.array_equal, new._replace(step=ts.step), ts))
    assert float(metrics["loss"]) == 0


ACCUMULATED = {
    "mean": {},
    "sum": {"use_grad_mean": False},
}


@pytest.mark.parametrize("kind", only(["mean"], ACCUMULATED))
@pytest.mark.parametrize("case", only(["plain", "both"], ["plain", "weights of examples", "noted by the loss", "both"]))
@pytest.mark.parametrize("parts", only(["uneven"], ["even", "uneven"]))
@pytest.mark.slow
def test_accumulation_over_uneven_parts_is_the_one_big_batch(case, parts, kind):
    data, loss, _ = BATCHES[case]
    factor = 1 if kind == "mean" else 3
    regularizer = lambda p: 0.1 * jnp.sum(p["w"] ** 2)  # noqa: E731
    plain = trainer(loss, optax.chain(optax.scale(factor), nn.adamw(0.05)), regularizer=regularizer)
    multi = trainer(loss, optax.MultiSteps(nn.adamw(0.05), 3, **ACCUMULATED[kind]), regularizer=regularizer)
    big, small = (t.init(KEY, data) for t in (plain, multi))
    step = jax.jit(multi.step)
    for _ in range(2):
        big, _ = plain.step(big, data)
        for part in PARTS[parts]:
            small, _ = step(small, cut(data, part))
    assert int(small.opt_state.gradient_step) == 2
    for name in big.params:
        np.testing.assert_allclose(small.params[name], big.params[name], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_equal_parts_have_the_bits_of_multisteps_itself():
    multi = optax.MultiSteps(nn.adam(0.05), 3)
    t = trainer(nn.losses.squared_error, multi)
    ts = t.init(KEY, (X, Y))
    params, state = ts.params, multi.init(ts.params)
    for part in PARTS["even"] * 2:
        x, y = cut((X, Y), part)
        with jax.numpy_dtype_promotion("standard"):
            g = jax.grad(lambda p, x=x, y=y: jnp.mean(nn.losses.squared_error(nn.dense(2).apply(p, {}, x)[0], y)))(
                params
            )
            updates, state = multi.update(g, state, params)
            params = optax.apply_updates(params, updates)
        ts, _ = t.step(ts, (x, y))
        assert jax.tree.all(jax.tree.map(np.array_equal, ts.params, params))


@pytest.mark.slow
def test_a_cycle_in_which_nothing_counts_moves_nothing():
    data = BATCHES["weights of examples"][0]
    t = trainer(nn.losses.squared_error, optax.MultiSteps(nn.adamw(0.05), 2), average=0.5)
    ts = t.init(KEY, data)
    for part in PARTS["even"][::2]:
        ts, _ = t.step(ts, cut(data, part))
    nothing = cut(data, slice(4, 8))
    half, _ = t.step(ts, nothing)
    assert (int(half.opt_state.mini_step), int(ts.opt_state.gradient_step)) == (1, 1)
    new, _ = t.step(half, nothing)
    assert int(new.opt_state.mini_step) == 0
    same = partial(jax.tree.map, np.array_equal)
    assert jax.tree.all(same((new.params, new.average, new.opt_state), (ts.params, ts.average, ts.opt_state)))


@pytest.mark.slow
def test_parts_rejected_by_multisteps_do_not_count():
    """A step that is not finite is skipped, and the others are the one big batch."""
    multi = optax.MultiSteps(nn.sgd(0.1), 2, should_skip_update_fn=optax.skip_not_finite)
    t, plain = trainer(nn.losses.squared_error, multi), trainer(nn.losses.squared_error, nn.sgd(0.1))
    ts, big = t.init(KEY, (X, Y)), plain.init(KEY, (X, Y))
    step = jax.jit(t.step)
    ts, _ = step(ts, (X[:7], Y[:7]))
    ts, _ = step(ts, (X[:3] * np.inf, Y[:3]))
    ts, _ = step(ts, (X[7:], Y[7:]))
    big, _ = plain.step(big, (X, Y))
    for name in big.params:
        np.testing.assert_allclose(ts.params[name], big.params[name], rtol=1e-6, atol=1e-6)


# A model of tokens with ignored labels; the values are those of PyTorch's cross_entropy(ignore_index=-1).

TOKENS = np.random.default_rng(0).integers(0, 5, (300, 4))
LABELS = (TOKENS + 1) % 5
LABELS[256:] = TOKENS[256:]
LABELS[256:, 1:] = -1


def cross_entropy(p, y):
    """-log softmax(p)_y with label -1 ignored."""
    live = y >= 0
    y = jnp.where(live, y, 0)
    value = jax.nn.logsumexp(p, axis=-1) - jnp.take_along_axis(p, y[..., None], axis=-1)[..., 0]
    return counted(jnp.where(live, value, 0), live)


LANGUAGE = nn.trainer(nn.serial(nn.embed(5, 4), nn.dense(5)), cross_entropy, nn.sgd(0.0))


def of_tokens(ts, tokens, labels):
    p = np.asarray(nn.predict(nn.serial(nn.embed(5, 4), nn.dense(5)), ts.params, ts.state, tokens), np.float64)
    log_p = p - np.log(np.exp(p).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, np.maximum(labels, 0)[..., None], -1)[..., 0][labels >= 0].mean()


@pytest.mark.slow
def test_the_run_and_a_feed_measure_the_whole_set():
    data = TOKENS, LABELS
    ts = LANGUAGE.init(KEY, data)
    expected = of_tokens(ts, *data)
    run = nn.drive(LANGUAGE, KEY, data, data, epochs=1, batch_size=100, progress=False)
    np.testing.assert_allclose(run.history["valid"]["loss"][0], expected, rtol=1e-6)
    parts = [cut(data, part) for part in (slice(250, 257), slice(257, 260), slice(260, 262))]
    expected = of_tokens(ts, TOKENS[250:262], LABELS[250:262])
    run = nn.drive(LANGUAGE, KEY, data, lambda epoch: parts, epochs=1, batch_size=100, progress=False)
    np.testing.assert_allclose(run.history["valid"]["loss"][0], expected, rtol=1e-6)


@pytest.mark.slow
def test_under_vmap_jit_and_bf16():
    data = BATCHES["both"][0]
    t = trainer(masked_error)

    def run(key):
        return nn.fit(t, key, data, data, epochs=3, batch_size=5)

    keys = jax.random.split(KEY, 2)
    runs = jax.jit(jax.vmap(run))(keys)
    for i in range(2):
        one = jax.jit(run)(keys[i])
        assert_close(runs.history["valid"]["loss"][i], one.history["valid"]["loss"])
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), data)
    ts = t.init(KEY, half)
    ts, metrics = t.step(ts, half)
    assert np.isfinite(metrics["loss"])


# Padded predictions.


@pytest.mark.slow
def test_steps_after_the_end_of_a_sequence_do_not_count():
    lengths = np.array([3, 1, 0, 2])
    x = RNG.normal(size=(4, 3, 3)).astype(np.float32)
    y = RNG.normal(size=(4, 3, 2)).astype(np.float32)
    hold = np.arange(3)[None] >= lengths[:, None]
    spoiled = np.where(hold[..., None], np.nan, x), np.where(hold[..., None], np.nan, y)

    def apply(params, state, x, *, key=None, train=False):
        y, state = nn.call(nn.dense(2), "dense", params, state, x.zeroed, key=key, train=train)
        return nn.Padded(jnp.where(x.mask[..., None], y, jnp.nan), x.lengths), state

    model = nn.layer(None, apply, "padded", padded="seen")
    t = nn.trainer(model, nn.losses.squared_error, nn.sgd(0.1), metrics={"error": nn.losses.absolute_error})
    batch = nn.Padded(jnp.asarray(spoiled[0]), jnp.asarray(lengths)), spoiled[1]
    ts = t.init(KEY, batch)
    new, metrics = t.step(ts, batch)
    r = (x @ np.asarray(ts.params["dense"]["w"]) - y)[~hold]
    assert_close(metrics["loss"], (r**2).mean())
    assert_close(metrics["error"], np.abs(r).mean())
    assert bool(jnp.isfinite(new.params["dense"]["w"]).all())
    targets = batch[0], nn.Padded(jnp.asarray(spoiled[1]), jnp.asarray(lengths))
    assert_close(t.evaluate(ts, targets)["loss"], metrics["loss"])
    weights = np.array([2.0, 1.0, 5.0, 0.0], np.float32)
    w = np.repeat(weights[:, None], 3, 1)[~hold][:, None]
    assert_close(t.evaluate(ts, (*batch, weights))["loss"], (w * r**2).sum() / (w.sum() * 2))
    assert_close(t.evaluate(ts, (*batch, np.repeat(weights[:, None], 3, 1)))["loss"], (w * r**2).sum() / (w.sum() * 2))


# Metrics.


def share(p, y, *, weights=None):
    """A metric that takes the mean itself."""
    right = (p[..., 0] > y[..., 0]).astype(jnp.float32)
    return jnp.mean(right) if weights is None else jnp.sum(weights * right) / jnp.sum(weights)


def first_output(p, y, weights=1.0):
    """The mean of the first output as a Mean."""
    w = jnp.broadcast_to(weights, len(p))
    return nn.Mean(jnp.sum(w * p[:, 0]), jnp.sum(w))


@pytest.mark.slow
def test_metrics_go_by_the_weights():
    metrics = {
        "each": lambda p, y: jnp.abs(p - y),
        "mean": first_output,
        "share": share,
        "accuracy": lambda p, y, weights=None: nn.metrics.accuracy(p, jnp.argmax(y, -1), weights=weights),
    }
    t = trainer(nn.losses.squared_error, metrics=metrics)
    ts = t.init(KEY, (X, Y, W))
    got = t.evaluate(ts, (X, Y, W))
    p = X @ np.asarray(ts.params["w"]) + np.asarray(ts.params["b"])
    w = W / W.sum()
    assert_close(got["each"], (np.abs(p - Y).mean(1) * w).sum())
    assert_close(got["mean"], (p[:, 0] * w).sum())
    assert_close(got["share"], ((p[:, 0] > Y[:, 0]) * w).sum())
    assert_close(got["accuracy"], ((p.argmax(1) == Y.argmax(1)) * w).sum())
    parts = [t.evaluate(ts, cut((X, Y, W), part), totals=True) for part in PARTS["uneven"]]
    for name in ("each", "mean", "share"):
        whole = parts[0][name] + parts[1][name] + parts[2][name]
        assert_close(whole.value, got[name])


@pytest.mark.slow
def test_weights_of_examples_reach_a_metric_of_residuals():
    y = jnp.asarray(TOKENS[:3])
    t = nn.trainer(
        nn.serial(nn.embed(5, 4), nn.dense(5)),
        nn.losses.softmax_cross_entropy,
        nn.sgd(0.1),
        metrics={"accuracy": nn.metrics.accuracy},
    )
    ts = t.init(KEY, (y, y))
    w = np.array([1.0, 0.0, 3.0], np.float32)
    p = np.asarray(nn.predict(nn.serial(nn.embed(5, 4), nn.dense(5)), ts.params, ts.state, y))
    right = (p.argmax(-1) == TOKENS[:3]).mean(1)
    assert_close(t.evaluate(ts, (y, y, w))["accuracy"], (right * w).sum() / 4)


@pytest.mark.slow
def test_a_trainer_without_totals_is_weighed_by_examples():
    t = trainer(nn.losses.squared_error)
    other = nn.Trainer(t.init, t.step, lambda ts, batch: t.evaluate(ts, batch))
    parts = [cut((X, Y), part) for part in PARTS["uneven"]]
    run = nn.drive(other, KEY, (X, Y), lambda epoch: parts, epochs=1, progress=False)
    assert_close(run.history["valid"]["loss"][0], t.evaluate(run.ts, (X, Y))["loss"])


def doubled(f):
    """A decorator that says what it wraps."""
    return functools.wraps(f)(lambda p, y: 2 * f(p, y))


@pytest.mark.parametrize("loss", [jax.jit(masked_error), partial(jax.jit(masked_error), where=None)])
@pytest.mark.slow
def test_a_jitted_loss_says_what_counts_each_time(loss):
    expected = told(masked_error, (X, HOLES))["loss"]
    for _ in range(2):
        assert_close(told(loss, (X, HOLES))["loss"], expected)


def test_a_decorator_under_jit_stays():
    plain = told(nn.losses.squared_error, (X, Y))["loss"]
    assert_close(told(jax.jit(doubled(nn.losses.squared_error)), (X, Y))["loss"], 2 * plain)


def told(loss, batch, **how):
    t = trainer(loss, **how)
    return t.evaluate(t.init(KEY, batch), batch)


ERRORS = {
    "what counts is lost": (
        lambda: told(lambda p, y: jnp.mean(masked_error(p, y)), (X, HOLES)),
        TypeError,
        "trainer: expected loss to return the result of a loss of nn.losses, which leaves residuals out or weighs "
        "them, got float32[] computed from it, without its count. "
        "Return the loss itself, or nn.Mean(total, count).",
    ),
    "a number without weights": (
        lambda: told(lambda p, y: jnp.mean((p - y) ** 2), (X, Y, W)),
        TypeError,
        "trainer: expected loss to be a function that knows the weights of the batch, got one that returns a mean. "
        "Return one value for each example or residual, or give it the parameter weights=.",
    ),
    "a metric without weights": (
        lambda: told(nn.losses.squared_error, (X, Y, W), metrics={"bias": lambda p, y: jnp.mean(p - y)}),
        TypeError,
        "trainer: expected bias to be a function that knows the weights of the batch, got one that returns a mean. "
        "Return one value for each example or residual, or give it the parameter weights=.",
    ),
    "shape": (
        lambda: told(nn.losses.squared_error, (X, Y, W[:, None])),
        ValueError,
        "trainer: expected weights of the first axes of loss, [12, 2], got float32[12, 1]. "
        "They are those of examples, [n], or of residuals.",
    ),
    "no numbers": (
        lambda: told(nn.losses.squared_error, (X, Y, np.ones(12, complex))),
        TypeError,
        "trainer: expected the weights of a batch to be an array [n, ...], got complex128[12]. "
        "They are numbers or booleans, one for each example or each residual.",
    ),
    "a mean per example": (
        lambda: told(lambda p, y: nn.Mean(jnp.sum((p - y) ** 2, 1), jnp.ones(12)), (X, Y)),
        ValueError,
        "trainer: expected the total of a Mean to be one number, got float32[12]. Sum over the batch.",
    ),
    "sequences": (
        lambda: told(nn.losses.squared_error, (X[:, None], nn.Padded(Y[:, None], np.ones(12, np.int32)), W[:3])),
        ValueError,
        "trainer: expected weights of shape [12] or [12, 1], that of the sequences, got float32[3].",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    act, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        act()
    assert str(excinfo.value) == text


COLUMN, ROW = X[:, :1], X[:, 0]


class Graded(NamedTuple):
    """A target of two arrays."""

    value: jax.Array
    weight: jax.Array


def graded(p, y):
    return y.weight[:, None] * (p - y.value) ** 2


def boxes(p, y):
    return (p["a"] - y["a"]) ** 2 + (p["b"] - y["b"]) ** 2


def heads(params, state, x, *, key=None, train=False):
    y, state = nn.dense(2).apply(params, state, x)
    return {"a": y, "b": y}, state


TWO_HEADS = nn.layer(lambda key, x: nn.dense(2).init(key, x), heads, "heads")
PYTREES = {  # model, loss, target, and the residuals of params that are all 1
    "named": (nn.dense(2), graded, Graded(Y, W), lambda r: W[:, None] * r**2),
    "tuple": (nn.dense(2), lambda p, y: graded(p, Graded(*y)), (Y, W), lambda r: W[:, None] * r**2),
    "dict": (TWO_HEADS, boxes, {"a": Y, "b": 0 * Y}, lambda r: r**2 + (r + Y) ** 2),
    "none": (nn.dense(2), lambda p, y: p**2, None, lambda r: (r + Y) ** 2),
}


@pytest.mark.parametrize("weighted", only([True], [False, True]))
@pytest.mark.parametrize("case", only(["named"], PYTREES))
@pytest.mark.slow
def test_predictions_and_targets_are_any_pytree(case, weighted):
    model, loss, target, error = PYTREES[case]
    t = nn.trainer(model, loss, nn.sgd(0.1), metrics={"error": loss})
    batch = (X, target, np.arange(12.0, dtype=np.float32)) if weighted else (X, target)
    ts = t.init(KEY, batch)
    ts = ts._replace(params=jax.tree.map(jnp.ones_like, ts.params))
    w = np.arange(12) if weighted else np.ones(12)
    expected = (w[:, None] * error(X @ np.ones((3, 2)) + 1 - Y)).sum() / w.sum() / 2
    assert_close(t.evaluate(ts, batch)["error"], expected)
    new, metrics = t.step(ts, batch)
    assert_close(metrics["loss"], expected)
    assert bool(jnp.any(new.params["w"] != 1))
    run = nn.fit(t, KEY, batch, batch, epochs=1, batch_size=4)
    assert bool(jnp.isfinite(run.history["train"]["error"]).all())


@pytest.mark.parametrize("promotion", ["allow", "raise"])
@pytest.mark.parametrize(
    "loss", [lambda p, y: (p - y) ** 2, lambda p, y: jnp.mean(jnp.abs(y - p)), jax.jit(lambda p, y: (p - y) ** 2)]
)
@pytest.mark.slow
def test_a_loss_that_broadcasts_columns_with_rows_is_refused(loss, promotion):
    t = nn.trainer(nn.dense(1), loss, nn.sgd(0.1))
    with jax.numpy_rank_promotion(promotion):
        ts = t.init(KEY, (X, ROW))
        for _ in range(2):
            with pytest.raises(ValueError, match=r"^trainer: ") as excinfo:
                t.step(ts, (X, ROW))
    assert str(excinfo.value) == (
        "trainer: expected a loss of prediction and target of equal shape, got float32[12, 1] and float32[12], "
        "broadcast to [12, 12]. Reshape one of them, for example y[:, None]."
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, y: (p - y[:, None]) ** 2,
        lambda p, y: (p[:, 0] - y) ** 2,
        lambda p, y: jnp.mean((p - p.T) ** 2 + (y[:, None] - y[None]) ** 2),  # pairs, and meant
    ],
)
@pytest.mark.slow
def test_a_loss_that_reshapes_is_not(loss):
    t = nn.trainer(nn.dense(1), loss, nn.sgd(0.1))
    with jax.numpy_rank_promotion("allow"):
        ts, _ = t.step(t.init(KEY, (X, ROW)), (X, ROW))
    assert bool(jnp.isfinite(ts.params["w"]).all())
