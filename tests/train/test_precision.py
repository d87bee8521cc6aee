"""Mixed precision: the dtypes of every product, sum and exponential of a step, from its jaxpr; and runs that learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

import jaxnn as nn

KEY = jax.random.key(0)
NARROW = ["bfloat16", "float16"]


def scale(params, state, x, *, key, train):
    """A layer of a user, who has not cast its param: under standard promotion its output is float32."""
    with jax.numpy_dtype_promotion("standard"):
        return x * params["factor"], state


SCALE = nn.layer(lambda key, x: ({"factor": jnp.ones(())}, {}), scale, "scale")
TOKENS = jnp.zeros((8, 5), jnp.int32)
BLOCK = nn.encoder_block(2, causal=True, rate=0.1, dropout=0.1)

# Model, input, targets, and the products of a step: those of the forward pass, and for each a gradient of each factor
# that is trained or depends on params.
MODELS = {
    "mlp": (nn.serial(nn.dense(8), nn.batch_norm(), nn.relu, nn.dense(4)), jnp.ones((8, 6)), 5),
    "cnn": (
        nn.serial(
            nn.conv(8, 3), nn.batch_norm(), nn.relu, nn.max_pool(2), nn.conv(8, 3), nn.group_norm(2), nn.gelu,
            nn.global_avg_pool(), nn.dense(4),
        ),
        jnp.ones((8, 6, 6, 2)),
        8,
    ),
    "images of uint8": (
        nn.serial(lambda x: x.astype(jnp.float32) / 255, nn.conv(4, 3), nn.flatten(), nn.dense(4)),
        jnp.ones((8, 6, 6, 1), jnp.uint8),
        5,
    ),
    "lstm": (nn.serial(nn.embed(16, 8), nn.lstm(8), nn.dense(4)), TOKENS, 9),
    "transformer": (
        nn.serial(nn.embed(16, 8), nn.learned_positions(5), BLOCK, nn.repeat(BLOCK, 2), nn.layer_norm(), nn.dense(4)),
        TOKENS,
        2 * 3 * 8 + 3,
    ),
    "a layer of a user": (nn.serial(nn.embed(16, 8), SCALE, nn.dense(4)), TOKENS, 3),
}  # fmt: skip


def operations(jaxpr, index=frozenset()):
    """Equations of a program for accelerators, inner ones too; `index`: variables that choose the platform."""
    index = set(index)
    for eqn in jaxpr.eqns:
        yield eqn
        index |= set(eqn.outvars) if eqn.primitive.name == "platform_index" else set()
        chooses = [not isinstance(v, Literal) and v in index for v in eqn.invars]
        inner = [j for value in eqn.params.values() for j in inside(value)]
        if eqn.primitive.name == "cond":
            inner = inner[-1:] if chooses[0] else inner  # the last branch is that of all platforms but CPUs
            chooses = chooses[1:]
        for j in inner:
            same = len(j.invars) == len(chooses)
            yield from operations(j, {v for v, c in zip(j.invars, chooses, strict=True) if c} if same else ())


def inside(value):
    if isinstance(value, ClosedJaxpr | Jaxpr):
        return [getattr(value, "jaxpr", value)]
    return [j for part in value for j in inside(part)] if isinstance(value, tuple | list) else []


def step_of(name, precision, **how):
    model, x, count = MODELS[name]
    loss = nn.losses.softmax_cross_entropy
    t = nn.trainer(model, loss, nn.adam(1e-3), precision=precision, regularizer=nn.regularizers.l2(1e-3), **how)
    return t, (x, jnp.zeros(x.shape[: 2 if x.ndim == 2 and x.dtype == jnp.int32 else 1], jnp.int32)), count


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("name", MODELS)
def test_products_have_narrow_factors_and_all_sums_and_exponentials_are_float32(name, precision):
    t, batch, count = step_of(name, precision, metrics={"accuracy": nn.metrics.accuracy}, average=0.9)
    ts = jax.eval_shape(t.init, KEY, batch)
    with nn.compiler.plain_forms():
        program = jax.make_jaxpr(t.step, return_shape=True)(ts, batch)
    products, wide = [], set()
    for eqn in operations(program[0].jaxpr):
        dtypes = {v.aval.dtype.name for v in eqn.invars if jnp.issubdtype(v.aval.dtype, jnp.floating)}
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            products.append(dtypes)
        elif eqn.primitive.name in WIDE and dtypes:
            wide |= {(eqn.primitive.name, *dtypes)}
    assert products == [{precision}] * count
    assert {dtype for _, *dtypes in wide for dtype in dtypes} == {"float32"}
    assert {"exp", "log1p", "reduce_sum", "reduce_max", "sqrt"} <= {name for name, *_ in wide}
    after, metrics = program[1]
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), ts)
    floating = [a for a in jax.tree.leaves((after, metrics, jax.eval_shape(t.gradients, ts, batch))) if is_floating(a)]
    assert {a.dtype.name for a in floating} == {"float32"}


# Sums, also those of scattered gradients and of norms; functions whose error grows with their argument.
WIDE = {"exp", "exp2", "log", "log1p", "expm1", "logistic", "tanh", "erf", "erf_inv", "rsqrt", "sqrt"}
WIDE |= {"reduce_sum", "reduce_max", "reduce_window_sum", "cumsum", "scatter-add", "div", "integer_pow"}


def is_floating(a):
    return jnp.issubdtype(a.dtype, jnp.floating)


@pytest.mark.parametrize("precision", [*NARROW, jnp.float32, None])
def test_evaluation_and_prediction_compute_in_the_precision_of_the_run(precision):
    t, (x, y), _ = step_of("mlp", precision)
    ts = t.init(KEY, (x, y))
    scores = nn.predict(t.model, ts, x)
    plain = nn.predict(MODELS["mlp"][0], ts, x)
    assert scores.dtype == jnp.float32
    narrow = jnp.dtype(precision or "float32")
    assert np.array_equal(scores, scores.astype(narrow).astype(jnp.float32))
    assert np.array_equal(scores, plain) == (narrow == jnp.float32)
    loss = nn.losses.softmax_cross_entropy(scores, y).mean() + nn.regularizers.l2(1e-3)(ts.params)
    np.testing.assert_allclose(t.evaluate(ts, (x, y))["loss"], loss, rtol=1e-6)
    assert t.outcome(ts, (x, y))[0].dtype == jnp.float32
    assert (ts.loss_scale is None) == (precision != "float16")


X = np.random.default_rng(0).integers(0, 8, (64, 6)).astype(np.int32)
Y = (X[:, 0] > X[:, 1]).astype(np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("precision", NARROW)
def test_it_learns_and_a_driven_run_has_the_bits_of_fit(precision):
    model = nn.serial(nn.embed(8, 16), nn.flatten(), nn.dense(32), nn.batch_norm(), nn.relu, nn.dense(2))
    metrics = {"accuracy": nn.metrics.accuracy}
    t = nn.trainer(model, nn.losses.softmax_cross_entropy, nn.adam(0.01), metrics=metrics, precision=precision)
    how = {"epochs": 20, "batch_size": 16}
    run = nn.drive(t, KEY, (X, Y), (X, Y), progress=False, **how)
    assert run.history["valid"]["accuracy"].max() > 0.95
    fit = jax.jit(partial(nn.fit, t, **how), compiler_options=nn.compiler_options())(KEY, (X, Y), (X, Y))
    jax.tree.map(np.testing.assert_array_equal, run, fit)


@pytest.mark.slow
def test_gradients_of_a_bias_are_summed_in_float32():
    """In bfloat16 256 + 1 is 256, so that a sum of many ones in it stays there."""
    x = jnp.ones((4, 40, 40, 2))
    for model in (nn.conv(3, 1), nn.dense(3), nn.serial(nn.conv(3, 1), lambda x: x.reshape(6400, 1, 3), POSITIONS)):
        params, state = model.init(KEY, x)
        run = nn.cast(model, "bfloat16")
        got = jax.grad(lambda p, run=run, state=state: run.apply(p, state, x)[0].sum())(params)
        sums = [g for path, g in jax.tree_util.tree_leaves_with_path(got) if g.shape in ((3,), (1, 3))]
        assert [g.tolist() for g in sums if g.ndim == 1] == [[6400.0] * 3]
        assert all(np.array_equal(g, jnp.full(g.shape, 6400.0)) for g in sums)


POSITIONS = nn.learned_positions(1)
