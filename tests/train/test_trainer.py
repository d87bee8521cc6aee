"""The trainer: one step against the same step by hand, what it measures, what it freezes, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close

import jaxnn as nn


def data(n=12, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(dtype)
    return jnp.asarray(x), jnp.asarray(x @ np.array([[1.0], [-2.0], [0.5]], dtype) + 1)


def by_hand(params, x, y, steps, lr, decay=0.0, frozen=()):
    """Adam on the mean squared error of an affine map, in float64 NumPy as Kingma & Ba write it."""
    p = {k: np.asarray(v, np.float64) for k, v in params.items()}
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = {k: np.zeros_like(a) for k, a in p.items()}
    losses = []
    for t in range(1, steps + 1):
        r = x @ p["w"] + p["b"] - y
        losses.append((r**2).mean() + decay * (p["w"] ** 2).sum())
        grads = {"w": 2 * x.T @ r / r.size + 2 * decay * p["w"], "b": 2 * r.sum(0) / r.size}
        for k, g in grads.items():
            if k not in frozen:
                m[k] = 0.9 * m[k] + 0.1 * g
                v[k] = 0.999 * v[k] + 0.001 * g**2
                p[k] = p[k] - lr * (m[k] / (1 - 0.9**t)) / (np.sqrt(v[k] / (1 - 0.999**t)) + 1e-8)
    return p, losses


@pytest.mark.parametrize("adam", [nn.adam, optax.adam], ids=["ours", "optax"])
@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize("frozen", [(), ("b",)])
@pytest.mark.slow
def test_steps_are_those_of_the_paper(x64, adam, decay, frozen):
    x, y = data(dtype=np.float64)
    regularizer = None if decay is None else lambda p: decay * (p["w"] ** 2).sum()
    t = nn.trainer(nn.dense(1), nn.losses.squared_error, adam(0.1), regularizer=regularizer, frozen=frozen)
    ts = t.init(jax.random.key(0), (x, y))
    assert isinstance(t, nn.Trainer)
    assert isinstance(ts, nn.TrainState)
    expected, losses = by_hand(ts.params, x, y, 5, 0.1, decay or 0.0, frozen)
    traces = []

    @jax.jit
    def step(ts, batch):
        traces.append(1)
        return t.step(ts, batch)

    for loss in losses:
        ts, metrics = step(ts, (x, y))
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    for name in expected:  # optax and we differ from the paper by rounding in the bias correction alone
        np.testing.assert_allclose(ts.params[name], expected[name], rtol=1e-5)
    assert int(ts.step) == 5
    assert len(traces) == 1


@pytest.mark.slow
def test_metrics_are_those_of_the_predictions():
    x, y = data()
    metrics = {"bias": lambda p, y: (p - y).mean(), "all": lambda p, y: (p > y).all(), "count": lambda p, y: p.shape[0]}
    t = nn.trainer(nn.dense(1), nn.losses.absolute_error, nn.sgd(0.1), metrics=metrics)
    ts = t.init(jax.random.key(0), (x, y))
    got = t.evaluate(ts, (x, y))
    r = np.asarray(x) @ np.asarray(ts.params["w"]) + np.asarray(ts.params["b"]) - np.asarray(y)
    expected = {"loss": np.abs(r).mean(), "bias": r.mean(), "all": float((r > 0).all()), "count": 12.0}
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == jnp.float32
        assert_close(got[name], value, dtype=jnp.float32)
    _, stepped = t.step(ts, (x, y))
    for name in got:
        assert_close(stepped[name], got[name])


@pytest.mark.slow
def test_frozen_paths_keep_their_params_and_have_no_optimizer_state():
    x, y = data()
    model = nn.serial(nn.serial(nn.dense(4), nn.tanh, name="body"), nn.dense(1, name="head"))
    t = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1), frozen="body/*")
    start = t.init(jax.random.key(0), (x, y))
    ts, _ = t.step(start, (x, y))
    assert jax.tree.all(jax.tree.map(np.array_equal, ts.params["body"], start.params["body"]))
    assert not np.array_equal(ts.params["head"]["w"], start.params["head"]["w"])
    kept = jax.tree_util.tree_leaves_with_path(ts.opt_state)
    names = [jax.tree_util.keystr(path) for path, _ in kept]
    assert any("head" in name for name in names)
    assert not any("body" in name for name in names)
    everything = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1), frozen=["*"])
    ts, _ = everything.step(everything.init(jax.random.key(0), (x, y)), (x, y))
    assert jax.tree.all(jax.tree.map(np.array_equal, ts.params, start.params))


MASKED = {
    "all params": nn.adamw(
        0.1, weight_decay=0.5, mask={"body": {"dense": {"w": True, "b": False}}, "head": {"w": True, "b": False}}
    ),
    "upper levels": nn.adamw(0.1, weight_decay=0.5, mask={"body": False, "head": {"w": True, "b": False}}),
    "the trained params": nn.adamw(0.1, weight_decay=0.5, mask={"head": {"w": True, "b": False}}),
    "patterns": nn.adamw(0.1, weight_decay=0.5, mask=["body/*/w", "head/w"]),
    "a function": nn.adamw(0.1, weight_decay=0.5, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p)),
    "optax, a function": optax.adamw(0.1, weight_decay=0.5, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p)),
    "MultiSteps": optax.MultiSteps(nn.adamw(0.1, weight_decay=0.5, mask=["body/*/w", "head/w"]), 1),
}


@pytest.mark.parametrize("case", MASKED)
@pytest.mark.slow
def test_a_decay_mask_of_all_params_does_with_frozen_ones(case):
    """What is trained moves as with a mask of these params alone: weights decay, biases do not."""
    x, y = data()
    model = nn.serial(nn.serial(nn.dense(4), nn.tanh, name="body"), nn.dense(1, name="head"))
    t = nn.trainer(model, nn.losses.squared_error, MASKED[case], frozen="body/*")
    plain = nn.trainer(model, nn.losses.squared_error, nn.adam(0.1), frozen="body/*")
    start = t.init(jax.random.key(0), (x, y))
    ts, _ = t.step(start, (x, y))
    still, _ = plain.step(plain.init(jax.random.key(0), (x, y)), (x, y))
    assert_close(ts.params["head"]["b"], still.params["head"]["b"], scale=1.0)
    assert_close(ts.params["head"]["w"], still.params["head"]["w"] - 0.1 * 0.5 * start.params["head"]["w"], scale=1.0)
    assert jax.tree.all(jax.tree.map(np.array_equal, ts.params["body"], start.params["body"]))


@pytest.mark.slow
def test_a_game_of_two_players():
    """x² / 2 - y² / 2 + x y: one descends in x, the other climbs in y, each at the other's standstill."""

    def game(p, q):
        return p**2 / 2 - q**2 / 2 + p * q

    def objective(params, state, batch, *, key, train):
        p, q = params["p"], params["q"]
        still = jax.lax.stop_gradient
        return game(p, still(q)) - game(still(p), q), (state, {"value": game(p, q)})

    t = nn.objective_trainer(lambda key, batch: ({"p": jnp.ones(()), "q": jnp.ones(())}, {}), objective, nn.sgd(0.1))
    ts = t.init(jax.random.key(0), None)
    p = q = 1.0
    for _ in range(20):
        ts, metrics = t.step(ts, None)
        assert_close(metrics["value"], game(p, q), scale=1.0)
        p, q = p - 0.1 * (p + q), q + 0.1 * (p - q)
    assert_close(ts.params["p"], p, scale=1.0)
    assert_close(ts.params["q"], q, scale=1.0)


