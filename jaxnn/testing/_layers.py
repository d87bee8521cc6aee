"""Properties of layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import _checks as check
from jaxnn._errors import describe, wrong_type
from jaxnn._layer import Layer, as_layer
from jaxnn.testing._properties import (
    Property,
    cast,
    copied,
    differs,
    is_floating,
    no_array,
    not_finite,
    part,
    quick,
    shapes,
    shapes_differ,
    stacked,
    verify,
    weak,
)
from jaxnn.types import Arrays, Key, Params, State

STEP = 1e-5  # of central differences in float64


@dataclass(frozen=True)
class Case:
    """A layer with an input, and its programs, each of which is compiled once."""

    make: Callable[[], Any] | None
    layer: Layer
    x: Arrays
    key: Key
    independent: bool
    train: bool
    slack: float

    @cached_property
    def made(self) -> tuple[Params, State]:
        return self.layer.init(self.key, self.x)

    @cached_property
    def other(self) -> Key:
        return jax.random.fold_in(self.key, 1)

    @property
    def start(self) -> tuple[Params, State]:
        """Params and state in dicts that a layer may write into."""
        params, state = jax.tree.map(lambda a: a, self.made)
        return params, state

    def eager(self, params: Params, state: State, x: Arrays, key: Key, train: bool) -> dict[str, Any]:
        """Output and state, without jit."""
        y, state = self.layer.apply(params, state, x, key=key if train else None, train=train)
        return {"y": y, "state": state}

    @cached_property
    def trained(self) -> Callable[..., dict[str, Any]]:
        """(params, state, x, key) -> output and state, in training."""
        return quick(partial(self.eager, train=self.train))

    @cached_property
    def inferred(self) -> Callable[..., dict[str, Any]]:
        """The same in inference."""
        return quick(partial(self.eager, train=False))

    @cached_property
    def noisy(self) -> bool:
        """True if the output in training depends on the key."""
        first, second = (self.trained(*self.made, self.x, key) for key in (self.key, self.other))
        return differs(first, second) != ""

    @cached_property
    def differentiable(self) -> bool:
        """True if an output is floating."""
        return any(map(is_floating, jax.tree.leaves(self.trained(*self.made, self.x, self.key)["y"])))


# ---- init


def _nodes(case: Case) -> str:
    made = case.made
    if not (type(made) is tuple and len(made) == 2):
        return describe(made)
    return _node("params", made[0]) or _node("state", made[1])


def _node(path: str, node: Any) -> str:
    """The first node that is neither a dict nor an array, in words."""
    if not isinstance(node, dict):
        array = isinstance(node, jax.Array | np.ndarray) and "/" in path
        return "" if array else f"{describe(node)} of type {type(node).__name__} at {path}"
    if not node and "/" in path:
        return f"an empty dict at {path}"
    odd = [name for name in node if not isinstance(name, str) or "/" in name]
    if odd:
        return f"the key {odd[0]!r} in {path}"
    return next(filter(None, (_node(f"{path}/{name}", child) for name, child in node.items())), "")


def _factory(case: Case) -> str | None:
    if case.make is None:
        return None
    again = case.make()
    if again.name != case.layer.name:
        return f"the names {case.layer.name} and {again.name}"
    return differs(_named(again.init(case.key, case.x)), _named(case.made))


def _named(made: tuple[Params, State]) -> dict[str, Any]:
    return {"params": made[0], "state": made[1]}


def _same_init(case: Case) -> str:
    return differs(_named(case.layer.init(case.key, case.x)), _named(case.made))


def _seeds(case: Case) -> str | None:
    leaves = jax.tree.leaves(case.made[0])
    if not any(np.ptp(np.asarray(a)) > 0 for a in leaves if is_floating(a) and a.size > 1):
        return None  # constants
    others = jax.tree.leaves(case.layer.init(case.other, case.x)[0])
    equal = all(np.array_equal(a, b) for a, b in zip(leaves, others, strict=True))
    return "equal params for two keys" if equal else ""


def _from_shapes(case: Case) -> str:
    return differs(_named(case.layer.init(case.key, shapes(case.x))), _named(case.made))


def _jitted_init(case: Case) -> str:
    return differs(_named(quick(case.layer.init)(case.key, case.x)), _named(case.made), case.slack)


# ---- apply


def _pair(case: Case) -> str:
    out = case.layer.apply(*case.start, case.x, key=case.key if case.train else None, train=case.train)
    if not (type(out) is tuple and len(out) == 2 and isinstance(out[1], dict)):
        return describe(out)
    return no_array({"y": out[0], "state": out[1]})


def _weak(case: Case) -> str:
    trained, inferred = (program(*case.made, case.x, case.key) for program in (case.trained, case.inferred))
    return weak({**_named(case.made), "y": trained["y"], "new": trained["state"], "other": inferred})


def _state(case: Case) -> str:
    for train in (case.train, False):
        new = case.eager(*case.start, case.x, case.key, train)["state"]
        if text := shapes_differ({"state": new}, {"state": case.made[1]}):
            return text
    return ""


def _same_key(case: Case) -> str:
    first, second = (case.eager(*case.start, case.x, case.key, case.train) for _ in range(2))
    return differs(first, second)


def _unchanged(case: Case) -> str:
    params, state, x = jax.tree.map(lambda a: a, (*case.made, case.x))
    case.eager(params, state, x, case.key, case.train)
    return differs({**_named((params, state)), "x": x}, {**_named(case.made), "x": case.x})


def _numpy(case: Case) -> str:
    params, state, x = kept = copied((*case.made, case.x))
    got = quick(lambda key: case.eager(params, state, x, key, case.train))(case.key)
    changed = differs(kept, (*case.made, case.x))
    return changed or differs(got, case.trained(*case.made, case.x, case.key), case.slack)


def _jit(case: Case) -> str:
    for train, program in ((case.train, case.trained), (False, case.inferred)):
        eager = case.eager(*case.start, case.x, case.key, train)
        if text := differs(program(*case.made, case.x, case.key), eager, case.slack):
            return text
    return _scan(case)


def _scan(case: Case) -> str:
    """Two steps in a scan, against the same in a loop."""
    keys = jax.random.split(case.key, 2)

    def step(state: State, key: Key) -> tuple[State, Any]:
        out = case.eager(case.made[0], state, case.x, key, case.train)
        return out["state"], out["y"]

    last, ys = quick(lambda state, keys: jax.lax.scan(step, state, keys))(case.made[1], keys)
    state, outputs = case.made[1], []
    for key in keys:
        out = case.trained(case.made[0], state, case.x, key)
        state = out["state"]
        outputs.append(out["y"])
    return differs({"y": ys, "state": last}, {"y": stacked(outputs), "state": state}, case.slack)


def _static_train(case: Case) -> str:
    try:
        jax.eval_shape(lambda train: case.layer.apply(*case.start, case.x, key=case.key, train=train), True)
    except TypeError:
        return ""
    trained, inferred = (case.layer.apply(*case.start, case.x, key=case.key, train=train) for train in (True, False))
    return "an output" if differs(trained, inferred) else ""


def _inference_key(case: Case) -> str:
    y, state = case.layer.apply(*case.start, case.x, key=case.key, train=False)
    return differs({"y": y, "state": state}, case.eager(*case.start, case.x, case.key, False), case.slack)


def _training_key(case: Case) -> str | None:
    if not case.noisy:
        return None
    try:
        case.layer.apply(*case.start, case.x, train=case.train)
    except (TypeError, ValueError):
        return ""
    return "an output"


def _key_reuse(case: Case) -> str:
    params, state = case.made
    with jax.debug_key_reuse(True):
        quick(case.layer.init)(jax.random.clone(case.key), case.x)
        quick(partial(case.eager, train=case.train))(params, state, case.x, jax.random.clone(case.key))
    return ""


# ---- transformations


def _members(case: Case) -> str:
    xs = jax.tree.map(lambda a: jnp.stack([a, a[::-1], jnp.roll(a, 1, 0)]), case.x)
    keys = jax.random.split(case.key, 3)
    params, state = quick(jax.vmap(lambda key: case.layer.init(key, shapes(case.x))))(keys)
    got = quick(jax.vmap(partial(case.eager, train=case.train)))(params, state, xs, keys)
    each = [case.trained(*part((params, state, xs, keys), i)) for i in range(3)]
    return differs(got, stacked(each), case.slack)


def _rows(tree: Arrays, start: int, end: int) -> Any:
    return jax.tree.map(lambda a: a[start:end], tree)


def _examples(case: Case) -> str:
    for program in [case.inferred] + [case.trained] * (case.train and case.independent and not case.noisy):
        y = program(*case.made, case.x, case.key)["y"]
        n = len(jax.tree.leaves(case.x)[0])
        if odd := [a for a in jax.tree.leaves(y) if a.shape[:1] != (n,)]:
            return f"y is {describe(odd[0])} for {n} examples"
        rows = [_rows(case.x, i, i + 1) for i in range(min(3, n))]
        each = [program(case.made[0], case.layer.init(case.key, row)[1], row, case.key)["y"] for row in rows]
        joined = jax.tree.map(lambda *a: jnp.concatenate(a), *each)
        if text := differs({"y": joined}, {"y": _rows(y, 0, len(rows))}, case.slack):
            return text
    return ""


def _donation(case: Case) -> str:
    made = case.layer.init(case.key, case.x)
    seen: dict[int, str] = {}
    for path, a in jax.tree_util.tree_leaves_with_path(_named(made)):
        at = jax.tree_util.keystr(path, simple=True, separator="/")
        if id(a) in seen:
            return f"one array at {seen[id(a)]} and {at}"
        seen[id(a)] = at

    def step(params: Params, state: State, x: Arrays, key: Key) -> Any:
        out = case.eager(params, state, x, key, case.train)
        return params, out["state"], out["y"]

    quick(step, donate_argnums=(0, 1))(*made, case.x, case.key)
    return differs(_named(case.layer.init(case.key, case.x)), _named(case.made))


# ---- dtypes and derivatives


def _dtypes(case: Case) -> str | None:
    if not _is_real(case.x):
        return None
    with jax.enable_x64(True):
        for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
            x = shapes(cast(case.x, dtype))
            params, state = jax.eval_shape(case.layer.init, case.key, x)
            out = jax.eval_shape(partial(case.eager, train=case.train), params, state, x, case.key)
            for path, a in jax.tree_util.tree_leaves_with_path({**_named((params, state)), "y": out["y"]}):
                at = jax.tree_util.keystr(path, simple=True, separator="/")
                fine = a.dtype == dtype if at.split("/")[0] == "y" else a.dtype.itemsize >= 4
                if is_floating(a) and not fine:
                    return f"{at} of {a.dtype} for x of {jnp.dtype(dtype)}"
            if text := shapes_differ({"state": out["state"]}, {"state": state}):
                return f"{text}, for x of {jnp.dtype(dtype)}"
    return ""


def _is_real(x: Arrays) -> bool:
    return any(map(is_floating, jax.tree.leaves(x)))


def _precision(case: Case) -> str | None:
    if not _is_real(case.x):
        return None
    train = case.train and not case.noisy
    with jax.enable_x64(True):
        x = cast(case.x, jnp.bfloat16)
        params, state = case.layer.init(case.key, x)
        run = quick(lambda params, state, x, key: case.eager(params, state, x, key, train)["y"])
        y, wide = (run(*args, case.key) for args in ((params, state, x), cast((params, state, x), jnp.float64)))
        return differs({"y": y}, {"y": jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), wide, y)}, case.slack)


def _loss(case: Case, inputs: tuple[Params, Any], state: State, train: bool) -> Any:
    """A sum that depends on all floating elements of the output, of the params and the floating leaves of x."""
    y = case.eager(inputs[0], state, inputs[1], case.key, train)["y"]
    return sum(jnp.sum(a * (1 + a)) for a in jax.tree.leaves(y) if is_floating(a))


def _split(x: Arrays) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The floating leaves of x, and the function that puts others in their place."""
    leaves: list[Any] = jax.tree.leaves(x)
    structure: Any = jax.tree.structure(x)

    def joined(floating: list[Any]) -> Any:
        rest = iter(floating)
        return structure.unflatten([next(rest) if is_floating(a) else a for a in leaves])

    return [a for a in leaves if is_floating(a)], joined


