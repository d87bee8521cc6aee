"""Every public optimizer against everything an optax transformation is used with."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.test_util import check_grads

from jaxnn import optimizers
from jaxnn.optimizers import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    amsgrad,
    lamb,
    lars,
    lion,
    muon,
    nadam,
    radam,
    rmsprop,
    rprop,
    sgd,
)

# name -> factory, a rate that suits it, further arguments, its numeric hyper-parameters and values to sweep them over
TABLE = {
    "sgd": (sgd, 1e-3, {}, {}),
    "sgd momentum": (sgd, 1e-3, {"momentum": 0.9}, {"momentum": [0.0, 0.5, 0.9]}),
    "sgd nesterov": (sgd, 1e-3, {"momentum": 0.9, "nesterov": True}, {"momentum": [0.0, 0.5, 0.9]}),
    "rmsprop": (
        rmsprop,
        1e-2,
        {},
        {"decay": [0.5, 0.9, 0.99], "eps": [1e-8, 1e-4, 1.0], "initial_scale": [0.0, 0.5, 1]},
    ),
    "rmsprop centered": (
        rmsprop,
        1e-3,
        {"centered": True, "momentum": 0.5, "nesterov": True, "bias_correction": True, "eps": 1e-2},
        {"decay": [0.5, 0.9, 0.99], "eps": [1e-3, 1e-2, 1.0], "momentum": [0.0, 0.5, 0.9]},
    ),
    "rmsprop outside": (
        rmsprop,
        1e-2,
        {"eps_in_sqrt": False, "momentum": 0.5},
        {"decay": [0.5, 0.9, 0.99], "eps": [1e-8, 1e-4, 1.0], "momentum": [0.0, 0.5, 0.9]},
    ),
    "adadelta": (adadelta, 1.0, {}, {"rho": [0.5, 0.9, 0.99], "eps": [1e-8, 1e-6, 1e-2]}),
    "adadelta decay": (
        adadelta,
        1.0,
        {"weight_decay": 1e-3},
        {"rho": [0.5, 0.9, 0.99], "weight_decay": [0.0, 0.1, 1.0]},
    ),
    "adagrad": (adagrad, 1e-1, {}, {"initial_accumulator_value": [0.0, 0.1, 1.0], "eps": [1e-8, 1e-4, 1.0]}),
    "adagrad outside": (adagrad, 1e-1, {"eps_in_sqrt": False}, {"eps": [1e-8, 1e-4, 1.0]}),
    "sgd dampening": (sgd, 1e-3, {"momentum": 0.9, "dampening": 0.5}, {"dampening": [0.0, 0.5, 0.9]}),
    "adam": (
        adam,
        1e-2,
        {},
        {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999], "eps": [1e-8, 1e-4, 1.0], "eps_root": [0.0, 1e-8, 1e-2]},
    ),
    "adam keras": (adam, 1e-2, {"preset": "keras"}, {"b1": [0.0, 0.5, 0.9], "eps": [1e-8, 1e-4, 1.0]}),
    "adam decay": (
        adam,
        1e-2,
        {"weight_decay": 1e-3, "decoupled": True, "mask": lambda p: jax.tree.map(lambda _: True, p)},
        {"weight_decay": [0.0, 0.1, 1.0]},
    ),
    "adamw": (adamw, 1e-2, {}, {"b1": [0.0, 0.5, 0.9], "weight_decay": [0.0, 0.1, 1.0]}),
    "nadam": (nadam, 1e-2, {}, {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999]}),
    "amsgrad": (amsgrad, 1e-1, {}, {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999], "eps": [1e-8, 1e-4, 1.0]}),
    "nadam torch": (nadam, 1e-2, {"preset": "torch"}, {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999]}),
    "amsgrad torch": (amsgrad, 1e-1, {"preset": "torch"}, {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999]}),
    "amsgrad keras": (amsgrad, 1e-1, {"preset": "keras"}, {"b1": [0.0, 0.5, 0.9], "eps": [1e-8, 1e-4, 1.0]}),
    "adamax": (adamax, 2e-2, {}, {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999], "eps": [1e-8, 1e-4, 1.0]}),
    "radam": (radam, 5e-3, {}, {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999], "eps": [1e-8, 1e-4, 1.0]}),
    "lion": (lion, 3e-3, {}, {"b1": [0.1, 0.5, 0.9], "b2": [0.9, 0.99, 0.999], "weight_decay": [0.0, 0.1, 1.0]}),
    "lamb": (lamb, 1e-2, {}, {"b1": [0.0, 0.5, 0.9], "eps": [1e-8, 1e-4, 1.0], "weight_decay": [0.0, 0.1, 1.0]}),
    "lars": (
        lars,
        1e-1,
        {"weight_decay": 1e-3, "trust_coefficient": 0.1, "momentum": 0.9},
        {"trust_coefficient": [0.01, 0.1, 1.0], "momentum": [0.0, 0.5, 0.9], "weight_decay": [0.0, 0.1, 1.0]},
    ),
    "adafactor": (
        adafactor,
        1e-2,
        {"min_dim_size_to_factor": 2},
        {"decay_rate": [0.5, 0.8, 1.0], "eps": [1e-30, 1e-8, 1e-3], "clipping_threshold": [0.5, 1.0, 2.0]},
    ),
    "adafactor momentum": (
        adafactor,
        1e-2,
        {"momentum": 0.9, "dtype_momentum": None},
        {"momentum": [0.0, 0.5, 0.9], "weight_decay_rate": [0.0, 0.01, 0.1]},
    ),
    "muon": (muon, 1e-2, {}, {"beta": [0.0, 0.5, 0.95], "weight_decay": [0.0, 0.1, 1.0]}),
    "rprop": (rprop, 1e-2, {}, {"eta_minus": [0.1, 0.5, 0.9], "min_step_size": [1e-6, 1e-4, 1e-3]}),
    "rmsprop torch": (
        rmsprop,
        1e-2,
        {"preset": "torch", "momentum": 0.5, "weight_decay": 1e-3, "decoupled": True},
        {"decay": [0.5, 0.9, 0.99], "momentum": [0.0, 0.5, 0.9], "weight_decay": [0.0, 0.1, 1.0]},
    ),
    "rmsprop decay": (
        rmsprop,
        1e-3,
        {"momentum": 0.5, "weight_decay": 1e-3, "decoupled": True},
        {"momentum": [0.0, 0.5, 0.9], "weight_decay": [0.0, 0.1, 1.0]},
    ),
    "adam nesterov": (adam, 1e-2, {"nesterov": True}, {"b1": [0.0, 0.5, 0.9], "b2": [0.9, 0.99, 0.999]}),
}
# they take optimizers: no rule of their own, no namesake in optax
WRAPPERS = {"by_path", "compensated", "flat", "quantized", "stochastic_rounding"}
OF_OPTAX = {"lbfgs"}  # whose state is optax's
NAMES = sorted(set(optimizers.__all__) - WRAPPERS - OF_OPTAX)
DTYPES = [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64, jnp.complex64]
standard = partial(jax.numpy_dtype_promotion, "standard")  # for optax's wrappers, which are not strict


def make(name, rate=None, **changes):
    factory, own_rate, options, _ = TABLE[name]
    return factory(own_rate if rate is None else rate, **(options | changes))


def tree(dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": jnp.asarray(rng.standard_normal((2, 3)), dtype),
        "b": [jnp.asarray(rng.standard_normal((2, 3)), dtype)],
    }


def run(opt, steps=3, dtype=jnp.float32, update=None):
    """The updates of `steps` steps, stacked, and the last state."""
    x, out = tree(dtype), []
    state = opt.init(x)
    for t in range(steps):
        u, state = (update or opt.update)(tree(dtype, t + 1), state, x)
        out.append(u)
    return jax.tree.map(lambda *us: np.stack(us), *out), state


def close(a, b, rtol=2e-6):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(np.asarray(y)).max()), a, b
    )


def dtypes(x):
    return [str(leaf.dtype) for leaf in jax.tree.leaves(x)]


def avals(x):
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), str(leaf.dtype), leaf.aval.weak_type), x)


def slots(state):
    return {name: tree for name, tree in state.items() if name != "count"}


every = pytest.mark.parametrize("name", TABLE)
scheduled = pytest.mark.parametrize("name", [name for name in TABLE if name != "rprop"])  # it finds its own steps


def test_every_public_optimizer_is_in_the_table():
    assert {factory.__name__ for factory, *_ in TABLE.values()} == set(NAMES)


@pytest.mark.parametrize("name", [*NAMES, *OF_OPTAX])
def test_names_order_and_defaults_are_those_of_optax(name):
    def arguments(f):
        return [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]

    theirs = arguments(getattr(optax if hasattr(optax, name) else optax.contrib, name))
    if name == "adadelta":  # optax's None leaves the sign of the gradient, and climbs
        theirs[0] = (*theirs[0][:2], 1.0)
    ours = arguments(getattr(optimizers, name))
    if name == "muon":  # without the reshaping of optax's to matrices
        theirs = [argument for argument in theirs if argument[0] != "muon_weight_dimension_numbers"]
    if name == "lbfgs":  # functions are equal to themselves alone
        ours, theirs = (([(*x[:2], type(x[2])) for x in arguments]) for arguments in (ours, theirs))
    assert ours[: len(theirs)] == theirs
    assert all(kind == inspect.Parameter.KEYWORD_ONLY for _, kind, _ in ours[len(theirs) :])  # what optax has not


# ---- it descends


def parabola(x):
    return jnp.sum(x**2)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


@every
@pytest.mark.parametrize(
    ("f", "start", "share"),
    [(parabola, [1.0, 2.0, 3.0], 2e-2), (rosenbrock, [-1.2, 1.0], 5e-2)],
    ids=["x²", "rosenbrock"],
)
@pytest.mark.slow
def test_defaults_descend(name, f, start, share):
    opt = make(name)

    @jax.jit
    def descend(x):
        def body(carry, _):
            x, state = carry
            u, state = opt.update(jax.grad(f)(x), state, x)
            return (optax.apply_updates(x, u), state), f(x)

        return jax.lax.scan(body, (x, opt.init(x)), None, length=2000)[1]

    values = descend(jnp.array(start))
    assert values[-1] < share * values[0]


# ---- dtypes


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: jnp.dtype(d).name)
def test_dtypes_are_kept(name, dtype, x64):
    opt, x = make(name), tree(dtype)
    state = opt.init(x)
    u, after = opt.update(tree(dtype, 1), state, x)
    assert dtypes(u) == dtypes(x)
    assert avals(after) == avals(state)
    allowed = {"float64"} if dtype == jnp.float64 else {"float32", "complex64"}
    assert set(dtypes(slots(state))) <= allowed  # never below float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((u, after)))


SCALARS = {
    "float": float,
    "np.float32": np.float32,
    "np.float64": np.float64,
    "np 0-d": np.array,
    "jnp.float32": lambda v: jnp.asarray(v, jnp.float32),
    "jnp.float64": lambda v: jnp.asarray(v, jnp.float64),
    "jnp.bfloat16": lambda v: jnp.asarray(v, jnp.bfloat16),
    "weak": jnp.asarray,
}


@every
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64], ids=lambda d: jnp.dtype(d).name)
def test_nothing_depends_on_the_kind_of_a_scalar(name, dtype, x64):
    _, _, options, sweep = TABLE[name]
    values = {k: 0.125 for k in (*sweep, "momentum") if k in sweep or k in options}
    x, g = tree(dtype), tree(dtype, 1)
    want = None
    for kind in SCALARS.values():
        opt = make(name, kind(0.25), **{k: kind(v) for k, v in values.items()})
        got = opt.update(g, opt.init(x), x)
        want = want or got
        assert avals(got) == avals(want)
        close(got, want, rtol=1e-2 if dtype == jnp.bfloat16 else 1e-6 if dtype == jnp.float32 else 1e-14)


@every
def test_bfloat16_is_float32_rounded_once(name):
    opt, x, g = make(name), tree(jnp.bfloat16), tree(jnp.bfloat16, 1)
    up = partial(jax.tree.map, lambda a: a.astype(jnp.float32))
    want, _ = opt.update(up(g), opt.init(up(x)), up(x))
    got, _ = opt.update(g, opt.init(x), x)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(jnp.bfloat16)), got, want)


# ---- programs


@every
@pytest.mark.slow
def test_one_trace_for_all_steps_and_rates(name):
    traces = []

    @jax.jit
    def update(rate, g, state, x):
        traces.append(name)
        return make(name, rate).update(g, state, x)

    x = tree()
    state = make(name).init(x)
    for step, rate in enumerate((0.1, 0.2, 0.3)):
        _, state = update(rate, tree(seed=step), state, x)
    assert len(traces) == 1


@every
@pytest.mark.slow
def test_eager_jit_scan_and_donation_agree(name):
    opt = make(name)
    want, last = run(opt, 4)
    close(run(opt, 4, update=jax.jit(opt.update, donate_argnums=(0, 1))), (want, last))
    gs = jax.tree.map(lambda *g: jnp.stack(g), *(tree(seed=t + 1) for t in range(4)))
    state, us = jax.jit(lambda x, gs: jax.lax.scan(lambda s, g: opt.update(g, s, x)[::-1], opt.init(x), gs))(tree(), gs)
    close((us, state), (want, last))


@every
def test_shapes_alone(name):
    opt, x = make(name), tree()
    state = jax.eval_shape(opt.init, x)
    u, after = jax.eval_shape(opt.update, x, state, x)
    assert jax.tree.structure(u) == jax.tree.structure(x)
    assert after == state


@every
@pytest.mark.slow
def test_under_cond(name):
    opt, x, g = make(name), tree(), tree(seed=1)

    @jax.jit
    def maybe(yes, state):
        return jax.lax.cond(yes, lambda s: opt.update(g, s, x), lambda s: (jax.tree.map(jnp.zeros_like, x), s), state)

    state = opt.init(x)
    close(maybe(True, state), opt.update(g, state, x))
    close(maybe(False, state), (jax.tree.map(jnp.zeros_like, x), state))


@every
@pytest.mark.slow
def test_a_sweep_of_hyper_parameters_is_one_program(name):
    _, rate, _, sweep = TABLE[name]
    sweep = {"learning_rate": [rate / 2 if name == "rprop" else 0.0, rate, 2 * rate], **sweep}  # a step of 0 stays 0

    def two_steps(values):
        opt = make(name, values["learning_rate"], **{k: v for k, v in values.items() if k != "learning_rate"})
        x = tree()
        state = opt.init(x)
        for seed in (1, 2):
            u, state = opt.update(tree(seed=seed), state, x)
        return u, state

    swept = jax.jit(jax.vmap(two_steps))({k: jnp.asarray(v, jnp.float32) for k, v in sweep.items()})
    for i in range(3):
        one = two_steps({k: float(v[i]) for k, v in sweep.items()})
        close(jax.tree.map(lambda a, i=i: a[i], swept), one, rtol=1e-4)  # float32's 1 - 0.999 is 1e-5 off


@every
@pytest.mark.slow
def test_members_with_states_of_their_own(name):
    opt, x = make(name), tree()
    xs, gs = (jax.tree.map(lambda a: jnp.stack([a, 2 * a]), tree(seed=s)) for s in (0, 1))
    us, states = jax.vmap(opt.update)(gs, jax.vmap(opt.init)(xs), xs)
    one = opt.update(tree(seed=1), opt.init(x), x)
    close(jax.tree.map(lambda a: a[0], (us, states)), one)


@every
@pytest.mark.slow
def test_derivatives_through_two_updates(name, x64):
    x = tree(jnp.float64)

    def after(rate, x):
        opt = make(name, rate)
        state = opt.init(x)
        for _ in range(2):
            u, state = opt.update(jax.tree.map(lambda p: p**3, x), state, x)
            x = jax.tree.map(jnp.add, x, u)
        return x

    check_grads(after, (0.01, x), order=1, modes=("rev",), rtol=1e-4)


# ---- optax's wrappers


@every
def test_extra_arguments_are_ignored(name):
    opt, x = make(name), tree()
    assert isinstance(opt, optax.GradientTransformationExtraArgs)
    close(opt.update(x, opt.init(x), x, value=1.0, value_fn=parabola), opt.update(x, opt.init(x), x))


@scheduled
def test_schedules_start_at_0(name):
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, 1.0, 2, 5
    )  # raises under strict promotion, were it not called under standard
    with standard():
        rates = [float(schedule(t)) for t in range(4)]
    got, _ = run(make(name, schedule), 4)
    assert rates[0] == 0
    assert not np.any(got["w"][0])
    if "momentum" not in TABLE[name][2] or TABLE[name][0] is sgd or "preset" in TABLE[name][2]:
        unit, _ = run(make(name, 1.0), 4)
        close(got, jax.tree.map(lambda u: u * np.reshape(rates, [4] + [1] * (u.ndim - 1)), unit))
    else:  # the rate of each step is kept in the trace
        by_hand = make(name, rates[1])
        x = tree()
        state = make(name, schedule).init(x)
        _, state = make(name, schedule).update(tree(seed=1), state, x)
        close(make(name, schedule).update(tree(seed=2), state, x), by_hand.update(tree(seed=2), state, x))


@every
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=lambda d: jnp.dtype(d).name)
@pytest.mark.slow
def test_inject_hyperparams(name, dtype):
    factory, rate, options, _ = TABLE[name]
    with standard():
        opt = optax.inject_hyperparams(factory)(rate, **options)
        got, state = run(opt, 3, dtype)
        assert state.hyperparams["learning_rate"].dtype == dtype
        want, _ = run(make(name), 3, dtype)
    # a decay of 0.999 is 0.998 at most in bfloat16
    close(got, want, rtol={"bfloat16": 0.3, "float16": 2e-2, "float32": 1e-4}[jnp.dtype(dtype).name])
    state.hyperparams["learning_rate"] = jnp.zeros((), dtype)
    zero = jax.tree.map(jnp.zeros_like, tree(dtype))
    with standard():
        u, _ = opt.update(zero, state, zero)
    assert all(np.isfinite(leaf.astype(jnp.float32)).all() for leaf in jax.tree.leaves(u))


@every
@pytest.mark.slow
def test_multi_steps(name):
    opt, x = make(name), tree()
    with standard():
        wrapped = optax.MultiSteps(opt, 2)
        update = jax.jit(wrapped.update)
        first, state = update(tree(seed=1), wrapped.init(x), x)
        second, state = update(tree(seed=2), state, x)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(first))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, tree(seed=1), tree(seed=2))
    close((second, state.inner_opt_state), opt.update(mean, opt.init(x), x), rtol=1e-5)


@every
def test_map_params_reaches_every_slot(name):
    opt, x = make(name), tree()
    specs = {"w": "spec of w", "b": ["spec of b"]}
    state = opt.init(x)
    mapped = optax.tree.map_params(opt, lambda _, spec: spec, state, specs, transform_non_params=lambda _: "count")
    assert mapped == {"count": "count"} | dict.fromkeys(slots(state), specs)
    masked = optax.masked(opt, {"w": True, "b": False})
    doubled = optax.tree.map_params(masked, lambda s: s + 1, masked.init(x))
    assert len(jax.tree.leaves(doubled.inner_state)) == len(state)


@every
def test_slots_are_found_and_set_by_name(name):
    opt, x = make(name), tree()
    _, state = run(optax.chain(optax.identity(), opt))
    for slot in slots(state[1]):
        assert optax.tree.get(state, slot) is state[1][slot]
        assert optax.tree.set(state, **{slot: x})[1][slot] is x
    assert optax.tree.get(state, "count") == 3


@every
def test_masked(name):
    opt, x, g = make(name), tree(), tree(seed=1)
    masked = optax.masked(opt, {"w": True, "b": False})
    u, state = masked.update(g, masked.init(x), x)
    close(u, {"w": opt.update(g, opt.init(x), x)[0]["w"], "b": g["b"]})
    assert all(isinstance(slot["b"], optax.MaskedNode) for slot in slots(state.inner_state).values())


@every
@pytest.mark.slow
def test_apply_if_finite(name):
    opt, x, g = make(name), tree(), tree(seed=1)
    safe = optax.apply_if_finite(opt, 3)
    update = jax.jit(safe.update)
    u, state = update({**g, "w": g["w"].at[0, 0].set(jnp.nan)}, safe.init(x), x)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(u))
    close(update(g, state, x)[0], opt.update(g, opt.init(x), x)[0])


@every
def test_chain(name):
    opt, x, g = make(name), tree(), tree(seed=1)
    chained = optax.chain(optax.clip_by_global_norm(1e-2), opt)
    with standard():
        clipped, _ = optax.clip_by_global_norm(1e-2).update(g, optax.EmptyState())
        u, _ = chained.update(g, chained.init(x), x)
    close(u, opt.update(clipped, opt.init(x), x)[0])
