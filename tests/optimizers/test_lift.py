"""The lift: the arguments of a rule, trees of all kinds, and rules from outside the library."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.optimizers import adadelta, adam, rmsprop, sgd
from jaxnn.optimizers._decay import WeightDecay
from jaxnn.optimizers._lift import Included, per_leaf, zeros_f32

LR, B1, B2, EPS = 0.01, 0.9, 0.999, 1e-8


def plain(g, s, p, t):
    return g, s


# ---- rules that are not in the library yet: each is one function of one array, and nothing else is needed


def adam_rule(g, s, p, t):
    t = t.count.astype(g.dtype)
    mu, nu = B1 * s["mu"] + (1 - B1) * g, B2 * s["nu"] + (1 - B2) * g**2
    return mu / (1 - B1**t) / (jnp.sqrt(nu / (1 - B2**t)) + EPS), {"mu": mu, "nu": nu}


def amsgrad_rule(g, s, p, t):
    t = t.count.astype(g.dtype)
    mu, nu = B1 * s["mu"] + (1 - B1) * g, B2 * s["nu"] + (1 - B2) * g**2
    top = jnp.maximum(s["nu_max"], nu / (1 - B2**t))
    return mu / (1 - B1**t) / (jnp.sqrt(top) + EPS), {"mu": mu, "nu": nu, "nu_max": top}


def adamax_rule(g, s, p, t):
    mu, nu = B1 * s["mu"] + (1 - B1) * g, jnp.maximum(jnp.abs(g) + EPS, B2 * s["nu"])
    return mu / (1 - B1 ** t.count.astype(g.dtype)) / nu, {"mu": mu, "nu": nu}


def adagrad_rule(g, s, p, t):
    total = s["sum_of_squares"] + g**2
    return g / jnp.sqrt(total + 1e-7), {"sum_of_squares": total}


def lion_rule(g, s, p, t):
    return jnp.sign(0.9 * s["mu"] + 0.1 * g), {"mu": 0.99 * s["mu"] + 0.01 * g}


def radam_rule(g, s, p, t):
    t = t.count.astype(g.dtype)
    mu, nu = B1 * s["mu"] + (1 - B1) * g, B2 * s["nu"] + (1 - B2) * g**2
    m, v = mu / (1 - B1**t), nu / (1 - B2**t)
    top = 2 / (1 - B2) - 1
    rho = top - 2 * t * B2**t / (1 - B2**t)
    r = jnp.sqrt((rho - 4) * (rho - 2) * top / ((top - 4) * (top - 2) * rho))
    return jnp.where(rho >= 5, r * m / (jnp.sqrt(v) + EPS), m), {"mu": mu, "nu": nu}


def rprop_rule(g, s, p, t):  # as optax has it, one step late
    agree = g * s["last"]
    size = jnp.where(agree == 0, s["size"], jnp.clip(s["size"] * jnp.where(agree > 0, 1.2, 0.5), 1e-6, 50.0))
    late = jnp.where(agree < 0, 0.0, s["last"])
    return late, {"size": size, "last": jnp.where(agree < 0, 0.0, size * jnp.sign(g))}


def filled(value):
    return lambda p: jnp.full_like(p, value)


NONE = WeightDecay()
MOMENTS = {"mu": zeros_f32, "nu": zeros_f32}
LATER = {
    "adamw": (
        per_leaf("adamw", MOMENTS, adam_rule, LR, WeightDecay(0.1, decoupled=True)),
        optax.adamw(LR, weight_decay=0.1),
    ),
    "adamw by path": (
        per_leaf("adamw", MOMENTS, adam_rule, LR, WeightDecay(0.1, {"w": True, "b": False}, True)),
        optax.adamw(LR, weight_decay=0.1, mask={"w": True, "b": False}),
    ),
    "amsgrad": (per_leaf("amsgrad", MOMENTS | {"nu_max": zeros_f32}, amsgrad_rule, LR, NONE), optax.amsgrad(LR)),
    "adamax": (per_leaf("adamax", MOMENTS, adamax_rule, LR, NONE), optax.adamax(LR)),
    "adagrad": (per_leaf("adagrad", {"sum_of_squares": filled(0.1)}, adagrad_rule, LR, NONE), optax.adagrad(LR)),
    "lion": (
        per_leaf("lion", {"mu": zeros_f32}, lion_rule, LR, WeightDecay(1e-3, decoupled=True)),
        optax.lion(LR),
    ),
    "radam": (per_leaf("radam", MOMENTS, radam_rule, LR, NONE), optax.radam(LR)),
    "rprop": (per_leaf("rprop", {"size": filled(LR), "last": zeros_f32}, rprop_rule, 1.0, NONE), optax.rprop(LR)),
}


@pytest.mark.parametrize("name", LATER)
@pytest.mark.slow
def test_the_lift_carries_other_rules(name, x64):
    rng = np.random.default_rng(0)
    x = {"w": jnp.asarray(rng.standard_normal((2, 3))), "b": jnp.asarray(rng.standard_normal(3))}
    ours, theirs = LATER[name]
    state, reference = ours.init(x), theirs.init(x)
    for _ in range(8):
        g = jax.tree.map(lambda p: jnp.asarray(rng.standard_normal(p.shape)), x)
        got, state = ours.update(g, state, x)
        with jax.numpy_dtype_promotion("standard"):
            want, reference = theirs.update(g, reference, x)
        for k in x:
            np.testing.assert_allclose(got[k], want[k], rtol=1e-9, atol=1e-14)
        x = jax.tree.map(jnp.add, x, got)


# ---- what a rule is given


def test_a_rule_sees_wide_arrays_and_storage_keeps_its_dtype():
    seen = []

    def rule(g, s, p, t):
        seen.append([str(a.dtype) for a in (g, s["a"], s["b"], p)])
        return g, s

    x = {"h": jnp.ones(2, jnp.bfloat16), "s": jnp.ones(2), "z": jnp.ones(2, jnp.complex64)}
    slots = {"a": lambda p: zeros_f32(p, jnp.float16), "b": lambda p: jnp.zeros(p.shape, jnp.float16)}
    opt = per_leaf("rule", slots, rule, 1.0, NONE)
    u, state = opt.update(x, opt.init(x), x)
    f, c = "float32", "complex64"
    assert seen == [[f, f, f, f], [f, f, f, f], [c, c, f, c]]
    assert jax.tree.map(lambda a: str(a.dtype), u) == {"h": "bfloat16", "s": f, "z": c}
    assert jax.tree.map(lambda a: str(a.dtype), state["a"]) == {"h": "float16", "s": "float16", "z": c}
    assert jax.tree.map(lambda a: str(a.dtype), state["b"]) == dict.fromkeys("hsz", "float16")


def test_what_leaves_share_is_computed_once_for_each_precision(x64):
    calls, given = [], []

    def share(t, dtype):
        calls.append((int(t), str(dtype)))
        return t.astype(dtype)

    def rule(g, s, p, t):
        shared = t.once(share, jnp.finfo(g.dtype).dtype)
        given.append(str(shared.dtype))
        return shared.astype(g.dtype) * g, s

    x = {
        "a": jnp.ones(2, jnp.float32),
        "b": jnp.ones(2, jnp.bfloat16),
        "c": jnp.ones(2, jnp.float64),
        "d": jnp.ones(2, jnp.complex64),
        "e": jnp.ones(2, jnp.complex128),
    }
    opt = per_leaf("rule", {}, rule, 1.0, NONE)
    _, state = opt.update(x, opt.init(x))
    opt.update(x, state)
    assert calls == [(1, "float32"), (1, "float64"), (2, "float32"), (2, "float64")]
    assert given == ["float32", "float32", "float64", "float32", "float64"] * 2


def test_schedules_are_called_once_with_the_updates_so_far():
    counts = []

    def schedule(count):
        counts.append((int(count), str(count.dtype)))
        return 0.5

    opt = per_leaf("rule", {}, plain, schedule, WeightDecay(schedule))
    x = {"a": jnp.ones(2), "b": jnp.ones(2)}
    state = opt.init(x)
    for _ in range(2):
        u, state = opt.update(x, state, x)
        np.testing.assert_array_equal(u["a"], [-0.75, -0.75])
    assert counts == [(0, "int32"), (0, "int32"), (1, "int32"), (1, "int32")]


def test_the_count_stops_at_its_largest_value():
    opt = adam(1.0, nesterov=True)
    state = opt.init(jnp.ones(2)) | {"count": jnp.int32(2**31 - 1)}
    u, state = opt.update(jnp.ones(2), state)
    assert state["count"] == 2**31 - 1
    np.testing.assert_allclose(u, -(0.9 * 0.1 + 0.1) / np.sqrt(0.001), rtol=1e-6)


def test_the_state_is_a_plain_dict():
    state = adam(LR).init(jnp.zeros(2))
    assert type(state) is dict
    assert list(state) == ["count", "mu", "nu"]


def test_a_rule_that_includes_its_rate_has_it_in_decoupled_decay_alone():
    x, g = jnp.full(1, 3.0), jnp.ones(1)
    rate = Included(lambda t: jnp.where(t == 1, 0.5, 0.0))
    for decay, want in ((NONE, -1.0), (WeightDecay(0.25), -1.75), (WeightDecay(0.25, decoupled=True), -1.375)):
        opt = per_leaf("rule", {}, plain, rate, decay)
        assert opt.update(g, opt.init(x), x)[0] == want


# ---- trees


def test_trees_with_none_empty_and_masked_nodes():
    x = {"a": jnp.ones(2), "none": None, "empty": {}, "masked": optax.MaskedNode(), "list": [(), jnp.ones(())]}
    opt = adam(LR)
    u, state = opt.update(x, opt.init(x), x)
    assert jax.tree.structure(u) == jax.tree.structure(x)
    assert jax.tree.structure(state["mu"]) == jax.tree.structure(x)
    np.testing.assert_allclose(jax.tree.leaves(u)[0], [-LR, -LR], rtol=1e-6)


@pytest.mark.parametrize("x", [{}, None, (), {"a": jnp.zeros((0, 3))}], ids=["dict", "none", "tuple", "no elements"])
def test_trees_without_numbers(x):
    opt = adam(LR)
    u, state = opt.update(x, opt.init(x), x)
    assert jax.tree.structure(u) == jax.tree.structure(x)
    assert state["count"] == 1


def test_numpy_and_python_leaves():
    opt = sgd(0.5, 0.5)
    x = {"np": np.ones(2, np.float64), "float": 1.0}
    u, state = opt.update(x, opt.init(x), x)
    u, state = opt.update(x, jax.tree.map(np.asarray, state), x)
    np.testing.assert_array_equal(u["np"], np.full(2, -0.75, np.float32), strict=True)
    np.testing.assert_array_equal(u["float"], np.float32(-0.75), strict=True)
    assert jax.tree.map(lambda a: str(a.dtype), state["trace"]) == {"np": "float32", "float": "float32"}


def test_shapes_are_enough_for_init():
    x = {"w": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)}
    assert adam(LR).init(x)["nu"]["w"].shape == (2, 3)
    assert jax.eval_shape(adam(LR).init, x)["nu"]["w"] == jax.ShapeDtypeStruct((2, 3), jnp.float32)


def test_no_two_leaves_of_a_state_alias():
    x = {"a": jnp.zeros(()), "b": jnp.zeros(3), "c": jnp.zeros((), jnp.bfloat16)}
    leaves = jax.tree.leaves((x, rmsprop(LR, centered=True, momentum=0.9).init(x), adadelta().init(x)))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_the_state_lies_where_the_parameters_lie():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("d",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    state = adam(LR).init(jax.device_put(jnp.ones(4, jnp.bfloat16), sharding))
    assert {state[k].sharding for k in ("mu", "nu")} == {sharding}
