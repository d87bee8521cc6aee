"""Weights of few bits that train: what is kept, what is left to chance, and that both are used like any optimizer.

The last part is a table of all wrappers that are about precision, `quantized` among them.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import assert_close

import jaxnn as nn

BF16, F16 = np.dtype(jnp.bfloat16), np.dtype(np.float16)
few_bits = pytest.mark.parametrize("dtype", [BF16, F16], ids=["bfloat16", "float16"])
KEY = jax.random.key(0)


def starts(dtype):
    """Weights of all sizes: 0, below float16's smallest normal number, ordinary, large."""
    sizes = [0, 6e-8, 1e-6, -3e-5, 6.1e-5, 1e-3, -0.1, 0.5, 1, 1.9921875, -2, 3, 100, -2e4]
    return jnp.asarray(np.repeat(sizes, 8), dtype)


def wishes(steps, n, seed=0):
    """Updates of all sizes, [steps, n], float32."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((steps, n)) * 10.0 ** rng.uniform(-7, 1, (steps, n))).astype(np.float32)


def eager(step, carry, us):
    out = []
    for u in us:
        carry, kept = step(carry, u)
        out.append(kept)
    return jax.tree.map(lambda *xs: np.stack(xs), *out)


WAYS = {
    "eager": eager,
    "jit": lambda step, carry, us: eager(jax.jit(step), carry, us),
    "scan": lambda step, carry, us: jax.jit(partial(jax.lax.scan, step))(carry, us)[1],
}


def wide(x):
    return np.asarray(x).astype(np.float32)


# ---- compensated


@few_bits
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.slow
def test_what_apply_updates_did_not_take_is_kept_to_the_bit(dtype, way):
    opt, p = nn.compensated(optax.identity()), starts(dtype)

    def step(carry, u):
        p, state = carry
        update, state = opt.update(u, state, p)
        p = optax.apply_updates(p, update)
        return (p, state), (p, state["lost"])

    us = wishes(30, p.size)
    ps, losts = way(step, (p, opt.init(p)), jnp.asarray(us))
    p, lost = np.asarray(p), np.zeros_like(p)
    for u, p_after, lost_after in zip(us, np.asarray(ps), np.asarray(losts), strict=True):
        wanted = wide(lost) + u
        np.testing.assert_array_equal(lost_after, ((wide(p) - wide(p_after)) + wanted).astype(dtype))
        # the sum goes on exactly, but for the rounding of what is kept, and no weight is further off than its spacing
        before, after = (
            np.asarray(a, np.float64) + np.asarray(b, np.float64) for a, b in ((p, lost), (p_after, lost_after))
        )
        tiny = float(jnp.finfo(dtype).smallest_subnormal)
        half = np.maximum(np.abs(wide(lost_after)) * float(jnp.finfo(dtype).eps), tiny)
        assert (np.abs(after - (before + u)) <= half + 2e-7 * (np.abs(before) + np.abs(u))).all()
        p, lost = p_after, lost_after


@few_bits
@pytest.mark.slow
def test_updates_too_small_for_a_weight_add_up(dtype):
    def end(opt):
        def step(carry, _):
            p, state = carry
            update, state = opt.update(jnp.full(3, 1e-4, dtype), state, p)
            return (optax.apply_updates(p, update), state), None

        p = jnp.array([1.0, 0.5, 0.0], dtype)
        return jax.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, length=2000)[0][0])(p)

    given = 0.2 * (wide(np.asarray(1e-4, dtype)) / 1e-4)
    np.testing.assert_allclose(wide(end(nn.compensated(nn.sgd(1.0)))), [1 - given, 0.5 - given, -given], atol=4e-3)
    assert end(nn.sgd(1.0))[0] == 1
    np.testing.assert_allclose(
        wide(end(nn.stochastic_rounding(nn.sgd(1.0), KEY)))[:2], [1 - given, 0.5 - given], atol=0.1
    )


def test_float32_gains_its_last_bits():
    us = np.full(4096, 1e-8, np.float32)

    def end(opt):
        def step(carry, u):
            update, state = opt.update(u, carry[1], carry[0])
            return (optax.apply_updates(carry[0], update), state), None

        p = jnp.float32(1)
        return jax.jit(lambda us: jax.lax.scan(step, (p, opt.init(p)), us)[0][0])(us)

    assert end(optax.identity()) == 1
    np.testing.assert_allclose(end(nn.compensated(optax.identity())), 1 + 4096e-8, rtol=1.2e-7)


# ---- stochastic_rounding


def neighbours(exact, dtype):
    """The numbers of `dtype` below and above, equal where `exact` is one; float64."""
    near = exact.astype(dtype)
    side = np.where(near.astype(np.float64) > exact, -np.inf, np.inf).astype(dtype)
    far = np.where(near.astype(np.float64) == exact, near, np.nextafter(near, side)).astype(np.float64)
    return np.minimum(near.astype(np.float64), far), np.maximum(near.astype(np.float64), far)


@few_bits
def test_a_weight_lands_on_a_neighbour_and_on_the_mean_exactly(dtype):
    draws = 4000
    p = starts(dtype)
    p = p[p != 0]
    u = np.asarray(p).astype(np.float32) * np.random.default_rng(1).uniform(-0.4, 0.9, p.size).astype(np.float32)

    def moved(key):
        opt = nn.stochastic_rounding(optax.identity(), key)
        return optax.apply_updates(p, opt.update(jnp.asarray(u), opt.init(p), p)[0])

    ends = np.asarray(jax.jit(jax.vmap(moved))(jax.random.split(KEY, draws))).astype(np.float64)
    exact = (np.asarray(p).astype(np.float32) + u).astype(np.float64)  # the sum is taken in float32
    low, high = neighbours(exact, dtype)
    assert ((ends == low) | (ends == high)).all()
    share = (exact - low) / np.where(high > low, high - low, 1)
    deviation = (high - low) * np.sqrt(share * (1 - share) / draws)
    assert (np.abs(ends.mean(axis=0) - exact) <= 5 * deviation + 1e-6 * (high - low)).all()


@few_bits
def test_what_needs_no_rounding_is_left_alone(dtype):
    p = starts(dtype)
    u = wide(p) * np.float32(0.5)
    sums = wide(p) + u

    def moved(key):
        opt = nn.stochastic_rounding(optax.identity(), key)
        return optax.apply_updates(p, opt.update(jnp.asarray(u), opt.init(p), p)[0])

    ends = wide(jax.jit(jax.vmap(moved))(jax.random.split(KEY, 50)))
    fits = sums == wide(sums.astype(dtype))
    assert 60 <= fits.sum() < fits.size
    assert (ends[:, fits] == sums[None, fits]).all()


def test_chances_differ_by_step_leaf_and_key_and_repeat_with_the_key():
    p = {"a": jnp.ones(512, jnp.bfloat16), "b": jnp.ones(512, jnp.bfloat16)}
    u = jax.tree.map(lambda x: jnp.full(x.shape, 2e-3), p)

    @jax.jit
    def two(key):
        opt = nn.stochastic_rounding(optax.identity(), key)
        first, state = opt.update(u, opt.init(p), p)
        second, _ = opt.update(u, state, p)
        return first["a"], first["b"], second["a"], second["b"]

    draws = [*two(KEY), *two(jax.random.key(1))]
    for i, a in enumerate(draws):
        assert all((a != b).mean() > 0.2 for b in draws[:i])
    assert all((a == b).all() for a, b in zip(two(KEY), two(KEY), strict=True))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_any_implementation_of_keys(impl):
    opt, p = nn.stochastic_rounding(nn.sgd(1.0), jax.random.key(3, impl=impl)), jnp.ones(8, jnp.bfloat16)
    _, state = jax.jit(opt.update)(p, opt.init(p), p)
    assert state["key"].shape == opt.init(p)["key"].shape
    assert (state["key"] != opt.init(p)["key"]).any()


def test_members_have_chances_of_their_own():
    p = jnp.ones(256, jnp.bfloat16)

    def moved(key):
        opt = nn.stochastic_rounding(optax.identity(), key)
        return opt.update(jnp.full(256, 2e-3), opt.init(p), p)[0].astype(jnp.float32)

    keys = jax.random.split(KEY, 3)
    ends, alone = jax.jit(lambda keys: (jax.vmap(moved)(keys), [moved(key) for key in keys]))(keys)
    np.testing.assert_array_equal(ends, np.stack(alone))
    assert (ends[0] != ends[1]).any()
    assert (ends[1] != ends[2]).any()


# ---- what the optimizer within sees


@pytest.mark.parametrize(
    "wrap", [nn.compensated, partial(nn.stochastic_rounding, key=KEY)], ids=["compensated", "stochastic_rounding"]
)
def test_params_gradients_and_moments_are_float32_within(wrap):
    seen = []

    def update(updates, state, params=None, **extra):
        seen.append([str(x.dtype) for x in (updates, state, params)] + sorted(extra))
        return updates, updates

    inner = optax.GradientTransformationExtraArgs(jnp.zeros_like, update)
    opt, p = wrap(inner), jnp.ones(3, jnp.bfloat16)
    u, _ = opt.update(p, opt.init(p), p, value=1.0)
    assert seen == [["float32"] * 3 + ["value"]]
    assert u.dtype == jnp.bfloat16
    for adam in (nn.adam, optax.adam):
        kinds = {str(x.dtype) for x in jax.tree.leaves(wrap(adam(0.1)).init(p)["inner"])}
        assert kinds == {"int32", "float32"}


def test_the_optimizer_within_sees_what_is_kept_too():
    seen = []

    def update(updates, state, params=None):
        seen.append(float(params))
        return updates, state

    opt, p = nn.compensated(optax.GradientTransformation(lambda p: (), update)), jnp.ones((), jnp.bfloat16)
    state = opt.init(p)
    for _ in range(3):
        u, state = opt.update(jnp.float32(2**-10), state, p)
        p = optax.apply_updates(p, u)
    assert seen == [1, 1 + 2**-10, 1 + 2**-9]


@pytest.mark.parametrize("kind", ["float32", "float64", "complex64", "complex128"])
def test_wider_leaves_pass(kind, x64):
    p = jnp.linspace(1, 2, 8).astype(kind)

    @jax.jit
    def moved(p):
        opts = nn.adam(0.1), nn.stochastic_rounding(nn.adam(0.1), KEY), nn.compensated(nn.adam(0.1))
        return [opt.update(p / 3, opt.init(p), p) for opt in opts]

    (want, _), (drawn, _), (u, state) = moved(p)
    assert drawn.dtype == u.dtype == state["lost"].dtype == p.dtype
    assert_close(drawn, want)
    assert_close((p + u) + state["lost"], p + want)


# ---- used like any optimizer

WRAPPED = {
    "compensated": lambda rate, key: nn.compensated(nn.adam(rate)),
    "stochastic_rounding": lambda rate, key: nn.stochastic_rounding(optax.adam(rate), key),
    "quantized": lambda rate, key: nn.quantized(nn.adam(rate), block=8, min_size=16),
    "compensated quantized": lambda rate, key: nn.compensated(nn.quantized(optax.adam(rate), block=8, min_size=16)),
}
every = pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)


def tree(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": jnp.asarray(rng.standard_normal((6, 5)), jnp.bfloat16),
        "none": None,
        "b": [jnp.asarray(rng.standard_normal(5), jnp.float32)],
    }


GRADS = [tree(seed) for seed in (1, 2, 3, 4)]
STACKED = jax.tree.map(lambda *gs: jnp.stack(gs), *GRADS)


def one_by_one(opt, update):
    p, state = tree(), opt.init(tree())
    for g in GRADS:
        u, state = update(g, state, p)
        p = optax.apply_updates(p, u)
    return p


def scanned(opt, grads=STACKED):
    def step(carry, g):
        with jax.numpy_dtype_promotion("standard"):  # optax's wrappers are not strict
            u, state = opt.update(g, carry[1], carry[0])
        return (optax.apply_updates(carry[0], u), state), None

    return jax.lax.scan(step, (tree(), opt.init(tree())), grads)[0][0]


def same(a, b):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(wide(x), wide(y), rtol=2 * float(jnp.finfo(x.dtype).eps), atol=1e-6),
        a,
        b,
    )


@every
@pytest.mark.slow
def test_eager_and_scan_agree(make):
    opt = make(0.01, KEY)
    want = one_by_one(opt, opt.update)
    moved = jax.tree.map(lambda a, b: np.any(wide(a) != wide(b)), want, tree())
    assert all(jax.tree.leaves(moved))
    same(jax.jit(lambda: scanned(opt))(), want)


@pytest.mark.parametrize("name", ["compensated", "stochastic_rounding"])
def test_a_donated_state_is_nobody_elses(name):
    opt = WRAPPED[name](0.01, KEY)
    update = jax.jit(opt.update, donate_argnums=1)
    first, second = one_by_one(opt, update), one_by_one(opt, update)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.random.key_data(KEY).block_until_ready()  # nor was the key


@every
@pytest.mark.slow
def test_one_trace_for_all_steps_and_rates(make):
    traces = []

    @jax.jit
    def update(rate, g, state, p):
        traces.append(rate)
        return make(rate, KEY).update(g, state, p)

    p = tree()
    state = make(0.1, KEY).init(p)
    for rate, g in zip((0.1, 0.2, 0.3, 0.4), GRADS, strict=True):
        _, state = update(rate, g, state, p)
    assert len(traces) == 1


@every
@pytest.mark.slow
def test_rates_and_seeds_are_vmap(make):
    rates, keys = jnp.array([1e-3, 1e-2, 1e-1]), jax.random.split(KEY, 3)
    swept = jax.jit(jax.vmap(lambda rate, key: scanned(make(rate, key))))(rates, keys)
    for i in range(3):
        same(jax.tree.map(lambda x, i=i: x[i], swept), jax.jit(lambda r, k: scanned(make(r, k)))(rates[i], keys[i]))


@every
@pytest.mark.slow
def test_last_of_a_chain_and_in_multi_steps(make):
    @jax.jit
    def ends():
        opt = make(0.01, KEY)
        half = jax.tree.map(lambda g: g / 2, STACKED)
        twice = jax.tree.map(lambda g: jnp.repeat(g / 2, 2, axis=0), STACKED)  # the mean of two that are equal is exact
        chained = scanned(optax.chain(optax.scale(0.5), opt))
        return scanned(opt, half), chained, scanned(optax.MultiSteps(opt, 2), twice)

    want, chained, in_steps = ends()
    same(chained, want)
    same(in_steps, want)


@every
def test_shapes_alone(make):
    opt, p = make(0.01, KEY), tree()
    state = jax.eval_shape(opt.init, p)
    u, after = jax.eval_shape(opt.update, p, state, p)
    assert after == state
    assert jax.tree.map(lambda x: x.dtype, u) == jax.tree.map(lambda x: x.dtype, p)


@every
def test_no_two_leaves_of_a_state_alias(make):
    p = tree()
    leaves = jax.tree.leaves((p, make(0.01, KEY).init(p)))
    leaves = [x for x in leaves if x.size]
    assert len({x.unsafe_buffer_pointer() for x in leaves}) == len(leaves)


@pytest.mark.parametrize(
    "wrap",
    [nn.compensated, partial(nn.stochastic_rounding, key=KEY), partial(nn.quantized, min_size=1)],
    ids=["compensated", "stochastic_rounding", "quantized"],
)
def test_map_params_reaches_the_moments(wrap):
    opt, p = wrap(nn.adam(0.1)), {"w": jnp.ones((6, 5), jnp.bfloat16)}
    mapped = optax.tree.map_params(
        opt, lambda _, spec: spec, jax.eval_shape(opt.init, p), {"w": "spec"}, transform_non_params=lambda _: 0
    )
    assert mapped["inner"] == {"count": 0, "mu": {"w": "spec"}, "nu": {"w": "spec"}}
    assert mapped.get("lost", {"w": "spec"}) == {"w": "spec"}


# ---- least squares: plain bfloat16 stops where a weight's spacing outgrows the rate


@pytest.mark.parametrize(
    ("make", "dtype", "low", "high"),
    [
        (lambda rate, key: optax.adam(rate), np.dtype("float32"), 0.0, 0.05),
        (lambda rate, key: optax.adam(rate), BF16, 10.0, np.inf),
        (WRAPPED["compensated"], BF16, 0.0, 0.05),
        (WRAPPED["stochastic_rounding"], BF16, 0.0, 0.05),
        (WRAPPED["quantized"], np.dtype("float32"), 0.0, 0.05),
        (WRAPPED["compensated quantized"], BF16, 0.0, 0.05),
    ],
    ids=[
        "float32",
        "optax bf16",
        "compensated",
        "stochastic",
        "quantized",
        "compensated quantized",
    ],
)
@pytest.mark.slow
def test_least_squares(make, dtype, low, high):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1024, 64)).astype(np.float32)
    y = (x @ rng.standard_normal(64) + 0.2 * rng.standard_normal(1024)).astype(np.float32)

    @jax.jit
    def fitted(x, y):
        def loss(w):
            return jnp.mean(jnp.square(x @ w.astype(jnp.float32) - y))

        def step(carry, _):
            w, state = carry
            with jax.numpy_dtype_promotion("standard"):  # optax's own is not strict
                u, state = opt.update(jax.grad(loss)(w), state, w)
            return (optax.apply_updates(w, u), state), None

        opt, w = make(1e-3, KEY), jnp.zeros(64, dtype)
        return loss(jax.lax.scan(step, (w, opt.init(w)), None, length=5000)[0][0])

    assert low <= fitted(x, y) <= high


# ---- errors


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nn.compensated(0.1), TypeError, "compensated: expected an optax.GradientTransformation, got 0.1."),
        (
            lambda: nn.stochastic_rounding(nn.adam, KEY),
            TypeError,
            "stochastic_rounding: expected an optax.GradientTransformation, got the function adam.",
        ),
        (
            lambda: nn.stochastic_rounding(nn.sgd(0.1), 0),
            TypeError,
            "stochastic_rounding: expected one key, as jax.random.key(0) makes it, got 0.",
        ),
        (
            lambda: nn.stochastic_rounding(nn.sgd(0.1), jax.random.PRNGKey(0)),
            TypeError,
            "stochastic_rounding: expected one key, as jax.random.key(0) makes it, got uint32[2].",
        ),
        (
            lambda: nn.stochastic_rounding(nn.sgd(0.1), jax.random.split(KEY)),
            TypeError,
            "stochastic_rounding: expected one key, as jax.random.key(0) makes it, got key<fry>[2].",
        ),
        (
            lambda: nn.compensated(nn.sgd(0.1)).update(jnp.ones(2), nn.compensated(nn.sgd(0.1)).init(jnp.ones(2))),
            ValueError,
            "compensated: expected params, got None. Call update(grads, state, params).",
        ),
        (
            lambda: nn.stochastic_rounding(nn.sgd(0.1), KEY).update(jnp.ones(2), {}),
            ValueError,
            "stochastic_rounding: expected params, got None. Call update(grads, state, params).",
        ),
    ],
    ids=["no optimizer", "a factory", "no key", "raw key", "keys", "no params", "no params, by chance"],
)
def test_errors(call, error, text):
    with pytest.raises(error) as excinfo:
        call()
    assert str(excinfo.value) == text