def _gradient(case: Case) -> str | None:
    if not case.differentiable:
        return None
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = cast(case.x, jnp.float64)
        params, state = cast(case.layer.init(case.key, x), jnp.float64)
        floating, joined = _split(x)
        inputs = (params, floating)
        along = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), inputs)

        def f(inputs: Any) -> Any:
            return _loss(case, (inputs[0], joined(inputs[1])), state, case.train)

        @quick
        def slopes(inputs: Any, along: Any) -> dict[str, Any]:
            def moved(step: float) -> Any:
                return jax.tree.map(lambda a, d: a + jnp.asarray(step * d, a.dtype), inputs, along)

            _, forward = jax.jvp(f, (inputs,), (along,))
            gradient = jax.grad(f)(inputs)
            backward = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, along)), strict=True))
            difference = (f(moved(STEP)) - f(moved(-STEP))) / (2 * STEP)
            return {"gradient": gradient, "slopes": (difference, forward, backward)}

        if not jax.tree.leaves(inputs):
            return ""
        out = slopes(inputs, along)
        of_params, of_x = out["gradient"]
        if text := not_finite({"gradient": {"params": of_params, "x": joined(of_x)}}):
            return text
        difference, *both = map(float, out["slopes"])
        for mode, slope in zip(("forward", "backward"), both, strict=True):
            if abs(slope - difference) > 1e-6 * case.slack * (1 + abs(difference)):
                return f"{mode} {slope:.6g} along a direction in which the difference is {difference:.6g}"
    return ""


