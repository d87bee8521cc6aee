"""Properties of optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnn import _checks as check
from jaxnn._errors import describe, wrong_type
from jaxnn.testing._properties import (
    Property,
    copied,
    differs,
    is_floating,
    no_array,
    not_finite,
    part,
    quick,
    shapes_differ,
    stacked,
    verify,
    weak,
)
from jaxnn.types import Arrays, OptState, Params

STEPS, DESCENT = 3, 500  # of a run whose updates are compared, and on the quadratic


@dataclass(frozen=True)
class Case:
    """An optimizer, the function that makes it from its hyper-parameters, if given, and params."""

    make: Callable[..., Any] | None
    optimizer: optax.GradientTransformation
    rate: float
    sweep: Mapping[str, Sequence[float]]
    params: Arrays
    slack: float

    def gradients(self, seed: int, params: Arrays = None) -> Any:
        rng = np.random.default_rng(seed)
        like = self.params if params is None else params
        return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), like)

    def run(self, params: Arrays, update: Callable[..., Any], steps: int = STEPS) -> dict[str, Any]:
        """The updates of some steps, stacked, and the last state."""
        state, updates = self.optimizer.init(params), []
        for step in range(steps):
            new, state = update(self.gradients(step, params), state, params)
            updates.append(new)
        return {"updates": stacked(updates), "state": state}

    @cached_property
    def update(self) -> Callable[..., Any]:
        return quick(lambda g, state, params: self.optimizer.update(g, state, params))


def _contract(case: Case) -> str:
    fields = getattr(case.optimizer, "_fields", ())
    fine = isinstance(case.optimizer, tuple) and fields == ("init", "update") and all(map(callable, case.optimizer))
    return "" if fine else describe(case.optimizer)


def _arrays(case: Case) -> str:
    state = case.optimizer.init(case.params)
    return no_array({"state": state}) or weak({"state": state})


def _updates(case: Case) -> str:
    out = case.optimizer.update(case.gradients(0), case.optimizer.init(case.params), case.params)
    if not (isinstance(out, tuple) and len(out) == 2):
        return describe(out)
    return shapes_differ({"updates": out[0]}, {"updates": case.params}) or weak({"updates": out[0]})


def _state(case: Case) -> str:
    before = {"state": case.optimizer.init(case.params)}
    _, after = case.optimizer.update(case.gradients(0), before["state"], case.params)
    return shapes_differ({"state": after}, before) or weak({"state": after})


def _pure(case: Case) -> str:
    first, second = (case.run(case.params, case.optimizer.update) for _ in range(2))
    return differs(first, second)


def _unchanged(case: Case) -> str:
    given = copied((case.gradients(0), case.optimizer.init(case.params), case.params))
    kept = copied(given)
    case.optimizer.update(*given)
    names = ("gradients", "state", "params")
    return differs(dict(zip(names, given, strict=True)), dict(zip(names, kept, strict=True)))


def _jit(case: Case) -> str:
    eager = case.run(case.params, case.optimizer.update)

    def step(state: OptState, g: Arrays) -> tuple[OptState, Any]:
        updates, state = case.optimizer.update(g, state, case.params)
        return state, updates

    gradients = stacked([case.gradients(i) for i in range(STEPS)])
    state, updates = quick(lambda g: jax.lax.scan(step, case.optimizer.init(case.params), g))(gradients)
    scanned = {"updates": updates, "state": state}
    return differs(case.run(case.params, case.update), eager, case.slack) or differs(scanned, eager, case.slack)


def _donation(case: Case) -> str:
    state = case.optimizer.init(case.params)
    seen: dict[int, str] = {id(a): "params" for a in jax.tree.leaves(case.params)}
    for path, a in jax.tree_util.tree_leaves_with_path({"state": state}):
        at = jax.tree_util.keystr(path, simple=True, separator="/")
        if id(a) in seen:
            return f"one array at {seen[id(a)]} and {at}"
        seen[id(a)] = at
    quick(lambda g, s, p: case.optimizer.update(g, s, p), donate_argnums=(0, 1))(case.gradients(0), state, case.params)
    return differs({"state": case.optimizer.init(case.params)}, {"state": case.optimizer.init(case.params)})


def _hyper_parameters(case: Case) -> str | None:
    if case.make is None:
        return None
    make = case.make
    values = {"learning_rate": [case.rate / 2, case.rate, 2 * case.rate], **case.sweep}
    count = min(map(len, values.values()))

    def steps(of: dict[str, Any]) -> dict[str, Any]:
        optimizer = make(of["learning_rate"], **{name: v for name, v in of.items() if name != "learning_rate"})
        state, updates = optimizer.init(case.params), []
        for step in range(STEPS):
            new, state = optimizer.update(case.gradients(step), state, case.params)
            updates.append(new)
        return {"updates": stacked(updates)}

    swept = quick(jax.vmap(steps))({name: jnp.asarray(v[:count], jnp.float32) for name, v in values.items()})
    each = [steps({name: float(v[i]) for name, v in values.items()}) for i in range(count)]
    return differs(swept, stacked(each), 10 * case.slack)  # 1 - 0.999 is 1e-5 off in float32


def _members(case: Case) -> str:
    members = [case.params, jax.tree.map(lambda a: 2 * a, case.params)]
    gradients = [case.gradients(0), case.gradients(1)]

    def step(g: Arrays, params: Params) -> dict[str, Any]:
        updates, state = case.optimizer.update(g, case.optimizer.init(params), params)
        return {"updates": updates, "state": state}

    got = quick(jax.vmap(step))(stacked(gradients), stacked(members))
    each = [step(g, params) for g, params in zip(gradients, members, strict=True)]
    return next(filter(None, (differs(part(got, i), one, case.slack) for i, one in enumerate(each))), "")


def _zero_gradients(case: Case) -> str:
    zeros = jax.tree.map(jnp.zeros_like, case.params)
    for params, at in ((case.params, ""), (zeros, " for params of zeros")):
        state = case.optimizer.init(params)
        for _ in range(STEPS):
            updates, state = case.update(zeros, state, params)
            if text := not_finite({"updates": updates, "state": state}):
                return text + at
    return ""


def _trees(case: Case) -> str:
    one = jnp.ones((), jnp.float32)
    for params in (one, {}, {"a": one, "b": None}, ((one,), [jnp.ones((2, 1))])):
        state = case.optimizer.init(params)
        updates, after = case.optimizer.update(params, state, params)
        if text := shapes_differ({"updates": updates, "state": after}, {"updates": params, "state": state}):
            return f"{text}, for params {describe(params)}"
    return ""


def _dtypes(case: Case) -> str:
    with jax.enable_x64(True):
        for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
            params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), case.params)  # noqa: B023
            state = jax.eval_shape(case.optimizer.init, params)
            updates, after = jax.eval_shape(case.optimizer.update, params, state, params)
            before = {"updates": params, "state": state}
            if text := shapes_differ({"updates": updates, "state": after}, before):
                return f"{text}, for params of {jnp.dtype(dtype)}"
    return ""


def _averages(case: Case) -> str:
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16), case.params)
    state = jax.eval_shape(case.optimizer.init, params)
    for path, a in jax.tree_util.tree_leaves_with_path({"state": state}):
        if is_floating(a) and a.dtype.itemsize < 4:
            return f"{jax.tree_util.keystr(path, simple=True, separator='/')} of {a.dtype}"
    return ""


def _chain(case: Case) -> str:
    chained = optax.chain(optax.scale(0.5), case.optimizer)
    half = jax.tree.map(lambda g: g * jnp.asarray(0.5, g.dtype), case.gradients(0))
    updates, _ = chained.update(case.gradients(0), chained.init(case.params), case.params, value=1.0)
    want, _ = case.optimizer.update(half, case.optimizer.init(case.params), case.params)
    return differs({"updates": updates}, {"updates": want}, case.slack)


def _masked(case: Case) -> str:
    first, *rest = jax.tree.leaves(case.params)
    g = case.gradients(0)
    structure: Any = jax.tree.structure(case.params)
    masked = optax.masked(case.optimizer, structure.unflatten([True] + [False] * len(rest)))
    updates, _ = masked.update(g, masked.init(case.params), case.params)
    alone, _ = case.optimizer.update([jax.tree.leaves(g)[0]], case.optimizer.init([first]), [first])
    want = structure.unflatten([*alone, *jax.tree.leaves(g)[1:]])
    return differs({"updates": updates}, {"updates": want}, case.slack)


def _descends(case: Case) -> str:
    curvature = jnp.geomspace(1.0, 10.0, 4, dtype=jnp.float32)

    def value(x: Any) -> Any:
        return 0.5 * jnp.sum(curvature * x["x"] ** 2)

    def descend(x: Any) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            x, state = carry
            updates, state = case.optimizer.update(jax.grad(value)(x), state, x)
            return (optax.apply_updates(x, updates), state), None

        (last, _), _ = jax.lax.scan(step, (x, case.optimizer.init(x)), None, length=DESCENT)
        return value(x), value(last)

    start = {"x": jnp.asarray([1.0, -0.5, 0.8, -1.0], jnp.float32)}
    before, after = map(float, quick(descend)(start))
    return "" if after < 0.1 * before else f"{after:.3g} after {DESCENT} steps from {before:.3g}"


PROPERTIES = {
    "contract": Property(
        "an optax.GradientTransformation of two functions, init and update",
        _contract,
        "Return optax.GradientTransformation(init, update).",
    ),
    "arrays": Property(
        "a state of arrays that are not weakly typed",
        _arrays,
        "Name the dtype of a count, jnp.zeros((), jnp.int32). Settings that are not arrays stay outside of the state.",
    ),
    "updates": Property(
        "(updates, state) from update, updates with the structure, shapes and dtypes of the params",
        _updates,
        "Map over the gradients by jax.tree.map, and cast each update to the dtype of its param.",
    ),
    "state": Property(
        "a state with the structure, shapes and dtypes that init made",
        _state,
        "Cast each entry of the new state to the dtype that it has in init.",
    ),
    "pure": Property(
        "equal updates in two runs with the same gradients",
        _pure,
        "Keep everything that changes, a count or a key, in the state.",
    ),
    "unchanged": Property(
        "gradients, state and params as they were before update",
        _unchanged,
        "Make new trees by jax.tree.map instead of writing into those received.",
    ),
    "jit": Property(
        "the same updates and state under jax.jit and in jax.lax.scan",
        _jit,
        "Compute with jax.numpy; branch by jnp.where or lax.cond.",
    ),
    "donation": Property(
        "a state that can be donated to a step, each array in one place",
        _donation,
        "Make zeros for each slot: two calls of jax.tree.map(jnp.zeros_like, params), and copies of params.",
    ),
    "hyper-parameters": Property(
        "with jax.vmap over learning rates and the values in sweep= the updates of each alone",
        _hyper_parameters,
        "Use jnp.where and jnp.sqrt on hyper-parameters instead of a Python if, float() or math.sqrt.",
    ),
    "members": Property(
        "with jax.vmap over gradients and params the updates of each member alone",
        _members,
        "Check the rule of custom_vmap, and pass vmap_method= to callbacks.",
    ),
    "zero gradients": Property(
        "finite updates and state for gradients of zeros",
        _zero_gradients,
        "Add eps to the denominator, outside of a root or inside of it.",
    ),
    "trees": Property(
        "updates for a single scalar, an empty dict, None in the tree, tuples and lists",
        _trees,
        "Reach leaves by jax.tree.map alone, and broadcast no leaf against another.",
    ),
    "dtypes": Property(
        "updates of the dtype of the params and a stable state, for bfloat16, float32 and float64",
        _dtypes,
        "Cast hyper-parameters and averages explicitly: update.astype(p.dtype).",
    ),
    "averages": Property(
        "a state of at least float32 for params of bfloat16",
        _averages,
        "Make slots by jnp.zeros(p.shape, jnp.float32): bfloat16(0.999) is 1, and averages of 16 bits stop moving.",
    ),
    "chain": Property(
        "in optax.chain, with the further argument value=, the updates of the optimizer alone",
        _chain,
        "Accept and ignore **extra in update, or return an optax.GradientTransformation without extra arguments.",
    ),
    "masked": Property(
        "in optax.masked the updates of the selected leaf alone",
        _masked,
        "Map over trees by jax.tree.map, which treats optax.MaskedNode as a node without leaves.",
    ),
    "descends": Property(
        f"less than a tenth of a quadratic's value after {DESCENT} steps",
        _descends,
        "Check the sign: optax adds the updates. Pass a learning_rate that suits the optimizer.",
    ),
}


def check_optimizer(
    make: Callable[..., Any] | optax.GradientTransformation,
    *,
    learning_rate: float = 0.01,
    sweep: Mapping[str, Sequence[float]] | None = None,
    params: Arrays = None,
    slack: float = 4.0,
    without: Sequence[str] = (),
) -> tuple[str, ...]:
    """Tests the properties that an optimizer needs for runs, sweeps, checkpoints and optax's wrappers.

    In this order: "contract", "arrays", "updates", "state", "pure", "unchanged", "jit", "donation",
    "hyper-parameters" (`vmap`), "members", "zero gradients", "trees", "dtypes", "averages" of bfloat16, "chain" and
    "masked" of optax, "descends" on a quadratic with curvatures from 1 to 10.

    Args:
      make: function `learning_rate -> optimizer`, such as `nn.adam`; or an optimizer, whose hyper-parameters are then
        not tested.
      learning_rate: rate > 0 with which 500 steps bring the quadratic from about 6 to less than a tenth.
      sweep: further hyper-parameters of `make` by name, with values that are swept together.
      params: tree of float32 arrays. None is a dict with arrays [4, 3] and [3], and a scalar.
      slack: factor on the tolerances, > 0. At 1 they are 1e-5 of the largest element.
      without: names of properties that are left out.

    Returns:
      The names of the properties that hold.

    Raises:
      AssertionError: if a property does not hold; with its name, the expectation, the finding and the usual fix.
      TypeError: if `make` is neither a function nor an optimizer.
      ValueError: if a name in `without` is unknown, or a number is out of range.

    Differences: optax has such tests for its own optimizers, not as functions. `optax.adam` fails "averages".

    >>> import jaxnn as nn
    >>> held = nn.testing.check_optimizer(nn.adam, sweep={"b1": [0.0, 0.5, 0.9]})
    >>> len(held), held[-1]
    (17, 'descends')
    >>> nn.testing.check_optimizer(optax.sgd(0.01, momentum=0.9))
    Traceback (most recent call last):
    AssertionError: check_optimizer: the optimizer fails 'averages'.
      expected: a state of at least float32 for params of bfloat16
      got: state/0/trace/dense/b of bfloat16
      fix: Make slots by jnp.zeros(p.shape, jnp.float32): bfloat16(0.999) is 1, and averages of 16 bits stop moving.
    """
    check.scalar("check_optimizer", "learning_rate", learning_rate, ends="()", static=True)
    check.scalar("check_optimizer", "slack", slack, ends="()", static=True)
    if not callable(make) and not hasattr(make, "update"):
        fix = "Pass the function, nn.adam, or an optimizer, nn.adam(1e-3)."
        raise wrong_type("check_optimizer", "make to be a function learning_rate -> optimizer", make, fix)
    if params is None:
        rng = np.random.default_rng(7)
        sizes = {"dense": {"w": (4, 3), "b": (3,)}, "scale": ()}
        params = jax.tree.map(
            lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32),
            sizes,
            is_leaf=lambda node: isinstance(node, tuple),
        )
    factory: Any = make if callable(make) else None
    optimizer: Any = make if factory is None else factory(learning_rate)
    name = getattr(getattr(make, "func", make), "__name__", "the optimizer")
    case = Case(factory, optimizer, learning_rate, sweep or {}, params, float(slack))
    return verify("check_optimizer", name, PROPERTIES, case, without)
