"""The dynamic loss scale against a loop in NumPy, and runs with it: skipped steps, resumption, members, shards."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close

import jaxnn as nn

KEY = jax.random.key(0)
RATE, MOMENTUM = 0.125, 0.5
# Derivatives of the steps: 2^-20 is below the normal numbers of float16, 3e3 overflows at scales above 21.
SLOPES = np.array([1, 2, 2**-20, 3e3, 1, 1, 3e3, 3e3, 1, 2, 1, 1], np.float32)


def product(params, state, slope, *, key, train):
    """w · slope in float16."""
    return (params["w"].astype(jnp.float16) * slope.astype(jnp.float16)).astype(jnp.float32), (state, {})


def line(scale, objective=product):
    """A trainer of one number w, from 1."""
    optimizer = nn.sgd(RATE, momentum=MOMENTUM)
    return nn.objective_trainer(lambda key, batch: ({"w": jnp.ones(())}, {}), objective, optimizer, loss_scale=scale)


def by_hand(scale, period):
    """[(w, momentum, scale, finite steps)] after each step, in float64 with products rounded to float16."""
    w, m, finite, rows = 1.0, 0.0, 0, []
    for slope in SLOPES:
        with np.errstate(over="ignore", under="ignore"):
            scaled = float(np.float16(np.float16(scale) * np.float16(slope)))
        if math.isinf(scaled):
            scale, finite = scale / 2, 0
        else:
            m = scaled / scale + MOMENTUM * m
            w, finite = w - RATE * m, finite + 1
            if finite == period:
                scale, finite = 2 * scale, 0
        rows.append((w, m, scale, finite))
    return np.array(rows)


def test_every_step_is_that_of_the_paper_for_all_members_of_a_vmap():
    starts, period = [8.0, 1024.0, 2.0**15], 3

    def run(start):
        t = line(nn.LossScale(start, period))

        def step(ts, slope):
            ts, _ = t.step(ts, slope)
            momentum = next(a for a in jax.tree.leaves(ts.opt_state) if a.dtype == jnp.float32)
            finite = ts.loss_scale.finite.astype(jnp.float32)
            return ts, jnp.stack([ts.params["w"], momentum, ts.loss_scale.value, finite])

        return jax.lax.scan(step, t.init(KEY, jnp.float32(0)), jnp.asarray(SLOPES))

    ts, rows = jax.jit(jax.vmap(run))(jnp.array(starts))
    for start, found in zip(starts, rows, strict=True):
        assert_close(found, by_hand(start, period))
    assert ts.step.tolist() == [len(SLOPES)] * 3


@pytest.mark.slow
def test_an_overflow_changes_the_step_and_the_scale_alone():
    model = nn.serial(nn.dense(4), nn.batch_norm(), nn.dense(1))
    t = nn.trainer(
        model, nn.losses.squared_error, nn.adam(0.1), average=0.9, precision="float16", loss_scale=nn.LossScale(2.0**10)
    )
    x = jnp.linspace(-1, 1, 12).reshape(4, 3)
    step = jax.jit(t.step, donate_argnums=0)
    before, _ = t.step(t.init(KEY, (x, x[:, :1])), (x, x[:, :1]))
    kept = jax.tree.map(np.asarray, before)
    after, metrics = step(before, (x, 1e6 * x[:, :1]))  # a residual of 1e6 times 2^10 is not a float16
    want = kept._replace(step=kept.step + 1, loss_scale=kept.loss_scale._replace(value=2.0**9, finite=0))
    jax.tree.map(np.testing.assert_array_equal, after, want)
    assert np.isfinite(metrics["loss"])
    again, _ = step(after, (x, x[:, :1]))
    assert not np.array_equal(again.params["dense"]["w"], want.params["dense"]["w"])


def test_without_a_scale_small_gradients_are_0():
    small = partial(nn.trainer, nn.dense(1), lambda p, y: 1e-6 * nn.losses.squared_error(p, y), nn.sgd(0.1))
    batch = jnp.linspace(0.1, 1, 12).reshape(4, 3), jnp.ones((4, 1))
    exact, plain, scaled = (
        t.gradients(t.init(KEY, batch), batch)["w"]
        for t in (
            small(),
            small(precision="float16", loss_scale=nn.LossScale(2.0**-10)),
            small(precision="float16"),
        )
    )
    assert not plain.any()
    assert exact.all()
    np.testing.assert_allclose(scaled, exact, rtol=2e-3)
    assert scaled.dtype == jnp.float32


@pytest.mark.parametrize(
    ("slope", "scale", "finite", "value", "moves"),
    [
        (jnp.nan, 2.0**-23, 5, 2.0**-24, False),
        (jnp.nan, 2.0**-24, 5, 2.0**-24, True),  # the gradient is not finite for another reason than the scale
        (0.0, 2.0**24, 1999, 2.0**24, True),
        (0.0, 3.0, 1999, 6.0, True),
        (0.0, 3.0, 1998, 3.0, True),
    ],
)
def test_the_scale_has_bounds(slope, scale, finite, value, moves):
    def objective(params, state, batch, *, key, train):
        return params["w"] * (1 + batch), (state, {})

    t = line(nn.LossScale(scale, finite=finite), objective)
    ts, _ = t.step(t.init(KEY, jnp.float32(0)), jnp.float32(slope))
    assert ts.loss_scale.value == value
    assert (ts.params["w"] != 1) == moves  # NaN too


X = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
Y = (X[:, :2] @ np.array([[1.0, -1.0, 0.5], [0.5, 1.0, -1.0]], np.float32)).argmax(1).astype(np.int32)
NET = nn.serial(nn.dense(16), nn.batch_norm(), nn.relu, nn.dense(3, name="head"))


def classifier(precision, rate=0.05, **how):
    return nn.trainer(NET, nn.losses.softmax_cross_entropy, nn.adam(rate), precision=precision, **how)


@pytest.mark.slow
def test_a_run_resumes_to_the_bit(tmp_path):
    """With all that holds state: accumulation, an average, frozen params, a regularizer, and a scale that moves."""
    t = nn.trainer(
        NET,
        nn.losses.softmax_cross_entropy,
        optax.MultiSteps(nn.adam(0.05), 2),
        regularizer=nn.regularizers.l2(1e-3),
        frozen="head/b",
        average=0.9,
        precision="float16",
        loss_scale=nn.LossScale(2.0**22, 2),
    )
    whole = nn.drive(t, KEY, (X, Y), epochs=4, batch_size=12, progress=False)
    folder = tmp_path / "run"
    nn.drive(t, KEY, (X, Y), epochs=2, batch_size=12, progress=False, checkpoint=folder)
    resumed = nn.drive(t, KEY, (X, Y), epochs=4, batch_size=12, progress=False, checkpoint=folder)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert 0 < int(whole.ts.opt_state.gradient_step) < 8  # mini-batches that overflow are left out
    nn.save(tmp_path / "ts", whole.ts)
    jax.tree.map(np.testing.assert_array_equal, nn.load(tmp_path / "ts"), whole.ts)
    assert {a.dtype.name for a in jax.tree.leaves((whole.ts.params, whole.ts.state, whole.best))} == {"float32"}


@pytest.mark.slow
def test_members_of_a_sweep_have_scales_of_their_own():
    def run(scale):
        t = classifier("float16", loss_scale=nn.LossScale(scale, 4))
        return nn.fit(t, KEY, (X, Y), epochs=3, batch_size=16).ts.loss_scale

    found = nn.sweep(run, jnp.array([2.0**10, 2.0**24]), progress=False).results
    alone = jax.jit(lambda: run(jnp.float32(2.0**24)))()
    assert found.value[0] == 2.0**12  # doubled twice in nine steps
    jax.tree.map(lambda many, one: np.testing.assert_array_equal(many[1], one), found, alone)


@pytest.mark.slow
def test_shards_skip_a_step_together():
    t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.sgd(0.1), axis_name="shards", precision="float16")
    x, y = jnp.ones((2, 4, 3)), jnp.ones((2, 4, 1)).at[1].set(1e6)
    ts = t.init(KEY, (x[0], y[0]))
    for target, scale in ((y, 2.0**14), (y.at[1].set(1), 2.0**15)):
        new, _ = jax.vmap(t.step, in_axes=(None, 0), axis_name="shards")(ts, (x, target))
        assert new.loss_scale.value.tolist() == [scale, scale]
        skipped = [np.array_equal(w, ts.params["w"]) for w in new.params["w"]]
        assert skipped == [scale < 2.0**15] * 2
