"""Constraints against float64 loops over units: updates that land on them, in chains, at edges, dtypes, errors."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _close import TOLERANCE, assert_close
from jax.test_util import check_grads

import jaxnn as nn
from jaxnn.constraints import max_norm, non_negative, unit_norm

DTYPES = [*TOLERANCE]


def tree(dtype="float32", seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {"stem": {"w": (2, 2, 3, 4), "b": (4,)}, "norm": {"scale": (4,), "bias": (4,)}, "gru": {"w_x": (4, 6)}}
    return jax.tree.map(
        lambda shape: jnp.asarray(scale * rng.normal(size=shape), dtype), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def numbers(x):
    return np.asarray(x).astype(np.float64)


@dataclass(frozen=True)
class Case:
    f: Any
    reference: Any  # of one unit's weights, in float64
    options: dict = field(default_factory=dict)  # those that may be traced


def capped(v, limit):
    return v * min(1.0, limit / max(np.linalg.norm(v), 1e-300))


CASES = {
    "max_norm": Case(max_norm, capped, {"limit": 1.5}),
    "unit_norm": Case(unit_norm, lambda v: v / np.linalg.norm(v)),
    "non_negative": Case(non_negative, lambda v: np.where(v < 0, 0, v)),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def units(x):
    """The weights of each output unit, as rows."""
    return numbers(x).reshape(-1, x.shape[-1]).T


def landed(constraint, params, updates):
    state = constraint.init(params)
    new = jax.jit(lambda updates, params: constraint.update(updates, state, params)[0])(updates, params)
    assert jax.tree.map(lambda u: u.dtype, new) == jax.tree.map(lambda u: u.dtype, updates)
    with jax.numpy_dtype_promotion("standard"):
        return new, optax.apply_updates(params, new)


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_unit_lands(case, dtype):
    with jax.enable_x64(dtype == "float64"):
        params, updates = tree(dtype), tree(dtype, seed=1)
        _, after = landed(case.f(**case.options), params, updates)
        for path in (("stem", "w"), ("gru", "w_x")):
            p, u, x = (units(t[path[0]][path[1]]) for t in (params, updates, after))
            for j in range(len(p)):
                assert_close(x[j], case.reference(p[j] + u[j], **case.options), dtype=dtype, scale=4.0)
        for path in (("stem", "b"), ("norm", "scale"), ("norm", "bias")):  # not weights: the update as it came
            assert (after[path[0]][path[1]] == params[path[0]][path[1]] + updates[path[0]][path[1]]).all()


def test_norms_are_at_the_limit_to_rounding():
    params, updates = tree(), tree(seed=1)
    _, capped_at = landed(max_norm(1.5), params, updates)
    _, unit = landed(unit_norm(), params, updates)
    for name, leaf in (("stem", "w"), ("gru", "w_x")):
        assert np.linalg.norm(units(capped_at[name][leaf]), axis=1).max() <= 1.5 * (1 + 1e-6)
        rows = units(unit[name][leaf])
        assert_close(np.linalg.norm(rows, axis=1), np.ones(len(rows)), dtype="float32")
    assert (np.linalg.norm(units(tree()["stem"]["w"]), axis=1) > 1.6).any()


@pytest.mark.slow
def test_inside_the_ball_the_update_stays_to_the_bit():
    params, updates = tree(scale=0.1), tree(seed=1, scale=0.1)
    new, _ = max_norm(100.0).update(updates, optax.EmptyState(), params)
    jax.tree.map(np.testing.assert_array_equal, new, updates)
    new, _ = non_negative().update(jax.tree.map(jnp.abs, updates), optax.EmptyState(), jax.tree.map(jnp.abs, params))
    jax.tree.map(np.testing.assert_array_equal, new, jax.tree.map(jnp.abs, updates))


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_negative_is_exact_and_as_in_optax(dtype):
    with jax.enable_x64(dtype == "float64"):
        params, updates = jax.tree.map(jnp.abs, tree(dtype)), tree(dtype, seed=1)
        new, after = landed(non_negative(where="*"), params, updates)
        theirs = optax.keep_params_nonnegative()
        expected, _ = theirs.update(updates, theirs.init(params), params)
        jax.tree.map(np.testing.assert_array_equal, new, expected)
        assert all((x >= 0).all() for x in jax.tree.leaves(after))
        assert any((x == 0).any() for x in jax.tree.leaves(after))


@every
def test_edges_of_constraints(case):
    """Columns: zeros, an update that cancels the param, tiny, huge, infinite and not a number."""
    w = jnp.array([[0, 1, 1e-30, 0, np.inf, 1], [0, -2, 0, 0, 1, 1]], jnp.float32)
    u = jnp.array([[0, -1, 0, 3e30, 0, np.nan], [0, 2, 0, 4e30, 0, 0]], jnp.float32)
    _, after = landed(case.f(**case.options), {"w": w}, {"w": u})
    x = numbers(after["w"])
    assert (x[:, :2] == 0).all()
    for j in (2, 3):  # whose squares float32 does not hold
        assert_close(x[:, j], case.reference(numbers(w + u)[:, j], **case.options), dtype="float32")
    assert np.isnan(x[0, 5])
    if case.f is not non_negative:
        assert np.isnan(x[0, 4])  # infinity has no direction, and does not pass for a number
    for shape in ((0, 3), (3, 0), (0,), ()):
        empty, _ = landed(case.f(**case.options), {"w": jnp.ones(shape)}, {"w": jnp.ones(shape)})
        assert empty["w"].shape == shape


@every
def test_gradients_through_a_constraint_are_finite_at_zero(case):
    def loss(u, w):
        return jnp.sum(case.f(**case.options).update({"w": u}, optax.EmptyState(), {"w": w})[0]["w"] ** 2)

    zeros = jnp.zeros((3, 2))
    for g in jax.jit(jax.grad(loss, argnums=(0, 1)))(zeros, zeros):
        assert np.isfinite(g).all()


@pytest.mark.slow
def test_gradients_of_the_norms(x64):
    w, u = tree("float64")["gru"]["w_x"], tree("float64", 1)["gru"]["w_x"]
    for f in (lambda limit, u: max_norm(limit), lambda limit, u: unit_norm()):
        check_grads(
            lambda limit, u, f=f: f(limit, u).update({"w": u}, optax.EmptyState(), {"w": w})[0]["w"],
            (jnp.asarray(1.5), u),
            order=1,
            modes=["rev"],
        )


@every
@pytest.mark.slow
def test_in_a_chain_under_jit_and_vmap_over_seeds(case):
    """Five steps of momentum: on the constraint after every one of them, member by member as alone."""

    def run(params, options):
        optimizer = optax.chain(nn.sgd(0.5, momentum=0.9), case.f(**options))

        def step(carry, g):
            updates, state = optimizer.update(g, carry[1], carry[0])
            params = optax.apply_updates(carry[0], updates)
            return (params, state), params

        grads = jax.tree.map(lambda *gs: jnp.stack(gs), *(tree(seed=s) for s in range(1, 6)))
        return jax.lax.scan(step, (params, optimizer.init(params)), grads)[1]

    starts = jax.tree.map(lambda *ps: jnp.stack(ps), tree(seed=7), tree(seed=8))
    options = {name: jnp.array([value, 2 * value]) for name, value in case.options.items()}
    both = jax.jit(jax.vmap(run))(starts, options)
    one = jax.jit(run)(tree(seed=8), {name: 2 * value for name, value in case.options.items()})
    jax.tree.map(lambda many, alone: assert_close(many[1], alone), both, one)
    for x in (units(step) for step in one["gru"]["w_x"]):
        for v in x:
            assert_close(v, case.reference(v, **{k: 2 * o for k, o in case.options.items()}), dtype="float32")


def test_axes():
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)}
    zero = {"w": jnp.zeros((2, 3, 4))}
    for axis, axes in ((None, (0, 1)), ((0, -1), (0, 2)), (-2, (1,)), ((), ())):
        _, after = landed(unit_norm(axis=axis), params, zero)
        norms = np.sqrt((numbers(after["w"]) ** 2).sum(axes))
        assert_close(norms, np.ones_like(norms), dtype="float32")


def test_where_takes_other_params_for_a_constraint():
    params = tree()
    _, after = landed(unit_norm(where="norm/*", axis=-1), params, jax.tree.map(jnp.zeros_like, params))
    assert_close(np.linalg.norm(numbers(after["norm"]["scale"])), 1.0, dtype="float32")
    np.testing.assert_array_equal(after["stem"]["w"], params["stem"]["w"])


def test_masked_and_mapped():
    mask = {"stem": True, "norm": False, "gru": False}
    optimizer = optax.chain(nn.sgd(0.1, momentum=0.9), optax.masked(unit_norm(), mask))
    params = tree()
    updates, state = optimizer.update(tree(seed=1), optimizer.init(params), params)
    assert_close(np.linalg.norm(units(params["stem"]["w"] + updates["stem"]["w"]), axis=1), np.ones(4), dtype="float32")
    mapped = optax.tree.map_params(optimizer, jnp.zeros_like, state)
    assert not any(x.any() for x in jax.tree.leaves(mapped) if x.ndim)


def test_constraints_in_a_trainer():
    batch = (jnp.ones((4, 3)), 9 * jnp.ones((4, 2)))
    t = nn.trainer(nn.dense(2), nn.losses.squared_error, optax.chain(nn.adam(1.0), max_norm(0.5)))
    ts = t.init(jax.random.key(0), batch)
    step = jax.jit(t.step)
    for _ in range(3):
        ts, _ = step(ts, batch)
        assert_close(np.linalg.norm(units(ts.params["w"]), axis=1), [0.5, 0.5], dtype="float32")


# ---- errors

W = {"w": jnp.ones((2, 3))}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: non_negative(where=3),
            TypeError,
            "non_negative: expected where to be a glob pattern or several, got 3. A pattern is a str such as 'stem/*'.",
        ),
        (
            lambda: unit_norm().update(W, optax.EmptyState(), {"w": jnp.ones((2, 3), jnp.complex64)}),
            TypeError,
            "unit_norm at w: expected a param of a floating dtype, got complex64[2, 3]. "
            "Leave it out by where=patterns.",
        ),
        (
            lambda: non_negative().init({"b": jnp.ones(2)}),
            ValueError,
            "non_negative: expected a param named w or w_..., got b. Say which ones are meant by where=patterns.",
        ),
        (
            lambda: max_norm(1.0).update(W, optax.EmptyState()),
            ValueError,
            "max_norm: expected params, got None. Call update(updates, state, params): a constraint is on them.",
        ),
        (
            lambda: max_norm(1.0, axis=(0, -3)).update(W, optax.EmptyState(), W),
            ValueError,
            "max_norm at w: expected axis from -2 to 1, an axis of the param, got -3.",
        ),
        (
            lambda: max_norm(1.0).update({"w": jnp.ones((1, 3))}, optax.EmptyState(), W),
            ValueError,
            "max_norm at w: expected an update of shape [2, 3] as the param has, got float32[1, 3].",
        ),
    ],
    ids=lambda value: value[:45] if isinstance(value, str) else "",
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