def _edges(case: Case) -> str | None:
    if not case.differentiable:
        return None
    params, state = case.made
    floating, joined = _split(case.x)
    inputs = {
        "x of zeros": (params, jax.tree.map(jnp.zeros_like, floating)),
        "x of threes": (params, jax.tree.map(lambda a: jnp.full_like(a, 3), floating)),
        "params of zeros": (jax.tree.map(jnp.zeros_like, params), floating),
    }
    run = quick(jax.value_and_grad(lambda both: _loss(case, (both[0], joined(both[1])), state, case.train)))
    for edge, both in inputs.items():
        value, (of_params, of_x) = run(both)
        if text := not_finite({"y": value}) or not_finite({"gradient": {"params": of_params, "x": joined(of_x)}}):
            return f"{text} for {edge}"
    return ""


PROPERTIES = {
    "nodes": Property(
        "(params, state) from init, both nested dicts of arrays without empty dicts",
        _nodes,
        'Return ({"w": array}, {}) from init. Values that are not arrays are arguments of the factory.',
    ),
    "factory": Property(
        "equal layers from two calls of the factory",
        _factory,
        "A factory must be a pure function: no counter, no generator outside of it.",
    ),
    "same init": Property(
        "equal params and state from two calls of init with one key",
        _same_init,
        "Draw from the key that init receives, by jax.random, and from nothing else.",
    ),
    "from shapes": Property(
        "equal params and state from init(key, x) for x of shapes alone (jax.ShapeDtypeStruct)",
        _from_shapes,
        "Use only x.shape and x.dtype in init.",
    ),
    "jitted init": Property(
        "equal params and state from jax.jit(init)",
        _jitted_init,
        "Compute with jax.numpy and jax.random in init: NumPy and float() need values that jit does not have.",
    ),
    "seeds": Property(
        "other params for another key",
        _seeds,
        "Draw from the key that init receives. Members of an ensemble would be equal otherwise.",
    ),
    "output": Property(
        "(y, state) from apply, y of arrays, state a dict of arrays",
        _pair,
        "Return (y, state) from apply, with the state it received if nothing changes.",
    ),
    "state": Property(
        "a state of the structure, shapes and dtypes that init made",
        _state,
        "Return all entries of the state, each with the shape and dtype that it has in init.",
    ),
    "same key": Property(
        "equal outputs of two calls with one key",
        _same_key,
        "apply must be a pure function: draw from its key by jax.random, keep nothing outside of it.",
    ),
    "unchanged": Property(
        "params, state and x as they were before apply",
        _unchanged,
        'Make a new dict, {**state, "n": n + 1}, instead of writing into the one received.',
    ),
    "jit": Property(
        "the same output and state under jax.jit, and in two steps of jax.lax.scan",
        _jit,
        "Compute with jax.numpy; branch by jnp.where or lax.cond; append to no list outside of apply.",
    ),
    "weak types": Property(
        "no weakly typed array in params, state or y",
        _weak,
        "Name the dtype: jnp.zeros((), jnp.float32), and not jnp.asarray(0.0) or a Python number.",
    ),
    "NumPy": Property(
        "the same output for params, state and x that are NumPy arrays, as nn.load returns",
        _numpy,
        "Use jax.numpy's functions, or jnp.asarray first for methods such as .at.",
    ),
    "static train": Property(
        "a TypeError for a traced train, if the output depends on it",
        _static_train,
        "Use train in a Python if, or make the layer by nn.layer, which tests it.",
    ),
    "key in inference": Property(
        "with train=False an output that needs no key and ignores one",
        _inference_key,
        "Draw random numbers only if train is True.",
    ),
    "key in training": Property(
        "an error in training without a key, since the output depends on the key",
        _training_key,
        "Raise ValueError if key is None in training. A constant key gives the same noise at each step.",
    ),
    "key reuse": Property(
        "each key used once",
        _key_reuse,
        "Split the key: first, second = jax.random.split(key).",
    ),
    "members": Property(
        "with jax.vmap over params, state, x and keys the outputs of each member alone",
        _members,
        "Check the rule of custom_vmap, and pass vmap_method= to callbacks.",
    ),
    "examples": Property(
        "for a batch the outputs of its examples alone",
        _examples,
        "Take statistics over axes other than 0. Pass independent=False if examples interact in training, as in a "
        "batch norm.",
    ),
    "donation": Property(
        "params and state that can be donated to a step, each array in one place",
        _donation,
        "Make a new array in init for each entry: jnp.copy(w).",
    ),
    "dtypes": Property(
        "y of the dtype of x for bfloat16, float32 and float64, params and state of at least float32",
        _dtypes,
        'Cast params where they are used, params["w"].astype(x.dtype), and y at the end.',
    ),
    "precision": Property(
        "for x of bfloat16 the output in float64, up to rounding",
        _precision,
        "Compute means, variances, norms and softmax in float32, and cast the result.",
    ),
    "gradient": Property(
        "a finite gradient equal to central differences in float64",
        _gradient,
        "Check the rules of custom_vjp and custom_jvp, stop_gradient, and integers on the way. For a gradient that "
        'differs by design pass without=("gradient",).',
    ),
    "edges": Property(
        "a finite output and gradient for x of zeros, constant x and params of zeros",
        _edges,
        "Replace the argument before a division, root or logarithm: jnp.where(ok, f(jnp.where(ok, x, 1)), 0).",
    ),
}