def test_the_optimizer_gets_what_it_asks_for():
    seen = {}

    def update(grads, state, params=None, *, value, grad, value_fn, **_):
        seen.update(value=value, again=value_fn(params), grad=grad["w"])
        return jax.tree.map(lambda g: -g, grads), state

    x, y = data()
    optimizer = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    t = nn.trainer(nn.dense(1, bias=False), nn.losses.squared_error, optimizer)
    ts = t.init(jax.random.key(0), (x, y))
    _, metrics = t.step(ts, (x, y))
    r = np.asarray(x) @ np.asarray(ts.params["w"]) - np.asarray(y)
    assert_close(seen["value"], (r**2).mean())
    assert_close(seen["again"], metrics["loss"])
    assert_close(seen["grad"], 2 * np.asarray(x).T @ r / r.size)


def hoarder():
    """An optimizer whose state holds params as they came, twice."""
    return optax.GradientTransformation(lambda p: (p, p), lambda g, s, p=None: (jax.tree.map(lambda a: -0.1 * a, g), s))


OPTIMIZERS = [nn.adam(0.1), optax.adam(0.1), optax.chain(optax.clip(1.0), nn.sgd(0.1)), hoarder()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["ours", "optax", "chain", "hoarder"])
@pytest.mark.slow
def test_the_whole_state_can_be_donated(optimizer):
    x, y = data()
    t = nn.trainer(nn.serial(nn.dense(4), nn.batch_norm(), nn.dense(1)), nn.losses.squared_error, optimizer)
    key = jax.random.key(0)
    ts = t.init(key, (x, y))
    held = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(ts)]
    assert len(set(held)) == len(held)
    new, _ = jax.jit(t.step, donate_argnums=0)(ts, (x, y))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(ts))
    assert bool(jnp.isfinite(new.params["dense"]["w"]).all())
    assert not x.is_deleted()
    assert not key.is_deleted()


