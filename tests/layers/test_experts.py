"""Mixture of experts against a loop over tokens in float64, its losses in a trainer, and what it learns."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

import jaxnn as nn

RNG = np.random.default_rng(0)
quick = partial(jax.jit, compiler_options=nn.compiler_options(quick=True))


def by_loop(params, x, k, capacity_factor, normalize, lengths=None):
    """The output and the state, token by token."""
    w, inner, outer = params["router"]["w"], params["experts"]["up"], params["experts"]["down"]
    experts = w.shape[1]
    examples = x[None] if x.ndim == 2 else x.reshape(len(x), -1, x.shape[-1])
    y, load, mean, z, tokens, dropped = np.zeros(examples.shape), np.zeros(experts), np.zeros(experts), 0.0, 0, 0
    for i, example in enumerate(examples):
        valid = len(example) if lengths is None else lengths[i]
        room = [math.inf if capacity_factor is None else math.ceil(capacity_factor * k * valid / experts)] * experts
        for j in range(valid):
            a = example[j] @ w
            p = np.exp(a) / np.exp(a).sum()
            best = sorted(range(experts), key=lambda e, p=p: (-p[e], e))[:k]
            for e in best:
                load[e] += 1
                if room[e] > 0:
                    h = example[j] @ inner["w"][e] + inner["b"][e]
                    h = h * (1 + erf(h / 2**0.5)) / 2
                    gate = p[e] / sum(p[b] for b in best) if normalize else p[e]
                    y[i, j] += gate * (h @ outer["w"][e] + outer["b"][e])
                dropped += room[e] <= 0
                room[e] -= 1
            mean, z, tokens = mean + p, z + np.log(np.exp(a).sum()) ** 2, tokens + 1
    load, mean = load / (k * tokens), mean / tokens
    numbers = {"balance": experts * load @ mean, "dropped": dropped / (k * tokens), "router_z": z / tokens}
    return y.reshape(x.shape), {"load": load, **numbers}


def drawn(params):
    """Params with no bias of 0."""
    return jax.tree.map(lambda p: RNG.standard_normal(p.shape), params)


@pytest.mark.parametrize(
    ("shape", "k", "capacity_factor", "normalize"),
    [
        ((12, 6), 1, None, None),
        ((12, 6), 2, 0.5, None),
        ((3, 10, 6), 2, 1.25, None),
        ((3, 10, 6), 3, None, False),
        ((3, 10, 6), 1, 1.0, None),
        ((3, 10, 6), 4, 8.0, None),
        ((2, 3, 4, 6), 2, 1.0, False),
    ],
)
@pytest.mark.usefixtures("x64")
def test_it_is_a_loop_over_tokens(shape, k, capacity_factor, normalize):
    model = nn.mixture_of_experts(4, k=k, hidden=5, capacity_factor=capacity_factor, normalize=normalize)
    x = RNG.standard_normal(shape)
    params, state = model.init(jax.random.key(0), x)
    assert state["balance"].dtype == jnp.float64
    params = drawn(params)
    y, state = quick(model.apply)(params, state, x)
    want = by_loop(params, x, k, capacity_factor, k > 1 if normalize is None else normalize)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), (y, state), want)


@pytest.mark.usefixtures("x64")
def test_padding_takes_no_capacity():
    model = nn.mixture_of_experts(4, hidden=5, capacity_factor=0.75)
    x, lengths = RNG.standard_normal((3, 9, 6)), np.array([9, 0, 4])
    params, state = model.init(jax.random.key(0), nn.Padded(x, lengths))
    params = drawn(params)
    y, state = quick(model.apply)(params, state, nn.Padded(x, lengths))
    want = by_loop(params, x, 2, 0.75, True, lengths)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12), (y.x, state), want)


@pytest.mark.slow
def test_of_equal_logits_the_lower_index_is_chosen_and_earlier_tokens_come_first():
    model = nn.mixture_of_experts(5, k=2, expert=lambda x: x, capacity_factor=0.5)
    y, state = model.apply({"router": {"w": jnp.zeros((3, 5))}}, {}, jnp.ones((2, 10, 3)))
    assert state["load"].tolist() == [0.5, 0.5, 0, 0, 0]
    assert y[:, :, 0].tolist() == [[1.0] * 2 + [0.0] * 8] * 2  # each expert has room for 0.5 · 2 · 10 / 5


def test_a_later_token_changes_no_earlier_one():
    model = nn.mixture_of_experts(4, hidden=5, capacity_factor=0.5)
    x = jnp.asarray(RNG.standard_normal((2, 12, 6)), jnp.float32)
    params, state = model.init(jax.random.key(0), x)
    apply = quick(lambda x: model.apply(params, state, x))
    (y, state), (changed, _) = apply(x), apply(x.at[:, 7:].set(1.0))
    assert state["dropped"] > 0.3
    np.testing.assert_array_equal(y[:, :7], changed[:, :7])
    assert not np.array_equal(y[:, 7:], changed[:, 7:])


@pytest.mark.slow
def test_experts_of_ones_own_have_their_own_keys_and_features():
    expert = nn.serial(nn.dense(3, bias=False, w_init=jax.nn.initializers.ones), nn.dropout(0.5))
    model = nn.mixture_of_experts(2, k=1, expert=expert, normalize=True)
    params, state = model.init(jax.random.key(0), jnp.ones((4, 2)))
    assert jax.tree.map(jnp.shape, params) == {"router": {"w": (2, 2)}, "experts": {"dense": {"w": (2, 2, 3)}}}
    params["router"]["w"] = jnp.eye(2)
    x = jnp.repeat(jnp.eye(2), 20, axis=0)
    y, _ = model.apply(params, state, x, key=jax.random.key(1), train=True)
    assert y.shape == (40, 3)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert not np.array_equal(y[:20], y[20:])


@pytest.mark.slow
def test_inner_outputs_are_captured():
    model = nn.serial(nn.mixture_of_experts(3, k=3, hidden=5, name="mixture"))
    x = jnp.asarray(RNG.standard_normal((2, 4, 6)), jnp.float32)
    params, state = model.init(jax.random.key(0), x)
    (y, seen), _ = nn.capture(model, ["mixture/router", "mixture/experts"]).apply(params, state, x)
    logits, outputs = seen.values()
    np.testing.assert_allclose(y, jnp.einsum("nte,entd->ntd", jax.nn.softmax(logits), outputs), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_inside_a_cast_the_router_stays_in_float32():
    model = nn.mixture_of_experts(4, hidden=8, capacity_factor=1.25)
    x = jnp.asarray(RNG.standard_normal((8, 3, 6)), jnp.float32)
    params, state = model.init(jax.random.key(0), x)
    rounded = x.astype(jnp.bfloat16).astype(x.dtype)
    (_, got), (_, want) = nn.cast(model, jnp.bfloat16).apply(params, state, x), model.apply(params, state, rounded)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, strict=True), got, want)


def test_a_capacity_needs_the_number_of_tokens():
    model, x = nn.mixture_of_experts(4, hidden=8, capacity_factor=1.25), jnp.ones((2, 3, 6))
    params, state = model.init(jax.random.key(0), x)
    assert nn.export(model, params, state, x).in_avals[0].shape[1:] == (3, 6)
    with pytest.raises(ValueError, match=r"expected a fixed number of tokens, .* got float32\[n, 6\]. With x of shape"):
        nn.export(model, params, state, x[0])


def test_a_summary_counts_the_operations_of_all_experts():
    table = nn.summary(nn.serial(nn.mixture_of_experts(3, hidden=5, name="mixture")), jnp.ones((2, 4, 6)))
    flops = {row.path: row.flops for row in table.rows}
    assert flops["mixture/experts/up"] == 3 * 2 * 4 * (2 * 6 * 5 + 5)


# Losses in the state.

MODEL = nn.serial(nn.dense(6), nn.residual(nn.mixture_of_experts(4, k=2, hidden=5)), nn.dense(2))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_gradient_of_losses_in_the_state_is_their_difference():
    batch = RNG.standard_normal((16, 3)), RNG.standard_normal((16, 2))
    weights = {"*balance": 0.3, "mixture*/router_z": 0.2}
    trainers = [nn.trainer(MODEL, nn.losses.squared_error, nn.sgd(0.1), auxiliary=a) for a in (weights, None)]
    t, plain = trainers
    ts = t.init(jax.random.key(0), batch)
    (value, _), (without, _) = (quick(lambda ts, t=t: (t.evaluate(ts, batch)["loss"], 0))(ts) for t in trainers)
    state = MODEL.apply(ts.params, ts.state, batch[0])[1]["mixture_of_experts"]
    np.testing.assert_allclose(value - without, 0.3 * state["balance"] + 0.2 * state["router_z"], rtol=1e-12)
    step = jax.tree.map(lambda p: RNG.standard_normal(p.shape), ts.params)

    @quick
    def loss(size):
        moved = jax.tree.map(lambda p, s: p + size * s, ts.params, step)
        return t.evaluate(ts._replace(params=moved), batch)["loss"]

    slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, t.gradients(ts, batch), step)))
    np.testing.assert_allclose(slope, (loss(1e-6) - loss(-1e-6)) / 2e-6, rtol=1e-6)
    assert "balance" in plain.step(ts, batch)[0].state["mixture_of_experts"]


@pytest.mark.slow
def test_without_the_balance_few_experts_get_all_tokens():
    """Four linear maps, one for each kind of token; an expert could learn all of them."""
    rng = np.random.default_rng(0)
    kind, features, maps = rng.integers(0, 4, 512), rng.standard_normal((512, 4)), rng.standard_normal((4, 4, 2))
    x = np.concatenate([np.ones((512, 1)), np.eye(4)[kind], features], axis=1).astype(np.float32)
    y = np.einsum("nd,ndk->nk", features, maps[kind]).astype(np.float32)
    model = nn.mixture_of_experts(4, k=1, expert=nn.serial(nn.dense(16), nn.relu, nn.dense(2)))

    @quick
    @jax.vmap
    def run(weight, key):
        trainer = nn.trainer(model, nn.losses.squared_error, nn.adam(1e-2), auxiliary={"balance": weight})
        params = nn.fit(trainer, key, (x, y), epochs=100, batch_size=128).ts.params
        prediction, state = model.apply(params, {}, x)
        return state["load"], jnp.mean(jnp.square(prediction - y))

    load, error = run(jnp.array([0.0, 0.3, 0.0, 0.3]), jax.random.split(jax.random.key(0))[jnp.array([0, 0, 1, 1])])
    assert (error < 0.1).all()  # y has a variance of 2.9
    assert (load[::2].min(1) < 0.02).all()
    assert (load[::2].max(1) > 0.5).all()
    assert abs(load[1::2] - 0.25).max() < 0.1