def check_layer(
    layer: Layer | Callable[..., Any],
    x: Arrays,
    *,
    key: Key | None = None,
    independent: bool = True,
    train: bool = True,
    slack: float = 4.0,
    without: Sequence[str] = (),
) -> tuple[str, ...]:
    """Tests the properties that a layer needs for training, sweeps, export and checkpoints.

    In this order: "nodes", "factory", "same init", "from shapes", "jitted init", "seeds" of init; "output", "state",
    "same key", "unchanged", "jit", "weak types", "NumPy", "static train", "key in inference", "key in training",
    "key reuse" of apply; "members" (`vmap`), "examples", "donation"; "dtypes", "precision" of bfloat16,
    "gradient" against differences in float64, "edges". Programs are small: a test of a layer takes some seconds.

    Args:
      layer: a layer, a function of one input, or a function without arguments that makes a layer, such as
        `lambda: scale(3)`: then the factory is tested, too.
      x: input of at least two examples, arrays or a pytree of them with examples on axis 0. Distinct values of size 1,
        away from corners of the layer.
      key: key of all random numbers. None is `jax.random.key(0)`.
      independent: False if examples interact in training, as in a batch norm. In inference they must not.
      train: False if the layer is for inference alone, such as one with a cache.
      slack: factor on the tolerances, > 0. At 1 they are 1e-5 of the largest element in float32, 1e-2 in bfloat16,
        1e-6 of the slope for gradients in float64.
      without: names of properties that are left out.

    Returns:
      The names of the properties that hold; those that do not apply are missing, such as "dtypes" for integers.

    Raises:
      AssertionError: if a property does not hold; with its name, the expectation, the finding and the usual fix.
      TypeError: if `layer` is neither a layer nor a function, or x are not arrays.
      ValueError: if a name in `without` is unknown, or `slack` is out of range.

    Differences: `torch.autograd.gradcheck` and `jax.test_util.check_grads` test gradients alone.

    >>> import jaxnn as nn
    >>> x = jax.random.normal(jax.random.key(1), (4, 3))
    >>> held = nn.testing.check_layer(nn.dense(2), x)
    >>> len(held), held[-2:]
    (22, ('gradient', 'edges'))
    >>> nn.testing.check_layer(lambda x: x - x.mean(), x)
    Traceback (most recent call last):
    AssertionError: check_layer: lift fails 'examples'.
      expected: for a batch the outputs of its examples alone
      got: y differs by up to ...
      fix: Take statistics over axes other than 0. Pass independent=False if examples interact in training, ...
    """
    check.flags("check_layer", independent=independent, train=train)
    check.scalar("check_layer", "slack", slack, ends="()", static=True)
    check.examples("check_layer", "x", x)
    key = check.typed_key("check_layer", jax.random.key(0) if key is None else key)
    make = None
    if not isinstance(layer, Layer) and callable(layer) and not inspect.signature(layer).parameters:
        make, layer = layer, layer()
        if not isinstance(layer, Layer):
            raise wrong_type("check_layer", "a function without arguments to make a layer", layer)
    layer = as_layer(layer, "check_layer")
    case = Case(make, layer, jax.tree.map(jnp.asarray, x), key, independent, train, float(slack))
    return verify("check_layer", layer.name, PROPERTIES, case, without)