def test_init_owns_what_the_user_hands_out():
    w = jnp.ones(3)
    t = nn.objective_trainer(
        lambda key, batch: ({"a": w, "b": w}, {}),
        lambda p, s, b, *, key, train: ((p["a"] * p["b"]).sum(), (s, {})),
        nn.sgd(0.1),
    )
    jax.jit(t.step, donate_argnums=0)(t.init(jax.random.key(0), None), None)
    assert w.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.slow
def test_typed_and_raw_keys_are_the_same(impl):
    x, y = data()
    t = nn.trainer(nn.serial(nn.dropout(0.5), nn.dense(1)), nn.losses.squared_error, nn.sgd(0.1))
    key = jax.random.key(3, impl=impl)
    a, b = (t.init(k, (x, y)) for k in (key, jax.random.key_data(key)))
    assert a.key.dtype == jnp.uint32
    for _ in range(2):
        (a, loss), (b, other) = t.step(a, (x, y)), t.step(b, (x, y))
        assert jax.tree.all(jax.tree.map(np.array_equal, (a, loss), (b, other)))
    again, _ = t.step(a, (x, y))
    assert not np.array_equal(again.params["dense"]["w"], a.params["dense"]["w"])


@pytest.mark.slow
def test_each_step_draws_anew_and_evaluation_never():
    x, y = data()
    t = nn.trainer(nn.serial(nn.dense(8), nn.dropout(0.5), nn.dense(1)), nn.losses.squared_error, nn.sgd(0.0))
    ts = t.init(jax.random.key(0), (x, y))
    ts, first = t.step(ts, (x, y))
    ts, second = t.step(ts, (x, y))
    assert float(first["loss"]) != float(second["loss"])
    assert float(t.evaluate(ts, (x, y))["loss"]) == float(t.evaluate(ts._replace(step=ts.step + 9), (x, y))["loss"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_params_keep_their_dtype(dtype):
    x, y = jax.tree.map(lambda a: a.astype(dtype), data())
    t = nn.trainer(nn.dense(1), nn.losses.squared_error, nn.adam(0.05))
    ts = t.init(jax.random.key(0), (x, y))
    cast = ts._replace(params=jax.tree.map(lambda a: a.astype(dtype), ts.params))
    cast, metrics = t.step(cast, (x, y))
    assert {a.dtype for a in jax.tree.leaves(cast.params)} == {jnp.dtype(dtype)}
    assert bool(jnp.isfinite(metrics["loss"]))


def make(**changes):
    given = {"model": nn.dense(1), "loss": nn.losses.squared_error, "optimizer": nn.sgd(0.1)} | changes
    return nn.trainer(given.pop("model"), given.pop("loss"), given.pop("optimizer"), **given)


def shapeless(loss, metrics):
    t = nn.objective_trainer(
        lambda key, batch: ({"w": jnp.zeros(())}, {}),
        lambda p, s, b, *, key, train: (loss + p["w"], (s, metrics)),
        nn.sgd(0.1),
    )
    return t.step(t.init(jax.random.key(0), None), None)


def named_loss(prediction, target):
    return prediction - target


KEY, BATCH = 0, (np.ones((4, 3), np.float32), np.ones((4, 1), np.float32))
ERRORS = {
    "model": (lambda: make(model=7), TypeError, "trainer: expected model to be a Layer, got 7."),
    "factory": (
        lambda: make(model=nn.dense),
        TypeError,
        "trainer: expected a Layer, got its factory dense. Call it: dense(...).",
    ),
    "loss": (
        lambda: make(loss="mse"),
        TypeError,
        "trainer: expected loss to be a function (prediction, target) -> loss, "
        "got 'mse'. Pass the function, such as nn.losses.squared_error.",
    ),
    "optimizer": (
        lambda: make(optimizer=nn.adam),
        TypeError,
        "trainer: optimizer is the function adam, not an optimizer. Call it: nn.adam(learning_rate).",
    ),
    "regularizer": (
        lambda: make(regularizer=0.1),
        TypeError,
        "trainer: expected regularizer to be a function of params, got 0.1.",
    ),
    "auxiliary": (
        lambda: make(auxiliary=0.1),
        TypeError,
        "trainer: expected auxiliary to be a dict of patterns of state paths and weights, got 0.1. "
        "Such as {'*balance': 0.01}.",
    ),
    "auxiliary, a weight": (
        lambda: make(auxiliary={"*balance": "much"}),
        TypeError,
        "trainer: expected auxiliary['*balance'] to be a real number, got 'much'. Pass a float.",
    ),
    "auxiliary, no state": (
        lambda: make(auxiliary={"*balance": 0.1}).evaluate(make().init(jax.random.key(0), BATCH), BATCH),
        ValueError,
        "trainer: expected auxiliary to match some of the state, got '*balance'. The model has no state.",
    ),
    "metric": (
        lambda: make(metrics={"accuracy": 1}),
        TypeError,
        "trainer: expected metrics to be a dict of names and functions (prediction, target) -> value, "
        "got {'accuracy': 1}.",
    ),
    "metric loss": (
        lambda: make(metrics={"loss": named_loss}),
        TypeError,
        "trainer: expected metrics to be a dict of names and functions (prediction, target) -> value, "
        "got {'loss': the function named_loss}. 'loss' is the name of the loss.",
    ),
    "precision, another library's name": (
        lambda: make(precision="fp16"),
        TypeError,
        "trainer: expected precision to be float32, bfloat16, float16 or None, got 'fp16'. Did you mean 'float16'?",
    ),
    "precision of Keras": (
        lambda: make(precision="mixed_bfloat16"),
        TypeError,
        "trainer: expected precision to be float32, bfloat16, float16 or None, got 'mixed_bfloat16'. "
        "Did you mean 'bfloat16'?",
    ),
    "precision of products": (
        lambda: make(precision="highest"),
        TypeError,
        "trainer: expected precision to be float32, bfloat16, float16 or None, got 'highest'. "
        "That of products in float32 is jax.default_matmul_precision, or an argument of a layer.",
    ),
    "precision, an integer dtype": (
        lambda: make(precision=jnp.int8),
        TypeError,
        "trainer: expected precision to be float32, bfloat16, float16 or None, got int8.",
    ),
    "precision of 8 bits": (
        lambda: make(precision=jnp.float8_e4m3fn),
        TypeError,
        "trainer: expected precision to be float32, bfloat16, float16 or None, got float8_e4m3fn.",
    ),
    "loss scale, a number": (
        lambda: make(loss_scale=1024.0),
        TypeError,
        "trainer: expected loss_scale to be a LossScale or None, got 1024.0. Write nn.LossScale(2.0**15).",
    ),
    "loss scale of 0": (
        lambda: make(loss_scale=nn.LossScale(0.0)),
        ValueError,
        "trainer: expected value of loss_scale in [5.96046e-08, 1.67772e+07], got 0.0.",
    ),
    "loss scale, its period": (
        lambda: make(loss_scale=nn.LossScale(period=0)),
        ValueError,
        "trainer: expected period of loss_scale to be an integer >= 1, got 0.",
    ),
    "pattern": (
        lambda: make(frozen=["w", "body/*"]).init(jax.random.key(0), BATCH),
        ValueError,
        "trainer: expected frozen to match some of b, w, got 'body/*'.",
    ),
    "optax's mask of all params": (
        lambda: make(optimizer=optax.adamw(0.1, mask={"w": True, "b": False}), frozen="b").init(
            jax.random.key(0), BATCH
        ),
        TypeError,
        "trainer: expected an optimizer whose masks and labels are those of the params that are trained, got one for "
        "all params, of which frozen= leaves some out. Give optax's masks and labels as functions of params; "
        "an optimizer of nn takes those of all params.",
    ),
    "pair": (
        lambda: make().init(jax.random.key(0), BATCH[0]),
        TypeError,
        "trainer: expected a batch (x, y) or (x, y, weights), got float32[4, 3]. "
        "Pass (x, y) as one argument; other batches go through objective_trainer.",
    ),
    "triple": (
        lambda: make().init(jax.random.key(0), (*BATCH, 1)),
        TypeError,
        "trainer: expected the weights of a batch to be an array [n, ...], got 1. "
        "They are numbers or booleans, one for each example or each residual.",
    ),
    "seed": (
        lambda: make().init(0, BATCH),
        TypeError,
        "trainer: expected a key, as jax.random.key(0) makes it, got 0. Pass jax.random.key(0).",
    ),
    "no key": (
        lambda: make().init(jnp.zeros(3, jnp.uint32), BATCH),
        TypeError,
        "trainer: expected a key, as jax.random.key(0) makes it, got uint32[3]. The order is init(key, batch).",
    ),
    "keys": (
        lambda: make().init(jax.random.split(jax.random.key(0), 3), BATCH),
        ValueError,
        "trainer: expected one key, got key<fry>[3]. For a row of them vmap over init or fit, or call drive.",
    ),
    "init": (
        lambda: nn.objective_trainer(None, named_loss, nn.sgd(0.1)),
        TypeError,
        "trainer: expected init to be a function, got None.",
    ),
    "objective": (
        lambda: nn.objective_trainer(named_loss, None, nn.sgd(0.1)),
        TypeError,
        "trainer: expected objective to be a function, got None.",
    ),
    "params": (
        lambda: nn.objective_trainer(lambda k, b: ((jnp.ones(2),), {}), named_loss, nn.sgd(0.1)).init(
            jax.random.key(0), None
        ),
        TypeError,
        "trainer: expected init to return params as a nested dict, got (float32[2],).",
    ),
    "one loss per example": (
        lambda: shapeless(jnp.ones(4), {}),
        ValueError,
        "trainer: expected loss to be one number, the mean over examples, got float32[4].",
    ),
    "one metric per example": (
        lambda: shapeless(jnp.ones(()), {"error": jnp.ones(4)}),
        ValueError,
        "trainer: expected error to be one number, the mean over examples, got float32[4].",
    ),
    "metric named loss": (
        lambda: shapeless(jnp.ones(()), {"error": 1.0, "loss": 1.0}),
        ValueError,
        "trainer: expected metrics under names other than 'loss', got error, loss.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    act, kind, text = ERRORS[case]
    with pytest.raises(kind) as excinfo:
        act()
    assert str(excinfo.value) == text
