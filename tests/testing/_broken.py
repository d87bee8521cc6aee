"""Layers, optimizers and losses with one planted fault for each property that `nn.testing` tests."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnn as nn

X = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), jnp.float32)
Y = jnp.asarray(np.random.default_rng(1).standard_normal((4, 3)), jnp.float32)

# ---- layers


def nothing(key, x):
    return {}, {}


def ones(key, x):
    return {"w": jnp.ones((1, 3), jnp.float32)}, {}


def counted(key, x):
    return {}, {"n": jnp.zeros((), jnp.int32)}


def passed(params, state, x, *, key=None, train=False):
    return x, state


def bare(apply=passed, init=nothing):
    """A layer without the checks of `nn.layer`."""
    return nn.Layer(init, apply, "broken")


def of(f):
    return bare(lambda params, state, x, *, key=None, train=False: (f(x), state))


def noisy(use):
    """A layer that adds noise; `use` chooses from (key, train) the key of it, or None."""

    def apply(params, state, x, *, key=None, train=False):
        chosen = use(key, train)
        return (x if chosen is None else x + jax.random.normal(chosen, x.shape, x.dtype)), state

    return bare(apply)


MADE = itertools.count()


def numbered():
    number = float(next(MADE))
    return bare(init=lambda key, x: ({"w": jnp.full(3, number, jnp.float32)}, {}))


def different_init():
    calls = itertools.count()
    return bare(init=lambda key, x: ({"w": jnp.full(3, float(next(calls)), jnp.float32)}, {}))


def shared(key, x):
    w = jnp.ones(3, jnp.float32)
    return {"w": w}, {"old": w}


def changing():
    calls = itertools.count()
    return of(lambda x: x + float(next(calls)))


def writes(params, state, x, *, key=None, train=False):
    state["n"] = state["n"] + 1
    return x, state


def two_masks(params, state, x, *, key=None, train=False):
    if not train:
        return x, state
    if key is None:
        raise ValueError("no key")
    return x + jax.random.normal(key, x.shape) * jax.random.uniform(key, x.shape), state


@jax.custom_batching.custom_vmap
def doubled(x):
    return 2 * x


@doubled.def_vmap
def _(size, batched, x):
    return 3 * x, batched[0]


LAYERS = {
    "nodes": bare(init=lambda key, x: ({"w": [1.0, 2.0]}, {})),
    "factory": numbered,
    "same init": different_init(),
    "from shapes": bare(init=lambda key, x: ({"mean": x.mean(0)}, {})),
    "jitted init": bare(init=lambda key, x: ({"w": jnp.full(3, float(jax.random.uniform(key)))}, {})),
    "seeds": bare(init=lambda key, x: ({"w": jax.random.normal(jax.random.key(0), (3,))}, {})),
    "output": bare(lambda params, state, x, *, key=None, train=False: x),
    "state": bare(lambda params, state, x, *, key=None, train=False: (x, {}), counted),
    "same key": changing(),
    "unchanged": bare(writes, counted),
    "jit": of(lambda x: x if x[0, 0] > 0 else -x),
    "weak types": bare(init=lambda key, x: ({}, {"scale": jnp.asarray(1.0)})),
    "NumPy": bare(lambda params, state, x, *, key=None, train=False: (x * params["w"].at[0].set(0), state), ones),
    "static train": bare(lambda params, state, x, *, key=None, train=False: (jnp.where(train, x, 2 * x), state)),
    "key in inference": noisy(lambda key, train: key),
    "key in training": noisy(lambda key, train: (jax.random.key(0) if key is None else key) if train else None),
    "key reuse": bare(two_masks),
    "members": of(doubled),
    "examples": of(lambda x: x - x.mean(0, keepdims=True)),
    "donation": bare(init=shared),
    "dtypes": of(lambda x: x.astype(jnp.float32)),
    "precision": of(lambda x: (x + 100) - 100),
    "gradient": of(lambda x: x * jax.lax.stop_gradient(x)),
    "edges": of(lambda x: x / jnp.sqrt((x * x).sum(-1, keepdims=True))),
}

# ---- optimizers


def descent(rate, step=lambda g, p, rate: -rate * g):
    """Gradient descent without state, by another rule for an array."""

    def update(g, state, params=None):
        return jax.tree.map(lambda g, p: step(g, p, rate).astype(p.dtype), g, params), state

    return optax.GradientTransformation(lambda params: {}, update)


def momentum(rate, init, change=lambda m, g: 0.9 * m + g.astype(m.dtype)):
    def update(g, state, params=None):
        m = jax.tree.map(change, state["m"], g)
        return jax.tree.map(lambda m, p: (-rate * m).astype(p.dtype), m, params), {**state, "m": m}

    return optax.GradientTransformation(lambda params: {"m": jax.tree.map(init, params)}, update)


def zeros(p):
    return jnp.zeros(p.shape, jnp.float32)


def twice(rate):
    def init(params):
        slots = jax.tree.map(zeros, params)
        return {"mu": slots, "nu": slots}

    return optax.GradientTransformation(init, descent(rate).update)


def with_state(init, update=lambda state: state):
    def made(rate):
        def updated(g, state, params=None):
            updates, _ = descent(rate).update(g, state, params)
            return updates, update(state)

        return optax.GradientTransformation(init, updated)

    return made


def adds_in_place(state):
    state["count"] = state["count"] + 1
    return state


def impatient(rate):
    calls = itertools.count(1)

    def update(g, state, params=None):
        return descent(rate / next(calls)).update(g, state, params)

    return optax.GradientTransformation(lambda params: {}, update)


def joined(rate):
    def update(g, state, params=None):
        size = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(g)]).size
        return descent(rate / size).update(g, state, params)

    return optax.GradientTransformation(lambda params: {}, update)


def narrow(rate):
    def update(g, state, params=None):
        return jax.tree.map(lambda g: (-rate * g).astype(jnp.float32), g), state

    return optax.GradientTransformation(lambda params: {}, update)


def by_hand(rate):
    def walked(g):
        if isinstance(g, dict):
            return {name: walked(child) for name, child in g.items()}
        if isinstance(g, list | tuple):
            return type(g)(map(walked, g))
        return None if g is None else (-rate * g).astype(g.dtype)

    return optax.GradientTransformation(lambda params: {}, lambda g, state, params=None: (walked(g), state))


def summed(g, p, rate):
    return -rate * g.sum()


OPTIMIZERS = {
    "contract": lambda rate: ("adam", rate),
    "arrays": with_state(lambda params: {"count": 0}),
    "updates": partial(descent, step=summed),
    "state": with_state(lambda params: {"count": jnp.zeros((), jnp.int32)}, lambda state: {}),
    "pure": impatient,
    "unchanged": with_state(lambda params: {"count": jnp.zeros((), jnp.int32)}, adds_in_place),
    "jit": partial(descent, step=lambda g, p, rate: -rate * g if g.sum() > 0 else -2 * rate * g),
    "donation": twice,
    "hyper-parameters": lambda rate: descent(rate if rate < 1 else 1.0),
    "members": partial(descent, step=lambda g, p, rate: -rate * doubled(g)),
    "zero gradients": partial(descent, step=lambda g, p, rate: -rate * g / jnp.sqrt((g * g).sum())),
    "trees": joined,
    "dtypes": narrow,
    "averages": partial(momentum, init=jnp.zeros_like),
    "chain": lambda rate: optax.GradientTransformationExtraArgs(*descent(rate)),
    "masked": by_hand,
    "descends": partial(descent, step=lambda g, p, rate: rate * g),
}

# ---- losses


def pair(f):
    """A loss from a function of prediction and target of equal shape, in at least float32."""

    def loss(p, t):
        if p.shape != t.shape:
            raise ValueError("shapes differ")
        wide = jnp.float64 if p.dtype == jnp.float64 else jnp.float32
        return f(p.astype(wide), t.astype(wide))

    return loss


def squares(p, t):
    return (p - t) ** 2


def changing_loss():
    calls = itertools.count()
    return pair(lambda p, t: squares(p, t) * float(next(calls)))


def averaged(p, t, *, weights=None):
    value = pair(squares)(p, t)
    return value if weights is None else value * weights / weights.sum()


def multiplied(p, t, *, where=None):
    value = pair(squares)(p, t)
    return value if where is None else value * where.astype(value.dtype)


LOSSES = {
    "residuals": lambda p, t: squares(p, t).mean(),
    "weak types": lambda p, t: jnp.where(p > t, 1.0, 0.0),
    "equal shapes": squares,
    "pure": changing_loss(),
    "jit": pair(lambda p, t: squares(p, t) if p[0, 0] > 0 else abs(p - t)),
    "vmap": pair(lambda p, t: squares(p - p.mean(0, keepdims=True), t)),
    "dtypes": lambda p, t: pair(squares)(p, t).astype(p.dtype),
    "precision": pair(lambda p, t: ((p + 1e5) - (t + 1e5)) ** 2),
    "gradient": pair(lambda p, t: (p - t) * jax.lax.stop_gradient(p - t)),
    "extremes": pair(lambda p, t: -jnp.log(jax.nn.sigmoid(p - t))),
    "NaN": pair(lambda p, t: jnp.where(p > t, squares(p, t), jnp.zeros_like(p))),
    "weights": averaged,
    "where": multiplied,
    "minimum": pair(lambda p, t: squares(p, t) + 1),
}

CALLS = {
    **{f"layer: {name}": partial(nn.testing.check_layer, layer, X) for name, layer in LAYERS.items()},
    **{f"optimizer: {name}": partial(nn.testing.check_optimizer, make) for name, make in OPTIMIZERS.items()},
    **{f"loss: {name}": partial(nn.testing.check_loss, loss, X, Y, minimum=0.0) for name, loss in LOSSES.items()},
}
